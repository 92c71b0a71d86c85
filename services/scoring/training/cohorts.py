"""Cohorts from the platform's own records: who was observed when, and what became of them. No I/O.

Invariants: inputs are what was known at a cohort's day, the outcome is what lenders say of the
months after it, and no month is in both. A firm that had defaulted already, of which no lender says
anything afterwards, or whose consent does not open all of the window, has no outcome: it is
counted, not guessed.
"""

import datetime as dt
import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.features.firm import OPTIONAL, last_whole_month, ordinal
from services.scoring.features.registry import FEATURES, compute, encode, insufficient
from services.scoring.models.inputs import PLATFORM
from services.scoring.training.domain import TrainingError, TrainingTable

CREDIT: Final = "credit_facility"


class Outcome(enum.StrEnum):
    """What became of a firm after its cohort's day."""

    BAD = "BAD"
    GOOD = "GOOD"
    INDETERMINATE = "INDETERMINATE"
    NO_LOAN = "NO_LOAN"
    ALREADY_BAD = "ALREADY_BAD"
    NOT_OPENED = "NOT_OPENED"


@dataclass(frozen=True, slots=True)
class OutcomeRule:
    """What counts as default.

    The defaults follow the usual definition: 90 days past due or unlikely to pay within a year
    (Capital Requirements Regulation, article 178; 商业银行金融资产风险分类办法 of 2023, by which a
    loan that is over 90 days past due is substandard at least).

    Args:
        months: of the performance window, after the month that the inputs end with.
        bad_days: past due from which a loan is in default.
        bad_class: five-class level from which it is; 3 is substandard.
        grey_days: past due from which a firm that did not default is neither good nor bad.
    """

    months: int = 12
    bad_days: int = 90
    bad_class: int = 3
    grey_days: int = 30

    def __post_init__(self) -> None:
        if not 1 <= self.months <= 60:
            raise TrainingError("a performance window has 1 to 60 months")
        if not 0 < self.grey_days <= self.bad_days:
            raise TrainingError("a firm turns grey before it turns bad: lower the grey days")

    @property
    def definition(self) -> str:
        """In words."""
        return (
            f"{self.bad_days} days past due or a loan classed substandard or worse, within "
            f"{self.months} months"
        )

    def ripe_on(self, cohort: dt.date) -> dt.date:
        """The first day on which the performance window of a cohort is over."""
        end = last_whole_month(cohort) + self.months + 1
        return dt.date(end // 12, end % 12 + 1, 1)

    def outcome(self, summary: FirmSummary, cohort: dt.date) -> Outcome:
        """What became of a firm.

        Args:
            summary: with all that lenders say today.
            cohort: the day on which it was observed.
        """
        observed = last_whole_month(cohort)
        if summary.period is not None:
            first_day, last_day = summary.period
            begins = dt.date((observed + 1) // 12, (observed + 1) % 12 + 1, 1)
            if first_day > begins or last_day < self.ripe_on(cohort) - dt.timedelta(days=1):
                return Outcome.NOT_OPENED
        loans = [series for series in summary.series if series.record_type == CREDIT]
        if any(self._is_bad(series, observed, observed) for series in loans):
            return Outcome.ALREADY_BAD
        first, last = observed + 1, observed + self.months
        if not any(first <= ordinal(month) <= last for it in loans for month in it.months):
            return Outcome.NO_LOAN
        if any(self._is_bad(series, first, last) for series in loans):
            return Outcome.BAD
        worst = max(_worst(series, "days_past_due", first, last) for series in loans)
        return Outcome.INDETERMINATE if worst >= self.grey_days else Outcome.GOOD

    def _is_bad(self, series: SubjectSeries, first: int, last: int) -> bool:
        return (
            _worst(series, "days_past_due", first, last) >= self.bad_days
            or _worst(series, "five_class", first, last) >= self.bad_class
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """A firm in a cohort.

    Args:
        subject_id: the firm.
        cohort: the day.
        inputs: what was known of it then; None when its consent was refused.
        outcome: what became of it; None likewise.
    """

    subject_id: str
    cohort: dt.date
    inputs: FirmSummary | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Vintage:
    """What became of a cohort.

    Args:
        cohort: the day.
        outcomes: firms by outcome, of those with enough data.
        refused: firms whose data was not released.
        insufficient: firms without what a score needs.
    """

    cohort: dt.date
    outcomes: Mapping[Outcome, int]
    refused: int
    insufficient: int

    @property
    def rate(self) -> float | None:
        """Defaults among good and bad; None when there are none of either."""
        bad, good = self.outcomes.get(Outcome.BAD, 0), self.outcomes.get(Outcome.GOOD, 0)
        return bad / (bad + good) if bad + good else None


def vintages(observations: Iterable[Observation]) -> tuple[Vintage, ...]:
    """Count what became of each cohort, the oldest first."""
    by_cohort: dict[dt.date, list[Observation]] = {}
    for each in observations:
        by_cohort.setdefault(each.cohort, []).append(each)
    found = []
    for cohort, members in sorted(by_cohort.items()):
        known = [it for it in members if it.inputs is not None and it.outcome is not None]
        enough = [it for it in known if it.inputs is not None and not insufficient(it.inputs)]
        found.append(
            Vintage(
                cohort,
                dict(Counter(it.outcome for it in enough if it.outcome is not None)),
                refused=len(members) - len(known),
                insufficient=len(known) - len(enough),
            )
        )
    return tuple(found)


def table(observations: Sequence[Observation], rule: OutcomeRule) -> TrainingTable:
    """Make a table of the firms that turned out good or bad.

    A firm's rows are in one group, a row's time is its cohort's day, and its region, industry and
    size are segments, which are no inputs.

    Args:
        observations: of all cohorts.
        rule: by which the outcomes were judged.

    Raises:
        TrainingError: there is nothing to train on.
    """
    rows = [
        (it.subject_id, it.cohort, it.inputs, it.outcome)
        for it in observations
        if it.inputs is not None
        and it.outcome in (Outcome.BAD, Outcome.GOOD)
        and not insufficient(it.inputs)
    ]
    if not rows:
        raise TrainingError(
            "no firm turned out good or bad: take earlier cohorts, or firms with loans"
        )
    firms = sorted({subject_id for subject_id, *_ in rows})
    days = sorted({cohort.isoformat() for _, cohort, *_ in rows})
    return TrainingTable(
        matrix=np.array(
            [encode(compute(summary, cohort)) for _, cohort, summary, _ in rows], dtype=np.float64
        ).reshape(len(rows), len(FEATURES)),
        features=PLATFORM.features,
        labels=np.array([outcome is Outcome.BAD for *_, outcome in rows], dtype=np.int64),
        times=np.array([(cohort - dt.date(1970, 1, 1)).days for _, cohort, *_ in rows]),
        groups=np.array([firms.index(subject_id) for subject_id, *_ in rows], dtype=np.int64),
        segments=segments([summary for _, _, summary, _ in rows]),
        coverage=[coverage(summary) for _, _, summary, _ in rows],
        source=(
            f"the platform's records of {len(firms)} firms in {len(days)} cohorts; outcome by "
            f"lenders' records: {rule.definition}"
        ),
        as_of=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}",
        simulated=any(summary.simulated for _, _, summary, _ in rows),
    )


def segments(summaries: Sequence[FirmSummary]) -> dict[str, list[str]]:
    """Region, industry and size of firms, by which results are shown and which are no inputs."""
    found = [_attributes(summary) for summary in summaries]
    return {
        "region": [each.get("district", "")[:2] or "unknown" for each in found],
        "industry": [each.get("industry", "")[:1] or "unknown" for each in found],
        "size": [_size(summary) for summary in summaries],
    }


def coverage(summary: FirmSummary) -> str:
    """The optional sources that were there, e.g. "credit_facility+tax_filing"."""
    there = [name for name in OPTIONAL if summary.coverage_of(name) is Coverage.SUPPLIED]
    return "+".join(sorted(there)) or "required sources alone"


def _attributes(summary: FirmSummary) -> Mapping[str, str]:
    for series in summary.series:
        if series.record_type == "registration":
            return series.attributes
    return {}


def _size(summary: FirmSummary) -> str:
    """By insured staff alone, floors of 其他 in 统计上大中小微型企业划分办法 (2017)."""
    staff = max(
        (
            series.columns["headcount"][-1]
            for series in summary.series
            if series.record_type == "social_insurance" and series.columns.get("headcount")
        ),
        default=0,
    )
    if not staff:
        return "unknown"
    return next(
        name
        for name, floor in (("large", 300), ("medium", 100), ("small", 10), ("micro", 0))
        if staff >= floor
    )


def _worst(series: SubjectSeries, measure: str, first: int, last: int) -> int:
    values = series.columns.get(measure, ())
    return max(
        (
            value
            for month, value in zip(series.months, values, strict=False)
            if first <= ordinal(month) <= last
        ),
        default=0,
    )
