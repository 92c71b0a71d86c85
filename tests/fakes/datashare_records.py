"""Records to push, and a datashare to push them to, for tests of records and summaries."""

import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from google.protobuf.json_format import ParseDict
from google.type import date_pb2, money_pb2
from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.datashare.v1 import payloads_pb2, records_pb2, summaries_pb2
from services.datashare.catalogue.loader import load
from services.datashare.china import china_day
from services.datashare.deliveries.app import CloseDelivery, Reconciliations
from services.datashare.deliveries.wire import Reader, control_fields
from services.datashare.log.domain import Sealer
from services.datashare.main import Stores, Work
from services.datashare.mandates.registry import RegisterWatch
from services.datashare.mandates.submissions import LogSubmission
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.records.app import TakeIn
from services.datashare.records.intake import Intake
from services.datashare.records.servicer import AT_ONCE, RecordServicer
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.retention.app import EraseSubject, Rebuild, Retention
from services.datashare.reviews.app import Hints
from services.datashare.reviews.loader import load as load_weights
from services.datashare.subjects.uscc import make
from services.datashare.summaries.domain import Found, SummaryQuery
from services.kit.clock import FixedClock
from services.kit.db import Database, Transactions, retry_on_conflict
from services.kit.identity import Caller, set_caller
from services.kit.ids import RandomIds
from tests.fakes.mandates import representative
from tests.fakes.sealing import FakeKms, vault

NOW = datetime(2024, 6, 15, 4, 0, tzinfo=UTC)
USCC = make("91", "110108", "MA01ABCD")
OBTAINED = datetime(2024, 6, 1, tzinfo=UTC)


def provider(
    kind: str, *, historical: bool = False, simulated: bool = False, suffix: str = ""
) -> Participant:
    """Return a provider `par_<kind><suffix>`."""
    name = f"par_{kind}{suffix}"
    return Participant(
        name, Role.PROVIDER, name, kind, None, historical, Standing.ACTIVE, NOW, simulated
    )


def day(value: str) -> date_pb2.Date:
    """Return the message of an ISO date."""
    parsed = date.fromisoformat(value)
    return date_pb2.Date(year=parsed.year, month=parsed.month, day=parsed.day)


def money(fen: int) -> money_pb2.Money:
    """Return the message of an amount in CNY."""
    units = abs(fen) // 100 * (1 if fen > 0 else -1)
    nanos = abs(fen) % 100 * 10_000_000 * (1 if fen > 0 else -1)
    return money_pb2.Money(currency_code="CNY", units=units, nanos=nanos)


def record(record_id: str, on: str = "2024-01-15", **fields: Any) -> records_pb2.Record:
    """Return a record without payload; `fields` are those of the message."""
    values: dict[str, Any] = {"version": 1, **fields}
    built = records_pb2.Record(provider_record_id=record_id, date=day(on), **values)
    if not built.HasField("subject"):
        built.subject.uscc = USCC
    if not built.HasField("obtained_at"):
        built.obtained_at.FromDatetime(OBTAINED)
    return built


def invoice(
    record_id: str,
    net: int = 100_00,
    *,
    on: str = "2024-01-15",
    side: int = payloads_pb2.INVOICE_SIDE_OUTPUT,
    counterparty: str = "Acme",
    void: bool = False,
    **fields: Any,
) -> records_pb2.Record:
    """Return a VAT invoice of a net amount in fen, taxed at 13 %."""
    tax = net * 13 // 100
    return record(
        record_id,
        on,
        record_type="vat_invoice",
        vat_invoice=payloads_pb2.VatInvoice(
            number=record_id,
            side=payloads_pb2.InvoiceSide.ValueType(side),
            counterparty=counterparty,
            net=money(net),
            tax=money(tax),
            gross=money(net + tax),
            status=payloads_pb2.INVOICE_STATUS_VOID if void else payloads_pb2.INVOICE_STATUS_VALID,
        ),
        **fields,
    )


def filing(
    record_id: str, grade: str = "", *, on: str = "2024-01-31", **fields: Any
) -> records_pb2.Record:
    """Return a VAT filing."""
    return record(
        record_id,
        on,
        record_type="tax_filing",
        tax_filing=payloads_pb2.TaxFiling(
            tax_kind="vat", declared_sales=money(50_00), declared_tax=money(6_50), grade=grade
        ),
        **fields,
    )


def retraction(of: records_pb2.Record, version: int) -> records_pb2.Record:
    """Return what takes a record back."""
    taken = records_pb2.Record()
    taken.CopyFrom(of)
    taken.version = version
    taken.status = records_pb2.RECORD_STATUS_RETRACTED
    if field := taken.WhichOneof("payload"):
        taken.ClearField(field)
    return taken


def from_json(content: dict[str, Any]) -> records_pb2.Record:
    """Return the record in canonical JSON, with the usual subject and time."""
    built = ParseDict(content, records_pb2.Record())
    built.subject.uscc = USCC
    built.obtained_at.FromDatetime(OBTAINED)
    return built


