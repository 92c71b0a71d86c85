"""Where a delivery goes on, what is counted of it, and what its signatures cover."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.datashare.deliveries.domain import (
    Claim,
    Controls,
    Delivery,
    Evidence,
    Group,
    Sum,
    Tally,
    Total,
    both_ends,
    canonical,
    chained,
    check_opened,
    check_reopened,
    claim,
    evidence_place,
    refusals,
    submissions,
    tallied,
)
from services.datashare.records.domain import Ack, Held, Rejection
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    OutOfRangeError,
)

NOW = datetime(2024, 6, 15, tzinfo=UTC)
MAY, JUNE = Group("vat_invoice", 202405), Group("vat_invoice", 202406)


def test_a_delivery_goes_on_where_it_was() -> None:
    new = Delivery("par_tax", "d1", historical=False)
    assert new.earlier(1, b"1") is None
    ack = Ack(4, accepted=(0,))
    delivery = replace(new, last_ack=ack, last_sha256=b"4")
    assert delivery.earlier(4, b"4") is ack
    assert delivery.earlier(5, b"4") is None
    with pytest.raises(AlreadyExistsError) as mismatch:
        delivery.earlier(4, b"5")
    assert mismatch.value.reason == "DELIVERY_MISMATCH"
    for sequence in (1, 3, 6):
        with pytest.raises(OutOfRangeError, match="the next batch of this delivery is 5") as caught:
            delivery.earlier(sequence, b"4")
        assert caught.value.reason == "OUT_OF_SEQUENCE"


def test_a_delivery_is_opened_again_as_it_was() -> None:
    delivery = Delivery("par_tax", "d1", historical=True)
    check_reopened(delivery, historical=True)
    with pytest.raises(InvalidArgumentError) as caught:
        check_reopened(delivery, historical=False)
    assert caught.value.fields[0].field == "header.historical"


def test_a_closed_delivery_answers_its_last_batch_and_takes_no_other() -> None:
    ack = Ack(2, accepted=(0,))
    delivery = Delivery("par_tax", "d1", False, ack, b"2", closed_at=NOW)
    assert delivery.earlier(2, b"2") is ack
    for sequence in (1, 3):
        with pytest.raises(FailedPreconditionError, match="closed after batch 2") as caught:
            delivery.earlier(sequence, b"3")
        assert caught.value.reason == "DELIVERY_CLOSED"


def test_the_chain_stands_for_every_batch_in_order() -> None:
    delivery = Delivery("par_tax", "d1", historical=False)
    hashes = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    chain = b""
    for sequence, sha256 in enumerate(hashes, start=1):
        delivery = delivery.advanced(Ack(sequence), sha256)
        chain = hashlib.sha256(chain + sha256).digest()
        assert delivery.chain_sha256 == chain
    assert chained(chained(chained(b"", hashes[1]), hashes[0]), hashes[2]) != chain


def test_the_chain_of_a_delivery_that_was_begun_without_stays_unknown() -> None:
    begun = Delivery("par_tax", "d1", False, Ack(3), b"3")
    assert begun.advanced(Ack(4), b"4").chain_sha256 == b""


@pytest.mark.parametrize(
    "delivery_id", ["submitted-2024-06-15", "d\n1", "d\x7f", "file-91110108MA0000015T-2026"]
)
def test_names_that_no_delivery_has(delivery_id: str) -> None:
    assert submissions(NOW) == "submitted-2024-06-15"
    with pytest.raises(InvalidArgumentError) as caught:
        check_opened(delivery_id)
    assert caught.value.fields[0].field == "header.delivery_id"


@pytest.mark.parametrize("delivery_id", ["submitted-", "submitted-2024-13-15", "d", "期末"])
def test_other_names_are_free(delivery_id: str) -> None:
    check_opened(delivery_id)


def test_a_day_is_one_of_china() -> None:
    assert submissions(datetime(2024, 6, 15, 15, 59, 59, tzinfo=UTC)) == "submitted-2024-06-15"
    assert submissions(datetime(2024, 6, 15, 16, tzinfo=UTC)) == "submitted-2024-06-16"


def test_every_row_is_tallied_once() -> None:
    controls = Controls([MAY, MAY, JUNE, MAY, JUNE], {MAY: Sum(3, 30), JUNE: Sum(2, -5)})
    ack = Ack(
        1,
        accepted=(0,),
        duplicates=(2,),
        rejections=(Rejection(1, "DATE_INVALID", "date", "x"), Rejection(4, "A", "b", "c")),
        held=(Held(3, "rev_1"),),
    )
    assert tallied(controls, ack) == {
        MAY: Tally(3, accepted=1, duplicates=0, held=1, rejected=1, amount=30),
        JUNE: Tally(2, accepted=0, duplicates=1, held=0, rejected=1, amount=-5),
    }
    assert refusals(controls, ack) == {("vat_invoice", "DATE_INVALID"): 1, ("vat_invoice", "A"): 1}


def test_both_ends_are_compared_group_by_group() -> None:
    sent = {MAY: Sum(3, 30)}
    received = {MAY: Sum(3, 30), JUNE: Sum(1, 5)}
    totals = sorted(both_ends(sent, received))
    assert totals == [
        Total(MAY, Sum(3, 30), Sum(3, 30)),
        Total(JUNE, Sum(0, 0), Sum(1, 5)),
    ]
    assert [total.agrees for total in totals] == [True, False]
    assert not Total(MAY, Sum(3, 30), Sum(3, 31)).agrees


@pytest.mark.parametrize(
    ("rows", "totals", "field"),
    [
        (2**63, [], "close.rows"),
        (2, [(MAY, Sum(1, 1)), (MAY, Sum(1, 1))], "close.totals[1]"),
        (2, [(MAY, Sum(2**63, 1))], "close.totals[0].rows"),
        (1, [(Group("vat\0", 202405), Sum(1, 1))], "close.totals[0].record_type"),
    ],
)
def test_a_claim_that_cannot_be(rows: int, totals: list[tuple[Group, Sum]], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        claim(rows, totals)
    assert caught.value.fields[0].field == field


def test_a_claim() -> None:
    assert claim(3, [(MAY, Sum(1, 1)), (JUNE, Sum(2, 2))]) == Claim(
        3, {MAY: Sum(1, 1), JUNE: Sum(2, 2)}
    )


def test_canonical_bytes_name_each_record_in_order() -> None:
    one, two = (hashlib.sha256(row).digest() for row in (b"1", b"2"))
    assert canonical("d", 7, one + two) == (
        f"puhui batch v1\nd\n7\n{one.hex()}\n{two.hex()}\n".encode()
    )
    assert canonical("", 0, b"") == b"puhui batch v1\n\n0\n"


def test_evidence_covers_what_was_signed() -> None:
    digest = hashlib.sha256(b"row").digest()
    delivery = Delivery("par_tax", "d1", historical=False)
    kept = Evidence(
        *evidence_place(delivery, 7, digest),
        sequence=7,
        key_id="k",
        jws="a..b",
        record_sha256s=digest,
        recorded_at=NOW,
    )
    assert kept.delivery_id == "d1"
    assert kept.canonical == canonical("d1", 7, digest)
    covered = canonical("", 0, digest)
    place = evidence_place(delivery, 0, digest)
    single = replace(kept, delivery_id=place.delivery_id, sequence=0)
    assert single.delivery_id == hashlib.sha256(covered).hexdigest()
    assert single.canonical == covered
