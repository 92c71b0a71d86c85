"""The server, the pipeline, the relay and the client together, over real gRPC on loopback."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import structlog

from puhui.common.v1 import relay_pb2
from puhui.datashare.v1 import records_pb2, records_pb2_grpc, subjects_pb2, subjects_pb2_grpc
from services.kit.client import Channel
from services.kit.clock import SystemClock
from services.kit.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
    UnauthenticatedError,
    UnavailableError,
)
from services.kit.identity import (
    DATASHARE,
    GATEWAY,
    Caller,
    IdentitySigner,
    IdentityVerifier,
    current_caller,
    new_key_pair,
)
from services.kit.relay import Relayer, RelayItem
from services.kit.server import Server, ServerConfig, by_assertion
from services.kit.telemetry import Telemetry, configure_logs

RESOLVE = "/puhui.datashare.v1.SubjectService/ResolveSubject"
PUSH = "/puhui.datashare.v1.RecordService/PushRecords"
PRIVATE, PUBLIC = new_key_pair()
SECRET_VALUE = "91110108MA01ABCD0X"


@dataclass
class Subjects(subjects_pb2_grpc.SubjectServiceServicer):
    calls: int = 0
    running: asyncio.Event = field(default_factory=asyncio.Event)

    async def ResolveSubject(self, request: Any, context: Any) -> Any:
        self.calls += 1
        self.running.set()
        match request.uscc:
            case "absent":
                raise NotFoundError("NOT_FOUND", "no such subject")
            case "fault":
                raise ValueError(f"cannot handle {SECRET_VALUE}")
            case "slow":
                await asyncio.sleep(0.3)
        return subjects_pb2.ResolveSubjectResponse(subject_id=current_caller().participant_id)


class Records(records_pb2_grpc.RecordServiceServicer):
    async def SubmitRecords(self, request: Any, context: Any) -> Any:
        return records_pb2.SubmitRecordsResponse()

    async def PushRecords(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            ack = records_pb2.PushAck(sequence=request.batch.sequence)
            yield records_pb2.PushRecordsResponse(ack=ack)


@dataclass
class World:
    server: Server
    subjects: Subjects
    signer: IdentitySigner

    def channel(self, role: str = "BANK", participant: str = "par_1") -> Channel:
        caller = Caller(participant, role)
        return Channel(f"127.0.0.1:{self.server.port}", lambda: self.signer.sign(caller, DATASHARE))

    async def resolve(self, uscc: str, channel: Channel | None = None, **options: Any) -> str:
        channel = channel or self.channel()
        try:
            response = await channel.unary(
                RESOLVE,
                subjects_pb2.ResolveSubjectRequest(uscc=uscc),
                subjects_pb2.ResolveSubjectResponse,
                **options,
            )
        finally:
            await channel.close()
        return response.subject_id


@asynccontextmanager
async def running(**config: Any) -> AsyncIterator[World]:
    clock = SystemClock()
    verifier = IdentityVerifier({GATEWAY: PUBLIC}, DATASHARE, clock)
    server = Server(ServerConfig(**config), by_assertion(verifier), Telemetry("test"), clock)
    subjects = Subjects()
    server.add(subjects_pb2_grpc.add_SubjectServiceServicer_to_server, subjects)
    server.add(records_pb2_grpc.add_RecordServiceServicer_to_server, Records())
    await server.start()
    try:
        yield World(server, subjects, IdentitySigner(PRIVATE, GATEWAY, clock))
    finally:
        await server.stop()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with running() as made:
        yield made


async def test_the_servicer_knows_the_caller(world: World) -> None:
    assert await world.resolve("x", world.channel(participant="par_7")) == "par_7"


async def test_a_broken_rule_names_the_field(world: World) -> None:
    with pytest.raises(InvalidArgumentError) as refusal:
        await world.resolve("")
    assert refusal.value.reason == "FIELD_INVALID"
    assert [problem.field for problem in refusal.value.fields] == ["uscc"]


async def test_an_error_of_a_use_case_arrives_as_it_was(world: World) -> None:
    with pytest.raises(NotFoundError, match="no such subject"):
        await world.resolve("absent")


async def test_a_fault_tells_nothing(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    with pytest.raises(InternalError) as refusal:
        await world.resolve("fault")
    assert SECRET_VALUE not in str(refusal.value)
    structlog.reset_defaults()
    captured = capfd.readouterr()
    assert "fault" in captured.err
    assert SECRET_VALUE not in captured.out + captured.err


async def test_a_role_that_is_not_named_is_refused(world: World) -> None:
    with pytest.raises(PermissionDeniedError) as refusal:
        await world.resolve("x", world.channel("FIRM"))
    assert refusal.value.reason == "ROLE_NOT_ALLOWED"
    assert world.subjects.calls == 0


async def test_without_an_assertion_nobody_gets_in(world: World) -> None:
    with pytest.raises(UnauthenticatedError):
        await world.resolve("x", Channel(f"127.0.0.1:{world.server.port}", lambda: ""))
    assert world.subjects.calls == 0


async def test_a_deadline_ends_the_call(world: World) -> None:
    with pytest.raises(DeadlineExceededError):
        await world.resolve("slow", timeout=0.05)


async def test_bytes_that_are_no_message_are_refused(world: World) -> None:
    caller = Caller("par_1", "BANK")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.server.port}") as channel:
        call: Any = channel.unary_unary(RESOLVE)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call(
                b"\xff\xff", metadata=(("x-puhui-identity", world.signer.sign(caller, DATASHARE)),)
            )
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "ResolveSubjectRequest" in (refusal.value.details() or "")


async def test_streams_are_validated_message_by_message(world: World) -> None:
    async def bodies() -> AsyncIterator[bytes]:
        for sequence in (1, 2, 0):
            batch = records_pb2.PushBatch(sequence=sequence)
            yield records_pb2.PushRecordsRequest(batch=batch).SerializeToString()

    channel = world.channel("PROVIDER")
    responses = channel.stream(PUSH, bodies(), channel.metadata(), timeout=5)
    acks = [records_pb2.PushRecordsResponse.FromString(await anext(responses)) for _ in (1, 2)]
    with pytest.raises(InvalidArgumentError) as refusal:
        await anext(responses)
    await channel.close()
    assert [response.ack.sequence for response in acks] == [1, 2]
    assert refusal.value.fields[0].field == "batch.sequence"


async def test_relayed_calls_keep_their_identity_and_get_their_own_result(world: World) -> None:
    channel = world.channel("GATEWAY", "gateway")
    relayer = Relayer(channel, SystemClock())

    def item(uscc: str, role: str = "BANK") -> RelayItem:
        body = subjects_pb2.ResolveSubjectRequest(uscc=uscc).SerializeToString()
        deadline = asyncio.get_running_loop().time() + 5
        identity = world.signer.sign(Caller(f"par_{uscc}", role), DATASHARE)
        return RelayItem(RESOLVE, body, identity, "", deadline)

    results = await asyncio.gather(
        *(
            relayer.call(each)
            for each in (item("a"), item("absent"), item("fault"), item("b", "FIRM"), item("c"))
        ),
        return_exceptions=True,
    )
    await channel.close()
    names = [
        subjects_pb2.ResolveSubjectResponse.FromString(result).subject_id
        if isinstance(result, bytes)
        else result.reason
        if isinstance(result, PuhuiError)
        else result
        for result in results
    ]
    assert names == ["par_a", "NOT_FOUND", "INTERNAL", "ROLE_NOT_ALLOWED", "par_c"]


async def test_only_the_gateway_may_relay(world: World) -> None:
    channel = world.channel("BANK")
    with pytest.raises(PermissionDeniedError):
        await channel.unary(
            "/puhui.common.v1.RelayService/Relay",
            relay_pb2.RelayRequest(calls=[relay_pb2.RelayedCall(method=RESOLVE)]),
            relay_pb2.RelayResponse,
        )
    await channel.close()


async def test_stopping_finishes_what_runs() -> None:
    async with running(grace=5.0) as world:
        call = asyncio.create_task(world.resolve("slow"))
        await world.subjects.running.wait()
        await world.server.stop()
        assert await call == "par_1"


async def test_an_idempotent_call_is_tried_again_when_the_service_comes_up() -> None:
    async with running() as world:
        port = world.server.port
    channel = world.channel()
    call = asyncio.create_task(world.resolve("x", channel, idempotent=True, timeout=10))
    await asyncio.sleep(0.05)
    async with running(listen=f"127.0.0.1:{port}"):
        assert await call == "par_1"


async def test_another_call_is_not_tried_again() -> None:
    async with running() as world:
        pass
    with pytest.raises(UnavailableError):
        await world.resolve("x")
