"""What was corrected and disputed, and how far the feed was read."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.db import UtcTime, insert_into
from services.scoring.decisions.domain import Decision
from services.scoring.decisions.store import decision, decision_link, decision_of
from services.scoring.reevaluations.domain import Cause, Correction, Standing
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

standing_dispute = sa.Table(
    "standing_dispute",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("dispute_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), nullable=False),
    sa.Column("provider_id", sa.String(64), nullable=False),
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
_STANDS: Final = ~sa.exists().where(
    _newer.c.subject_id == decision.c.subject_id,
    _newer.c.caller_id == decision.c.caller_id,
    _newer.c.as_of >= correction.c.changed_at,
).correlate(decision, correction)
# Corrections with the decisions that they make due: by the firm's own data, by a linked subject's.
_DUE: Final = (
    sa.and_(
        decision.c.subject_id == correction.c.subject_id,
        correction.c.changed_at > _READ_AT,
        _STANDS,
    ),
    sa.and_(
        decision_link.c.subject_id == correction.c.subject_id,
        correction.c.changed_at > decision_link.c.read_at,
        decision.c.subject_id == decision_link.c.firm_id,
        decision.c.decision_id == decision_link.c.decision_id,
        _STANDS,
    ),
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

    async def note(self, disputes: Sequence[Standing]) -> None:
        """Keep disputes that stand, forget those that no longer do, in their order."""
        erased = {each.subject_id for each in disputes if not each.dispute_id}
        if erased:
            await self._conn.execute(
                sa.delete(standing_dispute).where(standing_dispute.c.subject_id.in_(sorted(erased)))
            )
        last = {
            (each.subject_id, each.dispute_id): each
            for each in disputes
            if each.subject_id not in erased
        }
        ended = [key for key, each in last.items() if not each.stands]
        if ended:
            table = standing_dispute.c
            await self._conn.execute(
                sa.delete(standing_dispute).where(
                    sa.tuple_(table.subject_id, table.dispute_id).in_(ended)
                )
            )
        stand = [each for each in last.values() if each.stands]
        if stand:
            await self._conn.execute(
                insert_into(self._conn, standing_dispute).on_conflict_do_nothing(),
                [
                    {
                        "subject_id": each.subject_id,
                        "dispute_id": each.dispute_id,
                        "record_type": each.record_type,
                        "provider_id": each.provider_id,
                    }
                    for each in stand
                ],
            )

    async def standing(self, subject_ids: Collection[str]) -> Sequence[Standing]:
        """Return the disputes about subjects that stand."""
        table = standing_dispute.c
        rows = await self._conn.execute(
            sa.select(
                table.dispute_id, table.subject_id, table.record_type, table.provider_id
            ).where(table.subject_id.in_(sorted(subject_ids)))
        )
        return [Standing(*row) for row in rows]

    async def settle(self, before: datetime) -> None:
        """Forget corrections from before a time for which no decision is due."""
        await self._conn.execute(
            sa.delete(correction).where(
                correction.c.changed_at < before,
                *(~sa.exists().where(due).correlate(correction) for due in _DUE),
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
        key = decision.c.subject_id, decision.c.decision_id
        mine = decision.c.caller_id == caller_id, decision.c.decision_id > after
        ids = (
            sa.union(*(sa.select(*key).where(due, *mine) for due in _DUE))
            .order_by("decision_id")
            .limit(limit)
            .subquery("ids")
        )
        of = sa.and_(*(column == ids.c[column.name] for column in key))
        found: dict[str, tuple[Decision, list[Correction]]] = {}
        for due in _DUE:
            rows = await self._conn.execute(
                sa.select(
                    *decision.c,
                    correction.c.subject_id.label("corrected_id"),
                    correction.c.record_type,
                    correction.c.provider_id,
                    correction.c.changed_at,
                    correction.c.cause,
                ).where(due, of)
            )
            for row in rows.mappings():
                decision_id = row["decision_id"]
                if decision_id not in found:
                    found[decision_id] = decision_of(row), []
                found[decision_id][1].append(_correction(row))
        return [found[decision_id] for decision_id in sorted(found)]


def _correction(row: sa.RowMapping) -> Correction:
    return Correction(
        subject_id=row["corrected_id"],
        record_type=row["record_type"],
        provider_id=row["provider_id"],
        changed_at=row["changed_at"],
        cause=Cause(row["cause"]),
    )
