"""What is read of a batch as it was sent: the same as its provider computes."""

import hashlib
import json
from base64 import b64decode

import pytest
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st

from puhui.common.v1.types_pb2 import DatePeriod
from puhui.datashare.v1 import records_pb2 as pb
from puhui.datashare.v1.payloads_pb2 import Grant, VatInvoice
from puhui_client.totals import Totals
from services.datashare.catalogue.loader import load
from services.datashare.deliveries.domain import Group, Sum, canonical
from services.datashare.deliveries.signatures import named_key, verify
from services.datashare.deliveries.wire import Reader, control_fields
from services.datashare.participants.jwk import public_key
from services.kit.errors import InvalidArgumentError
from tests.golden.batch_signature import FILE

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))
FIELDS = control_fields(load())
READER = Reader(FIELDS)

DAYS = st.builds(Date, year=st.integers(-5, 10_000), month=st.integers(-1, 14), day=st.just(40))
NANOS = st.integers(-(2**31), 2**31 - 1) | st.integers(-99, 99).map(lambda fen: fen * 10**7)
UNITS = (
    st.integers(-200, 200) | st.integers(10**11 - 1, 10**11 + 1) | st.integers(-(2**63), 2**63 - 1)
)
AMOUNTS = st.builds(
    Money, currency_code=st.sampled_from(["CNY", "CNY", "USD", ""]), units=UNITS, nanos=NANOS
)
PAYLOADS = st.one_of(
    st.none(),
    st.builds(VatInvoice, gross=AMOUNTS, net=AMOUNTS),
    st.builds(Grant, amount=AMOUNTS),
)


@st.composite
def records(draw: st.DrawFn) -> pb.Record:
    """Records as nobody should send them, and some as they should be."""
    names = st.sampled_from(["vat_invoice", "grant", "registration", "", "x" * 70])
    row = pb.Record(record_type=draw(names))
    payload = draw(PAYLOADS)
    if isinstance(payload, VatInvoice):
        row.vat_invoice.CopyFrom(payload)
    elif payload is not None:
        row.grant.CopyFrom(payload)
    occurred = draw(st.none() | DAYS | st.builds(DatePeriod, to=DAYS))
    if isinstance(occurred, DatePeriod):
        row.period.CopyFrom(occurred)
    elif occurred is not None:
        row.date.CopyFrom(occurred)
    return row


@given(st.lists(records(), max_size=20))
def test_both_ends_count_alike(sent: list[pb.Record]) -> None:
    before = [row.SerializeToString(deterministic=True) for row in sent]
    controls = READER.controls(sent)
    assert [row.SerializeToString(deterministic=True) for row in sent] == before
    totals = Totals(FIELDS)
    totals.add(sent)
    assert {
        Group(total.record_type, total.month): Sum(total.rows, total.sum)
        for total in totals.close().totals
    } == controls.sums
    assert len(controls.groups) == len(sent)


def test_the_sums_of_the_largest_batches_fit() -> None:
    largest = Money(currency_code="CNY", units=10**11, nanos=2**31 - 1)
    row = pb.Record(record_type="vat_invoice", vat_invoice=VatInvoice(gross=largest))
    (total,) = READER.controls([row]).sums.values()
    assert total.amount * 900_000 < 2**63


@pytest.mark.parametrize("case", GOLDEN["batches"], ids=lambda case: case["name"])
def test_golden_signatures(case: dict[str, str]) -> None:
    rows = [pb.Record.FromString(b64decode(row)) for row in case["records"]]
    batch = pb.PushBatch(sequence=int(case["sequence"]), records=rows, jws=case["jws"])
    sent = READER.batch(batch)
    content = canonical(case["delivery_id"], batch.sequence, sent.record_sha256s)
    assert content.decode() == case["canonical"]
    key = public_key(json.dumps(GOLDEN["keys"][case["key"]]["public_jwk"]))
    assert key.key_id == GOLDEN["keys"][case["key"]]["key_id"]
    assert named_key(sent.jws) == key.key_id
    verify(sent.jws, key.jwk, content)
    with pytest.raises(InvalidArgumentError) as caught:
        verify(sent.jws, key.jwk, content + b"\n")
    assert caught.value.reason == "SIGNATURE_INVALID"


def test_what_a_signature_does_to_the_hash_of_a_batch() -> None:
    rows = [pb.Record(provider_record_id="a"), pb.Record(provider_record_id="b")]
    plain = READER.batch(pb.PushBatch(sequence=3, records=rows))
    signed = READER.batch(pb.PushBatch(sequence=4, records=rows, jws="a..b"))
    content = pb.PushBatch(records=rows).SerializeToString(deterministic=True)
    assert plain.sha256 == signed.sha256 == hashlib.sha256(content).digest()
    assert plain.record_sha256s == b""
    assert signed.record_sha256s == b"".join(
        hashlib.sha256(row.SerializeToString(deterministic=True)).digest() for row in rows
    )


def test_a_submission_is_read_like_a_batch() -> None:
    rows = [pb.Record(provider_record_id="a")]
    request = pb.SubmitRecordsRequest(records=rows, jws="a..b")
    batch = READER.batch(pb.PushBatch(records=rows, jws="a..b"))
    sent = READER.submission(request)
    assert (sent.controls, sent.jws, sent.record_sha256s) == (
        batch.controls,
        batch.jws,
        batch.record_sha256s,
    )
