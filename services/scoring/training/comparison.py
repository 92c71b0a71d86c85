"""Figures of what was said out of fold, how sure they are, and models side by side.

Invariants: nothing is fitted here but the slope and intercept that are themselves measured; a
figure and its interval are the same statistic, the interval's under resampled rows, or firms where
the table knows them; models are compared on the same rows of the same folds.

Sources: bootstrap percentiles, Efron & Tibshirani 1993; intervals of shares, Wilson 1927, on the
effective number of rows of Kish 1965 where they carry weights; DeLong, DeLong & Clarke-Pearson 1988
for two AUCs on the same rows; Nadeau & Bengio 2003 for differences over repeated folds, whose
training parts overlap.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, stdtr, stdtrit

from services.scoring.models.domain import GradeCut, Scaling
from services.scoring.training import metrics
from services.scoring.training.domain import OUT_OF_TIME, Floats, Ints, Sample, Split, TrainingError
from services.scoring.training.evidence import (
    Figure,
    Fold,
    Gain,
    GradeRow,
    PairedTest,
    ReliabilityPoint,
    RocPoint,
    ScoreBin,
    Slice,
)

FIGURES: Final = (
    "auc",
    "gini",
    "ks",
    "brier",
    "log_loss",
    "calibration_slope",
    "calibration_intercept",
    "ece",
)
CERTAIN: Final = 1.96
"""Standard deviations on both sides of 95 %."""

CERTAINLY: Final = 1e-15
"""PD from which, and whose complement from which, floats tell no points."""

MOST_RESAMPLES, FEWEST_RESAMPLES, RESAMPLED_ROWS = 1000, 100, 4_000_000
CELLS: Final = 2_000_000
"""Numbers of one array at a time."""

NEWTON_STEPS: Final = 4
"""From the point estimate, resampled slopes are found to four digits within three."""

SCORE_BINS, GAIN_STEPS, ROC_STEPS, MOST_CURVES = 20, 20, 50, 200

SHORT_SPAN: Final = 3 * 366
"""Days that are shown by quarter; a longer span by year."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's figures.

    Args:
        figures: by name.
        resampled: the same under each resample; the first is the rows as they are.
        folds: AUC and log-loss of each outer fold, in order.
    """

    figures: Mapping[str, Figure]
    resampled: Mapping[str, Floats]
    folds: Mapping[str, Floats]


def resamples_of(rows: int) -> int:
    """Resamples that a table of so many rows is given."""
    return max(FEWEST_RESAMPLES, min(MOST_RESAMPLES, RESAMPLED_ROWS // rows))


class Comparison:
    """Measures models on one table under one set of folds.

    Args:
        sample: the rows.
        repeats: outer folds, by repeat.
        kind: of the evaluation.
        resamples: of the bootstrap.
        seed: of it.
        firms: rows of a firm are resampled together.
        weighted: rows carry weights.
    """

    def __init__(
        self,
        sample: Sample,
        repeats: Sequence[Sequence[Split]],
        kind: str,
        resamples: int,
        seed: int,
        *,
        firms: bool,
        weighted: bool,
    ) -> None:
        self._sample = sample
        self._repeats = [[split for split in splits if len(split.unseen)] for splits in repeats]
        self._kind = kind
        self._resamples = resamples
        self._seed = seed
        self._firms = firms
        self._weighted = weighted

    @property
    def resamples(self) -> int:
        """Of the bootstrap."""
        return self._resamples

    @property
    def words(self) -> str:
        """How intervals of figures are made."""
        of = "firms" if self._firms else "rows"
        return f"bootstrap of {of}, percentiles; shares: Wilson" if self._resamples else ""

    def measure(self, log_odds: Floats, within: Bools | None = None) -> Measured:
        """Figures of what a model said.

        Args:
            log_odds: repeats x rows; NaN where it said nothing.
            within: rows that count; None: all.
        """
        found: dict[str, list[Floats]] = {name: [] for name in FIGURES}
        for weights in self._weights(within):
            for name, values in self._figures(log_odds, weights, within).items():
                found[name].append(values)
        resampled = {name: np.concatenate(values) for name, values in found.items() if values}
        folds = self._by_fold(log_odds, within)
        figures = {}
        for name, values in resampled.items():
            if np.isnan(values[0]):
                continue
            # Resampled rows repeat themselves, which this one counts as miscalibration.
            interval = (None, None) if name == "ece" else _interval(values[1:])
            spread = folds.get(name)
            deviation = (
                None if spread is None or len(spread) < 2 else float(np.nanstd(spread, ddof=1))
            )
            figures[name] = Figure(float(values[0]), *interval, deviation)
        return Measured(figures, resampled, folds)

    def folds(self, log_odds: Floats) -> tuple[Fold, ...]:
        """Each outer fold's own figures."""
        labels, weights = self._sample.labels, self._sample.weights
        found = []
        for repeat, splits in enumerate(self._repeats):
            for fold, split in enumerate(splits):
                truth, said = labels[split.unseen], log_odds[repeat, split.unseen]
                stated = weights[split.unseen]
                values = {
                    "auc": metrics.auc(truth, said, stated),
                    "ks": metrics.ks(truth, said, stated),
                    "brier": metrics.brier(truth, _pd(said), stated),
                    "log_loss": metrics.log_loss(truth, said, stated),
                }
                kept = {name: value for name, value in values.items() if not math.isnan(value)}
                found.append(Fold(repeat + 1, fold + 1, len(truth), int(truth.sum()), kept))
        return tuple(found)

    def paired(
        self, name: str, model: Measured, other: Measured, said: Floats, others: Floats
    ) -> tuple[PairedTest, ...]:
        """The model against another.

        Args:
            name: of the other.
            model: its figures.
            other: the other's.
            said: the model's log-odds; repeats x rows.
            others: the other's.
        """
        tests = []
        if self._kind != OUT_OF_TIME and sum(len(splits) for splits in self._repeats) > 2:
            tests += [
                self._resampled_t(name, metric, model.folds[metric] - other.folds[metric])
                for metric in ("auc", "log_loss")
            ]
        if self._firms or self._weighted:
            by = "firms" if self._firms else "rows"
            differences = model.resampled["auc"] - other.resampled["auc"]
            low, high = _interval(differences[1:])
            if low is not None and high is not None:
                tests.append(
                    PairedTest(
                        name,
                        "auc",
                        float(differences[0]),
                        low,
                        high,
                        _two_sided(differences[1:]),
                        f"paired bootstrap of {by}, percentiles (Efron & Tibshirani 1993)",
                    )
                )
        else:
            there = ~np.isnan(said[0])
            labels = self._sample.labels[there]
            # The variance of an outcome that came once is not known.
            if np.bincount(labels, minlength=2).min() > 1:
                tests.append(_delong(name, labels, said[0, there], others[0, there]))
        return tuple(tests)

    def _resampled_t(self, name: str, metric: str, differences: Floats) -> PairedTest:
        known = differences[~np.isnan(differences)]
        number = len(known)
        ratio = float(
            np.mean(
                [
                    len(split.unseen) / len(split.seen)
                    for splits in self._repeats
                    for split in splits
                ]
            )
        )
        mean = float(known.mean())
        error = math.sqrt((1 / number + ratio) * float(known.var(ddof=1)))
        width = float(stdtrit(number - 1, 0.975)) * error
        p = float(2 * stdtr(number - 1, -abs(mean) / error)) if error else float(mean == 0)
        method = f"corrected resampled t over {number} folds (Nadeau & Bengio 2003)"
        return PairedTest(name, metric, mean, mean - width, mean + width, p, method)

    def _weights(self, within: Bools | None) -> Iterator[Floats]:
        """The rows' weights as they are, then under resamples; sets x rows, some at a time."""
        chance = np.random.default_rng(self._seed)
        base = self._sample.weights if within is None else self._sample.weights * within
        groups = self._sample.groups
        size = int(groups.max()) + 1
        yield base[None]
        at_once = max(1, CELLS // len(base))
        for start in range(0, self._resamples, at_once):
            number = min(at_once, self._resamples - start)
            counts = np.stack(
                [
                    np.bincount(chance.integers(0, size, size), minlength=size)[groups]
                    for _ in range(number)
                ]
            )
            yield counts * base

    def _figures(
        self, log_odds: Floats, weights: Floats, within: Bools | None
    ) -> dict[str, Floats]:
        labels = self._sample.labels
        aucs, gaps = [], []
        pooled: dict[str, list[Floats]] = {name: [] for name in FIGURES[3:]}
        for said, splits in zip(log_odds, self._repeats, strict=True):
            for split in splits:
                area, gap = metrics.Ranking(labels[split.unseen], said[split.unseen]).measure(
                    weights[:, split.unseen]
                )
                aucs.append(area)
                gaps.append(gap)
            there = ~np.isnan(said) if within is None else ~np.isnan(said) & within
            for name, values in self._pooled(said[there], labels[there], weights[:, there], there):
                pooled[name].append(values)
        area = _mean(aucs)
        return {
            "auc": area,
            "gini": 2 * area - 1,
            "ks": _mean(gaps),
            **{name: _mean(values) for name, values in pooled.items()},
        }

    def _pooled(
        self, said: Floats, truth: Ints, weights: Floats, there: Bools
    ) -> Iterator[tuple[str, Floats]]:
        """Figures of probabilities, over all rows of a repeat."""
        pds, total = _pd(said), weights.sum(axis=1)
        yield "brier", weights @ (pds - truth) ** 2 / total
        yield "log_loss", weights @ metrics.losses(truth, said) / total
        slopes, intercepts = _slopes(said, truth, weights, self._sample.weights[there])
        yield "calibration_slope", slopes
        yield "calibration_intercept", intercepts
        # Bins stay where the rows as they are have put them.
        into = metrics.ece_bins(pds, self._sample.weights[there])
        gaps = np.zeros((len(pds), metrics.ECE_BINS))
        gaps[np.arange(len(pds)), into] = pds - truth
        yield "ece", np.abs(weights @ gaps).sum(axis=1) / total

    def _by_fold(self, log_odds: Floats, within: Bools | None) -> dict[str, Floats]:
        labels = self._sample.labels
        weights = self._sample.weights if within is None else self._sample.weights * within
        found: dict[str, list[float]] = {"auc": [], "ks": [], "brier": [], "log_loss": []}
        for said, splits in zip(log_odds, self._repeats, strict=True):
            for split in splits:
                truth, stated = labels[split.unseen], weights[split.unseen]
                here = said[split.unseen]
                area, gap = metrics.Ranking(truth, here).measure(stated[None])
                found["auc"].append(float(area[0]))
                found["ks"].append(float(gap[0]))
                total = stated.sum()
                squares = (_pd(here) - truth) ** 2
                found["brier"].append(float(stated @ squares / total) if total else math.nan)
                lost = metrics.losses(truth, here)
                found["log_loss"].append(float(stated @ lost / total) if total else math.nan)
        return {name: np.array(values) for name, values in found.items()}

    def roc(self, log_odds: Floats) -> tuple[RocPoint, ...]:
        """The mean curve of the repeats, with what resampled rows give."""
        grid = np.linspace(0, 1, ROC_STEPS + 1)
        labels = self._sample.labels
        curves: list[Floats] = []
        for weights in self._weights(None):
            curves += [
                np.mean([_curve(labels, said, stated, grid) for said in log_odds], axis=0)
                for stated in weights[: MOST_CURVES - len(curves)]
            ]
            if len(curves) >= MOST_CURVES:
                break
        point, rest = curves[0], np.array(curves[1:])
        low, high = np.quantile(rest, (0.025, 0.975), axis=0) if len(rest) > 1 else (None, None)
        return tuple(
            RocPoint(
                float(x),
                float(point[at]),
                None if low is None else float(low[at]),
                None if high is None else float(high[at]),
            )
            for at, x in enumerate(grid)
        )

    def reliability(self, pds: Floats) -> tuple[ReliabilityPoint, ...]:
        """Tenths of the rows by PD."""
        there = np.flatnonzero(~np.isnan(pds))
        into = metrics.ece_bins(pds[there], self._sample.weights[there])
        found = []
        for number in range(metrics.ECE_BINS):
            rows = there[into == number]
            if len(rows):
                found.append(
                    ReliabilityPoint(
                        len(rows),
                        int(self._sample.labels[rows].sum()),
                        self._mean_of(pds, rows),
                        self._share(self._sample.labels, rows),
                    )
                )
        return tuple(sorted(found, key=lambda each: each.pd))

    def scores(self, pds: Floats, scaling: Scaling) -> tuple[ScoreBin, ...]:
        """Bins of equal width between the lowest and the highest score."""
        there = np.flatnonzero(~np.isnan(pds))
        points = _points(pds[there], scaling)
        edges = np.linspace(np.floor(points.min()), np.ceil(points.max()) + 1, SCORE_BINS + 1)
        parts = []
        for outcome in (0, 1):
            of = self._sample.labels[there] == outcome
            weights = self._sample.weights[there][of]
            counts = np.histogram(points[of], edges, weights=weights)[0]
            parts.append(counts / weights.sum())
        return tuple(
            ScoreBin(float(edges[at]), float(edges[at + 1]), float(good), float(bad))
            for at, (good, bad) in enumerate(zip(*parts, strict=True))
        )

    def gains(self, pds: Floats, scaling: Scaling) -> tuple[Gain, ...]:
        """Steps of equal weight, the worst rows first."""
        there = np.flatnonzero(~np.isnan(pds))
        order = there[np.argsort(-pds[there], kind="stable")]
        weights, labels = self._sample.weights[order], self._sample.labels[order]
        reached = weights.cumsum() / weights.sum()
        caught = (weights * labels).cumsum() / (weights * labels).sum()
        found, start = [], 0
        for step in range(1, GAIN_STEPS + 1):
            end = int(np.searchsorted(reached, step / GAIN_STEPS - 1e-12)) + 1
            end = len(order) if step == GAIN_STEPS else min(end, len(order))
            if end == start:
                continue
            rows = order[start:end]
            found.append(
                Gain(
                    float(min(1.0, reached[end - 1])),
                    float(min(1.0, caught[end - 1])),
                    self._mean_of(pds, rows),
                    self._mean_of(self._sample.labels, rows),
                    float(_points(pds[rows], scaling).max()),
                )
            )
            start = end
        return tuple(found)

    def grades(self, pds: Floats, cuts: Sequence[GradeCut]) -> tuple[GradeRow, ...]:
        """What came of each grade."""
        there = np.flatnonzero(~np.isnan(pds))
        into = np.searchsorted([cut.pd_from for cut in cuts], pds[there], "right") - 1
        found = []
        for number, cut in enumerate(cuts):
            rows = there[into == number]
            events = int(self._sample.labels[rows].sum())
            found.append(
                GradeRow(
                    cut.grade,
                    len(rows),
                    events,
                    self._mean_of(pds, rows),
                    self._share(self._sample.labels, rows),
                )
                if len(rows)
                else GradeRow(cut.grade, 0, 0)
            )
        return tuple(found)

    def slices(
        self,
        values: Sequence[str],
        log_odds: Floats,
        pds: Floats,
        scaling: Scaling,
        approved_below: float,
    ) -> tuple[Slice, ...]:
        """Rows by a column's value, most frequent first."""
        texts = np.asarray(values, dtype=np.str_)
        there = ~np.isnan(pds)
        names, counts = np.unique(texts[there], return_counts=True)
        order = np.lexsort((names, -counts))
        found = []
        for name in names[order].tolist():
            within = there & (texts == name)
            rows = np.flatnonzero(within)
            found.append(
                Slice(
                    name,
                    len(rows),
                    int(self._sample.labels[rows].sum()),
                    self._mean_of(pds, rows),
                    self._share(self._sample.labels, rows),
                    self._mean_of(_points(pds, scaling), rows),
                    self._share((pds < approved_below).astype(np.int64), rows),
                    self._auc_within(log_odds, rows),
                )
            )
        return tuple(found)

    def _auc_within(self, log_odds: Floats, rows: Ints) -> Figure | None:
        """AUC over all rows of a slice, the mean of the repeats."""
        labels = self._sample.labels[rows]
        if not 0 < labels.sum() < len(labels):
            return None
        chance = np.random.default_rng(self._seed)
        groups = np.unique(self._sample.groups[rows], return_inverse=True)[1]
        size = int(groups.max()) + 1
        number = min(self._resamples, 200, max(1, CELLS // len(rows)))
        counts = np.stack(
            [np.ones(len(rows))]
            + [
                np.bincount(chance.integers(0, size, size), minlength=size)[groups]
                for _ in range(number)
            ]
        )
        weights = np.asarray(counts * self._sample.weights[rows], dtype=np.float64)
        found = _mean(
            [metrics.Ranking(labels, said[rows]).measure(weights)[0] for said in log_odds]
        )
        return Figure(float(found[0]), *_interval(found[1:]))

    def _mean_of(self, values: Floats | Ints, rows: Ints) -> float:
        return float(np.average(values[rows], weights=self._sample.weights[rows]))

    def _share(self, of: Ints, rows: Ints) -> Figure:
        """A share of rows, with Wilson's interval on the number of rows that weights leave."""
        weights = self._sample.weights[rows]
        share = float(np.clip(np.average(of[rows], weights=weights), 0, 1))
        number = float(weights.sum() ** 2 / (weights**2).sum())
        square = CERTAIN**2
        middle = (share + square / (2 * number)) / (1 + square / number)
        width = (
            CERTAIN
            * math.sqrt(share * (1 - share) / number + square / (4 * number**2))
            / (1 + square / number)
        )
        return Figure(
            share, max(0.0, min(share, middle - width)), min(1.0, max(share, middle + width))
        )


def periods_of(times: Ints) -> list[str]:
    """The year of each row, or its quarter where all rows lie within three years."""
    days = times.astype("datetime64[D]")
    years = days.astype("datetime64[Y]").astype(np.int64) + 1970
    if int(times.max() - times.min()) > SHORT_SPAN:
        return [str(year) for year in years.tolist()]
    months = days.astype("datetime64[M]").astype(np.int64) % 12
    return [
        f"{year}Q{month // 3 + 1}"
        for year, month in zip(years.tolist(), months.tolist(), strict=True)
    ]


def row_pds(log_odds: Floats) -> Floats:
    """Each row's mean PD over the repeats; NaN where none said anything."""
    there = ~np.isnan(log_odds)
    count = there.sum(axis=0)
    total = np.where(there, _pd(np.where(there, log_odds, 0.0)), 0.0).sum(axis=0)
    found: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return found


def _pd(log_odds: Floats) -> Floats:
    found: Floats = expit(log_odds)
    return found


def _points(pds: Floats, scaling: Scaling) -> Floats:
    kept = np.clip(pds, CERTAINLY, 1 - CERTAINLY)
    found: Floats = scaling.offset - scaling.factor * np.log(kept / (1 - kept))
    return found


def _mean(values: Sequence[Floats]) -> Floats:
    """Mean over folds or repeats, of those that have a value."""
    stacked = np.array(values)
    there = ~np.isnan(stacked)
    count = there.sum(axis=0)
    found: Floats = np.where(
        count > 0, np.where(there, stacked, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan
    )
    return found


def _interval(values: Floats) -> tuple[float | None, float | None]:
    known = values[~np.isnan(values)]
    if len(known) < FEWEST_RESAMPLES // 2:
        return None, None
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def _two_sided(differences: Floats) -> float:
    known = differences[~np.isnan(differences)]
    below, above = int((known <= 0).sum()), int((known >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(known) + 1))


def _slopes(said: Floats, truth: Ints, weights: Floats, base: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept of the outcomes on the log-odds, under each set of weights."""
    number = len(weights)
    try:
        start = metrics.logistic(said, truth.astype(np.float64), base)
    except TrainingError:
        return np.full(number, np.nan), np.full(number, np.nan)
    beta = np.tile(np.array(start), (number, 1))
    for _ in range(NEWTON_STEPS):
        p = _pd(beta[:, :1] * said + beta[:, 1:])
        rest, part = weights * (truth - p), weights * p * (1 - p)
        slope, level = rest @ said, rest.sum(axis=1)
        a, b, c = part @ said**2, part @ said, part.sum(axis=1)
        determinant = a * c - b * b
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.stack(
                [(c * slope - b * level) / determinant, (a * level - b * slope) / determinant],
                axis=1,
            )
        beta = beta + np.clip(step, -1, 1)
    beta[~np.isfinite(beta).all(axis=1)] = np.nan
    return beta[:, 0], beta[:, 1]


def _curve(labels: Ints, said: Floats, weights: Floats, grid: Floats) -> Floats:
    there = np.flatnonzero(~np.isnan(said))
    order = there[np.argsort(-said[there], kind="stable")]
    last = np.flatnonzero(np.r_[said[order][1:] != said[order][:-1], True])
    bad = (weights * labels)[order].cumsum()[last]
    good = (weights * (1 - labels))[order].cumsum()[last]
    if not (bad[-1] and good[-1]):
        return np.full(len(grid), np.nan)
    found = np.interp(grid, np.r_[0, good / good[-1]], np.r_[0, bad / bad[-1]])
    # Where the curve rises at once, its top at that share of false alarms is what is meant.
    found[0], found[-1] = 0.0, 1.0
    return found


def _delong(name: str, labels: Ints, first: Floats, second: Floats) -> PairedTest:
    """Two AUCs on the same rows, by the ranks of Sun & Xu 2014."""
    bad, good = labels == 1, labels == 0
    parts = []
    for said in (first, second):
        among_bad, among_good = _midranks(said[bad]), _midranks(said[good])
        ranks = _midranks(said)
        parts.append(
            (
                (ranks[bad] - among_bad) / good.sum(),
                1 - (ranks[good] - among_good) / bad.sum(),
            )
        )
    difference = float(parts[0][0].mean() - parts[1][0].mean())
    error = math.sqrt(
        sum(float((one - other).var(ddof=1)) / len(one) for one, other in zip(*parts, strict=True))
    )
    z = abs(difference) / error if error else (0.0 if difference == 0 else math.inf)
    return PairedTest(
        name,
        "auc",
        difference,
        difference - CERTAIN * error,
        difference + CERTAIN * error,
        math.erfc(z / math.sqrt(2)),
        "DeLong on all rows of the first repeat (DeLong et al. 1988, Sun & Xu 2014)",
    )


def _midranks(values: Floats) -> Floats:
    _, into, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    found: Floats = ((2 * ends - counts + 1) / 2)[into]
    return found
