"""Tables in files: CSV, Excel and Parquet, with their cells as they stand there.

Nothing is converted here: a cell is text in CSV, and what the format says it is in the others. The
number of a row is its line in a CSV file and its row on an Excel sheet, as an editor shows it, and
counts from 1 in a Parquet file. What is written beside a file has its format, encoding and columns.
"""

import codecs
import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

if TYPE_CHECKING:
    import pyarrow as pa

Cell = str | int | float | bool | Decimal | date | datetime | time | timedelta | bytes | None
"""What a table has in one place; None and an empty text are absent."""

ADDED: Final = ("puhui_row", "puhui_reason", "puhui_field", "puhui_problem")
"""Columns of a file of rejected rows that the file itself did not have; left out when read."""

EXCEL_DAYS: Final = date(1899, 12, 30)
"""Day 0 of Excel's calendar, right from 1900-03-01 on."""

_BLOCK: Final = 1 << 20
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NAMES: Final = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8 with BOM",
    "utf-16": "UTF-16",
    "gb18030": "GB18030",
}
ENCODINGS: Final = tuple(_NAMES)
_MOST_EXCEL_BYTES: Final = 2 << 30
_MOST_CELLS: Final = 50_000_000
_BROKEN_ZIP: Final = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
# Cells with something in them, from column AA on: without one no sheet has too many.
_FAR_CELL: Final = re.compile(rb'<(?:\w+:)?c\s[^>]*?\br="([A-Z]{2,3})([0-9]+)"[^>]*(?<!/)>')
_ROW: Final = re.compile(rb'<(?:\w+:)?row\s[^>]*?\br="([0-9]+)"[^>]*(?<!/)>')
_LONGEST_TAG: Final = 1024
# What a line takes in the file, without the mark that only its start has.
_MEASURED: Final = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}


class TableError(Exception):
    """A file cannot be read as a table; the message says why and what to do."""


@dataclass(frozen=True)
class Layout:
    """How a file has to be read, where that is not found out.

    Args:
        encoding: of CSV, one of `ENCODINGS`; empty is detected.
        delimiter: of CSV.
        sheet: of Excel; empty is the only one.
        header: number of the row that names the columns; those before it are titles.
    """

    encoding: str = ""
    delimiter: str = ","
    sheet: str = ""
    header: int = 1


@dataclass(frozen=True)
class TableRow:
    """A row below the header.

    Args:
        number: of the row in its file.
        size: what it counts for in the table's `size`.
        cells: one per column; of a row with `problem` as many as it has.
        problem: why it is none of this table; empty if it is.
    """

    number: int
    size: int
    cells: Sequence[Cell]
    problem: str = ""


class Writer(Protocol):
    """Writes rows of a table to another file of the same kind, with `ADDED` behind them."""

    def write(self, cells: Sequence[Cell], added: tuple[int, str, str, str]) -> None:
        """Add a row."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class Table(Protocol):
    """A table that can be read from its start any number of times.

    Attributes:
        columns: their names, without `ADDED`; an empty name is a column that nothing is known of.
        told: what it was read as, for people.
        size: of all rows.
        unit: what `size` counts, "bytes" or "rows".
        suffix: of files of its kind.
    """

    columns: tuple[str, ...]
    told: str
    size: int
    unit: str
    suffix: str

    def rows(self) -> Iterator[TableRow]:
        """Go through the rows below the header; empty ones are left out."""
        ...

    def writer(self, path: Path) -> Writer:
        """Return what writes rows of this table to a new file."""
        ...


def open_table(path: Path, layout: Layout) -> Table:
    """Return the table in a file, by the file's suffix.

    Raises:
        TableError: there is none, or the layout does not fit it.
    """
    suffix = path.suffix.lower()
    opener = _OPENERS.get(suffix)
    if opener is None:
        known = ", ".join(_OPENERS)
        raise TableError(f"{path} is not one of {known}: save it as one of these")
    return opener(path, layout)


def is_table(path: Path) -> bool:
    """Tell whether a file's suffix is that of a table."""
    return path.suffix.lower() in _OPENERS


