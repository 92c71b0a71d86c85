"""A database that is opened again and again, in one event loop after another.

Its engines are kept, and with them the statements that they compiled: to compile them again costs a
short test more than to run them. Nothing in it has to survive a power cut, which would cost SQLite
more than all else.
"""

from collections.abc import Callable
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from services.kit.db import Database, async_url, sqlite_engine

Open: TypeAlias = Callable[[], Database]


def opener(url: str, *, pool_size: int = 8) -> Open:
    """Return what opens a database; it has to be closed before it is opened in another loop.

    Args:
        url: as for `Database.open`.
        pool_size: most connections; SQLite: most readers.
    """
    parsed = async_url(url)
    if parsed.get_backend_name() == "sqlite":
        engines = (
            sqlite_engine(parsed, "writer", 1),
            sqlite_engine(parsed, "reader", pool_size),
        )
        for engine in engines:
            sa.event.listen(engine.sync_engine, "connect", _forgetful)
        return lambda: Database(*engines, "sqlite")
    database = Database.open(url, pool_size=pool_size)
    return lambda: database


def _forgetful(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()
