"""Differences by challenger and decision; what challengers have not scored, by day."""

from collections.abc import Sequence
from datetime import date
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.db import insert_into
from services.scoring.models.domain import LONGEST_GRADE
from services.scoring.schema import metadata
from services.scoring.shadow.domain import Counts, Difference, Loss, Move, Pair

shadow_difference = sa.Table(
    "shadow_difference",
    metadata,
    sa.Column("challenger", sa.String(64), primary_key=True),
    sa.Column("decision_id", sa.String(64), primary_key=True),
    sa.Column("answered_by", sa.String(64), nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("pd_answered", sa.Double),
    sa.Column("pd_challenger", sa.Double),
    sa.Column("score_answered", sa.Integer, nullable=False),
    sa.Column("score_challenger", sa.Integer, nullable=False),
    sa.Column("grade_answered", sa.String(LONGEST_GRADE), nullable=False),
    sa.Column("grade_challenger", sa.String(LONGEST_GRADE), nullable=False),
    sa.Index(None, "challenger", "answered_by", "day"),
    sa.Index("ix_shadow_difference_day", "day"),
)

shadow_loss = sa.Table(
    "shadow_loss",
    metadata,
    sa.Column("challenger", sa.String(64), primary_key=True),
    sa.Column("answered_by", sa.String(64), primary_key=True),
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("dropped", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
)

_TABLE: Final = shadow_difference.c
_POINTS: Final = (_TABLE.score_challenger - _TABLE.score_answered).label("points")
_FIRMS: Final = sa.func.count().label("firms")


class DifferenceStore:
    """What challengers said, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, differences: Sequence[Difference]) -> None:
        """Keep differences; those that are kept already are left out."""
        if not differences:
            return
        await self._conn.execute(
            insert_into(self._conn, shadow_difference).on_conflict_do_nothing(),
            [
                {
                    "challenger": each.challenger,
                    "decision_id": each.decision_id,
                    "answered_by": each.answered_by,
                    "day": each.day,
                    "pd_answered": each.pd_answered,
                    "pd_challenger": each.pd_challenger,
                    "score_answered": each.score_answered,
                    "score_challenger": each.score_challenger,
                    "grade_answered": each.grade_answered,
                    "grade_challenger": each.grade_challenger,
                }
                for each in differences
            ],
        )

    async def lose(self, losses: Sequence[tuple[Pair, Loss]]) -> None:
        """Add to what challengers have not scored."""
        for pair, loss in sorted(losses, key=lambda item: _key(item[0])):
            added = insert_into(self._conn, shadow_loss).values(
                challenger=pair.challenger,
                answered_by=pair.answered_by,
                day=pair.day,
                dropped=loss.dropped,
                failed=loss.failed,
            )
            table = shadow_loss.c
            await self._conn.execute(
                added.on_conflict_do_update(
                    index_elements=[table.challenger, table.answered_by, table.day],
                    set_={
                        "dropped": table.dropped + added.excluded.dropped,
                        "failed": table.failed + added.excluded.failed,
                    },
                )
            )

    async def counts(self, challenger: str, answered_by: str, since: date | None) -> Counts:
        """Count what there is of a challenger beside a version, from a day on."""
        mine = [_TABLE.challenger == challenger, _TABLE.answered_by == answered_by]
        lost = [shadow_loss.c.challenger == challenger, shadow_loss.c.answered_by == answered_by]
        if since is not None:
            mine.append(_TABLE.day >= since)
            lost.append(shadow_loss.c.day >= since)
        points = await self._conn.execute(
            sa.select(_TABLE.day, _POINTS, _FIRMS).where(*mine).group_by(_TABLE.day, _POINTS)
        )
        moves = await self._conn.execute(
            sa.select(_TABLE.day, _TABLE.grade_answered, _TABLE.grade_challenger, _FIRMS)
            .where(*mine)
            .group_by(_TABLE.day, _TABLE.grade_answered, _TABLE.grade_challenger)
        )
        difference = _TABLE.pd_challenger - _TABLE.pd_answered
        pds = await self._conn.execute(
            sa.select(_TABLE.day, _FIRMS, sa.func.sum(difference))
            .where(*mine, difference.is_not(None))
            .group_by(_TABLE.day)
        )
        losses = await self._conn.execute(
            sa.select(shadow_loss.c.day, shadow_loss.c.dropped, shadow_loss.c.failed).where(*lost)
        )
        return Counts(
            points={(day, difference): firms for day, difference, firms in points},
            moves=[Move(*row) for row in moves],
            pds={day: (firms, float(total)) for day, firms, total in pds},
            losses={day: Loss(dropped, failed) for day, dropped, failed in losses},
        )

    async def forget(self, before: date) -> None:
        """Delete what is of earlier days."""
        for table in (shadow_difference, shadow_loss):
            await self._conn.execute(sa.delete(table).where(table.c.day < before))


def _key(pair: Pair) -> tuple[str, str, date]:
    return pair.challenger, pair.answered_by, pair.day
