"""Reads the catalogue from its TOML files.

The files are package data: a catalogue is part of a release. Every key is checked, so that a typo
in a policy stops the service instead of weakening the policy.
"""

import tomllib
from collections.abc import Mapping
from enum import Enum
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Any, TypeVar

from services.datashare.catalogue.domain import (
    Catalogue,
    CodeList,
    ContentLevel,
    Fold,
    Measure,
    Purpose,
    RecordType,
    SharingMode,
    Text,
    Unit,
)

_E = TypeVar("_E", bound=Enum)
_T = TypeVar("_T")


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

    def text(self) -> Text:
        """Take `zh` and `en`."""
        return Text(self.take("zh", str), self.take("en", str))

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

    def tables(self, key: str) -> Mapping[str, "_Section"]:
        """Take a table of tables."""
        content = self.take(key, dict)
        return {name: _Section(f"{self.where}: {key}.{name}", content[name]) for name in content}

    def end(self) -> None:
        """Complain about keys that nobody took."""
        if self._left:
            raise CatalogueError(f"{self.where}: unknown key `{min(self._left)}`")


def _titles(sections: Mapping[str, _Section]) -> dict[str, Text]:
    titles = {}
    for name, section in sections.items():
        titles[name] = section.text()
        section.end()
    return titles


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
        legal_basis=section.take("legal_basis", str),
        provider_kinds=frozenset(section.strings("provider_kinds")),
        retention_days=section.number("retention_days", 0, 100_000),
        complete_register=section.take("complete_register", bool),
        measures=measures,
        attributes=section.strings("attributes"),
        code_lists=MappingProxyType(
            {
                field: CodeList(field, MappingProxyType(_titles(codes.tables("codes"))))
                for field, codes in section.tables("code_lists").items()
            }
        ),
    )
    section.end()
    if record_type.sharing_mode is SharingMode.ON_CONSENT:
        raise CatalogueError(
            f"{section.where}: `sharing_mode` ON_CONSENT is not enforced yet when records come in: "
            "use STANDING with its legal basis"
        )
    return record_type


def _purpose(code: str, section: _Section) -> Purpose:
    purpose = Purpose(
        code=code,
        title=section.text(),
        max_days=section.number("max_days", 1, 100_000),
        max_content_level=section.member("max_content_level", ContentLevel),
    )
    section.end()
    return purpose


def load(folder: Traversable | None = None) -> Catalogue:
    """Load the catalogue.

    Args:
        folder: holds `purposes.toml` and a folder `policies` with one file per record type; by
            default the package's own.

    Raises:
        CatalogueError: a file is not TOML, or a key is missing, unknown or has a wrong value.
    """
    folder = folder or resources.files("services.datashare.catalogue")
    types = {}
    for file in sorted(folder.joinpath("policies").iterdir(), key=lambda file: file.name):
        name, dot, ending = file.name.rpartition(".")
        if dot and ending == "toml":
            types[name] = _record_type(name, _parse(file))
    purposes = _Section("purposes.toml", {"purposes": _parse(folder.joinpath("purposes.toml"))})
    return Catalogue(
        types=MappingProxyType(types),
        purposes=MappingProxyType(
            {
                code: _purpose(code, section)
                for code, section in sorted(purposes.tables("purposes").items())
            }
        ),
    )


def _parse(file: Traversable) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{file.name}: {error}") from error
