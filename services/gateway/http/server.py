"""The HTTP listener: uvicorn in the loop that everything else runs in."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class HttpServer:
    """Serves an application over HTTP/1.1.

    Args:
        application: what to serve.
        listen: "host:port"; port 0 lets the system choose.
        grace: seconds that running requests get at the end.
        drain: seconds between being asked to stop and refusing new connections.
    """

    def __init__(self, application: ASGIApp, listen: str, grace: float, drain: float) -> None:
        self._listen = listen
        self._drain = drain
        self._server = _Server(
            uvicorn.Config(
                application,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(grace)),
            )
        )
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or is none of this machine's.
        """
        host, _, port = self._listen.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, int(port)), family=family, backlog=1024)
        self.port = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listener]))

    async def stop(self) -> None:
        """Let clients notice, finish what runs, end."""
        await asyncio.sleep(self._drain)
        self._server.should_exit = True
        if self._serving:
            await self._serving


class _Server(uvicorn.Server):
    """Leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
