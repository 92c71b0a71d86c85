"""Sealing a database that programs of the version before still write to, and going back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from services.datashare.main import MIGRATIONS
from services.datashare.sealing.maintenance import Amount, Maintenance
from services.datashare.sealing.store import subject_key
from services.datashare.subjects.store import subject
from services.datashare.subjects.uscc import make
from services.kit.db import Database
from services.kit.migrations import current, differences, downgrade, upgrade
from tests.contract.datashare import previous_version
from tests.fakes.datashare_records import NOW, Datashare

BEFORE = "55f04705aafe"
"""The tables just before sealing."""

_FIND = "SELECT uscc, subject_id FROM subject WHERE uscc = ANY($1)"
_MAKE = "INSERT INTO subject (subject_id, uscc) VALUES ($1, $2) ON CONFLICT (uscc) DO NOTHING"


def code(number: int) -> str:
    return make("91", "110108", f"MA{number:06}")


class OldWriter:
    """`resolve_or_create_many` of the version before: its statements, frozen."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._made = 0

    async def resolve(self, usccs: list[str]) -> dict[str, str]:
        connection: Any = await asyncpg.connect(self._dsn)
        try:
            async with connection.transaction():
                wanted = sorted(set(usccs))
                found = dict(await connection.fetch(_FIND, wanted))
                for uscc in wanted:
                    if uscc not in found:
                        self._made += 1
                        await connection.execute(_MAKE, f"{self._name}_{self._made}", uscc)
                return dict(await connection.fetch(_FIND, wanted))
        finally:
            await connection.close()


@pytest.fixture
async def older(fresh_postgres_url: str) -> AsyncIterator[Database]:
    """A database in which the version before made firms 0 to 9, with today's tables."""
    upgrade(fresh_postgres_url, MIGRATIONS, previous_version.INITIAL)
    dsn = fresh_postgres_url.replace("+asyncpg", "")
    await previous_version.fill(dsn, 2)
    await OldWriter(dsn, "old").resolve([code(number) for number in range(10)])
    upgrade(fresh_postgres_url, MIGRATIONS)
    assert differences(fresh_postgres_url, MIGRATIONS) == []
    database = Database.open(fresh_postgres_url, pool_size=12)
    yield database
    await database.close()


def dsn_of(url: str) -> str:
    return url.replace("+asyncpg", "")


async def resolve(made: Datashare, usccs: list[str]) -> dict[str, str]:
    async with made.transactions.begin() as work:
        return await work.subjects.resolve_or_create_many(usccs)


def work(made: Datashare) -> Maintenance:
    return Maintenance(made.database, made.vault, lambda *_: None)


async def test_both_versions_find_each_others_firms(
    older: Database, fresh_postgres_url: str
) -> None:
    made = Datashare(older)
    old = OldWriter(dsn_of(fresh_postgres_url), "late")
    mine = await resolve(made, [code(number) for number in range(5, 15)])
    theirs = await old.resolve([code(number) for number in range(20)])
    assert mine.items() <= theirs.items()
    assert await resolve(made, [code(number) for number in range(20)]) == theirs
    async with made.transactions.read() as reading:
        assert await reading.subjects.resolve(code(3)) == theirs[code(3)]
        # What this version met is sealed on the spot.
        ids = {id_: uscc for uscc, id_ in theirs.items()}
        assert await reading.subjects.usccs(ids) == ids
    async with older.read() as conn:
        met = await conn.scalar(sa.select(sa.func.count()).select_from(subject_key))
    assert met == 20


async def test_both_versions_make_the_same_firms_at_once(
    older: Database, fresh_postgres_url: str
) -> None:
    made = Datashare(older)
    firms = [code(number) for number in range(5, 45)]
    results = await asyncio.gather(
        *(resolve(made, firms[start:]) for start in range(0, 20, 4)),
        *(
            OldWriter(dsn_of(fresh_postgres_url), f"w{start}").resolve(firms[start:])
            for start in range(0, 20, 4)
        ),
    )
    merged: dict[str, str] = {}
    for result in results:
        for uscc, subject_id in result.items():
            assert merged.setdefault(uscc, subject_id) == subject_id
    assert len(set(merged.values())) == 40
    assert await resolve(made, firms) == merged


