"""Allowances: the same of this process and of Redis; and what bounds calls while Redis is away."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import NoOpMeter

from services.gateway.state.buckets import (
    SECOND,
    Allowance,
    Buckets,
    FallingBack,
    MemoryBuckets,
    RedisBuckets,
    step,
)
from services.gateway.state.redis import Redis

# Half an hour before midnight in China.
NOW = datetime(2026, 11, 23, 15, 30, tzinfo=UTC)


@pytest.fixture(params=["memory", "redis"])
def buckets(request: Any) -> Buckets:
    """Empty ones."""
    if request.param == "memory":
        return MemoryBuckets()
    return RedisBuckets(request.getfixturevalue("redis"))


async def taken(buckets: Buckets, allowance: Allowance, now: datetime, name: str = "par_1") -> int:
    """Ask until it is refused, at most 50 times; return how often it was not."""
    for count in range(50):
        if (await buckets.take(name, allowance, now)).exhausted:
            return count
    return 50


async def test_a_burst_and_then_the_rate(buckets: Buckets) -> None:
    allowance = Allowance(rate=2, burst=5, daily=1000)
    assert await taken(buckets, allowance, NOW) == 5
    refused = await buckets.take("par_1", allowance, NOW)
    assert (refused.exhausted, refused.retry_after) == ("rate", timedelta(seconds=0.5))
    assert await taken(buckets, allowance, NOW + timedelta(seconds=0.499)) == 0
    assert await taken(buckets, allowance, NOW + timedelta(seconds=0.5)) == 1
    assert await taken(buckets, allowance, NOW + timedelta(seconds=2)) == 3
    assert await taken(buckets, allowance, NOW + timedelta(minutes=10)) == 5


async def test_each_has_its_own(buckets: Buckets) -> None:
    allowance = Allowance(rate=1, burst=3, daily=1000)
    assert await taken(buckets, allowance, NOW, "par_1") == 3
    assert await taken(buckets, allowance, NOW, "par_2") == 3


async def test_the_calls_of_a_day_end_at_midnight_in_china(buckets: Buckets) -> None:
    allowance = Allowance(rate=1000, burst=50, daily=4)
    assert await taken(buckets, allowance, NOW) == 4
    refused = await buckets.take("par_1", allowance, NOW)
    assert (refused.exhausted, refused.retry_after) == ("day", timedelta(minutes=30))
    before = NOW + timedelta(minutes=30) - timedelta(microseconds=1)
    assert await taken(buckets, allowance, before) == 0
    assert await taken(buckets, allowance, NOW + timedelta(minutes=30)) == 4


async def test_what_is_refused_is_not_counted(buckets: Buckets) -> None:
    allowance = Allowance(rate=1, burst=1, daily=3)
    for second in range(3):
        now = NOW + timedelta(seconds=second)
        assert await taken(buckets, allowance, now) == 1
        assert await taken(buckets, allowance, now) == 0
    refused = await buckets.take("par_1", allowance, NOW + timedelta(seconds=3))
    assert refused.exhausted == "day"


async def test_a_cut_allowance_does_not_wait_for_the_old_burst(buckets: Buckets) -> None:
    assert await taken(buckets, Allowance(rate=0.1, burst=40, daily=1000), NOW) == 40
    cut = Allowance(rate=10, burst=2, daily=1000)
    refused = await buckets.take("par_1", cut, NOW)
    assert refused.retry_after == timedelta(seconds=0.1)


async def test_a_clock_that_goes_back_gives_nothing(buckets: Buckets) -> None:
    allowance = Allowance(rate=1, burst=3, daily=1000)
    assert await taken(buckets, allowance, NOW) == 3
    assert await taken(buckets, allowance, NOW - timedelta(seconds=10)) == 0


async def test_calls_at_the_same_time_get_what_there_is(buckets: Buckets) -> None:
    allowance = Allowance(rate=1, burst=7, daily=1000)
    asked = [buckets.take("par_1", allowance, NOW) for _ in range(30)]
    answers = await asyncio.gather(*asked)
    assert sum(not answer.exhausted for answer in answers) == 7


async def test_replicas_share_what_is_in_redis(redis: Redis) -> None:
    allowance = Allowance(rate=1, burst=6, daily=1000)
    one, other = RedisBuckets(redis), RedisBuckets(redis)
    for _ in range(3):
        assert not (await one.take("par_1", allowance, NOW)).exhausted
        assert not (await other.take("par_1", allowance, NOW)).exhausted
    assert (await one.take("par_1", allowance, NOW)).exhausted == "rate"


async def test_what_is_over_is_forgotten_by_redis(redis: Redis) -> None:
    await RedisBuckets(redis).take("par_1", Allowance(rate=1, burst=6, daily=10), NOW)
    keys = await redis.client.keys("*")
    assert len(keys) == 2
    for key in keys:
        assert 0 < await redis.client.pttl(key) <= 40 * 60 * 1000


class _Shared:
    """Buckets that go away and come back."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets
        self.asked = 0
        self.away: Callable[[], Any] | None = None

    async def take(self, name: str, allowance: Allowance, now: datetime) -> Any:
        self.asked += 1
        if self.away:
            await self.away()
        return await self._buckets.take(name, allowance, now)


@pytest.fixture
async def nowhere(tmp_path: Any) -> AsyncIterator[RedisBuckets]:
    """Buckets of a Redis that is not there."""
    absent = Redis(f"unix://{tmp_path}/absent", "sandbox")
    yield RedisBuckets(absent)
    await absent.close()


async def test_without_redis_the_bounds_of_the_process_hold(nowhere: RedisBuckets) -> None:
    allowance = Allowance(rate=1, burst=4, daily=1000)
    buckets = FallingBack(nowhere, MemoryBuckets(), NoOpMeter("test"))
    assert await taken(buckets, allowance, NOW) == 4


async def test_a_redis_that_hangs_is_asked_once_and_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateway.state.buckets._PATIENCE_S", 0.01)
    monkeypatch.setattr("services.gateway.state.buckets._TRY_AGAIN_S", 0.05)
    allowance = Allowance(rate=1, burst=20, daily=1000)
    shared = _Shared(MemoryBuckets())
    shared.away = lambda: asyncio.sleep(60)
    buckets = FallingBack(shared, MemoryBuckets(), NoOpMeter("test"))
    assert await taken(buckets, allowance, NOW) == 20
    assert shared.asked == 1
    shared.away = None
    await asyncio.sleep(0.06)
    assert await taken(buckets, allowance, NOW) == 20
    assert shared.asked == 22


@given(
    st.floats(0.01, 1e6),
    st.integers(1, 10_000),
    st.lists(st.integers(0, 100 * SECOND), max_size=60),
)
def test_never_more_than_the_burst_and_the_rate(rate: float, burst: int, pauses: list[int]) -> None:
    allowance = Allowance(rate, burst, 1)
    full_at, now, granted = 0, 1_700_000_000 * SECOND, 0
    start = now
    for pause in pauses:
        now += pause
        before = full_at
        full_at, early = step(full_at, allowance, now)
        if early:
            assert full_at == before
            # The pause that is told is the right one, to the microsecond.
            assert step(full_at, allowance, now + early)[1] == 0
            assert step(full_at, allowance, now + early - 1)[1] == 1
        else:
            granted += 1
        assert granted <= burst + (now - start) / allowance.step
        assert full_at - now <= allowance.reach
