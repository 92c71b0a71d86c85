"""The tables of notices.

Notices are written right before the commit (`NoticeStore.finish`), all of a transaction at once. On
PostgreSQL their writer then takes an advisory lock for each party, in the order of their numbers,
before it draws positions, and holds them to the end: a party's positions are committed in their
order, and a reader behind a cursor never sees one appear before it. Two transactions wait for each
other only when they tell the same party something, for the time of one insert and a commit; taken
once, in order and last, these locks cannot deadlock. SQLite has one writer.

Who has something new is noted beside where it is told without asking (`endpoints`), while the lock
is held: so those who deliver look at nobody else.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import Relation, once
from services.datashare.notices.contacts import MESSAGES_AN_HOUR
from services.datashare.notices.domain import Entry, Notice, NoticeKind
from services.datashare.schema import metadata
from services.kit.db import UtcTime, insert_into
from services.kit.ids import Ids

notice = sa.Table(
    "notice",
    metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("notice_id", sa.String(64), nullable=False),
    sa.Column("party_id", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("occurred_at", UtcTime, nullable=False),
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("consent_id", sa.String(64), nullable=False),
    sa.Column("dispute_id", sa.String(64), nullable=False),
    sa.Column("record_type", sa.String(64), nullable=False),
    sa.Column("participant_id", sa.String(64), nullable=False),
    sa.Column("mandate_id", sa.String(64), nullable=False),
    sa.Column("due_at", UtcTime),
    sa.Column("incident_id", sa.String(64), nullable=False, server_default=sa.text("''")),
    sa.Index(None, "party_id", "position"),
    sa.Index(None, "party_id", "occurred_at"),
    sqlite_autoincrement=True,  # a position is never used again
)

acknowledgement = sa.Table(
    "notice_acknowledgement",
    metadata,
    sa.Column("party_id", sa.String(64), primary_key=True),
    # Up to which notices were dealt with.
    sa.Column("position", sa.BigInteger, nullable=False),
)

pruned = sa.Table(
    "notice_pruned",
    metadata,
    sa.Column("party_id", sa.String(64), primary_key=True),
    # Of the last notice that is not kept any more.
    sa.Column("position", sa.BigInteger, nullable=False),
)

late = sa.Table(
    "notice_late",
    metadata,
    # One row: up to which change those were looked for who read while it was made.
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("position", sa.BigInteger, nullable=False),
)

_NUMBERS = 256
_LATE = "changes"
_ALONE = sa.select(sa.func.pg_try_advisory_xact_lock(0x6C617465))
# Locks with two numbers are apart from those with one; the first says what the second counts.
_LOCK = sa.text("SELECT pg_advisory_xact_lock(28776, n) FROM unnest(:numbers) AS n").bindparams(
    sa.bindparam("numbers", type_=ARRAY(sa.Integer))
)
# Party and where it is told, as in `endpoints`.
_ENDPOINTS = (("webhook", "party_id"), ("contact", "subject_id"))
_TOLD = Relation("told", {"party_id": sa.String()})


async def in_turn(conn: AsyncConnection, party_ids: Iterable[str]) -> None:
    """Wait for those who tell parties something, and let nobody else until the end."""
    if conn.dialect.name == "postgresql":
        await conn.execute(_LOCK, {"numbers": _numbers(party_ids)})


class NoticeStore:
    """Notices in one transaction.

    Args:
        conn: the transaction.
        ids: makes ids of notices.
    """

    def __init__(self, conn: AsyncConnection, ids: Ids) -> None:
        self._conn = conn
        self._ids = ids
        self._added: dict[Notice, None] = {}

    async def append(self, notices: Sequence[Notice]) -> None:
        """Add notices, which are written when the transaction ends well; equal ones once."""
        self._added |= dict.fromkeys(notices)

    async def spill(self) -> None:
        """Write what was added so far, where it would be too much to wait with all of it.

        Nothing else may be locked after this: it takes the lock of every party.
        """
        if self._conn.dialect.name == "postgresql":
            await self._conn.execute(_LOCK, {"numbers": list(range(_NUMBERS))})
        await self.finish()

    async def finish(self) -> None:
        """Write what was added, as the last thing before the commit."""
        if not self._added:
            return
        rows = [
            {
                "notice_id": self._ids.new("ntc"),
                "party_id": added.party_id,
                "kind": added.kind,
                "occurred_at": added.occurred_at,
                "subject_id": added.subject_id,
                "consent_id": added.consent_id,
                "dispute_id": added.dispute_id,
                "record_type": added.record_type,
                "participant_id": added.participant_id,
                "mandate_id": added.mandate_id,
                "due_at": added.due_at,
                "incident_id": added.incident_id,
            }
            for added in self._added
        ]
        notices = list(self._added)
        party_ids = {added.party_id for added in notices}
        await in_turn(self._conn, party_ids)
        self._added = {}
        await self._conn.execute(sa.insert(notice), rows)
        told = _TOLD.values(self._conn, [(party_id,) for party_id in sorted(party_ids)])
        for noting in _noting(self._conn):
            await self._conn.execute(noting, told)
        if warned := {(n.party_id,) for n in notices if n.kind is NoticeKind.MANDATE_CHANGED}:
            await self._conn.execute(
                _hurrying(self._conn), _TOLD.values(self._conn, sorted(warned))
            )

    async def after(self, party_id: str, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` notices of a party behind a position, in their order."""
        rows = await self._conn.execute(
            sa.select(notice)
            .where(notice.c.party_id == party_id, notice.c.position > position)
            .order_by(notice.c.position)
            .limit(limit)
        )
        return [_entry(row) for row in rows]

    async def of(self, party_id: str, at: datetime) -> Sequence[Notice]:
        """Return what a party was told of a moment."""
        rows = await self._conn.execute(
            sa.select(notice).where(notice.c.party_id == party_id, notice.c.occurred_at == at)
        )
        return [_entry(row).notice for row in rows]

    async def alone(self) -> bool:
        """Tell whether nobody else looks for late readers until the end of this transaction."""
        if self._conn.dialect.name != "postgresql":
            return True
        return bool(await self._conn.scalar(_ALONE))

    async def looked_at(self) -> int:
        """Return the position of the last change for which late readers were looked for."""
        found = await self._conn.scalar(sa.select(late.c.position).where(late.c.name == _LATE))
        return found or 0

    async def look_on(self, position: int) -> None:
        """Say up to which change late readers were looked for."""
        insert = insert_into(self._conn, late).values(name=_LATE, position=position)
        await self._conn.execute(
            insert.on_conflict_do_update(
                index_elements=["name"], set_={"position": insert.excluded.position}
            )
        )

    async def last(self, party_id: str) -> int:
        """Return the position of a party's newest notice, kept or not; 0 is none."""
        found = await self._conn.scalar(
            sa.select(sa.func.max(notice.c.position)).where(notice.c.party_id == party_id)
        )
        return found or await self.pruned(party_id)

    async def pruned(self, party_id: str) -> int:
        """Return the position of a party's last notice that is not kept any more; 0 is none."""
        found = await self._conn.scalar(
            sa.select(pruned.c.position).where(pruned.c.party_id == party_id)
        )
        return found or 0

    async def acknowledged(self, party_id: str) -> int:
        """Return the position up to which a party has dealt with its notices; 0 is none."""
        found = await self._conn.scalar(
            sa.select(acknowledgement.c.position).where(acknowledgement.c.party_id == party_id)
        )
        return found or 0

    async def acknowledge(self, party_id: str, position: int) -> None:
        """Say that a party has dealt with its notices up to a position; it never goes back."""
        insert = insert_into(self._conn, acknowledgement).values(
            party_id=party_id, position=position
        )
        await self._conn.execute(
            insert.on_conflict_do_update(
                index_elements=["party_id"],
                set_={"position": insert.excluded.position},
                where=acknowledgement.c.position < insert.excluded.position,
            )
        )


