"""Used ids, as every kind of memory keeps them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.gateway.state.redis import Redis
from services.gateway.state.replays import MemoryReplays, RedisReplays, Replays
from services.kit.clock import FixedClock, SystemClock
from services.kit.errors import UnavailableError

SOON = timedelta(minutes=1)


@pytest.fixture(params=["memory", "redis"])
def replays(request: pytest.FixtureRequest) -> Replays:
    if request.param == "memory":
        return MemoryReplays(SystemClock())
    return RedisReplays(request.getfixturevalue("redis"), SystemClock())


async def test_an_id_counts_once(replays: Replays) -> None:
    until = datetime.now(UTC) + SOON
    assert await replays.first("par_1 a", until)
    assert not await replays.first("par_1 a", until)
    assert await replays.first("par_1 b", until)
    assert await replays.first("par_2 a", until)


async def test_of_many_uses_at_once_one_counts(replays: Replays) -> None:
    until = datetime.now(UTC) + SOON
    uses = await asyncio.gather(*(replays.first("par_1 a", until) for _ in range(50)))
    assert sum(uses) == 1


async def test_an_id_is_forgotten_once_it_has_expired(replays: Replays) -> None:
    assert await replays.first("par_1 a", datetime.now(UTC) + timedelta(milliseconds=30))
    await asyncio.sleep(0.06)
    assert await replays.first("par_1 a", datetime.now(UTC) + SOON)


async def test_memory_is_let_go_in_the_order_of_expiry() -> None:
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    replays = MemoryReplays(clock)
    await replays.first("late", clock.now() + 2 * SOON)
    await replays.first("early", clock.now() + SOON)
    clock.advance(SOON)
    assert await replays.first("early", clock.now() + SOON)
    assert not await replays.first("late", clock.now() + SOON)


async def test_replicas_share_what_was_used_and_tenants_do_not(
    redis: Redis, redis_url: str
) -> None:
    clock, until = SystemClock(), datetime.now(UTC) + SOON
    replica, production = Redis(redis_url, "sandbox"), Redis(redis_url, "production")
    assert await RedisReplays(redis, clock).first("par_1 a", until)
    assert not await RedisReplays(replica, clock).first("par_1 a", until)
    assert await RedisReplays(production, clock).first("par_1 a", until)
    names = str(await redis.client.keys("*"))
    assert "replays" in names
    assert "par_1" not in names
    await replica.close()
    await production.close()


async def test_without_redis_nothing_counts() -> None:
    gone = Redis("unix:///nowhere/redis.sock", "sandbox")
    with pytest.raises(UnavailableError):
        await RedisReplays(gone, SystemClock()).first("par_1 a", datetime.now(UTC) + SOON)
    await gone.close()
