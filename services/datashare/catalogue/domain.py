"""Record types and purposes as policy.

Invariants: a record type's measures have distinct names and keep the order of the policy file;
shapes and ranges of payloads are not here but in the .proto files; nothing changes after loading.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from services.datashare.quota.domain import Limit
from services.kit.errors import invalid_field

OCCURRED: Final = "occurred"
"""Where a retention counts from the end of the occurrence and from no date of the payload."""

MEMBER_KINDS: Final = frozenset({"firm", "bank", "platform"})
"""Kinds of supplier that nobody registers as, as they are no provider: the firm about itself, the
bank about whom it visited, the platform."""


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
    KWH = "kwh"
    M3 = "m3"


class FieldUnit(StrEnum):
    """What a field of a payload holds."""

    TEXT = "text"
    CODE = "code"
    FLAG = "flag"
    TOKEN = "token"  # noqa: S105 - a keyed HMAC of another party, no secret
    DATE = "date"
    CNY = "CNY"
    COUNT = "count"
    DAYS = "days"
    PPM = "ppm"
    LEVEL = "level"
    METERED = "metered"
    LIST = "list"


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
class Field:
    """A field of a type's payload.

    Args:
        name: as in the .proto.
        unit: what it holds. A quantity that is metered is in the unit of what is metered: kWh of
            electricity, m3 of water and gas.
        title: its name.
    """

    name: str
    unit: FieldUnit
    title: Text


@dataclass(frozen=True)
class CodeList:
    """The codes that a field of the payload may hold.

    Args:
        field: the field of the payload.
        codes: title of each code, in the order of the policy file.
        adverse: those that speak against the subject.
    """

    field: str
    codes: Mapping[str, Text]
    adverse: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Retention:
    """How long a record may be kept and shown.

    Args:
        days: after the start; 0 is without end.
        start: `OCCURRED`, or the date field of the payload from which the days count; where that
            is unset, the end of the occurrence.
        by_severity: days by code of the payload's `severity`, in the place of `days`; empty where
            the type has none.
        until_field: date field of the payload that may end it earlier, or empty.
        repaired_field: date field of the payload from which on the record is neither published,
            shared nor used, or empty.
    """

    days: int
    start: str = OCCURRED
    by_severity: Mapping[str, int] = field(default_factory=dict)
    until_field: str = ""
    repaired_field: str = ""


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
        provider_kinds: kinds of provider that may supply it, and of `MEMBER_KINDS`.
        kept_to_provider: nobody but who supplied a record may read it.
        retention: how long a record is kept.
        complete_register: a subject that is not in it has none.
        control_field: the payload's amount that control totals add up, or empty.
        measures: columns of its summary, in order.
        attributes: code-like fields whose latest value the summary holds.
        fields: of the payload, in the order of the .proto.
        code_lists: by field of the payload.
    """

    name: str
    schema_version: int
    title: Text
    sensitivity: int
    sharing_mode: SharingMode
    legal_basis: str
    provider_kinds: frozenset[str]
    kept_to_provider: bool
    retention: Retention
    complete_register: bool
    control_field: str
    measures: tuple[Measure, ...]
    attributes: tuple[str, ...]
    fields: tuple[Field, ...]
    code_lists: Mapping[str, CodeList]


@dataclass(frozen=True)
class Purpose:
    """What data may be asked for.

    Args:
        code: as in consents and fetches.
        title: its name.
        consequences: what follows for the firm from a consent for it, and from none.
        max_days: longest time that a consent for it may run.
        max_data_days: longest range of the data that a consent for it may open.
        max_content_level: highest level that a consent for it may open.
        max_fetches: most often that a consent for it may be fetched under.
        for_another_firm: the data is for the score of another firm, which consent and fetch name.
        product: what a recipient has to be licensed for.
    """

    code: str
    title: Text
    consequences: Text
    max_days: int
    max_data_days: int
    max_content_level: ContentLevel
    max_fetches: Limit
    for_another_firm: bool = False
    product: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All record types and purposes, each in the order of its name, and who may supply.

    Args:
        types: by name.
        purposes: by code.
        kinds: titles of the kinds of supplier that the types name.
        purposes_version: of the table of purposes; it grows with every change.
        products: titles of what recipients are licensed for.
    """

    types: Mapping[str, RecordType]
    purposes: Mapping[str, Purpose]
    kinds: Mapping[str, Text]
    purposes_version: int = 1
    products: Mapping[str, Text] = field(default_factory=dict)

    @property
    def on_consent(self) -> frozenset[str]:
        """The types that are shared on consent."""
        return frozenset(
            name
            for name, policy in self.types.items()
            if policy.sharing_mode is SharingMode.ON_CONSENT
        )

    @property
    def provider_kinds(self) -> frozenset[str]:
        """The kinds that a provider may be registered as."""
        return frozenset(self.kinds) - MEMBER_KINDS

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
