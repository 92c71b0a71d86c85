from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest

from puhui.datashare.v1.catalogue_pb2 import ListRecordTypesResponse, RecordTypePolicy
from puhui.datashare.v1.records_pb2 import ControlTotal, PushBatch, PushClose, Record
from puhui_client import (
    AlreadyExistsError,
    BatchAck,
    Client,
    Held,
    InvalidArgumentError,
    OutOfRangeError,
    UnavailableError,
    records,
    values,
)
from puhui_client.canonical import canonical_batch
from tests.fakes.platform import FakePlatform


def row(number: int, headcount: int = 10) -> Record:
    return records.social_insurance(
        record_id=f"r{number}",
        uscc="91110000MA00000077",
        occurred=date(2024, 5, 1),
        obtained_at=datetime(2024, 6, 1, tzinfo=UTC),
        headcount=headcount,
    )


def rows(count: int) -> Iterator[Record]:
    return (row(n) for n in range(count))


async def test_rows_travel_in_batches_in_sequence(client: Client, platform: FakePlatform) -> None:
    acks: list[BatchAck] = []
    report = await client.push(rows(25), delivery_id="d", batch_size=10, on_ack=acks.append)
    assert platform.records.batches == [("d", 1, 10), ("d", 2, 10), ("d", 3, 5)]
    assert (report.sent, report.accepted, report.duplicate, report.rejected) == (25, 25, 0, {})
    assert [(a.sequence, a.first_row, a.rows) for a in acks] == [
        (1, 0, 10),
        (2, 10, 10),
        (3, 20, 5),
    ]


async def test_nothing_to_push(client: Client) -> None:
    report = await client.push([])
    assert (report.sent, report.skipped) == (0, 0)


async def test_prebuilt_batches_are_numbered_and_not_changed(
    client: Client, platform: FakePlatform
) -> None:
    batches = [PushBatch(records=[row(1), row(2)]), PushBatch(records=[row(3)])]
    report = await client.push(batches, delivery_id="d")
    assert platform.records.batches == [("d", 1, 2), ("d", 2, 1)]
    assert report.accepted == 3
    assert [batch.sequence for batch in batches] == [0, 0]


async def test_rows_may_come_asynchronously(client: Client, platform: FakePlatform) -> None:
    async def feed() -> AsyncIterator[Record]:
        for one in rows(5):
            yield one

    report = await client.push(feed(), delivery_id="d", batch_size=2)
    assert [batch[2] for batch in platform.records.batches] == [2, 2, 1]
    assert report.accepted == 5


async def test_rejections_carry_the_index_into_the_whole_input(client: Client) -> None:
    report = await client.push(
        [row(0), row(1, -1), row(2), row(3), row(4, -1), row(2)], batch_size=2, keep_rejections=1
    )
    assert (report.sent, report.accepted, report.duplicate) == (6, 3, 1)
    assert report.rejected == {"NUMBER_OUT_OF_RANGE": 2}
    (first,) = report.rejections
    assert (first.row, first.record_id) == (1, "r1")
    assert (first.reason, first.field) == ("NUMBER_OUT_OF_RANGE", "social_insurance.headcount")


async def test_the_window_bounds_what_is_on_its_way(client: Client, platform: FakePlatform) -> None:
    # The platform keeps its acks until three batches wait for one: a smaller window would stall.
    platform.records.hold_acks_for = 3
    report = await client.push(rows(9), batch_size=1, window=3, ack_timeout=2)
    assert report.accepted == 9
    assert platform.records.most_unacked == 3


async def test_a_dropped_stream_goes_on_where_it_stopped(
    client: Client, platform: FakePlatform
) -> None:
    platform.records.drops.extend([(2, 0), (0, 0)])
    report = await client.push(rows(100), delivery_id="d", batch_size=10)
    assert [batch[1] for batch in platform.records.batches] == list(range(1, 11))
    assert (report.sent, report.accepted, report.duplicate) == (100, 100, 0)
    assert report.reconnects == 2
    assert platform.records.streams == 3


async def test_batches_whose_acks_were_lost_are_all_accounted_for(
    client: Client, platform: FakePlatform
) -> None:
    # One ack, then two batches stored without, then the drop with a third: three acks are lost.
    platform.records.drops.append((1, 2))
    pushed = [row(n, -1 if n in {12, 25, 33} else 1) for n in range(60)]
    report = await client.push(pushed, delivery_id="d", batch_size=10)
    assert report.sent == 60
    assert report.rejected == {"NUMBER_OUT_OF_RANGE": 3}
    assert [rejection.row for rejection in report.rejections] == [12, 25, 33]
    # The last lost ack came again with PushReady; the rows of the two before it were asked for
    # again and are there once.
    assert (report.accepted, report.duplicate) == (39, 18)
    assert len(platform.records.stored) == 57


