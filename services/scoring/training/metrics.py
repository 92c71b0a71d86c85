"""Measures of ranking and of probabilities, and the logistic fit of two numbers behind Platt."""

import math
from typing import Final

import numpy as np

from services.scoring.models.domain import Calibration
from services.scoring.training.domain import Floats, Ints, TrainingError

MAX_SLOPE: Final = 50.0
"""Log-odds per standard deviation that only outcomes which a threshold separates would give."""


class SeparatedError(TrainingError):
    """A threshold separates the outcomes, so that a logistic fit has no end."""


def auc(labels: Ints, margins: Floats) -> float:
    """Chance that a default ranks above a good one; ties count half."""
    bad, good = margins[labels == 1], np.sort(margins[labels == 0])
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return float(below.sum() / 2 / len(bad) / len(good))


def ks(labels: Ints, margins: Floats) -> float:
    """Largest distance between the two outcomes' distributions."""
    at = np.unique(margins)
    parts = [
        np.searchsorted(np.sort(margins[labels == outcome]), at, "right")
        / (labels == outcome).sum()
        for outcome in (0, 1)
    ]
    return float(np.abs(parts[0] - parts[1]).max())


def brier(labels: Ints, pds: Floats) -> float:
    """Mean squared error."""
    return float(((pds - labels) ** 2).mean())


def log_loss(labels: Ints, log_odds: Floats) -> float:
    """Mean negative log-likelihood."""
    return float((np.logaddexp(0, log_odds) - labels * log_odds).mean())


def logistic(x: Floats, targets: Floats) -> tuple[float, float]:
    """Slope and intercept of a logistic regression on one variable, by Newton's method.

    Raises:
        SeparatedError: a threshold separates the outcomes.
        TrainingError: all margins are the same.
    """
    mean, spread = float(x.mean()), float(x.std())
    if spread == 0:
        raise TrainingError("all margins are the same: the model tells nothing")
    design = np.stack([(x - mean) / spread, np.ones_like(x)], axis=1)
    beta = np.array([0.0, math.log(targets.mean() / (1 - targets.mean()))])
    for _ in range(100):
        if abs(beta[0]) > MAX_SLOPE:
            break
        p = 1 / (1 + np.exp(-design @ beta))
        gradient = design.T @ (targets - p)
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        beta = beta + step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-10:
            slope = float(beta[0]) / spread
            return slope, float(beta[1]) - slope * mean
    raise SeparatedError("the calibration does not converge: a threshold separates the outcomes")


def platt(margins: Floats, labels: Ints) -> Calibration:
    """Platt's calibrator by maximum likelihood.

    His smoothed targets are the fallback for outcomes that a threshold separates, where likelihood
    has no maximum. Not the rule: on 123 firms they pulled the calibration slope from 1.04 to 1.18.

    Args:
        margins: of rows that their model did not see; repeats x rows, or rows.
        labels: of the rows.

    Raises:
        TrainingError: margins do not rank defaults higher.
    """
    repeats = np.atleast_2d(margins)
    bad = int(labels.sum())
    smoothed = np.where(labels == 1, (bad + 1) / (bad + 2), 1 / (len(labels) - bad + 2))
    x, times = repeats.ravel(), len(repeats)
    try:
        a, b = logistic(x, np.tile(labels.astype(np.float64), times))
    except SeparatedError:
        a, b = logistic(x, np.tile(smoothed, times))
    if a <= 0:
        raise TrainingError(
            "out of fold the model does not rank defaults above others: there is nothing to learn "
            "from these features"
        )
    return Calibration(a, b)
