"""What is new in a database: rows of a view, table or query behind a watermark.

The rows are read into a CSV file beside the state first, so that a push that broke off goes on with
the same rows, whatever the database has by then. Invariants: the watermark advances only when that
file is pushed, that is when every row of it was acknowledged; a row whose watermark equals the last
one is read again, because another one with it may have come since: it is a duplicate then.
"""

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from services.cli.fields import text_of
from services.cli.locks import locked

if TYPE_CHECKING:
    import sqlalchemy as sa

_ENVIRONMENT: Final = "env:"
_AT_ONCE: Final = 1000
_KINDS: Final[dict[str, tuple[type, Callable[[str], Any]]]] = {
    # In this order: a datetime is a date, too.
    "time": (datetime, datetime.fromisoformat),
    "day": (date, date.fromisoformat),
    "integer": (int, int),
    "number": (Decimal, Decimal),
    "double": (float, float),
    "text": (str, str),
}


class DatabaseError(Exception):
    """The database cannot be read; the message says why and what to do, without its URL."""


def read_url(named: str) -> str:
    """Return the URL of a database.

    Args:
        named: "env:NAME", or a file that nobody else can read.

    Raises:
        DatabaseError: there is none.
    """
    if "://" in named:
        raise DatabaseError(
            "the URL itself, which others on this machine could see: put it into a file, "
            "chmod 600, and name the file; or into a variable, and name it as env:NAME"
        )
    if named.startswith(_ENVIRONMENT):
        url = os.environ.get(named.removeprefix(_ENVIRONMENT), "").strip()
    else:
        path = Path(named)
        try:
            if os.name == "posix" and path.stat().st_mode & 0o077:
                raise DatabaseError(f"others can read the URL in {path}: chmod 600 {path}")
            url = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise DatabaseError(f"cannot read {path}: name the file with the URL") from None
    if "://" not in url:
        raise DatabaseError(
            f"there is no URL in {named}: write it as SQLAlchemy does, such as "
            "postgresql+psycopg://user:password@host/database"
        )
    return url