async def test_the_same_delivery_resumes_in_another_process(
    client: Client, platform: FakePlatform
) -> None:
    def dies() -> Iterator[Record]:
        yield from rows(50)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        await client.push(dies(), delivery_id="d", batch_size=10, window=1)
    report = await client.push(rows(80), delivery_id="d", batch_size=10)
    assert [batch[1] for batch in platform.records.batches] == list(range(1, 9))
    assert report.skipped + report.sent == 80
    assert report.duplicate == 0
    assert len(platform.records.stored) == 80


@pytest.mark.parametrize(
    ("again", "batch_size", "problem"),
    [
        (rows(120), 20, "has other rows in batch 5"),
        (rows(80), 40, "has more batches than these rows make"),
        ((row(n, 11) for n in range(80)), 10, "has other rows in batch 5"),
        ((row(n, 11 if n == 3 else 10) for n in range(80)), 10, "other rows in a batch before 5"),
        (rows(0), 10, "has more batches than these rows make"),
    ],
    ids=["larger batches", "few batches", "other rows", "one other row", "no rows"],
)
async def test_a_delivery_is_not_resumed_with_something_else(
    client: Client,
    platform: FakePlatform,
    again: Iterator[Record],
    batch_size: int,
    problem: str,
) -> None:
    await client.push(rows(50), delivery_id="d", batch_size=10)
    with pytest.raises(AlreadyExistsError, match=problem) as caught:
        await client.push(again, delivery_id="d", batch_size=batch_size)
    assert caught.value.reason == "DELIVERY_MISMATCH"
    assert len(platform.records.batches) == 5


async def test_a_platform_that_keeps_no_chain_is_believed(
    client: Client, platform: FakePlatform
) -> None:
    await client.push(rows(50), delivery_id="d", batch_size=10)
    platform.records.chain["d"] = b""
    report = await client.push(rows(60), delivery_id="d", batch_size=10)
    assert (report.skipped, report.sent) == (50, 10)


async def test_waits_for_a_platform_that_is_still_busy_with_the_dropped_stream(
    client: Client, platform: FakePlatform
) -> None:
    platform.records.drops.append((2, 0))
    platform.records.stale = 2
    report = await client.push(rows(50), delivery_id="d", batch_size=10)
    assert (report.sent, report.accepted, report.duplicate) == (50, 50, 0)
    assert report.reconnects == 3


async def test_gives_up_when_nothing_gets_through() -> None:
    async with Client("127.0.0.1:1", "k.s") as client:
        with pytest.raises(UnavailableError):
            await client.push(rows(1), patience=0.5)


async def test_gives_up_on_a_platform_that_never_acks(
    client: Client, platform: FakePlatform
) -> None:
    platform.records.hangs = True
    with pytest.raises(UnavailableError, match="no ack in time"):
        await client.push(rows(1), ack_timeout=0.1, patience=0)


async def test_a_source_that_fails_is_told_even_where_the_stream_drops(
    client: Client, platform: FakePlatform
) -> None:
    def breaks() -> Iterator[Record]:
        yield row(1)
        raise OSError("the disk is gone")

    for _ in range(20):  # which of the two comes first differs
        platform.records.drops.append((0, 0))
        with pytest.raises(OSError, match="the disk is gone"):
            await client.push(breaks(), batch_size=1)


async def test_a_refusal_is_not_tried_again(client: Client, platform: FakePlatform) -> None:
    batches = [PushBatch(records=list(rows(1001)))]
    with pytest.raises(InvalidArgumentError, match="BATCH_TOO_LARGE"):
        await client.push(batches, delivery_id="d")
    assert platform.records.streams == 1


async def test_a_refusal_is_told_although_batches_were_on_their_way(
    client: Client, platform: FakePlatform
) -> None:
    batches = [PushBatch(records=list(rows(n))) for n in (1, 1, 1001, *[1] * 30)]
    with pytest.raises(InvalidArgumentError, match="BATCH_TOO_LARGE"):
        await client.push(batches, delivery_id="d", window=20)
    assert platform.records.streams <= 2


