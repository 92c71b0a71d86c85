"""Fields of a record by their path, and what puts a cell of a table into one.

A path begins in the record or in its payload. `record.` or the payload's name before it says which;
a name that both have needs one of them. A cell is converted as its `Reading` says and no further:
what it does not say has to be in the protocol's own form. The message of a cell that cannot be read
never holds the cell.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.common.v1.types_pb2 import DatePeriod
from puhui.datashare.v1.records_pb2 import Record
from puhui_client import values
from services.cli.forms import Form, FormError
from services.cli.tables import EXCEL_DAYS, Cell

UNITS: Final[Mapping[str, Decimal]] = MappingProxyType(
    {
        "分": Decimal("0.01"),
        "元": Decimal(1),
        "千元": Decimal(1000),
        "万元": Decimal(10_000),
        "亿元": Decimal(100_000_000),
    }
)
"""What an amount may be written in, in CNY or whatever its currency is."""

PERCENT: Final = "%"
"""What a share may be written in; the protocol has it in ppm, in fields named `..._ppm`."""

NO_NULLS: Final[frozenset[str]] = frozenset({""})
_RECORD: Final = "record"
_NOT_OF_A_ROW: Final = {
    "record_type": "the mapping's",
    "recorded_at": "the platform's",
    "known_at": "the platform's",
}
_INTEGERS: Final = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    | {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
)
_YES_NO: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
# Days that Excel's calendar and the real one agree on: it has a 1900-02-29.
_EXCEL_FIRST, _EXCEL_LAST = 61, 2_958_465
# From here on a double skips whole numbers that Excel's 15 digits would have to tell apart.
_EXACT: Final = 10**15
_CACHED: Final = 1 << 16
_NO_NUMBER: Final = "not a finite number: leave the cell empty where there is nothing"


class FieldError(ValueError):
    """There is no such field, or a reading does not fit it; the message says what to write."""


@dataclass(frozen=True)
class Reading:
    """How the cells of a column are written, as far as that is not the protocol's form.

    Args:
        unit: of an amount, one of `UNITS`; empty is an amount as the protocol's files write it,
            with its currency behind it where that is not CNY. Of a share, "%".
        currency: of an amount with a unit.
        decimal: sign before the decimals.
        thousands: sign between groups of three digits; empty allows none.
        date: form of a day; "excel" is a number of days.
        period: form of a period, or "month", "quarter" or "year" of a day.
        time: form of a time; what it does not name is zero.
        zone: offset of times that name none, such as "+08:00".
        codes: what stands for which code; anything else is a problem.
        null: texts that mean that there is nothing.
        split: sign between the items of a list.
    """

    unit: str = ""
    currency: str = "CNY"
    decimal: str = "."
    thousands: str = ""
    date: str = ""
    period: str = ""
    time: str = ""
    zone: str = ""
    codes: Mapping[str, str] = field(default_factory=dict)
    null: frozenset[str] = NO_NULLS
    split: str = ";"


PLAIN: Final = Reading()
"""Of a column whose cells are in the protocol's form."""

_ALLOWED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "money": frozenset({"unit", "currency", "decimal", "thousands"}),
        "date": frozenset({"date"}),
        "period": frozenset({"period"}),
        "time": frozenset({"time", "zone"}),
        "number": frozenset({"thousands"}),
        "share": frozenset({"unit", "decimal"}),
        "text": frozenset(),
        "code": frozenset(),
        "flag": frozenset(),
    }
)
"""Conversions beside `codes` and `null` that each kind of field takes."""


@dataclass(frozen=True)
class Target:
    """A field of a record.

    Args:
        path: from the record on, such as "vat_invoice.net".
        parents: names of the messages around it.
        descriptor: of the field.
        kind: money, date, period, time, number, share, text, code or flag.
    """

    path: str
    parents: tuple[str, ...]
    descriptor: FieldDescriptor
    kind: str

    @property
    def repeated(self) -> bool:
        """Whether it is a list."""
        return bool(self.descriptor.is_repeated)

    @property
    def allowed(self) -> frozenset[str]:
        """Names of the conversions that fit it."""
        split = {"split"} if self.repeated else set()
        return _ALLOWED[self.kind] | {"codes", "null"} | split


