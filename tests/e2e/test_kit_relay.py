"""Relayed calls and forwarded streams, where things go slowly, largely or wrongly."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from puhui.datashare.v1 import records_pb2, subjects_pb2
from services.kit.client import MAX_MESSAGE_BYTES, Channel
from services.kit.clock import SystemClock
from services.kit.errors import OutOfRangeError, PuhuiError, UnavailableError, UnimplementedError
from services.kit.identity import DATASHARE, GATEWAY, Caller, IdentitySigner, new_key_pair
from services.kit.relay import Relayer, RelayItem
from tests.fakes.backend import Backend, start_backend

PRIVATE, PUBLIC = new_key_pair()
SIGNER = IdentitySigner(PRIVATE, GATEWAY, SystemClock())
RESOLVE = "/puhui.datashare.v1.SubjectService/ResolveSubject"
PUSH = "/puhui.datashare.v1.RecordService/PushRecords"


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    made = await start_backend(PUBLIC)
    yield made
    await asyncio.gather(made.datashare.stop(), made.scoring.stop())


@pytest.fixture
async def channel(backend: Backend) -> AsyncIterator[Channel]:
    gateway = SIGNER.sign(Caller("gateway", "GATEWAY"), DATASHARE)
    made = Channel(f"127.0.0.1:{backend.datashare.port}", lambda: gateway)
    yield made
    await made.close()


def item(uscc: str, method: str = RESOLVE, seconds: float = 5.0) -> RelayItem:
    body = subjects_pb2.ResolveSubjectRequest(uscc=uscc).SerializeToString()
    deadline = asyncio.get_running_loop().time() + seconds
    return RelayItem(method, body, SIGNER.sign(Caller("par_1", "BANK"), DATASHARE), "", deadline)


async def outcome(relayer: Relayer, each: RelayItem) -> str:
    try:
        body = await relayer.call(each)
    except PuhuiError as error:
        return error.reason
    return subjects_pb2.ResolveSubjectResponse.FromString(body).subject_id


async def test_a_slow_call_holds_up_none_that_travels_with_it(channel: Channel) -> None:
    relayer = Relayer(channel, SystemClock())
    slow, *quick = [
        asyncio.create_task(outcome(relayer, item(uscc))) for uscc in ("slow", "a", "b", "fault")
    ]
    async with asyncio.timeout(0.8):
        assert await asyncio.gather(*quick) == ["sub_a", "sub_b", "INTERNAL"]
    assert not slow.done()
    assert await slow == "sub_slow"


async def test_each_call_keeps_its_own_deadline(channel: Channel) -> None:
    relayer = Relayer(channel, SystemClock())
    calls = (item("slow", seconds=0.2), item("slow"), item("a", seconds=-1.0))
    found = await asyncio.gather(*(outcome(relayer, each) for each in calls))
    assert found == ["DEADLINE_EXCEEDED", "sub_slow", "DEADLINE_EXCEEDED"]


async def test_what_cannot_be_relayed_is_refused_alone(channel: Channel) -> None:
    relayer = Relayer(channel, SystemClock())
    calls = (item("a", "/puhui.x.v1.None/None"), item("a", PUSH), item("a"))
    found = await asyncio.gather(*(outcome(relayer, each) for each in calls))
    assert found == ["UNKNOWN_METHOD", "UNKNOWN_METHOD", "sub_a"]


async def test_large_answers_do_not_burst_the_message_that_they_share(channel: Channel) -> None:
    relayer = Relayer(channel, SystemClock())
    found = await asyncio.gather(*(relayer.call(item("large")) for _ in range(40)))
    assert sum(map(len, found)) > 2 * MAX_MESSAGE_BYTES


async def test_without_the_service_every_waiting_call_is_told(backend: Backend) -> None:
    await backend.datashare.stop()
    channel = Channel(f"127.0.0.1:{backend.datashare.port}", lambda: "")
    relayer = Relayer(channel, SystemClock())
    found = await asyncio.gather(
        *(relayer.call(item("a")) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(each, UnavailableError) for each in found)
    await channel.close()


async def test_an_error_in_the_requests_ends_the_stream_on_both_sides(
    channel: Channel, backend: Backend
) -> None:
    async def bodies() -> AsyncIterator[bytes]:
        header = records_pb2.PushHeader(delivery_id="stop-reading")
        yield records_pb2.PushRecordsRequest(header=header).SerializeToString()
        await asyncio.sleep(0.05)
        raise OutOfRangeError("OUT_OF_SEQUENCE", "not in order")

    identity = SIGNER.sign(Caller("par_tax", "PROVIDER"), DATASHARE)
    responses = channel.stream(PUSH, bodies(), (("x-puhui-identity", identity),), timeout=5)
    assert await anext(responses)
    with pytest.raises(OutOfRangeError):
        await anext(responses)
    await asyncio.wait_for(backend.notes.cancelled.wait(), 5)


async def test_a_method_that_is_not_there_is_told_with_its_reason(channel: Channel) -> None:
    with pytest.raises(UnimplementedError) as refusal:
        await channel.forward("/puhui.x.v1.None/None", b"", (), 5)
    assert refusal.value.reason == "UNKNOWN_METHOD"
