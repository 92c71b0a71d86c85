"""The HTTP listener: uvicorn in the loop that everything else runs in.

With TLS a client may show a certificate of an authority that is trusted; one of another authority
ends the handshake. Whose it is stands in the scope of every request of that connection, as the
extension `PEER`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.http.protocol import Protocol
from services.kit.calls import Peer
from services.kit.clock import Clock
from services.kit.peers import peer_of
from services.kit.tls import Certificates

PEER = "puhui.peer"
HANDSHAKE_SECONDS: Final = 10.0


def peer_in(scope: Scope) -> Peer | None:
    """Return who is at the other end of the connection by which a request came."""
    found: Peer | None = scope.get("extensions", {}).get(PEER)
    return found


class HttpServer:
    """Serves an application over HTTP/1.1.

    Args:
        application: what to serve.
        listen: "host:port"; port 0 lets the system choose.
        grace: seconds that running requests get at the end.
        drain: seconds between being asked to stop and refusing new connections.
        clock: the time, by which certificates are valid.
        certificates: of TLS; None is plaintext.

    Raises:
        ConfigError: the certificates cannot be used.
    """

    def __init__(
        self,
        application: ASGIApp,
        listen: str,
        grace: float,
        drain: float,
        clock: Clock,
        certificates: Certificates | None = None,
    ) -> None:
        self._listen = listen
        self._drain = drain
        context = certificates.http_server() if certificates else None
        self._server = _Server(
            uvicorn.Config(
                application,
                http=_protocol(clock) if context else Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(grace)),
                ssl_context_factory=(lambda _config, _default: context) if context else None,
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
        # Else head and body of an answer are 40 ms apart; accepted connections inherit it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve([listener]))

    async def stop(self) -> None:
        """Let clients notice, finish what runs, end."""
        await asyncio.sleep(self._drain)
        self._server.should_exit = True
        if self._serving:
            await self._serving


class _Server(uvicorn.Server):
    """Leaves signals to the process, and bounds the time of a TLS handshake."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, as uvicorn does, which knows no bound of its own."""
        loop = asyncio.get_running_loop()
        if self.config.ssl is None or not sockets:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        self.servers = [
            await loop.create_server(
                self._connection,
                sock=each,
                ssl=self.config.ssl,
                backlog=self.config.backlog,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
            for each in sockets
        ]
        self.started = True

    def _connection(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _protocol(clock: Clock) -> type[Protocol]:
    """Return the protocol, whose requests know the certificate of their connection."""

    class Proven(Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            if certificate:
                self.app: Any = _WithPeer(self.app, certificate, clock)

    return Proven


class _WithPeer:
    """An application that is told who is at the other end.

    Args:
        application: what serves.
        certificate: of the other end, DER, as TLS verified it.
        clock: the time, by which it is valid.
    """

    def __init__(self, application: ASGIApp, certificate: bytes, clock: Clock) -> None:
        self._application = application
        self._certificate = certificate
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        peer = peer_of(self._certificate, self._clock.now())
        extensions = {**scope.get("extensions", {}), PEER: peer}
        await self._application({**scope, "extensions": extensions}, receive, send)
