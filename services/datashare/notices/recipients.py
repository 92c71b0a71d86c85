"""Who was released which records of whom, to be told when these change.

A recipient is told of a provider's records only when what it was released could have held them: of
what its consent leaves out, it must not learn that it is there.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.domain import Channel, Outcome
from services.datashare.access.store import access
from services.datashare.bulk import probe, relation
from services.datashare.consent.document import core_of
from services.datashare.consent.domain import Terms
from services.datashare.consent.store import consent
from services.datashare.notices.domain import About, Recipient

_SUBJECT: Final = {"subject_id": sa.String()}
_CONSENT: Final = {"subject_id": sa.String(), "consent_id": sa.String()}
_RELEASED: Final = tuple(
    access.c[name]
    for name in ("subject_id", "recipient_id", "channel", "record_types", "consent_id")
)


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
        self, at: datetime, asked: Collection[About], *, until: datetime | None = None
    ) -> Mapping[About, Sequence[Recipient]]:
        """Return who was released such records since a time, of what anybody was.

        Args:
            at: since then.
            asked: which records.
            until: and until then; None is now.
        """
        subjects = sorted({about.subject_id for about in asked})
        asks = relation(self._conn, "asks", _SUBJECT, [(subject_id,) for subject_id in subjects])
        released = probe(
            self._conn,
            _RELEASED,
            asks,
            access.c.subject_id == asks.c.subject_id,
            access.c.outcome == Outcome.RELEASED,
            access.c.accessed_at >= at,
            sa.true() if until is None else access.c.accessed_at <= until,
        )
        rows = (await self._conn.execute(released.distinct())).all()
        named = sorted({(row.subject_id, row.consent_id) for row in rows if row.consent_id})
        terms = await self._terms(named)
        wanted: dict[str, list[About]] = {}
        for about in asked:
            wanted.setdefault(about.subject_id, []).append(about)
        found: dict[About, dict[str, bool]] = {}
        for row in rows:
            types = frozenset(orjson.loads(row.record_types))
            for about in wanted[row.subject_id]:
                under = terms.get((row.subject_id, row.consent_id))
                if self._held(about, types, row.recipient_id, under):
                    mine = found.setdefault(about, {})
                    scored = row.channel == Channel.SCORING
                    mine[row.recipient_id] = scored or mine.get(row.recipient_id, False)
        return {
            about: [Recipient(*item) for item in sorted(mine.items())]
            for about, mine in found.items()
        }

    async def _terms(self, named: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Terms]:
        """Return the terms of consents by subject_id and consent_id."""
        if not named:
            return {}
        asks = relation(self._conn, "asks", _CONSENT, named)
        query = probe(
            self._conn,
            (consent.c.subject_id, consent.c.consent_id, consent.c.canonical),
            asks,
            *(consent.c[name] == asks.c[name] for name in _CONSENT),
        )
        rows = await self._conn.execute(query)
        return {(row[0], row[1]): core_of(row[2]).terms for row in rows}

    def _held(
        self, about: About, types: Collection[str], recipient_id: str, under: Terms | None
    ) -> bool:
        if not about.record_type:
            return True
        if about.record_type not in types:
            return False
        if about.record_type in self._kept and about.provider_id != recipient_id:
            return False
        if under is None or not about.provider_id:
            return True
        # A consent says nothing about what is open by law.
        return about.record_type not in under.record_types or (
            about.provider_id in under.provider_ids
        )
