"""The table of disputes.

The subject leads the primary key, so that the table can be distributed by it. What the firm and the
provider wrote is sealed under the subject's data key, whatever the type of the record.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import Relation, once, probe
from services.datashare.disputes.app import Position
from services.datashare.disputes.domain import (
    Deadlines,
    Dispute,
    DisputeReason,
    DisputeState,
    Mark,
    Marked,
    Newest,
    Stage,
    Target,
    VersionRead,
)
from services.datashare.records.payloads import values_equal
from services.datashare.records.store import messages, record
from services.datashare.schema import metadata
from services.datashare.sealing.domain import DataKey, Place
from services.datashare.sealing.store import Seals
from services.datashare.summaries.domain import SeriesKey
from services.kit.db import UtcTime

dispute = sa.Table(
    "dispute",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("dispute_id", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), nullable=False),
    sa.Column("record_type", sa.String(64), nullable=False),
    sa.Column("provider_record_id", sa.String(128), nullable=False),
    sa.Column("field", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("opened_at", UtcTime, nullable=False),
    sa.Column("answer_due_at", UtcTime, nullable=False),
    sa.Column("remind_at", UtcTime, nullable=False),
    sa.Column("correction_due_at", UtcTime),
    sa.Column("provisional", sa.Boolean, nullable=False),
    sa.Column("closed_at", UtcTime),
    sa.Column("stage", sa.String(32)),
    # Of the stage; NULL when nothing is told any more.
    sa.Column("told_next_at", UtcTime),
    # Who was told by the opening, and by an end soon after: a list, as JSON.
    sa.Column("told", sa.LargeBinary, nullable=False),
    # Readers of the record are told of it.
    sa.Column("marked", sa.Boolean, nullable=False),
    # Statement, answer and evidence as JSON, sealed.
    sa.Column("words", sa.LargeBinary, nullable=False),
    sa.Index(None, "dispute_id"),
    sa.Index(None, "provider_id", "answer_due_at", "dispute_id"),
    sa.Index(None, "answer_due_at", "dispute_id"),
)

_IS_OPEN: Final = dispute.c.state == sa.literal_column(f"'{DisputeState.OPEN}'")
_IS_MARKED: Final = dispute.c.marked.is_(True)
_IS_TOLD: Final = dispute.c.told_next_at.is_not(None)

sa.Index(
    "uq_dispute_open",
    *(
        dispute.c[name]
        for name in ("subject_id", "record_type", "provider_id", "provider_record_id", "field")
    ),
    unique=True,
    postgresql_where=_IS_OPEN,
    sqlite_where=_IS_OPEN,
)
# Small, as disputes end: what is to be answered, and what every read looks into.
for _columns in (("answer_due_at", "dispute_id"), ("provider_id", "answer_due_at", "dispute_id")):
    sa.Index(
        f"ix_dispute_{'_'.join(_columns)}_open",
        *(dispute.c[name] for name in _columns),
        postgresql_where=_IS_OPEN,
        sqlite_where=_IS_OPEN,
    )
sa.Index(
    "ix_dispute_marked",
    *(dispute.c[name] for name in SeriesKey._fields),
    postgresql_where=_IS_MARKED,
    sqlite_where=_IS_MARKED,
)
sa.Index(
    "ix_dispute_told_next_at",
    dispute.c.told_next_at,
    postgresql_where=_IS_TOLD,
    sqlite_where=_IS_TOLD,
)

# Who holds many disputes does so alone, as each of them takes them in an order of its own.
_ALONE: Final = sa.select(sa.func.pg_try_advisory_xact_lock(0x64697370))
_IN_TURN: Final = sa.select(sa.func.pg_advisory_xact_lock(0x64697370))
_KEY: Final = ("provider_id", "record_type", "provider_record_id")
_VERSION: Final = (
    record.c.version,
    record.c.month,
    record.c.known_at,
    record.c.retracted,
    record.c.hidden_on,
)
_SERIES: Final = Relation("asked", {name: sa.String() for name in SeriesKey._fields})


@once
def _marking(conn: AsyncConnection) -> sa.Select[Any]:
    """Return what asks for the disputes of series with the versions of their records."""
    asked = _SERIES.of(conn)
    same = (dispute.c[name] == asked.c[name] for name in SeriesKey._fields)
    mine = probe(conn, list(dispute.c), asked, *same, _IS_MARKED).subquery("mine")
    of_record = sa.and_(
        record.c.subject_id == mine.c.subject_id,
        *(record.c[name] == mine.c[name] for name in _KEY),
    )
    versions = (column.label(f"of_{column.name}") for column in _VERSION)
    return sa.select(*mine.c, *versions).join(record, of_record).order_by(mine.c.dispute_id)


def is_disputed(of: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether readers of a series are told of a dispute, as a column of its row.

    Args:
        of: a table with the columns of a series' key.
    """
    same = (dispute.c[name] == of.c[name] for name in SeriesKey._fields)
    return sa.exists().where(*same, _IS_MARKED).label("disputed")


