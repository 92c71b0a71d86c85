"""Taking in what gateways counted, and telling usage and contributions of a month."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Protocol

from services.datashare.metering.domain import (
    Contribution,
    Counts,
    Month,
    Refused,
    Supplied,
    Supply,
    Usage,
    UsageKey,
    month_of,
    month_with,
    seen_by,
)
from services.kit.clock import Clock
from services.kit.identity import Caller
from services.kit.transactions import Retry, Snapshots, Transactions

REPORTS_KEPT: Final = timedelta(days=30)
"""How long it is remembered which reports were taken; no gateway sends one again so late."""


class Metering(Protocol):
    """Counts."""

    async def claim(self, report_id: str, at: datetime) -> bool:
        """Take a report; False when it was taken before."""
        ...

    async def add(self, usages: Sequence[Usage]) -> None:
        """Add counts to those of their days; each key and day once."""
        ...

    async def note_refused(self, refusals: Sequence[Refused]) -> None:
        """Keep refusals for the watch, in the order of commit."""
        ...

    async def supplied(self, supplied: Sequence[Supplied]) -> None:
        """Add records that came in."""
        ...

    async def usage(
        self, month: Month, *, participant_id: str, after: UsageKey | None, limit: int
    ) -> Sequence[Usage]:
        """Return sums over a month, by their keys.

        Args:
            month: which.
            participant_id: only this one's; "" is everybody's.
            after: the key behind which the page begins; None is the first page.
            limit: most sums.
        """
        ...

    async def supplies(
        self, *, provider_id: str, after: Supply | None, limit: int
    ) -> Sequence[Supply]:
        """Return who ever supplied which types, in their order; filters as in `usage`."""
        ...

    async def contributions(
        self, month: Month, supplies: Sequence[Supply]
    ) -> Sequence[Contribution]:
        """Return what was contributed in a month, for each of the supplies in their order."""
        ...


class Recording(Protocol):
    """What counting needs in a transaction."""

    @property
    def metering(self) -> Metering:
        """Counts."""
        ...


class RecordUsage:
    """Counts what gateways report.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
    """

    def __init__(self, transactions: Transactions[Recording], retry: Retry, clock: Clock) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock

    async def __call__(
        self, report_id: str, usages: Iterable[Usage], refusals: Sequence[Refused]
    ) -> None:
        """Count a report, once."""
        sums: dict[tuple[UsageKey, int], Counts] = {}
        for key, day, counts in usages:
            sums[key, day] = sums.get((key, day), Counts()).plus(counts)
        # In one order, so that two gateways' reports cannot wait for each other.
        ordered = [Usage(key, day, counts) for (key, day), counts in sorted(sums.items())]

        async def attempt() -> None:
            async with self._transactions.begin() as work:
                if await work.metering.claim(report_id, self._clock.now()):
                    await work.metering.add(ordered)
                    await work.metering.note_refused(refusals)

        await self._retry(attempt)


class TellFigures:
    """Usage and contributions of a month.

    Args:
        transactions: opens snapshots.
    """

    def __init__(self, transactions: Snapshots[Recording]) -> None:
        self._transactions = transactions

    async def usage(
        self, caller: Caller, day: date, participant_id: str, after: UsageKey | None, page_size: int
    ) -> tuple[Sequence[Usage], UsageKey | None]:
        """Return a page of sums, and the key behind which the next one begins.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        whose = seen_by(caller, participant_id)
        async with self._transactions.read() as work:
            found = await work.metering.usage(
                month_with(day), participant_id=whose, after=after, limit=page_size + 1
            )
        page = found[:page_size]
        return page, page[-1].key if len(found) > page_size else None

    async def contributions(
        self, caller: Caller, day: date, provider_id: str, after: Supply | None, page_size: int
    ) -> tuple[Sequence[Contribution], Supply | None]:
        """Return a page of contributions, and what the next one begins behind.

        A page has fewer where some supplied nothing in the month and nothing of theirs was used.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        whose = seen_by(caller, provider_id)
        async with self._transactions.read() as work:
            supplies = await work.metering.supplies(
                provider_id=whose, after=after, limit=page_size + 1
            )
            page = supplies[:page_size]
            found = await work.metering.contributions(month_with(day), page)
        more = page[-1] if len(supplies) > page_size else None
        return [each for each in found if each.is_any], more


def supplied_in(arrivals: Iterable[tuple[str, str, str, datetime, int]]) -> list[Supplied]:
    """Return what arrivals contribute.

    Args:
        arrivals: subject_id, record_type, provider_id, time and number of records of each.
    """
    counts: Counter[tuple[str, str, str, int]] = Counter()
    for subject_id, record_type, provider_id, at, records in arrivals:
        counts[subject_id, record_type, provider_id, month_of(at)] += records
    return [Supplied(*key, records) for key, records in sorted(counts.items())]
