"""A withdrawal holds: after it was acknowledged nothing is released, on any replica.

As `authzed/spicedb` tests for the "new enemy": a barrier forces the interleaving that would be bad.
Fetches on two replicas have read that the consent is active, and stop there; then it is withdrawn.
Where the withdrawal waits for them it comes after their releases, and the barrier opens when it is
seen waiting. Where nothing makes it wait it is acknowledged, and what they release then comes too
late: a store that lets go of the row lock fails the same test in every race, which is tested, too.
"""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.domain import Released
from services.datashare.access.store import access
from services.datashare.consent.domain import Action, Consent
from services.datashare.consent.store import ConsentStore
from services.datashare.consent.store import consent as stored_consent
from services.datashare.log.store import leaf
from services.kit.db import Database
from services.kit.identity import Caller
from tests.fakes.replicas import Replica

FETCHES = 16
SEED = 20181022
_WAITING = sa.text(
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@dataclass
class Barrier:
    """Where fetches stop that hold the consent, until it is opened."""

    expected: int = 0
    arrived: int = 0
    all_here: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, expected: int) -> None:
        self.expected, self.arrived = expected, 0
        self.all_here.clear()
        self.opened.clear()

    async def stop(self) -> None:
        if self.opened.is_set():
            return
        self.arrived += 1
        if self.arrived == self.expected:
            self.all_here.set()
        await self.opened.wait()


class GuardedStore(ConsentStore):
    """The real store, which stops at the barrier once it has the consent."""

    def __init__(self, conn: AsyncConnection, database: Database, barrier: Barrier) -> None:
        super().__init__(conn)
        self._database = database
        self._barrier = barrier

    async def hold(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Consent]:
        held = await super().hold(keys)
        await self._barrier.stop()
        return held


class UnguardedStore(GuardedStore):
    """A store that is wrong on purpose: it locks the consent, but not until the release's end."""

    async def hold(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Consent]:
        async with self._database.begin() as conn:
            held = await ConsentStore(conn).hold(keys)
        await self._barrier.stop()
        return held


@dataclass(frozen=True)
class Race:
    """How a race ended.

    Args:
        released: fetches that were released.
        refused: reasons of those that were not.
        too_late: releases that were not there when the withdrawal was acknowledged.
    """

    released: int
    refused: frozenset[str]
    too_late: int


def _made(
    store: type[GuardedStore], database: Database, barrier: Barrier, conn: AsyncConnection
) -> GuardedStore:
    return store(conn, database, barrier)


