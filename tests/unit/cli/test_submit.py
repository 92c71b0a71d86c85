"""`puhui submit`."""

from pathlib import Path

from google.protobuf.json_format import MessageToJson

from puhui.datashare.v1.records_pb2 import Record
from puhui_client.canonical import canonical_batch
from puhui_client.signing import new_key
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run
from tests.unit.client.test_push import row


def write(*records: Record, more: str = "") -> None:
    lines = [MessageToJson(record, indent=None) for record in records]
    Path("rows.jsonl").write_text("\n".join(lines) + f"\n{more}")


def test_rows_are_sent_in_single_calls(call: Run, platform: FakePlatform) -> None:
    write(*(row(number) for number in range(1_001)), row(0))
    done = call("submit", "rows.jsonl", "--json")
    assert done.code == 0
    assert done.document == {"accepted": 1_001, "duplicate": 1, "held": [], "not_in": []}
    sent = [len(request.records) for request in platform.requests("SubmitRecords")]
    assert sent == [1_000, 2]


def test_what_is_not_in_is_told_by_its_line(call: Run, platform: FakePlatform) -> None:
    named = row(3)
    named.hint.name = "甲公司"
    write(row(1), row(2, -1), named, more='{"no_such_field": 1}\n')
    done = call("submit", "rows.jsonl", "--json")
    assert done.code == 1
    assert done.document["accepted"] == 1
    assert done.document["held"] == [{"line": 3, "record_id": "r3", "review_id": "rev_r3"}]
    assert [(each["line"], each["reason"], each["field"]) for each in done.document["not_in"]] == [
        (4, "MALFORMED_MESSAGE", ""),
        (2, "NUMBER_OUT_OF_RANGE", "social_insurance.headcount"),
    ]
    shown = call("submit", "rows.jsonl").out
    assert "a count is never negative" in shown
    assert "held for a review" in shown


def test_what_is_sent_is_signed(call: Run, platform: FakePlatform) -> None:
    key = new_key()
    Path("key.pem").write_text(key.pem)
    Path("key.pem").chmod(0o600)
    write(row(1), row(2))
    assert call("submit", "rows.jsonl", "--sign-with", "key.pem").code == 0
    (request,) = platform.requests("SubmitRecords")
    key.public.verify(request.jws, canonical_batch("", 0, request.records))


def test_a_file_that_cannot_be_read(call: Run, platform: FakePlatform) -> None:
    Path("rows.csv").write_text("provider_record_id\n1\n")
    done = call("submit", "rows.csv")
    assert done.code == 2
    assert not platform.requests("SubmitRecords")
