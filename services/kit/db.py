"""One database for one service: SQLite embedded, or PostgreSQL, behaving alike.

Invariants:

- `begin` is a write transaction: it commits when the block ends well, and rolls back otherwise.
  SQLite takes the write lock at the start (`BEGIN IMMEDIATE`), one writer at a time in the order of
  asking, so that a transaction never fails half-way because another one wrote.
- `read` is one snapshot: every statement in the block sees the same committed state, and a write is
  refused. In SQLite readers never wait for the writer (WAL).
- A commit that returned survives a power cut (`synchronous=FULL`; PostgreSQL's default).
- Times are aware, in UTC and exact to the microsecond in both databases (`UtcTime`); money is
  integer minor units beside a currency (`money_columns`), never a float.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, cast, runtime_checkable

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from services.kit.config import check_least
from services.kit.errors import UnavailableError

T = TypeVar("T")

DialectName = Literal["sqlite", "postgresql"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

BUSY_TIMEOUT_MS: Final = 10_000
"""How long SQLite waits for another process's write lock."""
POOL_TIMEOUT_S: Final = 10.0
"""How long a transaction waits for a free connection."""
RECYCLE_S: Final = 1_800
"""Age at which a PostgreSQL connection is replaced, so that load follows a fail-over."""


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC time to the microsecond: `timestamptz`, in SQLite integer microseconds.

    Both order and compare as times do. SQLite's own DateTime would drop the zone.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        """Return the column's type in this database."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.BigInteger())
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> Any:
        """Return what the driver is given.

        Raises:
            ValueError: the time has no zone.
        """
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored: make it aware, in UTC")
        return to_microseconds(value) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Return the time that was stored."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return from_microseconds(value)
        found: datetime = value
        return found.astimezone(UTC)


def to_microseconds(value: datetime) -> int:
    """Return the microseconds from 1970-01-01 UTC to an aware time."""
    return (value - EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Return the aware UTC time at so many microseconds from 1970-01-01."""
    return EPOCH + timedelta(microseconds=value)


def money_columns(name: str, *, nullable: bool = False) -> tuple[sa.Column[int], sa.Column[str]]:
    """Return the two columns of an amount; `kit.money` turns them into a Decimal and back.

    Args:
        name: `name_minor` holds the integer minor units, `name_currency` the ISO 4217 code.
        nullable: whether an amount may be absent.
    """
    return (
        sa.Column(f"{name}_minor", sa.BigInteger, nullable=nullable),
        sa.Column(f"{name}_currency", sa.String(3), nullable=nullable),
    )


class Database:
    """Connections to one database. Make it with `open`; nothing is connected before it is used.

    Args:
        writer: connections for `begin`.
        reader: connections for `read`.
        dialect: which database it is.
    """

    def __init__(self, writer: AsyncEngine, reader: AsyncEngine, dialect: DialectName) -> None:
        self._writer = writer
        self._reader = reader
        self.dialect = dialect
        self._turn = asyncio.Lock() if dialect == "sqlite" else None
        self._returning: set[asyncio.Task[None]] = set()

    @classmethod
    def open(cls, url: str, *, pool_size: int = 8) -> "Database":
        """Return the database at a URL.

        Args:
            url: `sqlite:///relative/path`, `sqlite:////absolute/path` or
                `postgresql://user:password@host/name`. A SQLite file is made when it is missing.
            pool_size: PostgreSQL: most connections. SQLite: most readers, beside the one writer.

        Raises:
            ValueError: the URL is of another kind, or of a SQLite database in memory.
        """
        parsed = async_url(url)
        if parsed.get_backend_name() == "sqlite":
            return cls(
                sqlite_engine(parsed, "writer", 1),
                sqlite_engine(parsed, "reader", pool_size),
                "sqlite",
            )
        engine = postgresql_engine(parsed, pool_size)
        snapshot = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        return cls(engine, snapshot, "postgresql")

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Give a write transaction, committed when the block ends without an exception.

        Raises:
            UnavailableError: no connection can be had, it broke meanwhile (the end may have been
                reached all the same), or another process keeps SQLite's write lock.
        """
        if self._turn is None:
            async with self._transaction(self._writer) as conn:
                yield conn
        else:
            async with self._turn, self._transaction(self._writer) as conn:
                yield conn

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Give a snapshot to read.

        Raises:
            UnavailableError: no connection can be had, or it broke meanwhile.
        """
        async with self._transaction(self._reader) as conn:
            yield conn

    async def ping(self) -> None:
        """Ask the database one trivial question, for readiness.

        Raises:
            UnavailableError: it does not answer.
        """
        async with self.read() as conn:
            await conn.execute(sa.text("SELECT 1"))

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*self._returning, return_exceptions=True)
        await self._writer.dispose()
        await self._reader.dispose()

    @asynccontextmanager
    async def _transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            conn = await self._connected(engine)
        except Exception as error:
            refused = (sa.exc.TimeoutError, sa.exc.OperationalError, sa.exc.InterfaceError, OSError)
            if isinstance(error, refused) or is_lost(error):
                raise UnavailableError(
                    "UNAVAILABLE", "the database gives no connection: try again in a moment"
                ) from error
            raise
        begun = cancelled = False
        try:
            async with conn.begin():
                begun = True
                yield conn
        except Exception as error:
            if is_full(error):
                raise UnavailableError(
                    "UNAVAILABLE",
                    "the database has no room left and stored nothing of this: try again when the "
                    "operator has made room",
                ) from error
            if is_lost(error) or (not begun and is_conflict(error)):
                raise UnavailableError(
                    "UNAVAILABLE", "the database broke off or is busy: try again in a moment"
                ) from error
            raise
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            # Given back even when the caller is cancelled again meanwhile.
            await asyncio.shield(self._finish(_give_back(conn, cancelled)))

    async def _connected(self, engine: AsyncEngine) -> AsyncConnection:
        """Return a connection of the pool, whose opening is never broken off in SQLite.

        A file whose opening was would stay open, with its locks, until it is collected.
        """
        if self._turn is None or cast("sa.QueuePool", engine.pool).checkedin():
            return await engine.connect()

        async def connect() -> AsyncConnection:
            return await engine.connect()

        async def close() -> None:
            with suppress(Exception):  # of the connecting: its caller is gone
                await (await connecting).close()

        connecting = asyncio.create_task(connect())
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._finish(close())
            raise

    def _finish(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin what goes on when its caller is cancelled, until this database is closed."""
        task = asyncio.create_task(work)
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)
        return task


