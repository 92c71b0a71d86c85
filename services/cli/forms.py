"""Forms of days, months and times, such as %Y年%m月%d日.

A form is read in one way or not at all: %Y has four digits; %m, %d, %H, %M and %S have two where
another number stands right beside them, else one or two; %q is a quarter from 1 to 4; everything
else stands for itself.
"""

import re
from datetime import date, datetime
from typing import Final

from puhui_client import values

_DIGITS: Final = "mdHMS"
_SETS: Final = {
    "ymd": ("a day", "%Y, %m and %d", frozenset("Ymd"), frozenset("Ymd")),
    "ymq": ("a period", "%Y, with %m or %q where it is no year", frozenset("Y"), frozenset("Ymq")),
    "ymdHMS": ("a time", "%Y, %m and %d, and %H, %M, %S", frozenset("Ymd"), frozenset("YmdHMS")),
}


class FormError(ValueError):
    """A form cannot be read in one way; the message says what to write."""


class Form:
    """A form.

    Args:
        text: as a mapping writes it.
        wanted: what it is a form of: "ymd" a day, "ymq" a period, "ymdHMS" a time.

    Raises:
        FormError: it lacks a part, has one twice, or has one that is unknown.
    """

    def __init__(self, text: str, wanted: str) -> None:
        self._text = text
        what, write, needed, allowed = _SETS[wanted]
        names: list[str] = []
        pattern = ""
        parts = re.findall(r"%.?|[^%]+", text, flags=re.DOTALL)
        for index, part in enumerate(parts):
            if not part.startswith("%"):
                pattern += re.escape(part)
                continue
            name = part[1:]
            if name == "%":
                pattern += "%"
                continue
            if name not in allowed or name in names:
                raise FormError(f"{text!r} is no form of {what}: write {write}, each once")
            names.append(name)
            pattern += f"(?P<{name}>{_digits(name, _beside(parts, index))})"
        if not needed <= set(names) or {"m", "q"} <= set(names):
            raise FormError(f"{text!r} is no form of {what}: write {write}, each once")
        self._pattern = re.compile(pattern, re.ASCII)

    def day(self, text: str) -> date:
        """Return the day that a text says.

        Raises:
            ValueError: it has another form, or there is no such day.
        """
        return self.moment(text).date()

    def moment(self, text: str) -> datetime:
        """Return the time that a text says, without a zone; see `day`."""
        found = self._numbers(text)
        try:
            return datetime(  # noqa: DTZ001 - the zone is the mapping's to say
                found["Y"],
                found["m"],
                found["d"],
                found.get("H", 0),
                found.get("M", 0),
                found.get("S", 0),
            )
        except ValueError:
            raise ValueError("there is no such day or time: correct it") from None

    def period(self, text: str) -> tuple[date, date]:
        """Return the first and last day of the period that a text says; see `day`."""
        found = self._numbers(text)
        year = found["Y"]
        first, last = 1, 12
        if "m" in found:
            first = last = found["m"]
        elif "q" in found:
            first, last = found["q"] * 3 - 2, found["q"] * 3
        if not year or not 1 <= first <= last <= 12:
            raise ValueError("there is no such period: correct it")
        return date(year, first, 1), values.month(year, last)[1]

    def _numbers(self, text: str) -> dict[str, int]:
        match = self._pattern.fullmatch(text)
        if match is None:
            raise ValueError(f"not of the form {self._text}")
        return {name: int(number) for name, number in match.groupdict().items()}


def _digits(name: str, beside: bool) -> str:
    if name == "Y":
        return r"\d{4}"
    if name == "q":
        return "[1-4]"
    return r"\d{2}" if beside else r"\d{1,2}"


def _beside(parts: list[str], index: int) -> bool:
    """Whether a number, or something that may be one, stands right before or after a part."""
    before = parts[index - 1] if index else ""
    after = parts[index + 1] if index + 1 < len(parts) else ""
    return _is_number(before[-1:], before) or _is_number(after[:1], after)


def _is_number(edge: str, part: str) -> bool:
    return edge.isdigit() or (len(part) == 2 and part[0] == "%" and part[1] in f"Yq{_DIGITS}")
