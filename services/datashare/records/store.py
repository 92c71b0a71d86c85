"""The tables of records and deliveries.

Invariants: rows of `record` are only added; whoever adds one holds the series of its subject, type
and provider (`summaries.store`), so what was read of a series' records holds until the commit.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import copy_rows, relation, stored_time
from services.datashare.records.app import NewRecord
from services.datashare.records.domain import Ack, Delivery, History, RecordKey
from services.datashare.records.payloads import Reader, month_of, payload_types
from services.datashare.records.wire import ack_message, ack_of
from services.datashare.schema import metadata
from services.datashare.summaries.domain import Fact, FactWanted, SeriesKey
from services.kit.db import UtcTime, from_microseconds, insert_into, to_microseconds

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
    sqlite_with_rowid=False,
)

delivery = sa.Table(
    "delivery",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("delivery_id", sa.String(64), primary_key=True),
    sa.Column("historical", sa.Boolean, nullable=False),
    sa.Column("last_sequence", sa.BigInteger, nullable=False),
    sa.Column("last_ack", sa.LargeBinary, nullable=False),
    sa.Column("last_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("advanced_at", UtcTime),
)

_FAR: Final = date.max.toordinal()


class RecordStore:
    """Records in one transaction.

    Args:
        conn: the transaction.
        readers: by record type, what a payload says.
    """

    def __init__(self, conn: AsyncConnection, readers: Mapping[str, Reader]) -> None:
        self._conn = conn
        self._readers = readers

    async def histories(
        self, provider_id: str, keys: Sequence[RecordKey]
    ) -> dict[RecordKey, History]:
        """Return the versions of those records that have any."""
        wanted = sorted(set(keys))
        if not wanted:
            return {}
        names = {name: sa.String() for name in RecordKey._fields}
        asked = relation(self._conn, "asked", names, wanted)
        rows: Any = await self._conn.execute(
            sa.select(
                *(record.c[name] for name in names),
                record.c.version,
                record.c.content_hash,
                record.c.retracted,
            ).join(
                asked,
                sa.and_(
                    record.c.provider_id == provider_id,
                    *(record.c[name] == asked.c[name] for name in names),
                ),
            )
        )
        found: dict[RecordKey, History] = {}
        for subject_id, record_type, provider_record_id, version, content_hash, retracted in rows:
            key = RecordKey(subject_id, record_type, provider_record_id)
            history = found.setdefault(key, History())
            history.add(version, content_hash, retracted=retracted)
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
        rows = await self._conn.execute(
            sa.select(*_FACT_COLUMNS).join(
                asked,
                sa.and_(
                    record.c.provider_id == provider_id,
                    record.c.version == asked.c.version,
                    *(record.c[name] == asked.c[name] for name in names),
                ),
            )
        )
        return [
            (RecordKey(row.subject_id, row.record_type, row.provider_record_id), self._fact(row))
            for row in rows
        ]

    async def facts(
        self, wanted: FactWanted, as_of: datetime | None = None
    ) -> dict[SeriesKey, list[Fact]]:
        """Return the facts of the records that count.

        Args:
            wanted: series, and the months of each; None is every month.
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
        counts: list[sa.ColumnElement[bool]] = [record.c.retracted.is_(False)]
        if as_of is not None:
            counts.append(record.c.known_at <= as_of)
            shadowed = sa.and_(shadowed, newer.c.known_at <= as_of)
        rows = await self._conn.execute(
            sa.select(*_FACT_COLUMNS)
            .join(
                asked,
                sa.and_(
                    *(record.c[name] == asked.c[name] for name in names),
                    sa.or_(asked.c.month.is_(None), record.c.month == asked.c.month),
                ),
            )
            .where(*counts, ~sa.exists().where(shadowed))
        )
        if as_of is None:
            return self._by_series(rows)
        # A past may be every record of a firm: in a thread, so that the calls of others go on.
        return await asyncio.to_thread(self._by_series, rows)

    def _by_series(self, rows: Iterable[Any]) -> dict[SeriesKey, list[Fact]]:
        found: dict[SeriesKey, list[Fact]] = {}
        for row in rows:
            key = SeriesKey(row.subject_id, row.record_type, row.provider_id)
            found.setdefault(key, []).append(self._fact(row))
        return found

    def _fact(self, row: Any) -> Fact:
        payload = _PAYLOADS[row.record_type]()
        payload.ParseFromString(row.payload)
        order = (row.occurred_to, to_microseconds(row.obtained_at), row.provider_record_id)
        # Its dates were checked against the day on which it came in.
        return self._readers[row.record_type](payload, month_of(row.occurred_to), order, _FAR)

    async def insert(
        self, provider_id: str, records: Sequence[NewRecord], recorded_at: datetime
    ) -> None:
        """Store versions that are not there yet."""
        time: Any = int if self._conn.dialect.name == "sqlite" else from_microseconds
        recorded = stored_time(self._conn, recorded_at)
        rows = [
            (
                new.subject_id,
                row.record_type,
                provider_id,
                row.provider_record_id,
                row.version,
                row.month,
                row.occurred_from,
                row.occurred_to,
                time(row.obtained_at),
                recorded,
                time(new.known_at),
                row.retracted,
                row.schema_version,
                row.content_hash,
                row.payload,
            )
            for new in records
            for row in (new.incoming,)
        ]
        await copy_rows(self._conn, record, rows)


_PAYLOADS: Final = payload_types()
_FACT_COLUMNS: Final = (
    record.c.subject_id,
    record.c.record_type,
    record.c.provider_id,
    record.c.provider_record_id,
    record.c.occurred_to,
    record.c.obtained_at,
    record.c.payload,
)


class DeliveryStore:
    """Deliveries in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def get(self, provider_id: str, delivery_id: str) -> Delivery | None:
        """Return a delivery."""
        return await self._one(_select(provider_id, delivery_id))

    async def lock(self, opened: Delivery) -> Delivery:
        """Return a delivery as it is now, made if there is none; nobody else goes on with it."""
        query = _select(opened.provider_id, opened.delivery_id).with_for_update()
        found = await self._one(query)
        if found:
            return found
        await self._conn.execute(
            insert_into(self._conn, delivery)
            .values(
                provider_id=opened.provider_id,
                delivery_id=opened.delivery_id,
                historical=opened.historical,
                last_sequence=0,
                last_ack=b"",
                last_sha256=b"",
            )
            .on_conflict_do_nothing()
        )
        return await self._one(query) or opened

    async def advance(self, advanced: Delivery, at: datetime) -> None:
        """Store that a locked delivery has come further."""
        ack = advanced.last_ack or Ack(0)
        await self._conn.execute(
            sa.update(delivery)
            .where(
                delivery.c.provider_id == advanced.provider_id,
                delivery.c.delivery_id == advanced.delivery_id,
            )
            .values(
                last_sequence=advanced.last_sequence,
                last_ack=ack_message(ack).SerializeToString(),
                last_sha256=advanced.last_sha256,
                advanced_at=at,
            )
        )

    async def _one(self, query: sa.Select[Any]) -> Delivery | None:
        row = (await self._conn.execute(query)).one_or_none()
        if row is None:
            return None
        ack = ack_of(row.last_ack) if row.last_sequence else None
        return Delivery(row.provider_id, row.delivery_id, row.historical, ack, row.last_sha256)


def _select(provider_id: str, delivery_id: str) -> sa.Select[Any]:
    return sa.select(delivery).where(
        delivery.c.provider_id == provider_id, delivery.c.delivery_id == delivery_id
    )