async def test_a_delivery_that_others_advance_fails(client: Client, platform: FakePlatform) -> None:
    def meddled() -> Iterator[PushBatch]:
        yield PushBatch(records=[row(1)])
        platform.records.last.clear()
        yield PushBatch(records=[row(2)])

    with pytest.raises(OutOfRangeError, match="OUT_OF_SEQUENCE"):
        await client.push(meddled(), delivery_id="d", window=1)


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"batch_size": 1001}, {"window": 0}])
async def test_impossible_sizes(client: Client, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        await client.push(rows(1), **arguments)


class Stamp:
    """Signs with what it was given, for all to see."""

    def sign(self, content: bytes) -> str:
        return content.decode()


async def test_batches_are_signed_as_they_are_numbered(
    client: Client, platform: FakePlatform
) -> None:
    batches = [PushBatch(records=[row(1), row(2)]), PushBatch(records=[row(3)])]
    await client.push(batches, delivery_id="d", signer=Stamp())
    assert platform.records.jws == [
        canonical_batch("d", 1, [row(1), row(2)]).decode(),
        canonical_batch("d", 2, [row(3)]).decode(),
    ]
    await client.submit([row(4)], signer=Stamp())
    assert platform.records.jws[-1] == canonical_batch("", 0, [row(4)]).decode()


async def test_rows_that_are_asked_for_again_are_signed(
    client: Client, platform: FakePlatform
) -> None:
    platform.records.drops.append((1, 2))
    report = await client.push(rows(60), delivery_id="d", batch_size=10, signer=Stamp())
    assert report.reconnects == 1
    again = [jws for jws in platform.records.jws if jws.startswith("puhui batch v1\n\n0\n")]
    assert len(again) == 2
    assert "" not in platform.records.jws


async def test_rows_that_are_held_are_told_with_their_reviews(client: Client) -> None:
    unknown = row(1)
    unknown.ClearField("subject")
    unknown.hint.name = "某某科技"
    report = await client.push([row(0), unknown, row(2)])
    assert (report.sent, report.accepted, report.held) == (3, 2, 1)
    assert report.reviews == [Held(row=1, record_id="r1", review_id="rev_r1")]


COUNTED = PushClose(rows=25, totals=[ControlTotal(record_type="t", month=202405, rows=25)])


async def test_a_delivery_closes_with_totals(client: Client, platform: FakePlatform) -> None:
    report = await client.push(rows(25), delivery_id="d", batch_size=10, totals=COUNTED)
    assert platform.records.closes["d"] == COUNTED
    assert report.reconciliation is not None
    assert report.reconciliation.agrees
    assert report.accepted == 25


async def test_the_close_is_sent_again_after_a_drop(client: Client, platform: FakePlatform) -> None:
    platform.records.drops.append((1, 0))
    platform.records.drop_closes = 2
    report = await client.push(rows(25), delivery_id="d", batch_size=10, totals=COUNTED)
    assert report.reconnects == 3
    assert report.reconciliation is not None
    assert report.reconciliation.rows_received == 25


async def test_a_delivery_that_was_closed_is_closed_again_by_a_later_process(
    client: Client, platform: FakePlatform
) -> None:
    first = await client.push(rows(25), delivery_id="d", batch_size=10, totals=COUNTED)
    again = await client.push(rows(25), delivery_id="d", batch_size=10, totals=COUNTED)
    assert (again.skipped, again.sent) == (25, 0)
    assert again.reconciliation == first.reconciliation


async def test_ends_that_counted_differently_do_not_agree(
    client: Client, platform: FakePlatform
) -> None:
    platform.records.loses_rows = 1
    report = await client.push(rows(25), totals=COUNTED)
    assert report.reconciliation is not None
    assert not report.reconciliation.agrees


async def test_a_platform_that_does_not_answer_the_close_counts_as_lost(
    client: Client, platform: FakePlatform
) -> None:
    platform.records.drop_closes = 1000
    with pytest.raises(UnavailableError):
        await client.push(rows(1), totals=COUNTED, patience=0.3)


async def test_totals_count_every_row_once_whatever_was_sent_before(
    client: Client, platform: FakePlatform
) -> None:
    policy = RecordTypePolicy(record_type="social_insurance", control_field="paid")
    platform.answer("ListRecordTypes", ListRecordTypesResponse(types=[policy]))
    paid = [row(n) for n in range(30)]
    for one in paid:
        one.social_insurance.paid.CopyFrom(values.to_money("0.10"))
    await client.push(paid[:20], delivery_id="d", batch_size=10)
    platform.records.drops.append((0, 0))
    report = await client.push(paid, delivery_id="d", batch_size=10, totals=True)
    assert report.skipped == 20
    (total,) = platform.records.closes["d"].totals
    assert (total.record_type, total.month, total.rows, total.sum) == (
        "social_insurance",
        202405,
        30,
        300,
    )


@pytest.mark.parametrize(("known", "skipped", "asked"), [(None, 50, 0), (5, 50, 0), (2, 20, 2)])
async def test_what_a_process_that_died_was_not_told_is_asked_again(
    client: Client, platform: FakePlatform, known: int | None, skipped: int, asked: int
) -> None:
    pushed = [row(n, -1 if n in {5, 25, 45} else 1) for n in range(60)]
    await client.push(pushed[:50], delivery_id="d", batch_size=10)
    acks: list[BatchAck] = []
    before = len(platform.records.jws)
    report = await client.push(
        pushed, delivery_id="d", batch_size=10, acked_through=known, on_ack=acks.append
    )
    assert (report.skipped, report.skipped + report.sent) == (skipped, 60)
    told = [rejection.row for ack in acks for rejection in ack.rejections]
    assert told == ([25, 45] if known == 2 else [])
    # The last batch's ack came with PushReady; the two before it were asked for.
    assert len(platform.records.jws) - before == asked + 1


async def test_a_drop_while_it_is_asked_again_loses_nothing(
    client: Client, platform: FakePlatform
) -> None:
    await client.push(rows(50), delivery_id="d", batch_size=10)
    platform.records.refused_submits = 6  # more than a call is repeated
    report = await client.push(rows(70), delivery_id="d", batch_size=10, acked_through=0)
    assert report.reconnects >= 1
    assert (report.skipped, report.sent) == (0, 70)
    assert len(platform.records.stored) == 70
