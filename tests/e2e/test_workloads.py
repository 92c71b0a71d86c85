"""Puhui's services among themselves: which of them may call which method, over real mutual TLS."""

import asyncio
import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from puhui.common.v1 import relay_pb2
from puhui.datashare import v1
from puhui.datashare.v1 import subjects_pb2
from services.gateway.routes import PARTICIPANTS, full_name
from services.kit import client
from services.kit.authority import Issued
from services.kit.calls import roles_of
from services.kit.client import Channel
from services.kit.clock import SystemClock
from services.kit.errors import PermissionDeniedError, PuhuiError, UnavailableError
from services.kit.identity import (
    DATASHARE,
    GATEWAY,
    Caller,
    IdentitySigner,
    new_key_pair,
)
from services.kit.tls import Certificates, TlsConfig
from services.kit.workloads import TRUST_DOMAIN, Workloads, spiffe_id
from tests.cases.table import Case, parameters
from tests.e2e.gateway import eventually
from tests.e2e.secured import HOSTS, Certified
from tests.fakes.backend import Backend, start_backend

RESOLVE = "/puhui.datashare.v1.SubjectService/ResolveSubject"
FETCH = "/puhui.datashare.v1.AccessService/BatchFetchSummaries"
RELAY = "/puhui.common.v1.RelayService/Relay"