class Races:
    """Two replicas over one database, and a firm that withdraws."""

    def __init__(self, databases: Sequence[Database], store: type[GuardedStore]) -> None:
        self._barrier = Barrier()
        self._database = databases[0]
        self._replicas = [
            Replica(database, consents=functools.partial(_made, store, database, self._barrier))
            for database in databases
        ]
        self._random = random.Random(SEED)
        self._firm: Caller

    async def run(self, count: int) -> list[Race]:
        self._firm = await self._replicas[0].populate()
        return [await self._one() for _ in range(count)]

    async def _one(self) -> Race:
        """Run one race; of 16 fetches some hold the consent when it is withdrawn, others come.

        Fetches that wait together share a transaction, as in the service.
        """
        consent = await self._replicas[0].granted(self._firm)
        transactions = self._transactions()
        holding = self._random.randint(1, len(transactions) - 1)
        self._barrier.close(holding)
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            fetches = [
                group.create_task(self._fetch(number, size, consent))
                for number, size in enumerate(transactions[:holding])
            ]
            await self._barrier.all_here.wait()
            withdrawal = group.create_task(self._withdraw(self._replicas[1], consent))
            await self._blocked(withdrawal)
            fetches += [
                group.create_task(self._fetch(number, size, consent))
                for number, size in enumerate(transactions[holding:])
            ]
            self._barrier.opened.set()
        acknowledged = withdrawal.result()
        outcomes = [outcome for fetch in fetches for outcome in fetch.result()]
        after = await self._fetch(1, 1, consent)
        there = await self._releases(consent)
        assert after == ["CONSENT_WITHDRAWN"]
        assert len(outcomes) == FETCHES
        assert len(there) == outcomes.count("")
        return Race(
            released=len(there),
            refused=frozenset(outcomes) - {""},
            too_late=len(there - acknowledged),
        )

    def _transactions(self) -> list[int]:
        """Return how many of the fetches each transaction does; there are at least two."""
        cuts = sorted(self._random.sample(range(1, FETCHES), self._random.randint(1, 4)))
        return [end - begin for begin, end in pairwise([0, *cuts, FETCHES])]

    async def _fetch(self, number: int, size: int, consent: Consent) -> list[str]:
        """Fetch on one of the replicas; return why each was refused, or nothing."""
        replica = self._replicas[number % len(self._replicas)]
        results = await replica.fetched(*(replica.item(consent) for _ in range(size)))
        return ["" if isinstance(result, Released) else result.reason for result in results]

    async def _withdraw(self, replica: Replica, consent: Consent) -> set[str]:
        """Withdraw; return the releases that stand when it is acknowledged."""
        consent_id = consent.core.consent_id
        key = replica.key(self._firm)
        await replica.consents.end(self._firm, key, consent_id, Action.WITHDRAW, "")
        return await self._releases(consent)

    async def _blocked(self, withdrawal: asyncio.Task[set[str]]) -> None:
        """Return when the withdrawal is done or waits for a lock."""
        while not withdrawal.done():
            # A transaction for each look: within one PostgreSQL tells what it told at first.
            async with self._database.read() as conn:
                if await conn.scalar(_WAITING):
                    return
            await asyncio.sleep(0.001)

    async def _releases(self, consent: Consent) -> set[str]:
        async with self._database.read() as conn:
            found = await conn.execute(
                sa.select(access.c.access_id).where(
                    access.c.subject_id == consent.core.subject_id,
                    access.c.consent_id == consent.core.consent_id,
                    access.c.outcome == "RELEASED",
                )
            )
            return set(found.scalars())


@pytest.fixture
async def databases(
    postgres: Database, migrated_postgres_url: str
) -> AsyncIterator[tuple[Database, Database]]:
    """Connections of two replicas to the same database, which is empty."""
    second = Database.open(migrated_postgres_url, pool_size=20)
    yield postgres, second
    await second.close()


@pytest.mark.parametrize("count", [pytest.param(300), pytest.param(2_000, marks=pytest.mark.heavy)])
async def test_nothing_is_released_after_a_withdrawal_was_acknowledged(
    databases: tuple[Database, Database], count: int
) -> None:
    races = await Races(databases, GuardedStore).run(count)
    assert sum(race.too_late for race in races) == 0
    # Those that held the consent were released, and the withdrawal waited for them.
    assert all(race.released > 0 for race in races)
    assert frozenset().union(*(race.refused for race in races)) == {"CONSENT_WITHDRAWN"}
    assert sum(len(race.refused) for race in races) > count / 2
    async with databases[0].read() as conn:
        same = access.c.consent_id == stored_consent.c.consent_id
        late = access.c.accessed_at > stored_consent.c.changed_at
        dated_late = await conn.scalar(
            sa.select(sa.func.count())
            .select_from(access.join(stored_consent, same))
            .where(access.c.outcome == "RELEASED", late)
        )
        accesses = await conn.scalar(sa.select(sa.func.count()).select_from(access))
        leaves = await conn.scalar(
            sa.select(sa.func.count()).select_from(leaf).where(leaf.c.kind == "access")
        )
    assert dated_late == 0
    assert accesses == leaves == count * (FETCHES + 1)


async def test_without_the_lock_the_same_races_are_lost(
    databases: tuple[Database, Database],
) -> None:
    races = await Races(databases, UnguardedStore).run(20)
    assert all(race.too_late > 0 for race in races)
