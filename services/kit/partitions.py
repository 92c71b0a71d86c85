"""Tables of PostgreSQL cut into hash partitions, or put together again, while others write to them.

A migration calls `partition` or `unpartition`, then `swap`. The rows move in three steps, so that a
table of any size moves without keeping anybody waiting for long:

1. A new table, `<name>_moving`, takes by trigger whatever is written to the old one from now on.
2. The rows that are there are copied in bounded transactions, in the order of the key.
3. `swap`, in the migration's own transaction, puts the new tables in the place of the old ones.

Invariants: after step 1 the new table has, for every row of the old one, the same row or none yet;
a copy shares the rows that it copies, so it neither overwrites a newer row nor brings back a
deleted one. A move that was interrupted is begun again by the next call. Nothing here happens in
SQLite, which has no partitions.
"""

import logging
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from alembic import op

_ROWS_AT_ONCE: Final = 20_000
_LOCK_TRIES: Final = 60
_log = logging.getLogger("alembic.runtime.migration")


def partition(table: str, column: str, parts: int) -> None:
    """Copy a table into one with hash partitions, named `<table>_p00` and so on.

    Args:
        table: has a primary key and no other constraint or index.
        column: of the primary key, its first.
        parts: how many partitions.
    """
    if op.get_context().dialect.name != "postgresql":
        return
    with op.get_context().autocommit_block():
        _run(
            f"CREATE TABLE IF NOT EXISTS {table}_moving (LIKE {table} INCLUDING DEFAULTS) "
            f"PARTITION BY HASH ({column})"
        )
        for part in range(parts):
            _run(
                f"CREATE TABLE IF NOT EXISTS {table}_p{part:02} PARTITION OF {table}_moving "
                f"FOR VALUES WITH (MODULUS {parts}, REMAINDER {part})"
            )
        _move(table)


def unpartition(table: str) -> None:
    """Copy a partitioned table into an ordinary one.

    Args:
        table: as `partition` and `swap` left it.
    """
    if op.get_context().dialect.name != "postgresql":
        return
    with op.get_context().autocommit_block():
        _run(f"CREATE TABLE IF NOT EXISTS {table}_moving (LIKE {table} INCLUDING DEFAULTS)")
        _move(table)


def swap(tables: Sequence[str]) -> None:
    """Put the new tables in the place of the old ones, which are dropped.

    Args:
        tables: in the order in which transactions write to them.

    Raises:
        sqlalchemy.exc.DBAPIError: others held the tables all the time for a minute.
    """
    if op.get_context().dialect.name != "postgresql":
        return
    lock(tables)
    for table in tables:
        op.execute(f"DROP TRIGGER {table}_moving ON {table}")
        op.execute(f"DROP FUNCTION {table}_moving()")
        op.execute(f"DROP TABLE {table}")
        op.execute(f"ALTER TABLE {table}_moving RENAME TO {table}")
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT pk_{table}_moving TO pk_{table}")
        op.execute(f"ANALYZE {table}")


def lock(tables: Sequence[str]) -> None:
    """Take tables to alter them, letting others go first again and again.

    Who waits for a table keeps everybody out who comes later; and a read may take minutes.

    Args:
        tables: in the order in which transactions write to them.

    Raises:
        sqlalchemy.exc.DBAPIError: others held the tables all the time for a minute.
    """
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    names = ", ".join(tables)
    for attempt in range(1, _LOCK_TRIES + 1):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
                connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
                connection.exec_driver_sql("SET LOCAL lock_timeout = DEFAULT")
        except sa.exc.DBAPIError:
            if attempt == _LOCK_TRIES:
                raise
            _log.info("%s: in use, trying again", names)
        else:
            return


def is_partition(connection: sa.Connection, table: str) -> bool:
    """Tell whether a table is a part of another one."""
    if connection.dialect.name != "postgresql":
        return False
    query = "SELECT relispartition FROM pg_class WHERE oid = to_regclass(:name)"
    return bool(connection.scalar(sa.text(query), {"name": table}))


def _move(table: str) -> None:
    """Mirror and copy a table into the one that stands ready; outside any transaction."""
    inspector = sa.inspect(op.get_bind())
    names = [column["name"] for column in inspector.get_columns(table)]
    key = inspector.get_pk_constraint(table)["constrained_columns"]
    if not inspector.get_pk_constraint(f"{table}_moving")["constrained_columns"]:
        _run(
            f"ALTER TABLE {table}_moving ADD CONSTRAINT pk_{table}_moving "
            f"PRIMARY KEY ({', '.join(key)})"
        )
    _mirror(table, names, key)
    _copy(table, key)


def _mirror(table: str, names: Sequence[str], key: Sequence[str]) -> None:
    same = " AND ".join(f"{name} = OLD.{name}" for name in key)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    delete = f"DELETE FROM {table}_moving WHERE {same}"  # noqa: S608 - names of our own tables
    insert = f"INSERT INTO {table}_moving SELECT (NEW).*"
    _run(
        f"CREATE OR REPLACE FUNCTION {table}_moving() RETURNS trigger LANGUAGE plpgsql AS $$ "  # nosec B608  # names of our own tables
        f"BEGIN IF TG_OP = 'DELETE' THEN {delete}; "
        f"ELSE {insert} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}; "
        "END IF; RETURN NULL; END $$"
    )
    # Waits for those who are writing, so from here on nothing is missed.
    _run(
        f"CREATE OR REPLACE TRIGGER {table}_moving AFTER INSERT OR UPDATE OR DELETE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION {table}_moving()"
    )


def _copy(table: str, key: Sequence[str]) -> None:
    connection = op.get_bind()
    first = key[0]
    # As only whole values of the first column are copied, a value is never copied in part.
    upper = sa.text(
        f"SELECT max({first}) FROM (SELECT {first} FROM {table} WHERE {first} > :done "  # noqa: S608 - names of our own tables
        f"ORDER BY {first} LIMIT {_ROWS_AT_ONCE}) AS part"
    )
    rows = sa.text(
        f"INSERT INTO {table}_moving SELECT * FROM {table} "  # noqa: S608 - names of our own tables
        f"WHERE {first} > :done AND {first} <= :upper ORDER BY {', '.join(key)} FOR SHARE "
        "ON CONFLICT DO NOTHING"
    )
    done, moved = "", 0
    while (last := connection.scalar(upper, {"done": done})) is not None:
        moved += connection.execute(rows, {"done": done, "upper": last}).rowcount
        _log.info("%s: %s rows moved", table, f"{moved:,}")
        done = last


def _run(statement: str) -> None:
    op.get_bind().exec_driver_sql(statement)
