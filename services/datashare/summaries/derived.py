"""Shares, concentration and churn over the twelve months that end in a month.

The weight of a counterparty is its net amount in the window, 0 where red-letter invoices outweigh
the others; a counterparty is present while an invoice with it counts in the window. Ratios are
parts per million, rounded down, in exact integer arithmetic, 0 where there is nothing to divide by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

WINDOW: Final = 12
SIDES: Final = {1: "input", 2: "output"}
MEASURES: Final = ("counterparties", "top1", "top5", "hhi", "churn")

_PPM: Final = 1_000_000
# Below these, 2**14 squares of 2**24 parts add up within 63 bits.
_LIMB: Final = 24
_MANY: Final = 1 << 14

_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Trades:
    """Rows of one side's dealings, one per month and counterparty.

    Args:
        months: yyyymm, ascending.
        counterparties: numbers from 0 that stand for the counterparties.
        counts: invoices that count.
        nets: fen.
    """

    months: _Ints
    counterparties: _Ints
    counts: _Ints
    nets: _Ints


def trades(rows: Sequence[tuple[int, bytes, int, int]]) -> Trades:
    """Return one side's rows of month, token, count and net, in any order, as arrays."""
    numbers: dict[bytes, int] = {}
    ordered = sorted(rows)
    return Trades(
        months=np.array([row[0] for row in ordered], dtype=np.int64),
        counterparties=np.array(
            [numbers.setdefault(row[1], len(numbers)) for row in ordered], dtype=np.int64
        ),
        counts=np.array([row[2] for row in ordered], dtype=np.int64),
        nets=np.array([row[3] for row in ordered], dtype=np.int64),
    )


def derive(side: Trades, months: Sequence[int]) -> dict[str, list[int]]:
    """Return the measures of one side by name, aligned with the months.

    Args:
        side: the rows.
        months: yyyymm, ascending.
    """
    columns: dict[str, list[int]] = {name: [] for name in MEASURES}
    if not months:
        return columns
    size = int(side.counterparties.max(initial=-1)) + 1
    now = _Window(size)
    before = _Window(size)
    wanted = {_ordinal(month) for month in months}
    ordinals = (side.months // 100) * 12 + side.months % 100 - 1
    first = min([*wanted, *ordinals[:1].tolist()])
    for month in range(first, max(wanted) + 1):
        now.add(side, ordinals, month, 1)
        now.add(side, ordinals, month - WINDOW, -1)
        before.add(side, ordinals, month - WINDOW, 1)
        before.add(side, ordinals, month - 2 * WINDOW, -1)
        if month in wanted:
            for name, value in zip(MEASURES, _measures(now, before), strict=True):
                columns[name].append(value)
    return columns


class _Window:
    """Sums by counterparty over a window of months that moves."""

    def __init__(self, size: int) -> None:
        self._counts: _Ints = np.zeros(size, dtype=np.int64)
        self._nets: _Ints = np.zeros(size, dtype=np.int64)

    def add(self, side: Trades, ordinals: _Ints, month: int, sign: int) -> None:
        begin, end = np.searchsorted(ordinals, [month, month + 1])
        if begin < end:
            # A counterparty has one row in a month, so no index comes twice.
            where = side.counterparties[begin:end]
            self._counts[where] += sign * side.counts[begin:end]
            self._nets[where] += sign * side.nets[begin:end]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        return self._counts > 0

    @property
    def weights(self) -> _Ints:
        return np.where(self.present, np.maximum(self._nets, 0), 0)


def _measures(now: _Window, before: _Window) -> tuple[int, int, int, int, int]:
    present = now.present
    weights = now.weights
    weights = weights[weights > 0]
    total = int(weights.sum())
    largest = np.sort(weights)[-5:] if len(weights) <= 5 else np.partition(weights, -5)[-5:]
    past = before.weights
    return (
        int(present.sum()),
        _ppm(int(largest.max(initial=0)), total),
        _ppm(int(largest.sum()), total),
        _ppm(_sum_of_squares(weights), total * total),
        _ppm(int(past[~present].sum()), int(past.sum())),
    )


def _ppm(part: int, whole: int) -> int:
    return part * _PPM // whole if whole else 0


def _sum_of_squares(values: _Ints) -> int:
    """Return the exact sum; squares of fen do not fit 64 bits."""
    if len(values) > _MANY or values.max(initial=0) >> (2 * _LIMB):
        plain: list[int] = values.tolist()
        return sum(value * value for value in plain)
    high = values >> _LIMB
    low = values & ((1 << _LIMB) - 1)
    parts: list[Any] = [np.dot(high, high), np.dot(high, low), np.dot(low, low)]
    return sum(int(part) << shift for part, shift in zip(parts, (48, 25, 0), strict=True))


def _ordinal(month: int) -> int:
    return month // 100 * 12 + month % 100 - 1
