"""How a challenger's scores differ from those that were answered.

Invariants:

- A difference is kept of each decision and challenger once. It names the decision, nobody else.
- A report is made of counts alone: how often each difference of score and each pair of grades was.
- A quantile is the smallest difference that at least that share of the decisions does not exceed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Difference:
    """What a challenger says beside what was answered.

    Args:
        challenger: version of the challenger.
        answered_by: version that answered.
        decision_id: the answer.
        day: on which, by China's calendar.
        pd_answered: None where the model claims none.
        pd_challenger: likewise.
        score_answered: points.
        score_challenger: points.
        grade_answered: by that model's cuts.
        grade_challenger: by the challenger's cuts.
    """

    challenger: str
    answered_by: str
    decision_id: str
    day: date
    pd_answered: float | None
    pd_challenger: float | None
    score_answered: int
    score_challenger: int
    grade_answered: str
    grade_challenger: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A challenger, beside which version, on which day."""

    challenger: str
    answered_by: str
    day: date


@dataclass(frozen=True, slots=True)
class Loss:
    """Decisions that a challenger has not scored.

    Args:
        dropped: its queue was full, or it came too late.
        failed: it failed on them.
    """

    dropped: int = 0
    failed: int = 0

    def __add__(self, other: "Loss") -> "Loss":
        return Loss(self.dropped + other.dropped, self.failed + other.failed)


@dataclass(frozen=True, slots=True)
class Move:
    """Decisions of a day with this grade, to which the challenger gave that one."""

    day: date
    answered: str
    challenger: str
    firms: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted of a challenger beside a version.

    Args:
        points: how often each difference of score was, by day and points.
        moves: how often each pair of grades was.
        pds: by day, how many differences of PD there are and their sum.
        losses: by day.
    """

    points: Mapping[tuple[date, int], int]
    moves: Sequence[Move]
    pds: Mapping[date, tuple[int, float]]
    losses: Mapping[date, Loss]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is said of some decisions.

    Args:
        scored: by both.
        loss: not scored by the challenger.
        mean: of the challenger's score less the answer's, points; None where none was scored.
        quantiles: of the same, by share.
        agreement: share of the same grade.
        pd_difference: mean of the challenger's PD less the answer's; None where there is none.
    """

    scored: int
    loss: Loss
    mean: float | None = None
    quantiles: Mapping[float, float] = field(default_factory=dict)
    agreement: float | None = None
    pd_difference: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A challenger beside the version that answered.

    Args:
        all: of all days.
        days: of each day, oldest first.
        grades: how many decisions of each pair of grades, over all days.
    """

    all: Figures
    days: Mapping[date, Figures]
    grades: Mapping[tuple[str, str], int]


def report(counts: Counts) -> Report:
    """Return what counts say."""
    days = sorted({*(day for day, _ in counts.points), *counts.losses})
    grades: Counter[tuple[str, str]] = Counter()
    for move in counts.moves:
        grades[move.answered, move.challenger] += move.firms
    return Report(
        _figures(counts, days),
        {day: _figures(counts, [day]) for day in days},
        dict(sorted(grades.items())),
    )


def _figures(counts: Counts, days: Sequence[date]) -> Figures:
    among = set(days)
    points: Counter[int] = Counter()
    for (day, difference), firms in counts.points.items():
        if day in among:
            points[difference] += firms
    loss = sum((counts.losses.get(day, Loss()) for day in days), Loss())
    scored = points.total()
    if not scored:
        return Figures(0, loss)
    same = sum(
        move.firms
        for move in counts.moves
        if move.day in among and move.answered == move.challenger
    )
    pds = [counts.pds[day] for day in days if day in counts.pds]
    with_pd = sum(firms for firms, _ in pds)
    return Figures(
        scored=scored,
        loss=loss,
        mean=sum(difference * firms for difference, firms in points.items()) / scored,
        quantiles=quantiles(points.items()),
        agreement=same / scored,
        pd_difference=sum(total for _, total in pds) / with_pd if with_pd else None,
    )


def quantiles(counted: Iterable[tuple[int, int]]) -> dict[float, float]:
    """Return the `QUANTILES` of values, each with how often it is; one at least."""
    ordered = sorted(counted)
    reached = list(accumulate(firms for _, firms in ordered))
    return {
        share: float(
            next(
                value
                for (value, _), up_to in zip(ordered, reached, strict=True)
                if up_to >= share * reached[-1]
            )
        )
        for share in QUANTILES
    }
