"""TLS at every listener of the gateway, over real sockets: who gets as far as a call."""

import asyncio
import base64
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from puhui.datashare.v1 import subjects_pb2, subjects_pb2_grpc
from services.gateway.http.server import HttpServer, peer_in
from services.kit.authority import Issued
from services.kit.calls import Call, Peer, current_call
from services.kit.clock import SystemClock
from services.kit.identity import Caller
from services.kit.server import Listener, Server, ServerConfig
from services.kit.telemetry import Telemetry
from services.kit.tls import Certificates
from tests.e2e.gateway import eventually
from tests.e2e.secured import Certified, Secured, Shifted, secured

WHO_AM_I = "/puhui.gateway.v1.GatewayService/WhoAmI"
RESOLVE = "/puhui.datashare.v1.SubjectService/ResolveSubject"

# What is wrong with a client's certificate.
WRONG = ["of an unknown authority", "expired", "not yet valid", "a server's"]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Secured]:
    async with secured(tmp_path) as made:
        yield made


def wrong(certified: Certified, what: str) -> Issued:
    match what:
        case "of an unknown authority":
            return certified.stranger.issue("par_1", server=False)
        case "expired":
            return certified.at(Shifted(timedelta(days=-30))).issue("par_1", days=1, server=False)
        case "not yet valid":
            return certified.at(Shifted(timedelta(days=1))).issue("par_1", server=False)
        case _:
            return certified.authority.issue("par_1", client=False)


async def who_am_i(channel: grpc.aio.Channel, key: str) -> bytes:
    call: Any = channel.unary_unary(WHO_AM_I)
    async with channel:
        answer: bytes = await call(
            b"", metadata=(("authorization", f"Bearer {key}"),), timeout=10.0
        )
    return answer


