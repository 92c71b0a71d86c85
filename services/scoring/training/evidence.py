"""What a training measured: training.json of a model folder, which card and report are drawn from.

Invariants: every figure is of rows that the model which gave it had not seen, unless it says so;
slices of few rows are left out of what is written, nor can they be told from what stays; what was
not measured is absent (None, an empty tuple), never a zero. Figures are weighted where the table
is. PDs and shares are within 0 and 1.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services.scoring.models import document
from services.scoring.training.domain import Finding

FORMAT: Final = 1
PERIODS: Final = "periods"
COVERAGE: Final = "coverage"
SMALL: Final = 30
"""Rows below which a slice is left out: its firms could be told."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure.

    Args:
        value: measured.
        low: lower end of its 95 % interval; None where none was made.
        high: upper end.
        deviation: standard deviation over folds or repeats.
    """

    value: float
    low: float | None = None
    high: float | None = None
    deviation: float | None = None


@dataclass(frozen=True, slots=True)
class OutcomeStatement:
    """What a label of 1 means.

    Args:
        definition: in words.
        observation: the window of which inputs tell, in words.
        performance: the window in which the outcome may come, in words.
        indeterminates: what they are and how they were treated.
        rejects: the same of rejected applicants.
    """

    definition: str = ""
    observation: str = ""
    performance: str = ""
    indeterminates: str = ""
    rejects: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the rows came to be.

    Args:
        rows: of the table, labelled.
        events: with the outcome.
        groups: firms, where several rows may be of one; None: each row is a firm.
        weighted: rows carry weights.
        prior: share of the outcome after weighting, which PDs are calibrated to.
        left_out: rows that were not used, by reason.
        words: as the spec says it.
    """

    rows: int
    events: int
    groups: int | None = None
    weighted: bool = False
    prior: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)
    words: str = ""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How it was measured.

    Args:
        kind: repeated_stratified, grouped, out_of_time.
        folds: outer.
        repeats: of the outer folds.
        cutoff: of an out-of-time split, ISO 8601; empty otherwise.
        tuning: what was tuned, where and within which bound, in words.
        calibration: how PDs were calibrated, in words.
        intervals: how intervals of the figures were made, in words.
        resamples: of the bootstrap.
        seed: of all randomness.
    """

    kind: str
    folds: int
    repeats: int
    cutoff: str = ""
    tuning: str = ""
    calibration: str = ""
    intervals: str = ""
    resamples: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Fold:
    """One outer fold.

    Args:
        repeat: from 1.
        fold: from 1.
        rows: that its model did not see.
        events: among them.
        figures: by name: auc, ks, brier, log_loss, ...
    """

    repeat: int
    fold: int
    rows: int
    events: int
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RocPoint:
    """A point of the ROC curve.

    Args:
        false_alarms: share of the good ones above the threshold.
        caught: share of the defaults above it.
        low: lower end of the interval of `caught` at this share of false alarms.
        high: upper end.
    """

    false_alarms: float
    caught: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ReliabilityPoint:
    """Rows of like PD: what was said, and what came.

    Args:
        rows: how many.
        events: among them.
        pd: their mean PD.
        observed: their share of the outcome.
    """

    rows: int
    events: int
    pd: float
    observed: Figure


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """Rows of like score, which is better when higher.

    Args:
        low: from this score on.
        high: below this one.
        goods: share of all good rows.
        bads: share of all rows with the outcome.
    """

    low: float
    high: float
    goods: float
    bads: float


@dataclass(frozen=True, slots=True)
class Gain:
    """What the worst rows by score hold.

    Args:
        share: of all rows, the worst first.
        caught: share of the defaults among them.
        pd: mean PD of the rows of this step alone.
        observed: default rate of the rows of this step alone.
        score_to: highest score among them.
    """

    share: float
    caught: float
    pd: float
    observed: float
    score_to: float


@dataclass(frozen=True, slots=True)
class GradeRow:
    """A grade, measured.

    Args:
        grade: its name.
        rows: how many got it.
        events: with the outcome.
        pd: mean PD; None without rows.
        observed: default rate; None without rows.
    """

    grade: str
    rows: int
    events: int
    pd: float | None = None
    observed: Figure | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the rows: a region, an industry, a size, a period, a pattern of sources.

    Args:
        value: which.
        rows: how many.
        events: with the outcome.
        pd: mean PD.
        observed: default rate.
        score: mean score.
        approved: share whose PD is below the cutoff of the evidence.
        auc: None where one of the outcomes is absent.
    """

    value: str
    rows: int
    events: int
    pd: float
    observed: Figure
    score: float
    approved: Figure | None = None
    auc: Figure | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """Where slices are compared by who would be approved.

    Args:
        pd: below it a row counts as approved.
        words: why there.
    """

    pd: float
    words: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """Another model under the same folds, or the model itself on some of the rows.

    Args:
        name: as the report shows it, e.g. "WoE-logistic (optbinning)".
        figures: by name, as those of the model.
        rows: that it was measured on; None: the same as the model.
        words: how it was made.
    """

    name: str
    figures: Mapping[str, Figure]
    rows: int | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The model against a baseline, on the same rows.

    Args:
        against: name of the baseline.
        metric: which figure.
        difference: the model's less the baseline's.
        low: lower end of its 95 % interval.
        high: upper end.
        p: of no difference, two-sided; None where the method gives none.
        method: in words.
    """

    against: str
    metric: str
    difference: float
    low: float
    high: float
    p: float | None
    method: str


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings that were tried within inner folds.

    Args:
        number: from 1.
        parameters: that were tried.
        value: what tuning went by; smaller is better.
        seconds: that it took; None where it was not measured: then the file is the same each time.
        chosen: the final model has these.
    """

    number: int
    parameters: Mapping[str, str | int | float | bool]
    value: float
    seconds: float | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """PD along one input, all else as it is.

    Args:
        feature: which.
        direction: in which PD may move: 1, -1 or 0.
        points: values of the input, ascending.
        log_odds: mean over the rows, of the default's log-odds, at each value.
        moves: steps that the sweep compared; 0 for an input that is free.
        wrong: steps among them in the wrong direction; not 0 refuses the model.
    """

    feature: str
    direction: int
    points: tuple[float, ...]
    log_odds: tuple[float, ...]
    moves: int = 0
    wrong: int = 0


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that was measured. Parts that a training does not make stay empty.

    Args:
        format: of this file.
        outcome: what it predicts.
        sampling: of which rows.
        protocol: how.
        metrics: by name: auc, gini, ks, brier, log_loss, calibration_slope, calibration_intercept,
            ece.
        folds: each outer fold of each repeat.
        roc: ascending in false alarms, from 0 to 1.
        reliability: ascending in PD.
        scores: ascending; the last bin closes the range.
        gains: worst first, up to all rows.
        grades: best first.
        approval: where slices are compared; None: nowhere.
        segments: by column of the table, e.g. region.
        periods: in order of time.
        coverage: patterns of sources.
        hidden: how many slices were left out as too small, by column; PERIODS and COVERAGE are
            those of periods and patterns.
        baselines: beside the model.
        paired: the model against them.
        populations: accepted applicants and all, where rejected ones are there.
        findings: of the inspection of the table.
        importance: mean absolute points by input, over the training rows.
        group_importance: the same of groups, whose inputs' points are summed first.
        axes: of the sweep, constrained inputs first.
        sweep_rows: rows that the sweep went along.
        trials: of the tuning.
        spec: as it was used, TOML; what was inferred filled in.
        environment: versions, command, operator, by name.
    """

    outcome: OutcomeStatement
    sampling: Sampling
    protocol: Protocol
    metrics: Mapping[str, Figure]
    format: int = FORMAT
    folds: tuple[Fold, ...] = ()
    roc: tuple[RocPoint, ...] = ()
    reliability: tuple[ReliabilityPoint, ...] = ()
    scores: tuple[ScoreBin, ...] = ()
    gains: tuple[Gain, ...] = ()
    grades: tuple[GradeRow, ...] = ()
    approval: Approval | None = None
    segments: Mapping[str, tuple[Slice, ...]] = field(default_factory=dict)
    periods: tuple[Slice, ...] = ()
    coverage: tuple[Slice, ...] = ()
    hidden: Mapping[str, int] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] = ()
    paired: tuple[PairedTest, ...] = ()
    populations: tuple[Baseline, ...] = ()
    findings: tuple[Finding, ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)
    group_importance: Mapping[str, float] = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    sweep_rows: int = 0
    trials: tuple[Trial, ...] = ()
    spec: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


def without_small(evidence: Evidence) -> Evidence:
    """Return the evidence without slices of fewer than SMALL rows; the same where there are none.

    Where one alone is small, the smallest of the others goes, too: the small one could be told from
    the sum of all.
    """
    hidden = Counter(evidence.hidden)

    def seen(name: str, slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
        large = [each for each in slices if each.rows >= SMALL]
        if large and len(slices) - len(large) == 1:
            large.remove(min(large, key=lambda each: each.rows))
        if len(large) < len(slices):
            hidden[name] += len(slices) - len(large)
        return tuple(large)

    return replace(
        evidence,
        segments={column: seen(column, slices) for column, slices in evidence.segments.items()},
        periods=seen(PERIODS, evidence.periods),
        coverage=seen(COVERAGE, evidence.coverage),
        hidden=dict(hidden),
    )


def dump(evidence: Evidence) -> str:
    """Return the text of training.json."""
    return document.dump(without_small(evidence))


def load(text: str) -> Evidence:
    """Return what training.json says.

    Raises:
        ValueError: it is of another format, or damaged.
    """
    evidence = document.load(Evidence, text)
    if evidence.format != FORMAT:
        raise ValueError(f"training.json has the format {evidence.format}, not {FORMAT}")
    return evidence
