"""The table of records.

Invariants: rows of `record` are only added; whoever adds one holds the series of its subject, type
and provider (`summaries.store`), so what was read of a series' records holds until the commit.
A `sealed` row's payload opens with its subject's data key alone, and its hash is a keyed one; once
that key is destroyed the row counts nowhere.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import copy_packed, copy_rows, probe, relation
from services.datashare.china import month_of_day
from services.datashare.records import packing
from services.datashare.records.app import NewRecord
from services.datashare.records.domain import History, Incoming, RecordKey
from services.datashare.records.hiding import Hiding
from services.datashare.records.payloads import payload_types
from services.datashare.records.readers.kind import Reader
from services.datashare.schema import metadata
from services.datashare.sealing.domain import DataKey, Place, record_place
from services.datashare.sealing.store import Seals
from services.datashare.summaries.domain import Fact, FactWanted, Gap, SeriesKey
from services.kit.db import UtcTime, to_microseconds

record = sa.Table(
    "record",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("provider_record_id", sa.String(128), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("month", sa.Integer, nullable=False),
    sa.Column("occurred_from", sa.Integer, nullable=False),
    sa.Column("occurred_to", sa.Integer, nullable=False),
    sa.Column("obtained_at", UtcTime, nullable=False),
    sa.Column("recorded_at", UtcTime, nullable=False),
    sa.Column("known_at", UtcTime, nullable=False),
    sa.Column("retracted", sa.Boolean, nullable=False),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("content_hash", sa.LargeBinary, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.Boolean, nullable=False, server_default=sa.false()),
    # The same in all versions of a record: from this day on no read shows it; NULL is never.
    sa.Column("hidden_on", sa.Integer),
    sqlite_with_rowid=False,
)

_FAR: Final = date.max.toordinal()
_FEW: Final = 200
"""Payloads that take about a millisecond to read."""


class RecordStore:
    """Records in one transaction.

    Args:
        conn: the transaction.
        readers: by record type, what a payload says.
        seals: seals payloads.
        hidings: by record type, from when on a record is hidden.
    """

    def __init__(
        self,
        conn: AsyncConnection,
        readers: Mapping[str, Reader],
        seals: Seals,
        hidings: Mapping[str, Hiding],
    ) -> None:
        self._conn = conn
        self._readers = readers
        self._hidings = hidings
        self._seals = seals

    @property
    def sealed_types(self) -> frozenset[str]:
        """Record types whose rows go through `blinded` before they are admitted."""
        return self._seals.types

    async def blinded(self, rows: Sequence[tuple[str, Incoming]]) -> list[Incoming]:
        """Return rows, those of sealed types with a keyed hash in the place of the plain one.

        Holds the keys of their subjects, so this comes before the lock on their series.

        Args:
            rows: each with its subject_id.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        types = self._seals.types
        keys = await self._seals.hold(
            subject_id for subject_id, row in rows if row.record_type in types
        )
        return [
            row._replace(content_hash=keys[subject_id].blind(row.content_hash))
            if row.record_type in types
            else row
            for subject_id, row in rows
        ]

    async def histories(
        self, provider_id: str, keys: Sequence[RecordKey]
    ) -> dict[RecordKey, History]:
        """Return the versions of those records that have any."""
        wanted = sorted(set(keys))
        if not wanted:
            return {}
        names = {name: sa.String() for name in RecordKey._fields}
        asked = relation(self._conn, "asked", names, wanted)
        columns = [*names, "version", "content_hash", "retracted", "sealed", "hidden_on"]
        query = probe(
            self._conn,
            [record.c[name] for name in columns],
            asked,
            record.c.provider_id == provider_id,
            *(record.c[name] == asked.c[name] for name in names),
        )
        rows: Any = await self._conn.execute(query)
        found: dict[RecordKey, History] = {}
        for *named, version, stored, retracted, sealed, hidden_on in rows:
            key = RecordKey(*named)
            subject_id, record_type, _ = key
            content_hash = stored
            if record_type in self._seals.types and not sealed:
                # From before its type was sealed; what comes in was blinded, so its key is held.
                content_hash = (await self._seals.keys([subject_id]))[subject_id].blind(stored)
            history = found.setdefault(key, History())
            history.add(version, content_hash, retracted=retracted, hidden_on=hidden_on)
        return found

    async def facts_of(
        self, provider_id: str, versions: Sequence[tuple[RecordKey, int]]
    ) -> list[tuple[RecordKey, Fact]]:
        """Return the fact of each version, none of which is a retraction."""
        if not versions:
            return []
        names = {name: sa.String() for name in RecordKey._fields}
        asked = relation(
            self._conn,
            "asked",
            {**names, "version": sa.Integer()},
            [[*key, version] for key, version in versions],
        )
        query = probe(
            self._conn,
            _FACT_COLUMNS,
            asked,
            record.c.provider_id == provider_id,
            record.c.version == asked.c.version,
            *(record.c[name] == asked.c[name] for name in names),
        )
        rows = await self._conn.execute(query)
        found = rows.all()
        keys = await self._keys(found)
        return [
            (RecordKey(row.subject_id, row.record_type, row.provider_record_id), fact)
            for row in found
            if (fact := self._fact(row, keys)) is not None
        ]

    async def facts(
        self, wanted: FactWanted, today: int, as_of: datetime | None = None
    ) -> dict[SeriesKey, list[Fact]]:
        """Return the facts of the records that count.

        Args:
            wanted: series, and the months of each; None is every month.
            today: those that are hidden on this day are left out.
            as_of: by what was known then; None is now.
        """
        asked_rows = [
            [*key, month]
            for key, months in wanted.items()
            for month in (sorted(months) if months is not None else [None])
        ]
        names = {name: sa.String() for name in SeriesKey._fields}
        asked = relation(self._conn, "asked", {**names, "month": sa.Integer()}, asked_rows)
        newer = record.alias("newer")
        shadowed = sa.and_(
            newer.c.version > record.c.version,
            *(newer.c[name] == record.c[name] for name in (*names, "provider_record_id")),
        )
        counts: list[sa.ColumnElement[bool]] = [
            record.c.retracted.is_(False),
            sa.or_(record.c.hidden_on.is_(None), record.c.hidden_on > today),
        ]
        if as_of is not None:
            counts.append(record.c.known_at <= as_of)
            shadowed = sa.and_(shadowed, newer.c.known_at <= as_of)
        query = probe(
            self._conn,
            _FACT_COLUMNS,
            asked,
            *(record.c[name] == asked.c[name] for name in names),
            sa.or_(asked.c.month.is_(None), record.c.month == asked.c.month),
            *counts,
            ~sa.exists().where(shadowed),
        )
        rows = await self._conn.execute(query)
        found = rows.all()
        keys = await self._keys(found)
        if len(found) <= _FEW:
            return self._by_series(found, keys)
        # It may be every record of a firm: in a thread, so that the calls of others go on.
        return await asyncio.to_thread(self._by_series, found, keys)

    async def _keys(self, rows: Sequence[Any]) -> dict[str, DataKey]:
        return await self._seals.keys({row.subject_id for row in rows if row.sealed})

    def _by_series(
        self, rows: Iterable[Any], keys: Mapping[str, DataKey]
    ) -> dict[SeriesKey, list[Fact]]:
        found: dict[SeriesKey, list[Fact]] = {}
        for row in rows:
            fact = self._fact(row, keys)
            if fact is not None:
                key = SeriesKey(row.subject_id, row.record_type, row.provider_id)
                found.setdefault(key, []).append(fact)
        return found

    def _fact(self, row: Any, keys: Mapping[str, DataKey]) -> Fact | None:
        """Return what a record says; None when its subject's key is destroyed."""
        content = opened(row, keys)
        if content is None:
            return None
        payload = _PAYLOADS[row.record_type]()
        payload.ParseFromString(content)
        order = (row.occurred_to, to_microseconds(row.obtained_at), row.provider_record_id)
        # Its dates were checked against the day on which it came in.
        return self._readers[row.record_type](payload, month_of_day(row.occurred_to), order, _FAR)

    async def insert(
        self, provider_id: str, records: Sequence[NewRecord], recorded_at: datetime
    ) -> None:
        """Store versions that are not there yet, those of sealed types after `blinded`.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        types = self._seals.types
        keys = await self._seals.hold(
            {new.subject_id for new in records if new.incoming.record_type in types}
        )
        stored = [
            (new, row.payload, False)
            if row.record_type not in types
            else (new, keys[new.subject_id].seal(_place(provider_id, new), row.payload), True)
            for new in records
            for row in (new.incoming,)
        ]
        at = to_microseconds(recorded_at)
        if self._conn.dialect.name == "sqlite":
            await copy_rows(self._conn, record, _rows(provider_id, stored, at))
        else:
            await copy_packed(
                self._conn, record, packing.COLUMNS, packing.packed(provider_id, stored, at)
            )

    async def newest(
        self, keys: Collection[SeriesKey], *which: sa.ColumnElement[bool]
    ) -> list[tuple[Any, Message]]:
        """Return the newest version of each record that has a payload, and what it says.

        Args:
            keys: whose records.
            which: conditions on the rows.

        Returns:
            Rows with the columns of the primary key, `occurred_to`, `hidden_on` and the number of
            `versions`; without those whose subject's key is destroyed.
        """
        found: list[tuple[Any, Message]] = []
        names = (*SeriesKey._fields, "provider_record_id")
        for key in sorted(keys):
            other = record.alias("other")
            same = sa.and_(*(other.c[name] == record.c[name] for name in names))
            newer = sa.exists().where(
                same, other.c.version > record.c.version, other.c.retracted.is_(False)
            )
            versions = sa.select(sa.func.count()).where(same).scalar_subquery()
            result = await self._conn.execute(
                sa.select(*_FACT_COLUMNS, record.c.hidden_on, versions.label("versions")).where(
                    *(
                        record.c[n] == value
                        for n, value in zip(SeriesKey._fields, key, strict=True)
                    ),
                    record.c.retracted.is_(False),
                    ~newer,
                    *which,
                )
            )
            rows = result.all()
            keys_of_data = await self._keys(rows)
            found += await asyncio.to_thread(messages, rows, keys_of_data)
        return found

    async def days(self, keys: Collection[SeriesKey]) -> dict[RecordKey, int | None]:
        """Return the day on which each record is to be hidden by today's policy.

        Only records that have another one, of series of one provider.
        """
        days = {}
        for row, payload in await self.newest(keys):
            day, _ = self._hidings[row.record_type].of(payload, row.occurred_to)
            if day != row.hidden_on:
                key = RecordKey(row.subject_id, row.record_type, row.provider_record_id)
                days[key] = day
        return days

    async def hidden(self, keys: Collection[SeriesKey], today: int) -> dict[SeriesKey, list[Gap]]:
        """Return what is stored of each series and hidden today; a series without is absent."""
        found = self._of_series(
            keys,
            [record.c.month, record.c.known_at],
            record.c.hidden_on <= today,
            record.c.retracted.is_(False),
        )
        columns = [found.c[name] for name in (*SeriesKey._fields, "month")]
        known_at = sa.func.min(found.c.known_at, type_=UtcTime())
        query = sa.select(*columns, known_at).group_by(*columns)
        gaps: dict[SeriesKey, list[Gap]] = {}
        rows: Any = await self._conn.execute(query)
        for *key, month, at in rows:
            gaps.setdefault(SeriesKey(*key), []).append(Gap(month, at))
        return gaps

    async def next_hidden_on(
        self, keys: Collection[SeriesKey], after: int | None
    ) -> dict[SeriesKey, int]:
        """Return the first day on which a record of each series is hidden, if there is one.

        Args:
            keys: the series.
            after: only days after this one; None is any.
        """
        later = record.c.hidden_on.is_not(None) if after is None else record.c.hidden_on > after
        found = self._of_series(keys, [record.c.hidden_on], later)
        columns = [found.c[name] for name in SeriesKey._fields]
        query = sa.select(*columns, sa.func.min(found.c.hidden_on)).group_by(*columns)
        rows: Any = await self._conn.execute(query)
        return {SeriesKey(*key): day for *key, day in rows}

    def _of_series(
        self,
        keys: Collection[SeriesKey],
        columns: Sequence[sa.Column[Any]],
        *which: sa.ColumnElement[bool],
    ) -> sa.Subquery:
        """Return some records of some series, with the series' names."""
        names = {name: sa.String() for name in SeriesKey._fields}
        asked = relation(self._conn, "asked", names, sorted(keys))
        named = [record.c[name] for name in names]
        same = (column == asked.c[column.name] for column in named)
        return probe(self._conn, [*named, *columns], asked, *same, *which).subquery()

    async def hide(self, provider_id: str, days: Mapping[RecordKey, int | None]) -> None:
        """Give all stored versions of records another day from which on they are hidden."""
        if not days:
            return
        # One by one, as a join with all of them may be made by reading all of the table.
        await self._conn.execute(
            sa.update(record)
            .where(
                record.c.provider_id == provider_id,
                *(record.c[name] == sa.bindparam(f"of_{name}") for name in RecordKey._fields),
            )
            .values(hidden_on=sa.bindparam("day")),
            [
                {**{f"of_{name}": value for name, value in key._asdict().items()}, "day": day}
                for key, day in sorted(days.items())
            ],
        )


