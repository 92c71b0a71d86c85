"""Cells of a bank's table as numbers: amounts, days, truth values, categories.

Invariants: what a cell means depends on the cell alone (and on whether a file writes the day before
the month), never on its neighbours, so that a row has the same inputs whatever it is scored with.
Cells that mark a missing value, and those that cannot be read, are NaN. Whole columns are worked
on, by their distinct values; no loop goes over rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.scoring.training.domain import Floats, Ints

MISSING: Final = (
    "", "na", "n/a", "#n/a", "nan", "null", "nil", "\\n", "?", "-", "--", "—", ".", "无", "缺失",
    "inf", "+inf", "-inf", "infinity", "-infinity", "∞", "-∞",
    "#div/0!", "#value!", "#num!", "#ref!", "#name?", "#null!",
)  # fmt: skip  # a table, line by line
"""Cells that mark a missing value, in lower case; what was divided by 0 has none."""

TRUE: Final = ("1", "yes", "true", "y", "t", "是", "1.0")
FALSE: Final = ("0", "no", "false", "n", "f", "否", "0.0")

_PLAIN: Final = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
_AMOUNT: Final = (
    r"^(?P<open>\()?\s*(?P<sign>[-+])?\s*(?:US\$|USD|CNY|RMB|EUR|GBP|[$¥￥€£])?\s*(?P<sign2>[-+])?\s*"
    r"(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?P<part>\.\d*)?\s*"
    r"(?P<unit>%|％|元|万元|万|亿元|亿|[kKM]|USD|CNY|RMB|EUR|[$¥￥€£])?\s*\)?$"
)
_DECIMAL_COMMA: Final = r"^[-+]?(\d{1,3}(\.\d{3})+|\d+),(\d{1,2}|\d{4,})$|^[-+]?0,\d+$"
_UNITS: Final = {"万": 1e4, "万元": 1e4, "亿": 1e8, "亿元": 1e8, "k": 1e3, "K": 1e3, "M": 1e6}

_CLOCK: Final = r"(?:[T ].*)?$"
_DATES: Final = (
    r"^(?P<y>\d{4})[-/.年](?P<m>\d{1,2})[-/.月](?P<d>\d{1,2})日?" + _CLOCK,
    r"^(?P<y>(?:19|20)\d{2})(?P<m>\d{2})(?P<d>\d{2})$",
    r"^(?P<d>\d{1,2})[- ](?P<mon>[A-Za-z]{3,9})[-, ]+(?P<y>\d{4}|\d{2})" + _CLOCK,
    r"^(?P<mon>[A-Za-z]{3,9})\.?[- ](?P<d>\d{1,2}),? +(?P<y>\d{4})" + _CLOCK,
    r"^(?P<mon>[A-Za-z]{3,9})[-/ ](?P<y>\d{4}|\d{2})$",
    r"^(?P<y>\d{4})[-/年](?P<m>\d{1,2})月?$",
    r"^(?P<y>\d{4})[- ]?[Qq](?P<q>[1-4])$",
    r"^(?P<y>\d{4})年$",
)
_SLASHED: Final = r"^(?P<a>\d{1,2})[-/.](?P<b>\d{1,2})[-/.](?P<y>\d{4}|\d{2})" + _CLOCK
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_MOST_DAYS: Final = 31
_YEARS: Final = (1900, 2100)
# Two digits: 00 to 49 are this century; SBA's loans begin in 1962, where C's strptime says 2062.
_PIVOT: Final = 50


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of text.

    Args:
        codes: place of a row's cell in `values`; -1 is missing.
        values: distinct cells, without blanks around them.
        counts: rows by value.
    """

    codes: Ints
    values: pa.Array
    counts: Ints

    def spread(self, by_value: Floats) -> Floats:
        """What stands by value, by row."""
        found: Floats = np.append(by_value, np.nan)[self.codes]
        return found

    def share(self, by_value: Floats) -> float:
        """Share of the rows with a cell where something stands."""
        rows = int(self.counts.sum())
        return float(self.counts[~np.isnan(by_value)].sum()) / rows if rows else 0.0

    def examples(self, which: Any, limit: int = 3) -> list[str]:
        """The most frequent of some values."""
        places = np.flatnonzero(which)
        order = places[np.argsort(-self.counts[places], kind="stable")][:limit]
        return [str(self.values[int(at)].as_py()) for at in order]


NO_TEXTS: Final = Texts(
    np.zeros(0, dtype=np.int64), pa.array([], pa.large_string()), np.zeros(0, dtype=np.int64)
)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether cells of a type are text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)
    )


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """A column without what is but a way to store it."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def is_number(kind: pa.DataType) -> bool:
    """Tell whether cells of a type are numbers."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def is_date(kind: pa.DataType) -> bool:
    """Tell whether cells of a type are days or times."""
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def is_readable(kind: pa.DataType) -> bool:
    """Tell whether cells of a type can be an input at all."""
    return is_text(kind) or is_number(kind) or is_date(kind) or bool(pa.types.is_boolean(kind))