async def test_the_operator_seals_while_this_version_serves(
    older: Database, fresh_postgres_url: str
) -> None:
    made = Datashare(older)
    before = await resolve(made, [code(number) for number in range(3)])
    assert (await work(made).plain()).subjects == 10
    stop = asyncio.Event()
    made_meanwhile: dict[str, str] = {}

    async def serve() -> None:
        number = 100
        while not stop.is_set():
            made_meanwhile.update(await resolve(made, [code(number), code(number - 95)]))
            number += 1

    serving = asyncio.create_task(serve())
    await asyncio.sleep(0.05)
    await work(made).seal()
    stop.set()
    await serving
    assert await work(made).plain() == Amount(0, 0, 0)
    found = await resolve(made, [code(number) for number in range(10)])
    assert before.items() <= found.items()
    assert set(found.values()) == {"sub_0", "sub_1", *(f"old_{n}" for n in range(1, 9))}
    assert await resolve(made, list(made_meanwhile)) == made_meanwhile
    async with older.read() as conn:
        assert (await conn.scalars(sa.select(subject.c.uscc).distinct())).all() == [None]
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="of a version before it"):
        await OldWriter(dsn_of(fresh_postgres_url), "late").resolve([code(200)])
    # As a firm that it finds no more by its number, and cannot make again.
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
        await OldWriter(dsn_of(fresh_postgres_url), "late").resolve([code(0)])


async def test_going_back_needs_unsealing(older: Database, fresh_postgres_url: str) -> None:
    made = Datashare(older)
    ids = await resolve(made, [code(number) for number in range(12)])
    await work(made).seal()
    async with made.transactions.begin() as writing:
        await writing.subjects.erase(ids[code(11)], NOW)
    with pytest.raises(RuntimeError, match="unseal --apply"):
        downgrade(fresh_postgres_url, MIGRATIONS, BEFORE)
    await resolve(made, [code(0)])

    await work(made).unseal()
    await older.close()
    old = OldWriter(dsn_of(fresh_postgres_url), "late")
    known = [code(number) for number in range(11)]
    assert await old.resolve(known) == {uscc: ids[uscc] for uscc in known}
    downgrade(fresh_postgres_url, MIGRATIONS, BEFORE)
    assert current(fresh_postgres_url) == BEFORE
    assert await old.resolve(known) == {uscc: ids[uscc] for uscc in known}
    assert (await old.resolve([code(11)]))[code(11)] == "late_1"
    upgrade(fresh_postgres_url, MIGRATIONS)
    assert await resolve(made, known) == {uscc: ids[uscc] for uscc in known}


async def test_a_new_database_takes_no_plain_number(fresh_postgres_url: str) -> None:
    upgrade(fresh_postgres_url, MIGRATIONS)
    database = Database.open(fresh_postgres_url)
    made = Datashare(database)
    await resolve(made, [code(1)])
    async with database.read() as conn:
        assert (await conn.scalars(sa.select(subject.c.uscc))).all() == [None]
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
        await OldWriter(dsn_of(fresh_postgres_url), "late").resolve([code(2)])
    await database.close()


async def test_sqlite_goes_forward_and_back(tmp_path: Any) -> None:
    path = tmp_path / "datashare.db"
    url = f"sqlite:///{path}"
    upgrade(url, MIGRATIONS, previous_version.INITIAL)
    previous_version.populate_sqlite(str(path), firms=5)
    upgrade(url, MIGRATIONS)
    database = Database.open(url)
    made = Datashare(database)
    known = [previous_version.code(firm) for firm in range(5)]
    ids = await resolve(made, known)
    assert set(ids.values()) == {f"sub_{firm}" for firm in range(5)}
    new = await resolve(made, [code(900)])
    await work(made).seal()
    assert not await work(made).plain()
    with pytest.raises(RuntimeError, match="unseal --apply"):
        downgrade(url, MIGRATIONS, BEFORE)
    await work(made).unseal()
    await database.close()
    downgrade(url, MIGRATIONS, previous_version.INITIAL)
    database = Database.open(url)
    async with database.read() as conn:
        rows = await conn.execute(sa.text("SELECT uscc, subject_id FROM subject"))
        assert dict(tuple(row) for row in rows) == ids | new
    await database.close()
