"""A model held against rows that it was not trained on: does it still rank, calibrate, fit?

Invariants: nothing is fitted to the rows; figures are those of `comparison`, so that they mean what
they mean in the model's own report. Whether the population has moved (PSI) goes by the bins that
the model's manifest froze, over all rows, labelled or not; where rows carry weights, over
those that do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.models.domain import SCORE, Bins, Manifest
from services.scoring.training.comparison import CERTAIN, Comparison, periods_of, resamples_of
from services.scoring.training.domain import Floats, Sample, Split
from services.scoring.training.evidence import Figure, GradeRow, ReliabilityPoint, Slice
from services.scoring.training.table import Labelled

FIT, WATCH, UNFIT = "FIT", "WATCH", "UNFIT"

_FLOOR: Final = 1e-4
"""Share that an empty bin is taken to have; PSI has no value without."""

PSI_MOVED, PSI_OTHER = 0.10, 0.25
"""The limits that are in use since Siddiqi 2006."""

_SLOPES: Final = ((0.8, 1.25), (0.5, 2.0))
_LOST: Final = (0.03, 0.10)
_RATIOS: Final = ((0.8, 1.25), (0.5, 2.0))
_FEWEST_EVENTS: Final = 30


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from the figures.

    Args:
        verdict: FIT, WATCH or UNFIT.
        reasons: in words, the gravest first.
    """

    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Validation:
    """What was measured on the rows.

    Args:
        rows: of the file, labelled or not.
        n: that have an outcome.
        events: with the outcome.
        observed: share of the outcome, weighted as the rows are.
        mean_pd: what the model said on average.
        figures: by name: auc, gini, ks, brier, log_loss, calibration_slope, ...
        psi_score: how far the score's distribution moved.
        psi: the same of each input.
        grades: of the model, measured.
        reliability: rows of like PD.
        segments: by column.
        periods: in order of time.
        verdict: what follows.
    """

    rows: int
    n: int
    events: int
    observed: float
    mean_pd: float
    figures: Mapping[str, Figure]
    psi_score: float
    psi: Mapping[str, float]
    grades: tuple[GradeRow, ...]
    reliability: tuple[ReliabilityPoint, ...]
    segments: Mapping[str, tuple[Slice, ...]]
    periods: tuple[Slice, ...]
    verdict: Verdict


def validate(
    manifest: Manifest,
    margins: Floats,
    shifts: Mapping[str, float],
    labelled: Labelled,
    *,
    seed: int,
    approved_below: float,
) -> Validation:
    """Measure a model on rows.

    Args:
        manifest: of the model.
        margins: of all rows of the file.
        shifts: PSI by input and of the score.
        labelled: the rows with an outcome.
        seed: of the bootstrap.
        approved_below: PD below which slices count a row as approved.
    """
    calibration = manifest.calibration
    log_odds = calibration.a * margins[labelled.places] + calibration.b
    pds = 1 / (1 + np.exp(-log_odds))
    rows = len(log_odds)
    weights = np.ones(rows) if labelled.weights is None else labelled.weights
    groups = np.arange(rows) if labelled.groups is None else labelled.groups
    sample = Sample(np.empty((rows, 0)), labelled.labels, weights, groups, labelled.times)
    everything = Split(np.empty(0, dtype=np.int64), np.arange(rows))
    comparison = Comparison(
        sample,
        [[everything]],
        "validation",
        resamples_of(rows),
        seed,
        firms=labelled.groups is not None,
        weighted=labelled.weights is not None,
    )
    said = log_odds[None, :]
    figures = comparison.measure(said).figures
    observed = float(np.average(labelled.labels, weights=weights))
    mean_pd = float(np.average(pds, weights=weights))

    def slices(values: Sequence[str]) -> tuple[Slice, ...]:
        return comparison.slices(values, said, pds, manifest.scaling, approved_below)

    times = labelled.times
    periods = () if times is None else slices(periods_of(times))
    psi_score = shifts[SCORE]
    return Validation(
        rows=len(margins),
        n=rows,
        events=int(labelled.labels.sum()),
        observed=observed,
        mean_pd=mean_pd,
        figures=figures,
        psi_score=psi_score,
        psi={name: value for name, value in shifts.items() if name != SCORE},
        grades=comparison.grades(pds, manifest.grades),
        reliability=comparison.reliability(pds),
        segments={name: slices(values) for name, values in labelled.segments.items()},
        periods=tuple(sorted(periods, key=lambda each: each.value)),
        verdict=verdict_of(
            manifest, figures, psi_score, observed / mean_pd, int(labelled.labels.sum())
        ),
    )


