"""gRPC at the gateway on the wire: bytes as they are, compressed or not, and what stands around."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from puhui.datashare.v1 import notices_pb2, records_pb2, subjects_pb2
from services.kit.server import ServerConfig
from tests.e2e.gateway import Entrance, entrance, eventually, told
from tests.e2e.test_gateway_grpc import RESOLVE, SUBMIT, resolve
from tests.fakes.backend import NEWER

NOTICES = "datashare.v1.NoticeService/StreamNotices"


@pytest.fixture
async def world() -> AsyncIterator[Entrance]:
    async with entrance() as made:
        yield made


async def test_fields_that_the_gateway_does_not_know_pass_both_ways(world: Entrance) -> None:
    body = resolve("newer").SerializeToString() + NEWER
    answer = await world.unary(RESOLVE, body, world.key("BANK"))
    [seen] = world.backend.notes.calls
    for message in (seen.request, subjects_pb2.ResolveSubjectResponse.FromString(answer)):
        unknown: Any = UnknownFieldSet(message)
        [field] = unknown
        assert (field.field_number, field.data) == (1999, b"newer")


async def test_what_a_service_answers_comes_back_byte_by_byte(world: Entrance) -> None:
    answer = await world.unary(RESOLVE, resolve("newer"), world.key("BANK"))
    said = subjects_pb2.ResolveSubjectResponse.FromString(NEWER)
    said.subject_id = "sub_newer"
    assert answer == said.SerializeToString()


async def test_health_is_told_to_anybody_and_reflection_only_where_it_is_wanted(
    world: Entrance,
) -> None:
    stub: Any = health_pb2_grpc.HealthStub(world.channel)
    await eventually(lambda: world.gateway.ready)
    answer = await stub.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    asked = reflection_pb2.ServerReflectionRequest(list_services="")

    async def services(channel: Any) -> set[str]:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([asked]))
        return {
            service.name async for found in call for service in found.list_services_response.service
        }

    assert "puhui.scoring.v1.ScoringService" in await services(world.channel)
    async with entrance(server=ServerConfig(grace=0.1, reflection=False)) as closed:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await services(closed.channel)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert told(refused.value).reason == "UNKNOWN_METHOD"


async def test_every_answer_is_marked_with_its_tenant(world: Entrance) -> None:
    for uscc in ("a", "fault"):
        method: Any = world.channel.unary_unary(f"/puhui.{RESOLVE}")
        call = method(resolve(uscc).SerializeToString(), metadata=world.metadata(world.key("BANK")))
        assert dict(await call.initial_metadata())["puhui-tenant"] == "sandbox"
    response = await world.http.get("/v1/whoami")
    assert response.headers["puhui-tenant"] == "sandbox"


@contextlib.asynccontextmanager
async def counted(world: Entrance) -> AsyncIterator[tuple[str, list[int]]]:
    """Give the address of a way to the gateway, and what went along it: sent, and received."""
    passed = [0, 0]

    async def along(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: int
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while content := await reader.read(64 * 1024):
                passed[direction] += len(content)
                writer.write(content)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", world.gateway.port)
        await asyncio.gather(along(reader, back, 0), along(there, writer, 1))

    way = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{way.sockets[0].getsockname()[1]}", passed
    finally:
        way.close()


async def test_large_messages_are_compressed_both_ways(world: Entrance) -> None:
    async with (
        counted(world) as (address, passed),
        grpc.aio.insecure_channel(address, compression=grpc.Compression.Gzip) as channel,
    ):
        record = records_pb2.Record(provider_record_id="x" * 1024 * 1024)
        request = records_pb2.SubmitRecordsRequest(records=[record])
        metadata = world.metadata(world.key("PROVIDER"))
        send: Any = channel.unary_unary(f"/puhui.{SUBMIT}")
        await send(request.SerializeToString(), metadata=metadata, timeout=10)
        assert len(world.backend.notes.calls[0].request.records[0].provider_record_id) == 1024**2
        call: Any = channel.unary_unary(f"/puhui.{RESOLVE}")
        answer = await call(
            resolve("large").SerializeToString(),
            metadata=world.metadata(world.key("BANK")),
            timeout=10,
        )
        assert len(answer) > 1024 * 1024
        assert passed[0] < 50_000
        assert passed[1] < 50_000


async def test_who_takes_no_gzip_gets_none(world: Entrance) -> None:
    identity_alone = [("grpc.compression_enabled_algorithms_bitset", 1)]
    async with (
        counted(world) as (address, passed),
        grpc.aio.insecure_channel(address, options=identity_alone) as channel,
    ):
        call: Any = channel.unary_unary(f"/puhui.{RESOLVE}")
        answer = await call(
            resolve("large").SerializeToString(),
            metadata=world.metadata(world.key("BANK")),
            timeout=10,
        )
    assert 1024 * 1024 < len(answer) < passed[1]


async def test_one_that_gives_up_takes_nobody_along(world: Entrance) -> None:
    key = world.key("BANK")
    calls = [asyncio.create_task(world.unary(RESOLVE, resolve("wait"), key)) for _ in range(4)]
    await eventually(lambda: len(world.backend.notes.calls) == 4)
    calls[0].cancel()
    await asyncio.sleep(0.1)
    world.backend.notes.go_on.set()
    assert all(b"sub_wait" in answer for answer in await asyncio.gather(*calls[1:]))


async def test_a_bank_that_reads_slowly_holds_the_service_back(world: Entrance) -> None:
    stream = world.stream(NOTICES, world.key("FIRM"), timeout=60)
    await stream.write(notices_pb2.StreamNoticesRequest(cursor="flood").SerializeToString())
    await stream.done_writing()
    await stream.read()
    before = -1
    async with asyncio.timeout(20):
        while before != world.backend.notices.told:
            before = world.backend.notices.told
            await asyncio.sleep(0.3)
    assert before < 400  # of 100 kB each
    for _ in range(before + 10):
        await stream.read()
    assert world.backend.notices.told > before
    stream.cancel()
    await asyncio.wait_for(world.backend.notes.cancelled.wait(), 5)


async def test_cancelling_a_call_reaches_the_service(world: Entrance) -> None:
    call = asyncio.create_task(world.unary(RESOLVE, resolve("wait"), world.key("BANK")))
    await eventually(lambda: len(world.backend.notes.calls) == 1)
    call.cancel()
    await asyncio.wait_for(world.backend.notes.cancelled.wait(), 5)
