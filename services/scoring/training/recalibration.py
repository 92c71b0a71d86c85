"""A new calibration of a model on few outcomes: Bayesian intercept and slope on its log-odds.

Invariants: trees, inputs and scaling stay, so that ranks and reasons stay but for their size; the
slope is positive; what is fitted follows from how many outcomes there are, and below a minimum
nothing is. Figures of the parent are not carried over: they are in its folder.

The model: log-odds of the outcome are `intercept + slope * (z - mean of z)`, z the log-odds that
the model gives now. Priors are weakly informative: the intercept Cauchy(0, 10), as Gelman, Jakulin,
Pittau & Su (2008, Annals of Applied Statistics 2(4)) propose for the constant of a logistic
regression with centred inputs; the slope log-normal(0, 0.5), which keeps it positive and says that
the model's own odds are right until outcomes tell otherwise: 19 of 20 lie within 0.38 and 2.66.

How many outcomes: ten of the rarer kind for each number that is fitted (Peduzzi et al. 1996,
Journal of Clinical Epidemiology 49(12)). From 20 on both, from 10 on the intercept alone, below
nothing.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.models.domain import Band, Calibration, Interval
from services.scoring.training import metrics
from services.scoring.training.domain import Floats, Ints, TrainingError
from services.scoring.training.intervals import LEAST_REFERRED, MOST_REFERRED

PER_NUMBER: Final = 10
INTERCEPT_SCALE: Final = 10.0
SLOPE_SPREAD: Final = 0.5
LEVEL: Final = 0.95
PRIOR: Final = (
    "intercept at the mean log-odds Cauchy(0, 10) (Gelman et al. 2008), slope log-normal(0, 0.5)"
)

_POINTS: Final = 81
"""Of the grid along each axis."""
_REACH: Final = 7.0
"""Standard deviations of the normal approximation that the grid reaches at first."""
_EDGE: Final = 1e-7
"""Share of the posterior that may lie on the grid's edge."""
_BAND_POINTS: Final = 60


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, as the posterior has it.

    Args:
        mean: of the posterior.
        low: lower end of its 95 % credible interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Posterior:
    """What outcomes say of a model's calibration.

    Args:
        rows: how many.
        events: with the outcome.
        effective_rows: after weighting (Kish 1965).
        effective_events: of the rarer outcome, after weighting.
        center: mean of the model's log-odds, where the intercept stands.
        intercept: log-odds of the outcome there.
        slope: of the outcome's log-odds on the model's; not fitted: 1 and no interval.
        slope_fitted: there were outcomes enough.
        auc: of the model on these rows, which no calibration changes.
        draws: intercepts and slopes of the grid, with their shares of the posterior.
    """

    rows: int
    events: int
    effective_rows: float
    effective_events: float
    center: float
    intercept: Estimate
    slope: Estimate
    slope_fitted: bool
    auc: float
    draws: tuple[Floats, Floats, Floats]

    def log_odds(self, old: Floats) -> Floats:
        """The posterior mean of the outcome's log-odds.

        Args:
            old: log-odds that the model gave before.
        """
        return self.intercept.mean + self.slope.mean * (old - self.center)

    def bounds(self, old: float) -> tuple[float, float]:
        """The 95 % credible interval of the outcome's log-odds."""
        intercepts, slopes, shares = self.draws
        return _interval(intercepts + slopes * (old - self.center), shares)

    def calibration(self, before: Calibration) -> Calibration:
        """The new calibration, of the margin."""
        return Calibration(
            self.slope.mean * before.a,
            self.intercept.mean + self.slope.mean * (before.b - self.center),
        )


def recalibrate(old: Floats, labels: Ints, weights: Floats | None = None) -> Posterior:
    """Fit intercept and slope.

    Args:
        old: log-odds that the model gives now, of rows that it was not trained on.
        labels: 1 is the outcome.
        weights: of the rows, positive; None: all the same.

    Raises:
        TrainingError: there are too few outcomes, or the model does not rank them.
    """
    stated = np.ones(len(labels)) if weights is None else weights
    if not np.isin(labels, (0, 1)).all():
        raise TrainingError("a label is neither 0 nor 1: leave out what is undecided")
    if not (np.isfinite(stated).all() and (stated > 0).all()):
        raise TrainingError("a weight is not positive: leave the row out")
    counts = [_effective(stated[labels == outcome]) for outcome in (0, 1)]
    fewest = min(counts)
    if fewest < PER_NUMBER:
        weighted = "" if weights is None else " (effective, as rows carry weights)"
        raise TrainingError(
            f"the rarer outcome came {fewest:.4g} times{weighted}; {PER_NUMBER} are needed for the "
            f"intercept and {2 * PER_NUMBER} for the slope, too: wait for more outcomes; until "
            "then the model ranks, and states no PD that is your portfolio's"
        )
    auc = metrics.auc(labels, old, stated)
    if auc <= 0.5:
        raise TrainingError(
            f"the model does not rank your outcomes (AUC {auc:.3f}): no calibration can mend that; "
            "see whether labels and dates are right, or train a model of your own"
        )
    # A sum of weights that is their effective number says as much as so many rows would.
    counted = stated * (_effective(stated) / stated.sum())
    center = float(np.average(old, weights=counted))
    fitted = fewest >= 2 * PER_NUMBER
    intercepts, logs, shares = _grid(old - center, labels, counted, slope=fitted)
    slopes = np.exp(logs)
    return Posterior(
        rows=len(labels),
        events=int(labels.sum()),
        effective_rows=_effective(stated),
        effective_events=fewest,
        center=center,
        intercept=_estimate(intercepts, shares),
        slope=_estimate(slopes, shares) if fitted else Estimate(1.0, 1.0, 1.0),
        slope_fitted=fitted,
        auc=auc,
        draws=(intercepts, slopes, shares),
    )


