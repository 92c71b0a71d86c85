"""Reads the catalogue from its TOML files.

The files are package data: a catalogue is part of a release. Every key is checked, so that a typo
in a policy stops the service instead of weakening the policy. So does a policy that contradicts
itself: a rule about a field that the type does not have, sensitive data that is kept without end.
"""

import functools
import tomllib
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, Final, TypeVar

from services.datashare.catalogue.domain import (
    OCCURRED,
    Catalogue,
    CodeList,
    ContentLevel,
    Field,
    FieldUnit,
    Fold,
    Measure,
    Purpose,
    RecordType,
    Retention,
    SharingMode,
    Text,
    Unit,
)
from services.datashare.quota.domain import Limit
from services.datashare.quota.domain import Unit as FetchUnit

_E = TypeVar("_E", bound=Enum)
_T = TypeVar("_T")

_MOST_DAYS: Final = 36_500
_MOST_FETCHES: Final = 10_000
_SENSITIVE: Final = 4
_SEVERITY: Final = "severity"


class CatalogueError(ValueError):
    """A policy file is wrong; the message names the file and the key."""


class _Section:
    """A TOML table whose keys are taken one by one; what is left over is an error."""

    def __init__(self, where: str, content: object) -> None:
        if not isinstance(content, dict):
            raise CatalogueError(f"{where}: should be a table")
        self.where = where
        self._left: dict[str, Any] = dict(content)

    def take(self, key: str, kind: type[_T]) -> _T:
        """Take a value of a kind; bool is no int."""
        if key not in self._left:
            raise CatalogueError(f"{self.where}: `{key}` is missing")
        value = self._left.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise CatalogueError(f"{self.where}: `{key}` should be of type {kind.__name__}")
        return value

    def words(self, key: str) -> str:
        """Take a text that is not empty."""
        value = self.take(key, str)
        if not value.strip():
            raise CatalogueError(f"{self.where}: `{key}` is empty")
        return value

    def text(self) -> Text:
        """Take `zh` and `en`."""
        return Text(self.words("zh"), self.words("en"))

    def optional(self, key: str, kind: type[_T], default: _T) -> _T:
        """Take a value of a kind that may be left out."""
        return self.take(key, kind) if key in self._left else default

    def strings(self, key: str) -> tuple[str, ...]:
        """Take a list of distinct strings."""
        values = self.take(key, list)
        if not all(isinstance(value, str) for value in values) or len(set(values)) < len(values):
            raise CatalogueError(f"{self.where}: `{key}` should be a list of distinct strings")
        return tuple(values)

    def member(self, key: str, kind: type[_E]) -> _E:
        """Take the name of an enum's member, in capitals or not."""
        name = self.take(key, str).upper()
        if name not in kind.__members__:
            names = ", ".join(kind.__members__)
            raise CatalogueError(f"{self.where}: `{key}` should be one of {names}")
        return kind[name]

    def number(self, key: str, least: int, most: int) -> int:
        """Take an integer within a range."""
        value = self.take(key, int)
        if not least <= value <= most:
            raise CatalogueError(f"{self.where}: `{key}` should be from {least} to {most}")
        return value

    def optional_tables(self, key: str) -> Mapping[str, "_Section"]:
        """Take a table of tables that may be left out."""
        return self.tables(key) if key in self._left else {}

    def tables(self, key: str) -> Mapping[str, "_Section"]:
        """Take a table of tables."""
        content = self.take(key, dict)
        return {name: _Section(f"{self.where}: {key}.{name}", content[name]) for name in content}

    def end(self) -> None:
        """Complain about keys that nobody took."""
        if self._left:
            raise CatalogueError(f"{self.where}: unknown key `{min(self._left)}`")


def _code_list(field: str, section: _Section) -> CodeList:
    titles = {}
    adverse = set()
    for name, code in section.tables("codes").items():
        titles[name] = code.text()
        if code.optional("adverse", bool, False):
            adverse.add(name)
        code.end()
    section.end()
    return CodeList(field, MappingProxyType(titles), frozenset(adverse))


def _field(name: str, section: _Section) -> Field:
    field = Field(name, section.member("unit", FieldUnit), section.text())
    section.end()
    return field


def _retention(section: _Section) -> Retention:
    by_severity = section.optional(_SEVERITY, dict, {})
    limits = _Section(f"{section.where}: {_SEVERITY}", by_severity)
    retention = Retention(
        days=section.number("days", 0, _MOST_DAYS),
        start=section.words("from"),
        by_severity=MappingProxyType(
            {code: limits.number(code, 0, _MOST_DAYS) for code in by_severity}
        ),
        until_field=section.optional("until_field", str, ""),
        repaired_field=section.optional("repaired_field", str, ""),
    )
    section.end()
    return retention


def _measure(where: str, content: object) -> Measure:
    section = _Section(where, content)
    measure = Measure(
        name=section.take("name", str),
        unit=section.member("unit", Unit),
        fold=section.member("fold", Fold),
        title=section.text(),
    )
    section.end()
    return measure


