"""The few forms that features take, on integers and on windows of months, oldest first.

Invariant: each is finite or NaN whatever it is given; NaN says that the quantity does not exist.
"""

import math
from collections.abc import Sequence
from operator import mul
from typing import Final

NAN: Final = math.nan

MAX_RATIO: Final = 10.0
"""What an adverse amount on no revenue at all counts as; beyond it a ratio tells nothing more."""


def log_cny(fen: int) -> float:
    """Natural log of 1 + yuan."""
    return math.log1p(max(fen, 0) / 100)


def log_count(count: int) -> float:
    """Natural log of 1 + count."""
    return math.log1p(max(count, 0))


def share(part: int, whole: int) -> float:
    """A share of what exists, 0 to 1; NaN when nothing does."""
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else NAN


def burden(amount: int, carrier: int) -> float:
    """An adverse amount to what has to carry it, up to MAX_RATIO; no amount is no burden."""
    if amount <= 0:
        return 0.0
    return min(amount / carrier, MAX_RATIO) if carrier > 0 else MAX_RATIO


def growth(now: int, before: int) -> float:
    """Relative change, -1 to MAX_RATIO; NaN when there was nothing to grow from."""
    return max(-1.0, min(now / before - 1, MAX_RATIO)) if before > 0 else NAN


def variation(window: Sequence[int]) -> float:
    """Standard deviation to mean; NaN unless the mean is positive."""
    total = sum(window)
    if total <= 0:
        return NAN
    squares = sum(map(mul, window, window))
    # Both terms are exact integers, so the difference is never negative. Net of red-letter invoices
    # the mean can be next to nothing.
    return min(math.sqrt(len(window) * squares - total * total) / total, MAX_RATIO)


def active(window: Sequence[int]) -> int:
    """Months above zero."""
    return sum(1 for value in window if value > 0)


def months_since_last(window: Sequence[int]) -> int:
    """Months since the last one above zero; all of them when there is none."""
    return next((age for age, value in enumerate(reversed(window)) if value > 0), len(window))


def months_since_first(window: Sequence[int]) -> int:
    """Months from the first one above zero, itself included; 0 when there is none."""
    return next((len(window) - at for at, value in enumerate(window) if value > 0), 0)


def longest_gap(window: Sequence[int]) -> int:
    """Longest run of months that are not above zero."""
    longest = run = 0
    for value in window:
        run = 0 if value > 0 else run + 1
        longest = max(longest, run)
    return longest
