"""A database is of one tenant, in both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.kit.config import ConfigError
from services.kit.db import Database
from services.kit.tenant import PRODUCTION, SANDBOX
from services.kit.tenant_store import claim_database, tenant_table

metadata = sa.MetaData()
table = tenant_table(metadata)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = (
        f"sqlite:///{tmp_path / 'x.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("fresh_postgres_url")
    )
    made = Database.open(url)
    async with made.begin() as conn:
        await conn.run_sync(metadata.create_all)
    yield made
    await made.close()


@pytest.mark.parametrize(("own", "other"), [(SANDBOX, PRODUCTION), (PRODUCTION, SANDBOX)])
async def test_the_first_service_marks_it_and_the_other_tenants_is_refused(
    database: Database, own: str, other: str
) -> None:
    await claim_database("datashare", database, table, own)
    await claim_database("datashare", database, table, own)
    with pytest.raises(ConfigError, match=rf"datashare\.database_url: .* tenant {own}"):
        await claim_database("datashare", database, table, other)
    async with database.read() as conn:
        assert (await conn.execute(sa.select(table.c.name))).scalars().all() == [own]


async def test_of_two_that_start_at_once_one_gets_it(database: Database) -> None:
    results = await asyncio.gather(
        *(claim_database("datashare", database, table, name) for name in (SANDBOX, PRODUCTION) * 3),
        return_exceptions=True,
    )
    assert sum(result is None for result in results) == 3
    assert sum(isinstance(result, ConfigError) for result in results) == 3