class DisputeStore:
    """Disputes in one transaction.

    Args:
        conn: the transaction.
        seals: seals what people wrote.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals) -> None:
        self._conn = conn
        self._seals = seals

    async def newest(self, subject_id: str, target: Target) -> Newest | None:
        """Return the newest version of a subject's record."""
        rows = await self._conn.execute(
            sa.select(record.c.version, record.c.retracted, record.c.hidden_on)
            .where(
                record.c.subject_id == subject_id,
                *(record.c[name] == getattr(target, name) for name in _KEY),
            )
            .order_by(record.c.version.desc())
            .limit(1)
        )
        row = rows.first()
        return Newest(*row) if row else None

    async def repeats(self, disputed: Dispute, version: int) -> bool:
        """Tell whether a version says the same in the disputed field as the disputed version."""
        target = disputed.target
        if not target.field:
            return False
        result = await self._conn.execute(
            sa.select(record).where(
                record.c.subject_id == disputed.subject_id,
                *(record.c[name] == getattr(target, name) for name in _KEY),
                record.c.version.in_([disputed.version, version]),
                record.c.retracted.is_(False),
            )
        )
        rows = result.all()
        data_keys = await self._seals.keys({row.subject_id for row in rows if row.sealed})
        payloads = [payload for _, payload in messages(rows, data_keys)]
        return len(payloads) > 1 and values_equal(target.record_type, target.field, *payloads)

    async def standing(self, subject_id: str) -> int:
        """Return of how many disputes about a subject's records readers are told."""
        query = sa.select(sa.func.count()).where(dispute.c.subject_id == subject_id, _IS_MARKED)
        return await self._conn.scalar(query) or 0

    async def opened(self, subject_id: str, target: Target) -> str | None:
        """Return the id of the open dispute about a field of a record, if there is one."""
        found: str | None = await self._conn.scalar(
            sa.select(dispute.c.dispute_id).where(
                dispute.c.subject_id == subject_id,
                *(dispute.c[name] == value for name, value in target._asdict().items()),
                _IS_OPEN,
            )
        )
        return found

    async def add(self, added: Dispute) -> None:
        """Add a dispute; loses the race against another open one about the same field."""
        values = await self._values(added)
        await self._conn.execute(
            sa.insert(dispute).values(
                subject_id=added.subject_id,
                dispute_id=added.dispute_id,
                **added.target._asdict(),
                version=added.version,
                reason=added.reason,
                opened_at=added.opened_at,
                **values,
            )
        )

    async def get(self, dispute_id: str) -> Dispute | None:
        """Return a dispute."""
        return await self._one(sa.select(dispute).where(dispute.c.dispute_id == dispute_id))

    async def lock(self, dispute_id: str) -> Dispute | None:
        """Return a dispute that nobody else changes until the end."""
        query = sa.select(dispute).where(dispute.c.dispute_id == dispute_id)
        return await self._one(query.with_for_update())

    async def update(self, changed: Dispute) -> None:
        """Write a locked dispute."""
        values = await self._values(changed)
        await self._conn.execute(
            sa.update(dispute)
            .where(
                dispute.c.subject_id == changed.subject_id,
                dispute.c.dispute_id == changed.dispute_id,
            )
            .values(**values)
        )

    async def page(
        self,
        *,
        subject_id: str,
        provider_id: str,
        state: DisputeState | None,
        due_by: datetime | None,
        after: Position | None,
        limit: int,
        marked: bool = False,
    ) -> Sequence[Dispute]:
        """Return disputes, soonest due first.

        Args:
            subject_id: about this one's records; "" is any.
            provider_id: about records of this one; "" is any.
            state: only in this one; None is any.
            due_by: only those due by then; None is any.
            after: only behind this one; None is from the first.
            limit: most disputes.
            marked: only those of which readers of the record are told.
        """
        order = (dispute.c.answer_due_at, dispute.c.dispute_id)
        query = sa.select(dispute).order_by(*order).limit(limit)
        if subject_id:
            query = query.where(dispute.c.subject_id == subject_id)
        if provider_id:
            query = query.where(dispute.c.provider_id == provider_id)
        if state is DisputeState.OPEN:
            query = query.where(_IS_OPEN)  # as the indexes say it
        elif state is not None:
            query = query.where(dispute.c.state == state)
        if marked:
            query = query.where(_IS_MARKED)
        if due_by is not None:
            query = query.where(dispute.c.answer_due_at <= due_by)
        if after is not None:
            at, dispute_id = after
            query = query.where(
                sa.or_(
                    dispute.c.answer_due_at > at,
                    sa.and_(dispute.c.answer_due_at == at, dispute.c.dispute_id > dispute_id),
                )
            )
        return await self._disputes(query)

    async def is_waiting(self, now: datetime) -> bool:
        """Tell whether there is something to tell of a dispute."""
        query = sa.select(sa.exists().where(dispute.c.told_next_at <= now))
        return bool(await self._conn.scalar(query))

    async def waiting(self, now: datetime, limit: int) -> Sequence[Dispute]:
        """Return such disputes, held for a change; none while somebody else tells."""
        if self._conn.dialect.name == "postgresql" and not await self._conn.scalar(_ALONE):
            return ()
        return await self._disputes(
            sa.select(dispute)
            .where(dispute.c.told_next_at <= now)
            .order_by(dispute.c.told_next_at, dispute.c.dispute_id)
            .limit(limit)
            .with_for_update()
        )

    async def provisional(self, after: str, limit: int) -> Sequence[Dispute]:
        """Return open disputes whose deadlines are provisional, by id, held for a change.

        Waits for who tells of disputes.
        """
        if self._conn.dialect.name == "postgresql":
            await self._conn.execute(_IN_TURN)
        return await self._disputes(
            sa.select(dispute)
            .where(_IS_OPEN, dispute.c.provisional, dispute.c.dispute_id > after)
            .order_by(dispute.c.dispute_id)
            .limit(limit)
            .with_for_update()
        )

    async def marked(self, keys: Collection[SeriesKey]) -> Mapping[SeriesKey, Sequence[Marked]]:
        """Return the disputes that readers of series are told of; one without may be absent."""
        if not keys:
            return {}
        rows = await self._conn.execute(
            _marking(self._conn), _SERIES.values(self._conn, sorted(keys))
        )
        versions: dict[str, list[VersionRead]] = {}
        first: dict[str, Any] = {}
        for row in rows:
            first.setdefault(row.dispute_id, row)
            version = VersionRead(*(getattr(row, f"of_{column.name}") for column in _VERSION))
            versions.setdefault(row.dispute_id, []).append(version)
        data_keys = await self._seals.keys({row.subject_id for row in first.values()})
        found: dict[SeriesKey, list[Marked]] = {}
        for dispute_id, row in first.items():
            if (words := _words(row, data_keys)) is None:
                continue
            mark = Mark(
                dispute_id,
                row.record_type,
                row.provider_id,
                0,
                row.field,
                DisputeState(row.state),
                words["statement"],
            )
            key = SeriesKey(row.subject_id, row.record_type, row.provider_id)
            found.setdefault(key, []).append(Marked(mark, versions[dispute_id]))
        return found

    async def _values(self, written: Dispute) -> dict[str, Any]:
        words = orjson.dumps([written.statement, written.answer, written.evidence])
        place = _place(written.subject_id, written.dispute_id)
        due = written.deadlines
        return {
            "state": written.state,
            "answer_due_at": due.answer_due_at,
            "remind_at": due.remind_at,
            "correction_due_at": due.correction_due_at,
            "provisional": due.provisional,
            "closed_at": written.closed_at,
            "stage": written.stage,
            "told_next_at": written.told_next_at,
            "told": orjson.dumps(written.told),
            "marked": written.marked,
            "words": await self._seals.seal(written.subject_id, place, words),
        }

    async def _one(self, query: sa.Select[Any]) -> Dispute | None:
        return next(iter(await self._disputes(query)), None)

    async def _disputes(self, query: sa.Select[Any]) -> list[Dispute]:
        rows = (await self._conn.execute(query)).all()
        data_keys = await self._seals.keys({row.subject_id for row in rows})
        return [
            _dispute(row, words)
            for row in rows
            if (words := _words(row, data_keys)) is not None  # else its subject was erased
        ]


def _place(subject_id: str, dispute_id: str) -> Place:
    return ("dispute", subject_id, dispute_id)


def _words(row: Any, keys: Mapping[str, DataKey]) -> dict[str, str] | None:
    key = keys.get(row.subject_id)
    if key is None:
        return None
    opened = orjson.loads(key.open(_place(row.subject_id, row.dispute_id), row.words))
    return dict(zip(("statement", "answer", "evidence"), opened, strict=True))


def _dispute(row: Any, words: Mapping[str, str]) -> Dispute:
    return Dispute(
        dispute_id=row.dispute_id,
        subject_id=row.subject_id,
        target=Target(row.provider_id, row.record_type, row.provider_record_id, row.field),
        version=row.version,
        reason=DisputeReason(row.reason),
        state=DisputeState(row.state),
        opened_at=row.opened_at,
        deadlines=Deadlines(
            row.answer_due_at, row.remind_at, row.correction_due_at, row.provisional
        ),
        closed_at=row.closed_at,
        stage=Stage(row.stage) if row.stage else None,
        told=tuple(orjson.loads(row.told)),
        **words,
    )
