"""How much of its allowance a participant has used: a token bucket and a count by day.

A bucket is kept as one number, the instant at which it would be full again (the generic cell rate
algorithm, which gives what a bucket of tokens gives): a call moves it on by the time in which one
token comes, and is refused where that would be further ahead than the whole burst takes. Instants
are microseconds since 1970, whole numbers that Redis' Lua holds exactly.

The clock is the gateway's. Replicas whose clocks differ by d give a participant the rate * d calls
more or fewer, once.
"""

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, Literal, Protocol

import structlog
from opentelemetry.metrics import Meter

from services.gateway.state.redis import Redis
from services.kit.errors import UnavailableError

CHINA: Final = timezone(timedelta(hours=8))
SECOND: Final = 1_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SWEEP_AT: Final = 10_000

_log = structlog.get_logger()

Exhausted = Literal["", "rate", "day"]


@dataclass(frozen=True)
class Allowance:
    """How much a participant may ask.

    Args:
        rate: calls a second in the long run.
        burst: calls at once after a pause.
        daily: calls in a day of China Standard Time.
    """

    rate: float
    burst: int
    daily: int

    @property
    def step(self) -> int:
        """Microseconds in which one token comes."""
        return max(1, round(SECOND / self.rate))

    @property
    def reach(self) -> int:
        """Microseconds in which an empty bucket is full."""
        return self.step * self.burst


@dataclass(frozen=True)
class Taken:
    """What came of asking for one call.

    Args:
        exhausted: what is used up; "" is nothing, the call may go on.
        retry_after: when the next one may.
    """

    exhausted: Exhausted
    retry_after: timedelta = timedelta(0)


GRANTED: Final = Taken("")


class Buckets(Protocol):
    """Counts calls. What is refused is not counted."""

    async def take(self, name: str, allowance: Allowance, now: datetime) -> Taken:
        """Ask for one call.

        Args:
            name: whose.
            allowance: how much it may.
            now: the time.

        Raises:
            UnavailableError: the counts cannot be asked now.
        """
        ...


def micros(instant: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def day_of(now: datetime) -> str:
    """Return the day of China Standard Time, "20261231"."""
    return f"{now.astimezone(CHINA):%Y%m%d}"


def rest_of_day(now: datetime) -> timedelta:
    """Return how long the day of China Standard Time lasts."""
    here = now.astimezone(CHINA)
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return midnight - here


def step(full_at: int, allowance: Allowance, now: int) -> tuple[int, int]:
    """Take one token out of a bucket.

    Args:
        full_at: when the bucket would be full, microseconds; 0 is a new one.
        allowance: of the bucket.
        now: microseconds.

    Returns:
        When it would be full then, and how many microseconds too early it was asked; 0 where the
        token was there. Where it was not, the bucket is as it was.
    """
    # An allowance that was cut must not make somebody wait for the old, longer burst.
    start = min(max(full_at, now), now + allowance.reach)
    early = start + allowance.step - now - allowance.reach
    return (full_at, early) if early > 0 else (start + allowance.step, 0)


class MemoryBuckets:
    """Buckets in this process; those that are full again are forgotten."""

    def __init__(self) -> None:
        self._full_at: dict[str, int] = {}
        self._day = ""
        self._counts: dict[str, int] = {}
        self._sweep_at = _SWEEP_AT

    async def take(self, name: str, allowance: Allowance, now: datetime) -> Taken:
        """Ask for one call; see `Buckets`."""
        day = day_of(now)
        if day != self._day:
            self._day, self._counts = day, {}
        count = self._counts.get(name, 0)
        if count >= allowance.daily:
            return Taken("day", rest_of_day(now))
        instant = micros(now)
        full_at, early = step(self._full_at.get(name, 0), allowance, instant)
        if early:
            return Taken("rate", timedelta(microseconds=early))
        self._counts[name] = count + 1
        self._full_at[name] = full_at
        if len(self._full_at) >= self._sweep_at:
            self._sweep(instant)
        return GRANTED

    def _sweep(self, now: int) -> None:
        self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._full_at))


# One atomic step for both bounds, as `MemoryBuckets.take`. Numbers go in and out as texts of whole
# microseconds: Redis cuts what Lua returns to integers, and Lua prints large numbers by %.14g.
_TAKE: Final = """
local count = tonumber(redis.call('GET', KEYS[2]) or '0')
if count >= tonumber(ARGV[4]) then return {1, 0} end
local now, step, reach = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local start = tonumber(redis.call('GET', KEYS[1]) or '0')
start = math.min(math.max(start, now), now + reach)
local early = start + step - now - reach
if early > 0 then return {2, early} end
local full_at = start + step
local keep = math.ceil((full_at - now) / 1000) + 1000
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', keep)
redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return {0, 0}
"""
# The count of a day outlives it by this, for clocks that differ.
_GRACE: Final = timedelta(minutes=10)
_NO_CALLS_LEFT: Final = 1
_NO_TOKEN: Final = 2
# A call waits no longer than this for the shared counts, and they are asked again after that.
_PATIENCE_S: Final = 0.25
_TRY_AGAIN_S: Final = 1.0


class RedisBuckets:
    """Buckets in Redis, for all replicas.

    Args:
        redis: where.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._take: Any = redis.client.register_script(_TAKE)

    async def take(self, name: str, allowance: Allowance, now: datetime) -> Taken:
        """Ask for one call; see `Buckets`."""
        rest = rest_of_day(now)
        # The braces keep both keys on one node of a cluster.
        key = self._redis.key("bucket", f"{{{name}}}")
        with self._redis.reached():
            found, early = await self._take(
                keys=[key, f"{key}:{day_of(now)}"],
                args=[
                    micros(now),
                    allowance.step,
                    allowance.reach,
                    allowance.daily,
                    math.ceil((rest + _GRACE) / timedelta(milliseconds=1)),
                ],
            )
        if found == _NO_CALLS_LEFT:
            return Taken("day", rest)
        if found == _NO_TOKEN:
            return Taken("rate", timedelta(microseconds=early))
        return GRANTED


class FallingBack:
    """Shared buckets; while they are away, those of this process, so that every bound still holds.

    Each replica then gives the whole allowance, so that n replicas give n times as much. What was
    counted here meanwhile is not carried over.

    Args:
        shared: asked first.
        own: asked while the shared ones are away.
        meter: makes the counter `puhui.gateway.state.fallbacks`.
    """

    def __init__(self, shared: Buckets, own: Buckets, meter: Meter) -> None:
        self._shared = shared
        self._own = own
        self._away = False
        self._again_at = 0.0
        self._count = meter.create_counter(
            "puhui.gateway.state.fallbacks",
            description="calls bounded by this replica alone, as the shared state was away",
        )

    async def take(self, name: str, allowance: Allowance, now: datetime) -> Taken:
        """Ask for one call; see `Buckets`."""
        here = asyncio.get_running_loop().time()
        if not self._away or here >= self._again_at:
            # While it is away one call at a time finds out whether it is back.
            self._again_at = here + _TRY_AGAIN_S
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    taken = await self._shared.take(name, allowance, now)
            except (UnavailableError, TimeoutError):
                if not self._away:
                    self._away = True
                    _log.error("shared_state_away", bounds="this replica's own")
            else:
                if self._away:
                    self._away = False
                    _log.info("shared_state_back")
                return taken
        self._count.add(1)
        return await self._own.take(name, allowance, now)
