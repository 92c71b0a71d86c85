"""The notice that a firm is shown before it answers: its terms in words, in Chinese or English.

Invariants:

- A notice says all that the terms allow: what is opened, to whom, what for, from whom, how long,
  how often, what may be kept, made of it and passed on, what follows, and how to withdraw. Its hash
  is in the canonical core, so what was shown can be proved.
- Both languages have the same lines; the file is checked as a whole when it is read.
"""

import functools
import hashlib
import string
import tomllib
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import resources
from typing import Any, Final

from services.datashare.catalogue.domain import Catalogue, Text
from services.datashare.china import CHINA
from services.datashare.consent.domain import Core, Mode

LANGUAGES: Final = ("zh", "en")
_SEPARATOR: Final = {"zh": "、", "en": ", "}


class NoticeError(ValueError):
    """`notice.toml` is wrong; the message names the key."""


def write(core: Core, names: Mapping[str, str], catalogue: Catalogue) -> str:
    """Return the notice of a consent in the language of its terms.

    Args:
        core: without the hash of the notice.
        names: of participants, by id; one that is not named is shown by its id.
        catalogue: titles of types, names and purposes.
    """
    return "\n".join(_lines(core, names, catalogue)) + "\n"


def sha256(notice: str) -> bytes:
    """Return the hash of a notice."""
    return hashlib.sha256(notice.encode()).digest()


def _lines(core: Core, names: Mapping[str, str], catalogue: Catalogue) -> Iterator[str]:
    terms, language = core.terms, core.terms.notice_language
    sentences = texts()[language]
    purpose = catalogue.purposes[terms.purpose]

    def say(key: str, **places: object) -> str:
        return sentences[key].format(**places)

    def named(*ids: str) -> str:
        # In one line each, whatever they were registered as: a notice's lines are its own.
        shown = (" ".join(names.get(id_, id_).split()) for id_ in ids)
        return _SEPARATOR[language].join(shown)

    def listed(*texts: Text) -> str:
        return _SEPARATOR[language].join(_in(text, language) for text in texts)

    yield say("title")
    yield say("recipient", recipient=named(core.recipient_id), recipient_id=core.recipient_id)
    yield say(
        "purpose",
        purpose=_in(purpose.title, language),
        purpose_code=purpose.code,
        purposes_version=core.purposes_version,
    )
    if terms.for_subject_id:
        yield say("for_another", for_subject_id=terms.for_subject_id)
    yield say(f"level_{terms.content_level.name}")
    yield say("types", types=listed(*(catalogue.types[name].title for name in terms.record_types)))
    for part in terms.fields:
        titles = _titles(catalogue, part.record_type)
        chosen = listed(*(titles.get(name, Text(name, name)) for name in part.names))
        yield say("fields", type=listed(catalogue.types[part.record_type].title), names=chosen)
    yield say("providers", providers=named(*terms.provider_ids))
    yield say("period", first=terms.data_period.first, last=terms.data_period.last)
    expires_at = _moment(terms.expires_at)
    if terms.not_before is None:
        yield say("from_grant", expires_at=expires_at)
    else:
        yield say("from_later", not_before=_moment(terms.not_before), expires_at=expires_at)
    limit = terms.fetch_limit
    if limit is not None:
        yield say("once" if limit.unit is None else limit.unit, times=limit.times)
    if terms.mode is Mode.STORE:
        yield say("store", life=terms.data_life_days)
    else:
        yield say("view")
    yield say("score" if terms.score else "no_score")
    yield say("decision" if terms.automated_decision else "no_decision")
    if terms.onward_recipient_ids:
        yield say("onward", onward=named(*terms.onward_recipient_ids))
    else:
        yield say("no_onward")
    if core.supersedes is not None:
        yield say("replaces", supersedes=core.supersedes.consent_id)
    if core.signers.signer_ids:
        signers = _SEPARATOR[language].join(core.signers.signer_ids)
        yield say("signers", required=core.signers.required, signers=signers)
    else:
        yield say("one_signer")
    if core.answer_by is not None:
        yield say("answer_by", answer_by=_moment(core.answer_by))
    yield say("consequences", consequences=_in(purpose.consequences, language))
    yield say("withdrawal", consent_id=core.consent_id)


def _titles(catalogue: Catalogue, record_type: str) -> dict[str, Text]:
    kind = catalogue.types[record_type]
    return {part.name: part.title for part in kind.fields} | {
        measure.name: measure.title for measure in kind.measures
    }


def _in(text: Text, language: str) -> str:
    return text.zh if language == "zh" else text.en


def _moment(at: datetime) -> str:
    # Whole seconds: what is left of them is of no use to who reads it.
    return at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M:%S")


@functools.cache
def texts() -> Mapping[str, Mapping[str, str]]:
    """Return the sentences by language and key.

    Raises:
        NoticeError: the languages do not have the same lines with the same places.
    """
    file = resources.files("services.datashare.consent").joinpath("notice.toml")
    return checked(tomllib.loads(file.read_text(encoding="utf-8")))


def checked(content: Mapping[str, Any]) -> Mapping[str, Mapping[str, str]]:
    """Return the sentences of a file that is whole.

    Raises:
        NoticeError: it is not.
    """
    if tuple(sorted(content)) != tuple(sorted(LANGUAGES)):
        raise NoticeError(f"notice.toml: there should be {' and '.join(LANGUAGES)}")
    one, other = (content[language] for language in LANGUAGES)
    for key in sorted(one.keys() | other.keys()):
        if key not in one or key not in other:
            raise NoticeError(f"notice.toml: `{key}` is missing in one language")
        if _places(one[key]) != _places(other[key]):
            raise NoticeError(f"notice.toml: `{key}` has other places in one language")
    return content


def _places(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}