def texts(column: pa.Array | pa.ChunkedArray) -> Texts:
    """A column as text, whatever its type: a whole number is written without a point."""
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    if pa.types.is_boolean(column.type) or not is_text(column.type):
        column = column.cast(pa.string())
    coded = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    trimmed = pc.utf8_trim_whitespace(coded.dictionary)
    trimmed = pc.replace_substring_regex(trimmed, r"^([-+]?\d+)\.0+$", r"\1")
    missing = pc.is_in(pc.utf8_lower(trimmed), pa.array(MISSING, pa.large_string()))
    kept = pc.if_else(missing, pa.scalar(None, pa.large_string()), trimmed).dictionary_encode()
    place = kept.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = np.append(place, -1)[codes]
    counts = np.bincount(codes[codes >= 0], minlength=len(kept.dictionary)).astype(np.int64)
    return Texts(codes, kept.dictionary, counts)


def kept(column: Texts, rows: Any) -> Texts:
    """Some rows of a column of text; values that no row has any more are dropped."""
    codes = column.codes[rows]
    used, places = np.unique(codes, return_inverse=True)
    if len(used) and used[0] == -1:
        used, places = used[1:], places - 1
    counts = np.bincount(places[places >= 0], minlength=len(used)).astype(np.int64)
    return Texts(places.astype(np.int64), column.values.take(pa.array(used)), counts)


def numbers(values: pa.Array) -> Floats:
    """Texts as numbers: 1234.5, $1,234.50, (1,234.50), 12%, 1.2万; NaN where there is none.

    A percentage is its number: 12% is 12.
    """
    plain = pc.match_substring_regex(values, _PLAIN)
    read = _floats(pc.if_else(plain, values, None))
    rest = np.flatnonzero(~plain.fill_null(False).to_numpy(zero_copy_only=False))
    if len(rest):
        read[rest] = _amounts(values.take(pa.array(rest)))
    return read


def _amounts(values: pa.Array) -> Floats:
    comma = pc.match_substring_regex(values, _DECIMAL_COMMA)
    pointed = pc.replace_substring(pc.replace_substring(values, ".", ""), ",", ".")
    values = pc.if_else(comma, pointed, values)
    parts = pc.extract_regex(values, _AMOUNT)
    whole = pc.replace_substring(pc.struct_field(parts, "whole"), ",", "")
    digits = pc.binary_join_element_wise(
        whole, pc.struct_field(parts, "part"), pa.scalar("", values.type)
    )
    ok = pc.match_substring_regex(digits, _PLAIN)
    read = _floats(pc.if_else(ok, digits, None))
    negative = np.zeros(len(read), dtype=bool)
    for name, mark in (("open", "("), ("sign", "-"), ("sign2", "-")):
        marked = pc.equal(pc.struct_field(parts, name), mark).fill_null(False)
        negative |= marked.to_numpy(zero_copy_only=False)
    read[negative] *= -1
    units = pc.struct_field(parts, "unit")
    for unit, factor in _UNITS.items():
        marked = pc.equal(units, unit).fill_null(False).to_numpy(zero_copy_only=False)
        read[marked] *= factor
    return read


def _floats(values: pa.Array) -> Floats:
    # Whole numbers of more than 53 bits lose their last digits.
    found = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    read = np.array(found, dtype=np.float64)
    read[np.isinf(read)] = np.nan
    return read


def percents(values: pa.Array) -> Any:
    """Which texts are written as percentages."""
    return pc.match_substring_regex(values, r"[%％]\s*$").to_numpy(zero_copy_only=False)


def leading_zeros(values: pa.Array) -> Any:
    """Which texts are digits that begin with a zero: codes, not numbers."""
    return pc.match_substring_regex(values, r"^0\d+$").to_numpy(zero_copy_only=False)


def flags(values: pa.Array) -> Floats:
    """Texts as truth values, 1 and 0; NaN where there is none."""
    lower = pc.utf8_lower(values)
    read = np.full(len(values), np.nan)
    for words, value in ((TRUE, 1.0), (FALSE, 0.0)):
        read[pc.is_in(lower, pa.array(words, lower.type)).to_numpy(zero_copy_only=False)] = value
    return read


def is_pair(values: pa.Array) -> bool:
    """Tell whether texts are but one word for yes and its word for no."""
    found = set(pc.utf8_lower(values).to_pylist()) if len(values) <= 2 else set()
    return any(found and found <= {yes, no} for yes, no in zip(TRUE, FALSE, strict=True))


def days(values: pa.Array, *, day_first: bool) -> Floats:
    """Texts as days since 1970; NaN where there is no date.

    Args:
        values: distinct cells.
        day_first: 3/4/2020 is the third of April.
    """
    read = np.full(len(values), np.nan)
    for pattern in (*_DATES, _SLASHED):
        left = np.flatnonzero(np.isnan(read))
        if not len(left):
            break
        parts = pc.extract_regex(values.take(pa.array(left)), pattern)
        names = [parts.type.field(at).name for at in range(parts.type.num_fields)]
        fields = {name: pc.struct_field(parts, name) for name in names if name}
        read[left] = _days(fields, day_first=day_first)
    return read