class Datashare:
    """The record side of datashare over a migrated database.

    Args:
        database: where it keeps everything.
        work: makes the stores of a transaction; the real ones by default.
        kms: wraps data keys; all of the same name have the same keys.
        sealed: record types that are sealed; those of the catalogue by default.
    """

    def __init__(
        self,
        database: Database,
        work: Callable[[AsyncConnection], Work] | None = None,
        kms: FakeKms | None = None,
        sealed: frozenset[str] | None = None,
    ) -> None:
        self.clock = FixedClock(NOW)
        self.database = database
        self.catalogue = load()
        self.vault = vault(self.catalogue, self.clock, kms, sealed)
        self.stores = Stores(self.catalogue, RandomIds(self.clock), self.vault)
        self.transactions: Transactions[Work] = Transactions(database, work or self.stores)
        self.take_in = TakeIn(
            self.transactions,
            retry_on_conflict,
            self.stores.layouts,
            self.catalogue.on_consent,
            Hints(load_weights(), self.catalogue.on_consent, self.clock, RandomIds(self.clock)),
            self.clock,
            RegisterWatch(Sealer(RandomIds(self.clock), secrets.token_bytes)),
            LogSubmission(Sealer(RandomIds(self.clock), secrets.token_bytes)),
        )
        self.intake = Intake(self.catalogue, CounterpartyTokens(b"counterparty-key"))
        close = CloseDelivery(self.transactions, retry_on_conflict, self.clock)
        sent = Reader(control_fields(self.catalogue))
        self.servicer = RecordServicer(
            self.take_in, close, sent, self.intake, self.clock, AT_ONCE[database.dialect]
        )
        self.reconciliations = Reconciliations(self.transactions, self.clock)
        ids, sealer = RandomIds(self.clock), Sealer(RandomIds(self.clock), secrets.token_bytes)
        self.retention = Retention(
            transactions=self.transactions,
            retry=retry_on_conflict,
            layouts=self.stores.layouts,
            clock=self.clock,
            ids=ids,
            sealer=sealer,
            clean=_nothing,
        )
        self.erase = EraseSubject(
            transactions=self.transactions,
            retry=retry_on_conflict,
            clock=self.clock,
            ids=ids,
            sealer=sealer,
            clean=_nothing,
        )
        self.rebuild = Rebuild(
            self.transactions, retry_on_conflict, self.stores.layouts, self.clock
        )

    async def register(self, *participants: Participant) -> None:
        """Register participants."""
        async with self.transactions.begin() as work:
            for participant in participants:
                await work.participants.add(participant)
                if participant.role is Role.FIRM:
                    await work.mandates.add(representative(participant))

    async def submit(
        self, by: str, *records: records_pb2.Record, historical: bool = False, jws: str = ""
    ) -> records_pb2.PushAck:
        """Submit one batch."""
        set_caller(Caller(by, "PROVIDER"))
        request = records_pb2.SubmitRecordsRequest(records=records, historical=historical, jws=jws)
        return (await self.servicer.SubmitRecords(request, None)).ack  # type: ignore[arg-type]  # the servicer does not use the context

    async def push(
        self, by: str, *messages: records_pb2.PushRecordsRequest
    ) -> list[records_pb2.PushRecordsResponse]:
        """Open a stream, send the messages, and return every answer."""
        set_caller(Caller(by, "PROVIDER"))
        answers = self.servicer.PushRecords(_stream(messages), None)  # type: ignore[arg-type]  # the servicer does not use the context
        return [answer async for answer in answers]

    async def subject_id(self, uscc: str = USCC) -> str:
        """Return the id of a subject that is there."""
        async with self.transactions.read() as work:
            found = await work.subjects.resolve(uscc)
        assert found
        return found

    async def read(
        self,
        *record_types: str,
        uscc: str = USCC,
        first: int = 190001,
        last: int = 209912,
        as_of: datetime | None = None,
        providers: frozenset[str] | None = None,
    ) -> list[summaries_pb2.Series]:
        """Return the series of a query."""
        found = await self.find(
            SummaryQuery(
                await self.subject_id(uscc),
                record_types,
                providers,
                first,
                last,
                as_of or self.clock.now(),
                china_day(self.clock.now()),
            )
        )
        return [summaries_pb2.Series.FromString(item.content) for item in found.series]

    async def find(self, query: SummaryQuery) -> Found:
        """Return what a query finds."""
        async with self.transactions.begin() as work:
            (answer,) = await work.summaries.read([query])
        return answer


async def _nothing() -> None:
    """Leave the files as they are."""


async def _stream(
    messages: Iterable[records_pb2.PushRecordsRequest],
) -> AsyncIterator[records_pb2.PushRecordsRequest]:
    for message in messages:
        # A batch that was read is changed; whoever sends it keeps it as it was.
        yield records_pb2.PushRecordsRequest.FromString(message.SerializeToString())


def header(delivery_id: str, *, historical: bool = False) -> records_pb2.PushRecordsRequest:
    """Return a stream's first message."""
    return records_pb2.PushRecordsRequest(
        header=records_pb2.PushHeader(delivery_id=delivery_id, historical=historical)
    )


def batch(
    sequence: int, *records: records_pb2.Record, jws: str = ""
) -> records_pb2.PushRecordsRequest:
    """Return a batch."""
    return records_pb2.PushRecordsRequest(
        batch=records_pb2.PushBatch(sequence=sequence, records=records, jws=jws)
    )


def close(
    rows: int, totals: Mapping[tuple[str, int], tuple[int, int]]
) -> records_pb2.PushRecordsRequest:
    """Return the close of a delivery.

    Args:
        rows: as counted by the provider.
        totals: rows and fen by record type and month.
    """
    said = [
        records_pb2.ControlTotal(record_type=name, month=month, rows=count, sum=fen)
        for (name, month), (count, fen) in totals.items()
    ]
    return records_pb2.PushRecordsRequest(close=records_pb2.PushClose(rows=rows, totals=said))


def table(series: summaries_pb2.Series) -> dict[int, dict[str, int]]:
    """Return a series by month and measure, without what is 0."""
    return {
        month: {
            column.name: column.values[index] for column in series.columns if column.values[index]
        }
        for index, month in enumerate(series.months)
    }