@once
def _noting(conn: AsyncConnection) -> Sequence[sa.Update]:
    """Return what notes that something waits for parties; of most it is noted already."""
    told = _TOLD.of(conn)
    found = []
    for name, party in _ENDPOINTS:
        table = sa.table(name, sa.column(party, sa.String), sa.column("waits", sa.Boolean))
        mine = table.c[party].in_(sa.select(told.c.party_id))
        found.append(sa.update(table).where(mine, table.c.waits.is_(False)).values(waits=True))
    return found


@once
def _hurrying(conn: AsyncConnection) -> sa.Update:
    """Return what lets firms be told at once though they had their messages of the hour.

    It is for who speaks for them: a bank that has them told much must not hold up that warning.
    """
    told = _TOLD.of(conn)
    contact = sa.table(
        "contact",
        sa.column("subject_id", sa.String),
        sa.column("failures", sa.Integer),
        sa.column("messages", sa.Integer),
        sa.column("window_at", UtcTime),
        sa.column("next_attempt_at", UtcTime),
    )
    return (
        sa.update(contact)
        .where(
            contact.c.subject_id.in_(sa.select(told.c.party_id)),
            contact.c.messages >= MESSAGES_AN_HOUR,
            contact.c.failures == 0,
        )
        .values(messages=MESSAGES_AN_HOUR - 1, next_attempt_at=contact.c.window_at)
    )


def _numbers(party_ids: Iterable[str]) -> list[int]:
    """Return the numbers of parties' locks in their order.

    There are `_NUMBERS`: who tells everybody something takes no more, as the server has room for
    some thousands; two parties that share one only wait for each other now and then.
    """
    return sorted({hashlib.sha256(party_id.encode()).digest()[0] for party_id in party_ids})


def _entry(row: Any) -> Entry:
    return Entry(
        row.position,
        row.notice_id,
        Notice(
            party_id=row.party_id,
            kind=NoticeKind(row.kind),
            occurred_at=row.occurred_at,
            subject_id=row.subject_id,
            consent_id=row.consent_id,
            dispute_id=row.dispute_id,
            record_type=row.record_type,
            participant_id=row.participant_id,
            mandate_id=row.mandate_id,
            due_at=row.due_at,
            incident_id=row.incident_id,
        ),
    )
