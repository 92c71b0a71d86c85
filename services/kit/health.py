"""Health and metrics in plain HTTP, on a port of their own.

Probes and scrapers have no client certificate, and the port stays inside the cluster.

- `GET /healthz`: 200 while the event loop turns; 503 never, so a restart follows only on a hang.
- `GET /readyz`: 200 while calls are welcome, 503 before and while draining. It does not ask the
  database: were that down, taking every replica out of service would help nobody, and calls get an
  UNAVAILABLE that says why.
- `GET /metrics`: Prometheus' text format.

Written on asyncio alone: an ASGI server would bring the gateway's web packages into every service
for three fixed answers. Each connection gets one answer and is closed; a slow or long request is
dropped.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST

from services.kit.config import check_listen

_LONGEST_REQUEST: Final = 16 * 1024
_REQUEST_TIMEOUT_S: Final = 5.0
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class HealthConfig:
    """Where health and metrics are served.

    Args:
        listen: "host:port"; port 0 lets the system choose.
    """

    listen: str = field(
        default="127.0.0.1:0",
        metadata={"help": "host:port of health and metrics; port 0: any free"},
    )

    def __post_init__(self) -> None:
        check_listen("listen", self.listen)


class HealthServer:
    """Answers probes and scrapers.

    Args:
        config: where it listens.
        metrics: returns the metrics in Prometheus' text format; called in a thread.
    """

    def __init__(self, config: HealthConfig, metrics: Callable[[], bytes]) -> None:
        self._config = config
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self.ready = False
        self.port = 0

    async def start(self) -> None:
        """Listen; not ready until `ready` is set.

        Raises:
            OSError: the address is taken.
        """
        host, _, port = self._config.listen.rpartition(":")
        self._server = await asyncio.start_server(
            self._answer, host.strip("[]"), int(port), limit=_LONGEST_REQUEST
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = await self._respond(head.split(b"\r\n", 1)[0])
                writer.write(
                    f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\n"
                    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                )
                if not head.startswith(b"HEAD "):
                    writer.write(body)
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # not HTTP, too slow, too long or gone: there is nobody to tell
        finally:
            writer.close()

    async def _respond(self, request: bytes) -> tuple[HTTPStatus, str, bytes]:
        method, _, rest = request.partition(b" ")
        if method not in (b"GET", b"HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"only GET\n"
        match rest.split(b" ")[0].split(b"?")[0]:
            case b"/healthz":
                return HTTPStatus.OK, _TEXT, b"alive\n"
            case b"/readyz" if self.ready:
                return HTTPStatus.OK, _TEXT, b"ready\n"
            case b"/readyz":
                return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"not ready\n"
            case b"/metrics":
                return HTTPStatus.OK, CONTENT_TYPE_LATEST, await asyncio.to_thread(self._metrics)
            case _:
                return HTTPStatus.NOT_FOUND, _TEXT, b"there are /healthz, /readyz and /metrics\n"
