"""Intervals of PDs, as a model's manifest states them; `training.intervals` says how they are made.

Invariants: neither end falls as the margin rises; an interval holds the calibrated PD. A file is
compared with files that lack as much: where training knew none that thin, the interval is from 0 to
1 and a person decides.
"""

import math
from bisect import bisect_right
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import Band, Interval

Floats = npt.NDArray[np.float64]

WITHHELD: Final = 1e18
"""From here on a value says that the input was withheld; kernel.c has it, too."""

FLOOR: Final = 0.0005
"""PD below which no two are told apart: the floor of Basel III (CRE 32.4)."""


def laid_out(interval: Interval | None) -> dict[str, Any]:
    """What kernel.c takes of intervals: its sizes, arrays and numbers, by name."""
    bands = () if interval is None else interval.bands
    # A hair of slack: the widest of the usual files are not referred for the last bit.
    wide = 0.0 if interval is None else interval.refer_above + 1e-9
    return {
        "bands": len(bands),
        "edges": [band.missing_to for band in bands],
        "step_from": np.cumsum([0, *(len(band.margins) for band in bands)]),
        "margins": [margin for band in bands for margin in band.margins],
        "lows": [low for band in bands for low in band.low],
        "highs": [high for band in bands for high in band.high],
        "wide": math.exp(wide),
        "floor": FLOOR,
    }


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
