"""Many rows with named columns in one statement; columns that are not named get their default.

On PostgreSQL the rows travel as one array per column (`INSERT ... SELECT FROM unnest(...)`), so
that the statement's text, and with it its plan, is the same for any number of rows. On SQLite they
are one list of VALUES, for the reason that `bulk` gives.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

_MOST_ROWS: Final = 512
"""At one time, on SQLite: 512 rows of 64 columns are SQLite's limit of variables."""


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
    columns = tuple(rows[0])
    if conn.dialect.name == "postgresql":
        await conn.execute(insert_arrays(table, columns), arrays(rows))
        return
    processors = _processors(table, columns)
    for start in range(0, len(rows), _MOST_ROWS):
        part = rows[start : start + _MOST_ROWS]
        await conn.exec_driver_sql(
            _insert_values(table, columns, len(part)),
            tuple(process(row[name]) for row in part for name, process in processors),
        )


@functools.cache
def insert_arrays(table: sa.Table, columns: tuple[str, ...]) -> postgresql.Insert:
    """Return a PostgreSQL INSERT that takes the `arrays` of its rows."""
    given = sa.func.unnest(
        *(sa.bindparam(name, type_=postgresql.ARRAY(table.c[name].type)) for name in columns)
    ).table_valued(*(sa.column(name, table.c[name].type) for name in columns))
    return postgresql.insert(table).from_select(
        columns, sa.select(*given.render_derived(name="given").c)
    )


def arrays(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of rows by column."""
    return {name: [row[name] for row in rows] for name in rows[0]}


@functools.cache
def _processors(
    table: sa.Table, columns: tuple[str, ...]
) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    dialect = sqlite.dialect()
    return tuple(
        (name, table.c[name].type.dialect_impl(dialect).bind_processor(dialect) or _same)
        for name in columns
    )


def _same(value: Any) -> Any:
    return value


@functools.lru_cache(maxsize=256)
def _insert_values(table: sa.Table, columns: tuple[str, ...], count: int) -> str:
    values = f"({', '.join('?' * len(columns))})"
    head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608 - our own tables
    return head + ", ".join([values] * count)
