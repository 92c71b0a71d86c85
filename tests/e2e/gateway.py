"""A gateway with small services behind it, for the tests of the gateway."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import httpx2
import uvicorn.server
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from services.gateway.main import Gateway, GatewayConfig, build
from services.kit.clock import SystemClock
from services.kit.identity import new_key_pair
from services.kit.server import ServerConfig
from tests.fakes.backend import Backend, start_backend

PRIVATE, PUBLIC = new_key_pair()


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds / 20)


# uvicorn looks every 0.1 s whether it is to end, and waits as long for its connections: most of the
# time of a short test.
vars(uvicorn.server)["asyncio"] = SimpleNamespace(**{**vars(asyncio), "sleep": _sleep})


@dataclass
class Entrance:
    """The gateway, what is behind it, and ways to call it."""

    gateway: Gateway
    backend: Backend
    channel: grpc.aio.Channel
    http: httpx2.AsyncClient

    def key(self, role: str, participant_id: str = "par_1", subject_id: str = "") -> str:
        """Return the API key of a new participant."""
        return self.backend.participants.issue(role, participant_id, subject_id)

    async def unary(
        self,
        method: str,
        request: Message | bytes,
        key: str | None,
        metadata: tuple[tuple[str, str], ...] = (),
        timeout: float | None = 10.0,
    ) -> bytes:
        """Call a unary method over gRPC and return the response's bytes."""
        body = request if isinstance(request, bytes) else request.SerializeToString()
        call: Any = self.channel.unary_unary(f"/puhui.{method}")
        answer: bytes = await call(body, metadata=self.metadata(key, metadata), timeout=timeout)
        return answer

    def stream(self, method: str, key: str, timeout: float | None = 10.0) -> Any:
        """Open a stream over gRPC, in bytes."""
        call: Any = self.channel.stream_stream(f"/puhui.{method}")
        return call(metadata=self.metadata(key), timeout=timeout)

    @staticmethod
    def metadata(
        key: str | None, more: tuple[tuple[str, str], ...] = ()
    ) -> tuple[tuple[str, str], ...]:
        """Return the metadata of a call with an API key."""
        return (*more, *((("authorization", f"Bearer {key}"),) if key else ()))


@asynccontextmanager
async def entrance(**config: Any) -> AsyncIterator[Entrance]:
    """Run a gateway and its backend."""
    backend = await start_backend(PUBLIC)
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "identity.pem"
        key.write_text(PRIVATE)
        settings = {
            "changes_every": timedelta(seconds=0.05),
            "server": ServerConfig(grace=0.1),
            "scoring": f"127.0.0.1:{backend.scoring.port}",
            "datashare": f"127.0.0.1:{backend.datashare.port}",
            **config,
        }
        gateway = build(GatewayConfig(identity_private_key=key, **settings), SystemClock())
    await gateway.start()
    try:
        async with (
            grpc.aio.insecure_channel(
                f"127.0.0.1:{gateway.port}",
                options=[("grpc.max_send_message_length", -1)],
            ) as channel,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{gateway.http_port}") as http,
        ):
            yield Entrance(gateway, backend, channel, http)
    finally:
        await gateway.stop()
        await asyncio.gather(backend.datashare.stop(), backend.scoring.stop())


@dataclass(frozen=True)
class Told:
    """What a failed call said."""

    code: grpc.StatusCode
    reason: str
    fields: tuple[str, ...]
    retry: bool
    trace_id: str


def told(error: grpc.aio.AioRpcError) -> Told:
    """Return what a failed gRPC call said."""
    trailers = dict(error.trailing_metadata() or ())
    details = trailers.get("grpc-status-details-bin", b"")
    assert isinstance(details, bytes)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retried = False
    for detail in status_pb2.Status.FromString(details).details:
        if not detail.Unpack(info) and not detail.Unpack(bad):
            retried = retried or detail.Unpack(retry)
    return Told(
        error.code(),
        info.reason,
        tuple(violation.field for violation in bad.field_violations),
        retried,
        info.metadata["trace_id"],
    )


async def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.01)
