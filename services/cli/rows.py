"""Records from files: JSON lines in the protocol's JSON form, or CSV with a field path per column.

A path begins in the record or in its payload. `record.` or the payload's name before it says which;
a name that both have needs one of them.

A row that cannot be read is reported and never stops the file. Its message never holds the value.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import Parse, ParseError
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.common.v1.types_pb2 import DatePeriod
from puhui.datashare.v1.records_pb2 import Record
from puhui_client import values
from services.cli.inputs import NOT_UTF8

if TYPE_CHECKING:
    from google.protobuf.message import Message

_INTEGERS = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    | {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
)
_RECORD = "record"
_YES_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class HeaderError(Exception):
    """The file as a whole cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class Row:
    """A row of a file; exactly one of record and problem is there.

    Args:
        line: its line in the file, from 1.
        size: its bytes, or characters of a CSV row.
        record: what it says.
        field: path of the field that cannot be read, where that is known.
        problem: why it cannot be read.
    """

    line: int
    size: int
    record: Record | None = None
    field: str = ""
    problem: str = ""


def check_header(path: Path, record_type: str) -> None:
    """Read no more of a file than what has to be right before its first row.

    Raises:
        HeaderError: as `read` does.
    """
    if path.suffix.lower() == ".csv":
        next(read(path, record_type), None)


def read(path: Path, record_type: str) -> Iterator[Row]:
    """Go through the rows of a file.

    Args:
        path: `.csv` is CSV, everything else JSON lines.
        record_type: of every row; empty where each row names its own (JSON lines only).

    Raises:
        HeaderError: the type or a column is unknown, or the file is not CSV in UTF-8.
    """
    if path.suffix.lower() != ".csv":
        yield from _lines(path, record_type)
        return
    try:
        yield from _csv(path, record_type)
    except UnicodeDecodeError:
        raise HeaderError(f"{path} {NOT_UTF8}") from None
    except csv.Error as error:
        raise HeaderError(f"{path} is not CSV: {error}") from None


def _lines(path: Path, record_type: str) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            record = Record()
            try:
                if not line.lstrip().startswith(b"{"):
                    raise ParseError
                Parse(line.decode(), record)
            except (ParseError, UnicodeDecodeError) as error:
                yield Row(number, len(line), problem=_told(line, error))
                continue
            if not record.record_type:
                record.record_type = record_type or record.WhichOneof("payload") or ""
            yield Row(number, len(line), record)


def _told(line: bytes, error: Exception) -> str:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON: one record per line, in UTF-8"
    text = str(error)
    if "no field named" in text:
        # The only message of the parser's that is useful and holds a name, not a value.
        return text.partition("\n")[0].partition("Available Fields")[0].strip().rstrip(".")
    return "not a record of puhui.datashare.v1: a value has the wrong type or form"


def _csv(path: Path, record_type: str) -> Iterator[Row]:
    if not record_type:
        raise HeaderError("a CSV file holds one type of record: name it by --type")
    payload = Record.DESCRIPTOR.oneofs_by_name["payload"].fields
    if record_type not in {field.name for field in payload}:
        raise HeaderError(f"unknown record type {record_type}; see `puhui catalogue list`")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, None)
        if header is None:
            raise HeaderError(f"{path} is empty: its first line names the columns")
        setters = [_setter(name.strip(), record_type) for name in header]
        for cells in reader:
            if not cells:
                continue
            yield _row(reader.line_num, cells, header, setters, record_type)


_Setter = Callable[[Record, str], None]


def _row(
    line: int, cells: list[str], header: list[str], setters: list[_Setter], record_type: str
) -> Row:
    size = sum(map(len, cells)) + len(cells)
    if len(cells) != len(header):
        problem = f"{len(cells)} cells where the header has {len(header)}"
        return Row(line, size, problem=problem)
    record = Record(record_type=record_type)
    for name, setter, cell in zip(header, setters, cells, strict=True):
        if text := cell.strip():
            try:
                setter(record, text)
            except ValueError as error:
                return Row(line, size, field=name, problem=str(error))
    return Row(line, size, record)


