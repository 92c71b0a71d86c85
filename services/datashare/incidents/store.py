"""The tables of incidents. Steps are only added; an incident's row says how it stands now."""

from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.incidents.domain import Incident, Severity, State, Step
from services.datashare.log.domain import Leaf
from services.datashare.schema import metadata
from services.kit.db import UtcTime

incident = sa.Table(
    "incident",
    metadata,
    sa.Column("incident_id", sa.String(64), primary_key=True),
    sa.Column("rule", sa.String(32), nullable=False),
    sa.Column("severity", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("participant_id", sa.String(64), nullable=False),
    sa.Column("opened_at", UtcTime, nullable=False),
    sa.Column("summary_zh", sa.Text, nullable=False),
    sa.Column("summary_en", sa.Text, nullable=False),
    sa.Column("observed", sa.Float, nullable=False),
    sa.Column("threshold", sa.Float, nullable=False),
    sa.Column("window_begin", UtcTime),
    sa.Column("window_end", UtcTime),
    # A list, as JSON.
    sa.Column("access_ids", sa.LargeBinary, nullable=False),
    sa.Column("shared_at", UtcTime),
    sa.Column("repeats", sa.BigInteger, nullable=False),
    sa.Index(None, "participant_id", "incident_id"),
)

step = sa.Table(
    "incident_step",
    metadata,
    sa.Column("incident_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Column("by_participant_id", sa.String(64), nullable=False),
    sa.Column("by_person_id", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("reference", sa.String(200), nullable=False),
    sa.Column("leaf_id", sa.String(64), nullable=False),
)


class IncidentStore:
    """The register, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, added: Incident) -> None:
        """Enter an incident without steps."""
        await self._conn.execute(
            sa.insert(incident).values(incident_id=added.incident_id, **_values(added))
        )

    async def get(self, incident_id: str) -> Incident | None:
        """Return an incident with its handling."""
        return await self._one(sa.select(incident).where(incident.c.incident_id == incident_id))

    async def hold(self, incident_id: str) -> Incident | None:
        """Return an incident with its handling, unchangeable until the end."""
        query = sa.select(incident).where(incident.c.incident_id == incident_id)
        return await self._one(query.with_for_update())

    async def hold_open(self, rule: str, participant_id: str) -> Incident | None:
        """Return the latest of a rule about a participant that is not closed, unchangeable."""
        return await self._one(
            sa.select(incident)
            .where(
                incident.c.participant_id == participant_id,
                incident.c.rule == rule,
                incident.c.state != State.CLOSED,
            )
            .order_by(incident.c.incident_id.desc())
            .limit(1)
            .with_for_update()
        )

    async def update(self, changed: Incident) -> None:
        """Store what was seen again of an incident; its steps are as they were."""
        await self._conn.execute(
            sa.update(incident)
            .where(incident.c.incident_id == changed.incident_id)
            .values(**_values(changed))
        )

    async def add_step(self, changed: Incident, leaf: Leaf) -> None:
        """Store an incident's latest step and what it changed."""
        await self.update(changed)
        taken = changed.handling[-1]
        await self._conn.execute(
            sa.insert(step).values(
                incident_id=changed.incident_id,
                number=len(changed.handling),
                at=taken.at,
                by_participant_id=taken.by_participant_id,
                by_person_id=taken.by_person_id,
                state=taken.state,
                note=taken.note,
                reference=taken.reference,
                leaf_id=leaf.leaf_id,
            )
        )

    async def page(
        self,
        *,
        state: State | None,
        participant_id: str,
        shared_with: str | None,
        before: str,
        limit: int,
    ) -> Sequence[Incident]:
        """Return incidents with their handling, the latest first.

        Args:
            state: only these; None is any.
            participant_id: only those that concern it; "" is any.
            shared_with: only those shared with this participant; None is all.
            before: only with an id less than this; "" is any.
            limit: most incidents.
        """
        query = sa.select(incident).order_by(incident.c.incident_id.desc()).limit(limit)
        if state is not None:
            query = query.where(incident.c.state == state)
        if participant_id:
            query = query.where(incident.c.participant_id == participant_id)
        if shared_with is not None:
            query = query.where(
                incident.c.participant_id == shared_with, incident.c.shared_at.is_not(None)
            )
        if before:
            query = query.where(incident.c.incident_id < before)
        rows = (await self._conn.execute(query)).all()
        steps = await self._steps([row.incident_id for row in rows])
        return [_incident(row, steps.get(row.incident_id, ())) for row in rows]

    async def _one(self, query: sa.Select[Any]) -> Incident | None:
        row = (await self._conn.execute(query)).one_or_none()
        if row is None:
            return None
        steps = await self._steps([row.incident_id])
        return _incident(row, steps.get(row.incident_id, ()))

    async def _steps(self, incident_ids: Sequence[str]) -> dict[str, list[Step]]:
        found: dict[str, list[Step]] = {}
        if not incident_ids:
            return found
        rows = await self._conn.execute(
            sa.select(step)
            .where(step.c.incident_id.in_(incident_ids))
            .order_by(step.c.incident_id, step.c.number)
        )
        for row in rows:
            found.setdefault(row.incident_id, []).append(
                Step(
                    row.at,
                    row.by_participant_id,
                    row.by_person_id,
                    State(row.state),
                    row.note,
                    row.reference,
                )
            )
        return found


def _values(said: Incident) -> dict[str, Any]:
    return {
        "rule": said.rule,
        "severity": said.severity,
        "state": said.state,
        "participant_id": said.participant_id,
        "opened_at": said.opened_at,
        "summary_zh": said.summary_zh,
        "summary_en": said.summary_en,
        "observed": said.observed,
        "threshold": said.threshold,
        "window_begin": said.window_begin,
        "window_end": said.window_end,
        "access_ids": orjson.dumps(said.access_ids),
        "shared_at": said.shared_at,
        "repeats": said.repeats,
    }


def _incident(row: Any, steps: Sequence[Step]) -> Incident:
    return Incident(
        incident_id=row.incident_id,
        rule=row.rule,
        severity=Severity(row.severity),
        state=State(row.state),
        participant_id=row.participant_id,
        opened_at=row.opened_at,
        summary_zh=row.summary_zh,
        summary_en=row.summary_en,
        observed=row.observed,
        threshold=row.threshold,
        window_begin=row.window_begin,
        window_end=row.window_end,
        access_ids=tuple(orjson.loads(row.access_ids)),
        shared_at=row.shared_at,
        repeats=row.repeats,
        handling=tuple(steps),
    )
