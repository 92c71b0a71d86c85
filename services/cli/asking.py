"""What a bank asks for in `puhui consent request`: options, and a TOML file under them."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from services.cli.command import usage
from services.cli.inputs import parse_day, parse_moment

if TYPE_CHECKING:
    from puhui_client.consents import Language, Unit

_FETCHES = re.compile(r"([1-9][0-9]{0,4})/(day|month|year)")
_LEVELS: Final = ("profile", "summary", "transactions")


@dataclass(frozen=True)
class Terms:
    """What is asked for; None is what nobody said.

    Args:
        purpose: code of the table of purposes.
        provider: ids or names of whose records may be used.
        type: record types.
        level: profile, summary or transactions.
        data_from: first day of the data.
        data_to: last day.
        days: how long the consent runs.
        expires: its end, instead of `days`.
        not_before: its begin.
        fields: names by type.
        once: for one fetch.
        fetches: "4/month".
        store_days: may be stored, until so many days after the end.
        score: a score may be made of it.
        automated_decision: a decision may be made by machine alone.
        onward: ids or names of those to whom it may be passed on.
        language: of the notice.
        supersedes: the consent to be replaced.
        for_subject: the other firm whose score the data may enter.
    """

    purpose: str | None = None
    provider: list[str] | None = None
    type: list[str] | None = None
    level: str | None = None
    data_from: date | None = None
    data_to: date | None = None
    days: int | None = None
    expires: datetime | None = None
    not_before: datetime | None = None
    fields: dict[str, list[str]] = field(default_factory=dict)
    once: bool | None = None
    fetches: str | None = None
    store_days: int | None = None
    score: bool | None = None
    automated_decision: bool | None = None
    onward: list[str] | None = None
    language: str | None = None
    supersedes: str | None = None
    for_subject: str | None = None

    def over(self, earlier: "Terms") -> "Terms":
        """Return these terms, with those of `earlier` where these say nothing."""
        said = {name: value for name, value in vars(self).items() if value not in (None, {}, [])}
        if "once" in said or "fetches" in said:
            said = {"once": None, "fetches": None} | said
        return Terms(**(vars(earlier) | said))

    def frequency(self) -> "tuple[int, Unit] | None":
        """Return how often, as (4, "MONTH")."""
        if self.fetches is None:
            return None
        found = _FETCHES.fullmatch(self.fetches)
        if found is None:
            raise usage("how often is written as 4/month: a number, and day, month or year")
        return int(found[1]), cast("Unit", found[2].upper())

    def notice_language(self) -> "Language":
        """Return the language of the notice."""
        if self.language not in (None, "zh", "en"):
            raise usage("the language of the notice is zh or en")
        return cast("Literal['zh', 'en']", self.language or "zh")


def selected(chosen: Sequence[str]) -> dict[str, list[str]]:
    """Return names by type of options such as `vat_invoice.output_net`."""
    fields: dict[str, list[str]] = {}
    for each in chosen:
        record_type, dot, name = each.partition(".")
        if not (dot and record_type and name):
            raise usage("a field is written as TYPE.NAME, e.g. vat_invoice.output_net")
        fields.setdefault(record_type, []).append(name)
    return fields


def read_terms(path: Path) -> Terms:
    """Return the terms in a TOML file, whose keys are the names of the options."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise usage(f"{path} cannot be read ({error.strerror}): check it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise usage(f"{path} is not TOML: {error}") from None
    return Terms(**{key: _value(path, key, value) for key, value in content.items()})


_KINDS: Final[Mapping[str, type]] = {
    "purpose": str,
    "provider": list,
    "type": list,
    "level": str,
    "data_from": date,
    "data_to": date,
    "days": int,
    "expires": datetime,
    "not_before": datetime,
    "fields": dict,
    "once": bool,
    "fetches": str,
    "store_days": int,
    "score": bool,
    "automated_decision": bool,
    "onward": list,
    "language": str,
    "supersedes": str,
    "for_subject": str,
}
_WORDS: Final = {
    str: "a text",
    list: "a list of texts",
    int: "a whole number",
    bool: "true or false",
    dict: "a table of lists of texts",
    date: "a day, 2024-05-31",
    datetime: "a time, 2024-05-31T18:00:00+08:00",
}


def _value(path: Path, key: str, value: Any) -> Any:
    kind = _KINDS.get(key)
    if kind is None:
        raise usage(f"{path}: there is no `{key}`: its keys are {', '.join(_KINDS)}")
    good = type(value) is kind
    if kind is list:
        good = _are_texts(value)
    elif kind is dict and good:
        good = all(_are_texts(part) for part in value.values())
    if not good and isinstance(value, str) and kind in (date, datetime):
        try:
            return parse_day(value) if kind is date else parse_moment(value)
        except ValueError as error:
            raise usage(f"{path}: `{key}` is {error}") from None
    if not good or (key == "level" and value not in _LEVELS):
        wanted = ", ".join(_LEVELS) if key == "level" else _WORDS[kind]
        raise usage(f"{path}: `{key}` should be {wanted}")
    if isinstance(value, datetime):
        return parse_moment(value.isoformat())
    return value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)
