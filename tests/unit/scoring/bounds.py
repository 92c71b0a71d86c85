"""What an interval says of a row, by hand: what kernel.c is compared with."""

from bisect import bisect_left

from services.scoring.models.domain import Interval
from services.scoring.models.intervals import width, within


class Bounds:
    """Intervals by a model's bands.

    Args:
        interval: of the model.
    """

    def __init__(self, interval: Interval) -> None:
        self._interval = interval

    def of(self, margin: float, pd: float, missing: float) -> tuple[float, float, bool]:
        """Lower end, upper end, and whether a person must decide."""
        edges = [band.missing_to for band in self._interval.bands]
        low, high = within(self._interval.bands[bisect_left(edges, missing)], margin, pd)
        return low, high, width(low, high) > self._interval.refer_above + 1e-9
