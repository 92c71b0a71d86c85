"""A read as of now, beside a batch that holds its series and has not committed, on PostgreSQL."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.datashare.v1 import records_pb2
from services.datashare.changes.domain import Change
from services.datashare.changes.store import ChangeStore
from services.datashare.china import china_day
from services.datashare.main import Work
from services.datashare.quality.domain import Contradiction, Finding, Reconciled, Rule
from services.datashare.subjects.uscc import make
from services.datashare.summaries.domain import Found, SummaryQuery
from services.kit.db import Database
from tests.fakes.datashare_records import Datashare, filing, invoice, provider

TAX = "par_tax"
OTHER = make("91", "110108", "MA01ABCE")


class Held(ChangeStore):
    """The outbox of a batch that stands still when it has done all but this."""

    def __init__(self, conn: AsyncConnection, reached: asyncio.Event, go: asyncio.Event) -> None:
        super().__init__(conn)
        self._reached = reached
        self._go = go

    async def append(self, changes: Sequence[Change]) -> None:
        self._reached.set()
        await self._go.wait()
        await super().append(changes)


class Race:
    """Datashare, and another replica whose batches stand still before they commit."""

    def __init__(self, database: Database) -> None:
        self.reader = Datashare(database)
        self.reached, self.go = asyncio.Event(), asyncio.Event()

        def work(conn: AsyncConnection) -> Work:
            made = self.writer.stores(conn)
            made.changes = Held(conn, self.reached, self.go)
            return made

        self.writer = Datashare(database, work)

    async def query(self, *record_types: str) -> SummaryQuery:
        now = self.reader.clock.now()
        subject_id = await self.reader.subject_id()
        return SummaryQuery(subject_id, record_types, None, 190001, 209912, now, china_day(now))

    async def read_beside(self, query_of: tuple[str, ...], *rows: records_pb2.Record) -> None:
        """Read while a batch stands still; and later, as of the same time."""
        batch = asyncio.create_task(self.writer.submit(TAX, *rows))
        await self.reached.wait()
        self.reader.clock.advance(timedelta(seconds=1))
        query = await self.query(*query_of)
        reading = asyncio.create_task(self.reader.find(query))
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(reading), 0.3)
        self.go.set()
        await batch
        assert _said(await reading) == _said(await self.reader.find(query))


def _said(found: Found) -> list[tuple[str, bytes]]:
    return [(series.record_type, series.content) for series in found.series]


@pytest.fixture
async def race(postgres: Database) -> Race:
    made = Race(postgres)
    await made.reader.register(provider("tax"))
    await made.reader.submit(TAX, invoice("a"))
    return made


async def test_a_read_waits_for_a_batch_that_holds_its_series(race: Race) -> None:
    await race.read_beside(("vat_invoice",), invoice("b"))


async def test_a_read_waits_for_the_first_batch_of_a_series(race: Race) -> None:
    await race.read_beside(("vat_invoice", "tax_filing"), filing("f"))


async def test_a_read_that_finds_nothing_yet_waits_too(race: Race) -> None:
    await race.read_beside(("tax_filing",), filing("f"))


async def test_a_read_waits_though_inspection_holds_the_subject_too(race: Race) -> None:
    """Where two share a row, it shows neither's transaction."""
    batch = asyncio.create_task(race.writer.submit(TAX, filing("f")))
    await race.reached.wait()
    inspection = asyncio.create_task(_store_finding(race))
    await asyncio.sleep(0.3)
    race.reader.clock.advance(timedelta(seconds=1))
    query = await race.query("tax_filing")
    reading = asyncio.create_task(race.reader.find(query))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(reading), 0.3)
    race.go.set()
    await asyncio.gather(batch, inspection)
    assert _said(await reading) == _said(await race.reader.find(query))


async def _store_finding(race: Race) -> None:
    datashare = race.reader
    contradiction = Contradiction(
        rule=Rule.SALES_GAP,
        subject_id=await datashare.subject_id(),
        others=(),
        key=(),
        provider_ids=(TAX,),
        record_types=("vat_invoice",),
        first_month=202401,
        last_month=202401,
        figures={},
        holds_until=None,
    )
    now = datashare.clock.now()
    async with datashare.transactions.begin() as work:
        found = Finding("fin_1", contradiction, now)
        await work.quality.settle(Reconciled((), {}, (), ()), [found], china_day(now), now)
        await race.go.wait()


async def test_a_read_of_others_does_not_wait(race: Race) -> None:
    row = invoice("b")
    row.subject.uscc = OTHER
    await race.reader.submit(TAX, row)
    batch = asyncio.create_task(race.writer.submit(TAX, invoice("c")))
    await race.reached.wait()
    subject_id = await race.reader.subject_id(OTHER)
    query = await race.query("vat_invoice")
    mine = SummaryQuery(subject_id, ("vat_invoice",), None, 190001, 209912, query.as_of, 0)
    await asyncio.wait_for(race.reader.find(mine), 5)
    race.go.set()
    await batch


async def test_a_batch_that_is_rolled_back_holds_nobody_up(race: Race) -> None:
    batch = asyncio.create_task(race.writer.submit(TAX, invoice("b")))
    await race.reached.wait()
    race.reader.clock.advance(timedelta(seconds=1))
    reading = asyncio.create_task(race.reader.find(await race.query("vat_invoice")))
    await asyncio.sleep(0.1)
    batch.cancel()
    with suppress(asyncio.CancelledError):
        await batch
    found = await asyncio.wait_for(reading, 5)
    assert _said(found) == _said(await race.reader.find(await race.query("vat_invoice")))