def methods() -> Iterator[MethodDescriptor]:
    """Yield every method of datashare, from its .proto files."""
    for module in pkgutil.iter_modules(v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"{v1.__name__}.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


METHODS = list(methods())


class World:
    """A datashare with TLS, and channels to it by any certificate."""

    def __init__(self, certified: Certified, backend: Backend, signer: IdentitySigner) -> None:
        self.certified = certified
        self.backend = backend
        self.signer = signer

    def channel(self, tls: TlsConfig, role: str = "BANK") -> Channel:
        """Return a channel that shows a certificate and makes calls of a bank's."""
        caller = Caller("par_1", role)
        return Channel(
            f"127.0.0.1:{self.backend.datashare.port}",
            lambda: self.signer.sign(caller, DATASHARE),
            certificates=Certificates("test", tls),
        )

    def files(self, issued: Issued) -> TlsConfig:
        """Write the files of a certificate."""
        return self.certified.write(issued.thumbprint, issued)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[World]:
    certified = Certified(folder)
    private, public = new_key_pair()
    backend = await start_backend(public, tls=certified.workload("datashare"))
    try:
        yield World(certified, backend, IdentitySigner(private, GATEWAY, SystemClock()))
    finally:
        await asyncio.gather(backend.datashare.stop(), backend.scoring.stop())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as made:
        yield made


async def resolve(channel: Channel, uscc: str = "a", timeout: float = 10.0) -> str:
    try:
        answer = await channel.unary(
            RESOLVE,
            subjects_pb2.ResolveSubjectRequest(uscc=uscc),
            subjects_pb2.ResolveSubjectResponse,
            timeout=timeout,
        )
    finally:
        await channel.close()
    return answer.subject_id


def strangers(certified: Certified) -> dict[str, Issued]:
    """Return certificates of our own authority that are no workload's that may call."""
    gateway = spiffe_id(TRUST_DOMAIN, "gateway")
    issue = certified.authority.issue
    return {
        "participants": certified.participant(),
        "scorings": certified.service("scoring"),
        "other-trust-domain": certified.service("gateway", "elsewhere"),
        "longer-name": issue("x", names=(f"{gateway}/x",)),
        "two-names": issue("x", names=(gateway, spiffe_id(TRUST_DOMAIN, "scoring"))),
        "host-name-alone": issue("gateway", hosts=("gateway", "puhui")),
    }


async def test_the_gateway_passes_calls_on(world: World) -> None:
    assert await resolve(world.channel(world.certified.workload("gateway"))) == "sub_a"


@parameters("workloads", "stolen-assertion")
async def test_a_stolen_assertion_is_of_no_use(world: World, case: Case, protocol: str) -> None:
    issued = strangers(world.certified)[case.id]
    with pytest.raises(PermissionDeniedError, match="spiffe://puhui/gateway") as caught:
        await resolve(world.channel(world.files(issued)))
    assert (caught.value.code, caught.value.reason) == (case.grpc, case.expect)
    assert not world.backend.notes.calls


async def test_no_workload_of_another_authority_gets_a_call_in(world: World) -> None:
    names = (spiffe_id(TRUST_DOMAIN, "gateway"),)
    issued = world.certified.stranger.issue("gateway", names=names, hosts=HOSTS)
    with pytest.raises(UnavailableError):
        await resolve(world.channel(world.files(issued)), timeout=5.0)


async def test_a_service_calls_no_other_host_than_it_was_told(world: World) -> None:
    names = (spiffe_id(TRUST_DOMAIN, "datashare"),)
    elsewhere = world.certified.authority.issue("x", names=names, hosts=("scoring",))
    world.certified.write("datashare", elsewhere)
    with pytest.raises(UnavailableError):
        await resolve(world.channel(world.certified.workload("gateway")), timeout=5.0)
    assert not world.backend.notes.calls


async def test_a_relayed_call_is_of_the_workload_that_relays(world: World) -> None:
    request = relay_pb2.RelayRequest()
    bank = world.signer.sign(Caller("par_1", "BANK"), DATASHARE)
    request.calls.add(method=FETCH, identity=bank, body=b"")
    request.calls.add(method=RESOLVE, identity=bank, body=b"\x0a\x01a")
    itself = world.channel(world.certified.workload("gateway"), "GATEWAY")
    results: dict[int, relay_pb2.RelayedResult] = {}
    async for answer in itself.collect(RELAY, request, relay_pb2.RelayResponse, timeout=10.0):
        results |= {result.index: result for result in answer.results}
    await itself.close()
    assert b"WORKLOAD_NOT_ALLOWED" in results[0].body
    assert results[1].code == 0
    scoring = world.channel(world.certified.workload("scoring"), "GATEWAY")
    with pytest.raises(PermissionDeniedError) as caught:
        async for _ in scoring.collect(RELAY, request, relay_pb2.RelayResponse, timeout=10.0):
            pass
    await scoring.close()
    assert caught.value.reason == "WORKLOAD_NOT_ALLOWED"


@pytest.mark.parametrize("method", METHODS, ids=full_name)
def test_who_may_call_a_method_follows_from_its_roles(method: MethodDescriptor) -> None:
    workloads, roles = Workloads(TRUST_DOMAIN), roles_of(method)
    expected = {
        *({spiffe_id("puhui", "gateway")} if roles & (PARTICIPANTS | {"GATEWAY"}) else ()),
        *({spiffe_id("puhui", "scoring")} if "SCORING" in roles else ()),
    }
    assert workloads.callers(roles) == expected


SERVED = [
    method
    for method in METHODS
    if method.containing_service.name
    in {"SubjectService", "RecordService", "AccessService", "ConsentService", "ChangeService"}
]


async def test_each_method_refuses_the_workloads_that_are_not_its_own(world: World) -> None:
    for service in ("gateway", "scoring"):
        channel = world.channel(world.certified.workload(service))
        for method in SERVED:
            reason = await _reason(channel, method)
            roles = roles_of(method)
            allowed = "SCORING" in roles if service == "scoring" else bool(roles - {"SCORING"})
            assert (reason != "WORKLOAD_NOT_ALLOWED") == allowed, (service, full_name(method))
        await channel.close()


async def _reason(channel: Channel, method: MethodDescriptor) -> str:
    response = message_factory.GetMessageClass(method.output_type)
    request = message_factory.GetMessageClass(method.input_type)()
    try:
        if method.server_streaming:
            answers: Any = channel.collect(full_name(method), request, response, timeout=2.0)
            async for _ in answers:
                break
            await answers.aclose()
        else:
            await channel.unary(full_name(method), request, response, timeout=2.0)
    except PuhuiError as error:
        return error.reason
    return ""


async def test_a_renewed_certificate_is_shown_while_calls_end_on_the_old_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_LOOK_EVERY", 0.0)
    channel = world.channel(world.certified.workload("gateway"))
    request = subjects_pb2.ResolveSubjectRequest

    async def call(uscc: str) -> str:
        kind = subjects_pb2.ResolveSubjectResponse
        return (await channel.unary(RESOLVE, request(uscc=uscc), kind, timeout=20.0)).subject_id

    running = asyncio.create_task(call("wait"))
    await eventually(lambda: bool(world.backend.notes.calls))
    # A participant's would not be allowed: that it is refused shows which one is used.
    world.certified.write("gateway", world.certified.participant())
    with pytest.raises(PermissionDeniedError):
        await call("a")
    world.certified.workload("gateway")
    assert await call("b") == "sub_b"
    world.backend.notes.go_on.set()
    assert await running == "sub_wait"
    await channel.close()