@dataclass(frozen=True)
class _Header:
    """The row that names the columns, and which of the cells below it count."""

    columns: tuple[str, ...]
    kept: tuple[int, ...]
    width: int
    titles: tuple[Sequence[Cell], ...] = field(default=())

    @classmethod
    def of(cls, path: Path, names: Sequence[Cell], titles: Sequence[Sequence[Cell]]) -> "_Header":
        texts = [str(name).strip() if name is not None else "" for name in names]
        kept = tuple(i for i, name in enumerate(texts) if name not in ADDED)
        columns = tuple(texts[i] for i in kept)
        twice = sorted({name for name in columns if name and columns.count(name) > 1})
        if twice:
            raise TableError(f"{path} has two columns named {twice[0]}: rename one")
        if not any(columns):
            raise TableError(
                f"{path} names no columns in row {len(titles) + 1}: "
                "say by `header` in [file] of a mapping which row does"
            )
        return cls(columns, kept, len(texts), tuple(titles))

    def cells(self, row: Sequence[Cell]) -> Sequence[Cell]:
        return row if len(self.kept) == len(row) else [row[i] for i in self.kept]


class _Csv:
    suffix = ".csv"
    unit = "bytes"

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self._delimiter = layout.delimiter
        self._encoding = layout.encoding or detect_encoding(path)
        self.told = f"CSV, {_NAMES[self._encoding]}" + ("" if layout.encoding else ", as detected")
        self.size = path.stat().st_size
        self._header = self._read_header(layout.header)
        self.columns = self._header.columns

    def _read_header(self, number: int) -> _Header:
        titles: list[list[str]] = []
        for _, cells, _ in self._raw():
            if len(titles) == number - 1:
                return _Header.of(self._path, cells, titles)
            titles.append(cells)
        raise TableError(f"{self._path} is empty: its first line names the columns")

    def _raw(self) -> Iterator[tuple[int, list[str], int]]:
        """Go through all rows: the line that each begins on, its cells and its bytes, about."""
        read, first, before, at_end = 0, 1, 0, False
        measured = _MEASURED.get(self._encoding, self._encoding)

        def lines(file: TextIO) -> Iterator[str]:
            nonlocal read, at_end
            for line in file:
                read += len(line.encode(measured))
                yield line
            at_end = True
            yield ""  # a row without cells, unless a quotation mark is open

        with self._path.open(encoding=self._encoding, newline="") as file:
            try:
                reader = csv.reader(lines(file), delimiter=self._delimiter)
                for cells in reader:
                    if at_end and cells:
                        raise csv.Error("a quotation mark is never closed")
                    if at_end:
                        return
                    yield first, cells, read - before
                    first, before = reader.line_num + 1, read
            except UnicodeError:
                raise TableError(
                    f"{self._path} is not {_NAMES[self._encoding]}: save it as UTF-8, or name its "
                    "`encoding` in [file] of a mapping"
                ) from None
            except csv.Error as error:
                raise TableError(
                    f"{self._path} is not CSV from row {first} on: {error}; look for a quotation "
                    "mark there, close it, or double one that is part of a cell"
                ) from None

    def rows(self) -> Iterator[TableRow]:
        width = self._header.width
        skip = len(self._header.titles) + 1
        for index, (number, cells, size) in enumerate(self._raw()):
            if index < skip or not cells:
                continue
            if len(cells) != width:
                problem = f"{len(cells)} cells where the header has {width}"
                yield TableRow(number, size, cells, problem)
            else:
                yield TableRow(number, size, self._header.cells(cells))

    def writer(self, path: Path) -> "_CsvWriter":
        return _CsvWriter(path, self._encoding, self._delimiter, self._header)


class _CsvWriter:
    def __init__(self, path: Path, encoding: str, delimiter: str, header: _Header) -> None:
        self._width = len(header.columns)
        self._file = path.open("w", encoding=encoding, newline="")
        self._csv = csv.writer(self._file, delimiter=delimiter)
        for title in header.titles:
            self._csv.writerow(title)
        self._csv.writerow([*header.columns, *ADDED])

    def write(self, cells: Sequence[Cell], added: tuple[int, str, str, str]) -> None:
        self._csv.writerow([*_filled(cells, self._width), *added])

    def close(self) -> None:
        self._file.close()


