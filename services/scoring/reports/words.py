"""Words in both languages; neither is a translation that may be left out."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """The same in Chinese and English.

    Args:
        zh: in Chinese.
        en: in English.
    """

    zh: str
    en: str
