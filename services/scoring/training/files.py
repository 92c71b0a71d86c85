"""Tables in files, by columns: CSV (also compressed) and Parquet.

Invariants: cells of CSV are text as they stand there; nothing is guessed from a part of a file, so
that a file gives the same whether it is read at once or in batches. Names of columns are without
the blanks around them. Rows keep their order.
"""

import codecs
import csv
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from services.scoring.training.domain import TrainingError

SUFFIXES: Final = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".parquet")
DELIMITERS: Final = (",", ";", "\t", "|")
BATCH_ROWS: Final = 20_000

_BLOCK: Final = 1 << 22
_SEPARATOR: Final = re.compile(r'"?sep=([,;|\t])"?\s*$', re.IGNORECASE)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES: Final = {
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "gb18030": "GB18030",
    "latin-1": "neither UTF-8 nor GB18030, so Latin-1",
}
_DELIMITER_NAMES: Final = {",": "", ";": ", by semicolons", "\t": ", by tabs", "|": ", by bars"}


class TableFileError(TrainingError):
    """A file cannot be read as a table; the message says why and what to do."""


class TableFile(Protocol):
    """A table in a file.

    Attributes:
        path: of the file.
        columns: their names.
        told: what it was read as, for people.
        rows: below the header; of CSV about, by its lines.
        skipped: rows that `read` left out, as they have more or fewer cells than the header.
    """

    path: Path
    columns: tuple[str, ...]
    told: str
    rows: int
    skipped: int

    def read(self, columns: Sequence[str]) -> Mapping[str, pa.ChunkedArray]:
        """Read columns whole. Rows of another width than the header are left out and counted."""
        ...

    def batches(self, columns: Sequence[str]) -> Iterator[Mapping[str, pa.Array]]:
        """Read columns of some rows after the other, all rows.

        Raises:
            TableFileError: a row has another width than the header.
        """
        ...


def open_file(path: Path) -> TableFile:
    """Return the table in a file.

    Raises:
        TableFileError: there is none.
    """
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise TableFileError(
            f"{path} is not one of {', '.join(SUFFIXES)}: save it as CSV or Parquet"
        )
    try:
        return _Parquet(path) if name.endswith(".parquet") else _Csv(path)
    except OSError as error:
        raise TableFileError(f"{path}: {error.strerror or error}: name another file") from None


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(path: Path, found: Sequence[str]) -> tuple[str, ...]:
    names = tuple(name.strip() or f"column {at}" for at, name in enumerate(found, start=1))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableFileError(f"{path} has two columns named {twice[0]!r}: rename one")
    return names


class _Parquet:
    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                self._own: list[str] = file.schema_arrow.names
                self.rows: int = file.metadata.num_rows
        except pa.ArrowException as error:
            raise TableFileError(f"{path} is not Parquet: {error}") from None
        self.columns = _names(path, self._own)
        self.told = "Parquet"
        self.skipped = 0

    def _wanted(self, columns: Sequence[str]) -> list[str]:
        own = dict(zip(self.columns, self._own, strict=True))
        return [own[column] for column in columns]

    def read(self, columns: Sequence[str]) -> Mapping[str, pa.ChunkedArray]:
        own = self._wanted(columns)
        table = _arrow(self.path, lambda: pq.read_table(self.path, columns=own))
        return {column: table[name] for column, name in zip(columns, own, strict=True)}

    def batches(self, columns: Sequence[str]) -> Iterator[Mapping[str, pa.Array]]:
        own = self._wanted(columns)
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=own):
                yield {
                    column: batch.column(name) for column, name in zip(columns, own, strict=True)
                }


