"""The tables of metering: counters that are added to, never changed otherwise.

Usage is added by the reports of gateways, a row for each participant, day, product and method.
Contributions are added by inspection (`quality.app`), which is alone and off the path on which
records come in; uses are summed up from `record_use`, of one month and provider by its primary key.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import insert_free, upsert_rows
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
from services.datashare.quality.tables import day as quality_day
from services.datashare.schema import metadata
from services.datashare.uses.store import record_use
from services.kit.db import UtcTime, insert_into

usage = sa.Table(
    "usage",
    metadata,
    sa.Column("participant_id", sa.String(64), primary_key=True),
    # Days since 1970-01-01 in China Standard Time.
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("product", sa.String(64), primary_key=True),
    sa.Column("method", sa.String(200), primary_key=True),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in Counts._fields),
    sa.Index(None, "day"),
)

report = sa.Table(
    "usage_report",
    metadata,
    sa.Column("report_id", sa.String(64), primary_key=True),
    sa.Column("received_at", UtcTime, nullable=False),
    sa.Index(None, "received_at"),
)

refusal = sa.Table(
    "refusal",
    metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("participant_id", sa.String(64), nullable=False),
    sa.Column("reason", sa.String(64), nullable=False),
    sa.Column("times", sa.BigInteger, nullable=False),
    sa.Column("in_a_row", sa.BigInteger, nullable=False),
    sa.Column("last_at", UtcTime, nullable=False),
    sqlite_autoincrement=True,  # a position is never used again
)

contribution = sa.Table(
    "contribution",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("month", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("accepted", sa.BigInteger, nullable=False),
)

contribution_subject = sa.Table(
    "contribution_subject",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("month", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Index(None, "subject_id"),
    sqlite_with_rowid=False,
)

_KEY = tuple(usage.c[name] for name in UsageKey._fields)
# PostgreSQL adds up big integers to a numeric.
_SUMS = tuple(
    sa.cast(sa.func.sum(usage.c[name]), sa.BigInteger).label(name) for name in Counts._fields
)
_ADDED = {name: f"usage.{name} + excluded.{name}" for name in Counts._fields}
# Whoever reads behind a position must not see one appear before it.
_LOCK = sa.select(sa.func.pg_advisory_xact_lock(0x72656675))


class MeteringStore:
    """Counts, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def claim(self, report_id: str, at: datetime) -> bool:
        """Take a report; False when it was taken before."""
        insert = insert_into(self._conn, report).values(report_id=report_id, received_at=at)
        return bool((await self._conn.execute(insert.on_conflict_do_nothing())).rowcount)

    async def forget_reports(self, before: datetime) -> None:
        """Forget which reports were taken before a time."""
        await self._conn.execute(sa.delete(report).where(report.c.received_at < before))

    async def add(self, usages: Sequence[Usage]) -> None:
        """Add counts to those of their days; each key and day once."""
        rows = [
            (key.participant_id, day, key.product, key.method, *counts)
            for key, day, counts in usages
        ]
        await upsert_rows(self._conn, usage, rows, _ADDED)

    async def note_refused(self, refusals: Sequence[Refused]) -> None:
        """Keep refusals for the watch, in the order of commit."""
        if not refusals:
            return
        if self._conn.dialect.name == "postgresql":
            await self._conn.execute(_LOCK)
        await self._conn.execute(sa.insert(refusal), [each._asdict() for each in refusals])

    async def refused_after(self, position: int, limit: int) -> Sequence[tuple[int, Refused]]:
        """Return refusals behind a position, each with its own."""
        columns = [refusal.c[name] for name in Refused._fields]
        rows = await self._conn.execute(
            sa.select(refusal.c.position, *columns)
            .where(refusal.c.position > position)
            .order_by(refusal.c.position)
            .limit(limit)
        )
        return [(row[0], Refused(*row[1:])) for row in rows]

    async def forget_refused(self, position: int) -> None:
        """Forget refusals up to a position."""
        await self._conn.execute(sa.delete(refusal).where(refusal.c.position <= position))

    async def supplied(self, supplied: Sequence[Supplied]) -> None:
        """Add records that came in."""
        sums: dict[tuple[str, str, int], int] = {}
        for each in supplied:
            place = each.provider_id, each.record_type, each.month
            sums[place] = sums.get(place, 0) + each.records
        rows = [(*place, records) for place, records in sorted(sums.items())]
        added = {"accepted": "contribution.accepted + excluded.accepted"}
        await upsert_rows(self._conn, contribution, rows, added)
        subjects = {
            (each.provider_id, each.record_type, each.month, each.subject_id) for each in supplied
        }
        await insert_free(self._conn, contribution_subject, sorted(subjects))

    async def forget(self, subject_id: str) -> None:
        """Forget that anything was supplied about a subject; how much came in stays."""
        await self._conn.execute(
            sa.delete(contribution_subject).where(contribution_subject.c.subject_id == subject_id)
        )

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
        query = (
            sa.select(*_KEY, *_SUMS)
            .where(usage.c.day.between(month.first, month.last))
            .group_by(*_KEY)
            .order_by(*_KEY)
            .limit(limit)
        )
        if participant_id:
            query = query.where(usage.c.participant_id == participant_id)
        if after is not None:
            query = query.where(sa.tuple_(*_KEY) > sa.tuple_(*map(sa.literal, after)))
        return [
            Usage(UsageKey(*row[:3]), month.first, Counts(*row[3:]))
            for row in await self._conn.execute(query)
        ]

    async def supplies(
        self, *, provider_id: str, after: Supply | None, limit: int
    ) -> Sequence[Supply]:
        """Return who ever supplied which types, in their order; filters as in `usage`."""
        parts = []
        # What came in before contributions were counted is in the other table only.
        for table in (contribution, quality_day):
            part = sa.select(table.c.provider_id, table.c.record_type)
            if provider_id:
                part = part.where(table.c.provider_id == provider_id)
            if after is not None:
                place = sa.tuple_(table.c.provider_id, table.c.record_type)
                part = part.where(place > sa.tuple_(*map(sa.literal, after)))
            parts.append(part)
        both = sa.union(*parts).subquery()
        order = both.c.provider_id, both.c.record_type
        rows = await self._conn.execute(sa.select(*order).order_by(*order).limit(limit))
        return [Supply(*row) for row in rows]

    async def contributions(
        self, month: Month, supplies: Sequence[Supply]
    ) -> Sequence[Contribution]:
        """Return what was contributed in a month, for each of the supplies in their order."""
        providers = sorted({supply.provider_id for supply in supplies})
        accepted = await self._by_supply(
            contribution,
            providers,
            (contribution.c.month == month.number,),
            (sa.func.sum(contribution.c.accepted),),
        )
        subjects = await self._by_supply(
            contribution_subject,
            providers,
            (contribution_subject.c.month == month.number,),
            (sa.func.count(),),
        )
        used = await self._by_supply(
            record_use,
            providers,
            (record_use.c.day.between(month.first, month.last),),
            (
                sa.func.sum(record_use.c["count"]),
                # Of before recipients were kept there is none.
                sa.func.count(sa.distinct(sa.func.nullif(record_use.c.recipient_id, ""))),
            ),
        )
        return [
            Contribution(
                supply,
                *accepted.get(supply, (0,)),
                *subjects.get(supply, (0,)),
                *used.get(supply, (0, 0)),
            )
            for supply in supplies
        ]

    async def _by_supply(
        self,
        table: sa.Table,
        providers: Sequence[str],
        where: Sequence[sa.ColumnElement[bool]],
        figures: Sequence[sa.ColumnElement[Any]],
    ) -> dict[Supply, tuple[int, ...]]:
        place = table.c.provider_id, table.c.record_type
        rows = await self._conn.execute(
            sa.select(*place, *figures).where(place[0].in_(providers), *where).group_by(*place)
        )
        return {Supply(*row[:2]): tuple(map(int, row[2:])) for row in rows}
