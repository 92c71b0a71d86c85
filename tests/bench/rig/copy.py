"""Bare COPY of the same invoices: what PostgreSQL itself takes, one connection, nothing checked.

A program of its own. In batches of 1,000, each a durable transaction: COPY into a temporary table,
then INSERT .. ON CONFLICT DO NOTHING into one whose primary key is firm and record id.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import UTC, date
from typing import Any

import asyncpg
import uvloop

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import MAX_BATCH
from tests.bench.rig.invoices import invoices
from tests.bench.rig.processes import announce

_COLUMNS = """
    firm text, record_id text, day date, obtained timestamptz, side smallint, status smallint,
    counterparty text, net bigint, tax bigint, gross bigint, content bytea
"""
_TURNS = 3
_INSERT = "INSERT INTO invoice SELECT * FROM arriving ON CONFLICT DO NOTHING"

Row = tuple[Any, ...]


def row_of(record: Record) -> Row:
    """A record as a row of the table."""
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


def _fen(amount: Any) -> int:
    fen: int = amount.units * 100 + amount.nanos // 10**7
    return fen


async def main(job: dict[str, Any]) -> dict[str, Any]:
    """Copies three times, into a new table each time, and counts; the middle time stands."""
    _, records = invoices(job["rows"])
    rows = [row_of(record) for record in records]
    distinct = len({row[:2] for row in rows})
    connection: Any = await asyncpg.connect(job["url"])
    seconds = []
    try:
        await connection.execute(
            f"CREATE TEMPORARY TABLE arriving ({_COLUMNS}) ON COMMIT DELETE ROWS"
        )
        for turn in range(_TURNS):
            await connection.execute(
                f"CREATE TABLE invoice ({_COLUMNS}, PRIMARY KEY (firm, record_id))"
            )
            if turn == 0:
                announce("begin")
            started = time.perf_counter()
            await _copy(connection, rows)
            seconds.append(time.perf_counter() - started)
            if turn == 0:
                announce("end")
            stored = await connection.fetchval("SELECT count(*) FROM invoice")
            if stored != distinct:
                raise ValueError(f"{stored} rows are in, {distinct} should be")
            await connection.execute("DROP TABLE invoice")
    finally:
        await connection.close()
    return {"rows": len(rows), "per_s": len(rows) / statistics.median(seconds)}


async def _copy(connection: Any, rows: Sequence[Row]) -> None:
    for start in range(0, len(rows), MAX_BATCH):
        async with connection.transaction():
            await connection.copy_records_to_table(
                "arriving", records=rows[start : start + MAX_BATCH]
            )
            await connection.execute(_INSERT)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(main(json.load(sys.stdin)))))
