"""The gateway as an authorization server, for institutions: client credentials and nothing else.

`POST /oauth/token` (RFC 6749, client credentials) takes a client assertion over mutual TLS and
gives an access token bound to the client's certificate; `/.well-known/oauth-authorization-server`
(RFC 8414) says where and how; `/oauth/jwks` has the keys that tokens are verified by. There are no
scopes: what a participant may do follows from its role and licences, not from what a token asks.
Errors are those of RFC 6749, and are told as little as `clients` tells.
"""

import asyncio
import math
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from services.gateway.clients import ALGORITHMS, ASSERTION_TYPE, ClientAssertions
from services.gateway.http.server import peer_in
from services.gateway.jws import RefusedTokenError
from services.gateway.state.buckets import Allowance, Buckets
from services.gateway.tokens import LIFE, AccessTokens
from services.kit.calls import Peer, Refused
from services.kit.clock import Clock
from services.kit.errors import PuhuiError, ResourceExhaustedError, UnauthenticatedError

TOKEN_PATH: Final = "/oauth/token"  # noqa: S105 - a path
KEYS_PATH: Final = "/oauth/jwks"
METADATA_PATH: Final = "/.well-known/oauth-authorization-server"

# Nobody has proved anything yet: who sends slowly is not waited for.
BODY_SECONDS: Final = 10.0

_FORM: Final = "application/x-www-form-urlencoded"
_MOST_BYTES: Final = 32 * 1024
_MOST_PARAMETERS: Final = 16
# A token serves for minutes; even a hundred replicas that start together ask less than this.
_PACE: Final = Allowance(rate=20, burst=200, daily=1_000_000)
_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}

_log = structlog.get_logger()


class OAuthError(Exception):
    """What a client is told by RFC 6749.

    Args:
        error: its code.
        description: the problem and the remedy.
        status: of HTTP.
    """

    def __init__(
        self, error: str, description: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


class TokenEndpoint:
    """Gives out tokens.

    Args:
        tokens: makes them.
        clients: tells who asks for one.
        buckets: count how often a certificate asks.
        refused: is told of refusals.
        clock: the time.
    """

    def __init__(
        self,
        tokens: AccessTokens,
        clients: ClientAssertions,
        buckets: Buckets,
        refused: Refused,
        clock: Clock,
    ) -> None:
        self._tokens = tokens
        self._clients = clients
        self._buckets = buckets
        self._refused = refused
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """Return what is served over HTTP."""
        return [
            Route(TOKEN_PATH, self._token, methods=["POST"]),
            Route(KEYS_PATH, self._keys, methods=["GET"]),
            Route(METADATA_PATH, self._metadata, methods=["GET"]),
        ]

    async def _token(self, request: Request) -> Response:
        try:
            await self._pace(peer_in(request.scope))
            token = await self._issued(request)
        except OAuthError as error:
            refusal = UnauthenticatedError("TOKEN_INVALID", error.description)
            self._refused(TOKEN_PATH, None, refusal)
            content = {"error": error.error, "error_description": error.description}
            return JSONResponse(content, error.status, _NO_STORE)
        except ResourceExhaustedError as error:
            content = {"error": "temporarily_unavailable", "error_description": error.message}
            wait = str(math.ceil(error.retry_after.total_seconds()))
            headers = {**_NO_STORE, "retry-after": wait}
            return JSONResponse(content, HTTPStatus.TOO_MANY_REQUESTS, headers)
        except PuhuiError as error:
            _log.warning("no token given", reason=error.reason)
            content = {"error": "temporarily_unavailable", "error_description": error.message}
            headers = {**_NO_STORE, "retry-after": "1"}
            return JSONResponse(content, HTTPStatus.SERVICE_UNAVAILABLE, headers)
        life = int(LIFE.total_seconds())
        given = {"access_token": token, "token_type": "Bearer", "expires_in": life}
        return JSONResponse(given, headers=_NO_STORE)

    async def _pace(self, peer: Peer | None) -> None:
        if peer is None:
            return
        taken = await self._buckets.take(f"tokens {peer.thumbprint}", _PACE, self._clock.now())
        if taken.exhausted:
            raise ResourceExhaustedError(
                "OVERLOADED",
                "too many tokens are asked for: use each for its whole life",
                retry_after=taken.retry_after,
            )

    async def _issued(self, request: Request) -> str:
        form = await form_of(request)
        grant = form.get("grant_type")
        if not grant:
            raise OAuthError("invalid_request", "grant_type is missing: client_credentials")
        if grant != "client_credentials":
            raise OAuthError("unsupported_grant_type", "grant_type must be client_credentials")
        if "authorization" in request.headers or "client_secret" in form:
            raise OAuthError(
                "invalid_request", "prove the client by client_assertion and in no other way"
            )
        if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
            raise OAuthError(
                "invalid_client",
                f"client_assertion is missing, or its type is not {ASSERTION_TYPE}",
                HTTPStatus.UNAUTHORIZED,
            )
        try:
            client = await self._clients.prove(
                form["client_assertion"], form.get("client_id"), peer_in(request.scope)
            )
        except RefusedTokenError as refusal:
            raise OAuthError(
                "invalid_client", f"the client assertion {refusal}", HTTPStatus.UNAUTHORIZED
            ) from None
        if form.get("scope"):
            raise OAuthError("invalid_scope", "there are no scopes: leave scope out")
        if form.get("resource", self._tokens.issuer) != self._tokens.issuer:
            raise OAuthError("invalid_target", "resource must be the issuer's URL, or left out")
        return self._tokens.issue(client)

    async def _keys(self, request: Request) -> Response:
        return JSONResponse(self._tokens.key_set(), headers={"cache-control": "max-age=300"})

    async def _metadata(self, request: Request) -> Response:
        issuer = self._tokens.issuer
        token = issuer + TOKEN_PATH
        metadata: dict[str, Any] = {
            "issuer": issuer,
            "token_endpoint": token,
            "jwks_uri": issuer + KEYS_PATH,
            # Required by RFC 8414; there is no authorization endpoint that would have any.
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
            "tls_client_certificate_bound_access_tokens": True,
            "mtls_endpoint_aliases": {"token_endpoint": token},
        }
        return JSONResponse(metadata, headers={"cache-control": "max-age=300"})


async def form_of(request: Request) -> dict[str, str]:
    """Return the parameters of a request; an empty one counts as left out (RFC 6749).

    Raises:
        OAuthError: they cannot be read, or one comes twice.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise OAuthError("invalid_request", f"parameters must come as '{_FORM}'")
    if request.url.query:
        raise OAuthError("invalid_request", "parameters must come in the body, not in the address")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise OAuthError("invalid_request", f"more than {_MOST_BYTES} bytes were sent")
    except ClientDisconnect:
        raise OAuthError("invalid_request", "the body broke off") from None
    except TimeoutError:
        raise OAuthError(
            "invalid_request",
            f"the body did not come within {BODY_SECONDS:g} s: send it at once",
            HTTPStatus.REQUEST_TIMEOUT,
        ) from None
    try:
        pairs = parse_qsl(
            content.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise OAuthError("invalid_request", "the parameters are malformed") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "a parameter comes twice")
    return {name: value for name, value in form.items() if value}