class _Csv:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoding, self.rows = _encoding(path)
        header, self._delimiter = _header(path, self._encoding)
        if not header.strip():
            raise TableFileError(f"{path} is empty: its first line names the columns")
        self._before = 1 if self._delimiter else 0
        if not self._delimiter:
            self._delimiter = max(DELIMITERS, key=lambda each: _cells(header, each))
        self.skipped = 0
        # The schema alone: what types a block seems to have is not used.
        with _arrow(path, lambda: self._open({}, None, self._skip)) as reader:
            self._own: list[str] = reader.schema.names
        self.columns = _names(path, self._own)
        packed = ", compressed" if path.name.lower().endswith(".gz") else ""
        self.told = f"CSV, {_NAMES[self._encoding]}{_DELIMITER_NAMES[self._delimiter]}{packed}"

    def _options(
        self, types: Mapping[str, pa.DataType], columns: list[str] | None, bad: Any
    ) -> dict[str, Any]:
        return {
            "read_options": pacsv.ReadOptions(
                encoding=self._encoding, block_size=_BLOCK, skip_rows=self._before
            ),
            "parse_options": pacsv.ParseOptions(
                delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=bad
            ),
            "convert_options": pacsv.ConvertOptions(
                column_types=types,
                include_columns=columns,
                # Which texts are missing is not the file format's affair.
                strings_can_be_null=False,
                null_values=[],
            ),
        }

    def _open(self, types: Mapping[str, pa.DataType], columns: list[str] | None, bad: Any) -> Any:
        return pacsv.open_csv(self.path, **self._options(types, columns, bad))

    def _skip(self, row: Any) -> str:
        self.skipped += 1
        return "skip"

    def _wanted(self, columns: Sequence[str]) -> list[str]:
        own = dict(zip(self.columns, self._own, strict=True))
        return [own[column] for column in columns]

    def read(self, columns: Sequence[str]) -> Mapping[str, pa.ChunkedArray]:
        own = self._wanted(columns)
        types = {name: pa.string() for name in own}
        self.skipped = 0
        table = _arrow(
            self.path,
            lambda: pacsv.read_csv(self.path, **self._options(types, own, self._skip)),
        )
        return {column: table[name] for column, name in zip(columns, own, strict=True)}

    def batches(self, columns: Sequence[str]) -> Iterator[Mapping[str, pa.Array]]:
        own = self._wanted(columns)
        types = {name: pa.string() for name in own}
        with _arrow(self.path, lambda: self._open(types, own, None)) as reader:
            while True:
                try:
                    block = _arrow(self.path, reader.read_next_batch)
                except StopIteration:
                    return
                for start in range(0, block.num_rows, BATCH_ROWS):
                    batch = block.slice(start, BATCH_ROWS)
                    yield {
                        column: batch.column(name)
                        for column, name in zip(columns, own, strict=True)
                    }


def _arrow(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (pa.ArrowException, UnicodeError) as error:
        raise TableFileError(
            f"{path} cannot be read: {error}; look for a quotation mark or a separator there"
        ) from None


def _bytes(path: Path) -> Any:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


def _encoding(path: Path) -> tuple[str, int]:
    """Find out the encoding, and about how many rows there are.

    All of the file is decoded: it is UTF-8 or it is not, and hardly a Chinese one is both.
    """
    encodings = ["utf-8", "gb18030", "latin-1"]
    try:
        with _bytes(path) as file:
            start = file.read(4)
        for mark, encoding in _BOMS:
            if start.startswith(mark):
                encodings = [encoding]
        for encoding in encodings:
            with suppress(UnicodeDecodeError), _bytes(path) as file:
                decoder = codecs.getincrementaldecoder(encoding)()
                lines = 0
                while block := file.read(_BLOCK):
                    lines += decoder.decode(block).count("\n")
                decoder.decode(b"", final=True)
                return encoding, max(0, lines - 1)
    except (gzip.BadGzipFile, EOFError) as error:
        raise TableFileError(f"{path} is not gzip: {error}") from None
    raise TableFileError(f"{path} is not what its first bytes say: save it as UTF-8")


def _header(path: Path, encoding: str) -> tuple[str, str]:
    """The line that names the columns, and the separator where Excel states it above; else ''."""
    with _bytes(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        line: str = text.readline(1 << 20).removeprefix("\ufeff")
        stated = _SEPARATOR.match(line)
        return (text.readline(1 << 20), stated[1]) if stated else (line, "")


def _cells(header: str, delimiter: str) -> int:
    return len(next(csv.reader([header], delimiter=delimiter), []))
