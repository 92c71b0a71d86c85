"""The stores of datashare on the fake, SQLite and PostgreSQL."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from services.datashare.catalogue.loader import load
from services.datashare.main import MIGRATIONS, Stores, Work
from services.datashare.schema import metadata
from services.kit.clock import SystemClock
from services.kit.db import Database, Transactions, async_url, sqlite_engine
from services.kit.ids import SequentialIds
from services.kit.migrations import upgrade
from tests.fakes.datashare import FakeTransactions
from tests.fakes.sealing import vault

Stored: TypeAlias = Transactions[Work] | FakeTransactions


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_url: str) -> str:
    """A PostgreSQL database with datashare's tables, shared by the tests of this worker."""
    upgrade(postgres_url, MIGRATIONS)
    return postgres_url


@pytest.fixture(scope="session")
def kept_postgres(migrated_postgres_url: str) -> Database:
    """That database. It is closed after each test, and remembers the statements it compiled."""
    return Database.open(migrated_postgres_url, pool_size=20)


@pytest.fixture
async def postgres(kept_postgres: Database) -> AsyncIterator[Database]:
    """A PostgreSQL database with datashare's tables, empty."""
    database = kept_postgres
    async with database.begin() as conn:
        # Emptying a table costs more than looking whether it has a row, above all one in parts.
        names = [table.name for table in metadata.sorted_tables]
        some = " UNION ALL ".join(
            f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM \"{name}\")" for name in names
        )
        if filled := ", ".join(f'"{name}"' for name in await conn.scalars(sa.text(some))):
            await conn.execute(sa.text(f"TRUNCATE {filled} RESTART IDENTITY CASCADE"))
    yield database
    await database.close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite with datashare's tables, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "datashare.db"
    upgrade(f"sqlite:///{path}", MIGRATIONS)
    return path


@pytest.fixture(scope="session")
def sqlite_engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[AsyncEngine, AsyncEngine]:
    """A writer and readers of one file, which remember the statements they compiled."""
    url = async_url(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'datashare.db'}")
    return sqlite_engine(url, "writer", 1), sqlite_engine(url, "reader", 8)


@pytest.fixture
async def sqlite(
    migrated_sqlite: Path, sqlite_engines: tuple[AsyncEngine, AsyncEngine]
) -> AsyncIterator[Database]:
    """A SQLite database with datashare's tables, empty."""
    path = Path(sqlite_engines[0].url.database or "")
    for left in path.parent.iterdir():
        left.unlink()
    shutil.copy(migrated_sqlite, path)
    database = Database(*sqlite_engines, "sqlite")
    yield database
    await database.close()


@pytest.fixture(params=["fake", "sqlite", "postgres"])
def stored(request: pytest.FixtureRequest) -> Stored:
    """Transactions over every store of datashare."""
    if request.param == "fake":
        return FakeTransactions()
    database: Database = request.getfixturevalue(request.param)
    catalogue = load()
    stores = Stores(catalogue, SequentialIds(), vault(catalogue, SystemClock()))
    return Transactions(database, stores)
