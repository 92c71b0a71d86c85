"""What the version before wrote to its database: its statements, frozen.

On PostgreSQL a batch adds invoices of one firm, as that version did: it locks the series' row,
copies the records, and upserts the series and the dealings with counterparties, in one transaction.
"""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import asyncpg

from puhui.datashare.v1 import payloads_pb2, summaries_pb2
from services.datashare.subjects import uscc

INITIAL = "1615017ff21a"
"""Its version of the tables."""

PROVIDER = "par_tax"
OCCURRED = 18_262  # 2020-01-01, in days
MONTH = 202001
AT = datetime(2026, 11, 1, tzinfo=UTC)

_RECORD_COLUMNS = (
    *("subject_id", "record_type", "provider_id", "provider_record_id", "version", "month"),
    *("occurred_from", "occurred_to", "obtained_at", "recorded_at", "known_at", "retracted"),
    *("schema_version", "content_hash", "payload"),
)
_LOCK = """
    SELECT revision FROM summary_series
    WHERE (subject_id, record_type, provider_id) = ($1, 'vat_invoice', $2) FOR UPDATE
"""
_SERIES = """
    INSERT INTO summary_series (subject_id, record_type, provider_id, revision, derived_revision,
        first_known_at, known_at, simulated, first_month, last_month, content)
    VALUES ($1, 'vat_invoice', $2, $3, 0, $4, $4, false, $5, $5, $6)
    ON CONFLICT (subject_id, record_type, provider_id)
    DO UPDATE SET revision = excluded.revision, content = excluded.content
"""
_TRADES = """
    INSERT INTO summary_counterparty
        (subject_id, provider_id, side, month, token, invoices, net)
    VALUES ($1, $2, 2, $3, $4, $5, $6)
    ON CONFLICT (subject_id, provider_id, side, month, token)
    DO UPDATE SET invoices = summary_counterparty.invoices + excluded.invoices,
        net = summary_counterparty.net + excluded.net
"""
_TOKEN = b"t" * 16


def code(firm: int) -> str:
    """Return the registration number of a firm."""
    return uscc.make("91", "110108", f"MA{firm:06}")


def payload() -> bytes:
    """Return an invoice over 100 yuan, as it is stored."""
    invoice = payloads_pb2.VatInvoice(
        number="1",
        side=payloads_pb2.INVOICE_SIDE_OUTPUT,
        status=payloads_pb2.INVOICE_STATUS_VALID,
        counterparty_token=_TOKEN,
        code="011",
    )
    for name, units in (("net", 100), ("tax", 13), ("gross", 113)):
        money = getattr(invoice, name)
        money.currency_code, money.units = "CNY", units
    content: bytes = invoice.SerializeToString(deterministic=True)
    return content


def content(invoices: int) -> bytes:
    """Return the stored series of so many of those invoices."""
    measures = {"valid": 1, "net": 10_000, "tax": 1_300, "positive_net": 10_000}
    names = [
        f"{side}_{name}"
        for side in ("input", "output")
        for name in ("valid", "void", "red", "net", "tax", "red_net", "positive_net")
    ]
    series: bytes = summaries_pb2.Series(
        record_type="vat_invoice",
        provider_id=PROVIDER,
        months=[MONTH],
        record_counts=[invoices],
        columns=[
            summaries_pb2.Column(
                name=name,
                values=[invoices * measures.get(name[7:], 0) if name.startswith("output_") else 0],
            )
            for name in names
        ],
    ).SerializeToString(deterministic=True)
    return series


async def fill(dsn: str, firms: int) -> None:
    """Add the firms and their provider, and ten invoices each, to a database of PostgreSQL.

    Args:
        dsn: of the database, as asyncpg takes it.
        firms: how many.
    """
    connection: Any = await asyncpg.connect(dsn)
    try:
        await _fill(connection, firms)
    finally:
        await connection.close()


