"""Record types and purposes as policy.

Invariants: a record type's measures have distinct names and keep the order of the policy file;
shapes and ranges of payloads are not here but in the .proto files; nothing changes after loading.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from services.kit.errors import invalid_field


class SharingMode(IntEnum):
    """On what the sharing of a type rests. The numbers are those of the .proto."""

    OPEN = 1
    STANDING = 2
    ON_CONSENT = 3


class ContentLevel(IntEnum):
    """How much of the data a consent opens; each level includes the ones below it."""

    PROFILE = 1
    SUMMARY = 2
    TRANSACTIONS = 3


class Unit(StrEnum):
    """What the integers of a measure count."""

    COUNT = "count"
    FEN = "fen"
    DAYS = "days"
    DAY = "day"
    PPM = "ppm"
    LEVEL = "level"


class Fold(StrEnum):
    """How the records of a month become the measure's value; 0 where no record says anything."""

    SUM = "sum"
    MAX = "max"
    LATEST = "latest"
    DERIVED = "derived"


@dataclass(frozen=True)
class Text:
    """Words in both languages."""

    zh: str
    en: str


@dataclass(frozen=True)
class Measure:
    """A column of a type's monthly summary."""

    name: str
    unit: Unit
    fold: Fold
    title: Text


@dataclass(frozen=True)
class CodeList:
    """The codes that a field of the payload may hold.

    Args:
        field: the field of the payload.
        codes: title of each code, in the order of the policy file.
    """

    field: str
    codes: Mapping[str, Text]


@dataclass(frozen=True)
class RecordType:
    """The policy of one record type.

    Args:
        name: as in `Record.record_type`; the payload's field in the .proto has the same name.
        schema_version: newest version of the payload that is accepted.
        title: its name.
        sensitivity: level of JR/T 0197-2020, 1 (public) to 5.
        sharing_mode: on what its sharing rests.
        legal_basis: the law or rule that says so.
        provider_kinds: kinds of provider that may supply it.
        retention_days: days after occurrence that a record is kept; 0 is without end.
        complete_register: a subject that is not in it has none.
        measures: columns of its summary, in order.
        attributes: code-like fields whose latest value the summary holds.
        code_lists: by field of the payload.
    """

    name: str
    schema_version: int
    title: Text
    sensitivity: int
    sharing_mode: SharingMode
    legal_basis: str
    provider_kinds: frozenset[str]
    retention_days: int
    complete_register: bool
    measures: tuple[Measure, ...]
    attributes: tuple[str, ...]
    code_lists: Mapping[str, CodeList]


@dataclass(frozen=True)
class Purpose:
    """What data may be asked for.

    Args:
        code: as in consents and fetches.
        title: its name.
        max_days: longest time that a consent for it may run.
        max_content_level: highest level that a consent for it may open.
    """

    code: str
    title: Text
    max_days: int
    max_content_level: ContentLevel


@dataclass(frozen=True)
class Catalogue:
    """All record types and purposes, each in the order of its name."""

    types: Mapping[str, RecordType]
    purposes: Mapping[str, Purpose]

    def type(self, name: str) -> RecordType:
        """Return a record type.

        Raises:
            InvalidArgumentError: TYPE_UNKNOWN.
        """
        found = self.types.get(name)
        if found is None:
            problem = "not in the catalogue: ListRecordTypes names the types there are"
            raise invalid_field("TYPE_UNKNOWN", "record_type", problem, said="the record type is")
        return found

    def purpose(self, code: str) -> Purpose:
        """Return a purpose.

        Raises:
            InvalidArgumentError: PURPOSE_UNKNOWN.
        """
        found = self.purposes.get(code)
        if found is None:
            problem = "not in the table of purposes: ListPurposes names those there are"
            raise invalid_field("PURPOSE_UNKNOWN", "purpose", problem, said="the purpose is")
        return found
