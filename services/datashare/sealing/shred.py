"""Taking what was deleted out of the database's files.

A database keeps what was deleted or replaced until the place is used again. This writes anew the
tables that held registration numbers and data keys, and PostgreSQL's statistics, which hold samples
of columns; it empties SQLite's write-ahead log. What it cannot reach it names: PostgreSQL's
write-ahead log, its archive, replicas and backups.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from services.kit.db import async_url, postgresql_engine, sqlite_engine, write_sqlite_anew

# Statistics last, of the tables as they are then.
_TABLES: Final = ("subject", "subject_key", "pg_statistic")
_ATTEMPTS: Final = 30
_WAIT_S: Final = 1.0
# insufficient_privilege
_REFUSED: Final = "42501"
# What VACUUM says of each table: "... 3 dead row versions cannot be removed yet ..."
_NUMBER: Final = re.compile(r"\d+")

_ELSEWHERE: Final = (
    "in PostgreSQL's write-ahead log until its segments are used again, and in its archive and in "
    "backups: data keys there are past use once the key-encryption keys are rotated and the old "
    "one is destroyed"
)
_NOT_OURS: Final = (
    "in PostgreSQL's statistics, which this user may not write anew: run VACUUM FULL pg_statistic "
    "as the database's owner"
)
_STILL_SEEN: Final = (
    "in files of the tables, as a transaction that began before is still open: end it, and shred "
    "again"
)
_NO_CHECKPOINT: Final = (
    "in files of the tables until PostgreSQL's next checkpoint, which this user may not ask for: "
    "run CHECKPOINT as one with the role pg_checkpoint"
)


async def shred(
    url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> list[str]:
    """Write the tables anew; nobody else uses them meanwhile.

    Args:
        url: as for `Database.open`.
        sleep: waits for so many seconds.

    Returns:
        Where what was deleted may still be.

    Raises:
        UnavailableError: somebody does use a SQLite file.
    """
    parsed = async_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    engine = sqlite_engine(parsed, "migration", 1) if sqlite else postgresql_engine(parsed, 1)
    try:
        async with engine.connect() as conn:
            # None of the statements may run in a transaction, as the engine would have it.
            driver: Any = (await conn.get_raw_connection()).driver_connection
            if sqlite:
                await write_sqlite_anew(driver)
                return []
            return [*await _write_anew(driver, sleep), *await _checkpoint(driver), _ELSEWHERE]
    finally:
        await engine.dispose()


async def _write_anew(driver: Any, sleep: Callable[[float], Awaitable[None]]) -> list[str]:
    """Write tables anew until none has rows that only an older transaction can see.

    Autovacuum's workers are such transactions, too, and end by themselves.
    """
    kept: list[int] = []
    left: list[str] = []

    def listen(_connection: object, message: Any) -> None:
        if number := _NUMBER.search(message.detail or ""):
            kept.append(int(number[0]))
        if message.sqlstate == _REFUSED:
            left.append(_NOT_OURS)

    for table in _TABLES:
        for attempt in range(_ATTEMPTS):
            if attempt:
                await sleep(_WAIT_S)
            kept.clear()
            driver.add_log_listener(listen)
            await driver.execute(f"VACUUM (FULL, VERBOSE) {table}")
            driver.remove_log_listener(listen)
            if not any(kept):
                break
        else:
            return [*left, _STILL_SEEN]
        await driver.execute(f"ANALYZE {table}")
    return left


async def _checkpoint(driver: Any) -> list[str]:
    try:
        await driver.execute("CHECKPOINT")
    except Exception as error:
        if getattr(error, "sqlstate", None) != _REFUSED:
            raise
        return [_NO_CHECKPOINT]
    return []
