"""Figures of a report: months of a summary folded into single values and series for plots.

Invariants: nothing after the report's date is seen; a month without a record counts as nothing in a
sum and is not there for a latest value; what was not opened is told by why it is missing, never as
a zero; a window that reaches back before what was opened says from which month on it counts.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.features.firm import last_whole_month, ordinal

MONTHS: Final = 36
"""That plots show."""
JOINS: Final[Mapping[str, Callable[[Sequence[int]], int]]] = {"sum": sum, "max": max, "min": min}


@dataclass(frozen=True, slots=True)
class Figure:
    """A value, or why there is none.

    Args:
        value: in the unit of the measure; None when there is none.
        missing: why; None where there is a value, or where records are there and say nothing of it.
        since: first month that counts, as an ordinal, where the window reaches back further.
        at: month that a latest value is of, where it is not the last one that could be.
    """

    value: int | float | None
    missing: Coverage | None = None
    since: int | None = None
    at: int | None = None


class Figures:
    """A summary as of a day, ready to be folded.

    Args:
        summary: what was released.
        as_of: the last day that may be seen.
        flows: types that are read up to the last month that is over.
        open_: types that are not limited by the consent's period.
    """

    def __init__(
        self,
        summary: FirmSummary,
        as_of: dt.date,
        flows: frozenset[str],
        open_: frozenset[str],
    ) -> None:
        self._summary = summary
        self._month = as_of.year * 12 + as_of.month - 1
        self._whole = last_whole_month(as_of)
        self._flows = flows
        self._open = open_
        self._series: dict[str, list[SubjectSeries]] = {}
        for series in summary.series:
            self._series.setdefault(series.record_type, []).append(series)
        self._first: int | None = None
        if summary.period is not None:
            first = summary.period[0]
            begins = first.year * 12 + first.month - 1
            self._first = begins if first.day == 1 else begins + 1

    def last(self, record_type: str) -> int:
        """Ordinal of the last month that counts of a type."""
        return self._whole if record_type in self._flows else self._month

    def attribute(self, record_type: str, name: str) -> str:
        """The latest value of a code-like field; empty when there is none."""
        found = [each for each in self._series.get(record_type, ()) if each.attributes.get(name)]
        if not found:
            return ""
        newest = max(found, key=lambda each: each.months[-1] if each.months else 0)
        return newest.attributes[name]

    def missing(self, record_type: str) -> Coverage | None:
        """Why nothing of a type is there; None when something is."""
        if record_type in self._series:
            return None
        state = self._summary.coverage_of(record_type)
        return Coverage.NOT_SUPPLIED if state is Coverage.SUPPLIED else state

    def months(self, record_type: str, measure: str, join: str) -> dict[int, int]:
        """Values by ordinal of the month, of all providers together."""
        found: dict[int, list[int]] = {}
        for values in self._by_provider(record_type, measure):
            for month, value in values.items():
                found.setdefault(month, []).append(value)
        return {month: JOINS[join](found[month]) for month in sorted(found)}

    def fold(self, record_type: str, measure: str, fold: str, join: str) -> Figure:
        """Return one value of a measure.

        Args:
            record_type: of the measure.
            measure: its name.
            fold: as content.toml lists them.
            join: how providers are joined.
        """
        missing = self.missing(record_type)
        if missing is Coverage.NONE_EXISTS:
            return Figure(0)
        if missing is not None:
            return Figure(None, missing)
        if not any(measure in each.columns for each in self._series[record_type]):
            state = self._summary.coverage_of(record_type)
            return Figure(None, None if state is Coverage.SUPPLIED else state)  # opened in part
        name, _, length = fold.partition("_")
        if name in ("latest", "stated", "providers"):
            return self._end(record_type, measure, name, join)
        values = self.months(record_type, measure, join)
        if name in ("growth", "change"):
            return Figure(self._moved(record_type, values, yearly=name == "growth"))
        since = None
        if length:
            begin = self.last(record_type) - int(length) + 1
            values = {month: value for month, value in values.items() if month >= begin}
            since = self._begun(record_type, begin)
        return Figure(JOINS[name](list(values.values())) if values else 0, since=since)

    def _end(self, record_type: str, measure: str, name: str, join: str) -> Figure:
        """Return what providers' last months say; of `stated` those that say more than zero."""
        ends = [
            max((month, value) for month, value in each.items() if value > 0 or name != "stated")
            for each in self._by_provider(record_type, measure)
            if name != "stated" or any(value > 0 for value in each.values())
        ]
        if name == "providers":
            return Figure(sum(value > 0 for _, value in ends))
        if not ends:
            return Figure(None)
        at = max(month for month, _ in ends)
        old = record_type in self._flows and at < self._whole
        return Figure(JOINS[join]([value for _, value in ends]), at=at if old else None)

    def _moved(self, record_type: str, values: Mapping[int, int], *, yearly: bool) -> float | None:
        """Return growth on the year before; None where there is nothing to grow from."""
        if yearly:
            last = self.last(record_type)
            if self._begun(record_type, last - 23) is not None:
                return None
            now = sum(value for month, value in values.items() if month > last - 12)
            then = sum(value for month, value in values.items() if last - 24 < month <= last - 12)
        else:
            last = max(values, default=0)
            now, then = values.get(last, 0), values.get(last - 12, 0)
        return now / then - 1 if then > 0 else None

    def _begun(self, record_type: str, month: int) -> int | None:
        """Return the first month that was opened, where it is after `month`."""
        if record_type in self._open or self._first is None or self._first <= month:
            return None
        return self._first

    def _by_provider(self, record_type: str, measure: str) -> list[dict[int, int]]:
        last, found = self.last(record_type), []
        for series in self._series.get(record_type, ()):
            column = series.columns.get(measure)
            if column is not None:
                seen = dict(zip(map(ordinal, series.months), column, strict=True))
                found.append({month: value for month, value in seen.items() if month <= last})
        return [values for values in found if values]


def yyyymm(month: int) -> str:
    """Return an ordinal month as "2026-03"."""
    return f"{month // 12:04}-{month % 12 + 1:02}"
