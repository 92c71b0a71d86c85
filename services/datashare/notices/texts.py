"""The sentences of notices, from `texts.toml`, which is package data.

A sentence says who (an institution by its name; an account of a firm is only "the firm"), which
type of record and until when. Nothing else gets into it: a mail or a text message travels openly.

The file is checked as a whole, so that a typo stops the service and not a notice.
"""

import string
from collections.abc import Mapping
from datetime import timedelta
from typing import Final, NamedTuple

from services.datashare.catalogue.domain import Catalogue, Text
from services.datashare.china import china_date
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.packaged import read_toml
from services.datashare.participants.domain import Participant, Role

_PLACES: Final = {"who", "type", "due"}
_OTHERS: Final = ("firm", "platform", "records")
_LANGUAGES: Final = ("zh", "en")
_INSTANT: Final = timedelta(microseconds=1)


class TextsError(ValueError):
    """`texts.toml` is wrong; the message names the key."""


class Words(NamedTuple):
    """A sentence in both languages."""

    zh: str
    en: str


class Texts:
    """The sentences.

    Args:
        sentences: with the places {who}, {type} and {due}, by kind.
        others: what stands for a firm, for the platform and for records of no one type.
        types: the titles of record types.
    """

    def __init__(
        self,
        sentences: Mapping[NoticeKind, Words],
        others: Mapping[str, Words],
        types: Mapping[str, Text],
    ) -> None:
        self._sentences = sentences
        self._others = others
        self._types = types

    def of(self, notice: Notice, who: Participant | None) -> Words:
        """Return the sentence of a notice.

        Args:
            notice: what happened.
            who: the participant that it names, if it is registered.
        """
        title = self._types.get(notice.record_type)
        # A deadline is the end of its day, so midnight belongs to the day before.
        due = china_date(notice.due_at - _INSTANT).isoformat() if notice.due_at else ""
        written = []
        for n, sentence in enumerate(self._sentences[notice.kind]):
            if who is None:
                name = self._others["platform"][n]
            else:
                name = self._others["firm"][n] if who.role is Role.FIRM else who.name
            records = (title.zh, title.en)[n] if title else self._others["records"][n]
            written.append(sentence.format(who=name, type=records, due=due))
        return Words(*written)


def load(catalogue: Catalogue, text: str | None = None) -> Texts:
    """Load the sentences.

    Args:
        catalogue: the record types.
        text: TOML; the package's own by default.

    Raises:
        TextsError: it is not TOML, or a sentence is missing, unknown or has an unknown place.
    """
    content = read_toml("services.datashare.notices", "texts.toml", text, TextsError)
    names = {kind.value for kind in NoticeKind} | set(_OTHERS)
    if wrong := sorted(names ^ content.keys()):
        what = "is missing" if wrong[0] in names else "is unknown"
        raise TextsError(f"texts.toml: `{wrong[0]}` {what}")
    words = {name: _words(name, entry) for name, entry in content.items()}
    return Texts(
        {kind: words[kind.value] for kind in NoticeKind},
        {name: words[name] for name in _OTHERS},
        {name: policy.title for name, policy in catalogue.types.items()},
    )


def _words(name: str, entry: object) -> Words:
    if not isinstance(entry, dict) or entry.keys() != set(_LANGUAGES):
        raise TextsError(f"texts.toml: `{name}` should have the keys zh and en")
    for language, sentence in entry.items():
        if not isinstance(sentence, str) or not sentence.strip():
            raise TextsError(f"texts.toml: `{name}.{language}` should be a sentence")
        try:
            places = {place for _, place, _, _ in string.Formatter().parse(sentence)} - {None}
        except ValueError as error:
            raise TextsError(f"texts.toml: `{name}.{language}`: {error}") from error
        if unknown := places - _PLACES:
            raise TextsError(f"texts.toml: `{name}.{language}` has the unknown place {unknown}")
    return Words(entry["zh"], entry["en"])