@runtime_checkable
class Finishing(Protocol):
    """Stores that have something to write last."""

    async def finish(self) -> None:
        """Write it, right before the commit."""
        ...


class Transactions(Generic[T]):
    """The unit of work that a use case sees (`kit.transactions`): what the factory makes of one.

    Args:
        db: the database.
        factory: makes the stores, bound to one transaction.
    """

    def __init__(self, db: Database, factory: Callable[[AsyncConnection], T]) -> None:
        self._db = db
        self._factory = factory

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[T]:
        """Give the stores in a write transaction; see `Database.begin`."""
        async with self._db.begin() as conn:
            work = self._factory(conn)
            yield work
            if isinstance(work, Finishing):
                await work.finish()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[T]:
        """Give the stores on a snapshot; see `Database.read`."""
        async with self._db.read() as conn:
            yield self._factory(conn)


def insert_into(conn: AsyncConnection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return sqlite.insert(table) if conn.dialect.name == "sqlite" else postgresql.insert(table)


async def driver_of(conn: AsyncConnection) -> "asyncpg.Connection[asyncpg.Record]":
    """Return the driver's connection, whose transaction may not have begun yet.

    Args:
        conn: a PostgreSQL connection given by `Database.begin`.
    """
    driver: asyncpg.Connection[asyncpg.Record]
    driver = cast("Any", (await conn.get_raw_connection()).driver_connection)
    return driver


@cache
def compiled(statement: sa.ClauseElement) -> tuple[str, Sequence[str], Mapping[str, Any]]:
    """Return what asyncpg is sent for a statement that is made once.

    Returns:
        Its text, its parameters in their order, and the values of those that never vary.
    """
    made: Any = statement.compile(dialect=asyncpg_dialect.dialect())  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    return made.string, made.positiontup or (), made.params


async def raw_asyncpg(conn: AsyncConnection) -> "asyncpg.Connection[asyncpg.Record]":
    """Return the driver's connection, inside this transaction: for `copy_records_to_table`.

    Args:
        conn: a PostgreSQL connection given by `Database.begin`.
    """
    driver = await driver_of(conn)
    if not driver.is_in_transaction():
        # SQLAlchemy sends BEGIN with the first statement; a COPY before it would stand alone.
        await conn.exec_driver_sql("SELECT 1")
    return driver


async def retry_on_conflict(
    work: Callable[[], Awaitable[T]],
    *,
    attempts: int = 5,
    uniform: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """Run a unit of work again when it lost a race, with waits that grow and vary.

    A unique violation is such a race when the work looks before it inserts: the second run finds
    what the other one wrote.

    Args:
        work: opens its own transaction each time; has no effect outside it.
        attempts: most runs, at least 1.
        uniform: a number in [0, 1), which varies the wait.
        sleep: waits for so many seconds.

    Returns:
        What the work returned.

    Raises:
        Exception: what the last run raised, or at once whatever is not a lost race.
    """
    for attempt in range(attempts - 1):
        try:
            return await work()
        except Exception as error:
            if not is_conflict(error):
                raise
        await sleep((0.5 + uniform()) * 0.01 * 2**attempt)
    return await work()


# PostgreSQL: unique_violation, serialization_failure, deadlock_detected, lock_not_available.
_SQLSTATES: Final = {"23505", "40001", "40P01", "55P03"}
# SQLite: SQLITE_BUSY and SQLITE_LOCKED (low byte), SQLITE_CONSTRAINT_PRIMARYKEY and _UNIQUE.
_SQLITE_PRIMARY: Final = {5, 6}
_SQLITE_EXTENDED: Final = {1555, 2067}


def is_conflict(error: BaseException) -> bool:
    """Tell whether an exception of SQLAlchemy, asyncpg or sqlite3 says that a race was lost."""
    driver: object = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if getattr(driver, "sqlstate", None) in _SQLSTATES:
        return True
    code = getattr(driver, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF in _SQLITE_PRIMARY or code in _SQLITE_EXTENDED)


# PostgreSQL: too_many_connections, admin_shutdown, crash_shutdown, cannot_connect_now. Class 08 is
# connection exceptions.
_LOST_SQLSTATES: Final = {"53300", "57P01", "57P02", "57P03"}


def is_lost(error: BaseException) -> bool:
    """Tell whether an exception of SQLAlchemy or asyncpg says that the connection is no more."""
    if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:
        return True
    driver: object = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    if isinstance(driver, asyncpg.InterfaceError):
        return "closed" in str(driver)  # it has no code, and also stands for wrong usage
    sqlstate = getattr(driver, "sqlstate", None) or ""
    return (
        sqlstate.startswith("08")
        or sqlstate in _LOST_SQLSTATES
        or isinstance(driver, ConnectionError)
    )


def async_url(url: str) -> sa.URL:
    """Return a database URL that names the asynchronous driver.

    Raises:
        ValueError: the URL is of another kind, or of a SQLite database in memory.
    """
    try:
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
    except sa.exc.ArgumentError:
        # Its message quotes the URL, which may hold a password.
        backend = "unreadable"
        parsed = sa.URL.create("sqlite")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+asyncpg")
    if backend != "sqlite":
        raise ValueError("the database URL must begin with sqlite:/// or postgresql://")
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("SQLite needs a file, as readers and the writer are several connections")
    return parsed.set(drivername="sqlite+aiosqlite")


def check_settings(database_url: str, database_pool: int) -> None:
    """Check what a service's configuration says of its database.

    Raises:
        ValueError: it cannot be used; the message does not quote the URL.
    """
    try:
        async_url(database_url)
    except ValueError as error:
        raise ValueError(f"database_url: {error}") from None
    check_least(1, database_pool=database_pool)


def sqlite_engine(
    url: sa.URL, role: Literal["writer", "reader", "migration"], pool_size: int
) -> AsyncEngine:
    """Return an engine on a SQLite file whose transactions are ours, not the driver's.

    Args:
        url: as from `async_url`.
        role: a reader cannot write; a migration may rebuild tables, so it checks foreign keys at
            its end instead of at each statement.
        pool_size: most connections; each has a thread.
    """
    Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,  # an error's message is logged, the values of a row are not
        pool_use_lifo=True,
        # The driver must not begin transactions by itself: it would do so without IMMEDIATE.
        connect_args={"isolation_level": None},
    )
    pragmas = [
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "secure_delete=ON",  # what is deleted is overwritten: keys that were destroyed, above all
        f"foreign_keys={'OFF' if role == 'migration' else 'ON'}",
        "temp_store=MEMORY",
        f"query_only={'ON' if role == 'reader' else 'OFF'}",
    ]
    statement = "BEGIN" if role == "reader" else "BEGIN IMMEDIATE"

    @sa.event.listens_for(engine.sync_engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        driver = cast("Any", connection.connection.dbapi_connection)
        driver.run_async(lambda raw: raw.execute(statement))

    @sa.event.listens_for(engine.sync_engine, "handle_error")
    def keep_when_cancelled(context: sa.ExceptionContext) -> None:
        # Closed under a caller who is gone, it would not be rolled back; see `_give_back`.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False

    return engine


def postgresql_engine(url: sa.URL, pool_size: int) -> AsyncEngine:
    """Return an engine on a PostgreSQL database.

    Args:
        url: as from `async_url`.
        pool_size: most connections.
    """
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,  # an error's message is logged, the values of a row are not
        pool_use_lifo=True,  # keeps statement caches warm
        pool_recycle=RECYCLE_S,
        connect_args={
            "prepared_statement_cache_size": 512,
            "timeout": POOL_TIMEOUT_S,
            "server_settings": {
                "timezone": "UTC",
                "application_name": "puhui",
                # Compiling plans costs more than it saves in queries of milliseconds.
                "jit": "off",
                # A plan made while a table, or one of its partitions, was empty would go on reading
                # all of it as it grows; what has no index is read whole all the same.
                "enable_seqscan": "off",
            },
        },
    )

    @sa.event.listens_for(engine.sync_engine, "checkout")
    def refuse_closed(
        _connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        # Costs no round trip, unlike pre-ping: a server that restarted has closed its sockets.
        if cast("Any", entry.driver_connection).is_closed():
            raise sa.exc.InvalidatePoolError("the server closed this connection")

    return engine


_CHECKPOINTS: Final = 50
_CHECKPOINT_PAUSE_S: Final = 0.2


async def write_sqlite_anew(driver: Any) -> None:
    """Write a SQLite file anew and empty its log, so that nothing deleted is left in either.

    A checkpoint says that it was kept from emptying the log instead of failing; one that another
    connection makes at the moment keeps it from that at once.

    Args:
        driver: aiosqlite's connection, in no transaction.

    Raises:
        UnavailableError: others go on reading from the log.
    """
    await driver.execute("VACUUM")
    for _ in range(_CHECKPOINTS):
        (kept_from,) = await driver.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        if not kept_from[0]:
            return
        await asyncio.sleep(_CHECKPOINT_PAUSE_S)
    raise UnavailableError("UNAVAILABLE", "the database is read all the time: try again later")


# PostgreSQL: disk_full. SQLite: SQLITE_FULL, and SQLITE_IOERR, which it also says of a full disk.
_FULL_SQLSTATE: Final = "53100"
_SQLITE_FULL: Final = {10, 13}


def is_full(error: BaseException) -> bool:
    """Tell whether an exception of SQLAlchemy, asyncpg or sqlite3 says that the disk is full."""
    driver: object = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    code = getattr(driver, "sqlite_errorcode", None)
    return getattr(driver, "sqlstate", None) == _FULL_SQLSTATE or (
        code is not None and code & 0xFF in _SQLITE_FULL
    )


async def _give_back(conn: AsyncConnection, cancelled: bool) -> None:
    """Return a connection to its pool, or end it where a call of the driver was broken off.

    SQLite's thread still works on such a call. The connection is rolled back after it and closed:
    a cursor left half-read would keep its old snapshot, and its lock until it is collected.
    """
    if cancelled and conn.dialect.name == "sqlite" and not conn.invalidated:
        driver: Any = (await conn.get_raw_connection()).driver_connection
        await driver.rollback()
        await conn.invalidate()
    await conn.close()
