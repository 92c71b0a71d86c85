"""The tables of deliveries: where each is, both ends' counts, refusals by day, and evidence.

Invariants:

- Whoever counts rows of a delivery holds its row, so counts and `last_sequence` belong together.
- Evidence is only added, and sealed: rows are hashed and signed as they were sent, with the numbers
  of firms in clear, and by a hash or a signature whoever knows the rest of a row finds its number.
- `last_sha256` and `chain_sha256` are plain. The provider compares them with its own file, so a
  keyed hash would say nothing to it; the previous version of the program compares what is stored,
  so it could not go on with sealed ones. They are of whole batches: every party that is unknown in
  one multiplies the trials, so a batch of hundreds of firms gives nothing away. Of a batch of one
  row, whoever has the database and knows all else of it finds a number by trial.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import relation, upsert_rows
from services.datashare.deliveries.domain import (
    SHOWN_DIFFERENCES,
    Claim,
    Delivery,
    Evidence,
    Group,
    Place,
    Sum,
    Tally,
    Total,
    begins,
    day_end,
)
from services.datashare.records.domain import Ack
from services.datashare.records.wire import ack_message, ack_of
from services.datashare.schema import metadata
from services.datashare.sealing.domain import Place as Sealed
from services.datashare.sealing.domain import provider_owner
from services.datashare.sealing.store import Seals
from services.kit.db import UtcTime, insert_into

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
    # The batches that `chain_sha256` stands for. The previous version of the program leaves both as
    # they are when it takes in a batch, so that the chain is seen to be broken.
    sa.Column("chain_sequence", sa.BigInteger),
    sa.Column("chain_sha256", sa.LargeBinary(32)),
    sa.Column("opened_at", UtcTime, index=True),
    sa.Column("closed_at", UtcTime, index=True),
    sa.Column("rows_sent", sa.BigInteger),
    sa.Column("agrees", sa.Boolean),
)

delivery_total = sa.Table(
    "delivery_total",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("delivery_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("month", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("rows_received", sa.BigInteger, nullable=False),
    sa.Column("accepted", sa.BigInteger, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("held", sa.BigInteger, nullable=False),
    sa.Column("rejected", sa.BigInteger, nullable=False),
    # Fen.
    sa.Column("sum_received", sa.BigInteger, nullable=False),
    sa.Column("rows_sent", sa.BigInteger, nullable=False),
    sa.Column("sum_sent", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

intake_reject = sa.Table(
    "intake_reject",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    # Empty of rows that name no type of the protocol.
    sa.Column("record_type", sa.String(64), primary_key=True),
    # Days since 1970-01-01 in China Standard Time.
    sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.String(64), primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

batch_evidence = sa.Table(
    "batch_evidence",
    metadata,
    sa.Column("provider_id", sa.String(64), primary_key=True),
    # Of a single submission, which is named by a hash of what was signed, a token of that.
    sa.Column("delivery_id", sa.String(64), primary_key=True),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    # The signature, NUL, then 32 bytes for each record, in order; sealed. The canonical bytes
    # follow from these and the place.
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("recorded_at", UtcTime, nullable=False),
)

_EVIDENCE_KEY: Final = ("provider_id", "delivery_id", "sequence")
_COUNTED: Final = ("rows_received", "accepted", "duplicates", "held", "rejected", "sum_received")
_ADDED: Final = {name: f"delivery_total.{name} + excluded.{name}" for name in _COUNTED}
_CLAIMED: Final = {name: f"excluded.{name}" for name in ("rows_sent", "sum_sent")}
_DIFFERS: Final = sa.or_(
    delivery_total.c.rows_sent != delivery_total.c.rows_received,
    delivery_total.c.sum_sent != delivery_total.c.sum_received,
)
# Those that differ, those that are open, those that agree.
_RANK: Final = sa.case((delivery.c.agrees.is_(None), 1), (delivery.c.agrees, 2), else_=0)


# Made once, as every batch needs them.
_NAMED: Final = (
    delivery.c.provider_id == sa.bindparam("provider"),
    delivery.c.delivery_id == sa.bindparam("delivery"),
)
_FINDING: Final = sa.select(delivery).where(*_NAMED)
_LOCKING: Final = _FINDING.with_for_update()
_ADVANCING: Final = (
    sa.update(delivery)
    .where(*_NAMED)
    .values(
        last_sequence=sa.bindparam("sequence"),
        last_ack=sa.bindparam("ack"),
        last_sha256=sa.bindparam("sha256"),
        advanced_at=sa.bindparam("at"),
        chain_sequence=sa.bindparam("chained"),
        chain_sha256=sa.bindparam("chain"),
    )
)


class DeliveryStore:
    """Deliveries in one transaction.

    Args:
        conn: the transaction.
        seals: seals evidence.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals) -> None:
        self._conn = conn
        self._seals = seals

    async def get(self, provider_id: str, delivery_id: str) -> Delivery | None:
        """Return a delivery."""
        return await self._one(_FINDING, {"provider": provider_id, "delivery": delivery_id})

    async def lock(self, opened: Delivery, at: datetime) -> Delivery:
        """Return a delivery as it is now, made if there is none; nobody else goes on with it."""
        named = {"provider": opened.provider_id, "delivery": opened.delivery_id}
        found = await self._one(_LOCKING, named)
        if found:
            return found
        await self._open(opened, at, agrees=None)
        return await self._one(_LOCKING, named) or opened

    async def advance(self, advanced: Delivery, at: datetime) -> None:
        """Store that a locked delivery has come further."""
        ack = advanced.last_ack or Ack(0)
        chain = advanced.chain_sha256
        await self._conn.execute(
            _ADVANCING,
            {
                "provider": advanced.provider_id,
                "delivery": advanced.delivery_id,
                "sequence": advanced.last_sequence,
                "ack": ack_message(ack).SerializeToString(),
                "sha256": advanced.last_sha256,
                "at": at,
                "chained": advanced.last_sequence if chain else None,
                "chain": chain or None,
            },
        )

    async def submitted(self, opened: Delivery, at: datetime) -> None:
        """Make the delivery of a day's single submissions, unless it is there."""
        await self._open(opened, at, agrees=True)

    async def count(
        self, provider_id: str, delivery_id: str, tallies: Mapping[Group, Tally]
    ) -> None:
        """Add to what became of a delivery's rows."""
        rows = [
            (
                provider_id,
                delivery_id,
                *group,
                tally.rows,
                tally.accepted,
                tally.duplicates,
                tally.held,
                tally.rejected,
                tally.amount,
                0,
                0,
            )
            for group, tally in sorted(tallies.items())
        ]
        await upsert_rows(self._conn, delivery_total, rows, _ADDED)

    async def count_refusals(
        self, provider_id: str, day: int, refusals: Mapping[tuple[str, str], int]
    ) -> None:
        """Add to the rows that were refused on a day, by record type and reason.

        Args:
            provider_id: whose.
            day: days since 1970-01-01 in China Standard Time.
            refusals: rows by record type and reason.
        """
        rows = [
            (provider_id, record_type, day, reason, count)
            for (record_type, reason), count in sorted(refusals.items())
        ]
        update = {"rows": "intake_reject.rows + excluded.rows"}
        await upsert_rows(self._conn, intake_reject, rows, update)

    async def close(self, closed: Delivery, claim: Claim) -> None:
        """Store that a locked delivery is closed, and what its provider says of it."""
        rows = [
            (closed.provider_id, closed.delivery_id, *group, 0, 0, 0, 0, 0, 0, *said)
            for group, said in sorted(claim.sums.items())
        ]
        await upsert_rows(self._conn, delivery_total, rows, _CLAIMED)
        await self._conn.execute(
            sa.update(delivery)
            .where(*_is(closed))
            .values(closed_at=closed.closed_at, rows_sent=closed.rows_sent, agrees=closed.agrees)
        )

    async def totals(self, of: Delivery) -> list[Total]:
        """Return what both ends counted of a delivery."""
        query = _total_columns().where(
            delivery_total.c.provider_id == of.provider_id,
            delivery_total.c.delivery_id == of.delivery_id,
        )
        return [_total(row) for row in await self._conn.execute(query)]

    async def counted(self, deliveries: Sequence[Delivery]) -> dict[Place, Tally]:
        """Return what became of the rows of deliveries, those without any left out."""
        asked = self._asked(deliveries)
        rows = await self._conn.execute(
            sa.select(
                delivery_total.c.provider_id,
                delivery_total.c.delivery_id,
                *(sa.cast(sa.func.sum(delivery_total.c[name]), sa.BigInteger) for name in _COUNTED),
            )
            .join(asked, _same(asked))
            .group_by(delivery_total.c.provider_id, delivery_total.c.delivery_id)
        )
        return {Place(row[0], row[1]): Tally(*row[2:]) for row in rows}

    async def differences(self, deliveries: Sequence[Delivery]) -> dict[Place, list[Total]]:
        """Return the first totals of each delivery that its ends counted differently."""
        asked = self._asked(deliveries)
        nth = sa.func.row_number().over(
            partition_by=(delivery_total.c.provider_id, delivery_total.c.delivery_id),
            order_by=(delivery_total.c.record_type, delivery_total.c.month),
        )
        numbered = _total_columns(nth.label("nth")).join(asked, _same(asked)).where(_DIFFERS)
        first = numbered.subquery()
        query = (
            sa.select(first)
            .where(first.c.nth <= SHOWN_DIFFERENCES)
            .order_by(first.c.record_type, first.c.month)
        )
        found: dict[Place, list[Total]] = {}
        for row in await self._conn.execute(query):
            place = Place(row.provider_id, row.delivery_id)
            found.setdefault(place, []).append(_total(row))
        return found

    async def page(
        self, day: date, provider_id: str, after: tuple[int, str, str] | None, limit: int
    ) -> list[tuple[int, Delivery]]:
        """Return deliveries opened or closed on a day or open still, those that differ first.

        Args:
            day: of China Standard Time.
            provider_id: whose; empty is everybody's.
            after: rank, provider and delivery of the last one on the page before.
            limit: most deliveries.

        Returns:
            Each with its rank.
        """
        since, until = begins(day), day_end(day)
        on_it = sa.and_(delivery.c.opened_at >= since, delivery.c.opened_at < until)
        closed_on_it = sa.and_(delivery.c.closed_at >= since, delivery.c.closed_at < until)
        still_open = sa.and_(
            delivery.c.closed_at.is_(None),
            delivery.c.agrees.is_(None),
            delivery.c.opened_at < since,
        )
        query = (
            sa.select(delivery, _RANK.label("rank"))
            .where(sa.or_(on_it, closed_on_it, still_open))
            .order_by(_RANK, delivery.c.provider_id, delivery.c.delivery_id)
            .limit(limit)
        )
        if provider_id:
            query = query.where(delivery.c.provider_id == provider_id)
        if after:
            place = sa.tuple_(_RANK, delivery.c.provider_id, delivery.c.delivery_id)
            query = query.where(place > sa.tuple_(*map(sa.literal, after)))
        return [(row.rank, _delivery(row)) for row in await self._conn.execute(query)]

    async def keep(self, evidence: Evidence) -> None:
        """Keep evidence, unless the same is kept.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        provider_id = evidence.provider_id
        place = self._place(provider_id, evidence.delivery_id, evidence.sequence)
        content = evidence.jws.encode() + b"\0" + evidence.record_sha256s
        await self._conn.execute(
            insert_into(self._conn, batch_evidence)
            .values(
                **dict(zip(_EVIDENCE_KEY, place[1:], strict=True)),
                key_id=evidence.key_id,
                content=await self._seals.seal(provider_owner(provider_id), place, content),
                recorded_at=evidence.recorded_at,
            )
            .on_conflict_do_nothing()
        )

    async def evidence(self, provider_id: str, delivery_id: str, sequence: int) -> Evidence | None:
        """Return the evidence of a batch.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        place = self._place(provider_id, delivery_id, sequence)
        query = sa.select(batch_evidence).where(
            *(
                batch_evidence.c[name] == part
                for name, part in zip(_EVIDENCE_KEY, place[1:], strict=True)
            )
        )
        row = (await self._conn.execute(query)).one_or_none()
        if row is None:
            return None
        content = await self._seals.open(provider_owner(provider_id), place, bytes(row.content))
        jws, _, record_sha256s = (content or b"").partition(b"\0")
        return Evidence(
            provider_id=provider_id,
            delivery_id=delivery_id,
            sequence=sequence,
            key_id=row.key_id,
            jws=jws.decode(),
            record_sha256s=record_sha256s,
            recorded_at=row.recorded_at,
        )

    def _place(self, provider_id: str, delivery_id: str, sequence: int) -> Sealed:
        named = delivery_id if sequence else self._seals.token(f"evidence {delivery_id}").hex()
        return ("evidence", provider_id, named, sequence)

    async def _open(self, opened: Delivery, at: datetime, *, agrees: bool | None) -> None:
        await self._conn.execute(
            insert_into(self._conn, delivery)
            .values(
                provider_id=opened.provider_id,
                delivery_id=opened.delivery_id,
                historical=opened.historical,
                last_sequence=0,
                last_ack=b"",
                last_sha256=b"",
                opened_at=at,
                agrees=agrees,
            )
            .on_conflict_do_nothing()
        )

    async def _one(self, query: sa.Select[Any], named: Mapping[str, str]) -> Delivery | None:
        row = (await self._conn.execute(query, named)).one_or_none()
        return None if row is None else _delivery(row)

    def _asked(self, deliveries: Sequence[Delivery]) -> sa.Subquery:
        names = {name: sa.String() for name in Place._fields}
        asked = [(each.provider_id, each.delivery_id) for each in deliveries]
        return relation(self._conn, "asked", names, asked)


def _is(of: Delivery) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    return delivery.c.provider_id == of.provider_id, delivery.c.delivery_id == of.delivery_id


def _same(asked: sa.Subquery) -> sa.ColumnElement[bool]:
    return sa.and_(*(delivery_total.c[name] == asked.c[name] for name in Place._fields))


def _total_columns(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    names = ("provider_id", "delivery_id", "record_type", "month")
    counts = ("rows_sent", "sum_sent", "rows_received", "sum_received")
    return sa.select(*(delivery_total.c[name] for name in (*names, *counts)), *more)


def _total(row: Any) -> Total:
    return Total(
        Group(row.record_type, row.month),
        Sum(row.rows_sent, row.sum_sent),
        Sum(row.rows_received, row.sum_received),
    )


def _delivery(row: Any) -> Delivery:
    known = row.chain_sequence == row.last_sequence
    return Delivery(
        provider_id=row.provider_id,
        delivery_id=row.delivery_id,
        historical=row.historical,
        last_ack=ack_of(row.last_ack) if row.last_sequence else None,
        last_sha256=row.last_sha256,
        chain_sha256=row.chain_sha256 if known else b"",
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        rows_sent=row.rows_sent or 0,
        agrees=row.agrees,
    )
