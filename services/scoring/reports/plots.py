"""Plots of a report as SVG: by month, a score on its scale, points to either side of nothing.

Invariants: the same numbers give the same text; amounts stand on an axis that shows zero; series
differ in lightness and shape, not by colour alone; nothing is loaded and nothing runs. Text stays
text, in whatever font shows the page.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr  # nosec B406  # writes text, reads no XML

INK: Final = "#16202c"
FAINT: Final = "#5d6875"
RULE: Final = "#d5dae0"
DEEP: Final = "#1f4e79"
PALE: Final = "#a9c3dc"
WARM: Final = "#a4462f"
FONTS: Final = "'Noto Sans CJK SC','Source Han Sans SC','PingFang SC','Microsoft YaHei',sans-serif"
_Axis = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Line:
    """One series of a plot.

    Args:
        title: of it.
        values: by month; None where there is none.
    """

    title: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Band:
    """One grade on a scale.

    Args:
        grade: its name.
        low: score from which it reaches.
        high: score up to which it reaches.
    """

    grade: str
    low: float
    high: float


def monthly(
    kind: str,
    months: Sequence[str],
    lines: Sequence[Line],
    unit: str,
    label: str,
    *,
    wide: bool = True,
) -> str:
    """Return a plot by month.

    Args:
        kind: "bars" or "line".
        months: as "2026-03", one after the other.
        lines: one or two.
        unit: of the values, written above the axis.
        label: what the picture says, for who cannot see it.
        wide: across the page, else across half of it.
    """
    width, height = (720.0, 172.0) if wide else (348.0, 150.0)
    left, right, top, bottom = 46.0, 6.0, 26.0, 22.0
    values = [value for line in lines for value in line.values if value is not None]
    ticks = nice_ticks(min(0.0, *values), max(0.0, *values))
    low, high = ticks[0], ticks[-1]
    step = (width - left - right) / len(months)

    def across(at: float) -> float:
        return left + step * (at + 0.5)

    def down(value: float) -> float:
        return top + (height - top - bottom) * (high - value) / (high - low)

    parts = [_text(2, 11, unit, fill=FAINT, size=11)]
    parts += _legend(lines, kind, width - right)
    for tick in ticks:
        y = down(tick)
        stroke = FAINT if tick == 0 else RULE
        parts.append(_rule(left, y, width - right, y, stroke, 0.8 if tick == 0 else 0.6))
        parts.append(_text(left - 6, y + 3.5, number(tick), anchor="end", fill=FAINT, size=11))
    parts += _month_labels(months, across, height - bottom, every=6 if wide else 12)
    if kind == "bars":
        for at, line in enumerate(lines):
            parts += _bars(line, at, len(lines), step, across, down)
    else:
        for at, line in enumerate(lines):
            parts += _trace(line, at, across, down)
    return _svg(width, height, label, parts)


def _legend(lines: Sequence[Line], kind: str, end: float) -> list[str]:
    parts: list[str] = []
    x = end
    for at in reversed(range(len(lines))):
        title = lines[at].title
        x -= breadth(title, 11)
        parts.append(_text(x, 11, title, size=11))
        x -= 17
        fill = DEEP if at == 0 else PALE
        if kind == "bars":
            parts.append(_box(x + 1, 3, 11, 9, fill, DEEP))
        else:
            dash = "" if at == 0 else "3 2.5"
            parts.append(_rule(x - 4, 7.5, x + 12, 7.5, DEEP, 2 if at == 0 else 1.4, dash))
        x -= 14
    return parts


def _month_labels(months: Sequence[str], across: _Axis, y: float, every: int) -> list[str]:
    """Label January, and July where there is room; of few months the first one."""
    turns = [at for at, month in enumerate(months) if (int(month[5:]) - 1) % every == 0]
    parts = []
    for at, month in enumerate(months):
        if at in turns or (not turns and at == 0):
            x = across(at)
            parts.append(_rule(x, y, x, y + 3.5, FAINT, 0.8))
            parts.append(_text(x, y + 14.5, month, anchor="middle", fill=FAINT, size=11))
    return parts


def _bars(line: Line, at: int, count: int, step: float, across: _Axis, down: _Axis) -> list[str]:
    wide = min(step * 0.78, 22.0) / count
    parts = []
    for month, value in enumerate(line.values):
        if value:
            x = across(month) + wide * (at - count / 2)
            upper, lower = sorted((down(0.0), down(value)))
            fill = DEEP if at == 0 else PALE
            parts.append(_box(x, upper, wide, max(lower - upper, 0.4), fill))
    return parts


def _trace(line: Line, at: int, across: _Axis, down: _Axis) -> list[str]:
    parts: list[str] = []
    run: list[tuple[float, float]] = []

    def close() -> None:
        if len(run) == 1:
            parts.append(_dot(*run[0], 2.2))
        elif run:
            points = " ".join(f"{_n(x)},{_n(y)}" for x, y in run)
            dash = "" if at == 0 else ' stroke-dasharray="4 3"'
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{DEEP}" '
                f'stroke-width="{2 if at == 0 else 1.4}" stroke-linejoin="round"{dash}/>'
            )
        run.clear()

    last = None
    for month, value in enumerate(line.values):
        if value is None:
            close()
        else:
            last = across(month), down(value)
            run.append(last)
    close()
    if last is not None and at == 0:
        parts.append(_dot(*last, 3))
    return parts


def scale(
    score: float,
    bands: Sequence[Band],
    interval: tuple[float, float] | None,
    label: str,
    grade: str,
) -> str:
    """Return a score on the scale of its model's grades.

    Args:
        score: points.
        bands: from the worst grade to the best, each beginning where the last one ends; at least
            one.
        interval: within which the score lies.
        label: what the picture says, for who cannot see it.
        grade: of the score.
    """
    width, height = 560.0, 84.0
    left, right, y, thick = 1.0, 1.0, 34.0, 19.0
    low, high = bands[0].low, bands[-1].high

    def across(points: float) -> float:
        inside = min(max(points, low), high)
        return left + (width - left - right) * (inside - low) / (high - low)

    parts = []
    for at, band in enumerate(bands):
        share = at / max(len(bands) - 1, 1)
        fill = _mixed((0xE9, 0xEE, 0xF3), (0x8F, 0xAE, 0xCB), share)
        x, end = across(band.low), across(band.high)
        mine = band.grade == grade
        parts.append(_box(x, y, end - x, thick, DEEP if mine else fill, "#ffffff"))
        parts.append(
            _text(
                (x + end) / 2,
                y + thick / 2 + 3.8,
                band.grade,
                anchor="middle",
                fill="#ffffff" if mine else INK,
                size=10.5,
                bold=mine,
            )
        )
        if at:
            edge = number(round(band.low))
            parts.append(_text(x, y + thick + 11, edge, anchor="middle", fill=FAINT, size=9.5))
    if interval is not None:
        begin, end = across(interval[0]), across(interval[1])
        base = y + thick + 20
        parts.append(_rule(begin, base, end, base, INK, 1.6))
        parts += [_rule(x, base - 3.5, x, base + 3.5, INK, 1.6) for x in (begin, end)]
        parts.append(_dot(across(score), base, 2.6, INK))
    x = across(score)
    parts.append(f'<path d="M{_n(x - 6)} {y - 10}h12l-6 8z" fill="{INK}"/>')
    anchor = "start" if x < 20 else "end" if x > width - 20 else "middle"
    parts.append(_text(x, y - 13, number(score), anchor=anchor, size=14, bold=True))
    return _svg(width, height, label, parts)


def signed_bar(points: float, most: float) -> str:
    """Return a bar from the middle to the right for what raises a score, to the left else.

    Args:
        points: that it shows.
        most: the largest of its neighbours, without sign; not 0.
    """
    width, height = 120.0, 11.0
    middle = width / 2
    long = (middle - 2) * min(abs(points) / most, 1.0)
    fill = DEEP if points >= 0 else WARM
    x = middle if points >= 0 else middle - long
    parts = [_box(x, 1.5, max(long, 0.6), 8, fill), _rule(middle, 0, middle, height, FAINT, 0.8)]
    return _svg(width, height, "", parts)


def nice_ticks(low: float, high: float) -> list[float]:
    """Return four to seven round numbers that reach from below `low` to above `high`.

    >>> nice_ticks(0.0, 93.0)
    [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    """
    if high <= low:
        high = low + 1.0
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(each for each in (1, 2, 2.5, 5, 10) if each * power >= rough * 0.8)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [float(f"{at * step:.10g}") for at in range(first, last + 1)]


def number(value: float) -> str:
    """Return a number as an axis shows it.

    >>> number(1234.5), number(20.0)
    ('1,234.5', '20')
    """
    return f"{value:,.10g}" if abs(value) >= 1e10 else f"{round(value, 6):,}".removesuffix(".0")


def breadth(text: str, size: float) -> float:
    """Return about how wide a text is: Chinese letters are as wide as high."""
    return sum(size if ord(letter) > 0x2E80 else size * 0.56 for letter in text)


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    told = 'aria-hidden="true"' if not label else f'role="img" aria-label={quoteattr(label)}'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'width="{_n(width)}" height="{_n(height)}" font-family="{FONTS}" {told}>'
        f"{''.join(parts)}</svg>"
    )


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    fill: str = INK,
    size: float = 11,
    bold: bool = False,
) -> str:
    wght = 700 if bold else 400
    # Twice: a typesetter leaves a variable font thin, unless it is told of the axis.
    weight = f' font-weight="{wght}" font-variation-settings="&quot;wght&quot; {wght}"'
    held = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}" fill="{fill}"{held}{weight}>'
        f"{escape(text)}</text>"
    )


def _box(x: float, y: float, wide: float, high: float, fill: str, stroke: str = "") -> str:
    edge = f' stroke="{stroke}" stroke-width="0.8"' if stroke else ""
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(wide)}" height="{_n(high)}"'
    return f'<rect {place} fill="{fill}"{edge}/>'


def _rule(
    x1: float, y1: float, x2: float, y2: float, stroke: str, wide: float, dash: str = ""
) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{stroke}" '
        f'stroke-width="{_n(wide)}"{dashed}/>'
    )


def _dot(x: float, y: float, radius: float, fill: str = DEEP) -> str:
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}" fill="{fill}"/>'


def _mixed(one: tuple[int, int, int], other: tuple[int, int, int], share: float) -> str:
    mixed = [round(a + (b - a) * share) for a, b in zip(one, other, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _n(value: float) -> str:
    """A coordinate, short and the same everywhere."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
