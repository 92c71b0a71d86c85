"""Taking what was deleted out of the database's files.

A database keeps what was deleted or replaced until the place is used again. This writes anew the
tables that held registration numbers and data keys, and empties SQLite's write-ahead log. What it
cannot reach it names: PostgreSQL's write-ahead log, its archive, replicas and backups.
"""

from typing import Any, Final

from services.kit.db import async_url, postgresql_engine, sqlite_engine

_TABLES: Final = ("subject", "subject_key")
# insufficient_privilege
_REFUSED: Final = "42501"
_ELSEWHERE: Final = (
    "in PostgreSQL's write-ahead log until its segments are used again, and in its archive and in "
    "backups: data keys there are past use once the key-encryption keys are rotated and the old "
    "one is destroyed"
)


async def shred(url: str) -> list[str]:
    """Write tables anew, for which nothing else uses them meanwhile.

    Args:
        url: as for `Database.open`.

    Returns:
        Where what was deleted may still be.
    """
    parsed = async_url(url)
    if parsed.get_backend_name() == "sqlite":
        engine = sqlite_engine(parsed, "migration", 1)
        statements = ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
    else:
        engine = postgresql_engine(parsed, 1)
        statements = [*(f"VACUUM (FULL, ANALYZE) {table}" for table in _TABLES), "CHECKPOINT"]
    left = [] if engine.dialect.name == "sqlite" else [_ELSEWHERE]
    try:
        async with engine.connect() as conn:
            # Neither may run in a transaction.
            driver: Any = (await conn.get_raw_connection()).driver_connection
            for statement in statements:
                await driver.execute(statement)
    except Exception as error:
        if getattr(error, "sqlstate", None) != _REFUSED:
            raise
        left.append(
            "in files of the tables until PostgreSQL's next checkpoint, which this user may not "
            "ask for: run CHECKPOINT as one with the role pg_checkpoint"
        )
    finally:
        await engine.dispose()
    return left