def _place(provider_id: str, new: NewRecord) -> Place:
    row = new.incoming
    return record_place(
        new.subject_id, row.record_type, provider_id, row.provider_record_id, row.version
    )


def _rows(
    provider_id: str, stored: Iterable[tuple[NewRecord, bytes, bool]], recorded_at: int
) -> list[tuple[Any, ...]]:
    """Return records as SQLite stores them: times in microseconds, in the table's order."""
    return [
        (
            new.subject_id,
            row.record_type,
            provider_id,
            row.provider_record_id,
            row.version,
            row.month,
            row.occurred_from,
            row.occurred_to,
            row.obtained_at,
            recorded_at,
            new.known_at,
            row.retracted,
            row.schema_version,
            row.content_hash,
            payload,
            sealed,
            new.hidden_on,
        )
        for new, payload, sealed in stored
        for row in (new.incoming,)
    ]


_PAYLOADS: Final = payload_types()
_FACT_COLUMNS: Final = (
    record.c.subject_id,
    record.c.record_type,
    record.c.provider_id,
    record.c.provider_record_id,
    record.c.occurred_to,
    record.c.obtained_at,
    record.c.payload,
    record.c.version,
    record.c.sealed,
)


def messages(rows: Iterable[Any], keys: Mapping[str, DataKey]) -> list[tuple[Any, Message]]:
    """Return rows of `record` with their payloads, without those whose key is destroyed.

    Args:
        rows: as for `opened`.
        keys: as for `opened`.
    """
    found = []
    for row in rows:
        content = opened(row, keys)
        if content is not None:
            payload = _PAYLOADS[row.record_type]()
            payload.ParseFromString(content)
            found.append((row, payload))
    return found


def opened(row: Any, keys: Mapping[str, DataKey]) -> bytes | None:
    """Return the payload of a row of `record`; None when its subject's key is destroyed.

    Args:
        row: with the columns of the primary key, `payload` and `sealed`.
        keys: `Seals.keys` of the subjects that have sealed rows among those read.

    Raises:
        SealBrokenError: it was altered, or moved from where it belongs.
    """
    if not row.sealed:
        return bytes(row.payload)
    key = keys.get(row.subject_id)
    place = record_place(
        row.subject_id, row.record_type, row.provider_id, row.provider_record_id, row.version
    )
    return key.open(place, row.payload) if key else None
