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
from bisect import bisect_left, bisect_right
from typing import Final

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import Band, Calibration, Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

METHOD: Final = (
    "exact binomial interval of the default rate in bins of equal mass along the margin, 95 %, by "
    "share of missing inputs (Clopper & Pearson 1934; Gupta, Podkopaev & Ramdas 2020)"
)
LEVEL: Final = 0.95
WITHHELD: Final = 1e18
"""From here on a value says that the input was withheld; kernel.c has it, too."""

THICKNESS: Final = (0.1, 0.25, 0.5, 1.0)
"""Shares of missing inputs up to which files are compared with each other."""

MOST_BINS: Final = 20
BIN_ROWS: Final = 50
BIN_EVENTS: Final = 3
"""What a bin has, on average, at least."""

FLOOR: Final = 0.0005
"""PD below which no two are told apart: the floor of Basel III (CRE 32.4)."""

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
        within = (missing > lower) & (missing <= edge)
        band = _band(edge, margins[within], labels[within], weights[within])
        bands.append(band)
        if within.any():
            widest[int(within.sum())] = max(
                _width(*_within(band, margin, calibration.pd(margin)))
                for margin in margins[within].tolist()
            )
        lower = edge
    usual = widest[max(widest)]
    return Interval(METHOD, tuple(bands), min(max(usual, LEAST_REFERRED), MOST_REFERRED))


class Bounds:
    """Intervals by a model's bands, row by row.

    Args:
        interval: of the model.
    """

    def __init__(self, interval: Interval) -> None:
        self._bands = interval.bands
        self._edges = [band.missing_to for band in interval.bands]
        # A hair of slack: the widest of the usual files are not referred for the last bit.
        self._wide = interval.refer_above + 1e-9

    def of(self, margin: float, pd: float, missing: float) -> tuple[float, float, bool]:
        """Interval of a row.

        Args:
            margin: raw.
            pd: calibrated.
            missing: share of the inputs that it lacks.

        Returns:
            The lower end, the upper end, and whether a person must decide.
        """
        low, high = _within(self._bands[bisect_left(self._edges, missing)], margin, pd)
        return low, high, _width(low, high) > self._wide


def missing_share(matrix: Floats) -> Floats:
    """Share of the inputs that each row lacks: those that are missing, and those withheld."""
    share: Floats = (~(np.abs(matrix) < WITHHELD)).mean(axis=1)
    return share


def _within(band: Band, margin: float, pd: float) -> tuple[float, float]:
    at = max(bisect_right(band.margins, margin) - 1, 0)
    return min(band.low[at], pd), max(band.high[at], pd)


def _width(low: float, high: float) -> float:
    low, high = (min(max(end, FLOOR), 1 - FLOOR) for end in (low, high))
    return math.log(high / (1 - high)) - math.log(low / (1 - low))


def _band(edge: float, margins: Floats, labels: Ints, weights: Floats) -> Band:
    if not len(margins):
        return Band(edge, (0.0,), (0.0,), (1.0,))
    # Training's package, and only here.
    from scipy.special import betaincinv  # noqa: PLC0415 - serving needs none of it

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
