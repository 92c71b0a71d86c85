"""A sandbox whose databases are PostgreSQL's is emptied only while nobody is connected to it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.datashare import schema
from services.datashare.main import MIGRATIONS as DATASHARE
from services.embedded import Embedded, Folder
from services.kit.db import Database
from services.kit.migrations import current, upgrade
from services.kit.tenant_store import claim_database
from services.sandbox.reset import ResetError, reset
from services.scoring import schema as scoring
from services.scoring.main import MIGRATIONS as SCORING


@pytest.fixture
def urls(migrated_copy: Callable[[Path], str]) -> dict[str, str]:
    return {
        "PUHUI_DATASHARE_DATABASE_URL": migrated_copy(DATASHARE),
        "PUHUI_SCORING_DATABASE_URL": migrated_copy(SCORING),
    }


async def claim(urls: dict[str, str], tenant: str) -> None:
    tables = (schema.tenant, scoring.tenant)
    for url, table in zip(urls.values(), tables, strict=True):
        database = Database.open(url)
        await claim_database("x", database, table, tenant)
        await database.close()


async def tables(url: str) -> list[str]:
    database = Database.open(url)
    try:
        async with database.read() as conn:
            return await conn.run_sync(lambda sync: sa.inspect(sync).get_table_names())
    finally:
        await database.close()


def emptied(path: Path, urls: dict[str, str]) -> None:
    folder = Folder(path)
    folder.prepare()
    reset(folder, Embedded(folder, urls, None))


async def test_tables_of_a_sandbox_are_dropped(tmp_path: Path, urls: dict[str, str]) -> None:
    await claim(urls, "sandbox")
    await asyncio.to_thread(emptied, tmp_path / "s", urls)
    for url, tree in zip(urls.values(), (DATASHARE, SCORING), strict=True):
        assert await tables(url) == []
        await asyncio.to_thread(upgrade, url, tree)
        assert current(url) is not None


async def test_those_of_production_or_of_nobody_stay(tmp_path: Path, urls: dict[str, str]) -> None:
    with pytest.raises(ResetError, match="does not say that it is a sandbox's"):
        await asyncio.to_thread(emptied, tmp_path / "s", urls)
    await claim(urls, "production")
    with pytest.raises(ResetError, match="is of production"):
        await asyncio.to_thread(emptied, tmp_path / "s", urls)
    assert "participant" in await tables(urls["PUHUI_DATASHARE_DATABASE_URL"])


async def test_it_is_left_alone_while_others_are_connected(
    tmp_path: Path, urls: dict[str, str]
) -> None:
    await claim(urls, "sandbox")
    database = Database.open(urls["PUHUI_SCORING_DATABASE_URL"])
    async with database.read() as conn:
        await conn.execute(sa.text("SELECT 1"))
        with pytest.raises(ResetError, match="connected to the database of scoring"):
            await asyncio.to_thread(emptied, tmp_path / "s", urls)
    await database.close()
    assert "participant" in await tables(urls["PUHUI_DATASHARE_DATABASE_URL"])
