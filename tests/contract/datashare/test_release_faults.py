"""Releases while clocks jump and calls come twice, in another order and again."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from services.datashare.access.domain import Released
from services.datashare.access.store import access
from services.datashare.consent.domain import Action
from services.datashare.log.store import leaf
from services.datashare.quota.domain import Limit, Unit
from services.datashare.quota.store import consent_use
from services.kit.clock import FixedClock
from services.kit.db import Database
from tests.fakes.replicas import Replica

SEED = 20261123


@pytest.fixture
async def replicas(
    postgres: Database, migrated_postgres_url: str
) -> AsyncIterator[tuple[Replica, Replica]]:
    second = Database.open(migrated_postgres_url, pool_size=10)
    yield Replica(postgres), Replica(second)
    await second.close()


async def logged(database: Database) -> tuple[int, int]:
    """Return how many accesses there are and how many releases; each has its leaf."""
    async with database.read() as conn:
        rows = await conn.execute(
            sa.select(access.c.outcome, access.c.leaf_hash, leaf.c.hash).join(
                leaf, leaf.c.leaf_id == access.c.leaf_id, isouter=True
            )
        )
        found = rows.all()
    assert all(noted == there for _, noted, there in found)
    return len(found), sum(outcome == "RELEASED" for outcome, *_ in found)


async def test_a_clock_that_jumps_releases_nothing_beyond_the_terms(database: Database) -> None:
    begin = datetime.now(UTC)
    clock = FixedClock(begin)
    replica = Replica(database, clock)
    firm = await replica.populate()
    limit = Limit(2, Unit.DAY)
    consent = await replica.granted(firm, limit)
    expires = consent.core.terms.expires_at
    moments = random.Random(SEED)
    released: dict[int, int] = {}
    asked = 60
    for _ in range(asked):
        jump = timedelta(hours=moments.choice((1, 5, 20, 400)))
        clock.advance(jump if clock.now() < begin or moments.random() < 0.5 else -jump)
        (result,) = await replica.fetched(replica.item(consent))
        day = limit.period(clock.now())
        if clock.now() >= expires:
            expected = "CONSENT_EXPIRED"
        elif released.get(day, 0) == limit.times:
            expected = "QUOTA_EXHAUSTED"
        else:
            expected, released[day] = "", released.get(day, 0) + 1
        assert ("" if isinstance(result, Released) else result.reason) == expected
    assert await logged(database) == (asked, sum(released.values()))
    clock.advance(begin - clock.now())
    key = replica.key(firm)
    await replica.consents.end(firm, key, consent.core.consent_id, Action.WITHDRAW, "")
    # A withdrawal is no matter of the time: no clock brings the consent back.
    for days in (-400, 0, 20):
        clock.advance(begin + timedelta(days=days) - clock.now())
        (result,) = await replica.fetched(replica.item(consent))
        assert not isinstance(result, Released)
        assert result.reason == "CONSENT_WITHDRAWN"


async def test_calls_that_come_twice_in_another_order_and_again(
    replicas: tuple[Replica, Replica], postgres: Database
) -> None:
    order = random.Random(SEED)
    firm = await replicas[0].populate()
    all_released = 0
    for number in range(12):
        consent = await replicas[0].granted(firm)
        withdrawal = replicas[0].key(firm, f"w-{number}")
        items = {name: replicas[0].item(consent, f"{number}.{name}") for name in range(8)}
        calls = [*items, *items, *order.sample(sorted(items), 4), None, None]
        order.shuffle(calls)

        async def call(at: int, name: int | None) -> tuple[int | None, str]:
            await asyncio.sleep(at * 0.001)
            replica = replicas[at % 2]
            if name is None:
                consent_id = consent.core.consent_id  # noqa: B023 - awaited in this round
                key = replace(withdrawal)  # noqa: B023 - awaited in this round
                await replica.consents.end(firm, key, consent_id, Action.WITHDRAW, "")
                return None, ""
            (result,) = await replica.fetched(items[name])  # noqa: B023 - awaited in this round
            return name, result.access_id if isinstance(result, Released) else ""

        answers = await asyncio.gather(*(call(at, name) for at, name in enumerate(calls)))
        told = {(name, access_id) for name, access_id in answers if access_id}
        # However often a request came, it is one access.
        assert len({name for name, _ in told}) == len(told)
        all_released += len(told)
        # And none is handed over again once the consent is withdrawn.
        again = await replicas[1].fetched(*items.values())
        assert not any(isinstance(result, Released) for result in again)
        async with postgres.read() as conn:
            used = await conn.scalar(
                sa.select(sa.func.sum(consent_use.c.used)).where(
                    consent_use.c.consent_id == consent.core.consent_id
                )
            )
        assert (used or 0) == len(told)
    _, released = await logged(postgres)
    assert released == all_released > 0
