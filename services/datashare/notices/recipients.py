"""Who was released which records of whom, to be told when these change.

A recipient is told of a provider's records only when what it was released could have held them: of
what its consent leaves out, it must not learn that it is there.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.domain import Channel, Outcome
from services.datashare.access.store import access
from services.datashare.consent.domain import core_of
from services.datashare.consent.store import consent
from services.datashare.notices.domain import About, Recipient


class RecipientStore:
    """Recipients, in one transaction.

    Args:
        conn: the transaction.
        kept: record types that nobody is released but who supplied them.
    """

    def __init__(self, conn: AsyncConnection, kept: Collection[str]) -> None:
        self._conn = conn
        self._kept = kept

    async def since(
        self, at: datetime, asked: Collection[About]
    ) -> Mapping[About, Sequence[Recipient]]:
        """Return who was released such records since a time, of what anybody was."""
        rows = await self._conn.execute(
            sa.select(
                access.c.subject_id,
                access.c.recipient_id,
                access.c.channel,
                access.c.record_types,
                consent.c.canonical,
            )
            .join(
                consent,
                sa.and_(
                    consent.c.subject_id == access.c.subject_id,
                    consent.c.consent_id == access.c.consent_id,
                ),
                isouter=True,
            )
            .where(
                access.c.subject_id.in_(sorted({about.subject_id for about in asked})),
                access.c.outcome == Outcome.RELEASED,
                access.c.accessed_at >= at,
            )
            .distinct()
        )
        wanted: dict[str, list[About]] = {}
        for about in asked:
            wanted.setdefault(about.subject_id, []).append(about)
        found: dict[About, dict[str, bool]] = {}
        for row in rows:
            types = frozenset(orjson.loads(row.record_types))
            for about in wanted[row.subject_id]:
                if self._held(about, types, row.recipient_id, row.canonical):
                    mine = found.setdefault(about, {})
                    scored = row.channel == Channel.SCORING
                    mine[row.recipient_id] = scored or mine.get(row.recipient_id, False)
        return {
            about: [Recipient(*item) for item in sorted(mine.items())]
            for about, mine in found.items()
        }

    def _held(
        self, about: About, types: Collection[str], recipient_id: str, canonical: bytes | None
    ) -> bool:
        if not about.record_type:
            return True
        if about.record_type not in types:
            return False
        if about.record_type in self._kept and about.provider_id != recipient_id:
            return False
        if canonical is None or not about.provider_id:
            return True
        # A consent says nothing about what is open by law.
        terms = core_of(canonical).terms
        return about.record_type not in terms.record_types or (
            about.provider_id in terms.provider_ids
        )
