"""Reading what is held about a firm from the tables of records and accesses; who looked itself."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.domain import Outcome
from services.datashare.access.store import access
from services.datashare.china import date_of_day
from services.datashare.facts.app import Position
from services.datashare.facts.domain import Held, HeldRecord, View
from services.datashare.records.store import opened, record
from services.datashare.schema import metadata
from services.datashare.sealing.domain import DataKey
from services.datashare.sealing.store import Seals
from services.kit.db import UtcTime, insert_into

own_view = sa.Table(
    "own_view",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("viewed_at", UtcTime, primary_key=True),
    sa.Column("participant_id", sa.String(64), primary_key=True),
    sa.Column("what", sa.String(64), primary_key=True),
    sa.Column("principal_id", sa.String(64), nullable=False),
)

_NAMES = ("subject_id", "record_type", "provider_id", "provider_record_id")


class HeldStore:
    """What is held, in one snapshot.

    Args:
        conn: the snapshot.
        seals: data keys.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals) -> None:
        self._conn = conn
        self._seals = seals

    async def holdings(self, subject_id: str, today: int) -> Sequence[Held]:
        """Return what counts of a firm, by type and provider, on a day since 1970-01-01."""
        of = (record.c.record_type, record.c.provider_id)
        query = (
            sa.select(
                *of,
                sa.func.count(),
                sa.func.min(record.c.occurred_from),
                sa.func.max(record.c.occurred_to),
                sa.func.max(record.c.recorded_at, type_=record.c.recorded_at.type),
            )
            .where(*_counts(subject_id, today))
            .group_by(*of)
            .order_by(*of)
        )
        rows: Any = await self._conn.execute(query)
        return [
            Held(record_type, provider_id, count, date_of_day(first), date_of_day(last), at)
            for record_type, provider_id, count, first, last, at in rows
        ]

    async def outcomes(self, subject_id: str) -> tuple[int, int]:
        """Return how many releases and how many refusals of a firm's data there are."""
        query = sa.select(access.c.outcome, sa.func.count()).group_by(access.c.outcome)
        rows: Any = await self._conn.execute(query.where(access.c.subject_id == subject_id))
        counts = dict(map(tuple, rows))
        return counts.get(Outcome.RELEASED, 0), counts.get(Outcome.REFUSED, 0)

    async def records(
        self,
        subject_id: str,
        record_types: Collection[str],
        today: int,
        held_at: datetime,
        after: Position | None,
        limit: int,
    ) -> Sequence[HeldRecord]:
        """Return records that count of a firm, newest first.

        Args:
            subject_id: the firm.
            record_types: of these types.
            today: days since 1970-01-01.
            held_at: without what came in later, be it a correction.
            after: only behind this place; None is from the first.
            limit: most records.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        names = [record.c[name] for name in Position._fields[2:]]
        query = sa.select(record).where(
            *_counts(subject_id, today, held_at), record.c.record_type.in_(sorted(record_types))
        )
        if after is not None:
            behind = sa.tuple_(*names) > sa.tuple_(*after[2:])
            query = query.where(
                sa.or_(
                    record.c.recorded_at < after.recorded_at,
                    sa.and_(record.c.recorded_at == after.recorded_at, behind),
                )
            )
        order = (record.c.recorded_at.desc(), *names)
        rows = (await self._conn.execute(query.order_by(*order).limit(limit))).all()
        keys = await self._seals.keys({row.subject_id for row in rows if row.sealed})
        return await asyncio.to_thread(_records, rows, keys)


class ViewStore:
    """Who looked at what is held of its own firm, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, view: View) -> bool:
        """Note a view; tell whether it was not noted before."""
        result = await self._conn.execute(
            insert_into(self._conn, own_view)
            .values(
                subject_id=view.subject_id,
                viewed_at=view.viewed_at,
                participant_id=view.participant_id,
                what=view.what,
                principal_id=view.principal_id,
            )
            .on_conflict_do_nothing()
        )
        return bool(result.rowcount)

    async def has(self, subject_id: str, at: datetime, participant_id: str, what: str) -> bool:
        """Tell whether a view was noted."""
        found = await self._conn.scalar(
            sa.select(sa.literal(1)).where(
                own_view.c.subject_id == subject_id,
                own_view.c.viewed_at == at,
                own_view.c.participant_id == participant_id,
                own_view.c.what == what,
            )
        )
        return found is not None

    async def latest(self, subject_id: str, limit: int) -> Sequence[View]:
        """Return the latest views by accounts of a firm, newest first."""
        rows = await self._conn.execute(
            sa.select(own_view)
            .where(own_view.c.subject_id == subject_id)
            .order_by(own_view.c.viewed_at.desc(), own_view.c.participant_id, own_view.c.what)
            .limit(limit)
        )
        return [View(**row._mapping) for row in rows]


def _counts(
    subject_id: str, today: int, held_at: datetime | None = None
) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions on the versions that count, the newest ones now or at a time."""
    newer = record.alias("newer")
    same = (newer.c[name] == record.c[name] for name in _NAMES)
    is_newer = newer.c.version > record.c.version
    if held_at is not None:
        # What was taken back since is not told any more, whatever was held then.
        is_newer = sa.and_(
            is_newer, sa.or_(newer.c.recorded_at <= held_at, newer.c.retracted.is_(True))
        )
    return (
        record.c.subject_id == subject_id,
        record.c.retracted.is_(False),
        sa.or_(record.c.hidden_on.is_(None), record.c.hidden_on > today),
        *([] if held_at is None else [record.c.recorded_at <= held_at]),
        ~sa.exists().where(*same, is_newer),
    )


def _records(rows: Iterable[Any], keys: Mapping[str, DataKey]) -> Sequence[HeldRecord]:
    found = []
    for row in rows:
        payload = opened(row, keys)
        # The key of an erased subject is destroyed, and with it everything at once.
        if payload is not None:
            found.append(_record(row, payload))
    return found


def _record(row: Any, payload: bytes) -> HeldRecord:
    return HeldRecord(
        provider_id=row.provider_id,
        record_type=row.record_type,
        provider_record_id=row.provider_record_id,
        version=row.version,
        schema_version=row.schema_version,
        first=date_of_day(row.occurred_from),
        last=date_of_day(row.occurred_to),
        obtained_at=row.obtained_at,
        recorded_at=row.recorded_at,
        known_at=row.known_at,
        payload=payload,
    )