class Extract:
    """Rows of a database that were not pushed yet. Use it as a context: one process at a time does.

    Args:
        url: of the database, SQLAlchemy's.
        view: a view or table, or None.
        query: a file with a SELECT, or None.
        watermark: column that grows with every new or changed row.
        state: file that remembers how far it came; None names it after the view or query.

    Raises:
        DatabaseError: the URL is none, or there is no driver; at the start of the context, the
            state is of something else.
        BusyError: at the start of the context, another process is at work on the same state.
    """

    def __init__(
        self, url: str, view: str | None, query: Path | None, watermark: str, state: Path | None
    ) -> None:
        import sqlalchemy as sa

        name = view or (query.stem if query is not None else "")
        self.state_path = state or Path(f"{name}.puhui-state.json")
        self._spool = self.state_path.with_suffix(".rows.csv")
        self.rejects_path = self.state_path.with_name(f"{name}.rejects.csv")
        self._watermark = watermark
        if view is not None:
            schema, _, table = view.rpartition(".")
            self._source: Any = sa.table(table, schema=schema or None)
            self._of = view
        else:
            select = query.read_text("utf-8").strip().rstrip(";") if query is not None else ""
            self._source = sa.text(f"({select}) AS puhui_rows")
            self._of = hashlib.sha256(select.encode()).hexdigest()
        self._state: dict[str, Any] = {}
        self._lock = ExitStack()
        try:
            self._engine = sa.create_engine(url)
        except sa.exc.ArgumentError:
            raise DatabaseError(
                "the URL is not one of SQLAlchemy's: write dialect+driver://user:password@host/name"
            ) from None
        except (sa.exc.NoSuchModuleError, ImportError) as error:
            raise DatabaseError(f"no driver for this database: {error}; install it") from None

    def __enter__(self) -> Self:
        self._lock.enter_context(locked(self.state_path))
        try:
            self._state = self._read_state()
        except DatabaseError:
            self._lock.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._engine.dispose()
        self._lock.close()

    def rows(self, note: Callable[[str], None]) -> Path | None:
        """Return a CSV file with what is new, or None where nothing is.

        Args:
            note: told where the rows are from.

        Raises:
            DatabaseError: it cannot be read.
        """
        pending = self._state.get("pending")
        if self._spool.exists():
            if pending is not None:
                before = f"{pending['rows']:,}"
                note(f"First {before} rows that were read before; run it again for newer ones.")
                return self._spool
            self._spool.unlink()
        part = self._spool.with_name(self._spool.name + ".part")
        try:
            return self._spooled(part, note)
        finally:
            part.unlink(missing_ok=True)

    def _spooled(self, part: Path, note: Callable[[str], None]) -> Path | None:
        count, last = self._extract(part, None)
        if without := self._without():
            are = "row has no {} and is" if without == 1 else "rows have no {} and are"
            note(f"{without:,} {are.format(self._watermark)} never read.")
        if not count:
            return None
        since = self._state.get("watermark")
        note(
            f"New in the database: {count:,} with {self._watermark} "
            + (f"from {since['value']} on." if since else "of any value.")
        )
        self._write_state({"pending": {"rows": count, "watermark": _written(last)}})
        part.rename(self._spool)
        return self._spool

    @contextmanager
    def sample(self, count: int) -> Iterator[Path]:
        """Give a CSV file with the first new rows, which is deleted afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            self._extract(path, count)
            yield path

    def advance(self) -> None:
        """Remember that the rows were pushed."""
        self._write_state({"watermark": self._state["pending"]["watermark"], "pending": None})
        self._spool.unlink()

    def _extract(self, path: Path, limit: int | None) -> tuple[int, Any]:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with (
            os.fdopen(handle, "w", encoding="utf-8", newline="") as file,
            self._connected() as connection,
        ):
            streamed = connection.execution_options(yield_per=_AT_ONCE)
            return self._copy(streamed.execute(self._select(limit)), csv.writer(file))

    def _without(self) -> int:
        """How many rows have no watermark."""
        import sqlalchemy as sa

        column: sa.ColumnClause[Any] = sa.column(self._watermark)
        count = sa.select(sa.func.count()).select_from(self._source).where(column.is_(None))
        with self._connected() as connection:
            return int(connection.execute(count).scalar_one())

    @contextmanager
    def _connected(self) -> "Iterator[sa.Connection]":
        import sqlalchemy as sa

        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            told = getattr(error, "orig", None) or error
            raise DatabaseError(
                f"the database refused: {told}; check the URL, the name and the watermark"
            ) from None

    def _select(self, limit: int | None) -> "sa.Select[Any]":
        import sqlalchemy as sa

        column: sa.ColumnClause[Any] = sa.column(self._watermark)
        select: sa.Select[Any] = (
            sa.select(sa.literal_column("*")).select_from(self._source).order_by(column)
        )
        since = self._state.get("watermark")
        if since is None:
            select = select.where(column.is_not(None))
        else:
            select = select.where(column >= _KINDS[since["kind"]][1](since["value"]))
        return select if limit is None else select.limit(limit)

    def _copy(self, result: "sa.CursorResult[Any]", writer: Any) -> tuple[int, Any]:
        names = list(result.keys())
        at = next((i for i, n in enumerate(names) if n.lower() == self._watermark.lower()), None)
        if at is None:
            raise DatabaseError(f"no column {self._watermark}: there are {', '.join(names)}")
        writer.writerow(names)
        count, last = 0, None
        for row in result:
            try:
                writer.writerow([_text(cell) for cell in row])
            except ValueError as error:
                raise DatabaseError(f"row {count + 1}: {error}") from None
            count, last = count + 1, row[at]
        return count, last

    def _read_state(self) -> dict[str, Any]:
        head = {"of": self._of, "column": self._watermark}
        if not self.state_path.exists():
            return head
        try:
            state = json.loads(self.state_path.read_text("utf-8"))
            known = {key: state[key] for key in head}
        except (ValueError, KeyError, TypeError):
            raise DatabaseError(
                f"{self.state_path} is no state of a push: name another by --state"
            ) from None
        if known != head:
            raise DatabaseError(
                f"{self.state_path} is of another view, query or watermark: name another by "
                "--state, or delete it to push everything again"
            )
        return dict(state)

    def _write_state(self, changes: dict[str, Any]) -> None:
        self._state |= changes | {"at": datetime.now(UTC).isoformat(timespec="seconds")}
        part = self.state_path.with_name(self.state_path.name + ".part")
        part.write_text(json.dumps(self._state, ensure_ascii=False, indent=2) + "\n", "utf-8")
        part.replace(self.state_path)


def _text(cell: Any) -> str:
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    return repr(cell) if isinstance(cell, float) else text_of(cell)


def _written(value: Any) -> dict[str, str]:
    for name, (kind, _) in _KINDS.items():
        if isinstance(value, kind) and not isinstance(value, bool):
            text = value.isoformat() if isinstance(value, date) else str(value)
            return {"kind": name, "value": text}
    raise DatabaseError("the watermark is neither a number nor a time nor a text: name another")
