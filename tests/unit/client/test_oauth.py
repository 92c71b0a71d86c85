"""Tokens as an institution gets them: over real mutual TLS, from an endpoint that checks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey, OKPKey, RSAKey

from puhui.gateway.v1 import gateway_pb2
from puhui_client import Client, Tls, UnauthenticatedError, UnavailableError, records
from puhui_client.oauth import ClientKey, ClientKeyError
from services.kit.authority import Authority
from services.kit.clock import SystemClock
from tests.fakes.platform import FakePlatform, refusal
from tests.fakes.token_endpoint import TokenEndpoint, serving


def pem(key: Any) -> str:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made.decode()


KEYS: dict[str, tuple[Any, str]] = {
    "Ed25519": (OKPKey, pem(ed25519.Ed25519PrivateKey.generate())),
    "ES256": (ECKey, pem(ec.generate_private_key(ec.SECP256R1()))),
    "PS256": (RSAKey, pem(rsa.generate_private_key(65537, 2048))),
}
KIND, KEY = KEYS["Ed25519"]


@pytest.fixture
def authority() -> Authority:
    return Authority.create("tests", clock=SystemClock(), days=1)


@pytest.fixture
def tls(authority: Authority) -> Tls:
    own = authority.issue("bank", days=1)
    return Tls(authority.certificate.encode(), own.certificate.encode(), own.key.encode())


@pytest.fixture
async def endpoint(authority: Authority, tmp_path: Path) -> AsyncIterator[TokenEndpoint]:
    public = KIND.import_key(KEY)
    async with serving(TokenEndpoint(public), authority, tmp_path) as endpoint:
        yield endpoint


@pytest.mark.parametrize("algorithm", KEYS)
@pytest.mark.parametrize("form", ["pem", "jwk"])
async def test_an_assertion_says_who_to_whom_and_once(
    endpoint: TokenEndpoint, tls: Tls, algorithm: str, form: str
) -> None:
    kind, private = KEYS[algorithm]
    endpoint.public = kind.import_key(private)
    key = private if form == "pem" else json.dumps(kind.import_key(private).as_dict(private=True))
    credentials = ClientKey(endpoint.issuer, "par_1", key, tls)
    now = int(time.time())
    assert await credentials.authorization() == "Bearer token-1"
    (sent,) = endpoint.assertions
    assert (sent["iss"], sent["sub"], sent["aud"]) == ("par_1", "par_1", endpoint.issuer)
    assert (sent["alg"], sent["kid"]) == (algorithm, endpoint.public.thumbprint())
    assert now <= sent["iat"] <= sent["exp"] <= sent["iat"] + 60
    assert len(sent["jti"]) >= 22


async def test_a_token_is_used_until_a_fifth_of_its_life_is_left(
    endpoint: TokenEndpoint, tls: Tls
) -> None:
    now = 0.0
    credentials = ClientKey(endpoint.issuer, "par_1", KEY, tls, monotonic=lambda: now)
    told = await asyncio.gather(*(credentials.authorization() for _ in range(20)))
    assert set(told) == {"Bearer token-1"}
    now = 230.0
    assert await credentials.authorization() == "Bearer token-1"
    now = 241.0
    assert await credentials.authorization() == "Bearer token-2"
    assert endpoint.assertions[0]["jti"] != endpoint.assertions[1]["jti"]


async def test_what_is_left_of_a_token_carries_over_an_absent_endpoint(
    endpoint: TokenEndpoint, tls: Tls
) -> None:
    now = 0.0
    credentials = ClientKey(endpoint.issuer, "par_1", KEY, tls, monotonic=lambda: now)
    await credentials.authorization()
    endpoint.down = True
    now = 280.0
    assert await credentials.authorization() == "Bearer token-1"
    now = 301.0
    with pytest.raises(UnavailableError, match="gives no token"):
        await credentials.authorization()


async def test_a_refused_client_is_told_why(endpoint: TokenEndpoint, tls: Tls) -> None:
    endpoint.refuses = "invalid_client"
    with pytest.raises(UnauthenticatedError, match="not by a client that may come in"):
        await ClientKey(endpoint.issuer, "par_1", KEY, tls).authorization()


async def test_an_issuer_that_says_it_is_another_gets_no_assertion(
    endpoint: TokenEndpoint, tls: Tls
) -> None:
    endpoint.named = "https://elsewhere.example"
    with pytest.raises(UnauthenticatedError, match="name it so"):
        await ClientKey(endpoint.issuer, "par_1", KEY, tls).authorization()
    assert endpoint.assertions == []


async def test_an_endpoint_of_another_authority_gets_no_assertion(
    endpoint: TokenEndpoint, tls: Tls
) -> None:
    other = Authority.create("another", clock=SystemClock(), days=1)
    stranger = Tls(other.certificate.encode(), tls.certificate, tls.key)
    with pytest.raises(UnavailableError):
        await ClientKey(endpoint.issuer, "par_1", KEY, stranger).authorization()
    assert endpoint.assertions == []


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("nothing", "no key in PEM"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "must be Ed25519, P-256"),
        (pem(rsa.generate_private_key(65537, 1024)), "at least 2048 bits"),
        (json.dumps(OKPKey.import_key(KEY).as_dict(private=False)), "public key"),
    ],
    ids=["none", "P-384", "short", "public"],
)
def test_a_key_of_another_kind_is_refused(key: str, problem: str, tls: Tls) -> None:
    with pytest.raises(ClientKeyError, match=problem):
        ClientKey("https://127.0.0.1", "par_1", key, tls)


def test_a_certificate_of_another_key_is_refused_at_once(tls: Tls, authority: Authority) -> None:
    other = authority.issue("another", days=1)
    with pytest.raises(ClientKeyError, match="no pair"):
        ClientKey(
            "https://127.0.0.1", "par_1", KEY, Tls(tls.ca, tls.certificate, other.key.encode())
        )


def test_a_token_needs_a_certificate_and_an_https_issuer(tls: Tls) -> None:
    with pytest.raises(ClientKeyError, match="certificate"):
        ClientKey("https://127.0.0.1", "par_1", KEY, Tls(tls.ca))
    with pytest.raises(ClientKeyError, match="https"):
        ClientKey("http://127.0.0.1", "par_1", KEY, tls)


async def test_a_token_that_the_platform_refuses_is_replaced_once(
    endpoint: TokenEndpoint, tls: Tls, platform: FakePlatform
) -> None:
    credentials = ClientKey(endpoint.issuer, "par_1", KEY, tls)
    stale = refusal("UNAUTHENTICATED", "TOKEN_INVALID")
    platform.answer("WhoAmI", stale, gateway_pb2.WhoAmIResponse(participant_id="par_1"))
    async with Client(platform.address, credentials, timeout=5) as client:
        assert (await client.whoami()).participant_id == "par_1"
        sent = [call.metadata["authorization"] for call in platform.calls]
        assert sent == ["Bearer token-1", "Bearer token-2"]
        platform.answer("WhoAmI", stale, stale)
        with pytest.raises(UnauthenticatedError):
            await client.whoami()
    assert len(endpoint.assertions) == 3


async def test_a_stream_whose_token_ends_goes_on_with_another(
    endpoint: TokenEndpoint, tls: Tls, platform: FakePlatform
) -> None:
    platform.records.drops.append((1, 0))
    platform.records.drop_with = refusal("UNAUTHENTICATED", "TOKEN_INVALID")
    rows = (
        records.social_insurance(
            record_id=f"r{number}",
            uscc="91110000MA00000077",
            occurred=date(2024, 5, 1),
            obtained_at=datetime(2024, 6, 1, tzinfo=UTC),
            headcount=1,
        )
        for number in range(3)
    )
    credentials = ClientKey(endpoint.issuer, "par_1", KEY, tls)
    async with Client(platform.address, credentials, timeout=5) as client:
        report = await client.push(rows, batch_size=1)
    assert report.accepted == 3
    assert len(endpoint.assertions) == 2


@pytest.mark.parametrize("scheme", ["http", "ftp", ""])
async def test_no_token_is_asked_for_but_over_https(
    endpoint: TokenEndpoint, tls: Tls, scheme: str
) -> None:
    endpoint.elsewhere = f"{scheme}://127.0.0.1:1/token"
    credentials = ClientKey(endpoint.issuer, "par_1", KEY, tls)
    with pytest.raises(UnauthenticatedError, match="which is no https URL"):
        await credentials.authorization()
    assert not endpoint.assertions