def find(path: str, record_type: str) -> Target:
    """Return the field that a path names.

    Raises:
        FieldError: there is none, or there are two, or it is the platform's to fill.
    """
    names = path.split(".")
    own = Record.DESCRIPTOR.fields_by_name
    payload = own[record_type].message_type
    if names[0] == _RECORD and len(names) > 1:
        del names[0]
    elif names[0] not in own:
        names.insert(0, record_type)
    elif payload is not None and names[0] in payload.fields_by_name:
        raise FieldError(
            f"{path} is a field of the record and of {record_type}: "
            f"write {_RECORD}.{path} or {record_type}.{path}"
        )
    descriptor: Descriptor | None = Record.DESCRIPTOR
    for name in names[:-1]:
        parent = None if descriptor is None else descriptor.fields_by_name.get(name)
        if parent is None or parent.message_type is None or parent.is_repeated:
            raise FieldError(_unknown(path, record_type))
        descriptor = parent.message_type
    found = None if descriptor is None else descriptor.fields_by_name.get(names[-1])
    if found is None:
        raise FieldError(_unknown(path, record_type))
    if not names[:-1] and names[0] in _NOT_OF_A_ROW:
        raise FieldError(f"{path} is {_NOT_OF_A_ROW[names[0]]} to fill: leave it out")
    return Target(".".join(names), tuple(names[:-1]), found, _kind(found, path))


def _unknown(path: str, record_type: str) -> str:
    return f"unknown field {path}: name fields of Record or of {record_type}, as in the .proto"


def _kind(found: FieldDescriptor, path: str) -> str:
    if found.message_type is not None:
        kind = _MESSAGES.get(found.message_type.full_name)
        if kind is None or found.is_repeated:
            raise FieldError(f"{path} is no single value: name the fields in it")
        return kind
    if found.enum_type is not None:
        return "code"
    if found.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "flag"
    if found.cpp_type in _INTEGERS:
        return "share" if found.name.endswith("_ppm") else "number"
    if found.type != FieldDescriptor.TYPE_STRING:
        raise FieldError(f"{path} is the platform's to fill: leave it out")
    return "text"


_MESSAGES: Final = {
    "google.type.Money": "money",
    "google.type.Date": "date",
    "puhui.common.v1.DatePeriod": "period",
    "google.protobuf.Timestamp": "time",
}

Put = Callable[[Record, Cell], bool]
"""Puts a cell into a record; tells whether there was something in it. Raises ValueError."""


def putter(target: Target, reading: Reading = PLAIN) -> Put:
    """Return what puts the cells of a column into a field.

    Raises:
        FieldError: the reading has a form that is none.
    """
    convert = _converter(target, reading)
    name, parents = target.descriptor.name, target.parents
    null, codes = reading.null, reading.codes

    def message_of(record: Record) -> Any:
        message: Any = record
        for parent in parents:
            message = getattr(message, parent)
        return message

    if target.repeated:
        items = _items(convert, reading)

        def put(record: Record, cell: Cell) -> bool:
            text = text_of(cell)
            if text in null:
                return False
            getattr(message_of(record), name).extend(items(text))
            return True

    elif target.descriptor.message_type is not None:

        def put(record: Record, cell: Cell) -> bool:
            if cell is None or (isinstance(cell, str) and cell.strip() in null):
                return False
            getattr(message_of(record), name).CopyFrom(convert(cell))
            return True

    else:

        def put(record: Record, cell: Cell) -> bool:
            text = text_of(cell)
            if text in null:
                return False
            if codes:
                text = _code(codes, text)
            value = convert(text)
            try:
                setattr(message_of(record), name, value)
            except ValueError:  # protobuf's own, which repeats the value
                raise ValueError("out of the field's range") from None
            return True

    return put


def _items(convert: Callable[[Any], Any], reading: Reading) -> Callable[[str], list[Any]]:
    def items(text: str) -> list[Any]:
        parts = [part.strip() for part in text.split(reading.split)]
        if reading.codes:
            parts = [_code(reading.codes, part) for part in parts]
        return [convert(part) for part in parts]

    return items