def _record_type(name: str, content: object) -> RecordType:
    section = _Section(f"{name}.toml", content)
    measures = tuple(
        _measure(f"{section.where}: measures[{index}]", item)
        for index, item in enumerate(section.take("measures", list))
    )
    if len({measure.name for measure in measures}) < len(measures):
        raise CatalogueError(f"{section.where}: two measures have the same name")
    record_type = RecordType(
        name=name,
        schema_version=section.number("schema_version", 1, 1_000_000),
        title=section.text(),
        sensitivity=section.number("sensitivity", 1, 5),
        sharing_mode=section.member("sharing_mode", SharingMode),
        legal_basis=section.words("legal_basis"),
        provider_kinds=frozenset(section.strings("provider_kinds")),
        kept_to_provider=section.take("kept_to_provider", bool),
        retention=_retention(
            _Section(f"{section.where}: retention", section.take("retention", dict))
        ),
        complete_register=section.take("complete_register", bool),
        control_field=section.take("control_field", str),
        measures=measures,
        attributes=section.strings("attributes"),
        fields=tuple(_field(name, part) for name, part in section.tables("fields").items()),
        code_lists=MappingProxyType(
            {
                field: _code_list(field, part)
                for field, part in section.optional_tables("code_lists").items()
            }
        ),
    )
    section.end()
    for problem in _contradictions(record_type):
        raise CatalogueError(f"{section.where}: {problem}")
    return record_type


def _contradictions(policy: RecordType) -> Iterator[str]:
    """Say what in a policy does not fit the rest of it."""
    units = {field.name: field.unit for field in policy.fields}
    retention = policy.retention
    named = [
        ("control_field", policy.control_field, FieldUnit.CNY),
        ("retention.from", "" if retention.start == OCCURRED else retention.start, FieldUnit.DATE),
        ("retention.until_field", retention.until_field, FieldUnit.DATE),
        ("retention.repaired_field", retention.repaired_field, FieldUnit.DATE),
        *(("code_lists", name, FieldUnit.CODE) for name in policy.code_lists),
    ]
    for key, name, unit in named:
        if name and units.get(name) is not unit:
            yield f"`{key}` names `{name}`, which is no field of unit {unit.value}"
    for name in policy.attributes:
        if units.get(name) not in (FieldUnit.CODE, FieldUnit.TEXT):
            yield f"`attributes` names `{name}`, which is no field of unit code or text"
    if not policy.provider_kinds:
        yield "`provider_kinds` is empty: nobody could supply it"
    if policy.sensitivity >= _SENSITIVE and not retention.days:
        yield f"`retention.days` is 0: data of sensitivity {_SENSITIVE} and up has an end"
    if retention.by_severity:
        codes = policy.code_lists.get(_SEVERITY)
        if codes is None or set(codes.codes) != set(retention.by_severity):
            yield "`retention.severity` should have the codes of `code_lists.severity`"
        if retention.days < max(retention.by_severity.values()):
            yield "`retention.days` is less than a day count of `retention.severity`"


def _purpose(code: str, section: _Section, products: Collection[str]) -> Purpose:
    purpose = Purpose(
        code=code,
        title=section.text(),
        consequences=_text(section, "consequences"),
        max_days=section.number("max_days", 1, _MOST_DAYS),
        max_data_days=section.number("max_data_days", 1, _MOST_DAYS),
        max_content_level=section.member("max_content_level", ContentLevel),
        max_fetches=_limit(
            _Section(f"{section.where}: max_fetches", section.take("max_fetches", dict))
        ),
        for_another_firm=section.optional("for_another_firm", bool, False),
        product=section.take("product", str),
    )
    section.end()
    if purpose.product not in products:
        raise CatalogueError(f"{section.where}: `product` is not in products.toml")
    return purpose


def _text(section: _Section, key: str) -> Text:
    part = _Section(f"{section.where}: {key}", section.take(key, dict))
    text = part.text()
    part.end()
    return text


def _limit(section: _Section) -> Limit:
    limit = Limit(section.number("times", 1, _MOST_FETCHES), section.member("per", FetchUnit))
    section.end()
    return limit


def load(folder: Traversable | None = None) -> Catalogue:
    """Load the catalogue.

    Args:
        folder: holds `purposes.toml`, `products.toml`, `kinds.toml` and a folder `policies` with a
            file per record type; by default the package's own, which is read once.

    Raises:
        CatalogueError: a file is not TOML, or a key is missing, unknown or has a wrong value.
    """
    return _own() if folder is None else _read(folder)


@functools.cache
def _own() -> Catalogue:
    return _read(resources.files("services.datashare.catalogue"))


def _read(folder: Traversable) -> Catalogue:
    types = {}
    for file in sorted(folder.joinpath("policies").iterdir(), key=lambda file: file.name):
        name, dot, ending = file.name.rpartition(".")
        if dot and ending == "toml":
            types[name] = _record_type(name, _parse(file))
    kinds = _kinds(folder.joinpath("kinds.toml"), types)
    products = _titles(folder.joinpath("products.toml"))
    table = _parse(folder.joinpath("purposes.toml"))
    head = _Section("purposes.toml", {"version": table.pop("version", None)})
    purposes = _Section("purposes.toml", {"purposes": table})
    return Catalogue(
        types=MappingProxyType(types),
        purposes=MappingProxyType(
            {
                code: _purpose(code, section, products)
                for code, section in sorted(purposes.tables("purposes").items())
            }
        ),
        kinds=kinds,
        purposes_version=head.number("version", 1, 1_000_000),
        products=products,
    )


def _kinds(file: Traversable, types: Mapping[str, RecordType]) -> Mapping[str, Text]:
    titles = _titles(file)
    for name, policy in types.items():
        for kind in sorted(policy.provider_kinds - set(titles)):
            raise CatalogueError(f"{name}.toml: `provider_kinds`: `{kind}` is not in {file.name}")
    return titles


def _titles(file: Traversable) -> Mapping[str, Text]:
    titles = {}
    name = file.name.removesuffix(".toml")
    for code, section in _Section(file.name, {name: _parse(file)}).tables(name).items():
        titles[code] = section.text()
        section.end()
    return MappingProxyType(titles)


def _parse(file: Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{file.name}: {error}") from error
