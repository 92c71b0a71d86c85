"""Bare COPY of the same invoices: what PostgreSQL itself takes, one connection, nothing checked.

A program of its own. In batches of 1,000, each a durable transaction: COPY into a temporary table,
then INSERT .. ON CONFLICT DO NOTHING. Two tables take turns:

- `record` as datashare has it: its columns, its primary key, its partitions, and in them what
  datashare stores of each row. These are "the same rows".
- `narrow`: the 11 columns that an invoice has as it is sent, under a key of firm and record id, in
  one table.

The rows are made before the window; the time of COPY and INSERT alone counts.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import uvloop

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import MAX_BATCH
from services.datashare.catalogue.loader import load
from services.datashare.main import MIGRATIONS
from services.datashare.records.intake import Intake
from services.datashare.records.store import record as record_table
from services.datashare.records.tokens import CounterpartyTokens
from services.kit import migrations
from services.sandbox.cumcm2020c import TAX
from tests.bench.rig.invoices import invoices
from tests.bench.rig.processes import announce

_NARROW = """
    firm text, record_id text, day date, obtained timestamptz, side smallint, status smallint,
    counterparty text, net bigint, tax bigint, gross bigint, content bytea
"""
_TURNS = 3

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Peer:
    """A table that takes the rows.

    Args:
        name: of the table.
        made: what makes the temporary table that COPY fills.
        key: how many of a row's first columns name it.
        rows: makes the rows.
    """

    name: str
    made: str
    key: int
    rows: Callable[[Sequence[Record]], list[Row]]


def narrow_rows(records: Sequence[Record]) -> list[Row]:
    """Records as rows of `narrow`."""
    return [_narrow(record) for record in records]


def _narrow(record: Record) -> Row:
    invoice = record.vat_invoice
    return (
        record.subject.uscc,
        record.provider_record_id,
        date(record.date.year, record.date.month, record.date.day),
        record.obtained_at.ToDatetime(tzinfo=UTC),
        invoice.side,
        invoice.status,
        invoice.counterparty,
        *(
            each.units * 100 + each.nanos // 10**7
            for each in (invoice.net, invoice.tax, invoice.gross)
        ),
        invoice.SerializeToString(),
    )


def record_rows(records: Sequence[Record]) -> list[Row]:
    """Records as datashare stores them, in the order of the table's columns."""
    now = datetime.now(UTC)
    intake = Intake(load(), CounterpartyTokens(b"the counterparty key"))
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    subjects: dict[str, str] = {}
    rows, rejections = intake.read(records, 0, TAX.kind, now)
    if rejections:
        raise ValueError(f"{len(rejections)} rows would be rejected: {rejections[0]}")
    found = []
    for row in rows:
        obtained_at = epoch + timedelta(microseconds=row.obtained_at)
        values = {
            "subject_id": subjects.setdefault(row.uscc, f"sub_{len(subjects):026d}"),
            "record_type": row.record_type,
            "provider_id": "prt_00000000000000000000000000",
            "provider_record_id": row.provider_record_id,
            "version": row.version,
            "month": row.month,
            "occurred_from": row.occurred_from,
            "occurred_to": row.occurred_to,
            "obtained_at": obtained_at,
            "recorded_at": now,
            "known_at": obtained_at,
            "retracted": row.retracted,
            "schema_version": row.schema_version,
            "content_hash": row.content_hash,
            "payload": row.payload,
            "sealed": False,
            "hidden_on": row.hidden_on,
        }
        found.append(tuple(values[column.name] for column in record_table.columns))
    return found


_PEERS = {
    "record": Peer(
        "record",
        "(LIKE record)",
        len(record_table.primary_key.columns),
        record_rows,
    ),
    "narrow": Peer("narrow", f"({_NARROW})", 2, narrow_rows),
}


async def main(job: dict[str, Any]) -> dict[str, Any]:
    """Copies three times, into an empty table each time, and counts; the middle time stands."""
    peer = _PEERS[job["peer"]]
    _, records = invoices(job["rows"])
    rows = peer.rows(records)
    distinct = len({row[: peer.key] for row in rows})
    connection: Any = await asyncpg.connect(job["url"])
    seconds = []
    try:
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS narrow ({_NARROW}, PRIMARY KEY (firm, record_id))"
        )
        await connection.execute(
            f"CREATE TEMPORARY TABLE arriving {peer.made} ON COMMIT DELETE ROWS"
        )
        for turn in range(_TURNS):
            await connection.execute(f"TRUNCATE {peer.name}")
            if turn == 0:
                announce("begin")
            started = time.perf_counter()
            await _copy(connection, peer.name, rows)
            seconds.append(time.perf_counter() - started)
            if turn == 0:
                announce("end")
            stored = await connection.fetchval(f"SELECT count(*) FROM {peer.name}")
            if stored != distinct:
                raise ValueError(f"{stored} rows are in, {distinct} should be")
    finally:
        await connection.close()
    return {"rows": len(rows), "per_s": len(rows) / statistics.median(seconds)}


async def _copy(connection: Any, table: str, rows: Sequence[Row]) -> None:
    insert = f"INSERT INTO {table} SELECT * FROM arriving ON CONFLICT DO NOTHING"
    for start in range(0, len(rows), MAX_BATCH):
        async with connection.transaction():
            await connection.copy_records_to_table(
                "arriving", records=rows[start : start + MAX_BATCH]
            )
            await connection.execute(insert)


if __name__ == "__main__":
    job = json.load(sys.stdin)
    migrations.upgrade(job["url"], MIGRATIONS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(job))))
