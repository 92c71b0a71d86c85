"""Taking in records, on SQLite and PostgreSQL alike."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.changes.domain import ChangeKind
from services.datashare.deliveries.domain import Group, Tally
from services.datashare.deliveries.store import DeliveryStore
from services.datashare.main import Work
from services.datashare.participants.domain import Standing
from services.datashare.records.store import record as record_table
from services.datashare.subjects.uscc import make
from services.datashare.summaries.domain import SeriesKey
from services.kit.db import Database
from services.kit.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    OutOfRangeError,
    PermissionDeniedError,
    PuhuiError,
)
from tests.fakes.datashare_records import (
    NOW,
    Datashare,
    batch,
    filing,
    header,
    invoice,
    provider,
    record,
    retraction,
    table,
)
from tests.fakes.standing import set_standing

TAX = "par_tax"


@pytest.fixture
async def datashare(database: Database) -> Datashare:
    built = Datashare(database)
    await built.register(
        provider("tax", historical=True), provider("court"), provider("tax", suffix="2")
    )
    return built


def outcome(ack: records_pb2.PushAck) -> tuple[list[int], list[int], list[tuple[int, str]]]:
    rejected = [(item.row, item.reason) for item in ack.rejections]
    return list(ack.accepted), list(ack.duplicates), rejected


async def stored_rows(datashare: Datashare) -> Sequence[tuple[str, int, bool]]:
    async with datashare.database.read() as conn:
        rows = await conn.execute(
            sa.select(
                record_table.c.provider_record_id, record_table.c.version, record_table.c.retracted
            ).order_by(record_table.c.provider_record_id, record_table.c.version)
        )
        return [(row[0], row[1], row[2]) for row in rows]


async def test_every_row_is_accounted_for(datashare: Datashare) -> None:
    ack = await datashare.submit(
        TAX,
        invoice("a"),
        invoice("a"),
        invoice("a", net=5),
        record("x", record_type="grant"),
        invoice("b", version=2),
        invoice("c"),
    )
    assert outcome(ack) == (
        [0, 5],
        [1],
        [(2, "RECORD_CONFLICT"), (3, "TYPE_NOT_YOURS"), (4, "VERSION_OUT_OF_ORDER")],
    )
    again = await datashare.submit(TAX, invoice("c"), invoice("a"))
    assert outcome(again) == ([], [0, 1], [])
    assert await stored_rows(datashare) == [("a", 1, False), ("c", 1, False)]


async def test_corrections_and_retractions_are_versions(datashare: Datashare) -> None:
    first = invoice("a", net=100_00)
    await datashare.submit(TAX, first)
    corrected = invoice("a", net=70_00, version=2)
    ack = await datashare.submit(
        TAX, corrected, invoice("a", net=60_00, version=2), retraction(first, 3)
    )
    assert outcome(ack) == ([0, 2], [], [(1, "RECORD_CONFLICT")])
    assert await datashare.read("vat_invoice") == []
    back = await datashare.submit(TAX, invoice("a", net=50_00, version=4))
    assert outcome(back) == ([0], [], [])
    (series,) = await datashare.read("vat_invoice")
    assert table(series)[202401]["output_net"] == 50_00
    # The file of before, pushed again, changes nothing.
    old = await datashare.submit(TAX, first, corrected, retraction(first, 3))
    assert outcome(old) == ([], [0, 1, 2], [])
    assert await stored_rows(datashare) == [
        ("a", 1, False),
        ("a", 2, False),
        ("a", 3, True),
        ("a", 4, False),
    ]


async def test_the_outbox_tells_of_corrections(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("a"), invoice("b"), invoice("c"))
    await datashare.submit(
        TAX,
        invoice("a", net=1, version=2),
        invoice("b", net=1, version=2),
        retraction(invoice("c"), 2),
    )
    async with datashare.transactions.read() as work:
        entries = await work.changes.after(0, 10)
    subject_id = await datashare.subject_id()
    assert [
        (e.change.kind, e.change.subject_id, e.change.record_type, e.change.participant_id)
        for e in entries
    ] == [
        (ChangeKind.RECORD_CORRECTED, subject_id, "vat_invoice", TAX),
        (ChangeKind.RECORD_RETRACTED, subject_id, "vat_invoice", TAX),
    ]


async def test_providers_have_ids_of_their_own(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("a", net=10_00))
    ack = await datashare.submit("par_tax2", invoice("a", net=20_00))
    assert outcome(ack) == ([0], [], [])
    series = await datashare.read("vat_invoice")
    nets = {item.provider_id: table(item)[202401]["output_net"] for item in series}
    assert nets == {TAX: 10_00, "par_tax2": 20_00}


async def test_a_subject_may_be_named_by_its_id(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("a"))
    known = invoice("b")
    known.subject.subject_id = await datashare.subject_id()
    unknown = invoice("c")
    unknown.subject.subject_id = "sub_nobody"
    ack = await datashare.submit(TAX, known, unknown)
    assert outcome(ack) == ([0], [], [(1, "NOT_FOUND")])
    assert ack.rejections[0].field == "subject.subject_id"


async def test_a_stream_resumes(datashare: Datashare) -> None:
    ready, first, second = await datashare.push(
        TAX, header("d1"), batch(1, invoice("a")), batch(2, invoice("b"), invoice("b", net=1))
    )
    assert ready.ready.last_sequence == 0
    assert not ready.ready.HasField("last_ack")
    assert (first.ack.sequence, outcome(first.ack)) == (1, ([0], [], []))
    ready, resent, third = await datashare.push(
        TAX,
        header("d1"),
        batch(2, invoice("b"), invoice("b", net=1)),
        batch(3, invoice("a")),
    )
    assert ready.ready.last_sequence == 2
    assert ready.ready.last_ack == second.ack
    assert resent.ack == second.ack
    assert outcome(third.ack) == ([], [0], [])
    (other,) = await datashare.push("par_tax2", header("d1"))
    assert other.ready.last_sequence == 0


async def test_a_delivery_is_not_resumed_with_other_batches(datashare: Datashare) -> None:
    first, second, *others = (invoice(name) for name in "abcd")
    await datashare.push(TAX, header("d"), batch(1, first), batch(2, second))
    # The same rows in batches of two: what is the second batch now was never sent.
    with pytest.raises(AlreadyExistsError) as caught:
        await datashare.push(TAX, header("d"), batch(2, *others))
    assert caught.value.reason == "DELIVERY_MISMATCH"
    ready, again, third = await datashare.push(
        TAX, header("d"), batch(2, second), batch(3, *others)
    )
    content = records_pb2.PushBatch(records=[second]).SerializeToString(deterministic=True)
    assert ready.ready.last_sha256 == hashlib.sha256(content).digest()
    assert outcome(again.ack) == ([0], [], [])
    assert outcome(third.ack) == ([0, 1], [], [])
    assert [name for name, _, _ in await stored_rows(datashare)] == list("abcd")


async def test_a_text_with_a_zero_byte_does_not_block_its_batch(datashare: Datashare) -> None:
    rows = [invoice("a"), invoice("b\0"), invoice("c"), invoice("d")]
    rows[2].subject.subject_id = "sub\0"
    rows[3].vat_invoice.number = "1\0"
    refused = [(row, "FIELD_INVALID") for row in (1, 2, 3)]
    for _ in range(2):
        _, answer = await datashare.push(TAX, header("d"), batch(1, *rows))
        assert outcome(answer.ack) == ([0], [], refused)
    assert outcome(await datashare.submit(TAX, *rows)) == ([], [0], refused)
    assert await stored_rows(datashare) == [("a", 1, False)]


@pytest.mark.parametrize(
    ("messages", "error", "reason"),
    [
        ([batch(1, invoice("a"))], InvalidArgumentError, "HEADER_EXPECTED"),
        ([header("d"), header("d")], InvalidArgumentError, "HEADER_EXPECTED"),
        ([header("d"), batch(2, invoice("a"))], OutOfRangeError, "OUT_OF_SEQUENCE"),
        (
            [header("d"), batch(1, *[invoice("a")] * 1001)],
            InvalidArgumentError,
            "BATCH_TOO_LARGE",
        ),
    ],
    ids=["no header", "two headers", "gap", "too large"],
)
async def test_a_stream_that_is_wrong_fails(
    datashare: Datashare,
    messages: list[records_pb2.PushRecordsRequest],
    error: type[PuhuiError],
    reason: str,
) -> None:
    with pytest.raises(error) as caught:
        await datashare.push(TAX, *messages)
    assert caught.value.reason == reason
    assert await stored_rows(datashare) == []


async def test_only_historical_sources_back_fill(datashare: Datashare) -> None:
    with pytest.raises(PermissionDeniedError) as caught:
        await datashare.push("par_court", header("d", historical=True))
    assert caught.value.reason == "BACKFILL_NOT_ALLOWED"
    with pytest.raises(PermissionDeniedError) as caught:
        await datashare.submit("par_court", invoice("a"), historical=True)
    assert caught.value.reason == "BACKFILL_NOT_ALLOWED"
    await datashare.push(TAX, header("d", historical=True), batch(1, invoice("a")))
    with pytest.raises(InvalidArgumentError) as reopened:
        await datashare.push(TAX, header("d"))
    assert reopened.value.reason == "FIELD_INVALID"


async def test_a_suspended_provider_stops_at_the_next_batch(datashare: Datashare) -> None:
    async with datashare.transactions.begin() as work:
        await set_standing(work, "par_tax2", Standing.SUSPENDED)
    with pytest.raises(PermissionDeniedError) as caught:
        await datashare.submit("par_tax2", invoice("a"))
    assert caught.value.reason == "PARTICIPANT_SUSPENDED"
    with pytest.raises(PermissionDeniedError) as unknown:
        await datashare.submit("par_nobody", invoice("a"))
    assert unknown.value.reason == "NOT_YOURS"


async def test_no_batch_is_stored_after_an_acknowledged_suspension(datashare: Datashare) -> None:
    async with datashare.transactions.begin() as work:
        await work.participants.lock(TAX)
        # Both found the provider active, and wait now.
        pushed = [
            asyncio.create_task(datashare.push(TAX, header("d"), batch(1, invoice("a")))),
            asyncio.create_task(datashare.submit(TAX, invoice("b"))),
        ]
        await asyncio.sleep(0.2)
        await set_standing(work, TAX, Standing.SUSPENDED)
    for result in await asyncio.gather(*pushed, return_exceptions=True):
        assert isinstance(result, PermissionDeniedError), result
        assert result.reason == "PARTICIPANT_SUSPENDED"
    assert await stored_rows(datashare) == []


async def test_a_suspension_waits_for_the_batch_that_is_being_stored(
    datashare: Datashare,
) -> None:
    async def suspend() -> None:
        async with datashare.transactions.begin() as work:
            await work.participants.lock(TAX)

    async with datashare.transactions.begin() as work:
        held = await work.participants.hold(TAX)
        assert held == await work.participants.get(TAX)
        assert await work.participants.hold("par_nobody") is None
        suspending = asyncio.create_task(suspend())
        await asyncio.sleep(0.1)
        assert not suspending.done()
    await suspending


async def test_a_batch_is_recorded_when_its_turn_has_come(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("a"))
    key = SeriesKey(await datashare.subject_id(), "vat_invoice", TAX)
    async with datashare.transactions.begin() as work:
        await work.series.lock([key])
        waiting = asyncio.create_task(datashare.submit(TAX, invoice("b")))
        await asyncio.sleep(0.2)
        datashare.clock.advance(timedelta(seconds=30))
    assert outcome(await waiting) == ([0], [], [])
    (before,) = await datashare.read("vat_invoice", as_of=NOW)
    (after,) = await datashare.read("vat_invoice", as_of=NOW + timedelta(seconds=30))
    assert table(before)[202401]["output_valid"] == 1
    assert table(after)[202401]["output_valid"] == 2


class PowerCutError(Exception):
    pass


class UnpluggedDeliveries(DeliveryStore):
    """Deliveries whose last statement never comes to its end."""

    async def count(
        self, provider_id: str, delivery_id: str, tallies: Mapping[Group, Tally]
    ) -> None:
        await super().count(provider_id, delivery_id, tallies)
        raise PowerCutError


async def test_a_batch_is_all_or_nothing(datashare: Datashare) -> None:
    def unplugged(conn: AsyncConnection) -> Work:
        work = datashare.stores(conn)
        work.deliveries = UnpluggedDeliveries(conn, work.seals)
        return work

    messages = (header("d"), batch(1, invoice("a"), filing("f", "A")))
    with pytest.raises(PowerCutError):
        await Datashare(datashare.database, work=unplugged).push(TAX, *messages)
    assert await stored_rows(datashare) == []
    ready, ack = await datashare.push(TAX, *messages)
    assert ready.ready.last_sequence == 0
    assert outcome(ack.ack) == ([0, 1], [], [])
    (series,) = await datashare.read("vat_invoice")
    assert table(series)[202401]["output_valid"] == 1


async def test_batches_at_the_same_time_lose_nothing(datashare: Datashare) -> None:
    firms = [make("91", "110108", f"MA01000{number}") for number in range(5)]

    def rows(first: int) -> list[records_pb2.Record]:
        made = []
        for number in range(first, first + 60):
            row = invoice(f"i{number}", net=100, counterparty=f"c{number % 7}")
            row.subject.uscc = firms[number % len(firms)]
            made.append(row)
        return made

    # Overlapping batches of one provider and the same rows from another, all at once.
    starts = [0, 30, 60, 90]
    acks = await asyncio.gather(
        *(datashare.submit(TAX, *rows(first)) for first in starts),
        *(datashare.submit("par_tax2", *reversed(rows(first))) for first in starts),
    )
    assert not any(ack.rejections for ack in acks)
    assert sum(len(ack.accepted) for ack in acks) == 2 * 150
    for firm in firms:
        series = await datashare.read("vat_invoice", uscc=firm)
        assert [table(item)[202401]["output_net"] for item in series] == [30 * 100] * 2
        assert [table(item)[202401]["output_counterparties"] for item in series] == [7] * 2


async def test_the_same_delivery_twice_at_once_takes_effect_once(datashare: Datashare) -> None:
    messages = [header("d"), batch(1, invoice("a")), batch(2, invoice("b"))]
    results = await asyncio.gather(
        *(datashare.push(TAX, *messages) for _ in range(4)), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            assert isinstance(result, OutOfRangeError), result
    assert await stored_rows(datashare) == [("a", 1, False), ("b", 1, False)]
    (series,) = await datashare.read("vat_invoice")
    assert table(series)[202401]["output_valid"] == 2


async def test_a_batch_of_a_thousand_subjects(datashare: Datashare) -> None:
    rows = []
    for number in range(1000):
        row = filing("f", "B", on="2024-03-31")
        row.subject.uscc = make("91", "110108", f"MA0{number:05}")
        rows.append(row)
    assert outcome(await datashare.submit(TAX, *rows)) == (list(range(1000)), [], [])
    assert outcome(await datashare.submit(TAX, *rows)) == ([], list(range(1000)), [])
    (series,) = await datashare.read("tax_filing", uscc=rows[-1].subject.uscc)
    assert table(series)[202403]["grade"] == 4


async def test_what_is_stored_names_no_counterparty(datashare: Datashare) -> None:
    await datashare.submit(TAX, invoice("a", counterparty="Acme Ltd"))
    async with datashare.database.read() as conn:
        payload = (await conn.execute(sa.select(record_table.c.payload))).scalar_one()
    assert b"Acme" not in payload
    assert len(payloads_pb2.VatInvoice.FromString(payload).counterparty_token) == 16
