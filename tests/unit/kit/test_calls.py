import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2, records_pb2
from services.kit.calls import Call, Endpoint, Pipeline, Timeouts, parse
from services.kit.errors import DeadlineExceededError, InvalidArgumentError
from services.kit.identity import Caller
from services.kit.telemetry import Telemetry


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


async def a_bank(_call: Call) -> Caller:
    return Caller("par_1", "BANK")


async def one_then_none(_request: Any, _context: Any) -> AsyncGenerator[bytes]:
    yield b"first"
    await asyncio.Event().wait()


async def bodies(*, sent: bool) -> AsyncIterator[bytes]:
    if not sent:
        await asyncio.Event().wait()
    yield b"request"


@pytest.mark.parametrize(("longest", "named"), [(0.05, None), (0.05, 9.0), (9.0, 0.05)])
@pytest.mark.parametrize("sent", [True, False])
async def test_a_stream_ends_at_its_deadline(
    longest: float, named: float | None, sent: bool
) -> None:
    pipeline = Pipeline(a_bank, Telemetry("test"), Timeouts(stream=longest))
    endpoint = Endpoint("/x.X/Y", frozenset({"BANK"}), False, True, None, one_then_none)
    responses = pipeline.stream(endpoint, Call(timeout=named), bodies(sent=sent))
    async with asyncio.timeout(2):
        if sent:
            assert await anext(responses) == b"first"
        with pytest.raises(DeadlineExceededError):
            await anext(responses)
