"""Sums for quality reports."""

from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.china import date_of_day
from services.datashare.deliveries.domain import begins, day_end
from services.datashare.deliveries.store import delivery, delivery_total, intake_reject
from services.datashare.quality.domain import Rule
from services.datashare.quality.report import Counts, Observed, Place
from services.datashare.quality.tables import IS_OPEN, arrival, day, finding, finding_provider
from services.kit.db import UtcTime


class Places:
    """Sums by provider and type, of days of arrival.

    Args:
        conn: the transaction.
        provider_id: whose; "" is all.
        first: day since 1970-01-01, China Standard Time.
        last: likewise, included.
    """

    def __init__(self, conn: AsyncConnection, provider_id: str, first: int, last: int) -> None:
        self._conn = conn
        self._provider_id = provider_id
        self._first = first
        self._last = last

    async def counts(self) -> dict[Place, Counts]:
        """Return what became of the rows of deliveries that were opened on these days."""
        names = ("rows_received", "accepted", "duplicates", "held")
        since, until = begins(date_of_day(self._first)), day_end(date_of_day(self._last))
        query = (
            self._by_place(delivery_total, *(_sum(delivery_total.c[name]) for name in names))
            .join(
                delivery,
                sa.and_(
                    delivery.c.provider_id == delivery_total.c.provider_id,
                    delivery.c.delivery_id == delivery_total.c.delivery_id,
                ),
            )
            .where(delivery.c.opened_at >= since, delivery.c.opened_at < until)
        )
        return {Place(*row[:2]): Counts(*row[2:]) for row in await self._conn.execute(query)}

    async def rejects(self) -> dict[Place, dict[str, int]]:
        """Return refused rows by reason."""
        return await self.of_days(intake_reject.c.reason, intake_reject.c.rows)

    async def observed(self) -> dict[Place, Observed]:
        """Return what inspection counted."""
        within = day.c.day.between(self._first, self._last)
        sums = (
            _sum(sa.case((within, day.c[name]), else_=0))
            for name in ("corrections", "retractions", "described")
        )
        last = (sa.func.max(day.c.last_arrival, type_=UtcTime()), sa.func.max(day.c.last_month))
        rows = await self._conn.execute(self._by_place(day, *sums, *last))
        return {Place(*row[:2]): Observed(*row[2:]) for row in rows}

    async def of_days(
        self, name: sa.Column[Any], count: sa.Column[Any]
    ) -> dict[Place, dict[Any, int]]:
        """Return the sums of a column over the days, by what another one names."""
        table = name.table
        query = self._by_place(table, name, _sum(count)).group_by(name)
        query = query.where(table.c.day.between(self._first, self._last))
        found: dict[Place, dict[Any, int]] = {}
        for *place, what, records in await self._conn.execute(query):
            found.setdefault(Place(*place), {})[what] = records
        return found

    async def findings(self, today: int) -> dict[Place, dict[Rule, int]]:
        """Return open findings by rule, of those that say something today."""
        query = (
            sa.select(
                finding_provider.c.provider_id,
                finding.c.rule,
                finding.c.record_types,
                sa.func.count(),
            )
            .join(finding, finding.c.finding_id == finding_provider.c.finding_id)
            .where(IS_OPEN, is_shown(finding.c.holds_until, today))
            .group_by(finding_provider.c.provider_id, finding.c.rule, finding.c.record_types)
        )
        if self._provider_id:
            query = query.where(finding_provider.c.provider_id == self._provider_id)
        found: dict[Place, dict[Rule, int]] = {}
        for provider_id, rule, record_types, count in await self._conn.execute(query):
            for record_type in orjson.loads(record_types):
                of_place = found.setdefault(Place(provider_id, record_type), {})
                of_place[Rule(rule)] = of_place.get(Rule(rule), 0) + count
        return found

    async def pending_since(self) -> datetime | None:
        """Return when the oldest arrival came in that is not counted."""
        query = sa.select(sa.func.min(arrival.c.recorded_at, type_=UtcTime()))
        if self._provider_id:
            query = query.where(arrival.c.provider_id == self._provider_id)
        oldest: datetime | None = await self._conn.scalar(query)
        return oldest

    def _by_place(self, table: Any, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
        place = (table.c.provider_id, table.c.record_type)
        query = sa.select(*place, *columns).group_by(*place)
        if self._provider_id:
            query = query.where(table.c.provider_id == self._provider_id)
        return query


def is_shown(hidden_on: sa.ColumnElement[Any], today: int) -> sa.ColumnElement[bool]:
    """Tell whether what is hidden from a day on is shown today."""
    return sa.or_(hidden_on.is_(None), hidden_on > today)


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.sum(column), sa.BigInteger)