class Shift:
    """Counts a distribution against the bins that a manifest froze, a part at a time.

    Args:
        bins: of the training.
    """

    def __init__(self, bins: Bins) -> None:
        self._edges = np.array(bins.edges)
        self._expected = np.array([*bins.shares, bins.missing + bins.withheld])
        self._counts = np.zeros(len(self._expected))

    def add(self, values: Floats, weights: Floats) -> None:
        """Count some rows' values; NaN is missing."""
        missing = np.isnan(values)
        places = np.searchsorted(self._edges, values[~missing], "right")
        self._counts[:-1] += np.bincount(places, weights[~missing], len(self._counts) - 1)
        self._counts[-1] += weights[missing].sum()

    @property
    def psi(self) -> float:
        """Population stability index of all that was counted."""
        found = np.maximum(self._counts / self._counts.sum(), _FLOOR)
        expected = np.maximum(self._expected, _FLOOR)
        return float(((found - expected) * np.log(found / expected)).sum())


def verdict_of(
    manifest: Manifest,
    figures: Mapping[str, Figure],
    psi_score: float,
    ratio: float,
    events: int,
) -> Verdict:
    """What the figures mean for a model's use.

    Args:
        manifest: with what was measured when it was trained.
        figures: measured on the rows.
        psi_score: of the score.
        ratio: observed share of the outcome to what the model said.
        events: with the outcome.
    """
    grave: list[str] = []
    slight: list[str] = []
    trained = manifest.metrics.get("auc")
    auc = figures.get("auc")
    if auc is not None:
        low = auc.value if auc.low is None else auc.low
        if low <= 0.5:
            grave.append(f"it may not rank at all: AUC {auc.value:.3f} from {low:.3f}")
        elif trained is not None:
            lost = trained.value - auc.value
            high = auc.value if auc.high is None else auc.high
            words = f"AUC {auc.value:.3f}, where training measured {trained.value:.3f}"
            if lost > _LOST[1] and high < trained.value:
                grave.append(f"it ranks much worse than it did: {words}")
            elif lost > _LOST[0] and high < trained.value:
                slight.append(f"it ranks worse than it did: {words}")
    slope = figures.get("calibration_slope")
    if slope is not None:
        words = f"calibration slope {slope.value:.2f}"
        spread = "too far apart" if slope.value < 1 else "too close together"
        _judge(slope, _SLOPES, f"its PDs are {spread}: {words}", grave, slight)
    level = "low" if ratio > 1 else "high"
    # As many events as came could have been as many fewer or more by chance alone.
    chance = CERTAIN / math.sqrt(max(events, 1))
    _judge(
        Figure(ratio, ratio * max(0.0, 1 - chance), ratio * (1 + chance)),
        _RATIOS,
        f"its PDs are too {level}: {ratio:.2f} of what it said was observed; recalibrate",
        grave,
        slight,
    )
    words = f"PSI of the score {psi_score:.2f}"
    if psi_score >= PSI_OTHER:
        grave.append(f"it is another population than it was trained on: {words}")
    elif psi_score >= PSI_MOVED:
        slight.append(f"the population has moved: {words}")
    if events < _FEWEST_EVENTS:
        slight.append(f"{events} events are few: intervals are wide, decide by them")
    if grave:
        return Verdict(UNFIT, (*grave, *slight))
    if slight:
        return Verdict(WATCH, tuple(slight))
    return Verdict(FIT, ("it ranks and calibrates as it did, on a like population",))


def _judge(
    figure: Figure,
    limits: tuple[tuple[float, float], tuple[float, float]],
    words: str,
    grave: list[str],
    slight: list[str],
) -> None:
    """File what is outside of limits; an interval that reaches into them excuses one step."""
    (low, high), (lowest, highest) = limits
    ends = (figure.low, figure.high)
    inside = any(end is not None and low <= end <= high for end in ends) or (
        figure.low is not None and figure.high is not None and figure.low < 1 < figure.high
    )
    if not math.isfinite(figure.value) or low <= figure.value <= high:
        return
    if inside or lowest <= figure.value <= highest:
        slight.append(words)
    else:
        grave.append(words)
