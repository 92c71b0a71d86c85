import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from services.kit import health
from services.kit.health import HealthConfig, HealthServer


@pytest.fixture
async def server() -> AsyncIterator[HealthServer]:
    served = HealthServer(HealthConfig(), lambda: b"calls_total 1.0\n")
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def http(server: HealthServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client


async def test_it_is_ready_only_when_it_says_so(
    server: HealthServer, http: httpx2.AsyncClient
) -> None:
    assert (await http.get("/readyz")).status_code == 503
    server.ready = True
    assert (await http.get("/readyz?verbose")).status_code == 200
    server.ready = False
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ready\n")


async def test_it_is_alive_while_not_ready(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/healthz")).status_code == 200


async def test_metrics_are_prometheus_text(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.text == "calls_total 1.0\n"


async def test_other_requests_are_refused(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/")).status_code == 404
    assert (await http.post("/healthz", content=b"x")).status_code == 405
    head = await http.head("/healthz")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "6")


@pytest.mark.parametrize(
    "sent", [b"", b"nonsense\r\n\r\n", b"GET /metrics HTTP/1.1\r\n" + b"x" * 100_000]
)
async def test_nonsense_and_silence_do_not_stop_it(
    server: HealthServer, http: httpx2.AsyncClient, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_REQUEST_TIMEOUT_S", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    try:
        async with asyncio.timeout(2):
            answer = await reader.read()
    except ConnectionError:
        answer = b""
    writer.close()
    assert b" 200 " not in answer
    assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("listen", ["", "localhost", "127.0.0.1:", "127.0.0.1:http"])
def test_an_address_without_a_port_is_refused(listen: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        HealthConfig(listen)
