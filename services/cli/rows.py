"""Records from files: JSON lines in the protocol's JSON form, or a table by a mapping.

A row that cannot be read is reported and never stops the file. Its message never holds the value.
Rows that are not in are written to another file of the same kind, which can be mended and pushed in
the same way: what was added to them there is left out when it is read.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from google.protobuf.json_format import Parse, ParseError

from puhui.datashare.v1.records_pb2 import Record
from services.cli.mapping import (
    ColumnMapping,
    Converter,
    MappingError,
    Problem,
    plain_mapping,
    record_types,
)
from services.cli.tables import ADDED, Table, TableError, is_table, open_table

UNREADABLE: Final = "MALFORMED_MESSAGE"
"""Reason of a row that could not be read, and so was not sent; as the platform would name it."""
_LINE: Final = "puhui_line"
_LONGEST_LINE: Final = 4 << 20


class SourceError(Exception):
    """The file as a whole cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Args:
        number: as an editor shows it.
        size: what it counts for in the source's size.
        record: what it says, as far as that can be read.
        problems: what cannot; a row with any is not sent.
        filled: bit i says that column i of the source has something in it.
    """

    number: int
    size: int
    record: Record
    problems: tuple[Problem, ...] = ()
    filled: int = 0


@dataclass(frozen=True)
class Reject:
    """Why a row is not in.

    Args:
        reason: name of the `ErrorReason` without its prefix.
        field: path of the field, or several.
        problem: what is wrong and what to do.
    """

    reason: str
    field: str
    problem: str


class Source(Protocol):
    """Rows that can be read any number of times, the same ones each time.

    Attributes:
        columns: those that fill fields, and the field that each does.
        unmapped: those that do not.
        told: what the file was read as, for people.
        size: of all rows.
        unit: what that counts, "bytes" or "rows".
        suffix: of files of its kind.
    """

    columns: tuple[tuple[str, str], ...]
    unmapped: tuple[str, ...]
    told: str
    size: int
    unit: str
    suffix: str

    def rows(self) -> Iterator[Row]:
        """Go through the rows."""
        ...

    def write_rejects(self, path: Path, rejects: Mapping[int, Reject]) -> None:
        """Write rows, by their number, to a new file of the same kind with what is wrong."""
        ...


def open_source(path: Path, record_type: str, mapping: ColumnMapping | None) -> Source:
    """Return the rows of a file.

    Args:
        path: a table by its suffix, everything else JSON lines.
        record_type: of every row; empty where the mapping or, in JSON lines, each row names it.
        mapping: of a table; None where its header names fields.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        if not is_table(path):
            return _json_lines(path, record_type, mapping)
        if mapping is None:
            table = open_table(path, _AS_DETECTED.layout)
            mapping = plain_mapping(table.columns, record_type)
        elif record_type not in {"", mapping.record_type}:
            raise SourceError(
                f"--type {record_type}, but the mapping is of {mapping.record_type}: leave it out"
            )
        else:
            table = open_table(path, mapping.layout)
        return TableSource(table, mapping)
    except (TableError, MappingError) as error:
        raise SourceError(str(error)) from None


_AS_DETECTED: Final = ColumnMapping("", ())


def _json_lines(path: Path, record_type: str, mapping: ColumnMapping | None) -> "JsonLines":
    if mapping is not None:
        raise SourceError(f"{path} is no table, so that it needs no mapping: leave --mapping out")
    if record_type and record_type not in record_types():
        raise SourceError(f"unknown record type {record_type}; see `puhui catalogue list`")
    return JsonLines(path, record_type)


class TableSource:
    """The rows of a table.

    Args:
        table: what is read.
        mapping: what its columns are.
    """

    def __init__(self, table: Table, mapping: ColumnMapping) -> None:
        self._table = table
        self._converter = Converter(mapping, table.columns)
        self.columns = tuple((column.name, column.target.path) for column in mapping.columns)
        self.unmapped = self._converter.unmapped
        self.told, self.size, self.unit = table.told, table.size, table.unit
        self.suffix = table.suffix

    def rows(self) -> Iterator[Row]:
        """Go through the rows."""
        convert = self._converter.convert
        try:
            for row in self._table.rows():
                if row.problem:
                    yield Row(row.number, row.size, Record(), (Problem("", "", row.problem),))
                else:
                    yield Row(row.number, row.size, *convert(row.cells))
        except TableError as error:
            raise SourceError(str(error)) from None

    def write_rejects(self, path: Path, rejects: Mapping[int, Reject]) -> None:
        """Write rows to a new table of the same kind."""
        with closing(self._table.writer(path)) as writer:
            for row in self._table.rows():
                if (reject := rejects.get(row.number)) is not None:
                    added = (row.number, reject.reason, reject.field, reject.problem)
                    writer.write(row.cells, added)


class JsonLines:
    """Records in the protocol's JSON form, one a line.

    Args:
        path: of the file.
        record_type: of rows that name none.
    """

    suffix = ".jsonl"
    unit = "bytes"
    told = "JSON lines"

    def __init__(self, path: Path, record_type: str) -> None:
        self._path = path
        self._record_type = record_type
        self.columns: tuple[tuple[str, str], ...] = ()
        self.unmapped: tuple[str, ...] = ()
        self.size = path.stat().st_size

    def rows(self) -> Iterator[Row]:
        """Go through the rows."""
        for number, line in self._lines():
            record = Record()
            try:
                Parse(_without_added(line), record)
            except (ParseError, UnicodeDecodeError) as error:
                problem = Problem("", "", _told(line, error))
                yield Row(number, len(line), Record(), (problem,))
                continue
            if not record.record_type:
                record.record_type = self._record_type or record.WhichOneof("payload") or ""
            yield Row(number, len(line), record)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        with self._path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                if len(line) > _LONGEST_LINE:
                    raise SourceError(
                        f"line {number} of {self._path} has more than {_LONGEST_LINE >> 20} MB: "
                        "what is no .csv, .xlsx, .xls or .parquet has one record on each line"
                    )
                if line.strip():
                    yield number, line

    def write_rejects(self, path: Path, rejects: Mapping[int, Reject]) -> None:
        """Write rows to a new file; a line that is no JSON object goes into `puhui_line`."""
        with path.open("w", encoding="utf-8") as file:
            for number, line in self._lines():
                if (reject := rejects.get(number)) is None:
                    continue
                values = (number, reject.reason, reject.field, reject.problem)
                content = _object(line) or {_LINE: line.decode("utf-8", "replace").rstrip("\n")}
                for name in ADDED:
                    content.pop(name, None)
                content |= dict(zip(ADDED, values, strict=True))
                file.write(json.dumps(content, ensure_ascii=False) + "\n")


def _without_added(line: bytes) -> str:
    text = line.decode()
    if not text.lstrip().startswith("{"):
        raise ParseError
    if ADDED[0] not in text or (content := _object(line)) is None:
        return text
    return json.dumps({name: value for name, value in content.items() if name not in ADDED})


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _told(line: bytes, error: Exception) -> str:
    if _object(line) is None and not _is_json(line):
        return "not JSON: one record per line, in UTF-8"
    text = str(error)
    if "no field named" in text:
        # The only message of the parser's that is useful and holds a name, not a value.
        return text.partition("\n")[0].partition("Available Fields")[0].strip().rstrip(".")
    return "not a record of puhui.datashare.v1: a value has the wrong type or form"


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
