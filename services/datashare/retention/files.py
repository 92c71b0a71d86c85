"""Taking what was deleted out of the database's files, as far as that goes while others work.

SQLite writes its file anew, so nothing is left in it. PostgreSQL gives the places free to be
written over; `VACUUM FULL` in a quiet hour writes them anew, and its write-ahead log and backups
end in their own time.
"""

import sqlite3
from typing import Any, Final

import asyncpg
import sqlalchemy as sa
import structlog

from services.kit.db import async_url, postgresql_engine, sqlite_engine, write_sqlite_anew
from services.kit.errors import UnavailableError

TABLES: Final = ("record", "summary_series", "summary_counterparty")

_log = structlog.get_logger()


class Files:
    """The files of one database.

    Args:
        url: as for `Database.open`.
    """

    def __init__(self, url: str) -> None:
        self._url = async_url(url)

    async def __call__(self) -> None:
        """Give free what was deleted; where the database is too busy, the next run does."""
        sqlite = self._url.get_backend_name() == "sqlite"
        engine = (
            sqlite_engine(self._url, "migration", 1) if sqlite else postgresql_engine(self._url, 1)
        )
        try:
            async with engine.connect() as conn:
                # None of these may run in a transaction.
                driver: Any = (await conn.get_raw_connection()).driver_connection
                if sqlite:
                    await write_sqlite_anew(driver)
                else:
                    for table in TABLES:
                        await driver.execute(f"VACUUM {table}")
        except (
            UnavailableError,
            sqlite3.Error,
            asyncpg.PostgresError,
            sa.exc.DBAPIError,
            OSError,
        ) as error:
            _log.warning("what was deleted is still in the files", problem=type(error).__name__)
        finally:
            await engine.dispose()
