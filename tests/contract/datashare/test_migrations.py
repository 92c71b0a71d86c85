"""The migrations make the tables that the stores declare, in both databases."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.datashare.main import MIGRATIONS
from services.datashare.summaries.store import series
from services.kit.db import Database
from services.kit.migrations import current, differences, downgrade, head, upgrade
from tests.contract.datashare import previous_version
from tests.contract.datashare.previous_version import INITIAL, MONTH, Writer


def test_a_migrated_database_is_as_declared(url: str) -> None:
    upgrade(url, MIGRATIONS)
    assert differences(url, MIGRATIONS) == []
    assert current(url) == head(MIGRATIONS)


def test_migrating_again_changes_nothing(url: str) -> None:
    upgrade(url, MIGRATIONS)
    upgrade(url, MIGRATIONS)
    assert differences(url, MIGRATIONS) == []


async def test_the_version_before_writes_on_while_tables_move(fresh_postgres_url: str) -> None:
    upgrade(fresh_postgres_url, MIGRATIONS, INITIAL)
    dsn = fresh_postgres_url.replace("+asyncpg", "")
    firms = 30
    await previous_version.fill(dsn, firms)
    with Writer(dsn, firms) as forward:
        await asyncio.to_thread(forward.wait_for_batches, 20)
        await asyncio.to_thread(upgrade, fresh_postgres_url, MIGRATIONS)
        await asyncio.to_thread(forward.wait_for_batches, 20)
    assert forward.error is None
    assert differences(fresh_postgres_url, MIGRATIONS) == []
    await _everything_is_there(fresh_postgres_url, forward.invoices)
    with Writer(dsn, firms, forward.invoices) as back:
        await asyncio.to_thread(back.wait_for_batches, 20)
        await asyncio.to_thread(downgrade, fresh_postgres_url, MIGRATIONS, INITIAL)
        await asyncio.to_thread(back.wait_for_batches, 20)
    assert back.error is None
    assert current(fresh_postgres_url) == INITIAL
    await _everything_is_there(fresh_postgres_url, back.invoices)


@pytest.mark.parametrize(
    ("version", "table"),
    [
        ("55f04705aafe", "summary_series"),
        pytest.param("257d8188d398", "participant", marks=pytest.mark.heavy),
        pytest.param("acef2c15bcd3", "summary_series", marks=pytest.mark.heavy),
        pytest.param("5d0c6f1e92b7", "consent", marks=pytest.mark.heavy),
        pytest.param("94fad30c7154", "change", marks=pytest.mark.heavy),
    ],
)
async def test_a_long_read_holds_up_a_migration_and_nobody_else(
    fresh_postgres_url: str, version: str, table: str
) -> None:
    upgrade(fresh_postgres_url, MIGRATIONS, version)
    database = Database.open(fresh_postgres_url)
    query = sa.text(f"SELECT 1 FROM {table}")
    async with database.read() as conn:
        await conn.execute(query)
        going = asyncio.create_task(asyncio.to_thread(upgrade, fresh_postgres_url, MIGRATIONS))
        for _ in range(6):
            await asyncio.sleep(0.5)
            async with database.read() as other:
                await asyncio.wait_for(other.execute(query), 5)
        assert not going.done()
    await going
    assert current(fresh_postgres_url) == head(MIGRATIONS)
    await database.close()


async def test_summaries_are_marked_without_keeping_reads_out(fresh_postgres_url: str) -> None:
    upgrade(fresh_postgres_url, MIGRATIONS, INITIAL)
    await previous_version.fill(fresh_postgres_url.replace("+asyncpg", ""), 3)
    upgrade(fresh_postgres_url, MIGRATIONS, "8e220124401d")
    database = Database.open(fresh_postgres_url)
    marks = sa.select(series.c.layout, series.c.layout_revision == series.c.revision)
    async with database.begin() as conn:
        await conn.execute(
            sa.select(series).where(series.c.subject_id == "sub_1").with_for_update()
        )
        going = asyncio.create_task(asyncio.to_thread(upgrade, fresh_postgres_url, MIGRATIONS))
        await asyncio.sleep(1)
        async with database.read() as other:
            read = (await asyncio.wait_for(other.execute(marks), 5)).all()
        assert read == [(None, False)] * 3
        assert not going.done()
    await going
    async with database.read() as conn:
        assert (await conn.execute(marks)).all() == [("173e6750506e45a1", True)] * 3
    await database.close()


async def test_no_table_is_written_anew(fresh_postgres_url: str) -> None:
    """Since those that cut tables into parts: to write one anew keeps everybody out for long."""
    upgrade(fresh_postgres_url, MIGRATIONS, "5d0c6f1e92b7")
    database = Database.open(fresh_postgres_url)
    query = sa.text(
        "SELECT relname::text, pg_relation_filenode(oid) FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )

    async def files() -> dict[str, int]:
        async with database.read() as conn:
            return dict(map(tuple, await conn.execute(query)))

    before = await files()
    upgrade(fresh_postgres_url, MIGRATIONS)
    assert before.items() <= (await files()).items()
    downgrade(fresh_postgres_url, MIGRATIONS, "5d0c6f1e92b7")
    assert await files() == before
    await database.close()


async def test_sqlite_keeps_its_rows_forward_and_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'datashare.db'}"
    upgrade(url, MIGRATIONS, INITIAL)
    previous_version.populate_sqlite(str(tmp_path / "datashare.db"), firms=5)
    invoices = dict.fromkeys(range(5), 10)
    upgrade(url, MIGRATIONS)
    await _everything_is_there(url, invoices)
    downgrade(url, MIGRATIONS, INITIAL)
    assert current(url) == INITIAL
    await _everything_is_there(url, invoices)


async def test_rows_are_spread_over_partitions(fresh_postgres_url: str) -> None:
    upgrade(fresh_postgres_url, MIGRATIONS, INITIAL)
    await previous_version.fill(fresh_postgres_url.replace("+asyncpg", ""), 60)
    upgrade(fresh_postgres_url, MIGRATIONS)
    database = Database.open(fresh_postgres_url)
    async with database.read() as conn:
        parts = await conn.scalar(sa.text("SELECT count(DISTINCT tableoid) FROM record"))
        plan = await conn.scalars(
            sa.text("EXPLAIN SELECT * FROM record WHERE subject_id = 'sub_1'")
        )
        read = "\n".join(plan)
    await database.close()
    assert parts is not None
    assert parts > 10
    assert len(set(re.findall(r"record_p\d\d", read))) == 1, read


async def _everything_is_there(url: str, invoices: Mapping[int, int]) -> None:
    """Compare rows, series and dealings of every firm with what was written."""
    database = Database.open(url)
    async with database.read() as conn:
        for query, value in (
            ("SELECT subject_id, count(*) FROM record GROUP BY subject_id", lambda n: n),
            ("SELECT subject_id, content FROM summary_series", previous_version.content),
            ("SELECT subject_id, invoices FROM summary_counterparty", lambda n: n),
            ("SELECT subject_id, last_month FROM summary_series", lambda _: MONTH),
        ):
            found = {row[0]: row[1] for row in await conn.execute(sa.text(query))}
            assert found == {f"sub_{firm}": value(n) for firm, n in invoices.items()}
    await database.close()
