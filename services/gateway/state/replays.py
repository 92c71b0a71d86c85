"""Ids that count once, such as the `jti` of a client assertion.

Of several uses of an id one is first, also where they come at the same time and to different
replicas. An id is remembered until what bears it has expired, and no longer.
"""

import hashlib
import heapq
from datetime import datetime
from typing import Protocol

from services.gateway.state.redis import Redis
from services.kit.clock import Clock


class Replays(Protocol):
    """Remembers which ids were used."""

    async def first(self, name: str, until: datetime) -> bool:
        """Use an id and tell whether nobody had.

        Args:
            name: the id, with what it is unique within.
            until: when what bears it expires.

        Raises:
            UnavailableError: what remembers does not answer; nothing is used then.
        """
        ...


class MemoryReplays:
    """Remembers in this process.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._used: set[str] = set()
        self._ends: list[tuple[datetime, str]] = []

    async def first(self, name: str, until: datetime) -> bool:
        """Use an id; see `Replays`."""
        now = self._clock.now()
        while self._ends and self._ends[0][0] <= now:
            self._used.discard(heapq.heappop(self._ends)[1])
        if name in self._used:
            return False
        self._used.add(name)
        heapq.heappush(self._ends, (until, name))
        return True


class RedisReplays:
    """Remembers in Redis, for all replicas; names are stored as their SHA-256.

    Args:
        redis: where.
        clock: the time.
    """

    def __init__(self, redis: Redis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock

    async def first(self, name: str, until: datetime) -> bool:
        """Use an id; see `Replays`."""
        left = until - self._clock.now()
        milliseconds = max(1, round(left.total_seconds() * 1000))
        key = self._redis.key("replays", hashlib.sha256(name.encode()).hexdigest())
        with self._redis.reached():
            return bool(await self._redis.client.set(key, b"", nx=True, px=milliseconds))
