"""The table of erasure duties: what a recipient must erase of a STORE consent, and by when.

A duty is written when its consent becomes active, with the end that the terms name, and is brought
forward when the consent ends earlier; it is one from that end on. So nothing has to happen for a
consent that expires.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.consent.domain import Attestation, Consent, Duty, Officer, due_by
from services.datashare.schema import metadata
from services.kit.db import UtcTime, insert_into

erasure_duty = sa.Table(
    "erasure_duty",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("consent_id", sa.String(64), primary_key=True),
    sa.Column("recipient_id", sa.String(64), nullable=False),
    sa.Column("life_days", sa.Integer, nullable=False),
    sa.Column("ended_at", UtcTime, nullable=False),
    sa.Column("due_at", UtcTime, nullable=False),
    # None until it is attested.
    sa.Column("attested_at", UtcTime),
    sa.Column("officer", sa.String(64), nullable=False),
    sa.Column("file_reference", sa.String(64), nullable=False),
    sa.Column("statement", sa.String(500), nullable=False),
    sa.Index(None, "recipient_id", "due_at", "consent_id"),
    sa.Index(None, "due_at", "consent_id"),
)


class DutyStore:
    """Erasure duties in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def begin(self, consent: Consent) -> None:
        """Write the duty of a STORE consent that becomes active."""
        core = consent.core
        await self._conn.execute(
            insert_into(self._conn, erasure_duty)
            .values(
                subject_id=core.subject_id,
                consent_id=core.consent_id,
                recipient_id=core.recipient_id,
                life_days=core.terms.data_life_days,
                ended_at=core.terms.expires_at,
                due_at=due_by(consent, core.terms.expires_at),
                officer="",
                file_reference="",
                statement="",
            )
            .on_conflict_do_nothing()
        )

    async def end(self, consent: Consent, at: datetime) -> None:
        """Bring a duty forward, as its consent ended before its time."""
        core = consent.core
        await self._conn.execute(
            sa.update(erasure_duty)
            .where(
                erasure_duty.c.subject_id == core.subject_id,
                erasure_duty.c.consent_id == core.consent_id,
                erasure_duty.c.ended_at > at,
            )
            .values(ended_at=at, due_at=due_by(consent, at))
        )

    async def lock(self, consent_id: str, recipient_id: str) -> Duty | None:
        """Return a recipient's duty, which nobody else attests until the end."""
        query = sa.select(erasure_duty).where(
            erasure_duty.c.consent_id == consent_id, erasure_duty.c.recipient_id == recipient_id
        )
        row = (await self._conn.execute(query.with_for_update())).one_or_none()
        return None if row is None else _duty(row)

    async def attest(self, duty: Duty, attestation: Attestation) -> None:
        """Write that what a locked duty is about was erased."""
        await self._conn.execute(
            sa.update(erasure_duty)
            .where(
                erasure_duty.c.subject_id == duty.subject_id,
                erasure_duty.c.consent_id == duty.consent_id,
            )
            .values(
                attested_at=attestation.at,
                officer=attestation.officer.name,
                file_reference=attestation.officer.file_reference,
                statement=attestation.statement,
            )
        )

    async def page(
        self,
        *,
        subject_id: str | None,
        recipient_id: str | None,
        overdue: bool,
        now: datetime,
        after: tuple[datetime, str] | None,
        limit: int,
    ) -> Sequence[Duty]:
        """Return duties, soonest due first.

        Args:
            subject_id: about this firm; None is any.
            recipient_id: of this recipient; None is any.
            overdue: only those that are due and not attested.
            now: those whose consent has not ended by then are left out.
            after: only those due after this time, or then with a greater consent_id.
            limit: most duties.
        """
        query = (
            sa.select(erasure_duty)
            .where(erasure_duty.c.ended_at <= now)
            .order_by(erasure_duty.c.due_at, erasure_duty.c.consent_id)
            .limit(limit)
        )
        if subject_id is not None:
            query = query.where(erasure_duty.c.subject_id == subject_id)
        if recipient_id is not None:
            query = query.where(erasure_duty.c.recipient_id == recipient_id)
        if overdue:
            query = query.where(erasure_duty.c.due_at <= now, erasure_duty.c.attested_at.is_(None))
        if after is not None:
            due_at, consent_id = after
            query = query.where(
                sa.or_(
                    erasure_duty.c.due_at > due_at,
                    sa.and_(
                        erasure_duty.c.due_at == due_at, erasure_duty.c.consent_id > consent_id
                    ),
                )
            )
        return [_duty(row) for row in await self._conn.execute(query)]


def _duty(row: sa.Row[Any]) -> Duty:
    return Duty(
        consent_id=row.consent_id,
        subject_id=row.subject_id,
        recipient_id=row.recipient_id,
        ended_at=row.ended_at,
        due_at=row.due_at,
        attestation=None
        if row.attested_at is None
        else Attestation(row.attested_at, Officer(row.officer, row.file_reference), row.statement),
    )
