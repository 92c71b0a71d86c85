"""The promises of `services.kit.db`, kept alike by SQLite and PostgreSQL."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.db import (
    Database,
    Transactions,
    UtcTime,
    insert_into,
    is_conflict,
    money_columns,
    raw_asyncpg,
    retry_on_conflict,
)
from services.kit.errors import UnavailableError
from services.kit.money import from_minor, to_minor

metadata = sa.MetaData()
things = sa.Table(
    "things",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, server_default="0"),
    sa.Column("at", UtcTime),
    *money_columns("price", nullable=True),
)
parts = sa.Table(
    "parts",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("thing", sa.ForeignKey("things.id"), nullable=False),
)


@pytest.fixture(params=["sqlite", "postgresql"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'inner' / 'test.db'}"
    else:
        create: Callable[[], str] = request.getfixturevalue("new_postgres_url")
        url = create()
    database = Database.open(url, pool_size=4)
    async with database.begin() as conn:
        await conn.run_sync(metadata.create_all)
    yield database
    await database.close()


async def ids(db: Database) -> list[str]:
    async with db.read() as conn:
        return list((await conn.execute(sa.select(things.c.id).order_by("id"))).scalars())


async def test_begin_commits_and_rolls_back(db: Database) -> None:
    async with db.begin() as conn:
        await conn.execute(things.insert().values(id="kept"))

    async def fail() -> None:
        async with db.begin() as conn:
            await conn.execute(things.insert().values(id="dropped"))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await fail()
    assert await ids(db) == ["kept"]


async def test_a_cancelled_transaction_leaves_nothing_and_blocks_nobody(db: Database) -> None:
    entered = asyncio.Event()

    async def stuck() -> None:
        async with db.begin() as conn:
            await conn.execute(things.insert().values(id="dropped"))
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(stuck())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5), db.begin() as conn:
        await conn.execute(things.insert().values(id="kept"))
    assert await ids(db) == ["kept"]


async def test_a_cancellation_at_any_moment_leaves_the_pool_whole(db: Database) -> None:
    async def write(number: int) -> None:
        async with db.begin() as conn:
            await conn.execute(things.insert().values(id=f"{number:03d}"))

    async def read() -> None:
        async with db.read() as conn:
            await conn.execute(sa.select(things.c.id))

    for turns in range(60):
        tasks = [asyncio.create_task(write(turns)), asyncio.create_task(read())]
        for _ in range(turns):
            await asyncio.sleep(0.0001)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in done if isinstance(one, Exception)] == []
    async with asyncio.timeout(5):
        await asyncio.gather(*(write(100 + number) for number in range(8)))
        await asyncio.gather(*(read() for _ in range(8)))
    assert len([one for one in await ids(db) if one >= "100"]) == 8


async def test_a_file_whose_opening_is_cancelled_is_closed(tmp_path: Path) -> None:
    path = str(tmp_path / "things.db")

    def files() -> list[str]:
        # The descriptor of this listing itself is gone when it is read.
        return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.exists()]

    async def read(db: Database) -> None:
        async with db.read():
            pass

    for turns in range(120):
        db = Database.open(f"sqlite:///{path}")
        task = asyncio.create_task(read(db))
        for _ in range(turns // 4):
            await asyncio.sleep(0.0001)
        task.cancel()
        await asyncio.wait([task])
        await db.close()
        assert [file for file in files() if file.startswith(path)] == []


async def test_a_writer_cancelled_in_a_statement_frees_its_locks_by_itself(
    db: Database,
) -> None:
    moments = random.Random(1)

    async def write() -> None:
        async with db.begin() as conn:
            for _ in range(3):
                await conn.execute(things.update().where(things.c.id == "0").values(number=1))
                await conn.execute(things.insert(), [{"id": f"dropped-{i}"} for i in range(50)])
                await conn.execute(things.delete().where(things.c.id != "0"))
                (await conn.execute(sa.select(things))).all()

    async with db.begin() as conn:
        await conn.execute(things.insert().values(id="0"))
    gc.disable()
    try:
        for _ in range(80):
            task = asyncio.create_task(write())
            await asyncio.sleep(moments.random() * 0.008)
            for _ in range(moments.randint(1, 2)):
                task.cancel()
                await asyncio.sleep(moments.random() * 0.0005)
            async with asyncio.timeout(5), db.begin() as conn:
                await conn.execute(things.update().where(things.c.id == "0").values(number=2))
            await asyncio.wait([task])
    finally:
        gc.enable()
    assert await ids(db) == ["0"]


async def test_read_is_one_snapshot(db: Database) -> None:
    count = sa.select(sa.func.count()).select_from(things)
    async with db.read() as reader:
        assert await reader.scalar(count) == 0
        async with db.begin() as writer:
            await writer.execute(things.insert().values(id="later"))
        assert await reader.scalar(count) == 0
    async with db.read() as reader:
        assert await reader.scalar(count) == 1


async def test_read_refuses_to_write(db: Database) -> None:
    with pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"):
        async with db.read() as conn:
            await conn.execute(things.insert().values(id="x"))
    async with db.begin() as conn:
        await conn.execute(things.insert().values(id="y"))
    assert await ids(db) == ["y"]


async def test_writers_that_read_first_do_not_lose_updates(db: Database) -> None:
    async with db.begin() as conn:
        await conn.execute(things.insert().values(id="sum"))

    async def add() -> None:
        async with db.begin() as conn:
            found = await conn.execute(sa.select(things.c.number).with_for_update())
            number = found.scalar_one()
            await asyncio.sleep(0)
            await conn.execute(things.update().values(number=number + 1))

    await asyncio.gather(*(add() for _ in range(40)))
    async with db.read() as conn:
        assert await conn.scalar(sa.select(things.c.number)) == 40


async def test_foreign_keys_hold(db: Database) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        async with db.begin() as conn:
            await conn.execute(parts.insert().values(id="p", thing="nowhere"))


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC),
        datetime(2026, 2, 1, 8, 0, tzinfo=timezone(timedelta(hours=8))),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
)
async def test_times_come_back_exactly_and_in_utc(db: Database, at: datetime) -> None:
    async with db.begin() as conn:
        await conn.execute(things.insert().values(id="t", at=at))
        await conn.execute(things.insert().values(id="none", at=None))
    async with db.read() as conn:
        found = (await conn.execute(sa.select(things.c.at).order_by("id"))).scalars().all()
        same = await conn.scalar(sa.select(things.c.id).where(things.c.at == at))
        earlier = await conn.scalar(
            sa.select(things.c.id).where(things.c.at < at - timedelta(microseconds=1))
        )
    assert found == [None, at]
    assert found[1] is not None
    assert found[1].tzinfo is UTC
    assert (same, earlier) == ("t", None)


async def test_a_time_without_a_zone_is_refused(db: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="without a zone"):
        async with db.begin() as conn:
            await conn.execute(things.insert().values(id="t", at=datetime(2026, 1, 1)))  # noqa: DTZ001 - a time without a zone is what is refused


@pytest.mark.parametrize("amount", ["90071992547409.93", "-0.01", "0.00"])
async def test_money_comes_back_exactly(db: Database, amount: str) -> None:
    price = Decimal(amount)
    row = {"id": "m", "price_minor": to_minor(price, "CNY"), "price_currency": "CNY"}
    async with db.begin() as conn:
        await conn.execute(things.insert().values(row))
    async with db.read() as conn:
        found = (await conn.execute(sa.select(*things.c["price_minor", "price_currency"]))).one()
    assert str(from_minor(found.price_minor, found.price_currency)) == amount


async def test_insert_on_conflict_do_nothing(db: Database) -> None:
    async with db.begin() as conn:
        insert = insert_into(conn, things).on_conflict_do_nothing()
        await conn.execute(insert, [{"id": "a", "number": 1}, {"id": "a", "number": 2}])
        again = await conn.execute(insert, {"id": "a", "number": 3})
    assert again.rowcount == 0
    async with db.read() as conn:
        assert await conn.scalar(sa.select(things.c.number)) == 1


async def test_a_lost_race_is_run_again(db: Database) -> None:
    waits: list[float] = []
    runs = 0

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def look_then_insert() -> str:
        nonlocal runs
        runs += 1
        async with db.read() as conn:
            known = (await conn.execute(sa.select(things.c.id))).scalars().all()
        if runs == 1:
            async with db.begin() as other:
                await other.execute(things.insert().values(id="same"))
        async with db.begin() as conn:
            if "same" not in known:
                await conn.execute(things.insert().values(id="same"))
        return "found" if known else "inserted"

    answer = await retry_on_conflict(look_then_insert, uniform=lambda: 0.5, sleep=sleep)
    assert (answer, runs, waits) == ("found", 2, [0.01])


async def test_retries_are_bounded_and_only_for_races(db: Database) -> None:
    runs = 0

    async def collide() -> None:
        nonlocal runs
        runs += 1
        async with db.begin() as conn:
            await conn.execute(insert_into(conn, things), [{"id": "a"}, {"id": "a"}])

    async def fail() -> None:
        nonlocal runs
        runs += 1
        async with db.begin() as conn:
            await conn.execute(sa.text("SELECT nonsense FROM nowhere"))

    async def sleep(seconds: float) -> None:
        assert 0 < seconds < 1

    with pytest.raises(sa.exc.IntegrityError) as caught:
        await retry_on_conflict(collide, attempts=3, sleep=sleep)
    assert is_conflict(caught.value)
    assert runs == 3
    with pytest.raises(sa.exc.DBAPIError):
        await retry_on_conflict(fail, sleep=sleep)
    assert runs == 4


async def test_transactions_give_what_the_factory_makes(db: Database) -> None:
    work = Transactions(db, lambda conn: (conn, "store"))
    async with work.begin() as (conn, name):
        assert name == "store"
        await conn.execute(things.insert().values(id="a"))
    async with work.read() as (conn, _):
        assert await conn.scalar(sa.select(things.c.id)) == "a"


class _Last:
    """Has something to write last."""

    def __init__(self, conn: AsyncConnection) -> None:
        self.conn = conn

    async def finish(self) -> None:
        await self.conn.execute(things.insert().values(id="last"))


async def test_what_is_to_be_written_last_is_written_unless_it_failed(db: Database) -> None:
    transactions = Transactions(db, _Last)
    async with transactions.begin() as work:
        await work.conn.execute(things.insert().values(id="first"))
    with pytest.raises(ValueError, match="no"):
        async with transactions.begin():
            raise ValueError("no")
    async with transactions.read() as work:
        names = await work.conn.scalars(sa.select(things.c.id).order_by(things.c.id))
        assert list(names) == ["first", "last"]


async def test_copy_belongs_to_the_transaction(postgres_url: str) -> None:
    db = Database.open(postgres_url)
    async with db.begin() as conn:
        await conn.run_sync(metadata.create_all)

    async def fail() -> None:
        async with db.begin() as conn:
            raw = await raw_asyncpg(conn)
            await raw.copy_records_to_table("things", records=[("a",)], columns=["id"])
            assert await conn.scalar(sa.select(things.c.id)) == "a"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await fail()
    assert await ids(db) == []
    async with db.begin() as conn:
        await conn.run_sync(metadata.drop_all)
    await db.close()


async def test_deadlock_is_a_lost_race(fresh_postgres_url: str) -> None:
    db = Database.open(fresh_postgres_url)
    async with db.begin() as conn:
        await conn.run_sync(metadata.create_all)
        await conn.execute(things.insert(), [{"id": "a"}, {"id": "b"}])
    barrier = asyncio.Barrier(2)
    met = 0

    async def lock(first: str, second: str) -> None:
        nonlocal met
        async with db.begin() as conn:
            await conn.execute(things.update().where(things.c.id == first).values(number=1))
            if met < 2:
                met += 1
                await barrier.wait()
            await conn.execute(things.update().where(things.c.id == second).values(number=1))

    await asyncio.gather(
        retry_on_conflict(lambda: lock("a", "b")), retry_on_conflict(lambda: lock("b", "a"))
    )
    await db.close()


async def test_a_restarted_server_costs_no_call(fresh_postgres_url: str) -> None:
    db = Database.open(fresh_postgres_url, pool_size=2)
    killer = Database.open(fresh_postgres_url, pool_size=1)
    await db.ping()
    async with killer.begin() as conn:
        await conn.execute(KILL_THE_OTHERS)
    await asyncio.sleep(0.1)
    await db.ping()
    await db.close()
    await killer.close()


KILL_THE_OTHERS = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.mark.parametrize("end", ["statement", "copy", "commit"])
async def test_a_connection_lost_in_mid_transaction_is_unavailable(
    end: str, fresh_postgres_url: str
) -> None:
    db = Database.open(fresh_postgres_url, pool_size=1)
    killer = Database.open(fresh_postgres_url, pool_size=1)
    async with db.begin() as conn:
        await conn.run_sync(metadata.create_all)

    async def interrupted() -> None:
        async with db.begin() as conn:
            await conn.execute(things.insert().values(id="lost"))
            async with killer.begin() as other:
                await other.execute(KILL_THE_OTHERS)
            if end == "statement":
                await conn.execute(sa.select(things.c.id))
            elif end == "copy":
                await (await raw_asyncpg(conn)).copy_records_to_table(
                    "things", records=[("x",)], columns=["id"]
                )

    with pytest.raises(UnavailableError):
        await interrupted()
    assert await ids(db) == []
    await db.close()
    await killer.close()


async def test_a_write_lock_that_another_process_keeps_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.db.BUSY_TIMEOUT_MS", 20)
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    db, another = Database.open(url), Database.open(url)
    async with another.begin():
        with pytest.raises(UnavailableError):
            async with db.begin():
                pytest.fail("began beside another writer")
    async with db.begin() as conn:
        await conn.run_sync(metadata.create_all)
    await db.close()
    await another.close()


async def test_a_full_disk_is_unavailable_until_there_is_room(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'test.db'}", pool_size=1)

    async def limit(pages: int) -> None:
        async with database.begin() as conn:
            await conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    async def add(name: str) -> None:
        async with database.begin() as conn:
            await conn.execute(things.insert().values(id=name * 100_000))

    async with database.begin() as conn:
        await conn.run_sync(metadata.create_all)
    await limit(12)
    with pytest.raises(UnavailableError, match="no room left and stored nothing"):
        await add("a")
    assert await ids(database) == []
    await limit(1_000)
    await add("a")
    await database.close()


async def test_no_server_is_unavailable() -> None:
    db = Database.open("postgresql://someone:secret@127.0.0.1:1/none")
    with pytest.raises(UnavailableError) as caught:
        await db.ping()
    assert "secret" not in caught.value.message
    await db.close()


async def test_sqlite_writers_take_turns_in_order(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path / 'turns.db'}")
    order: list[int] = []

    async def write(number: int) -> None:
        async with db.begin() as conn:
            order.append(number)
            await conn.execute(sa.text("SELECT 1"))

    await asyncio.gather(*(write(number) for number in range(20)))
    assert order == list(range(20))
    await db.close()


async def test_sqlite_is_durable_and_concurrent(tmp_path: Path) -> None:
    db = Database.open(f"sqlite:///{tmp_path / 'pragmas.db'}")

    async def pragmas() -> list[object]:
        names = ["journal_mode", "synchronous", "foreign_keys"]
        return [await conn.scalar(sa.text(f"PRAGMA {name}")) for name in names]

    async with db.begin() as conn:
        assert await pragmas() == ["wal", 2, 1]
    async with db.read() as conn:
        assert await pragmas() == ["wal", 2, 1]
    await db.close()
