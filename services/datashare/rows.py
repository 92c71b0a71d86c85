"""Many rows in one statement.

On PostgreSQL the rows travel as one array per column (`INSERT ... SELECT FROM unnest(...)`), so
that the statement's text, and with it its plan, is the same for any number of rows.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection


async def insert_rows(
    conn: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert rows.

    Args:
        conn: the transaction.
        table: where to.
        rows: values by column; all have the same columns.
    """
    if not rows:
        return
    if conn.dialect.name == "postgresql":
        await conn.execute(insert_arrays(table, tuple(rows[0])), arrays(rows))
    else:
        await conn.execute(sa.insert(table), list(rows))


@functools.cache
def insert_arrays(table: sa.Table, columns: tuple[str, ...]) -> postgresql.Insert:
    """Return a PostgreSQL INSERT that takes the `arrays` of its rows."""
    given = sa.func.unnest(
        *(sa.bindparam(name, type_=postgresql.ARRAY(table.c[name].type)) for name in columns)
    ).table_valued(*(sa.column(name, table.c[name].type) for name in columns))
    return postgresql.insert(table).from_select(
        columns, sa.select(*given.render_derived(name="given").c)
    )


_FIRSTS = sa.bindparam("firsts", type_=postgresql.ARRAY(sa.String))
_SECONDS = sa.bindparam("seconds", type_=postgresql.ARRAY(sa.String))
_UNNESTED = (
    sa.func.unnest(_FIRSTS, _SECONDS)
    .table_valued(sa.column("first", sa.String), sa.column("second", sa.String))
    .render_derived(name="wanted")
)
_EACH = sa.func.json_each(sa.bindparam("pairs", type_=sa.String)).table_valued("value")
_EXTRACTED = sa.select(
    sa.func.json_extract(_EACH.c.value, "$[0]").label("first"),
    sa.func.json_extract(_EACH.c.value, "$[1]").label("second"),
).subquery("wanted")


def wanted_pairs(
    dialect: str, pairs: Sequence[tuple[str, str]]
) -> tuple[sa.FromClause, dict[str, Any]]:
    """Return a table of pairs to join with, and the parameters that fill it.

    The statement that joins it is the same for any number of pairs.

    Args:
        dialect: "postgresql" or "sqlite".
        pairs: the table's rows, with the columns `first` and `second`.
    """
    if dialect == "postgresql":
        firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
        return _UNNESTED, {"firsts": firsts, "seconds": seconds}
    return _EXTRACTED, {"pairs": orjson.dumps(pairs).decode()}


def arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of rows by column."""
    return {name: [row[name] for row in rows] for name in rows[0]}
