"""The tables of what was hidden and deleted.

Invariants: `withheld` holds no content; a row of `retention_run` is written when the run begins and
changed by nobody else than the run, which holds it.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import probe, relation, stored_time, upsert_rows
from services.datashare.idempotency.domain import RequestKey
from services.datashare.idempotency.store import request
from services.datashare.notices.endpoints import contact, webhook
from services.datashare.records.hiding import Hiding
from services.datashare.records.store import RecordStore, record
from services.datashare.retention.domain import Due, DueSeries, Reason, Run
from services.datashare.schema import metadata
from services.datashare.summaries.domain import Gap, SeriesKey
from services.datashare.summaries.store import series
from services.kit.db import UtcTime, to_microseconds

withheld = sa.Table(
    "withheld",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("month", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.String(16), primary_key=True),
    # The earliest time at which something of the month became known that is deleted now.
    sa.Column("known_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)

run = sa.Table(
    "retention_run",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    # Empty of an erasure.
    sa.Column("plan_id", sa.String(64), nullable=False),
    sa.Column("operator_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
    sa.Column("ran_at", UtcTime, nullable=False),
    # What is hidden on this day goes: days since 1970-01-01 in China.
    sa.Column("day", sa.Integer, nullable=False),
    # The subject of an erasure, else empty.
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("note", sa.String(200), nullable=False),
    # What went so far: a list, as JSON.
    sa.Column("deleted", sa.LargeBinary, nullable=False),
    # NULL while it is not finished.
    sa.Column("finished_at", UtcTime),
    sa.Column("leaf_hash", sa.LargeBinary(32)),
    sa.UniqueConstraint("operator_id", "request_id"),
    sa.Index(None, "subject_id"),
)

KEPT: Final = frozenset(
    {
        # What was done with the data, by whom and on what ground: evidence, without any of it.
        *("access", "consent", "consent_use", "consent_consumption"),
        *("change", "notice", "retention_run"),
        # Recipients still have to erase what they stored.
        "erasure_duty",
        # Who takes part, which the firm may go on doing.
        "participant",
        # Emptied by `subjects`, which keeps that there was one.
        *("subject", "subject_key"),
    }
)
"""Tables that name subjects and of which an erasure deletes no row; it deletes from all others."""

_NAMES: Final = {name: sa.String() for name in SeriesKey._fields}
# What is left of each version of a record that was corrected.
_EMPTY: Final = {
    "month": 0,
    "occurred_from": 0,
    "occurred_to": 0,
    "retracted": True,
    "content_hash": b"",
    "payload": b"",
    "sealed": False,
    "hidden_on": None,
}


class WithheldStore:
    """What was deleted because it was hidden, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def gaps(self, keys: Collection[SeriesKey]) -> dict[SeriesKey, list[Gap]]:
        """Return what is missing of each series; a series without is absent."""
        asked = relation(self._conn, "asked", _NAMES, sorted(keys))
        rows: Any = await self._conn.execute(
            sa.select(
                *(withheld.c[name] for name in _NAMES), withheld.c.month, withheld.c.known_at
            ).join(asked, sa.and_(*(withheld.c[name] == asked.c[name] for name in _NAMES)))
        )
        found: dict[SeriesKey, list[Gap]] = {}
        for *key, month, known_at in rows:
            found.setdefault(SeriesKey(*key), []).append(Gap(month, known_at))
        return found


class RunStore:
    """Runs and erasures in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def by_request(self, key: RequestKey) -> Run | None:
        """Return the run that a request began; nobody else goes on with it."""
        query = sa.select(run).where(
            run.c.operator_id == key.caller_id, run.c.request_id == key.request_id
        )
        row = (await self._conn.execute(query.with_for_update())).one_or_none()
        return _run(row) if row else None

    async def unfinished(self) -> list[Run]:
        """Return the runs that were begun and not finished; nobody else goes on with them."""
        query = sa.select(run).where(run.c.finished_at.is_(None)).order_by(run.c.run_id)
        return [_run(row) for row in await self._conn.execute(query.with_for_update())]

    async def lock(self, run_id: str) -> Run:
        """Return one as it is now; nobody else goes on with it."""
        query = sa.select(run).where(run.c.run_id == run_id).with_for_update()
        return _run((await self._conn.execute(query)).one())

    async def add(self, made: Run) -> None:
        """Store a new one."""
        await self._conn.execute(
            sa.insert(run).values(
                run_id=made.run_id,
                plan_id=made.plan_id,
                operator_id=made.request.caller_id,
                request_id=made.request.request_id,
                fingerprint=made.request.fingerprint,
                ran_at=made.ran_at,
                day=made.day,
                subject_id=made.subject_id,
                note=made.note,
                **_changing(made),
            )
        )

    async def update(self, changed: Run) -> None:
        """Store how far a locked one has come."""
        await self._conn.execute(
            sa.update(run).where(run.c.run_id == changed.run_id).values(**_changing(changed))
        )

    async def page(self, before: str, limit: int) -> list[Run]:
        """Return finished ones, newest first.

        Args:
            before: only with an id less than this; "" is any.
            limit: most of them.
        """
        query = (
            sa.select(run)
            .where(run.c.finished_at.is_not(None))
            .order_by(run.c.run_id.desc())
            .limit(limit)
        )
        if before:
            query = query.where(run.c.run_id < before)
        return [_run(row) for row in await self._conn.execute(query)]

    async def forget_requests(self, before: datetime) -> None:
        """Delete the responses to requests of before a time."""
        await self._conn.execute(sa.delete(request).where(request.c.requested_at < before))

    async def erased(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that stood for a subject that was erased."""
        rows = await self._conn.execute(
            sa.select(run.c.subject_id).where(run.c.subject_id.in_(sorted(subject_ids)))
        )
        return set(rows.scalars()) - {""}


