"""The sandbox's OpenID provider, by HTTP requests to its routes."""

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey
from starlette.applications import Starlette

from services.gateway.main import GatewayConfig, SignInConfig
from services.gateway.sign_in import accounts
from services.gateway.sign_in.provider import PATH, Provider
from services.kit.clock import FixedClock
from services.kit.config import ConfigError
from services.kit.identity import new_key_pair

ISSUER = f"http://127.0.0.1:7480{PATH}"
AUDIENCE = "https://127.0.0.1:7481"
BACK = "http://127.0.0.1:43210/"
VERIFIER = secrets.token_urlsafe(48)
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
ASKED = {
    "response_type": "code",
    "client_id": "puhui-cli",
    "redirect_uri": BACK,
    "scope": "openid",
    "state": "s-1",
    "nonce": "n-1",
    "code_challenge": CHALLENGE.decode(),
    "code_challenge_method": "S256",
}
RIGHT = {**ASKED, "name": "wang", "password": "right"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(accounts._SCRYPT, "n", 16)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def provider(tmp_path: Path, clock: FixedClock) -> Provider:
    file = tmp_path / "accounts.json"
    file.write_text(json.dumps({"wang": accounts.entry("right", secrets.token_bytes)}))
    return Provider(ISSUER, AUDIENCE, new_key_pair()[0], file, clock)


@pytest.fixture
async def browser(provider: Provider) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(Starlette(routes=provider.routes()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:7480") as client:
        yield client


async def signed_in(browser: httpx2.AsyncClient, **changed: str) -> httpx2.Response:
    return await browser.post(f"{PATH}/authorize", data={**RIGHT, **changed})


async def code(browser: httpx2.AsyncClient) -> str:
    answer = await signed_in(browser)
    return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]


async def exchanged(browser: httpx2.AsyncClient, **changed: str) -> httpx2.Response:
    sent = {
        "grant_type": "authorization_code",
        "client_id": "puhui-cli",
        "redirect_uri": BACK,
        "code_verifier": VERIFIER,
    }
    return await browser.post(f"{PATH}/token", data={**sent, **changed})


async def test_who_signs_in_gets_a_token_for_the_gateway(
    browser: httpx2.AsyncClient, provider: Provider, clock: FixedClock
) -> None:
    page = await browser.get(f"{PATH}/authorize", params=ASKED)
    assert page.status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    answer = await signed_in(browser)
    back = urlsplit(answer.headers["location"])
    told = {name: values[0] for name, values in parse_qs(back.query).items()}
    assert answer.status_code == 303
    assert f"{back.scheme}://{back.netloc}{back.path}" == BACK
    assert (told["state"], told["iss"]) == ("s-1", ISSUER)
    given = (await exchanged(browser, code=told["code"])).json()
    key = OKPKey.import_key(provider.key_set()["keys"][0])
    access = jwt.decode(given["access_token"], key, algorithms=["Ed25519"])
    now = int(clock.now().timestamp())
    assert access.header["typ"] == "at+jwt"
    assert (access.claims["iss"], access.claims["sub"]) == (ISSUER, "wang")
    assert (access.claims["aud"], access.claims["exp"]) == (AUDIENCE, now + 3600)
    identity = jwt.decode(given["id_token"], key, algorithms=["Ed25519"]).claims
    assert (identity["aud"], identity["nonce"]) == ("puhui-cli", "n-1")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"redirect_uri": "https://evil.example/"}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1/"}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1:1@evil.example:2/"}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1:x/"}, "redirect_uri"),
        ({"redirect_uri": f"{BACK}?a=1"}, "redirect_uri"),
        ({"client_id": "another"}, "client_id"),
        ({"response_type": "token"}, "response_type"),
        ({"scope": "profile"}, "openid"),
        ({"code_challenge": "short"}, "code_challenge"),
        ({"code_challenge_method": "plain"}, "code_challenge"),
        ({"state": ""}, "state"),
        ({"nonce": "n" * 600}, "characters"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_that_is_wrong_sends_nobody_anywhere(
    browser: httpx2.AsyncClient, changed: dict[str, str], problem: str, method: str
) -> None:
    if method == "GET":
        answer = await browser.get(f"{PATH}/authorize", params={**ASKED, **changed})
    else:
        answer = await signed_in(browser, **changed)
    assert answer.status_code == 400
    assert problem in answer.text
    assert "location" not in answer.headers


async def test_what_is_asked_comes_back_as_text(browser: httpx2.AsyncClient) -> None:
    page = await browser.get(
        f"{PATH}/authorize", params={**ASKED, "state": '"><script>alert(1)</script>'}
    )
    assert "<script" not in page.text
    assert "&lt;script" in page.text


@pytest.mark.parametrize("changed", [{"password": "wrong"}, {"name": "nobody"}, {"password": ""}])
async def test_a_wrong_password_lets_nobody_in(
    browser: httpx2.AsyncClient, changed: dict[str, str]
) -> None:
    answer = await signed_in(browser, **changed)
    assert answer.status_code == 401
    assert "wrong" in answer.text


async def test_a_name_waits_after_five_wrong_passwords(
    browser: httpx2.AsyncClient, clock: FixedClock
) -> None:
    for _ in range(5):
        assert (await signed_in(browser, password="wrong")).status_code == 401
    assert "wait a minute" in (await signed_in(browser)).text
    clock.advance(timedelta(minutes=1))
    assert (await signed_in(browser)).status_code == 303


async def test_of_many_passwords_tried_at_once_five_are_looked_at(
    browser: httpx2.AsyncClient,
) -> None:
    tries = [signed_in(browser, password=f"guess {number}") for number in range(20)]
    answers = await asyncio.gather(*tries, signed_in(browser))
    assert sum("is wrong" in answer.text for answer in answers) == 5
    assert sum("wait a minute" in answer.text for answer in answers) == 16


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": secrets.token_urlsafe(48)},
        {"code_verifier": "short"},
        {"redirect_uri": "http://127.0.0.1:43211/"},
        {"client_id": "another"},
        {"grant_type": "password"},
    ],
)
async def test_a_code_is_good_for_its_own_request_alone(
    browser: httpx2.AsyncClient, changed: dict[str, str]
) -> None:
    answer = await exchanged(browser, code=await code(browser), **changed)
    assert answer.status_code == 400
    assert "access_token" not in answer.json()