def _setter(path: str, record_type: str) -> _Setter:
    """Return what puts a cell into the field that a column names, of Record or of the payload.

    Raises:
        HeaderError: there is no such field, or there are two.
    """
    names = path.split(".")
    own = Record.DESCRIPTOR.fields_by_name
    payload = own[record_type].message_type
    if names[0] == _RECORD and len(names) > 1:
        del names[0]
    elif names[0] not in own:
        names.insert(0, record_type)
    elif payload is not None and names[0] in payload.fields_by_name:
        raise HeaderError(
            f"column {path} is a field of the record and of {record_type}: "
            f"write {_RECORD}.{path} or {record_type}.{path}"
        )
    descriptor: Descriptor | None = Record.DESCRIPTOR
    parents: list[str] = []
    for name in names[:-1]:
        field = None if descriptor is None else descriptor.fields_by_name.get(name)
        if field is None or field.message_type is None:
            raise HeaderError(_unknown(path, record_type))
        parents.append(name)
        descriptor = field.message_type
    last = None if descriptor is None else descriptor.fields_by_name.get(names[-1])
    if last is None:
        raise HeaderError(_unknown(path, record_type))
    put = _putter(last, path)

    def setter(record: Record, text: str) -> None:
        message: Any = record
        for name in parents:
            message = getattr(message, name)
        put(message, text)

    return setter


def _unknown(path: str, record_type: str) -> str:
    return f"unknown column {path}: name fields of Record or of {record_type}, as in the .proto"


def _putter(field: FieldDescriptor, path: str) -> "Callable[[Message, str], None]":
    name, message_type = field.name, field.message_type
    if message_type is not None:
        make = _MESSAGES.get(message_type.full_name)
        if make is None:
            raise HeaderError(f"column {path} is no single value: name the fields in it")
        return lambda message, text: getattr(message, name).CopyFrom(make(text))
    convert = _converter(field)
    if field.is_repeated:
        return lambda message, text: getattr(message, name).extend(
            convert(part.strip()) for part in text.split(";")
        )

    def put(message: "Message", text: str) -> None:
        value = convert(text)
        try:
            setattr(message, name, value)
        except ValueError:  # protobuf's own, which repeats the value
            raise ValueError("out of the field's range") from None

    return put


def _converter(field: FieldDescriptor) -> Callable[[str], Any]:
    kind, enum = field.cpp_type, field.enum_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return _boolean
    if enum is not None:
        return _enum(enum)
    if kind in _INTEGERS:
        return _integer
    if field.type == FieldDescriptor.TYPE_BYTES:
        raise HeaderError(f"column {field.name} is the platform's to fill: leave it out")
    return str


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("not a whole number") from None


def _boolean(text: str) -> bool:
    value = _YES_NO.get(text.lower())
    if value is None:
        raise ValueError("neither true nor false")
    return value


def _enum(enum: EnumDescriptor) -> Callable[[str], int]:
    unset = enum.values_by_number[0].name
    prefix = unset.removesuffix("UNSPECIFIED")
    numbers = {value.name.removeprefix(prefix): value.number for value in enum.values}
    choices = ", ".join(name.lower() for name in numbers if numbers[name])

    def number(text: str) -> int:
        found = numbers.get(text.upper().removeprefix(prefix))
        if found is None:
            raise ValueError(f"not one of {choices}")
        return found

    return number


def _money(text: str) -> Money:
    amount, _, currency = text.partition(" ")
    return values.to_money(amount, currency.strip() or "CNY")


def _day(text: str) -> Date:
    return values.to_date(_iso_day(text))


def _period(text: str) -> DatePeriod:
    first, slash, last = text.partition("/")
    if slash:
        return values.to_period(_iso_day(first), _iso_day(last))
    try:
        month = datetime.strptime(text, "%Y-%m")  # noqa: DTZ007 - a month has no zone
    except ValueError:
        raise ValueError("not a period: write 2024-05 or 2024-05-01/2024-05-31") from None
    return values.to_period(*values.month(month.year, month.month))


def _time(text: str) -> Timestamp:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("not a time: write 2024-05-31T18:00:00+08:00") from None
    return values.to_timestamp(moment)


def _iso_day(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("not a day: write 2024-05-31") from None


_MESSAGES: "dict[str, Callable[[str], Message]]" = {
    "google.type.Money": _money,
    "google.type.Date": _day,
    "puhui.common.v1.DatePeriod": _period,
    "google.protobuf.Timestamp": _time,
}
