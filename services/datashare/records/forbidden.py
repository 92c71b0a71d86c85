"""Content that the law forbids to collect, refused where a payload has room for free text.

征信业管理条例 (2013), article 14: religion, genes, fingerprints, blood type and illness of a person
are never collected; income, deposits, securities, commercial insurance, real estate and tax of a
person only with that person's written consent after a notice of the consequences. No typed field
asks for any of it, so what is left to look at is free text; which, and for what, is data:
`forbidden.toml`.

Neither a registration number nor a resident's identity number may stand in the id of a record or a
delivery: ids are shown where numbers are not.
"""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from stdnum.cn import ric
from stdnum.exceptions import ValidationError

from services.datashare.records.domain import RowProblem
from services.datashare.reference.districts import district
from services.datashare.subjects.uscc import ALPHABET, UsccError, check

NAMES_SOMEBODY: Final = "has a registration or identity number in clear: use an id of your own"
_NUMBER: Final = 18
"""Characters of a registration or identity number."""
_RUNS: Final = re.compile(f"[0-9A-Z]{{{_NUMBER},}}")
# Registering department and kind (GB 32100-2015, tables 2 and 3), then a province: what tells a
# number from any 18 digits, of which one in 340 has both check digits right.
_is_like_registration: Final = re.compile(
    "(?:1[129]|31|5[1-3]|9[1-3]|[AN][1239]|Y1)"
    "(?:1[0-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3])"
    f"[0-9]{{4}}[{ALPHABET}]{{10}}"
).fullmatch
# District, day of birth, order and check digit (GB 11643-1999).
_is_like_identity: Final = re.compile("[1-8][0-9]{5}(?:19|20)[0-9]{9}[0-9X]").fullmatch
_FIRST: Final = 1984
_BLANKS: Final = re.compile(r"\s+")
_BETWEEN_HANZI: Final = re.compile(r"(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])")

Screen = Callable[[Any], None]
"""Takes a payload. Raises RowProblem."""


def screens() -> Mapping[str, Screen]:
    """Return what looks at the payloads of each record type that has free text."""
    file = resources.files("services.datashare.records").joinpath("forbidden.toml")
    rules = tomllib.loads(file.read_text(encoding="utf-8"))
    never = {name: _pattern(words) for name, words in rules["never"].items()}
    person, of = (_pattern(rules["with_consent"][name]) for name in ("person", "of"))

    def screen(record_type: str, paths: Sequence[str], *, anyhow: bool) -> Screen:
        def look(payload: Any) -> None:
            for path in paths:
                for text in _texts(payload, path.split(".")):
                    if not anyhow and not person.search(text):
                        continue
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

    return {
        name: screen(name, paths, anyhow=anyhow)
        for kind, anyhow in (("texts", True), ("projects", False))
        for name, paths in rules[kind].items()
    }


def check_record_id(record_id: str) -> None:
    """Refuse a record's id that names somebody by a number of the state.

    Args:
        record_id: the provider's own id.

    Raises:
        RowProblem: FIELD_INVALID.
    """
    if names_somebody(record_id):
        raise RowProblem("FIELD_INVALID", "provider_record_id", NAMES_SOMEBODY)


def names_somebody(id_: str) -> bool:
    """Tell whether an id has a firm's or a resident's number in it."""
    if len(id_) < _NUMBER:
        return False
    text = id_ if id_.isascii() else unicodedata.normalize("NFKC", id_)
    # Also with a month behind it or letters before; in the midst of more it is by chance.
    return any(
        _is_firm(number) or _is_resident(number)
        for run in _RUNS.findall(text.upper())
        for number in (run[:_NUMBER], run[-_NUMBER:])
    )


def _is_firm(number: str) -> bool:
    if not _is_like_registration(number):
        return False
    try:
        check(number)
    except UsccError:
        return False
    return True


def _is_resident(number: str) -> bool:
    if not _is_like_identity(number) or number[-1] != ric.calc_check_digit(number):
        return False
    try:
        born = ric.get_birth_date(number)
    except ValidationError:
        return False
    # Numbers came up in 1984: whoever was born before has a district of later.
    return any(district(number[:6], year) for year in range(born.year, max(born.year, _FIRST) + 20))


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
    """Return a text as it reads: without width, case, blanks within words, or what is not shown."""
    shown = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    narrow = _BLANKS.sub(" ", unicodedata.normalize("NFKC", shown)).casefold()
    return _BETWEEN_HANZI.sub("", narrow)


def _pattern(words: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)
