"""Many rows in one statement, the same in SQLite and PostgreSQL.

SQLite's driver gives up the interpreter's lock at every row that it steps over, and gets it back
only when the event loop's thread lets go: beside a busy loop, `executemany` of 1,000 rows took 606
us a row where one statement with many VALUES took 15 (3.8 against 3.3 us when nothing else ran).
PostgreSQL gets arrays (`unnest`), or COPY where nothing can conflict.

The driver asks of every element of an array whether it is one itself, twice 0.1 us, and of every
value of a COPY how its type is written: so integers go as one text that PostgreSQL splits, and
whoever copies thousands of rows writes them in PostgreSQL's own format (`copy_packed`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Final, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.db import compiled, driver_of, raw_asyncpg, to_microseconds

T = TypeVar("T")

_MOST_VARIABLES: Final = 32_766
"""SQLite's default limit."""
# Signature, flags, no header extension; and what follows the last tuple.
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"


def stored_time(conn: AsyncConnection, value: datetime) -> int | datetime:
    """Return a time as the column type `UtcTime` stores it, for rows given to this module."""
    return to_microseconds(value) if conn.dialect.name == "sqlite" else value


class Relation:
    """Rows to join with that come with each execution, so that a statement is made `once`.

    Args:
        name: of the relation.
        columns: name and type of each column: integers or strings.
    """

    def __init__(self, name: str, columns: Mapping[str, sa.types.TypeEngine[Any]]) -> None:
        self._name = name
        self._columns = columns

    def of(self, conn: AsyncConnection, values: Mapping[str, Any] | None = None) -> sa.Subquery:
        """Return the relation, to select from and join with.

        Args:
            conn: says which database it is.
            values: as from `values`, for a statement that is executed once.
        """

        def parameter(name: str, kind: sa.types.TypeEngine[Any]) -> sa.BindParameter[Any]:
            if values is None:
                return sa.bindparam(name, type_=kind)
            return sa.bindparam(None, values[name], type_=kind)

        if conn.dialect.name == "sqlite":
            each = sa.func.json_each(parameter(self._name, sa.String())).table_valued("value")
            extracted = [
                sa.func.json_extract(each.c.value, f"$[{index}]", type_=kind).label(column)
                for index, (column, kind) in enumerate(self._columns.items())
            ]
            return sa.select(*extracted).subquery(self._name)
        arrays = [
            parameter(f"{self._name}_{column}", ARRAY(kind))
            for column, kind in self._columns.items()
        ]
        typed = [sa.column(column, kind) for column, kind in self._columns.items()]
        table = sa.func.unnest(*arrays).table_valued(*typed, name=f"{self._name}_rows")
        return sa.select(*table.render_derived().c).subquery(self._name)

    def values(self, conn: AsyncConnection, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """Return the parameters of one execution.

        Args:
            conn: says which database it is.
            rows: values in the order of the columns; None is NULL.
        """
        if conn.dialect.name == "sqlite":
            return {self._name: orjson.dumps([list(row) for row in rows]).decode()}
        return {
            f"{self._name}_{column}": [row[index] for row in rows]
            for index, column in enumerate(self._columns)
        }


def relation(
    conn: AsyncConnection,
    name: str,
    columns: Mapping[str, sa.types.TypeEngine[Any]],
    rows: Sequence[Sequence[Any]],
) -> sa.Subquery:
    """Return rows as something to select from and join with.

    Args:
        conn: says which database it is.
        name: of the relation.
        columns: name and type of each column: integers or strings.
        rows: values in the order of the columns; None is NULL.
    """
    it = Relation(name, columns)
    return it.of(conn, it.values(conn, rows))


def once(build: Callable[[AsyncConnection], T]) -> Callable[[AsyncConnection], T]:
    """Make a statement once for each kind of database.

    To build one with a relation takes SQLAlchemy 1 ms, and to find out whether it knows it 0.1.

    Args:
        build: makes it for the database of a connection; all that varies are parameters.
    """
    built: dict[str, T] = {}

    def statement(conn: AsyncConnection) -> T:
        name = conn.dialect.name
        if name not in built:
            built[name] = build(conn)
        return built[name]

    return statement


async def ask(
    conn: AsyncConnection, statement: sa.Select[Any], values: Mapping[str, Any]
) -> Sequence[Sequence[Any]]:
    """Return the rows of a statement that is made `once`.

    The driver is asked directly where it can be: SQLAlchemy's part in a statement takes longer than
    PostgreSQL's. The first one of a transaction it sends itself, with its BEGIN.

    Args:
        conn: a transaction.
        statement: without `IN`; of times none is a parameter.
        values: its parameters: integers, strings and lists of them.
    """
    if conn.dialect.name == "postgresql":
        driver = await driver_of(conn)
        if driver.is_in_transaction():
            text, names, fixed = compiled(statement)
            given = {**fixed, **values}
            found: Sequence[Any] = await driver.fetch(text, *[given[name] for name in names])
            return found
    rows: Sequence[Any] = (await conn.execute(statement, values)).all()
    return rows


def probe(
    conn: AsyncConnection,
    columns: Sequence[sa.ColumnElement[Any]],
    asked: sa.Subquery,
    *same: sa.ColumnElement[bool],
    lock: bool = False,
) -> sa.Select[Any]:
    """Return the rows of a table that a relation asks for, each looked up by the index.

    PostgreSQL's planner knows neither how many rows are asked for nor, while a table is young, how
    many there are, and it counts every partition where one is looked into: it joined by reading all
    of the table, 450 us a row of a batch where a look-up takes 3. A lateral subquery that cannot be
    pulled up leaves it no other order than from the relation to the table.

    Args:
        conn: says which database it is.
        columns: of one table.
        asked: as from `relation`.
        same: what makes a row one that is asked for: equality of the leading columns of an index.
        lock: for change, in the order in which they are asked for.
    """
    if conn.dialect.name == "sqlite":
        return sa.select(*columns).join(asked, sa.and_(*same))
    inner = sa.select(*columns).where(*same).offset(0)
    found = (inner.with_for_update() if lock else inner).lateral("found")
    return sa.select(*found.c).select_from(asked.join(found, sa.true()))


async def copy_rows(conn: AsyncConnection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert rows that conflict with none.

    Args:
        conn: a write transaction.
        table: where.
        rows: a value for every column, as the database stores it.
    """
    if not rows:
        return
    if conn.dialect.name == "sqlite":
        await _insert_values(conn, table, rows, "")
        return
    driver = await raw_asyncpg(conn)
    await driver.copy_records_to_table(table.name, records=rows, columns=table.columns.keys())


async def insert_free(
    conn: AsyncConnection, table: sa.Table, rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows, but for those that conflict with one that is there.

    Args:
        conn: a write transaction.
        table: where.
        rows: a value for every column, as the database stores it.
    """
    if not rows:
        return
    suffix = " ON CONFLICT DO NOTHING"
    if conn.dialect.name == "sqlite":
        await _insert_values(conn, table, rows, suffix)
    else:
        await _insert_arrays(conn, table, rows, suffix)


async def upsert_rows(
    conn: AsyncConnection, table: sa.Table, rows: Sequence[Sequence[Any]], update: Mapping[str, str]
) -> None:
    """Insert rows; where the primary key is taken, change the row that has it.

    Args:
        conn: a write transaction.
        table: where.
        rows: a value for every column, as the database stores it; no two with the same key.
        update: SQL by column, over `excluded`; empty leaves the row as it is.
    """
    if not rows:
        return
    key = ", ".join(table.primary_key.columns.keys())
    changes = ", ".join(f"{column} = {value}" for column, value in update.items())
    action = f"DO UPDATE SET {changes}" if update else "DO NOTHING"  # nosec B608  # our own columns
    suffix = f" ON CONFLICT ({key}) {action}"
    if conn.dialect.name == "sqlite":
        await _insert_values(conn, table, rows, suffix)
    else:
        await _insert_arrays(conn, table, rows, suffix)


async def copy_packed(
    conn: AsyncConnection, table: sa.Table, columns: Sequence[str], rows: bytes
) -> None:
    """Insert rows that conflict with none into PostgreSQL.

    Args:
        conn: a write transaction.
        table: where.
        columns: those that the rows have; the others get their defaults.
        rows: tuples in PostgreSQL's binary COPY format, without header and trailer.
    """
    driver = await raw_asyncpg(conn)
    # The driver takes any buffer, which its stubs do not say; but `bytes` for the name of a file.
    content: Any = bytearray(_COPY_HEADER + rows + _COPY_TRAILER)
    await driver.copy_to_table(table.name, source=content, columns=columns, format="binary")


async def _insert_arrays(
    conn: AsyncConnection, table: sa.Table, rows: Sequence[Sequence[Any]], suffix: str
) -> None:
    columns: list[Any] = []
    for index, column in enumerate(table.columns):
        values = [row[index] for row in rows]
        columns.append(joined(values) if isinstance(column.type, sa.Integer) else values)
    await conn.exec_driver_sql(_from_arrays(table) + suffix, tuple(columns))


@cache
def _from_arrays(table: sa.Table) -> str:
    """Return the statement that inserts what `_insert_arrays` gives."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    arrays = []
    for number, column in enumerate(table.columns, start=1):
        kind = column.type.compile(dialect)
        value = f"${number}"
        if isinstance(column.type, sa.Integer):
            value = f"string_to_array({value}, ',', '')"
        arrays.append(f"{value}::{kind}[]")
    names = ", ".join(table.columns.keys())
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({', '.join(arrays)})"  # noqa: S608 - names of our own tables


def joined(numbers: Sequence[int | None]) -> str:
    """Return integers as `string_to_array(.., ',', '')` splits them; None is NULL."""
    return ",".join(["" if number is None else str(number) for number in numbers])


async def _insert_values(
    conn: AsyncConnection, table: sa.Table, rows: Sequence[Sequence[Any]], suffix: str
) -> None:
    columns = table.columns.keys()
    values = f"({', '.join('?' * len(columns))})"
    head = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES "  # noqa: S608 - names of our own tables
    for part in _powers_of_two(rows, _MOST_VARIABLES // len(columns)):
        await conn.exec_driver_sql(
            head + ", ".join([values] * len(part)) + suffix,
            tuple(chain.from_iterable(part)),
        )


def _powers_of_two(rows: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    """Cut rows so that few different statements come up: the driver keeps them prepared."""
    start = 0
    while start < len(rows):
        size = 1 << min(len(rows) - start, most).bit_length() - 1
        yield rows[start : start + size]
        start += size
