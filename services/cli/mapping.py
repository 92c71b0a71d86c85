"""Mappings: TOML files that say which column of a table is which field, and how it is written.

Nothing is converted that the mapping does not say, and a key that it does not know is an error.
Columns that it does not name are not sent.
"""

import difflib
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from puhui.datashare.v1.records_pb2 import Record
from services.cli.fields import (
    NO_NULLS,
    PERCENT,
    PLAIN,
    UNITS,
    FieldError,
    Put,
    Reading,
    Target,
    find,
    putter,
    text_of,
)
from services.cli.tables import ENCODINGS, Cell, Layout

DRAFT: Final = "draft"
"""Key of a mapping that was guessed; it is not used before somebody took the key out."""

_TOP: Final = ("record_type", "file", "columns", "constants", "record_id", DRAFT)
_FILE: Final = {"encoding": str, "delimiter": str, "sheet": str, "header": int, "null": list}
_RECORD_ID: Final = ("columns", "join", "prefix")
_CONVERSIONS: Final = tuple(f.name for f in fields(Reading))


class MappingError(Exception):
    """A mapping is wrong, or does not fit a file; the message names the key and the remedy."""


@dataclass(frozen=True)
class Column:
    """What a column is.

    Args:
        name: of the column.
        target: the field that it fills.
        reading: how it is written.
    """

    name: str
    target: Target
    reading: Reading = PLAIN


@dataclass(frozen=True)
class RecordId:
    """How `provider_record_id` is built from several columns.

    Args:
        columns: their names, in order.
        join: what stands between them.
        prefix: what stands before them.
    """

    columns: tuple[str, ...]
    join: str = ":"
    prefix: str = ""


