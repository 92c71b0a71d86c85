"""Intervals of PDs, as a model's manifest states them; `training.intervals` says how they are made.

Invariants: neither end falls as the margin rises; an interval holds the calibrated PD. A file is
compared with files that lack as much: where training knew none that thin, the interval is from 0 to
1 and a person decides.
"""

import math
from bisect import bisect_left, bisect_right
from typing import Final

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import Band, Interval

Floats = npt.NDArray[np.float64]

WITHHELD: Final = 1e18
"""From here on a value says that the input was withheld; kernel.c has it, too."""

FLOOR: Final = 0.0005
"""PD below which no two are told apart: the floor of Basel III (CRE 32.4)."""


class Bounds:
    """Intervals by a model's bands, row by row.

    Args:
        interval: of the model.
    """

    def __init__(self, interval: Interval) -> None:
        # A hair of slack: the widest of the usual files are not referred for the last bit.
        self._wide = interval.refer_above + 1e-9
        self._edges = [band.missing_to for band in interval.bands]
        self._bands = [
            (
                band.margins,
                [
                    (low, high, width(low, high) > self._wide)
                    for low, high in zip(band.low, band.high, strict=True)
                ],
            )
            for band in interval.bands
        ]

    def of(self, margin: float, pd: float, missing: float) -> tuple[float, float, bool]:
        """Interval of a row.

        Args:
            margin: raw.
            pd: calibrated.
            missing: share of the inputs that it lacks.

        Returns:
            The lower end, the upper end, and whether a person must decide.
        """
        margins, steps = self._bands[bisect_left(self._edges, missing)]
        step = steps[max(bisect_right(margins, margin) - 1, 0)]
        if step[0] <= pd <= step[1]:
            return step
        low, high = min(step[0], pd), max(step[1], pd)
        return low, high, width(low, high) > self._wide


def missing_share(matrix: Floats) -> Floats:
    """Share of the inputs that each row lacks: those that are missing, and those withheld."""
    share: Floats = (~(np.abs(matrix) < WITHHELD)).mean(axis=1)
    return share


def within(band: Band, margin: float, pd: float) -> tuple[float, float]:
    """Ends of the interval of a row in a band; they hold its PD."""
    at = max(bisect_right(band.margins, margin) - 1, 0)
    return min(band.low[at], pd), max(band.high[at], pd)


def width(low: float, high: float) -> float:
    """How far apart the ends are, in log-odds."""
    low, high = min(max(low, FLOOR), 1 - FLOOR), min(max(high, FLOOR), 1 - FLOOR)
    return math.log(high / (1 - high)) - math.log(low / (1 - low))
