"""Writers that are under way, as readers see them, on PostgreSQL.

A batch of records takes its time, `recorded_at`, once it holds what it changes, and is seen by
others only when it commits. A read in between, as of now, would miss what every later read as of
the same time finds. So a reader waits for the writers that already hold what it reads:

- A writer takes an advisory lock named by its transaction before it locks any row. The row it has
  locked or changed shows its transaction (`xmax`) to every reader, in the statement that reads it.
  Whoever locks these rows does so alone, inspection too: where two share one, it shows neither.
- A reader that sees a transaction there which had not ended when its statement began waits for that
  lock, then reads again. Who comes later takes its time later, so waiting once is enough.

The reader locks no row and no writer ever waits for a reader. SQLite has one writer, and a read
that must be repeatable is a write transaction there.
"""

from collections.abc import Collection
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.errors import UnavailableError

_SPACE: Final = 0x70756875
"""Apart from the advisory locks with one key of 64 bits, which gates and the outbox take."""
_PATIENCE: Final = "10s"
_LOCK_NOT_AVAILABLE: Final = "55P03"

# Those that ran when the statement began: below the snapshot's end they are listed, from there on
# all ran or began later, counted in a circle of 2**32.
_LISTED = sa.literal_column(
    "ARRAY(SELECT x::text::bigint & 4294967295 FROM pg_snapshot_xip(pg_current_snapshot()) AS x)",
    ARRAY(sa.BigInteger()),
)
_END = sa.literal_column(
    "(SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint)", sa.BigInteger()
)
_MINE = sa.literal_column("(pg_current_xact_id()::text::bigint & 4294967295)", sa.BigInteger())


async def announce(conn: AsyncConnection) -> None:
    """Let readers wait for this transaction; before it locks what they read."""
    if conn.dialect.name == "postgresql":
        await conn.execute(_ANNOUNCING)


def writer_of(table: sa.Table) -> sa.ColumnElement[int | None]:
    """Return who holds a row and has not ended, NULL where nobody; on PostgreSQL only."""
    holder = sa.literal_column(f"{table.name}.xmax::text::bigint", sa.BigInteger())
    beyond = (holder - _END).op("&")(4_294_967_295) < 2_147_483_648
    ran = sa.or_(holder == sa.any_(_LISTED), beyond)
    return sa.case((sa.and_(holder != 0, ran), holder))


async def wait_for(conn: AsyncConnection, writers: Collection[int]) -> None:
    """Wait until transactions have ended.

    Args:
        conn: a write transaction.
        writers: as `writer_of` told them.

    Raises:
        UnavailableError: one did not end for 10 s.
    """
    await conn.execute(sa.text(f"SET LOCAL lock_timeout = '{_PATIENCE}'"))
    try:
        for writer in sorted(writers):
            key = _key(sa.literal(writer, sa.BigInteger()))
            await conn.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_SPACE, key)))
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise UnavailableError(
            "UNAVAILABLE", "records of this subject are coming in: try again in a moment"
        ) from error
    await conn.execute(sa.text("SET LOCAL lock_timeout = DEFAULT"))


def _key(transaction: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Return a transaction's 32 bits as the signed number that advisory locks take."""
    return sa.cast(transaction - 2_147_483_648, sa.Integer)


_ANNOUNCING: Final = sa.select(sa.func.pg_advisory_xact_lock(_SPACE, _key(_MINE)))
