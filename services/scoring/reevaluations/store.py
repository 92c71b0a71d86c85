"""What was corrected, and how far the feed was read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.db import UtcTime, insert_into
from services.scoring.decisions.domain import Decision
from services.scoring.decisions.store import decision, decision_of
from services.scoring.reevaluations.domain import Cause, Correction
from services.scoring.schema import metadata

correction = sa.Table(
    "correction",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("changed_at", UtcTime, primary_key=True),
    sa.Column("cause", sa.String(32), primary_key=True),
)

feed_cursor = sa.Table(
    "feed_cursor",
    metadata,
    sa.Column("feed", sa.String(32), primary_key=True),
    sa.Column("cursor", sa.String(64), nullable=False),
)

_FEED: Final = "changes"

_newer: Final = decision.alias("newer")
# When its data was read: that of a past was read when it was decided.
_READ_AT: Final = sa.case(
    (decision.c.asked_as_of.is_(None), decision.c.as_of), else_=decision.c.decided_at
)
_IS_DUE: Final = sa.and_(
    decision.c.subject_id == correction.c.subject_id,
    correction.c.changed_at > _READ_AT,
    ~sa.exists()
    .where(
        _newer.c.subject_id == decision.c.subject_id,
        _newer.c.caller_id == decision.c.caller_id,
        _newer.c.as_of >= correction.c.changed_at,
    )
    .correlate(decision, correction),
)


class ReevaluationStore:
    """Corrections and the decisions that they touch, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def cursor(self) -> str:
        """Return how far the feed was read."""
        query = sa.select(feed_cursor.c.cursor).where(feed_cursor.c.feed == _FEED)
        return await self._conn.scalar(query) or ""

    async def advance(self, before: str, after: str) -> bool:
        """Move the place in the feed; False when somebody else moved it meanwhile."""
        await self._conn.execute(
            insert_into(self._conn, feed_cursor)
            .values(feed=_FEED, cursor="")
            .on_conflict_do_nothing()
        )
        moved = await self._conn.execute(
            sa.update(feed_cursor)
            .where(feed_cursor.c.feed == _FEED, feed_cursor.c.cursor == before)
            .values(cursor=after)
        )
        return bool(moved.rowcount)

    async def add(self, corrections: Sequence[Correction]) -> None:
        """Keep corrections; those that are kept already are left out."""
        if not corrections:
            return
        await self._conn.execute(
            insert_into(self._conn, correction).on_conflict_do_nothing(),
            [
                {
                    "subject_id": each.subject_id,
                    "record_type": each.record_type,
                    "provider_id": each.provider_id,
                    "changed_at": each.changed_at,
                    "cause": each.cause,
                }
                for each in corrections
            ],
        )

    async def settle(self, before: datetime) -> None:
        """Forget corrections from before a time for which no decision is due."""
        await self._conn.execute(
            sa.delete(correction).where(
                correction.c.changed_at < before,
                ~sa.exists().where(_IS_DUE).correlate(correction),
            )
        )

    async def due(
        self, caller_id: str, after: str, limit: int
    ) -> Sequence[tuple[Decision, Sequence[Correction]]]:
        """Return a bank's decisions with the later corrections of their subjects.

        Only those after which it made no newer decision on what is known since; oldest first.

        Args:
            caller_id: the bank.
            after: only behind this decision_id; "" is from the first.
            limit: most decisions.
        """
        mine = sa.and_(_IS_DUE, decision.c.caller_id == caller_id, decision.c.decision_id > after)
        ids = (
            sa.select(decision.c.subject_id, decision.c.decision_id)
            .join_from(correction, decision, mine)
            .distinct()
            .order_by(decision.c.decision_id)
            .limit(limit)
            .subquery("ids")
        )
        of = (decision.c[name] == ids.c[name] for name in ("subject_id", "decision_id"))
        rows = await self._conn.execute(
            sa.select(
                *decision.c,
                correction.c.record_type,
                correction.c.provider_id,
                correction.c.changed_at,
                correction.c.cause,
            )
            .select_from(ids)
            .join(decision, sa.and_(*of))
            .join(correction, _IS_DUE)
            .order_by(decision.c.decision_id)
        )
        found: dict[str, tuple[Decision, list[Correction]]] = {}
        for row in rows.mappings():
            decision_id = row["decision_id"]
            if decision_id not in found:
                found[decision_id] = decision_of(row), []
            found[decision_id][1].append(_correction(row))
        return list(found.values())


def _correction(row: sa.RowMapping) -> Correction:
    values: dict[str, Any] = {
        name: row[name] for name in ("subject_id", "record_type", "provider_id", "changed_at")
    }
    return Correction(cause=Cause(row["cause"]), **values)
