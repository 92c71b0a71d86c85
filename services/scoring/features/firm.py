"""A firm's summary laid out for features: dense monthly windows that end where the date says.

Invariants: nothing after `as_of` is seen. Flows (invoices, filings, contributions) are read up to
the last complete month, because a month half gone would look like a fall; so is all else that a
firm consents to, so that no score depends on whether a consent reaches into that month; events and
states that are open by law are read up to `as_of`'s own month. Months without a record are zero.
Plain lists and integers, not arrays: on 36 months `sum` is ten times faster than an array's, and
exact.
"""

import calendar
import datetime as dt
import functools
from collections.abc import Sequence
from operator import add
from typing import Final

from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries

WINDOW: Final = 36
"""Months that features look back on flows. A summary that reaches back further adds nothing to
them, so that a score does not depend on how long a period somebody consented to beyond it."""

OPTIONAL: Final = (
    "tax_filing",
    "social_insurance",
    "housing_fund",
    "utility_bill",
    "technology_contract",
    "equity_financing",
    "credit_facility",
    "enquiry",
    "guarantee",
    "annual_report",
    "bank_flow",
    "receivable",
)
"""Types that a firm may leave out of its consent; all others that features need are open by law."""

FLOWS: Final = frozenset({"vat_invoice", *OPTIONAL})
"""Types that are read up to the last complete month."""

EPOCH: Final = dt.date(1970, 1, 1)
# China has had no summer time since 1991.
_CHINA: Final = dt.timezone(dt.timedelta(hours=8))

# Measures that several providers' series join by the larger value; all others are summed.
_MAXIMA: Final = frozenset(
    f"{side}_{share}"
    for side in ("input", "output")
    for share in ("counterparties", "top1", "top5", "hhi", "churn")
) | {
    "founded",
    "capital",
    "arrears",
    "days_late",
    "headcount",
    "overdue",
    "high_tech_valid_to",
    "tech_sme_valid_to",
    "specialised_valid_to",
    "rd_spend",
    "rd_staff",
    "days_past_due",
    "five_class",
    "days_overdue",
    "given_until",
    "assets",
}
# The same by the smaller value that is there: a good grade must not hide a bad one.
_MINIMA: Final = frozenset({"grade", "equity"})


def ordinal(yyyymm: int) -> int:
    """Months since the year 0, so that months subtract."""
    return yyyymm // 100 * 12 + yyyymm % 100 - 1


def china_day(at: dt.datetime) -> dt.date:
    """The day of an aware time: reporting dates are days in China."""
    return at.astimezone(_CHINA).date()


def last_whole_month(as_of: dt.date) -> int:
    """Ordinal of the last month that is over at the end of `as_of`."""
    month = as_of.year * 12 + as_of.month - 1
    return month if as_of.day == calendar.monthrange(as_of.year, as_of.month)[1] else month - 1


