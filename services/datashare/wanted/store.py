"""The table of what is wanted; rows are only added.

Positions are given in the order of commit, as those of the changes: on PostgreSQL a writer takes an
advisory lock before it draws them and holds it to the end. SQLite has one writer.

Intake looks here for the consents that may cover a row, so a type that becomes shared on consent in
a later release needs its items added for the consents that stand.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.china import date_of_day, day_number
from services.datashare.consent.domain import Period
from services.datashare.schema import metadata
from services.datashare.wanted.domain import Entry, Item, WantedState
from services.kit.db import UtcTime

wanted = sa.Table(
    "wanted",
    metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("provider_id", sa.String(64), nullable=False),
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("record_type", sa.String(64), nullable=False),
    sa.Column("consent_id", sa.String(64), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    # Days since 1970-01-01.
    sa.Column("first_day", sa.Integer, nullable=False),
    sa.Column("last_day", sa.Integer, nullable=False),
    sa.Column("until", UtcTime, nullable=False),
    sa.Column("since", UtcTime, nullable=False),
    sa.Index(None, "provider_id", "position"),
    sa.Index(None, "subject_id", "provider_id", "record_type"),
    sqlite_autoincrement=True,  # a position is never used again
)

_LOCK = sa.select(sa.func.pg_advisory_xact_lock(0x70756877))


class WantedStore:
    """What is wanted, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def append(self, items: Sequence[Item]) -> None:
        """Add items; do this late, as other writers of items wait until the end."""
        if not items:
            return
        if self._conn.dialect.name == "postgresql":
            await self._conn.execute(_LOCK)
        await self._conn.execute(
            sa.insert(wanted),
            [
                {
                    "provider_id": item.provider_id,
                    "subject_id": item.subject_id,
                    "record_type": item.record_type,
                    "consent_id": item.consent_id,
                    "state": item.state,
                    "first_day": day_number(item.period.first),
                    "last_day": day_number(item.period.last),
                    "until": item.until,
                    "since": item.since,
                }
                for item in items
            ],
        )

    async def due_under(self, subject_id: str, consent_id: str) -> Sequence[Item]:
        """Return what a consent made due."""
        rows = await self._conn.execute(
            sa.select(wanted)
            .where(
                wanted.c.subject_id == subject_id,
                wanted.c.consent_id == consent_id,
                wanted.c.state == WantedState.DUE,
            )
            .order_by(wanted.c.position)
        )
        return [_item(row) for row in rows]

    async def after(self, provider_id: str, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` items of a provider behind a position, in their order."""
        end = wanted.alias("end")
        over = sa.exists().where(
            wanted.c.state == WantedState.DUE,
            end.c.state == WantedState.ENDED,
            *(end.c[name] == wanted.c[name] for name in ("subject_id", "provider_id")),
            *(end.c[name] == wanted.c[name] for name in ("record_type", "consent_id")),
        )
        rows = await self._conn.execute(
            sa.select(wanted, over.label("over"))
            .where(wanted.c.provider_id == provider_id, wanted.c.position > position)
            .order_by(wanted.c.position)
            .limit(limit)
        )
        return [Entry(row.position, _item(row), bool(row.over)) for row in rows]


def _item(row: Any) -> Item:
    return Item(
        state=WantedState(row.state),
        provider_id=row.provider_id,
        subject_id=row.subject_id,
        record_type=row.record_type,
        consent_id=row.consent_id,
        period=Period(date_of_day(row.first_day), date_of_day(row.last_day)),
        until=row.until,
        since=row.since,
    )