async def refused(channel: grpc.aio.Channel, key: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await who_am_i(channel, key)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def shown(port: int, context: ssl.SSLContext) -> tuple[str, str]:
    """Return the thumbprint of the certificate that a listener shows, and the version of TLS."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        der, version = connection.getpeercert(binary_form=True), connection.version()
    assert der is not None
    assert version is not None
    digest = base64.urlsafe_b64encode(hashlib.sha256(der).digest())
    return digest.rstrip(b"=").decode(), version


# Institutions over gRPC


async def test_an_institution_comes_in_by_its_certificate(world: Secured) -> None:
    issued = world.certified.participant()
    assert await who_am_i(world.channel(issued), world.key("BANK"))


async def test_without_a_certificate_no_call_comes_in(world: Secured) -> None:
    await refused(world.channel(None), world.key("BANK"))


@pytest.mark.parametrize("what", WRONG)
async def test_no_call_comes_in_by_a_certificate_that_is(world: Secured, what: str) -> None:
    await refused(world.channel(wrong(world.certified, what)), world.key("BANK"))


async def test_no_call_comes_in_in_plaintext(world: Secured) -> None:
    plain = grpc.aio.insecure_channel(f"127.0.0.1:{world.gateway.port}")
    await refused(plain, world.key("BANK"))
    with pytest.raises(httpx2.TransportError):
        async with httpx2.AsyncClient() as http:
            await http.get(f"http://127.0.0.1:{world.gateway.http_port}/openapi.json")


async def test_a_client_does_not_believe_another_authoritys_gateway(tmp_path: Path) -> None:
    async with secured(tmp_path) as world:
        issued = world.certified.participant()
        world.certified.authority = world.certified.stranger
        await refused(world.channel(issued), world.key("BANK"))


# People over gRPC, and HTTP


async def test_people_are_asked_for_no_certificate(world: Secured) -> None:
    channel = world.channel(None, world.gateway.people_port)
    assert await who_am_i(channel, world.key("FIRM", subject_id="sub_1"))


@pytest.mark.parametrize("certified", [True, False])
async def test_over_http_a_certificate_may_be_shown(world: Secured, certified: bool) -> None:
    issued = world.certified.participant() if certified else None
    headers = {"authorization": f"Bearer {world.key('BANK')}"}
    async with world.http(issued) as http:
        answer = await http.get("/v1/whoami", headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize("what", WRONG)
async def test_no_request_comes_in_by_a_certificate_that_is(world: Secured, what: str) -> None:
    async with world.http(wrong(world.certified, what)) as http:
        with pytest.raises(httpx2.TransportError):
            await http.get("/openapi.json")


# Versions of TLS and what they agree on


@pytest.mark.parametrize("listener", ["people_port", "http_port"])
@pytest.mark.parametrize(
    ("version", "suites", "agreed"),
    [
        (ssl.TLSVersion.TLSv1_3, "DEFAULT", "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE+AESGCM", "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:AES256-SHA:@SECLEVEL=0", None),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA", None),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", None),
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0", None),
    ],
    ids=["1.3", "1.2", "1.2 without forward secrecy", "1.2 with CBC", "1.1", "1.0"],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_what_is_spoken(
    world: Secured,
    listener: str,
    version: ssl.TLSVersion,
    suites: str,
    agreed: str | None,
) -> None:
    context = world.certified.context()
    context.set_alpn_protocols(["h2" if listener == "people_port" else "http/1.1"])
    context.minimum_version = context.maximum_version = version
    context.set_ciphers(suites)
    connecting = asyncio.to_thread(shown, getattr(world.gateway, listener), context)
    if agreed:
        assert (await connecting)[1] == agreed
    else:
        with pytest.raises(OSError, match=r"(?i)protocol|alert|eof|reset"):
            await connecting


# Renewal


async def test_a_renewed_certificate_is_shown_to_new_connections_while_old_ones_live_on(
    world: Secured,
) -> None:
    issued = world.certified.participant()
    key = world.key("BANK")
    renewed = world.certified.service("entrance")
    async with world.channel(issued) as channel:
        call: Any = channel.unary_unary(RESOLVE)
        request = subjects_pb2.ResolveSubjectRequest(uscc="wait").SerializeToString()
        metadata = (("authorization", f"Bearer {key}"),)
        waiting = call(request, metadata=metadata, timeout=20.0)
        running = asyncio.ensure_future(waiting)
        await eventually(lambda: bool(world.backend.notes.calls))
        before = world.certified.participant()
        world.certified.write("entrance", renewed)
        context = world.certified.context(before)
        context.set_alpn_protocols(["h2", "http/1.1"])
        for port in (world.gateway.port, world.gateway.people_port, world.gateway.http_port):
            assert port is not None
            found, _ = await asyncio.to_thread(shown, port, context)
            assert found == renewed.thumbprint
        world.backend.notes.go_on.set()
        assert await running


async def test_files_that_do_not_belong_together_change_nothing(world: Secured) -> None:
    context = world.certified.context(world.certified.participant())
    context.set_alpn_protocols(["h2", "http/1.1"])
    before = await asyncio.to_thread(shown, world.gateway.port, context)
    assert world.tls.key is not None
    world.tls.key.write_text(world.certified.participant().key)
    for port in (world.gateway.port, world.gateway.http_port):
        assert await asyncio.to_thread(shown, port, context) == before


async def test_an_authority_that_is_no_longer_trusted_lets_nobody_in(world: Secured) -> None:
    issued, key = world.certified.participant(), world.key("BANK")
    stranger = world.certified.stranger
    newcomer = stranger.issue("par_2", server=False)
    renewed = world.certified.service("entrance")
    world.certified.write("entrance", renewed, ca=stranger.certificate)
    await refused(world.channel(issued), key)
    assert await who_am_i(world.channel(newcomer), key)
    async with world.http(issued) as http:
        with pytest.raises(httpx2.TransportError):
            await http.get("/openapi.json")
    async with world.http(newcomer) as http:
        assert (await http.get("/openapi.json")).status_code == 200


# What a call knows of the other end


@dataclass
class Subjects(subjects_pb2_grpc.SubjectServiceServicer):
    """Keeps how calls came in."""

    seen: list[Peer | None] = field(default_factory=list)
    agreed: list[Any] = field(default_factory=list)

    async def ResolveSubject(self, request: Any, context: Any) -> Any:
        self.seen.append(current_call().peer)
        self.agreed.append(context.auth_context().get("ssl_negotiated_key_exchange_group"))
        return subjects_pb2.ResolveSubjectResponse()


async def _anybody(call: Call) -> Caller:
    return Caller("par_1", "BANK")


@dataclass
class Moving:
    """A clock that is moved."""

    by: timedelta = timedelta()

    def now(self) -> Any:
        return SystemClock().now() + self.by


async def test_a_call_knows_the_other_end_and_agrees_on_a_hybrid_key(tmp_path: Path) -> None:
    certified, subjects, clock = Certified(tmp_path), Subjects(), Moving()
    certificates = Certificates("test", certified.workload("datashare"))
    server = Server(
        ServerConfig(grace=0.1), _anybody, Telemetry("test"), clock, certificates=certificates
    )
    people = server.listen(Listener("127.0.0.1:0", certificates))
    plain = server.listen(Listener("127.0.0.1:0"))
    server.add(subjects_pb2_grpc.add_SubjectServiceServicer_to_server, subjects)
    await server.start()
    name = "spiffe://puhui/gateway"
    issued = certified.authority.issue("gateway", names=(name,), days=1)
    request = subjects_pb2.ResolveSubjectRequest(uscc="x").SerializeToString()
    try:
        for port in (server.port, people.port):
            target, credentials = f"127.0.0.1:{port}", certified.credentials(issued)
            async with grpc.aio.secure_channel(target, credentials) as channel:
                call: Any = channel.unary_unary(RESOLVE)
                await call(request, timeout=10.0)
                clock.by = timedelta(days=2)
                await call(request, timeout=10.0)
                clock.by = timedelta()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{plain.port}") as channel:
            call = channel.unary_unary(RESOLVE)
            await call(request, timeout=10.0)
    finally:
        await server.stop()
    # On an old connection an expired certificate proves nobody any more.
    assert subjects.seen == [Peer(issued.thumbprint, (name,)), None, None, None, None]
    assert subjects.agreed[0] == [b"X25519MLKEM768"]


async def test_a_request_knows_the_other_end(tmp_path: Path) -> None:
    certified, clock = Certified(tmp_path), Moving()
    seen: list[Peer | None] = []

    async def application(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(peer_in(scope))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    certificates = Certificates("test", certified.workload("entrance"))
    server = HttpServer(application, "127.0.0.1:0", 0.1, 0.0, clock, certificates)
    await server.start()
    issued = certified.participant()
    url = f"https://127.0.0.1:{server.port}/"
    try:
        async with httpx2.AsyncClient(verify=certified.context(issued)) as http:
            await http.get(url)
            clock.by = timedelta(days=400)
            await http.get(url)
        async with httpx2.AsyncClient(verify=certified.context()) as http:
            await http.get(url)
    finally:
        await server.stop()
    assert seen == [Peer(issued.thumbprint), None, None]