def lookback(as_of: dt.date) -> tuple[dt.date, dt.date]:
    """First and last day of the months that features look back on."""
    last = last_whole_month(as_of)
    first = last - WINDOW + 1
    year, month = last // 12, last % 12 + 1
    return (
        dt.date(first // 12, first % 12 + 1, 1),
        dt.date(year, month, calendar.monthrange(year, month)[1]),
    )


class _Clipped:
    """One series cut at the last month that may be seen."""

    __slots__ = ("_after", "_ages", "_before", "columns", "seen", "start")

    def __init__(self, series: SubjectSeries, last: int) -> None:
        months = series.months
        count = len(months)
        oldest = last - ordinal(months[0]) if count else -1
        newest = last - ordinal(months[-1]) if count else 0
        # None where no month is missing between first and last, as in most series.
        self._ages: list[int] | None = None
        if oldest - newest == count - 1:
            self.seen = max(count + min(newest, 0), 0)
            self.start = min(max(oldest - WINDOW + 1, 0), self.seen)
            # Months of the window without a record, before and after those that have one.
            self._before = min(max(WINDOW - 1 - oldest, 0), WINDOW)
            self._after = WINDOW - self._before - (self.seen - self.start)
        else:
            ages = [last - ordinal(month) for month in months]
            self.seen = count
            while self.seen and ages[self.seen - 1] < 0:
                self.seen -= 1
            self.start = 0
            while self.start < self.seen and ages[self.start] >= WINDOW:
                self.start += 1
            self._ages = ages[self.start : self.seen]
        self.columns = series.columns

    def window(self, measure: str) -> list[int]:
        """Values by month, oldest first, zero where there is none."""
        values = self.columns.get(measure)
        if values is None:
            return [0] * WINDOW
        inside = list(values[self.start : self.seen])
        if self._ages is None:
            if len(inside) == WINDOW:
                return inside
            return [0] * self._before + inside + [0] * self._after
        window = [0] * WINDOW
        for age, value in zip(self._ages, inside, strict=True):
            window[WINDOW - 1 - age] = value
        return window

    def recent(self, measure: str) -> Sequence[int]:
        return self.history(measure)[self.start :]

    def history(self, measure: str) -> Sequence[int]:
        values = self.columns.get(measure)
        return () if values is None else values[: self.seen]


class Source:
    """All series of one record type. An absent type or measure reads as zeros."""

    __slots__ = ("_series", "_windows")

    def __init__(self, series: Sequence[SubjectSeries], last: int) -> None:
        self._series = [_Clipped(each, last) for each in series]
        self._windows: dict[str, list[int]] = {}

    def window(self, measure: str) -> list[int]:
        """The last `WINDOW` months, oldest first."""
        window = self._windows.get(measure)
        if window is None:
            first, *others = self._series or (None,)
            window = first.window(measure) if first else [0] * WINDOW
            for other in others:
                part = other.window(measure)
                if measure in _MAXIMA:
                    window = list(map(max, window, part))
                elif measure in _MINIMA:
                    window = [
                        min(a, b) if a and b else a or b for a, b in zip(window, part, strict=True)
                    ]
                else:
                    window = list(map(add, window, part))
            self._windows[measure] = window
        return window

    def ever(self, measure: str) -> int:
        """Sum over all months, also those before the window."""
        return sum(sum(series.history(measure)) for series in self._series)

    def largest(self, measure: str) -> int:
        """Largest value of all months, also those before the window; 0 when there is none."""
        return max((max(series.history(measure), default=0) for series in self._series), default=0)

    def latest(self, measure: str) -> int:
        """Each provider's value of its last month, joined; 0 when there is none."""
        return self._joined(measure, [series.history(measure) for series in self._series])

    def standing(self, measure: str) -> int:
        """The same of its last month in the window."""
        return self._joined(measure, [series.recent(measure) for series in self._series])

    @staticmethod
    def _joined(measure: str, values: Sequence[Sequence[int]]) -> int:
        found = [each[-1] for each in values if each]
        if measure in _MAXIMA:
            return max(found, default=0)
        return sum(found)

    def providers_with(self, measure: str) -> int:
        """Providers whose last month in the window has more than zero."""
        return sum(1 for s in self._series if (recent := s.recent(measure)) and recent[-1] > 0)


class Invoices:
    """One side of the VAT invoices, by month: oldest first, `WINDOW` long.

    `latest` has the measures of counterparties over the last year; None when there is none.
    """

    __slots__ = (
        "latest",
        "net",
        "positive_net",
        "red",
        "red_net",
        "tax",
        "valid",
        "void",
    )

    def __init__(self, source: Source, side: str) -> None:
        self.valid = source.window(f"{side}_valid")
        self.void = source.window(f"{side}_void")
        self.red = source.window(f"{side}_red")
        self.net = source.window(f"{side}_net")
        self.tax = source.window(f"{side}_tax")
        self.red_net = source.window(f"{side}_red_net")
        self.positive_net = source.window(f"{side}_positive_net")
        counterparties = source.window(f"{side}_counterparties")
        # Each stands for the year up to its month; the last month of this year that has one counts.
        year = range(WINDOW - 1, WINDOW - 13, -1)
        at = next((month for month in year if counterparties[month] > 0), None)
        self.latest = {
            share: None if at is None else source.window(f"{side}_{share}")[at]
            for share in ("counterparties", "top1", "top5", "hhi", "churn")
        }


class Firm:
    """A summary as of a date.

    Args:
        summary: the firm's series.
        as_of: the last day that may be seen.
    """

    def __init__(self, summary: FirmSummary, as_of: dt.date) -> None:
        self.summary = summary
        self.day = (as_of - EPOCH).days
        self._month = as_of.year * 12 + as_of.month - 1
        self._whole_month = last_whole_month(as_of)
        self._series: dict[str, list[SubjectSeries]] = {}
        for series in summary.series:
            self._series.setdefault(series.record_type, []).append(series)
        self._sources: dict[str, Source] = {}

    def source(self, record_type: str) -> Source:
        """The series of a type; empty when it is not there."""
        source = self._sources.get(record_type)
        if source is None:
            supplied = self.summary.coverage_of(record_type) is Coverage.SUPPLIED
            source = self._sources[record_type] = Source(
                self._series.get(record_type, ()) if supplied else (),
                self._whole_month if record_type in FLOWS else self._month,
            )
        return source

    @functools.cached_property
    def sales(self) -> Invoices:
        """Output invoices."""
        return Invoices(self.source("vat_invoice"), "output")

    @functools.cached_property
    def purchases(self) -> Invoices:
        """Input invoices."""
        return Invoices(self.source("vat_invoice"), "input")

    @functools.cached_property
    def revenue(self) -> int:
        """Net sales of the last 12 months by invoices, fen."""
        return sum(self.sales.net[-12:])