def _code(codes: Mapping[str, str], text: str) -> str:
    code = codes.get(text)
    if code is None:
        raise ValueError("not among the codes of the mapping: correct it, or add it to `codes`")
    return code


def text_of(cell: Cell) -> str:
    """Return a cell as text: a whole number without decimals, a day as 2024-05-31.

    Raises:
        ValueError: a number that the table itself has rounded, or no single value.
    """
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return _text_of_double(cell)
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, Decimal):
        if not cell.is_finite():
            raise ValueError(_NO_NUMBER)
        return format(cell, "f")
    if isinstance(cell, datetime):
        midnight = cell.time() == time.min and cell.tzinfo is None
        return cell.date().isoformat() if midnight else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    raise ValueError("no single value: make it text, a number or a day")


def _text_of_double(number: float) -> str:
    if not isfinite(number):
        raise ValueError(_NO_NUMBER)
    if abs(number) >= _EXACT:
        raise ValueError("a number of more than 15 digits, which was rounded: make the column text")
    if number.is_integer():
        return str(int(number))
    # Excel shows and compares 15 digits; the ones behind them are of binary arithmetic.
    return format(Decimal(format(number, ".15g")), "f")


def _converter(target: Target, reading: Reading) -> Callable[[Any], Any]:
    kind = target.kind
    if kind == "money":
        return _money(reading) if reading.unit else _plain_money
    if kind == "date":
        return _date(reading.date)
    if kind == "period":
        return _period(reading.period)
    if kind == "time":
        return _time(reading)
    if kind == "number":
        return _integer(reading.thousands)
    if kind == "share":
        return _share(reading.decimal) if reading.unit else _integer("")
    if kind == "flag":
        return _flag
    if target.descriptor.enum_type is not None:
        return _enum(target.descriptor.enum_type)
    return str


def _money(reading: Reading) -> Callable[[Cell], Money]:
    factor, currency = UNITS[reading.unit], reading.currency
    number = _number_pattern(reading.decimal, reading.thousands)
    thousands, decimal = reading.thousands, reading.decimal

    def money(cell: Cell) -> Money:
        text = text_of(cell)
        if isinstance(cell, str):
            if not number.fullmatch(text):
                raise ValueError(f"not an amount such as {_example(decimal, thousands)}")
            if thousands:
                text = text.replace(thousands, "")
            if decimal != ".":
                text = text.replace(decimal, ".")
        elif isinstance(cell, bool | date | time):
            raise ValueError("not an amount: make the cell a number")  # noqa: TRY004 - of a cell
        return values.to_money(Decimal(text) * factor, currency)

    return money


@lru_cache
def _number_pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    point = re.escape(decimal)
    plain = r"[0-9]+"
    if thousands:
        plain = rf"(?:[0-9]{{1,3}}(?:{re.escape(thousands)}[0-9]{{3}})+|{plain})"
    return re.compile(rf"[+-]?{plain}(?:{point}[0-9]+)?")


def _example(decimal: str, thousands: str) -> str:
    return f"1{thousands}234{decimal}50"


def _plain_money(cell: Cell) -> Money:
    amount, _, currency = text_of(cell).partition(" ")
    return values.to_money(amount, currency.strip() or "CNY")


def _integer(thousands: str) -> Callable[[str], int]:
    pattern = _number_pattern(".", thousands)

    def integer(text: str) -> int:
        if not pattern.fullmatch(text) or "." in text:
            raise ValueError("not a whole number")
        return int(text.replace(thousands, "") if thousands else text)

    return integer


def _share(decimal: str) -> Callable[[str], int]:
    pattern = _number_pattern(decimal, "")

    def ppm(text: str) -> int:
        number = text.removesuffix(PERCENT).rstrip()
        if not pattern.fullmatch(number):
            raise ValueError(f"not a share in %, such as 12{decimal}5")
        share = Decimal(number.replace(decimal, ".")) * 10_000
        if share != int(share):
            raise ValueError("finer than a millionth: round the share first")
        return int(share)

    return ppm


def _flag(text: str) -> bool:
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