async def _fill(connection: Any, firms: int) -> None:
    await connection.execute(
        "INSERT INTO participant (participant_id, role, name, provider_kind, subject_id, "
        "historical_source, simulated_source, standing, registered_at) "
        "VALUES ($1, 'PROVIDER', 'tax', 'tax', '', false, false, 'ACTIVE', $2)",
        PROVIDER,
        AT,
    )
    for firm in range(firms):
        await connection.execute(
            "INSERT INTO subject (subject_id, uscc) VALUES ($1, $2)",
            f"sub_{firm}",
            code(firm),
        )
        await _push(connection, firm, range(10))


async def _push(connection: Any, firm: int, numbers: range) -> None:
    """Add a batch of invoices of one firm."""
    subject = f"sub_{firm}"
    stored = payload()
    async with connection.transaction():
        revision = await connection.fetchval(_LOCK, subject, PROVIDER) or 0
        await connection.copy_records_to_table(
            "record",
            columns=_RECORD_COLUMNS,
            records=[
                (
                    *(subject, "vat_invoice", PROVIDER, f"inv-{number}", 1, MONTH),
                    *(OCCURRED, OCCURRED, AT, AT, AT, False, 1),
                    hashlib.sha256(b"%d" % number).digest(),
                    stored,
                )
                for number in numbers
            ],
        )
        total = numbers.stop
        await connection.execute(
            _SERIES, subject, PROVIDER, revision + 1, AT, MONTH, content(total)
        )
        size = len(numbers)
        await connection.execute(_TRADES, subject, PROVIDER, MONTH, _TOKEN, size, size * 10_000)


def populate_sqlite(path: str, firms: int) -> None:
    """Add the firms, and ten invoices each, to a file of SQLite."""
    at = int(AT.timestamp()) * 1_000_000
    record = f"INSERT INTO record ({', '.join(_RECORD_COLUMNS)}) VALUES ({', '.join('?' * 15)})"
    connection = sqlite3.connect(path)
    with connection:
        for firm in range(firms):
            subject = f"sub_{firm}"
            connection.execute("INSERT INTO subject VALUES (?, ?)", (subject, code(firm)))
            rows = [
                (
                    *(
                        subject,
                        "vat_invoice",
                        PROVIDER,
                        f"inv-{number}",
                        1,
                        MONTH,
                        OCCURRED,
                        OCCURRED,
                    ),
                    *(at, at, at, False, 1, hashlib.sha256(b"%d" % number).digest(), payload()),
                )
                for number in range(10)
            ]
            connection.executemany(record, rows)
            connection.execute(
                "INSERT INTO summary_series VALUES (?, 'vat_invoice', ?, 1, 0, ?, ?, 0, ?, ?, ?)",
                (subject, PROVIDER, at, at, MONTH, MONTH, content(10)),
            )
            connection.execute(
                "INSERT INTO summary_counterparty VALUES (?, ?, 2, ?, ?, 10, 100000)",
                (subject, PROVIDER, MONTH, _TOKEN),
            )
    connection.close()


class Writer:
    """Goes on writing in a thread of its own, a batch of one invoice after the other.

    Args:
        dsn: of the database, as asyncpg takes it.
        firms: that `fill` made.
        invoices: of each firm, that are there; ten by default.
    """

    def __init__(self, dsn: str, firms: int, invoices: Mapping[int, int] | None = None) -> None:
        self._dsn = dsn
        self.invoices = dict(invoices or dict.fromkeys(range(firms), 10))
        self._written = threading.Condition()
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_batches(self, batches: int) -> None:
        """Wait until so many more batches are in."""
        wanted = sum(self.invoices.values()) + batches
        with self._written:
            if not self._written.wait_for(lambda: sum(self.invoices.values()) >= wanted, 30):
                raise TimeoutError("the writer stands still") from self.error

    def _run(self) -> None:
        try:
            asyncio.run(self._write())
        except BaseException as error:  # noqa: BLE001 - the test says what happened in the thread
            self.error = error

    async def _write(self) -> None:
        connection: Any = await asyncpg.connect(self._dsn)
        try:
            while not self._stop.is_set():
                for firm, written in self.invoices.items():
                    await _push(connection, firm, range(written, written + 1))
                    self.invoices[firm] = written + 1
                    with self._written:
                        self._written.notify_all()
        finally:
            await connection.close()
