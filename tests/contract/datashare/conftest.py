"""The stores of datashare on the fake, SQLite and PostgreSQL."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import pytest
import sqlalchemy as sa

from services.datashare.catalogue.loader import load
from services.datashare.main import MIGRATIONS, Stores, Work
from services.datashare.schema import metadata
from services.kit.clock import SystemClock
from services.kit.db import Database, Transactions
from services.kit.ids import SequentialIds
from services.kit.migrations import upgrade
from tests.contract.datashare.engines import Open, opener
from tests.fakes.datashare import FakeTransactions
from tests.fakes.sealing import vault

Stored: TypeAlias = Transactions[Work] | FakeTransactions


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_url: str) -> str:
    """A PostgreSQL database with datashare's tables, shared by the tests of this worker."""
    upgrade(postgres_url, MIGRATIONS)
    return postgres_url


@pytest.fixture(scope="session")
def open_postgres(migrated_postgres_url: str) -> Open:
    """Opens that database."""
    return opener(migrated_postgres_url, pool_size=20)


@pytest.fixture
async def postgres(open_postgres: Open) -> AsyncIterator[Database]:
    """A PostgreSQL database with datashare's tables, empty."""
    database = open_postgres()
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
def shared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Open]:
    """A file that the tests of this worker use one after another, and what opens it."""
    path = tmp_path_factory.mktemp("shared") / "datashare.db"
    return path, opener(f"sqlite:///{path}")


@pytest.fixture
async def sqlite(
    migrated_sqlite: Path, shared_sqlite: tuple[Path, Open]
) -> AsyncIterator[Database]:
    """A SQLite database with datashare's tables, empty."""
    path, open_sqlite = shared_sqlite
    for left in path.parent.iterdir():
        left.unlink()
    shutil.copy(migrated_sqlite, path)
    database = open_sqlite()
    yield database
    await database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Database:
    """Each of the two databases, with datashare's tables, empty."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database of each kind without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'datashare.db'}"
    fresh: str = request.getfixturevalue("fresh_postgres_url")
    return fresh


@pytest.fixture(params=["fake", "sqlite", "postgres"])
def stored(request: pytest.FixtureRequest) -> Stored:
    """Transactions over every store of datashare."""
    if request.param == "fake":
        return FakeTransactions()
    database: Database = request.getfixturevalue(request.param)
    catalogue = load()
    stores = Stores(catalogue, SequentialIds(), vault(catalogue, SystemClock()))
    return Transactions(database, stores)
