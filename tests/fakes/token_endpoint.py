"""A token endpoint over mutual TLS that checks assertions and counts what it gave."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from joserfc import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.kit.authority import Authority


@dataclass
class TokenEndpoint:
    """What it was asked, and how it answers.

    Args:
        public: the client's key.
        lasts: `expires_in`, seconds.
        refuses: the `error` that it answers with.
        down: it answers 503.
        elsewhere: the URL that its metadata name instead of its own.
    """

    public: Any
    issuer: str = ""
    named: str = ""
    lasts: int = 300
    refuses: str = ""
    down: bool = False
    elsewhere: str = ""
    assertions: list[dict[str, Any]] = field(default_factory=list)

    async def metadata(self, _request: Request) -> Response:
        """RFC 8414."""
        endpoint = {"token_endpoint": self.elsewhere or f"{self.issuer}/token"}
        return JSONResponse(
            {"issuer": self.named or self.issuer, "mtls_endpoint_aliases": endpoint}
        )

    async def token(self, request: Request) -> Response:
        """RFC 6749, client credentials."""
        await asyncio.sleep(0)
        sent = dict(parse_qsl((await request.body()).decode()))
        if self.down:
            return Response(status_code=503)
        if self.refuses:
            told = {"error": self.refuses, "error_description": "not by a client that may come in"}
            return JSONResponse(told, 401)
        algorithms = ["Ed25519", "ES256", "PS256"]
        decoded = jwt.decode(sent["client_assertion"], self.public, algorithms=algorithms)
        self.assertions.append({**decoded.claims, **decoded.header})
        token = f"token-{len(self.assertions)}"
        return JSONResponse(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.lasts}
        )


@asynccontextmanager
async def serving(
    endpoint: TokenEndpoint, authority: Authority, folder: Path
) -> AsyncIterator[TokenEndpoint]:
    """Serve on loopback, to clients with a certificate of the authority."""
    own = authority.issue("token endpoint", hosts=["127.0.0.1"], days=1)
    (folder / "server.crt").write_text(own.certificate)
    (folder / "server.key").write_text(own.key)
    (folder / "ca.crt").write_text(authority.certificate)
    routes = [
        Route("/.well-known/oauth-authorization-server", endpoint.metadata),
        Route("/token", endpoint.token, methods=["POST"]),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes),
        port=0,
        log_config=None,
        lifespan="off",
        ssl_certfile=folder / "server.crt",
        ssl_keyfile=folder / "server.key",
        ssl_ca_certs=str(folder / "ca.crt"),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    endpoint.issuer = f"https://127.0.0.1:{port}"
    try:
        running = asyncio.create_task(server.main_loop())
        yield endpoint
    finally:
        server.should_exit = True
        await running
        await server.shutdown()