async def test_a_code_is_good_once(browser: httpx2.AsyncClient) -> None:
    given = await code(browser)
    assert (await exchanged(browser, code=given)).status_code == 200
    assert (await exchanged(browser, code=given)).json()["error"] == "invalid_grant"


async def test_a_wrong_verifier_uses_a_code_up(browser: httpx2.AsyncClient) -> None:
    given = await code(browser)
    await exchanged(browser, code=given, code_verifier=secrets.token_urlsafe(48))
    assert (await exchanged(browser, code=given)).json()["error"] == "invalid_grant"


async def test_a_code_is_good_for_a_minute(browser: httpx2.AsyncClient, clock: FixedClock) -> None:
    given = await code(browser)
    clock.advance(timedelta(minutes=1))
    assert (await exchanged(browser, code=given)).json()["error"] == "invalid_grant"


async def test_it_says_of_itself_what_it_is(browser: httpx2.AsyncClient) -> None:
    said: dict[str, Any] = (await browser.get(f"{PATH}/.well-known/openid-configuration")).json()
    assert said["issuer"] == ISSUER
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert (await browser.get(f"{PATH}/jwks")).json()["keys"][0].keys() >= {"kid", "x"}


def test_a_file_with_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "accounts.json"
    assert accounts.read(file) == {}
    for content in ("[]", '{"a": {}}', "{", '{"a": {"salt": "zz", "scrypt": ""}}'):
        file.write_text(content)
        with pytest.raises(ConfigError, match="no accounts"):
            accounts.read(file)


def test_production_has_none(tmp_path: Path) -> None:
    own = SignInConfig(ISSUER, tmp_path / "key.pem", tmp_path / "accounts.json")
    with pytest.raises(ValueError, match="sign_in is for a sandbox"):
        GatewayConfig("d:1", "s:1", tmp_path / "key.pem", tenant="production", sign_in=own)