def _changing(of: Run) -> dict[str, Any]:
    return {
        "deleted": orjson.dumps([asdict(due) for due in of.deleted]),
        "finished_at": of.finished_at,
        "leaf_hash": of.leaf_hash or None,
    }


def _run(row: Any) -> Run:
    return Run(
        run_id=row.run_id,
        plan_id=row.plan_id,
        request=RequestKey(row.operator_id, row.request_id, row.fingerprint),
        ran_at=row.ran_at,
        day=row.day,
        subject_id=row.subject_id,
        note=row.note,
        deleted=tuple(
            Due(**{**due, "reason": Reason(due["reason"])}) for due in orjson.loads(row.deleted)
        ),
        finished_at=row.finished_at,
        leaf_hash=row.leaf_hash or b"",
    )


class HiddenStore:
    """What is hidden and not deleted yet, in one transaction.

    Args:
        conn: the transaction.
        records: raw records in the same transaction.
        hidings: by record type, why a record is hidden.
    """

    def __init__(
        self, conn: AsyncConnection, records: RecordStore, hidings: Mapping[str, Hiding]
    ) -> None:
        self._conn = conn
        self._records = records
        self._hidings = hidings

    async def series(self, after: SeriesKey | None, day: int, limit: int) -> list[SeriesKey]:
        """Return the next series that may have something hidden on a day, in their order."""
        columns = [series.c[name] for name in SeriesKey._fields]
        query = sa.select(*columns).where(series.c.due_on <= day)
        if after:
            query = query.where(sa.tuple_(*columns) > sa.tuple_(*after))
        rows = await self._conn.execute(query.order_by(*columns).limit(limit))
        return [SeriesKey(*row) for row in rows]

    async def due(self, keys: Collection[SeriesKey], day: int) -> dict[SeriesKey, DueSeries]:
        """Return what is hidden of each series on a day; a series without is absent."""
        newest, counts = await self._plain(keys, day)
        for key, found in (await self._reasons(keys, day)).items():
            by_reason: dict[Reason, tuple[int, int]] = {}
            for reason, versions in found.values():
                records, all_versions = by_reason.get(reason, (0, 0))
                by_reason[reason] = records + 1, all_versions + versions
            counts[key] = by_reason
        return {
            key: DueSeries(
                tuple(
                    Due(key.record_type, key.provider_id, reason, *numbers, subjects=1)
                    for reason, numbers in sorted(by_reason.items())
                ),
                newest[key],
            )
            for key, by_reason in counts.items()
        }

    async def delete(self, keys: Collection[SeriesKey], day: int) -> None:
        """Delete it, remembering by month that it is withheld.

        Of a record that had one version nothing is left: sent again, it is hidden again. Of one
        that was corrected the numbers of its versions are, as retractions without content, so that
        an earlier one cannot come back as a new record.
        """
        if not keys:
            return
        await self._remember(keys, day)
        other = record.alias("other")
        corrected = sa.exists().where(
            other.c.version > 1,
            *(other.c[name] == record.c[name] for name in (*_NAMES, "provider_record_id")),
        )
        for key in sorted(keys):
            # One by one, so that each finds its partition and the index of its key.
            chosen = sa.and_(
                *(record.c[name] == value for name, value in zip(_NAMES, key, strict=True)),
                record.c.hidden_on <= day,
            )
            await self._conn.execute(sa.delete(record).where(chosen, ~corrected))
            await self._conn.execute(sa.update(record).where(chosen).values(_EMPTY))

    async def _plain(
        self, keys: Collection[SeriesKey], day: int
    ) -> tuple[dict[SeriesKey, int], dict[SeriesKey, dict[Reason, tuple[int, int]]]]:
        """Return when the newest is of, and how much it is where the time alone is the reason."""
        asked = relation(self._conn, "asked", _NAMES, sorted(keys))
        due = probe(
            self._conn,
            [record.c[name] for name in (*_NAMES, "recorded_at", "provider_record_id")],
            asked,
            *(record.c[name] == asked.c[name] for name in _NAMES),
            record.c.hidden_on <= day,
        ).subquery("due")
        columns = [due.c[name] for name in _NAMES]
        newest = sa.func.max(due.c.recorded_at, type_=UtcTime())
        records = sa.func.count(due.c.provider_record_id.distinct())
        rows: Any = await self._conn.execute(
            sa.select(*columns, newest, records, sa.func.count()).group_by(*columns)
        )
        when = {}
        counts: dict[SeriesKey, dict[Reason, tuple[int, int]]] = {}
        for *named, recorded_at, one, versions in rows:
            key = SeriesKey(*named)
            when[key] = to_microseconds(recorded_at)
            if self._hidings[key.record_type].plain:
                counts[key] = {Reason.EXPIRED: (one, versions)}
        return when, counts

    async def _reasons(
        self, keys: Collection[SeriesKey], day: int
    ) -> dict[SeriesKey, dict[str, tuple[Reason, int]]]:
        """Return reason and number of versions of each record whose payload says why."""
        special = [key for key in keys if not self._hidings[key.record_type].plain]
        found: dict[SeriesKey, dict[str, tuple[Reason, int]]] = {}
        for row, payload in await self._records.newest(special, record.c.hidden_on <= day):
            key = SeriesKey(row.subject_id, row.record_type, row.provider_id)
            reason = self._hidings[key.record_type].of(payload, row.occurred_to)[1]
            mine = found.setdefault(key, {})
            mine[row.provider_record_id] = reason or Reason.EXPIRED, row.versions
        return found

    async def _remember(self, keys: Collection[SeriesKey], day: int) -> None:
        gaps: dict[tuple[SeriesKey, int, Reason], datetime] = {}
        plain = [key for key in keys if self._hidings[key.record_type].plain]
        if plain:
            for key, found in (await self._records.hidden(plain, day)).items():
                gaps |= {(key, gap.month, Reason.EXPIRED): gap.known_at for gap in found}
        for key, reasons in (await self._reasons(keys, day)).items():
            rows = await self._conn.execute(
                sa.select(
                    record.c.provider_record_id,
                    record.c.month,
                    sa.func.min(record.c.known_at, type_=UtcTime()),
                )
                .where(
                    *(record.c[name] == value for name, value in zip(_NAMES, key, strict=True)),
                    record.c.hidden_on <= day,
                    record.c.retracted.is_(False),
                )
                .group_by(record.c.provider_record_id, record.c.month)
            )
            for record_id, month, known_at in rows:
                place = key, month, reasons[record_id][0]
                gaps[place] = min(known_at, gaps.get(place, known_at))
        least = (
            "CASE WHEN excluded.known_at < withheld.known_at "
            "THEN excluded.known_at ELSE withheld.known_at END"
        )
        await upsert_rows(
            self._conn,
            withheld,
            [
                (*key, month, reason.value, stored_time(self._conn, known_at))
                for (key, month, reason), known_at in sorted(gaps.items())
            ],
            {"known_at": least},
        )


