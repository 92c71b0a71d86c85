import pytest

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2, records_pb2
from services.kit.calls import parse
from services.kit.errors import InvalidArgumentError


def test_every_text_with_nul_is_refused_by_the_name_of_its_field() -> None:
    request = accesses_pb2.FetchSummaryRequest(
        fetch=accesses_pb2.SummaryFetch(
            request_id="request-1",
            subject_id="sub_1",
            purpose="credit_application",
            record_types=["vat_invoice", "tax\0filing"],
            officer=types_pb2.Officer(name="Li\0", file_reference="2026-1"),
        )
    )
    with pytest.raises(InvalidArgumentError) as caught:
        parse(accesses_pb2.FetchSummaryRequest, request.SerializeToString())
    assert caught.value.reason == "FIELD_INVALID"
    assert [problem.field for problem in caught.value.fields] == [
        "fetch.record_types[1]",
        "fetch.officer.name",
    ]


def test_records_are_left_to_those_who_check_each_alone() -> None:
    batch = records_pb2.PushBatch(
        sequence=1, records=[records_pb2.Record(provider_record_id="a\0")]
    )
    assert parse(records_pb2.PushBatch, batch.SerializeToString()) == batch
