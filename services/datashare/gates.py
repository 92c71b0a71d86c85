"""Fair turns at a row that many share and one changes, on PostgreSQL.

Row locks alone are not fair there: whoever asks for `FOR SHARE` joins those who share the row
already, past a `FOR UPDATE` that waits. With 16 callers fetching under one consent without pause,
its withdrawal waited for more than 15 s and 1,000 fetches, until they stopped; with a gate it came
after about 20 fetches, those under way. Who shares a row goes through its gate first, and who
changes it closes the gate and waits for those inside: advisory locks queue in the order of asking.
The row lock behind the gate is what keeps the row still.

SQLite has one writer and needs no gate.
"""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection


def through_gates(
    conn: AsyncConnection, wanted: sa.Subquery, column: str, name: str
) -> sa.FromClause:
    """Return a relation of rows to share, each through its gate when it is read.

    Args:
        conn: a write transaction; it stays inside the gates until its end.
        wanted: the rows, in an order that is the same for everybody.
        column: of `wanted`, the id of the row that is shared.
        name: of the relation.
    """
    if conn.dialect.name == "sqlite":
        return wanted
    gate = sa.func.pg_advisory_xact_lock_shared(_key(wanted.c[column]))
    # The planner keeps a volatile function though nobody reads its column.
    return sa.select(*wanted.c, gate.label("gate")).subquery(name)


async def close_gate(conn: AsyncConnection, row_id: str) -> None:
    """Let nobody else through a row's gate until the end, once those inside are out.

    Args:
        conn: a write transaction.
        row_id: the id of the row that is to change.
    """
    if conn.dialect.name == "postgresql":
        await conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_key(sa.literal(row_id)))))


def _key(row_id: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
    return sa.func.hashtextextended(row_id, 0, type_=sa.BigInteger)
