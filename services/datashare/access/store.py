"""The table of accesses: rows are added and never change.

The subject leads the primary key, so that the table can be distributed by it; ids ascend with time,
so that the newest come last in every index.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, time
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.domain import (
    Access,
    Channel,
    Earlier,
    Outcome,
    Recorded,
    Sealed,
)
from services.datashare.access.enquiries import (
    ENQUIRY,
    ONCE_IN,
    PLATFORM,
    PURPOSE,
    Enquiry,
    by_month,
)
from services.datashare.bulk import Relation, ask, copy_rows, once, relation, stored_time
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.china import CHINA, date_of_day
from services.datashare.log.domain import Leaf
from services.datashare.log.store import leaf
from services.datashare.participants.store import participant
from services.datashare.schema import metadata
from services.datashare.summaries.codec import encode
from services.datashare.summaries.domain import (
    Layout,
    SeriesKey,
    StoredSeries,
    SummaryQuery,
    Table,
)
from services.kit.db import UtcTime

access = sa.Table(
    "access",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("access_id", sa.String(64), primary_key=True),
    sa.Column("recipient_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
    sa.Column("accessed_at", UtcTime, nullable=False),
    sa.Column("as_of", UtcTime, nullable=False),
    sa.Column("purpose", sa.String(64), nullable=False),
    # A list, as JSON.
    sa.Column("record_types", sa.LargeBinary, nullable=False),
    sa.Column("content_level", sa.SmallInteger, nullable=False),
    sa.Column("first_month", sa.Integer, nullable=False),
    sa.Column("last_month", sa.Integer, nullable=False),
    sa.Column("consent_id", sa.String(64), nullable=False),
    sa.Column("consent_revision", sa.Integer, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("refusal_reason", sa.String(64), nullable=False),
    sa.Column("channel", sa.String(16), nullable=False),
    sa.Column("officer", sa.String(64), nullable=False),
    sa.Column("file_reference", sa.String(64), nullable=False),
    sa.Column("leaf_id", sa.String(64), nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
    # None of accesses of before they were recorded.
    sa.Column("score", sa.Boolean),
    sa.Column("automated_decision", sa.Boolean),
    # Empty when it was for the subject's own.
    sa.Column("for_subject_id", sa.String(64), nullable=False, server_default=sa.text("''")),
    # Empty when the bank named none.
    sa.Column("product", sa.String(64), nullable=False, server_default=sa.text("''")),
    sa.Index(None, "recipient_id", "access_id"),
)

_KEY = {"subject_id": sa.String(), "access_id": sa.String()}
_REQUEST = {"recipient_id": sa.String(), "request_id": sa.String()}
_WANTED = Relation("wanted", _REQUEST)
_IS_RELEASE = access.c.outcome == sa.literal_column(f"'{Outcome.RELEASED}'")

# A request is released once; refusals of it may be many.
sa.Index(
    "uq_access_recipient_id_request_id_released",
    access.c.recipient_id,
    access.c.request_id,
    unique=True,
    postgresql_where=_IS_RELEASE,
    sqlite_where=_IS_RELEASE,
)


class AccessStore:
    """Accesses in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def released(self, keys: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Earlier]:
        """Return the releases of (recipient_id, request_id)."""
        rows = await ask(self._conn, _releases(self._conn), _WANTED.values(self._conn, keys))
        return {(row[0], row[1]): Earlier(*row[2:]) for row in rows}

    async def sealed(self, keys: Sequence[tuple[str, str]]) -> Mapping[str, Sealed]:
        """Return accesses of (subject_id, access_id) with their leaves, by access_id."""
        asked = relation(self._conn, "asked", _KEY, keys)
        rows = await self._conn.execute(
            sa.select(access, leaf.c.salt, leaf.c.hash)
            .join(asked, sa.and_(*(access.c[name] == asked.c[name] for name in _KEY)))
            .join(leaf, leaf.c.leaf_id == access.c.leaf_id)
        )
        return {row.access_id: Sealed(_access(row), row.salt, row.hash) for row in rows}

    async def append(self, accesses: Sequence[tuple[Access, Leaf]]) -> None:
        """Add accesses with their leaves.

        Fails with a unique violation when another transaction released one of the requests
        meanwhile.
        """
        # In the order of the unique index, so that two batches cannot wait for each other.
        ordered = sorted(accesses, key=lambda pair: (pair[0].recipient_id, pair[0].request_id))
        await copy_rows(self._conn, access, [_row(self._conn, *pair) for pair in ordered])

    async def page(
        self, *, subject_id: str, recipient_id: str, before: str, limit: int
    ) -> Sequence[Recorded]:
        """Return accesses, newest first.

        Args:
            subject_id: to this subject's data; "" is any.
            recipient_id: of this bank; "" is any.
            before: only with an id less than this; "" is any.
            limit: most accesses.
        """
        query = (
            sa.select(access, participant.c.name)
            .join(participant, participant.c.participant_id == access.c.recipient_id, isouter=True)
            .order_by(access.c.access_id.desc())
            .limit(limit)
        )
        if subject_id:
            query = query.where(access.c.subject_id == subject_id)
        if recipient_id:
            query = query.where(access.c.recipient_id == recipient_id)
        if before:
            query = query.where(access.c.access_id < before)
        return [_recorded(row) for row in await self._conn.execute(query)]