def _days(fields: Mapping[str, pa.Array], *, day_first: bool) -> Floats:
    def number(name: str) -> Floats:
        text = fields[name]
        return _floats(pc.if_else(pc.equal(text, ""), None, text))

    year = number("y")
    short = pc.equal(pc.utf8_length(fields["y"]), 2).fill_null(False)
    two = short.to_numpy(zero_copy_only=False)
    year[two] += np.where(year[two] < _PIVOT, 2000, 1900)
    one = np.ones(len(year))
    month, day = one, one
    if "a" in fields:
        first, second = number("a"), number("b")
        day, month = (first, second) if day_first else (second, first)
    if "m" in fields:
        month = number("m")
    if "q" in fields:
        month = number("q") * 3 - 2
    if "mon" in fields:
        name = pc.utf8_lower(pc.utf8_slice_codeunits(fields["mon"], 0, 3))
        place = pc.index_in(name, pa.array(_MONTHS, name.type))
        month = _floats(place) + 1
    if "d" in fields:
        day = number("d")
    return calendar_days(year, month, day)


def calendar_days(year: Floats, month: Floats, day: Floats) -> Floats:
    """Days since 1970 of days in the calendar; NaN where there is no such day."""
    with np.errstate(invalid="ignore"):
        fits = (
            (year >= _YEARS[0]) & (year <= _YEARS[1]) & (month >= 1) & (month <= 12)
            & (day >= 1) & (day <= _MOST_DAYS)
        )  # fmt: skip  # a table, line by line
    read = np.full(len(year), np.nan)
    months = ((year[fits] - 1970) * 12 + month[fits] - 1).astype(np.int64)
    starts = months.astype("datetime64[M]")
    found = starts.astype("datetime64[D]") + (day[fits] - 1).astype("timedelta64[D]")
    same = found.astype("datetime64[M]") == starts
    read[fits] = np.where(same, found.astype(np.int64), np.nan)
    return read


def order_of_days(columns: Sequence[pa.Array]) -> bool | None:
    """Tell whether a file writes 3/4/2020 with the day first; None where nothing tells.

    Args:
        columns: distinct cells of columns.
    """
    first = second = 0
    for values in columns:
        parts = pc.extract_regex(values, _SLASHED)
        a = _floats(pc.if_else(pc.equal(pc.struct_field(parts, "a"), ""), None,
                               pc.struct_field(parts, "a")))  # fmt: skip  # a table, line by line
        b = _floats(pc.if_else(pc.equal(pc.struct_field(parts, "b"), ""), None,
                               pc.struct_field(parts, "b")))  # fmt: skip  # a table, line by line
        first += int((a > 12).sum())
        second += int((b > 12).sum())
    return None if first == second == 0 else first > second


def has_slashed(values: pa.Array) -> bool:
    """Tell whether dates are among texts that the order of day and month matters for."""
    return bool(pc.any(pc.match_substring_regex(values, _SLASHED)).as_py())


def typed_numbers(column: pa.Array | pa.ChunkedArray) -> Floats:
    """A column of numbers or truth values; infinite ones are missing."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return _floats(column)


def typed_days(column: pa.Array | pa.ChunkedArray) -> Floats:
    """A column of days or times as days since 1970."""
    moment = column.cast(pa.date32(), safe=False) if pa.types.is_timestamp(column.type) else column
    return _floats(moment.cast(pa.date32()).cast(pa.int32()))


def periods(values: Floats) -> Floats:
    """Numbers that mean a year, a month (201503) or a day (20150328), as days since 1970.

    A year is its last day, for the year's accounts are known then; NaN where a number means none.
    """
    one = np.ones(len(values))
    found = calendar_days(values, one * 12, one * 31)
    for months in (True, False):
        left = np.isnan(found)
        day = one if months else values % 100
        month = values % 100 if months else np.floor(values / 100) % 100
        year = np.floor(values / (100 if months else 10_000))
        found = np.where(left, calendar_days(year, month, day), found)
    found[values != np.floor(values)] = np.nan
    return found


def moments(column: pa.Array | pa.ChunkedArray, *, day_first: bool) -> Floats:
    """A column of dates, years or months, of any type, as days since 1970."""
    if is_date(column.type):
        return typed_days(column)
    if not is_text(column.type):
        return periods(typed_numbers(column))
    cells = texts(column)
    return cells.spread(text_moments(cells.values, day_first=day_first))


def text_moments(values: pa.Array, *, day_first: bool) -> Floats:
    """Texts that mean dates, years or months as days since 1970."""
    read = days(values, day_first=day_first)
    return np.where(np.isnan(read), periods(numbers(values)), read)
