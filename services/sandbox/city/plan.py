"""What a simulated city is asked to be, and the streams of chance it draws from.

The same plan gives the same city, byte for byte. Every part draws from a stream of its own, named
after it, so that a change to one part leaves the others as they are.
"""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OUTCOME_MONTHS = 12


@dataclass(frozen=True)
class CityPlan:
    """The size and the time of a city.

    Args:
        seed: picks the city.
        last_month: last month with records, as in `services.sandbox.months`; it must be over.
        firms: number of firms.
        months: months of history. The last twelve are also where defaults are seen.
        activity: scales the number of invoices.
        default_rate: share of firms expected to default in the last twelve months of history; in
            the twelve months after it, the firms that are left face the same hazard.
    """

    seed: int
    last_month: int
    firms: int = 300
    months: int = 36
    activity: float = 1.0
    default_rate: float = 0.10

    def __post_init__(self) -> None:
        if not 1 <= self.firms <= 500_000:
            raise ValueError("a city has 1 to 500,000 firms")
        if not 2 * OUTCOME_MONTHS <= self.months <= 120:
            raise ValueError("a city's history has 24 to 120 months")
        if not 0 < self.activity <= 100:
            raise ValueError("activity is above 0 and at most 100")
        if not 0.01 <= self.default_rate <= 0.5:
            raise ValueError("the default rate is between 0.01 and 0.5")

    @property
    def first_month(self) -> int:
        """First month with records."""
        return self.last_month - self.months + 1

    def stream(self, name: str) -> np.random.Generator:
        """The stream of chance of one part."""
        return np.random.default_rng([self.seed, crc32(name.encode())])