class EnquiryStore:
    """Enquiries in one transaction, as a series of each firm.

    Args:
        conn: the transaction.
        layout: of the type.
        days: for which one may be told.
    """

    def __init__(self, conn: AsyncConnection, layout: Layout, days: int) -> None:
        self._conn = conn
        self._layout = layout
        self._days = days

    async def read(self, queries: Sequence[SummaryQuery]) -> Sequence[StoredSeries | None]:
        """Return the series that each query finds; None where nobody asked in its months."""
        since = min(self._since(query) for query in queries)
        rows = await self._conn.execute(
            sa.select(
                access.c.subject_id, access.c.recipient_id, access.c.product, access.c.accessed_at
            ).where(
                access.c.subject_id.in_(sorted({query.subject_id for query in queries})),
                access.c.accessed_at >= _midnight(since) - ONCE_IN,
                access.c.purpose == PURPOSE,
                # A check of what is there is no enquiry.
                access.c.content_level > ContentLevel.PROFILE,
                _IS_RELEASE,
            )
        )
        asked: dict[str, list[Enquiry]] = {}
        for subject_id, *enquiry in rows:
            asked.setdefault(subject_id, []).append(Enquiry(*enquiry))
        return [self._series(query, asked.get(query.subject_id, ())) for query in queries]

    def _series(self, query: SummaryQuery, asked: Iterable[Enquiry]) -> StoredSeries | None:
        # One that is replayed must not find itself.
        before = (each for each in asked if each.at < query.as_of)
        months = by_month(before, query.first_month, query.last_month, self._since(query))
        if not months:
            return None
        table = Table(
            {month: [it.enquiries, it.enquiries, it.applications] for month, it in months.items()}
        )
        key = SeriesKey(query.subject_id, ENQUIRY, PLATFORM)
        content = encode(key, self._layout, table, {})
        return StoredSeries(ENQUIRY, PLATFORM, content, first_month=min(months))

    def _since(self, query: SummaryQuery) -> int:
        """Return the first day of which enquiries may be told."""
        return query.today - self._days + 1


def _midnight(day: int) -> datetime:
    return datetime.combine(date_of_day(day), time.min, CHINA)


@once
def _releases(conn: AsyncConnection) -> sa.Select[Any]:
    wanted = _WANTED.of(conn)
    same = sa.and_(*(access.c[name] == wanted.c[name] for name in _REQUEST), _IS_RELEASE)
    columns = (
        access.c.recipient_id,
        access.c.request_id,
        access.c.access_id,
        access.c.fingerprint,
        access.c.as_of,
    )
    if conn.dialect.name == "sqlite":
        return sa.select(*columns).join(wanted, same)
    # One probe of the unique index for each key, whatever the statistics say: a plan made while the
    # table was small read all of it, 17 ms at 10,000 accesses against 0.1.
    found = sa.select(*columns).where(same).limit(1).lateral("found")
    return sa.select(*found.c).select_from(wanted.join(found, sa.true()))


def _row(conn: AsyncConnection, added: Access, sealed: Leaf) -> tuple[Any, ...]:
    return (
        added.subject_id,
        added.access_id,
        added.recipient_id,
        added.request_id,
        added.fingerprint,
        stored_time(conn, added.accessed_at),
        stored_time(conn, added.as_of),
        added.purpose,
        orjson.dumps(added.record_types),
        added.content_level,
        added.first_month,
        added.last_month,
        added.consent_id,
        added.consent_revision,
        added.outcome,
        added.refusal_reason,
        added.channel,
        added.officer,
        added.file_reference,
        sealed.leaf_id,
        sealed.hash,
        added.score,
        added.automated_decision,
        added.for_subject_id,
        added.product,
    )


def _recorded(row: sa.Row[Any]) -> Recorded:
    return Recorded(_access(row), recipient_name=row.name or "", leaf_hash=row.leaf_hash)


def _access(row: sa.Row[Any]) -> Access:
    return Access(
        access_id=row.access_id,
        subject_id=row.subject_id,
        recipient_id=row.recipient_id,
        request_id=row.request_id,
        fingerprint=row.fingerprint,
        accessed_at=row.accessed_at,
        as_of=row.as_of,
        purpose=row.purpose,
        record_types=tuple(orjson.loads(row.record_types)),
        content_level=ContentLevel(row.content_level),
        first_month=row.first_month,
        last_month=row.last_month,
        consent_id=row.consent_id,
        consent_revision=row.consent_revision,
        outcome=Outcome(row.outcome),
        refusal_reason=row.refusal_reason,
        channel=Channel(row.channel),
        officer=row.officer,
        file_reference=row.file_reference,
        score=row.score,
        automated_decision=row.automated_decision,
        for_subject_id=row.for_subject_id,
        product=row.product,
    )
