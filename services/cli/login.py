"""`puhui login`: sign in at an OpenID provider, for people; institutions have certificates.

The browser is sent to the provider and comes back to this machine (RFC 8252, the code flow with
PKCE). What is got is kept in `puhui/login.json` of the configuration folder, for its owner alone,
and used by every command that is told of no other credentials, until it ends or `puhui logout`.
"""

import asyncio
import json
import os
import time
import webbrowser
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

import typer

from services.cli.command import REFUSED, local, usage
from services.cli.output import Output
from services.cli.settings import SettingsError, login_file

_TIMEOUT: Final = 10.0
_WAIT_S: Final = 300
_CLIENT_ID: Final = "puhui-cli"
_DISCOVERY: Final = "/.well-known/openid-configuration"
_SOON: Final = 30.0
_DONE: Final = (
    "<!doctype html><meta charset=utf-8><title>Puhui</title>"
    "<p>Signed in: close this window and go back to the terminal.<p>已登录，请回到命令行。"
)


class NotSignedInError(Exception):
    """The provider gave nothing; the message says why and what to do."""


class SignedIn:
    """Credentials of a person who signed in; renewed where the provider gave a refresh token.

    Args:
        file: what `login` kept.

    Raises:
        SettingsError: it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._kept: dict[str, Any] = json.loads(file.read_text("utf-8"))
            self._access, self._ends = str(self._kept["access_token"]), float(self._kept["ends"])
        except (OSError, ValueError, KeyError, TypeError):
            raise SettingsError(f"{file} cannot be read: sign in again by `puhui login`") from None

    async def authorization(self) -> str:
        """Return the value of the header.

        Raises:
            UnauthenticatedError: the time is over and it cannot be renewed.
        """
        if time.time() > self._ends - _SOON:
            await asyncio.to_thread(self._renew)
        return f"Bearer {self._access}"

    def rejected(self, authorization: str) -> bool:
        """There is no other than by signing in."""
        return False

    def _renew(self) -> None:
        from puhui_client import UnauthenticatedError

        refresh = self._kept.get("refresh_token")
        if refresh:
            from authlib.common.errors import AuthlibBaseError
            from authlib.integrations.httpx_client import OAuth2Client
            from httpx2 import HTTPError

            try:
                with OAuth2Client(client_id=self._kept["client_id"], timeout=_TIMEOUT) as client:
                    given = client.refresh_token(self._kept["token_endpoint"], refresh)
            except (AuthlibBaseError, HTTPError, ValueError):
                given = None
            if given:
                self._kept |= {"refresh_token": refresh, **_times(given)}
                _write(self._file, self._kept)
                self._access, self._ends = self._kept["access_token"], self._kept["ends"]
                return
        raise UnauthenticatedError(
            code="UNAUTHENTICATED",
            reason="TOKEN_INVALID",
            message="you are signed out: sign in again by `puhui login`",
        )


def login(
    out: Output,
    issuer: Annotated[
        str,
        typer.Option(
            "--issuer",
            envvar="PUHUI_ISSUER",
            help="URL of the OpenID provider; of a sandbox, the one in its endpoints.json.",
        ),
    ],
    client_id: Annotated[
        str, typer.Option("--client-id", help="As which this program is known there.")
    ] = _CLIENT_ID,
    scope: Annotated[str, typer.Option("--scope", help="What is asked for.")] = "openid",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open one, or print the address.")
    ] = True,
) -> None:
    """Sign in at an OpenID provider, in a browser."""
    try:
        kept = _signed_in(out, issuer.rstrip("/"), client_id, scope, browser=browser)
    except NotSignedInError as error:
        out.failed("SIGN_IN_FAILED", str(error))
        raise typer.Exit(REFUSED) from None
    file = login_file(os.environ)
    _write(file, kept)
    ends = time.strftime("%H:%M", time.localtime(kept["ends"]))
    out.show(
        {"issuer": kept["issuer"], "file": str(file), "ends": kept["ends"]},
        f"Signed in at {kept['issuer']} until {ends}; kept in {file}.",
    )


def logout(out: Output) -> None:
    """Forget what signing in gave."""
    file = login_file(os.environ)
    there = file.exists()
    file.unlink(missing_ok=True)
    said = "Signed out." if there else "You were not signed in."
    out.show({"signed_out": there}, said)


def register(main: typer.Typer) -> None:
    """Add the commands to the main group."""
    local(main, example="puhui login --issuer http://127.0.0.1:7480/sign-in")(login)
    local(main, example="puhui logout")(logout)


def _signed_in(
    out: Output, issuer: str, client_id: str, scope: str, *, browser: bool
) -> dict[str, Any]:
    import httpx2
    from authlib.common.errors import AuthlibBaseError
    from authlib.common.security import generate_token
    from authlib.integrations.httpx_client import OAuth2Client

    parts = urlsplit(issuer)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise usage("--issuer must be an https URL; http is for a sandbox on this machine")
    with (
        _Return(("127.0.0.1", 0)) as returned,
        OAuth2Client(
            client_id=client_id,
            scope=scope,
            redirect_uri=f"http://127.0.0.1:{returned.server_port}/",
            code_challenge_method="S256",
            token_endpoint_auth_method="none",  # noqa: S106 - that there is none
            timeout=_TIMEOUT,
        ) as client,
    ):
        try:
            found = httpx2.get(issuer + _DISCOVERY, timeout=_TIMEOUT).raise_for_status().json()
            if found["issuer"] != issuer:
                raise NotSignedInError(f"{issuer} says that it is another issuer: check the URL")
            verifier = generate_token(64)
            address, state = client.create_authorization_url(
                found["authorization_endpoint"], code_verifier=verifier
            )
            out.note(f"Sign in at {address}")
            if browser:
                webbrowser.open(address)
            code = returned.code(state, issuer)
            given = client.fetch_token(
                found["token_endpoint"],
                grant_type="authorization_code",
                code=code,
                code_verifier=verifier,
            )
        except (AuthlibBaseError, httpx2.HTTPError, KeyError, ValueError) as error:
            told = getattr(error, "description", "") or "it does not answer as it should"
            raise NotSignedInError(f"{issuer} gave no token: {told}") from None
    endpoint = found["token_endpoint"]
    return {
        "issuer": issuer,
        "client_id": client_id,
        "token_endpoint": endpoint,
        "refresh_token": given.get("refresh_token", ""),
        **_times(given),
    }


def _times(given: Mapping[str, Any]) -> dict[str, Any]:
    ends = time.time() + float(given.get("expires_in", 0))
    kept = {"access_token": given["access_token"], "ends": ends}
    if given.get("refresh_token"):
        kept["refresh_token"] = given["refresh_token"]
    return kept


def _write(file: Path, kept: Mapping[str, Any]) -> None:
    from services.kit.files import write_secret

    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_secret(file, json.dumps(kept))


class _Return(HTTPServer):
    """Where the browser comes back to, once."""

    timeout = 1.0

    def __init__(self, address: tuple[str, int]) -> None:
        self.answered: dict[str, list[str]] = {}
        super().__init__(address, _Answer)

    def code(self, state: str, issuer: str) -> str:
        """Wait for the code.

        Raises:
            NotSignedInError: it does not come, or comes from elsewhere.
        """
        until = time.monotonic() + _WAIT_S
        while not self.answered:
            if time.monotonic() > until:
                raise NotSignedInError("nobody signed in within five minutes: try again")
            self.handle_request()
        answer = {name: values[0] for name, values in self.answered.items()}
        if answer.get("state") != state or answer.get("iss", issuer) != issuer:
            raise NotSignedInError("the answer was for another request: try again")
        if "code" not in answer:
            why = answer.get("error_description") or answer.get("error", "it does not say why")
            raise NotSignedInError(f"the provider signed nobody in: {why}")
        return answer["code"]


class _Answer(BaseHTTPRequestHandler):
    server: _Return

    def do_GET(self) -> None:
        """Take the answer; whatever else a browser asks for is not there."""
        parts = urlsplit(self.path)
        if parts.path != "/" or not parts.query:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.server.answered = parse_qs(parts.query)
        body = _DONE.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the address holds the code."""
