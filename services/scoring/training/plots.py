"""What a report draws of a training's evidence.

Invariants: a plot states the figures of the evidence and nothing that was smoothed; where an
interval was measured it is drawn; what was not measured is not drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from services.scoring.models.domain import Bins
from services.scoring.training.drawing import (
    DEEP,
    FAINT,
    INK,
    PALE,
    WARM,
    WASH,
    Canvas,
    Format,
    Point,
    Scale,
    around,
    breadth,
    decimals,
    fitted,
    percents,
)
from services.scoring.training.evidence import (
    Axis,
    Figure,
    Fold,
    Gain,
    ReliabilityPoint,
    RocPoint,
    ScoreBin,
    Slice,
)

WIDTH: Final = 460.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 20.0, 26.0, 40.0
_FLOOR: Final = 1e-4
"""Lowest PD on a logarithmic axis."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a forest plot.

    Args:
        name: at its left.
        figure: drawn, with its interval.
        note: at its right.
        strong: it stands out.
    """

    name: str
    figure: Figure
    note: str = ""
    strong: bool = False


class _Frame:
    """A canvas with two axes."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        titles: tuple[str, str],
        formats: tuple[Format | None, Format | None] = (None, None),
        height: float = 300.0,
        logarithmic: bool = False,
        labels: Sequence[str] = (),
    ) -> None:
        self.canvas = Canvas(WIDTH, height)
        bottom = height - _BOTTOM
        self.x = Scale(*x, _LEFT, WIDTH - _RIGHT, logarithmic)
        self.y = Scale(*y, bottom, _TOP, logarithmic)
        ticks = self.y.ticks()
        written = formats[1] or decimals(ticks)
        for tick in ticks:
            at = self.y(tick)
            self.canvas.rule(_LEFT, at, WIDTH - _RIGHT, at)
            self.canvas.text(_LEFT - 6, at + 4, written(tick), anchor="end", fill=FAINT)
        self.canvas.rule(_LEFT, bottom, WIDTH - _RIGHT, bottom, stroke=FAINT)
        if labels:
            self._labels(labels, bottom)
        else:
            ticks = self.x.ticks()
            written = formats[0] or decimals(ticks)
            for tick in ticks:
                if not written(tick):
                    continue
                at = self.x(tick)
                self.canvas.rule(at, bottom, at, bottom + 4, stroke=FAINT)
                self.canvas.text(at, bottom + 16, written(tick), anchor="middle", fill=FAINT)
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        self.canvas.text(middle, height - 6, titles[0], anchor="middle", fill=FAINT)
        self.canvas.text(2, 13, titles[1], fill=FAINT)

    def _labels(self, labels: Sequence[str], bottom: float) -> None:
        room = (WIDTH - _LEFT - _RIGHT) / len(labels)
        every = max(1, -(-int(max(breadth(label) for label in labels) + 10) // int(room)))
        for at, label in enumerate(labels):
            if at % every == 0:
                x = self.x(at)
                self.canvas.rule(x, bottom, x, bottom + 4, stroke=FAINT)
                self.canvas.text(x, bottom + 16, label, anchor="middle", fill=FAINT)

    def at(self, x: float, y: float) -> Point:
        """Return the place of a point."""
        return self.x(x), self.y(y)

    def interval(self, x: float, figure: Figure, *, stroke: str = DEEP) -> None:
        """Draw an interval upright."""
        if figure.low is not None and figure.high is not None:
            place = self.x(x)
            self.canvas.rule(
                place, self.y(figure.low), place, self.y(figure.high), stroke=stroke, width=1.4
            )


def roc(points: Sequence[RocPoint], titles: tuple[str, str], label: str, model: str) -> str:
    """The ROC curve with its interval."""
    frame = _Frame((0, 1), (0, 1), titles=titles, formats=(percents, percents))
    banded = [p for p in points if p.low is not None and p.high is not None]
    if banded:
        upper = [frame.at(p.false_alarms, p.high or 0.0) for p in banded]
        lower = [frame.at(p.false_alarms, p.low or 0.0) for p in reversed(banded)]
        frame.canvas.area([*upper, *lower])
    frame.canvas.trace([frame.at(0, 0), frame.at(1, 1)], stroke=FAINT, width=1, dash="3 3")
    frame.canvas.trace([frame.at(p.false_alarms, p.caught) for p in points])
    entries = [(model, DEEP, "line")] + ([("95 %", WASH, "box")] if banded else [])
    frame.canvas.legend(entries, WIDTH - _RIGHT - 150, frame.y(0.06))
    return frame.canvas.svg(label)


def reliability(points: Sequence[ReliabilityPoint], titles: tuple[str, str], label: str) -> str:
    """What was said against what came, both on logarithmic axes where PDs span much."""
    said = [point.pd for point in points]
    came = [point.observed.value for point in points]
    wide = max(said) / max(min(said), _FLOOR) > 20
    highest = min(1.0, max(*said, *came, *(p.observed.high or 0.0 for p in points)) * 1.1)
    lowest = max(_FLOOR, min(said) * 0.6) if wide else 0.0
    axis = (lowest, highest)
    frame = _Frame(
        axis, axis, titles=titles, formats=(percents, percents), height=330, logarithmic=wide
    )
    frame.canvas.trace(
        [frame.at(lowest, lowest), frame.at(highest, highest)], stroke=FAINT, width=1, dash="3 3"
    )
    for point in points:
        observed = point.observed
        if wide and observed.low is not None:
            observed = Figure(observed.value, max(observed.low, lowest), observed.high)
        frame.interval(point.pd, observed)
    for point in points:
        frame.canvas.dot(*frame.at(point.pd, max(point.observed.value, lowest)))
    return frame.canvas.svg(label)


def scores(
    bins: Sequence[ScoreBin], names: tuple[str, str], titles: tuple[str, str], label: str
) -> str:
    """How scores of the good ones and of defaults are distributed."""
    highest = max(max(each.goods, each.bads) for each in bins)
    frame = _Frame(
        (bins[0].low, bins[-1].high), (0, highest * 1.08), titles=titles, formats=(None, percents)
    )
    for each in bins:
        left, right = frame.x(each.low), frame.x(each.high)
        top = frame.y(each.goods)
        frame.canvas.box(left + 0.5, top, right - left - 1, frame.y(0) - top, fill=PALE)
    steps: list[Point] = [frame.at(bins[0].low, 0)]
    for each in bins:
        steps += [frame.at(each.low, each.bads), frame.at(each.high, each.bads)]
    steps.append(frame.at(bins[-1].high, 0))
    frame.canvas.trace(steps, stroke=WARM)
    frame.canvas.legend([(names[0], PALE, "box"), (names[1], WARM, "line")], _LEFT + 8, _TOP + 4)
    return frame.canvas.svg(label)


def ks(
    bins: Sequence[ScoreBin],
    names: tuple[str, str],
    titles: tuple[str, str],
    label: str,
    stated: Figure | None,
) -> str:
    """Both distributions summed up, and where they are furthest apart."""
    places = [bins[0].low, *(each.high for each in bins)]
    goods = [0.0, *accumulate(each.goods for each in bins)]
    bads = [0.0, *accumulate(each.bads for each in bins)]
    frame = _Frame((places[0], places[-1]), (0, 1), titles=titles, formats=(None, percents))
    frame.canvas.trace([frame.at(*each) for each in zip(places, goods, strict=True)])
    frame.canvas.trace([frame.at(*each) for each in zip(places, bads, strict=True)], stroke=WARM)
    far = max(range(len(places)), key=lambda at: abs(bads[at] - goods[at]))
    x, low, high = frame.x(places[far]), frame.y(goods[far]), frame.y(bads[far])
    frame.canvas.rule(x, low, x, high, stroke=INK, width=1.2, dash="2 2")
    if stated is not None:  # of all rows, where bins round it down
        frame.canvas.text(x + 6, (low + high) / 2, f"{stated.value:.3f}", bold=True, halo=True)
    frame.canvas.legend([(names[0], DEEP, "line"), (names[1], WARM, "line")], _LEFT + 8, _TOP + 4)
    return frame.canvas.svg(label)


def gains(rows: Sequence[Gain], titles: tuple[str, str], label: str) -> str:
    """What share of the defaults the worst rows hold."""
    frame = _Frame((0, 1), (0, 1), titles=titles, formats=(percents, percents))
    points = [frame.at(0, 0), *(frame.at(each.share, each.caught) for each in rows)]
    frame.canvas.trace([frame.at(0, 0), frame.at(1, 1)], stroke=FAINT, width=1, dash="3 3")
    frame.canvas.trace(points)
    for point in points[1:]:
        frame.canvas.dot(*point)
    return frame.canvas.svg(label)


def calibration_by(
    slices: Sequence[Slice], names: tuple[str, str], titles: tuple[str, str], label: str
) -> str:
    """PD said and default rate observed, by slice in their order."""
    highest = max(max(each.pd, each.observed.high or each.observed.value) for each in slices)
    frame = _Frame(
        (-0.5, len(slices) - 0.5),
        (0, highest * 1.1),
        titles=titles,
        formats=(None, percents),
        labels=[each.value for each in slices],
    )
    frame.canvas.trace([frame.at(at, each.pd) for at, each in enumerate(slices)])
    for at, each in enumerate(slices):
        frame.interval(at, each.observed, stroke=WARM)
    for at, each in enumerate(slices):
        frame.canvas.dot(*frame.at(at, each.observed.value), fill=WARM)
    frame.canvas.legend([(names[0], DEEP, "line"), (names[1], WARM, "dot")], _LEFT + 8, _TOP + 4)
    return frame.canvas.svg(label)


def auc_by(
    slices: Sequence[Slice], whole: Figure | None, titles: tuple[str, str], label: str
) -> str:
    """AUC by slice in their order, beside that of all rows."""
    measured = [(at, each.auc) for at, each in enumerate(slices) if each.auc is not None]
    values = [v for _, f in measured for v in (f.value, f.low, f.high) if v is not None]
    if whole is not None:
        values.append(whole.value)
    low, high = around(values)
    frame = _Frame(
        (-0.5, len(slices) - 0.5),
        (low, min(1.0, high)),
        titles=titles,
        labels=[each.value for each in slices],
    )
    if whole is not None:
        at = frame.y(whole.value)
        frame.canvas.rule(_LEFT, at, WIDTH - _RIGHT, at, stroke=FAINT, dash="3 3")
    for at, figure in measured:
        frame.interval(at, figure)
    for at, figure in measured:
        frame.canvas.dot(*frame.at(at, figure.value))
    return frame.canvas.svg(label)


def folds(rows: Sequence[Fold], name: str, titles: tuple[str, str], label: str) -> str:
    """A figure in every fold, a repeat at a column."""
    values = [each.figures[name] for each in rows if name in each.figures]
    low, high = around(values, room=0.15)
    last = max(each.repeat for each in rows)
    frame = _Frame(
        (0.5, last + 0.5),
        (low, min(1.0, high)),
        titles=titles,
        height=240,
        formats=(lambda value: f"{value:.0f}" if value == int(value) else "", None),
    )
    mean = frame.y(sum(values) / len(values))
    frame.canvas.rule(_LEFT, mean, WIDTH - _RIGHT, mean, stroke=FAINT, dash="3 3")
    for each in rows:
        if name in each.figures:
            frame.canvas.dot(*frame.at(each.repeat, each.figures[name]))
    return frame.canvas.svg(label)


def forest(
    rows: Sequence[Row],
    label: str,
    *,
    at: float | None = None,
    warn: float | None = None,
    written: Format | None = None,
) -> str:
    """Figures with their intervals, one below the other.

    Args:
        rows: from top to bottom.
        label: what the picture says.
        at: where a line stands, which figures are compared with.
        warn: where a second one stands, in another colour.
        written: how ticks are written.
    """
    step, names = 24.0, min(190.0, max(breadth(row.name) for row in rows) + 8)
    notes = max((breadth(row.note) for row in rows), default=0.0) + 8
    height = 10 + step * len(rows) + 26
    canvas = Canvas(WIDTH, height)
    values = [v for row in rows for v in (row.figure.value, row.figure.low, row.figure.high)]
    marked = [value for value in (*values, at, warn) if value is not None]
    scale = Scale(*around(marked), names + 6, WIDTH - notes - 6)
    bottom = height - 26
    ticks = scale.ticks(4)
    write = written or decimals(ticks)
    for tick in ticks:
        canvas.rule(scale(tick), 6, scale(tick), bottom)
        canvas.text(scale(tick), bottom + 16, write(tick), anchor="middle", fill=FAINT)
    for value, stroke in ((at, FAINT), (warn, WARM)):
        if value is not None:
            canvas.rule(scale(value), 4, scale(value), bottom, stroke=stroke, dash="3 3")
    for number, row in enumerate(rows):
        y = 10 + step * (number + 0.5)
        canvas.text(0, y + 4, fitted(row.name, names), bold=row.strong)
        figure = row.figure
        if figure.low is not None and figure.high is not None:
            canvas.rule(scale(figure.low), y, scale(figure.high), y, stroke=DEEP, width=1.6)
        canvas.dot(scale(figure.value), y, radius=4.2 if row.strong else 3.4)
        canvas.text(WIDTH, y + 4, row.note, anchor="end", fill=FAINT)
    return canvas.svg(label)


def bars(rows: Sequence[tuple[str, float]], label: str, written: Format) -> str:
    """Figures as bars, one below the other."""
    step, names = 20.0, min(200.0, max(breadth(name) for name, _ in rows) + 8)
    canvas = Canvas(WIDTH, 6 + step * len(rows))
    scale = Scale(0, max(value for _, value in rows) or 1.0, names + 4, WIDTH - 52)
    for number, (name, value) in enumerate(rows):
        y = 4 + step * number
        canvas.text(0, y + 12, fitted(name, names))
        canvas.box(scale(0), y + 2, scale(value) - scale(0), 13, fill=DEEP)
        canvas.text(scale(value) + 5, y + 12.5, written(value), fill=FAINT)
    return canvas.svg(label)


def axis(each: Axis, name: str, label: str) -> str:
    """Log-odds of default along one input, all else as it is."""
    width, height = 218.0, 120.0
    canvas = Canvas(width, height)
    canvas.text(0, 12, fitted(name, width - 24), bold=True)
    canvas.text(width, 12, {1: "↗", -1: "↘", 0: ""}[each.direction], anchor="end", fill=DEEP)
    x = Scale(*around(each.points, room=0.04), 34, width - 6)
    y = Scale(*around(each.log_odds, room=0.08), height - 24, 24)
    ticks = y.ticks(4)
    for tick in ticks:
        canvas.rule(34, y(tick), width - 6, y(tick))
        canvas.text(30, y(tick) + 3.5, decimals(ticks)(tick), anchor="end", fill=FAINT, size=9)
    for tick in x.ticks(3):
        canvas.text(x(tick), height - 8, f"{tick:.4g}", anchor="middle", fill=FAINT, size=9)
    steps: list[Point] = []
    for at, (point, value) in enumerate(zip(each.points, each.log_odds, strict=True)):
        if at:
            steps.append((x(point), steps[-1][1]))
        steps.append((x(point), y(value)))
    steps.append((width - 6, steps[-1][1]))  # beyond the last value it stays
    canvas.trace(steps, width=1.8)
    return canvas.svg(label)


def shares(bins: Bins, names: tuple[str, str], titles: tuple[str, str], label: str) -> str:
    """The frozen shares of a distribution, what is missing and withheld at its end."""
    edges = bins.edges
    written = decimals(edges) if len(edges) > 1 else str
    labels = [f"<{written(edges[0])}", *(f"≥{written(edge)}" for edge in edges)] if edges else ["·"]
    more = [
        (name, share)
        for name, share in zip(names, (bins.missing, bins.withheld), strict=True)
        if share > 0
    ]
    values = [*bins.shares, *(share for _, share in more)]
    frame = _Frame(
        (-0.5, len(values) - 0.5),
        (0, max(*values, 0.01) * 1.1),
        titles=titles,
        formats=(None, percents),
        height=230,
        labels=[*labels, *(name for name, _ in more)],
    )
    half = (WIDTH - _LEFT - _RIGHT) / len(values) * 0.42
    for at, value in enumerate(values):
        fill = DEEP if at < len(bins.shares) else PALE
        top = frame.y(value)
        frame.canvas.box(frame.x(at) - half, top, 2 * half, frame.y(0) - top, fill=fill)
    return frame.canvas.svg(label)