class _Excel:
    suffix = ".xlsx"
    unit = "rows"

    def __init__(self, path: Path, layout: Layout) -> None:
        from python_calamine import CalamineError, CalamineWorkbook

        if zipfile.is_zipfile(path):
            _fits_in_memory(path)
        try:
            book = CalamineWorkbook.from_path(path)
            names = book.sheet_names
            sheet = layout.sheet or (names[0] if len(names) == 1 else "")
            if sheet not in names:
                raise TableError(
                    f"{path} has the sheets {', '.join(names)}: name one by `sheet` in [file] of "
                    "a mapping"
                )
            found = book.get_sheet_by_name(sheet)
        except CalamineError as error:
            raise TableError(f"{path} is not Excel: {error}; save it as .xlsx") from None
        self._sheet = sheet
        self.told = f"Excel, sheet {sheet}"
        self._first = found.start[0] if found.start else 0
        self._read: Callable[[], Iterator[list[Any]]] = found.iter_rows
        titles: list[list[Any]] = []
        for number, cells in self._numbered():
            if number < layout.header:
                titles.append(_trimmed(cells))
                continue
            header = _Header.of(path, _trimmed(cells), titles)
            break
        else:
            raise TableError(f"{path} has nothing on sheet {sheet}: name another, or fill it")
        self._header = header
        self.columns = header.columns
        self._header_row = number
        self.size = self._first + found.height - number

    def _numbered(self) -> Iterator[tuple[int, list[Any]]]:
        yield from enumerate(self._read(), start=1)

    def rows(self) -> Iterator[TableRow]:
        width = self._header.width
        for number, cells in self._numbered():
            if number <= self._header_row or not any(cell != "" for cell in cells):
                continue
            if len(cells) > width and any(cell != "" for cell in cells[width:]):
                yield TableRow(number, 1, cells, f"cells to the right of the {width} named columns")
            else:
                yield TableRow(number, 1, self._header.cells(_filled(cells, width)))

    def writer(self, path: Path) -> "_ExcelWriter":
        return _ExcelWriter(path, self._sheet, self._header)


class _ExcelWriter:
    def __init__(self, path: Path, sheet: str, header: _Header) -> None:
        from xlsxwriter import Workbook

        self._width = len(header.columns)
        self._book = Workbook(path, {"constant_memory": True})
        self._sheet = self._book.add_worksheet(sheet)
        self._formats = {
            datetime: self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
            date: self._book.add_format({"num_format": "yyyy-mm-dd"}),
            time: self._book.add_format({"num_format": "hh:mm:ss"}),
        }
        self._next = 0
        for title in header.titles:
            self._add(title)
        self._add([*header.columns, *ADDED])

    def write(self, cells: Sequence[Cell], added: tuple[int, str, str, str]) -> None:
        self._add([*_filled(cells, self._width), *added])

    def _add(self, cells: Sequence[Cell]) -> None:
        for column, cell in enumerate(cells):
            if cell is None or cell == "":
                continue
            if isinstance(cell, bool):
                self._sheet.write_boolean(self._next, column, cell)
            elif isinstance(cell, int | float | Decimal):
                self._sheet.write_number(self._next, column, cell)
            elif isinstance(cell, date | time):
                shown = self._formats[type(cell)]
                self._sheet.write_datetime(self._next, column, cell, shown)
            else:
                self._sheet.write_string(self._next, column, str(cell))
        self._next += 1

    def close(self) -> None:
        self._book.close()


class _Parquet:
    suffix = ".parquet"
    unit = "rows"

    def __init__(self, path: Path, layout: Layout) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._path = path
        try:
            with pq.ParquetFile(path) as file:
                self._schema: pa.Schema = file.schema_arrow
                self.size = file.metadata.num_rows
        except pa.ArrowException as error:
            raise TableError(f"{path} is not Parquet: {error}") from None
        self.told = "Parquet"
        self._header = _Header.of(path, self._schema.names, [])
        self.columns = self._header.columns

    def rows(self) -> Iterator[TableRow]:
        import pyarrow.parquet as pq

        number = 0
        with pq.ParquetFile(self._path) as file:
            for batch in file.iter_batches(batch_size=1000):
                columns = [_values(batch.column(i)) for i in self._header.kept]
                for cells in zip(*columns, strict=True):
                    number += 1
                    yield TableRow(number, 1, cells)

    def writer(self, path: Path) -> "_ParquetWriter":
        return _ParquetWriter(path, self._schema, self._header)


