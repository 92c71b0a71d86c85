"""The gateway over real gRPC: who gets in, what is passed on, and how."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog

from puhui.common.v1 import access_pb2, relay_pb2
from puhui.datashare.v1 import (
    accesses_pb2,
    changes_pb2,
    consents_pb2,
    participants_pb2,
    records_pb2,
    subjects_pb2,
)
from puhui.gateway.v1 import gateway_pb2
from puhui.scoring.v1 import scoring_pb2
from services.kit.clock import SystemClock
from services.kit.identity import DATASHARE, GATEWAY, Caller, IdentitySigner, new_key_pair
from services.kit.server import ServerConfig
from tests.e2e.gateway import PRIVATE, Entrance, entrance, eventually, told
from tests.fakes.policies import bounded

WHO_AM_I = "gateway.v1.GatewayService/WhoAmI"
RESOLVE = "datashare.v1.SubjectService/ResolveSubject"
SUBMIT = "datashare.v1.RecordService/SubmitRecords"
PUSH = "datashare.v1.RecordService/PushRecords"
GET_CONSENT = "datashare.v1.ConsentService/GetConsent"
SCORE = "scoring.v1.ScoringService/Score"
BATCH_SCORE = "scoring.v1.ScoringService/BatchScore"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
async def world() -> AsyncIterator[Entrance]:
    async with entrance() as made:
        yield made


async def refusal(call: Any) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return told(caught.value)


async def until(world: Entrance, key: str, reason: str) -> grpc.StatusCode:
    """Call until the feed has told the gateway, and the answer is `reason`; "" is none."""
    async with asyncio.timeout(10):
        while True:
            try:
                await world.unary(RESOLVE, resolve("a"), key)
                code, found = grpc.StatusCode.OK, ""
            except grpc.aio.AioRpcError as error:
                code, found = error.code(), told(error).reason
            if found == reason:
                return code
            await asyncio.sleep(0.02)


def resolve(uscc: str) -> subjects_pb2.ResolveSubjectRequest:
    return subjects_pb2.ResolveSubjectRequest(uscc=uscc)


def header(delivery_id: str) -> bytes:
    part = records_pb2.PushHeader(delivery_id=delivery_id)
    return records_pb2.PushRecordsRequest(header=part).SerializeToString()


def batch(sequence: int, padding: int = 0) -> bytes:
    record = records_pb2.Record(provider_record_id="x" * padding)
    part = records_pb2.PushBatch(sequence=sequence, records=[record] if padding else [])
    return records_pb2.PushRecordsRequest(batch=part).SerializeToString()


# Who gets in


async def test_who_am_i_tells_the_caller_and_what_it_may_call(world: Entrance) -> None:
    key = world.key("FIRM", "par_firm", "sub_firm")
    answer = await world.unary(WHO_AM_I, b"", key)
    who = gateway_pb2.WhoAmIResponse.FromString(answer)
    assert (who.participant_id, who.role, who.subject_id, who.name) == (
        "par_firm",
        access_pb2.ROLE_FIRM,
        "sub_firm",
        "Name of par_firm",
    )
    assert f"puhui.{GET_CONSENT}" in who.methods
    assert f"puhui.{SCORE}" not in who.methods


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "CREDENTIALS_MISSING"),
        ("", "CREDENTIALS_MISSING"),
        ("Basic dXNlcjpwYXNz", "CREDENTIALS_INVALID"),
        ("Bearer", "CREDENTIALS_INVALID"),
        ("Bearer key_1", "CREDENTIALS_INVALID"),
        ("Bearer key_1.", "CREDENTIALS_INVALID"),
        ("Bearer .secret-1", "CREDENTIALS_INVALID"),
        ("Bearer key_1.wrong", "CREDENTIALS_INVALID"),
        ("Bearer key_9.secret-1", "CREDENTIALS_INVALID"),
        ("Bearer key_1." + "s" * 600, "CREDENTIALS_INVALID"),
    ],
)
async def test_without_a_right_key_nobody_gets_in(
    world: Entrance, authorization: str | None, reason: str
) -> None:
    world.key("BANK")
    metadata = () if authorization is None else (("authorization", authorization),)
    found = await refusal(world.unary(RESOLVE, resolve("a"), None, metadata))
    assert (found.code, found.reason) == (grpc.StatusCode.UNAUTHENTICATED, reason)
    assert world.backend.notes.calls == []


async def test_a_key_is_asked_about_once_and_ends_with_its_revocation(world: Entrance) -> None:
    key = world.key("BANK")
    await asyncio.gather(*(world.unary(RESOLVE, resolve("a"), key) for _ in range(20)))
    assert world.backend.participants.asked == ["key_1"]

    world.backend.participants.revoked.add("key_1")
    await world.unary(RESOLVE, resolve("a"), key)
    world.backend.changes.changes.append(
        changes_pb2.Change(kind=changes_pb2.CHANGE_KIND_KEY_REVOKED, key_id="key_1")
    )
    await until(world, key, "CREDENTIALS_INVALID")


async def test_a_suspension_acts_and_ends_with_the_feed(world: Entrance) -> None:
    key = world.key("BANK", "par_bank")
    await world.unary(RESOLVE, resolve("a"), key)
    world.backend.participants.suspended.add("par_bank")
    suspended = changes_pb2.CHANGE_KIND_PARTICIPANT_SUSPENDED
    world.backend.changes.changes.append(
        changes_pb2.Change(kind=suspended, participant_id="par_bank")
    )
    assert await until(world, key, "PARTICIPANT_SUSPENDED") is grpc.StatusCode.PERMISSION_DENIED
    world.backend.participants.suspended.clear()
    reinstated = changes_pb2.CHANGE_KIND_PARTICIPANT_REINSTATED
    world.backend.changes.changes.append(
        changes_pb2.Change(kind=reinstated, participant_id="par_bank")
    )
    await until(world, key, "")


async def test_a_role_that_the_method_does_not_name_is_refused_and_noted(world: Entrance) -> None:
    key = world.key("REGULATOR", "par_reg")
    with structlog.testing.capture_logs() as logs:
        found = await refusal(world.unary(SUBMIT, b"", key))
    assert (found.code, found.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED")
    assert world.backend.notes.calls == []
    [line] = [line for line in logs if line["event"] == "refused"]
    assert line["participant_id"] == "par_reg"
    assert line["method"] == f"puhui.{SUBMIT}"
    assert line["reason"] == "ROLE_NOT_ALLOWED"
    assert "secret" not in str(line)


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("datashare.v1.ParticipantService/VerifyKey", participants_pb2.VerifyKeyRequest()),
        ("datashare.v1.ChangeService/ListChanges", changes_pb2.ListChangesRequest()),
        (
            "datashare.v1.AccessService/BatchFetchSummaries",
            accesses_pb2.BatchFetchSummariesRequest(),
        ),
        ("common.v1.RelayService/Relay", relay_pb2.RelayRequest()),
        ("datashare.v1.RecordService/NoSuchMethod", b""),
        ("nowhere.v1.NoService/NoMethod", b""),
    ],
)
async def test_internal_methods_do_not_exist_here(
    world: Entrance, method: str, request_: Any
) -> None:
    found = await refusal(world.unary(method, request_, world.key("OPERATOR")))
    assert (found.code, found.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_METHOD")


async def test_identity_that_a_client_sends_is_stripped(world: Entrance) -> None:
    operator = Caller("par_operator", "OPERATOR")
    stolen = IdentitySigner(PRIVATE, GATEWAY, SystemClock()).sign(operator, DATASHARE)
    forged = IdentitySigner(new_key_pair()[0], GATEWAY, SystemClock()).sign(operator, DATASHARE)
    key = world.key("BANK", "par_bank")
    for token in (stolen, forged):
        metadata = (("x-puhui-identity", token), ("x-puhui-role", "OPERATOR"), ("x-other", "1"))
        await world.unary(RESOLVE, resolve("a"), key, metadata)
        await refusal(world.unary(RESOLVE, resolve("a"), None, metadata))
    stream = world.stream(PUSH, world.key("PROVIDER", "par_tax"))
    await stream.write(header("d"))
    await stream.read()
    assert [seen.caller.participant_id for seen in world.backend.notes.calls] == [
        "par_bank",
        "par_bank",
        "par_tax",
    ]
    for seen in world.backend.notes.calls:
        assert not {"x-puhui-role", "x-other", "authorization"} & seen.metadata.keys()


# What is passed on


async def test_the_service_sees_the_caller_and_the_trace(world: Entrance) -> None:
    key = world.key("FIRM", "par_firm", "sub_firm")
    request = consents_pb2.GetConsentRequest(consent_id="con_1")
    trace = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
    answer = await world.unary(GET_CONSENT, request, key, trace)
    consent = consents_pb2.GetConsentResponse.FromString(answer).consent
    assert consent.consent_id == "con_1"
    [seen] = world.backend.notes.calls
    assert seen.caller == Caller("par_firm", "FIRM", "sub_firm", "Name of par_firm")
    assert TRACE in seen.metadata["traceparent"]


async def test_an_error_comes_back_as_the_service_told_it(world: Entrance) -> None:
    key = world.key("FIRM", subject_id="sub_1")
    request = consents_pb2.WithdrawConsentRequest(request_id="r", consent_id="con_1", note="refuse")
    trace = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
    withdraw = "datashare.v1.ConsentService/WithdrawConsent"
    found = await refusal(world.unary(withdraw, request, key, trace))
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert found.fields == ("terms.record_types[2]",)
    assert found.trace_id == TRACE


async def test_a_broken_rule_of_the_proto_is_told_by_the_service(world: Entrance) -> None:
    found = await refusal(world.unary(RESOLVE, resolve(""), world.key("BANK")))
    assert (found.reason, found.fields) == ("FIELD_INVALID", ("uscc",))


async def test_bytes_that_are_no_message_are_passed_on_and_refused(world: Entrance) -> None:
    found = await refusal(world.unary(RESOLVE, b"\xff\xff\xff", world.key("BANK")))
    assert found.reason == "MALFORMED_MESSAGE"


async def test_packages_go_to_their_service(world: Entrance) -> None:
    order = scoring_pb2.ScoreOrder(
        request_id="r", subject_id="s", consent_id="c", purpose="credit_application"
    )
    request = scoring_pb2.ScoreRequest(order=order)
    answer = await world.unary(SCORE, request, world.key("BANK"))
    assert scoring_pb2.ScoreResponse.FromString(answer).decision.score == 600


async def test_a_slow_call_does_not_hold_up_those_sent_with_it(world: Entrance) -> None:
    key = world.key("BANK")
    slow = [asyncio.create_task(world.unary(RESOLVE, resolve("wait"), key)) for _ in range(8)]
    quick = [world.unary(RESOLVE, resolve("a"), key) for _ in range(100)]
    await asyncio.wait_for(asyncio.gather(*quick), 2)
    assert not any(task.done() for task in slow)
    world.backend.notes.go_on.set()
    await asyncio.gather(*slow)


# Streams


async def test_a_push_streams_both_ways(world: Entrance) -> None:
    stream = world.stream(PUSH, world.key("PROVIDER", "par_tax"))
    await stream.write(header("d"))
    assert records_pb2.PushRecordsResponse.FromString(await stream.read()).HasField("ready")
    for sequence in (1, 2, 3):
        await stream.write(batch(sequence))
        answer = records_pb2.PushRecordsResponse.FromString(await stream.read())
        assert answer.ack.sequence == sequence
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    assert world.backend.notes.calls[0].caller.participant_id == "par_tax"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            changes_pb2.Change(kind=changes_pb2.CHANGE_KIND_KEY_REVOKED, key_id="key_1"),
            "CREDENTIALS_INVALID",
        ),
        (
            changes_pb2.Change(
                kind=changes_pb2.CHANGE_KIND_PARTICIPANT_SUSPENDED, participant_id="par_tax"
            ),
            "PARTICIPANT_SUSPENDED",
        ),
    ],
    ids=["revoked", "suspended"],
)
async def test_an_open_stream_ends_with_its_key(
    world: Entrance, change: changes_pb2.Change, code: str
) -> None:
    stream = world.stream(PUSH, world.key("PROVIDER", "par_tax"))
    await stream.write(header("d"))
    await stream.read()
    if change.key_id:
        world.backend.participants.revoked.add("key_1")
    else:
        world.backend.participants.suspended.add("par_tax")
    world.backend.changes.changes.append(change)

    async def push() -> None:
        for sequence in range(1, 500):
            await stream.write(batch(sequence))
            await stream.read()
            await asyncio.sleep(0.02)

    found = await refusal(push())
    assert found.reason == code


async def test_an_error_ends_a_stream_with_its_reason(world: Entrance) -> None:
    stream = world.stream(PUSH, world.key("PROVIDER"))
    await stream.write(header("fail"))
    await stream.read()
    await stream.write(batch(1))
    found = await refusal(stream.read())
    assert found.reason == "OUT_OF_SEQUENCE"


async def test_a_message_that_breaks_a_rule_ends_the_stream_with_the_field(
    world: Entrance,
) -> None:
    stream = world.stream(PUSH, world.key("PROVIDER"))
    await stream.write(header("d"))
    await stream.read()
    await stream.write(batch(0))
    found = await refusal(stream.read())
    assert (found.reason, found.fields) == ("FIELD_INVALID", ("batch.sequence",))


async def test_cancelling_a_stream_reaches_the_service(world: Entrance) -> None:
    stream = world.stream(PUSH, world.key("PROVIDER"))
    await stream.write(header("stop-reading"))
    await stream.read()
    stream.cancel()
    await asyncio.wait_for(world.backend.notes.cancelled.wait(), 5)


async def test_cancelling_while_results_are_awaited_reaches_the_service(world: Entrance) -> None:
    orders = [
        scoring_pb2.ScoreOrder(request_id="r", subject_id="s", purpose="p", consent_id=consent)
        for consent in ("", "wait")
    ]
    stream = world.stream(BATCH_SCORE, world.key("BANK"))
    await stream.write(scoring_pb2.BatchScoreRequest(orders=orders).SerializeToString())
    await stream.done_writing()
    first = scoring_pb2.BatchScoreResponse.FromString(await stream.read())
    assert first.index == 0
    stream.cancel()
    await asyncio.wait_for(world.backend.notes.cancelled.wait(), 5)


async def test_a_service_that_reads_slowly_slows_the_sender(world: Entrance) -> None:
    stream = world.stream(PUSH, world.key("PROVIDER"))
    await stream.write(header("stop-reading"))
    await stream.read()
    sent = 0

    async def send() -> None:
        nonlocal sent
        for sequence in range(1, 65):
            await stream.write(batch(sequence, padding=1024 * 1024))
            sent += 1
        await stream.done_writing()

    sending = asyncio.create_task(send())
    await asyncio.sleep(1.0)
    assert sent < 32
    world.backend.notes.go_on.set()
    acks = [await stream.read() for _ in range(64)]
    assert records_pb2.PushRecordsResponse.FromString(acks[-1]).ack.sequence == 64
    await sending


# Limits


async def test_a_deadline_is_passed_on_and_kept(world: Entrance) -> None:
    # A little is lost on the way, and gRPC rounds what is left up.
    key = world.key("BANK")
    found = await refusal(world.unary(RESOLVE, resolve("slow"), key, timeout=0.3))
    assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < world.backend.notes.calls[0].seconds_left < 0.4

    stream = world.stream(PUSH, world.key("PROVIDER"), timeout=0.5)
    await stream.write(header("stop-reading"))
    await stream.read()
    found = await refusal(stream.read())
    assert found.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < world.backend.notes.calls[1].seconds_left < 0.6


async def test_a_call_without_deadline_gets_one_and_a_long_one_is_cut(world: Entrance) -> None:
    key = world.key("BANK")
    await world.unary(RESOLVE, resolve("a"), key, timeout=None)
    await world.unary(RESOLVE, resolve("a"), key, timeout=3000)
    lefts = [seen.seconds_left for seen in world.backend.notes.calls]
    assert 25 < lefts[0] < 31
    assert 110 < lefts[1] < 122


async def test_a_large_message_passes_and_a_larger_one_does_not(world: Entrance) -> None:
    key = world.key("PROVIDER")
    record = records_pb2.Record(provider_record_id="x" * (15 * 1024 * 1024))
    request = records_pb2.SubmitRecordsRequest(records=[record])
    answer = await world.unary(SUBMIT, request, key)
    assert records_pb2.SubmitRecordsResponse.FromString(answer).ack.accepted == [0]

    for size, code, reason in (
        (16, grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE"),
        (33, grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
    ):
        record.provider_record_id = "x" * (size * 1024 * 1024)
        request = records_pb2.SubmitRecordsRequest(records=[record])
        found = await refusal(world.unary(SUBMIT, request, key))
        assert (found.code, found.reason) == (code, reason)


async def test_a_message_too_large_ends_the_stream_with_its_reason(world: Entrance) -> None:
    stream = world.stream(PUSH, world.key("PROVIDER"))
    await stream.write(header("d"))
    await stream.read()
    await stream.write(batch(1, padding=16 * 1024 * 1024))
    found = await refusal(stream.read())
    assert (found.code, found.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "BATCH_TOO_LARGE")


async def test_a_participant_has_so_many_calls_at_once_and_others_theirs(tmp_path: Path) -> None:
    async with entrance(policy=bounded(tmp_path, par_1={"concurrent": 2})) as world:
        key = world.key("BANK", "par_1")
        running = [
            asyncio.create_task(world.unary(RESOLVE, resolve("wait"), key)) for _ in range(2)
        ]
        await eventually(lambda: len(world.backend.notes.calls) == 2)
        found = await refusal(world.unary(RESOLVE, resolve("a"), key))
        assert (found.code, found.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert found.retry
        await world.unary(RESOLVE, resolve("a"), world.key("BANK", "par_2"))
        world.backend.notes.go_on.set()
        await asyncio.gather(*running)
        await world.unary(RESOLVE, resolve("a"), key)


# What is behind it, and the end


@pytest.mark.parametrize("http", [False, True])
async def test_stopping_finishes_what_runs(http: bool) -> None:
    async with entrance(server=ServerConfig(grace=5.0, drain=0.1)) as world:
        key = world.key("BANK")
        if http:
            headers = {"authorization": f"Bearer {key}"}
            call: Any = world.http.post(
                "/v1/subjects:resolve", headers=headers, json={"uscc": "wait"}
            )
        else:
            call = world.unary(RESOLVE, resolve("wait"), key)
        running = asyncio.create_task(call)
        await eventually(lambda: len(world.backend.notes.calls) == 1)
        stopping = asyncio.create_task(world.gateway.stop())
        await eventually(lambda: not world.gateway.ready)
        # Until load balancers have noticed, calls are still served.
        await world.unary(WHO_AM_I, b"", key)
        await asyncio.sleep(0.2)
        assert not running.done()
        world.backend.notes.go_on.set()
        answer = await running
        assert b"sub_wait" in (answer.content if http else answer)
        await stopping


async def test_without_datashare_it_is_not_ready_and_says_what_is_missing() -> None:
    async with entrance(key_cache=timedelta(0)) as world:
        await eventually(lambda: world.gateway.ready)
        key = world.key("BANK")
        await world.backend.datashare.stop()
        await eventually(lambda: not world.gateway.ready)
        found = await refusal(world.unary(RESOLVE, resolve("a"), key))
        assert (found.code, found.reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")


async def test_a_fault_behind_it_tells_nothing(world: Entrance) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.unary(RESOLVE, resolve("fault"), world.key("BANK"))
    assert told(caught.value).reason == "INTERNAL"
    assert "fault" not in str(caught.value.details()).replace("a fault of ours", "")
