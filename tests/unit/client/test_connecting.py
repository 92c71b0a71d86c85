"""What is told where no connection comes about, from real servers and real handshakes."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import grpc
import pytest
from grpc import aio

from puhui_client import Client, Tls, UnavailableError
from services.kit.authority import Authority
from services.kit.clock import SystemClock


class Server(NamedTuple):
    """Ports of one kind each, and who signed."""

    plain: int
    secured: int
    mutual: int
    ca: bytes


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    authority = Authority.create("tests", clock=SystemClock(), days=1)
    own = authority.issue("gateway", hosts=["127.0.0.1"], days=1)
    ca, pair = authority.certificate.encode(), [(own.key.encode(), own.certificate.encode())]
    running = aio.server()
    ports = Server(
        running.add_insecure_port("127.0.0.1:0"),
        running.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair)),
        running.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(pair, ca, True)),
        ca,
    )
    await running.start()
    yield ports
    await running.stop(0)


async def told(port: int, tls: Tls | None) -> str:
    async with Client(f"127.0.0.1:{port}", "k.s", timeout=3, tls=tls) as client:
        with pytest.raises(UnavailableError) as refused:
            await client.whoami()
    return refused.value.message


async def test_tls_to_a_plain_port_is_told_as_that(server: Server) -> None:
    assert "there is no TLS at this address" in await told(server.plain, Tls(ca=server.ca))


async def test_a_plain_call_to_a_port_with_tls_is_told_as_that(server: Server) -> None:
    assert "if its port has TLS, give the CA" in await told(server.secured, None)
    assert "if its port has TLS, give the CA" in await told(server.mutual, None)


async def test_a_certificate_of_another_authority_is_told_as_that(server: Server) -> None:
    other = Authority.create("others", clock=SystemClock(), days=1).certificate.encode()
    assert "another host or authority" in await told(server.secured, Tls(ca=other))
