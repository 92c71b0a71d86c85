"""Plots as SVG text: axes, lines, bands, bars, intervals.

Invariants: the same numbers give the same text; what a plot tells stands in its label, for who
cannot see it; series differ in lightness and shape, not by colour alone; nothing is loaded and
nothing runs. Text stays text, in whatever font shows the page.
"""

import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final
from xml.sax.saxutils import escape, quoteattr  # nosec B406  # writes text, reads no XML

INK: Final = "#16202c"
FAINT: Final = "#5d6875"
RULE: Final = "#dde2e7"
DEEP: Final = "#1f4e79"
PALE: Final = "#a9c3dc"
WASH: Final = "#e3ecf5"
WARM: Final = "#a4462f"
SIZE: Final = 11.0
Format = Callable[[float], str]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """Values to places.

    Args:
        low: value at the start.
        high: value at the end, another one.
        start: place in pixels.
        end: place in pixels; may be below `start`.
        logarithmic: distances are ratios; both values are positive.
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; one beyond the scale is at its end."""
        share = self._share(min(max(value, self.low), self.high))
        return self.start + (self.end - self.start) * share

    def _share(self, value: float) -> float:
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def _digits(self, digits: Sequence[int]) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = (digit * 10.0**power for power in powers for digit in digits)
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]

    def ticks(self, count: int = 5) -> list[float]:
        """Return round values, about as many as asked for."""
        if self.logarithmic:
            kinds = [self._digits(digits) for digits in ((1, 2, 5), (1, 3), (1,))]
            return next((each for each in kinds if len(each) <= count + 1), kinds[-1])
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * digit for digit in (1, 2, 2.5, 5, 10) if power * digit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(at * step, 10) for at in range(first, last + 1)]


def around(values: Sequence[float], *, room: float = 0.06) -> tuple[float, float]:
    """Return a range that holds the values with some room."""
    low, high = min(values), max(values)
    extra = (high - low) * room or abs(high) * room or 1.0
    return low - extra, high + extra


def breadth(text: str, size: float = SIZE) -> float:
    """Return about how wide a text is, in pixels."""
    return sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.56 for c in text) * size


def fitted(text: str, width: float, size: float = SIZE) -> str:
    """Return as much of a text as there is room for."""
    if breadth(text, size) <= width:
        return text
    while text and breadth(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def decimals(ticks: Sequence[float]) -> Format:
    """Return how to write ticks: with as many digits as tell them apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if digits and abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
        digits += 1
    return lambda value: f"{value:.{digits}f}"


def percents(value: float) -> str:
    """Write a tick that is a share."""
    return f"{value * 100:.3g}%"


@dataclass
class Canvas:
    """A picture that is being drawn.

    Args:
        width: in pixels of its own.
        height: likewise.
    """

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        anchor: str = "start",
        fill: str = INK,
        size: float = SIZE,
        bold: bool = False,
        halo: bool = False,
    ) -> None:
        """Write a text; a halo sets it off from lines behind it."""
        more = f' text-anchor="{anchor}"' if anchor != "start" else ""
        more += ' font-weight="600"' if bold else ""
        more += ' paint-order="stroke" stroke="#fff" stroke-width="4"' if halo else ""
        self.parts.append(
            f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{fill}"{more}>'
            f"{escape(text)}</text>"
        )

    def rule(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        *,
        stroke: str = RULE,
        width: float = 1.0,
        dash: str = "",
    ) -> None:
        """Draw a straight line."""
        more = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" '
            f'stroke="{stroke}" stroke-width="{_n(width)}"{more}/>'
        )

    def trace(
        self, points: Sequence[Point], *, stroke: str = DEEP, width: float = 2.0, dash: str = ""
    ) -> None:
        """Draw a line through points."""
        more = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<path d="{_path(points)}" fill="none" stroke="{stroke}" '
            f'stroke-width="{_n(width)}" stroke-linejoin="round"{more}/>'
        )

    def area(self, points: Sequence[Point], *, fill: str = WASH, opacity: float = 1.0) -> None:
        """Fill what points enclose."""
        more = f' fill-opacity="{_n(opacity)}"' if opacity < 1 else ""
        self.parts.append(f'<path d="{_path(points)}Z" fill="{fill}"{more}/>')

    def box(
        self, x: float, y: float, width: float, height: float, *, fill: str, stroke: str = ""
    ) -> None:
        """Draw a box."""
        more = f' stroke="{stroke}" stroke-width="0.8"' if stroke else ""
        self.parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(max(width, 0))}" '
            f'height="{_n(max(height, 0))}" fill="{fill}"{more}/>'
        )

    def dot(self, x: float, y: float, *, fill: str = DEEP, radius: float = 3.2) -> None:
        """Draw a dot."""
        self.parts.append(
            f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{fill}" '
            'stroke="#fff" stroke-width="0.8"/>'
        )

    def legend(self, entries: Sequence[tuple[str, str, str]], x: float, y: float) -> None:
        """Name series: text, colour, and "line", "dash", "box" or "dot"."""
        for text, colour, kind in entries:
            if kind == "box":
                self.box(x, y - 8, 12, 9, fill=colour)
            elif kind == "dot":
                self.dot(x + 6, y - 3.5, fill=colour)
            else:
                self.rule(x, y - 3.5, x + 14, y - 3.5, stroke=colour, width=2, dash=_dash(kind))
            self.text(x + 18, y, text, fill=FAINT, size=SIZE - 0.5)
            x += 18 + breadth(text, SIZE - 0.5) + 14

    def svg(self, label: str) -> str:
        """Return the picture; the label says what it tells."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(self.width)} '
            f'{_n(self.height)}" role="img" aria-label={quoteattr(label)}>'
            f"<title>{escape(label)}</title>{''.join(self.parts)}</svg>"
        )


def _dash(kind: str) -> str:
    return "4 3" if kind == "dash" else ""


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")