class _ParquetWriter:
    def __init__(self, path: Path, schema: "pa.Schema", header: _Header) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        own = [schema.field(i) for i in header.kept]
        added = [
            pa.field(ADDED[0], pa.int64()),
            *(pa.field(name, pa.string()) for name in ADDED[1:]),
        ]
        self._schema = pa.schema([*own, *added])
        self._writer = pq.ParquetWriter(path, self._schema)
        self._rows: list[list[Any]] = []

    def write(self, cells: Sequence[Cell], added: tuple[int, str, str, str]) -> None:
        self._rows.append([*cells, *added])
        if len(self._rows) == 1000:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = zip(*self._rows, strict=True)
        arrays = [
            pa.array(column, type=field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


def _fits_in_memory(path: Path) -> None:
    """Refuse an Excel file that could not be read into memory: its sheets are kept as rectangles.

    Raises:
        TableError: it is too large, or a cell stands far outside of its table.
    """
    try:
        with zipfile.ZipFile(path) as book:
            members = book.infolist()
            if sum(member.file_size for member in members) > _MOST_EXCEL_BYTES:
                raise TableError(f"{path} is too large for Excel: save it as CSV")
            for member in members:
                if member.filename.startswith("xl/worksheets/") and _is_too_wide(book, member):
                    raise TableError(
                        f"{path} has a cell far outside of its table: delete the rows and columns "
                        "beside the table, or save it as CSV"
                    )
    except _BROKEN_ZIP as error:
        raise TableError(f"{path} is not Excel: {error}; save it as .xlsx") from None


def _is_too_wide(book: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Tell whether a sheet would be more than `_MOST_CELLS`."""
    rows = columns = 0
    kept = b""
    with book.open(member) as sheet:
        while block := sheet.read(_BLOCK):
            text = kept + block
            for letters, row in _FAR_CELL.findall(text):
                columns = max(columns, _column_number(letters))
                rows = max(rows, int(row))
            rows = max(rows, max(map(int, _ROW.findall(text)), default=0))
            kept = text[-_LONGEST_TAG:]
    return rows * columns > _MOST_CELLS


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


_OPENERS: Final[dict[str, Callable[[Path, Layout], Table]]] = {
    ".csv": _Csv,
    ".xlsx": _Excel,
    ".xls": _Excel,
    ".parquet": _Parquet,
}


def detect_encoding(path: Path) -> str:
    """Return the encoding of a file of text: by its byte order mark, else UTF-8 or GB18030.

    All of it is decoded: a file is UTF-8 or it is not, and hardly a Chinese one is both.

    Raises:
        TableError: it is none of them.
    """
    with path.open("rb") as file:
        start = file.read(4)
    for mark, encoding in _BOMS:
        if start.startswith(mark):
            return encoding
    for encoding in ("utf-8", "gb18030"):
        with suppress(UnicodeDecodeError):
            _decode(path, encoding)
            return encoding
    raise TableError(f"{path} is neither UTF-8 nor UTF-16 nor GB18030: save it as UTF-8")


def _decode(path: Path, encoding: str) -> None:
    decoder = codecs.getincrementaldecoder(encoding)()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            decoder.decode(block)
    decoder.decode(b"", final=True)


def _trimmed(cells: Sequence[Any]) -> list[Any]:
    """The cells without the empty ones at the end."""
    width = max((i + 1 for i, cell in enumerate(cells) if cell != ""), default=0)
    return list(cells[:width])


def _filled(cells: Sequence[Cell], width: int) -> Sequence[Cell]:
    """The cells, as many as there are columns."""
    if len(cells) == width:
        return cells
    return [*cells[:width], *[""] * (width - len(cells))]


def _values(column: "pa.Array") -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's times have microseconds; no source of records has more.
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    values: list[Any] = column.to_pylist()
    return values
