"""Content that the law forbids to collect, refused where a payload has room for free text.

征信业管理条例 (2013), article 14: religion, genes, fingerprints, blood type and illness of a person
are never collected; income, deposits, securities, commercial insurance, real estate and tax of a
person only with that person's written consent after a notice of the consequences. No typed field
asks for any of it, so what is left to look at is free text; which, and for what, is data:
`forbidden.toml`.

Neither a registration number nor a resident's identity number may stand in a record's id: ids are
shown where numbers are not.
"""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from stdnum.cn import ric
from stdnum.cn import uscc as stdnum_uscc
from stdnum.exceptions import ValidationError

from services.datashare.records.domain import RowProblem
from services.datashare.reference.districts import district

_NUMBERS: Final = re.compile(r"(?<![0-9A-Za-z])[0-9A-Z]{17}[0-9A-Za-z](?![0-9A-Za-z])")
_SHORTEST_ID: Final = 18
_BLANKS: Final = re.compile(r"\s+")
_BETWEEN_HANZI: Final = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")
_BORN: Final = range(1900, 2100)

Screen = Callable[[Any], None]
"""Takes a payload. Raises RowProblem."""


def screens() -> Mapping[str, Screen]:
    """Return what looks at the payloads of each record type that has free text."""
    file = resources.files("services.datashare.records").joinpath("forbidden.toml")
    rules = tomllib.loads(file.read_text(encoding="utf-8"))
    never = {name: _pattern(words) for name, words in rules["never"].items()}
    person, of = (_pattern(rules["with_consent"][name]) for name in ("person", "of"))

    def screen(record_type: str, paths: Sequence[str]) -> Screen:
        def look(payload: Any) -> None:
            for path in paths:
                for text in _texts(payload, path.split(".")):
                    for kind, pattern in never.items():
                        if pattern.search(text):
                            raise RowProblem(
                                "FORBIDDEN_CONTENT",
                                f"{record_type}.{path}",
                                f"the law forbids to collect this about a person ({kind}): leave "
                                "it out",
                            )
            if record_type == "declaration":
                _declared(payload, person, of)

        return look

    return {name: screen(name, paths) for name, paths in rules["texts"].items()}


def check_record_id(record_id: str) -> None:
    """Refuse a record's id that names somebody by a number of the state.

    Args:
        record_id: the provider's own id.

    Raises:
        RowProblem: FIELD_INVALID.
    """
    if len(record_id) < _SHORTEST_ID:
        return
    for match in _NUMBERS.finditer(record_id):
        number = match[0]
        if stdnum_uscc.is_valid(number) or _is_resident(number):
            raise RowProblem(
                "FIELD_INVALID",
                "provider_record_id",
                "has a registration or identity number in clear: use an id of your own",
            )


def _is_resident(number: str) -> bool:
    if not number[:17].isdigit() or number[17].upper() != ric.calc_check_digit(number):
        return False
    try:
        born = ric.get_birth_date(number)
    except ValidationError:
        return False
    return born.year in _BORN and district(number[:6], born.year) is not None


def _declared(payload: Any, person: re.Pattern[str], of: re.Pattern[str]) -> None:
    for field in payload.fields:
        if field.person_consent_reference:
            continue
        text = _plain(f"{field.name} {field.value}")
        if person.search(text) and of.search(text):
            raise RowProblem(
                "PERSON_CONSENT_REQUIRED",
                "declaration.fields.person_consent_reference",
                "this is about a person's income, deposits, securities, insurance, real estate or "
                "tax: name that person's written consent, or leave it out",
            )


def _texts(message: Any, path: Sequence[str]) -> Iterator[str]:
    value = getattr(message, path[0])
    if len(path) > 1:
        for part in value:
            yield from _texts(part, path[1:])
    else:
        yield _plain(value)


def _plain(text: str) -> str:
    narrow = _BLANKS.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    return _BETWEEN_HANZI.sub("", narrow)


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)
