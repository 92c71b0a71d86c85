"""How uncertain a PD is: the default rates that its neighbours in margin are compatible with.

Invariants: an interval rests on margins of rows that their model had not seen; neither end falls as
the margin rises; it holds the calibrated PD. A file is compared with files that lack as much: where
training knew none that thin, the interval is from 0 to 1 and a person decides.

Method: bins of equal mass along the margin, and in each the exact binomial interval: free of any
distribution at 95 %, whatever the model (Clopper & Pearson 1934; Gupta, Podkopaev & Ramdas 2020,
who show that every distribution-free interval of a probability is one of bins), within categories
of missing inputs (Mondrian, Vovk, Gammerman & Shafer 2005). ADR 22 has what was measured of it and
of Venn-Abers. Where rows carry weights, their effective number (Kish 1965) is what counts.
"""

import math
from typing import Final

import numpy as np
from scipy.special import betaincinv

from services.scoring.models.domain import Band, Calibration, Interval
from services.scoring.models.intervals import width, within
from services.scoring.training.domain import Floats, Ints

METHOD: Final = (
    "exact binomial interval of the default rate in bins of equal mass along the margin, 95 %, by "
    "share of missing inputs (Clopper & Pearson 1934; Gupta, Podkopaev & Ramdas 2020)"
)
LEVEL: Final = 0.95

THICKNESS: Final = (0.1, 0.25, 0.5, 1.0)
"""Shares of missing inputs up to which files are compared with each other."""

MOST_BINS: Final = 20
BIN_ROWS: Final = 20
BIN_EVENTS: Final = 3
"""What a bin has, on average, at least."""

LEAST_REFERRED, MOST_REFERRED = math.log(10), math.log(100)
"""Width, in log-odds, that is never a reason for a referral, and that always is one."""


def fit_interval(
    margins: Floats, labels: Ints, weights: Floats, missing: Floats, calibration: Calibration
) -> Interval:
    """Make intervals of what came of rows that the model had not seen.

    Args:
        margins: raw, of models that had not seen the row.
        labels: 1 is the outcome.
        weights: of the rows.
        missing: share of the inputs that each row lacks.
        calibration: of the margins.
    """
    bands, lower = [], -1.0
    widest = {}
    for edge in THICKNESS:
        rows = (missing > lower) & (missing <= edge)
        band = _band(edge, margins[rows], labels[rows], weights[rows])
        bands.append(band)
        if rows.any():
            widest[int(rows.sum())] = max(
                width(*within(band, margin, calibration.pd(margin)))
                for margin in margins[rows].tolist()
            )
        lower = edge
    usual = widest[max(widest)]
    return Interval(METHOD, tuple(bands), min(max(usual, LEAST_REFERRED), MOST_REFERRED))


def _band(edge: float, margins: Floats, labels: Ints, weights: Floats) -> Band:
    if not len(margins):
        return Band(edge, (0.0,), (0.0,), (1.0,))
    rare = int(min(labels.sum(), len(labels) - labels.sum()))
    number = max(1, min(MOST_BINS, len(margins) // BIN_ROWS, rare // BIN_EVENTS))
    order = np.argsort(margins, kind="stable")
    ordered, mass = margins[order], weights[order].cumsum()
    starts = [0]
    for part in range(1, number):
        place = int(np.searchsorted(mass, mass[-1] * part / number))
        # Rows of the same margin are in one bin.
        place = int(np.searchsorted(ordered, ordered[place], "left"))
        if place > starts[-1]:
            starts.append(place)
    low, high = [], []
    for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = order[start:end]
        stated = weights[rows]
        size = float(stated.sum() ** 2 / (stated**2).sum())
        bad = size * float(np.average(labels[rows], weights=stated))
        good, tail = size - bad, (1 - LEVEL) / 2
        low.append(float(betaincinv(bad, good + 1, tail)) if bad > 0 else 0.0)
        high.append(float(betaincinv(bad + 1, good, 1 - tail)) if good > 0 else 1.0)
    return Band(
        edge,
        tuple(ordered[starts].tolist()),
        tuple(np.minimum.accumulate(low[::-1])[::-1].tolist()),
        tuple(np.maximum.accumulate(high).tolist()),
    )
