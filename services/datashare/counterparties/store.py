"""The row that says by which keys the counterparties of this database are named.

Invariants: there is at most one row, and it changes in the transaction that changes the tokens.
Whoever is about to name counterparties compares it with its own keys first, in a transaction that
no rotation runs beside (`Chains.alone`).
"""

from datetime import datetime
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.records.tokens import TOKEN_BYTES, CounterpartyTokens
from services.datashare.schema import metadata
from services.kit.db import UtcTime, insert_into

chain = sa.Table(
    "counterparty_chain",
    metadata,
    # Always 1.
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("check_value", sa.LargeBinary(TOKEN_BYTES), nullable=False),
    sa.Column("links", sa.Integer, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
)

_ONLY: Final = 1
_LOCK: Final = 0x636F756E  # "coun", for PostgreSQL's advisory locks


class Chain(NamedTuple):
    """The keys that a database's counterparties are named by.

    Args:
        check_value: as `CounterpartyTokens` gives it.
        links: how many keys.
        since: when the newest came.
    """

    check_value: bytes
    links: int
    since: datetime


class Chains:
    """The row in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def alone(self, *, rotating: bool) -> bool:
        """Tell whether no rotation runs until the end of this transaction, or nothing but it."""
        if self._conn.dialect.name == "sqlite":
            return True  # a write transaction is alone
        shared = "" if rotating else "_shared"
        lock = f"SELECT pg_try_advisory_xact_lock{shared}({_LOCK})"
        return bool(await self._conn.scalar(sa.text(lock)))

    async def get(self) -> Chain | None:
        """Return what is noted; None before the first start."""
        query = sa.select(chain.c.check_value, chain.c.links, chain.c.since)
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else Chain(bytes(row.check_value), row.links, row.since)

    async def take(self, tokens: CounterpartyTokens, at: datetime) -> Chain:
        """Note the first keys, unless some are noted; return what is."""
        await self._conn.execute(
            insert_into(self._conn, chain).values(_row(tokens, at)).on_conflict_do_nothing()
        )
        return await self.get() or Chain(tokens.check_value, len(tokens.keys), at)

    async def change(self, tokens: CounterpartyTokens, at: datetime) -> None:
        """Note that the tokens are other ones now."""
        await self._conn.execute(sa.delete(chain))
        await self._conn.execute(sa.insert(chain).values(_row(tokens, at)))


def _row(tokens: CounterpartyTokens, at: datetime) -> dict[str, object]:
    return {
        "id": _ONLY,
        "check_value": tokens.check_value,
        "links": len(tokens.keys),
        "since": at,
    }
