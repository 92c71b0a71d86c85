"""The mark of a database: of which tenant it is.

Invariant: there is one mark at most, and it never changes.
"""

from typing import Final

import sqlalchemy as sa

from services.kit.config import ConfigError
from services.kit.db import Database, insert_into

_ONLY: Final = 1


def tenant_table(metadata: sa.MetaData) -> sa.Table:
    """Return the table of the mark: one row, or none yet."""
    return sa.Table(
        "tenant",
        metadata,
        sa.Column("only", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(16), nullable=False),
        sa.CheckConstraint(f'"only" = {_ONLY}', name="only"),
    )


async def claim_database(section: str, database: Database, table: sa.Table, tenant: str) -> None:
    """Write down of which tenant a database is, where nobody has.

    Args:
        section: of the configuration, for messages.
        database: the service's own.
        table: made by `tenant_table`.
        tenant: of the service.

    Raises:
        ConfigError: it is the other's.
    """
    async with database.read() as conn:
        found = await conn.scalar(sa.select(table.c.name))
    if found is None:
        async with database.begin() as conn:
            # Another replica may be first.
            mark = insert_into(conn, table).values(only=_ONLY, name=tenant)
            await conn.execute(mark.on_conflict_do_nothing())
            found = await conn.scalar(sa.select(table.c.name))
    if found != tenant:
        raise ConfigError(
            [
                f"{section}.database_url: the database is of the tenant {found}, and this service "
                f"is of {tenant}: name a database of its own, or correct the tenant"
            ]
        )