def _date(form: str) -> Callable[[Cell], Date]:
    if form == "excel":
        return lambda cell: values.to_date(_excel_day(cell))
    parse = _iso_day if not form else _form(form, "ymd").day
    read = lru_cache(_CACHED)(lambda text: values.to_date(parse(text)))

    def day(cell: Cell) -> Date:
        if isinstance(cell, datetime):
            return values.to_date(_whole_day(cell))
        if isinstance(cell, date):
            return values.to_date(cell)
        return read(text_of(cell))

    return day


def _whole_day(moment: datetime) -> date:
    if moment.time() != time.min:
        raise ValueError("a time of day where a day should be: make the column days")
    return moment.date()


def _excel_day(cell: Cell) -> date:
    if isinstance(cell, datetime):
        return _whole_day(cell)
    if isinstance(cell, date):
        return cell
    text = text_of(cell)
    if not text.isascii() or not text.isdigit():
        raise ValueError("not a day as Excel counts it: a whole number such as 45443")
    days = int(text)
    if not _EXCEL_FIRST <= days <= _EXCEL_LAST:
        raise ValueError("not a day as Excel counts it: before March 1900, or after 9999")
    return EXCEL_DAYS + timedelta(days=days)


# The rest is how databases write a day that they keep as a time.
_ISO_DAY: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]00:00:00(?:\.0+)?)?")


def _iso_day(text: str) -> date:
    match = _ISO_DAY.fullmatch(text)
    if match is None:
        raise ValueError("not a day: write 2024-05-31")
    try:
        return date.fromisoformat(match[1])
    except ValueError:
        raise ValueError("there is no such day: correct it") from None


def _period(form: str) -> Callable[[Cell], DatePeriod]:
    if form in {"month", "quarter", "year"}:
        return lambda cell: values.to_period(*_around(_day_of(cell), form))
    parse = _iso_period if not form else _form(form, "ymq").period
    read = lru_cache(_CACHED)(lambda text: values.to_period(*parse(text)))
    return lambda cell: read(text_of(cell))


def _day_of(cell: Cell) -> date:
    if isinstance(cell, datetime):
        return cell.date()
    return cell if isinstance(cell, date) else _iso_day(text_of(cell))


def _around(day: date, length: str) -> tuple[date, date]:
    if length == "year":
        return date(day.year, 1, 1), date(day.year, 12, 31)
    if length == "quarter":
        last = (day.month + 2) // 3 * 3
        return date(day.year, last - 2, 1), values.month(day.year, last)[1]
    return values.month(day.year, day.month)


def _iso_period(text: str) -> tuple[date, date]:
    first, slash, last = text.partition("/")
    if slash:
        return _iso_day(first.strip()), _iso_day(last.strip())
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}", text) and 1 <= int(text[5:]) <= 12 and int(text[:4]):
        return values.month(int(text[:4]), int(text[5:]))
    raise ValueError("not a period: write 2024-05 or 2024-05-01/2024-05-31")


def _time(reading: Reading) -> Callable[[Cell], Timestamp]:
    zone = _zone(reading.zone) if reading.zone else None
    form = _form(reading.time, "ymdHMS") if reading.time else None

    @lru_cache(_CACHED)
    def read(text: str) -> Timestamp:
        if form is not None:
            moment = form.moment(text)
        else:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                raise ValueError("not a time: write 2024-05-31T18:00:00+08:00") from None
        return _aware(moment)

    def _aware(moment: datetime) -> Timestamp:
        if moment.tzinfo is None and zone is not None:
            moment = moment.replace(tzinfo=zone)
        return values.to_timestamp(moment)

    def stamp(cell: Cell) -> Timestamp:
        if isinstance(cell, datetime):
            return _aware(cell)
        if isinstance(cell, date):
            return _aware(datetime(cell.year, cell.month, cell.day))  # noqa: DTZ001 - the mapping says the zone, or it is refused
        return read(text_of(cell))

    return stamp


def _zone(text: str) -> timezone:
    match = re.fullmatch(r"([+-])([0-9]{2}):([0-9]{2})", text)
    if match is None or int(match[2]) > 23 or int(match[3]) > 59:
        raise FieldError(f"zone = {text!r} is none: write it as +08:00")
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _form(text: str, needed: str) -> Form:
    try:
        return Form(text, needed)
    except FormError as error:
        raise FieldError(str(error)) from None
