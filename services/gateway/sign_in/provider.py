"""Signing in at the sandbox: OpenID Connect Core, the code flow with PKCE (RFC 7636).

Its clients are programs on people's own machines: public ones, which are sent back to a loopback
address (RFC 8252). A code is good once, within a minute, for the request that it was given for.
What is given is a token for the gateway (RFC 9068), good for an hour. After five wrong passwords a
name waits a minute, whoever tries it.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OKPKey
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from services.gateway.oauth import OAuthError, form_of
from services.gateway.sign_in import accounts
from services.gateway.sign_in.page import HEADERS, form, problem
from services.kit.clock import Clock

CLIENT_ID: Final = "puhui-cli"
PATH: Final = "/sign-in"
ALGORITHM: Final = "Ed25519"

_LIFE: Final = timedelta(hours=1)
_CODE_LIFE: Final = timedelta(minutes=1)
_MOST_CODES: Final = 1_000
_FAILURES: Final = 5
_WAIT: Final = timedelta(minutes=1)
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_NO_STORE: Final = {"cache-control": "no-store", "pragma": "no-cache"}
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_MOST_CHARACTERS: Final = 512
_ASKED: Final = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)


@dataclass(frozen=True)
class Granted:
    """What a code stands for."""

    name: str
    redirect_uri: str
    challenge: str
    nonce: str
    until: datetime


class Provider:
    """Lets people sign in.

    Args:
        issuer: its URL, which ends in `PATH`.
        audience: for whom its tokens are: the gateway.
        private_key: PEM, Ed25519.
        file: the accounts.
        clock: the time.
    """

    def __init__(
        self, issuer: str, audience: str, private_key: str, file: Path, clock: Clock
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._key = OKPKey.import_key(private_key)
        self._file = file
        self._clock = clock
        self._codes: dict[str, Granted] = {}
        self._failures: dict[str, tuple[int, datetime]] = {}
        # Hashing takes 128 MiB.
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> list[BaseRoute]:
        """Return what is served over HTTP."""
        return [
            Route(f"{PATH}/.well-known/openid-configuration", self._metadata),
            Route(f"{PATH}/jwks", self._keys),
            Route(f"{PATH}/authorize", self._authorize, methods=["GET", "POST"]),
            Route(f"{PATH}/token", self._token, methods=["POST"]),
        ]

    def key_set(self) -> dict[str, Any]:
        """Return its public key (RFC 7517)."""
        public = self._key.as_dict(private=False)
        kid = self._key.thumbprint()
        return {"keys": [{**public, "kid": kid, "alg": ALGORITHM, "use": "sig"}]}

    async def _metadata(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self._issuer,
                "authorization_endpoint": f"{self._issuer}/authorize",
                "token_endpoint": f"{self._issuer}/token",
                "jwks_uri": f"{self._issuer}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "scopes_supported": ["openid"],
                "token_endpoint_auth_methods_supported": ["none"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _keys(self, request: Request) -> Response:
        return JSONResponse(self.key_set())

    async def _authorize(self, request: Request) -> Response:
        posted = request.method == "POST"
        try:
            sent: Mapping[str, str] = await form_of(request) if posted else request.query_params
        except OAuthError as error:
            return HTMLResponse(problem(error.description), HTTPStatus.BAD_REQUEST, HEADERS)
        asked = {name: sent.get(name, "") for name in _ASKED}
        wrong = _wrong(asked)
        if wrong:
            # It is not known to be the client's address: nobody is sent anywhere.
            return HTMLResponse(problem(wrong), HTTPStatus.BAD_REQUEST, HEADERS)
        if not posted:
            return HTMLResponse(form(asked), headers=HEADERS)
        name, password = sent.get("name", ""), sent.get("password", "")
        refused = await self._refused(name, password)
        if refused:
            return HTMLResponse(form(asked, refused), HTTPStatus.UNAUTHORIZED, HEADERS)
        code = self._grant(name, asked)
        answer = urlencode({"code": code, "state": asked["state"], "iss": self._issuer})
        target = f"{asked['redirect_uri']}?{answer}"
        return RedirectResponse(target, HTTPStatus.SEE_OTHER, _NO_STORE)

    async def _refused(self, name: str, password: str) -> str:
        """Return why a name and password let nobody in, or ""."""
        if max(len(name), len(password)) > _MOST_CHARACTERS:
            return "This name or password is wrong."
        async with self._one_at_a_time:
            # Looked at in turn, too: of many tries at once, each counts for the next.
            now = self._clock.now()
            count, last = self._failures.get(name, (0, now))
            if count >= _FAILURES and now < last + _WAIT:
                return "Too many wrong passwords for this name: wait a minute."
            known = accounts.read(self._file)
            if await asyncio.to_thread(accounts.right, known, name, password):
                self._failures.pop(name, None)
                return ""
            if name in known:
                self._failures[name] = (count + 1, now)
        return "This name or password is wrong."

    def _grant(self, name: str, asked: Mapping[str, str]) -> str:
        while len(self._codes) >= _MOST_CODES:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(32)
        self._codes[code] = Granted(
            name,
            asked["redirect_uri"],
            asked["code_challenge"],
            asked["nonce"],
            self._clock.now() + _CODE_LIFE,
        )
        return code

    async def _token(self, request: Request) -> Response:
        try:
            sent = await form_of(request)
        except OAuthError as error:
            return _told(error.error, error.description)
        if sent.get("grant_type") != "authorization_code":
            return _told("unsupported_grant_type", "grant_type must be authorization_code")
        if sent.get("client_id") != CLIENT_ID:
            return _told("invalid_client", f"client_id must be {CLIENT_ID}")
        # Used up, whatever comes of it.
        granted = self._codes.pop(sent.get("code", ""), None)
        if (
            granted is None
            or self._clock.now() >= granted.until
            or sent.get("redirect_uri") != granted.redirect_uri
            or not _proves(sent, granted.challenge)
        ):
            return _told("invalid_grant", "the code is not good, or not any more: sign in again")
        return JSONResponse(self._tokens(granted), headers=_NO_STORE)

    def _tokens(self, granted: Granted) -> dict[str, Any]:
        now = int(self._clock.now().timestamp())
        life = int(_LIFE.total_seconds())
        common = {"iss": self._issuer, "sub": granted.name, "iat": now, "exp": now + life}
        access = {**common, "aud": self._audience, "jti": secrets.token_urlsafe(16)}
        identity = {**common, "aud": CLIENT_ID, "auth_time": now}
        if granted.nonce:
            identity["nonce"] = granted.nonce
        return {
            "access_token": self._signed("at+jwt", {**access, "client_id": CLIENT_ID}),
            "id_token": self._signed("JWT", identity),
            "token_type": "Bearer",
            "expires_in": life,
            "scope": "openid",
        }

    def _signed(self, kind: str, claims: dict[str, Any]) -> str:
        header = {"alg": ALGORITHM, "typ": kind, "kid": self._key.thumbprint()}
        return jwt.encode(header, claims, self._key, algorithms=[ALGORITHM])


def _wrong(asked: Mapping[str, str]) -> str:
    """Return what is wrong with a request to sign in, or ""."""
    if max(map(len, asked.values())) > _MOST_CHARACTERS:
        return f"A parameter has more than {_MOST_CHARACTERS} characters."
    if asked["client_id"] != CLIENT_ID:
        return f"The client_id must be {CLIENT_ID}."
    if not _is_loopback(asked["redirect_uri"]):
        return "The redirect_uri must be http on a loopback address with a port, without a query."
    if asked["response_type"] != "code" or "openid" not in asked["scope"].split():
        return "The response_type must be code, and the scope openid."
    if asked["code_challenge_method"] != "S256" or not _CHALLENGE.fullmatch(
        asked["code_challenge"]
    ):
        return "A code_challenge by the method S256 is needed (RFC 7636)."
    return "" if asked["state"] else "A state is needed."


def _is_loopback(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        return False
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK and port is not None
    return plain and not (parts.query or parts.fragment or parts.username)


def _proves(sent: Mapping[str, str], challenge: str) -> bool:
    verifier = sent.get("code_verifier", "")
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(digest, challenge.encode())


def _told(error: str, description: str) -> Response:
    content = {"error": error, "error_description": description}
    return JSONResponse(content, HTTPStatus.BAD_REQUEST, _NO_STORE)