@dataclass(frozen=True)
class ColumnMapping:
    """What the columns of a table are.

    Args:
        record_type: of every row.
        columns: what they fill.
        constants: what every row has, by field.
        record_id: how the id is built, where no column is it.
        layout: how the file is read.
        digest: of the file that it was read from; empty without one.
    """

    record_type: str
    columns: tuple[Column, ...]
    constants: tuple[tuple[Target, str], ...] = ()
    record_id: RecordId | None = None
    layout: Layout = field(default_factory=Layout)
    digest: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it reads, each once."""
        wanted = [column.name for column in self.columns]
        if self.record_id is not None:
            wanted += self.record_id.columns
        return tuple(dict.fromkeys(wanted))


@dataclass(frozen=True)
class Problem:
    """Why a row cannot be sent.

    Args:
        column: of the table; empty where it is of none.
        field: path of the field.
        problem: what is wrong, without the value.
    """

    column: str
    field: str
    problem: str


def read_mapping(path: Path) -> ColumnMapping:
    """Return the mapping in a file.

    Raises:
        MappingError: it is wrong.
    """
    try:
        content = path.read_bytes()
        mapping = parse_mapping(tomllib.loads(content.decode("utf-8-sig")))
        return replace(mapping, digest=hashlib.sha256(content).hexdigest())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path} is not TOML in UTF-8: {error}") from None
    except MappingError as error:
        raise MappingError(f"{path}: {error}") from None


def parse_mapping(content: Mapping[str, Any]) -> ColumnMapping:
    """Return the mapping that a TOML document is.

    Raises:
        MappingError: it is wrong.
    """
    _check_keys(content, _TOP, "the mapping")
    if DRAFT in content:
        raise MappingError(
            f"it is a draft that was guessed: check every line, then delete the line `{DRAFT}`"
        )
    record_type = content.get("record_type")
    if not isinstance(record_type, str) or record_type not in record_types():
        raise MappingError(
            'record_type: name one of `puhui catalogue list`, such as record_type = "vat_invoice"'
        )
    layout, nulls = _layout(_table(content, "file"))
    columns = [
        _column(name, one, record_type, nulls)
        for name, entry in _table(content, "columns").items()
        for one in (entry if isinstance(entry, list) else [entry])
    ]
    constants = [
        _constant(path, value, record_type) for path, value in _table(content, "constants").items()
    ]
    record_id = _record_id(content)
    paths = [column.target.path for column in columns] + [target.path for target, _ in constants]
    if record_id is not None:
        paths.append("provider_record_id")
    _check_paths(paths)
    return ColumnMapping(record_type, tuple(columns), tuple(constants), record_id, layout)


def plain_mapping(columns: Sequence[str], record_type: str) -> ColumnMapping:
    """Return the mapping of a table whose header names fields, all in the protocol's form.

    Raises:
        MappingError: the type or a column is unknown.
    """
    if not record_type:
        raise MappingError("a table holds one type of record: name it by --type, or give --mapping")
    if record_type not in record_types():
        raise MappingError(f"unknown record type {record_type}; see `puhui catalogue list`")
    found = []
    for name in columns:
        try:
            target = find(name, record_type)
        except FieldError as error:
            raise MappingError(
                f"column {name}: {error}; or give --mapping, which `puhui mapping init` drafts"
            ) from None
        found.append(Column(name, target))
    _check_paths([column.target.path for column in found])
    return ColumnMapping(record_type, tuple(found))


def record_types() -> frozenset[str]:
    """Return the types of record that the protocol has payloads for."""
    payloads = Record.DESCRIPTOR.oneofs_by_name["payload"].fields
    return frozenset(field.name for field in payloads)


def _check_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise MappingError(f"unknown key {key} in {where}: {remedy}")


def _check_paths(paths: Sequence[str]) -> None:
    for path in paths:
        if paths.count(path) > 1:
            raise MappingError(f"two things fill {path}: keep one")
    for path in paths:
        inside = next((other for other in paths if other.startswith(f"{path}.")), None)
        if inside is not None:
            raise MappingError(f"both {path} and {inside} are filled: keep one")


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise MappingError(f"{key} should be a table: write [{key}]")
    if key == "columns" and not table:
        raise MappingError('[columns] is missing: name columns, such as "发票号码" = "number"')
    return table


def _layout(table: Mapping[str, Any]) -> tuple[Layout, frozenset[str]]:
    _check_keys(table, tuple(_FILE), "[file]")
    for key, value in table.items():
        if not isinstance(value, _FILE[key]) or isinstance(value, bool):
            raise MappingError(f"{key} in [file] should be of type {_FILE[key].__name__}")
    encoding = table.get("encoding", "").lower()
    if encoding and encoding not in ENCODINGS:
        raise MappingError(f"encoding in [file]: there are {', '.join(ENCODINGS)}")
    delimiter = table.get("delimiter", ",")
    if len(delimiter) != 1:
        raise MappingError("delimiter in [file] should be one character")
    header = table.get("header", 1)
    if header < 1:
        raise MappingError("header in [file] is the number of a row, from 1")
    nulls = _nulls(table["null"], "[file]") if "null" in table else NO_NULLS
    return Layout(encoding, delimiter, table.get("sheet", ""), header), nulls


def _nulls(value: object, where: str) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise MappingError(f'null in {where} should be a list of texts, such as ["", "-", "--"]')
    return frozenset(value) | NO_NULLS


def _column(name: str, entry: object, record_type: str, nulls: frozenset[str]) -> Column:
    where = f"column {name}"
    if isinstance(entry, str):
        entry = {"field": entry}
    if not isinstance(entry, dict):
        raise MappingError(f'{where}: write a field, or {{ field = "net", unit = "元" }}')
    _check_keys(entry, ("field", *_CONVERSIONS), where)
    if not isinstance(entry.get("field"), str):
        raise MappingError(f"{where}: `field` is missing: name the field that it fills")
    try:
        target = find(entry["field"], record_type)
        reading = _reading(entry, target, where)
        reading = replace(reading, null=reading.null if "null" in entry else nulls)
        putter(target, reading)
        put = putter(target)
    except FieldError as error:
        raise MappingError(f"{where}: {error}") from None
    for code in reading.codes.values():
        try:
            put(Record(), code)
        except ValueError as error:
            raise MappingError(f"{where}: the code {code} is {error}") from None
    return Column(name, target, reading)


def _reading(entry: Mapping[str, Any], target: Target, where: str) -> Reading:
    given = {key: value for key, value in entry.items() if key != "field"}
    for key, value in given.items():
        if key not in target.allowed:
            raise MappingError(
                f"{where}: `{key}` does not fit {target.path}, which is a {target.kind}; "
                f"there are {', '.join(sorted(target.allowed))}"
            )
        if key not in {"codes", "null"} and not isinstance(value, str):
            raise MappingError(f'{where}: `{key}` should be a text, such as {key} = "..."')
    if "codes" in given:
        given["codes"] = _codes(given["codes"], where)
    if "null" in given:
        given["null"] = _nulls(given["null"], where)
    reading = Reading(**given)
    if target.kind == "money" and reading.unit not in UNITS:
        raise MappingError(
            f"{where}: {target.path} is an amount: say what it is written in, by `unit`: "
            f"{', '.join(UNITS)}"
        )
    if target.kind == "share" and reading.unit not in {"", PERCENT}:
        raise MappingError(f'{where}: {target.path} is in ppm: say unit = "{PERCENT}", or nothing')
    signs = reading.decimal + reading.thousands
    if not (
        len(reading.decimal) == 1
        and len(reading.thousands) <= 1
        and len(set(signs)) == len(signs)
        and not any(sign.isalnum() or sign in "+-" for sign in signs)
    ):
        raise MappingError(f"{where}: `decimal` and `thousands` are two signs, such as . and ,")
    if reading.codes and target.kind in {"money", "date", "period", "time"}:
        raise MappingError(f"{where}: `codes` does not fit {target.path}, which is a {target.kind}")
    return reading


def _codes(value: object, where: str) -> Mapping[str, str]:
    good = isinstance(value, dict) and all(isinstance(code, str) for code in value.values())
    if not good or not value:
        raise MappingError(f'{where}: `codes` should be a table such as {{ "有效发票" = "VALID" }}')
    return dict(value) if isinstance(value, dict) else {}


def _constant(path: str, value: object, record_type: str) -> tuple[Target, str]:
    where = f"{path} in [constants]"
    if isinstance(value, bool | int):
        value = text_of(value)
    if not isinstance(value, str):
        raise MappingError(f"{where} should be a text: write it as the protocol does")
    try:
        target = find(path, record_type)
        putter(target)(Record(), value)
    except (FieldError, ValueError) as error:
        raise MappingError(f"{where}: {error}") from None
    return target, value


def _record_id(content: Mapping[str, Any]) -> RecordId | None:
    if "record_id" not in content:
        return None
    table = _table(content, "record_id")
    _check_keys(table, _RECORD_ID, "[record_id]")
    columns = table.get("columns")
    if not isinstance(columns, list) or not columns or not all(isinstance(c, str) for c in columns):
        raise MappingError("columns in [record_id] should be a list of columns")
    for key in ("join", "prefix"):
        if not isinstance(table.get(key, ""), str):
            raise MappingError(f"{key} in [record_id] should be a text")
    if len(columns) > 1 and not table.get("join", ":"):
        raise MappingError("join in [record_id] is empty: two rows could have one id")
    return RecordId(tuple(columns), table.get("join", ":"), table.get("prefix", ""))


class Converter:
    """Makes records of the rows of a table.

    Args:
        mapping: what its columns are.
        columns: of the table.

    Attributes:
        unmapped: columns of the table that are not sent.

    Raises:
        MappingError: the table lacks a column that the mapping names.
    """

    def __init__(self, mapping: ColumnMapping, columns: Sequence[str]) -> None:
        self._mapping = mapping
        missing = [name for name in mapping.names if name not in columns]
        if missing:
            near = difflib.get_close_matches(missing[0], columns, 1)
            remedy = (
                f"is it {near[0]}?" if near else f"there are {', '.join(filter(None, columns))}"
            )
            raise MappingError(f"the file has no column {missing[0]}: {remedy}")
        self.unmapped = tuple(name for name in columns if name and name not in mapping.names)
        self._template = Record(record_type=mapping.record_type)
        for target, value in mapping.constants:
            putter(target)(self._template, value)
        self._puts: list[tuple[int, Column, Put]] = [
            (columns.index(column.name), column, putter(column.target, column.reading))
            for column in mapping.columns
        ]
        self._id_at = (
            [columns.index(name) for name in mapping.record_id.columns]
            if mapping.record_id is not None
            else []
        )

    def convert(self, cells: Sequence[Cell]) -> tuple[Record, tuple[Problem, ...], int]:
        """Return the record that a row is as far as it can be read, what cannot, what is filled."""
        record = Record()
        record.CopyFrom(self._template)
        problems: list[Problem] = []
        filled, bit = 0, 1
        for at, column, put in self._puts:
            try:
                if put(record, cells[at]):
                    filled |= bit
            except ValueError as error:
                filled |= bit
                problems.append(Problem(column.name, column.target.path, str(error)))
            bit <<= 1
        if self._id_at:
            self._name(record, cells, problems)
        if record.HasField("hint") and record.subject.WhichOneof("ref"):
            record.ClearField("hint")
        return record, tuple(problems), filled

    def _name(self, record: Record, cells: Sequence[Cell], problems: list[Problem]) -> None:
        rule = self._mapping.record_id
        if rule is None:
            return
        parts = []
        for name, at in zip(rule.columns, self._id_at, strict=True):
            try:
                text = text_of(cells[at])
            except ValueError as error:
                problems.append(Problem(name, "provider_record_id", str(error)))
                return
            if not text:
                problems.append(
                    Problem(name, "provider_record_id", "empty, but a part of the record's id")
                )
                return
            if len(self._id_at) > 1 and rule.join in text:
                problem = f"has {rule.join} in it, which joins the parts of the record's id"
                problems.append(Problem(name, "provider_record_id", problem))
                return
            parts.append(text)
        record.provider_record_id = rule.prefix + rule.join.join(parts)
