"""`metering.app.Metering` and what the watch reads of it, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime

from services.datashare.china import month_of_day
from services.datashare.metering.domain import (
    Contribution,
    Counts,
    Month,
    Refused,
    Supplied,
    Supply,
    Usage,
    UsageKey,
)


@dataclass
class MeteringMemory:
    """The tables."""

    usage: dict[tuple[UsageKey, int], Counts] = field(default_factory=dict)
    reports: dict[str, datetime] = field(default_factory=dict)
    refusals: dict[int, Refused] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    accepted: dict[tuple[str, str, int], int] = field(default_factory=dict)
    subjects: dict[tuple[str, str, int, str], None] = field(default_factory=dict)

    def __copy__(self) -> "MeteringMemory":
        return MeteringMemory(*(dict(getattr(self, table.name)) for table in fields(self)))


class FakeMetering:
    """Counts in one transaction.

    Args:
        memory: the tables.
        uses: releases by provider, day, type and purpose.
        recipients: by provider, type, month and recipient.
    """

    def __init__(
        self,
        memory: MeteringMemory,
        uses: Mapping[tuple[str, int, str, str], int],
        recipients: Mapping[tuple[str, str, int, str], None],
    ) -> None:
        self._memory = memory
        self._uses = uses
        self._recipients = recipients

    async def claim(self, report_id: str, at: datetime) -> bool:
        if report_id in self._memory.reports:
            return False
        self._memory.reports[report_id] = at
        return True

    async def forget_reports(self, before: datetime) -> None:
        for report_id in [key for key, at in self._memory.reports.items() if at < before]:
            del self._memory.reports[report_id]

    async def add(self, usages: Sequence[Usage]) -> None:
        for key, day, counts in usages:
            self._memory.usage[key, day] = self._memory.usage.get((key, day), Counts()).plus(counts)

    async def note_refused(self, refusals: Sequence[Refused]) -> None:
        for each in refusals:
            position = self._memory.last["refusal"] = self._memory.last.get("refusal", 0) + 1
            self._memory.refusals[position] = each

    async def refused_after(self, position: int, limit: int) -> Sequence[tuple[int, Refused]]:
        return [item for item in sorted(self._memory.refusals.items()) if item[0] > position][
            :limit
        ]

    async def forget_refused(self, position: int) -> None:
        for key in [key for key in self._memory.refusals if key <= position]:
            del self._memory.refusals[key]

    async def supplied(self, supplied: Sequence[Supplied]) -> None:
        for each in supplied:
            place = each.provider_id, each.record_type, each.month
            self._memory.accepted[place] = self._memory.accepted.get(place, 0) + each.records
            self._memory.subjects[(*place, each.subject_id)] = None

    async def forget(self, subject_id: str) -> None:
        for key in [key for key in self._memory.subjects if key[3] == subject_id]:
            del self._memory.subjects[key]

    async def usage(
        self, month: Month, *, participant_id: str, after: UsageKey | None, limit: int
    ) -> Sequence[Usage]:
        sums: dict[UsageKey, Counts] = {}
        for (key, day), counts in self._memory.usage.items():
            if (
                month.first <= day <= month.last
                and participant_id in ("", key.participant_id)
                and (after is None or key > after)
            ):
                sums[key] = sums.get(key, Counts()).plus(counts)
        return [Usage(key, month.first, sums[key]) for key in sorted(sums)[:limit]]

    async def supplies(
        self, *, provider_id: str, after: Supply | None, limit: int
    ) -> Sequence[Supply]:
        found = {Supply(*key[:2]) for key in self._memory.accepted}
        return [
            each
            for each in sorted(found)
            if provider_id in ("", each.provider_id) and (after is None or each > after)
        ][:limit]

    async def contributions(
        self, month: Month, supplies: Sequence[Supply]
    ) -> Sequence[Contribution]:
        return [
            Contribution(
                each,
                self._memory.accepted.get((*each, month.number), 0),
                sum(key[:3] == (*each, month.number) for key in self._memory.subjects),
                sum(
                    releases
                    for (provider_id, day, record_type, _), releases in self._uses.items()
                    if (provider_id, record_type) == each and month_of_day(day) == month.number
                ),
                sum(key[:3] == (*each, month.number) for key in self._recipients),
            )
            for each in supplies
        ]