def interval_of(
    posterior: Posterior, margins: Floats, missing: Floats, before: Calibration
) -> Interval:
    """How uncertain PDs are after it, along the margin.

    A file that lacks more than any of the rows is beyond what they can say: from 0 to 1.

    Args:
        posterior: of the calibration.
        margins: raw, of the rows.
        missing: share of the inputs that each row lacks.
        before: the calibration that the posterior goes out from.
    """
    edges = np.unique(np.quantile(margins, np.linspace(0, 1, _BAND_POINTS)))
    ends = [posterior.bounds(before.log_odds(edge)) for edge in edges.tolist()]
    # Between two edges the lower one's values hold: its lower end, and the upper one's upper end.
    low = (0.0, *(_pd(end[0]) for end in ends))
    high = (*(_pd(end[1]) for end in ends), 1.0)
    widest = max(end[1] - end[0] for end in ends)
    thickest = float(missing.max())
    bands = [Band(thickest, (_below(edges), *edges.tolist()), low, high)]
    if thickest < 1:
        bands.append(Band(1.0, (0.0,), (0.0,), (1.0,)))
    return Interval(
        f"{LEVEL:.0%} credible interval of a Bayesian recalibration on {posterior.rows} rows with "
        f"{posterior.events} events; {PRIOR}",
        tuple(bands),
        min(max(widest, LEAST_REFERRED), MOST_REFERRED),
    )


def _below(edges: Floats) -> float:
    return float(edges[0]) - 1e6


def _pd(log_odds: float) -> float:
    return Calibration(1.0, 0.0).pd(log_odds)


def _effective(weights: Floats) -> float:
    """Rows that weighted ones are worth (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def _estimate(values: Floats, shares: Floats) -> Estimate:
    return Estimate(float((values * shares).sum()), *_interval(values, shares))


def _interval(values: Floats, shares: Floats) -> tuple[float, float]:
    """The middle LEVEL of a distribution."""
    order = np.argsort(values)
    below = np.cumsum(shares[order])
    ends = np.searchsorted(below, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = values[order][np.minimum(ends, len(values) - 1)].tolist()
    return low, high


def _log_posterior(
    intercepts: Floats, logs: Floats, x: Floats, labels: Ints, weights: Floats
) -> Floats:
    """Of pairs of an intercept and a log-slope, up to a constant."""
    found = -np.log1p((intercepts / INTERCEPT_SCALE) ** 2) - (logs / SLOPE_SPREAD) ** 2 / 2
    sign = np.where(labels == 1, -1.0, 1.0)
    at_once = max(1, 4_000_000 // len(x))
    for start in range(0, len(found), at_once):
        part = slice(start, start + at_once)
        z = intercepts[part, None] + np.exp(logs[part, None]) * x[None, :]
        found[part] -= np.logaddexp(0, sign * z) @ weights
    return found


def _peak(x: Floats, labels: Ints, weights: Floats, *, slope: bool) -> tuple[Floats, Floats]:
    """Where the posterior is highest, and the normal approximation's standard deviations there."""
    at = np.array([math.log(_mean(labels, weights) / (1 - _mean(labels, weights))), 0.0])
    free = [0, 1] if slope else [0]
    hessian = np.eye(2)
    for _ in range(100):
        slope_now = math.exp(at[1])
        p = 1 / (1 + np.exp(-(at[0] + slope_now * x)))
        rest, spread = weights * (labels - p), weights * p * (1 - p)
        tail = INTERCEPT_SCALE**2 + at[0] ** 2
        gradient = np.array(
            [
                rest.sum() - 2 * at[0] / tail,
                slope_now * (rest * x).sum() - at[1] / SLOPE_SPREAD**2,
            ]
        )
        hessian = np.array(
            [
                [spread.sum() + 2 * INTERCEPT_SCALE**2 / tail**2, slope_now * (spread * x).sum()],
                [0.0, slope_now**2 * (spread * x**2).sum() + 1 / SLOPE_SPREAD**2],
            ]
        )
        hessian[1, 0] = hessian[0, 1]
        step = np.zeros(2)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        at = at + step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-9:
            break
    deviations = np.zeros(2)
    deviations[free] = np.sqrt(np.diag(np.linalg.inv(hessian[np.ix_(free, free)])))
    return at, deviations


def _mean(labels: Ints, weights: Floats) -> float:
    return float(np.average(labels, weights=weights))


def _grid(
    x: Floats, labels: Ints, weights: Floats, *, slope: bool
) -> tuple[Floats, Floats, Floats]:
    """Intercepts, log-slopes and shares of the posterior, on a grid that holds all of it.

    The normal approximation says where; it is wrong in the tails, so the grid grows until nothing
    of the posterior lies on its edge.
    """
    peak, deviations = _peak(x, labels, weights, slope=slope)
    # Rows of one log-odds, as a scorecard has them, count together.
    values, place = np.unique(np.stack([x, labels.astype(np.float64)]), axis=1, return_inverse=True)
    counted = np.bincount(place.ravel(), weights).astype(np.float64)
    reach = _REACH
    while True:
        axes = [
            at + deviation * np.linspace(-reach, reach, _POINTS if deviation else 1)
            for at, deviation in zip(peak, deviations, strict=True)
        ]
        intercepts, logs = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        found = _log_posterior(intercepts, logs, values[0], values[1].astype(np.int64), counted)
        shares = np.exp(found - found.max())
        shares /= shares.sum()
        square = shares.reshape(len(axes[0]), len(axes[1]))
        edge = square[[0, -1]].sum() + (square[:, [0, -1]].sum() if slope else 0.0)
        if edge < _EDGE:
            return intercepts, logs, shares
        reach *= 1.5
