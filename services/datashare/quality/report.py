"""Telling what was found: quality reports and findings, to those whom they concern.

Invariants: a provider is told of itself, and of findings in which its records take part, whatever
it asks for; others are told by role, which the .proto says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from services.datashare.china import china_date, china_day, day_number
from services.datashare.quality.domain import Finding, Rule
from services.datashare.quality.tally import percentile
from services.kit.clock import Clock
from services.kit.errors import PermissionDeniedError, invalid_field
from services.kit.identity import Caller
from services.kit.transactions import Snapshots

REPORTED_DAYS: Final = 30
OLDEST: Final = date(1970, 1, 1)
MAX_FINDINGS: Final = 500

_PROVIDER: Final = "PROVIDER"


class Counts(NamedTuple):
    """What became of rows."""

    received: int = 0
    accepted: int = 0
    duplicates: int = 0
    held: int = 0


class Place(NamedTuple):
    """A provider and a record type."""

    provider_id: str
    record_type: str


class Observed(NamedTuple):
    """What inspection counted of a provider's type.

    Args:
        corrections: later versions that are not retractions.
        retractions: versions that take a record back.
        described: versions with a payload.
        last_arrival: the newest, whatever the days asked for.
        last_month: of the newest occurrence, likewise.
    """

    corrections: int
    retractions: int
    described: int
    last_arrival: datetime
    last_month: int


@dataclass(frozen=True)
class Figures:
    """What a report is made of, by provider and type.

    Args:
        counts: what became of rows.
        rejects: refused rows by reason.
        observed: what inspection counted.
        lateness: counts by bucket.
        missing: by field, payloads without it.
        findings: open ones by rule.
        pending_since: when the oldest arrival came in that is not counted; None without any.
        catching_up: what came in before inspection was there is not counted yet.
    """

    counts: Mapping[Place, Counts]
    rejects: Mapping[Place, Mapping[str, int]]
    observed: Mapping[Place, Observed]
    lateness: Mapping[Place, Mapping[int, int]]
    missing: Mapping[Place, Mapping[str, int]]
    findings: Mapping[Place, Mapping[Rule, int]]
    pending_since: datetime | None
    catching_up: bool


class Quality(Protocol):
    """What is kept of quality, in one transaction."""

    async def page(
        self,
        *,
        rule: str,
        subject_id: str,
        provider_id: str,
        cleared: bool,
        before: str,
        limit: int,
        today: int,
    ) -> Sequence[Finding]:
        """Return findings that say something today, newest first; an empty filter is any."""
        ...

    async def figures(self, provider_id: str, first: int, last: int, today: int) -> Figures:
        """Return what a report is made of, of one provider or "" for all, for days of arrival."""
        ...


class Work(Protocol):
    """What telling needs in a transaction."""

    @property
    def quality(self) -> Quality:
        """What is kept of quality."""
        ...


@dataclass(frozen=True)
class TypeQuality:
    """The quality of what a provider supplies of one type.

    Args:
        place: provider and type.
        counts: what became of rows.
        rejects: refused rows by reason.
        observed: what inspection counted; None before it did.
        lateness: median and 95th percentile in days; None without any.
        missing: by field, payloads without it.
        findings: open ones by rule.
    """

    place: Place
    counts: Counts
    rejects: Mapping[str, int]
    observed: Observed | None
    lateness: tuple[int, int] | None
    missing: Mapping[str, int]
    findings: Mapping[Rule, int]


@dataclass(frozen=True)
class QualityReport:
    """The quality of what providers supply.

    Args:
        first: day of arrival.
        last: day of arrival, included.
        types: in the order of provider and type.
        inspected_until: what came in before is in the figures that inspection makes; None while
            what was there before inspection is not.
    """

    first: date
    last: date
    types: Sequence[TypeQuality]
    inspected_until: datetime | None


class ReportQuality:
    """Quality reports.

    Args:
        transactions: opens snapshots.
        clock: the time.
    """

    def __init__(self, transactions: Snapshots[Work], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def __call__(
        self, caller: Caller, provider_id: str, first: date | None, last: date | None
    ) -> QualityReport:
        """Return the report of days of arrival in China Standard Time.

        Args:
            caller: a provider sees itself.
            provider_id: whose; "" is all that the caller may see.
            first: None is 30 days up to the last.
            last: None is today.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            InvalidArgumentError: DATE_INVALID.
        """
        provider_id = _own(caller, provider_id, "report")
        now = self._clock.now()
        today = china_date(now)
        last = last or today
        first = first or min(last, today) - timedelta(REPORTED_DAYS - 1)
        if first > last:
            raise invalid_field("DATE_INVALID", "to", "lies before `from`: exchange the two")
        # Nothing came in after today, nor before there were such platforms.
        first, last = (min(max(end, OLDEST), today) for end in (first, last))
        async with self._transactions.read() as work:
            figures = await work.quality.figures(
                provider_id, day_number(first), day_number(last), day_number(today)
            )
        places = sorted(figures.counts.keys() | figures.rejects.keys() | figures.observed.keys())
        return QualityReport(
            first,
            last,
            [_quality(place, figures) for place in places],
            None if figures.catching_up else figures.pending_since or now,
        )


def _quality(place: Place, figures: Figures) -> TypeQuality:
    histogram = figures.lateness.get(place, {})
    median, most = percentile(histogram, 50), percentile(histogram, 95)
    return TypeQuality(
        place=place,
        counts=figures.counts.get(place, Counts()),
        rejects=figures.rejects.get(place, {}),
        observed=figures.observed.get(place),
        lateness=None if median is None or most is None else (median, most),
        missing=figures.missing.get(place, {}),
        findings=figures.findings.get(place, {}),
    )


class ListFindings:
    """Findings, as those may see them whom they concern.

    Args:
        transactions: opens snapshots.
        clock: the time.
    """

    def __init__(self, transactions: Snapshots[Work], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def __call__(
        self,
        caller: Caller,
        *,
        rule: str,
        subject_id: str,
        provider_id: str,
        cleared: bool,
        before: str,
        page_size: int,
    ) -> tuple[Sequence[Finding], str]:
        """Return a page of findings, newest first.

        Args:
            caller: a provider sees those in which its records take part.
            rule: only of this rule; "" is any.
            subject_id: only those in which this subject takes part; "" is any.
            provider_id: only those in which its records take part; "" is any.
            cleared: those that no longer hold, too.
            before: the id before which the page begins; "" is the first page.
            page_size: most findings.

        Returns:
            The findings, and the id before which the next page begins or "".

        Raises:
            InvalidArgumentError: FIELD_INVALID, there is no such rule.
            PermissionDeniedError: NOT_YOURS.
        """
        if rule and rule not in set(Rule):
            problem = f"is none of the rules: {', '.join(Rule)}"
            raise invalid_field("FIELD_INVALID", "rule", problem)
        provider_id = _own(caller, provider_id, "findings")
        async with self._transactions.read() as work:
            found = await work.quality.page(
                rule=rule,
                subject_id=subject_id,
                provider_id=provider_id,
                cleared=cleared,
                before=before,
                limit=page_size + 1,
                today=china_day(self._clock.now()),
            )
        page = found[:page_size]
        return page, page[-1].finding_id if len(found) > page_size else ""


def _own(caller: Caller, provider_id: str, what: str) -> str:
    """Return whose figures a caller gets: a provider its own, others those it asks for."""
    if caller.role != _PROVIDER:
        return provider_id
    if provider_id not in ("", caller.participant_id):
        raise PermissionDeniedError(
            "NOT_YOURS", f"a provider sees its own {what}: leave out provider_id"
        )
    return caller.participant_id