class ErasingStore:
    """Everything that is kept about a subject, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn
        self._erased: list[str] = []

    async def held(self, subject_id: str) -> list[Due]:
        """Return what there is, by type and provider."""
        rows = await self._conn.execute(
            sa.select(
                record.c.record_type,
                record.c.provider_id,
                sa.func.count(record.c.provider_record_id.distinct()),
                sa.func.count(),
            )
            .where(record.c.subject_id == subject_id)
            .group_by(record.c.record_type, record.c.provider_id)
        )
        return [
            Due(record_type, provider_id, Reason.ERASED, records, versions, 1)
            for record_type, provider_id, records, versions in rows
        ]

    async def erased(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that stood for a subject that was erased."""
        return await RunStore(self._conn).erased(subject_ids)

    async def erase(self, subject_id: str) -> None:
        """Delete it, but for what attests what was done with it."""
        for table in reversed(metadata.sorted_tables):
            if "subject_id" in table.c and table.name not in KEPT and table is not contact:
                await self._conn.execute(sa.delete(table).where(table.c.subject_id == subject_id))
        self._erased.append(subject_id)

    async def finish(self) -> None:
        """Delete where erased subjects were told, once it is written what they are told.

        Who tells them something notes it there while it has their turn, which is waited for first.
        """
        if self._erased:
            for party in (webhook.c.party_id, contact.c.subject_id):
                await self._conn.execute(sa.delete(party.table).where(party.in_(self._erased)))
