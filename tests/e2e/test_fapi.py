"""Institutions and people at the entrance, over real TLS: FAPI 2.0, as its conformance suite asks.

What is refused is in tests/cases/identity.toml, with the suite's modules (`fapi2spfinal`) that the
cases are from; here it is done. Each wrong request differs from a right one, which is let in.
"""

import asyncio
import base64
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt
from joserfc.jwk import KeySet

from puhui_client import Client
from services.gateway.oauth import METADATA_PATH
from services.kit.authority import Authority, Issued
from services.kit.clock import SystemClock
from services.sandbox.embedded import embedded
from tests.cases.table import Case, parameters
from tests.e2e.fapi import (
    CONSOLE,
    ISSUER,
    OTHER_ISSUER,
    PERSONS_ISSUER,
    WHO_AM_I,
    Doors,
    Institution,
    Private,
    Refusal,
    assertion,
    claims,
    doors,
    encoded,
    form,
    jwk,
    parts,
    public_pem,
    signed,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

SOON = 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def entrance(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Doors]:
    async with doors(tmp_path_factory.mktemp("doors")) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bank(entrance: Doors) -> Institution:
    return entrance.institution(products=("data_service", "credit_reporting"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other(entrance: Doors) -> Institution:
    return entrance.institution()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(entrance: Doors, bank: Institution, other: Institution) -> dict[str, Any]:
    """Keys by what the table calls them."""
    made: dict[str, Any] = {
        "registered": bank.key,
        "other": other.key,
        "unregistered": ed25519.Ed25519PrivateKey.generate(),
        "revoked": ed25519.Ed25519PrivateKey.generate(),
        "rsa": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "hmac-of-public": public_pem(bank.key),
        "none": None,
        **entrance.issuer_keys,
    }
    for name in ("rsa", "p256"):
        entrance.register_key(bank.participant_id, made[name])
    entrance.directory.revoke(entrance.register_key(bank.participant_id, made["revoked"]))
    return made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def certificates(
    entrance: Doors, bank: Institution, other: Institution
) -> dict[str, Issued | None]:
    """Certificates by what the table calls them."""
    made = {name: entrance.authority.issue(name) for name in ("unregistered", "revoked", "second")}
    for name in ("revoked", "second"):
        held = entrance.directory.register(bank.participant_id, certificate=made[name].thumbprint)
        if name == "revoked":
            entrance.directory.revoke(held)
    return {**made, "own": bank.certificate, "other": other.certificate, "none": None}


def filled(value: Any, words: Mapping[str, str], now: int = 0) -> Any:
    """Return a value of the table with its words put in; in a time, seconds from now."""
    if isinstance(value, str):
        for word, meant in words.items():
            value = value.replace(f"<{word}>", meant)
        return value
    if isinstance(value, list):
        return [filled(each, words) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return now + value
    return value


def respelled(token: str, how: str, sibling: str) -> str:
    """Return a token whose text was changed after it was signed."""
    header, payload, signature = token.split(".")
    match how:
        case "payload":
            said = json.loads(base64.urlsafe_b64decode(payload + "=="))
            payload = encoded(json.dumps(said | {"jti": "another"}).encode())
        case "signature":
            changed = bytearray(base64.urlsafe_b64decode(signature + "=="))
            changed[10] ^= 1
            signature = encoded(bytes(changed))
        case "unsigned":
            signature = ""
        case "other-signature":
            signature = sibling.rpartition(".")[2]
        case "stray-bits":
            # 64 bytes leave four bits of the last character unused.
            alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            signature = signature[:-1] + alphabet[alphabet.index(signature[-1]) ^ 1]
        case "padded":
            signature += "=="
        case "line-break":
            payload = f"{payload[:10]}\n{payload[10:]}"
        case "five-parts":
            return f"{token}.a.b"
    return f"{header}.{payload}.{signature}"


def wrong(
    make: Mapping[str, Any],
    header: Mapping[str, Any],
    said: Mapping[str, Any],
    key: Private | bytes | None,
    words: Mapping[str, str],
) -> str:
    """Return a token as a case makes it from a right header and right claims."""
    now = int(time.time())
    times = ("iat", "nbf", "exp")
    changed = {
        name: filled(value, words, now if name in times else 0)
        for name, value in make.get("claims", {}).items()
    }
    kept = {k: v for k, v in {**said, **changed}.items() if k not in make.get("drop", ())}
    head = {
        k: v
        for k, v in {**header, **make.get("header", {})}.items()
        if k not in make.get("drop_header", ())
    }
    if make.get("key") == "none":
        head["alg"] = make.get("header", {}).get("alg", "none")
    if "header_key" in make and key is not None and not isinstance(key, bytes):
        head[make["header_key"]] = jwk(key)
    payload = json.dumps(kept).encode()
    match make.get("payload"):
        case "twice":
            payload = payload[:-1] + b', "sub": "' + str(said["sub"]).encode() + b'"}'
        case "deep":
            payload = b"[" * 3000 + b"]" * 3000
        case str(text):
            payload = text.encode()
    token = signed(head, payload, key)
    sibling = signed(head, json.dumps(kept | {"jti": uuid.uuid4().hex}).encode(), key)
    return respelled(token, make.get("spelling", ""), sibling)


@parameters("identity", "token-endpoint")
async def test_no_token_is_given(
    entrance: Doors,
    bank: Institution,
    other: Institution,
    keys: dict[str, Any],
    certificates: dict[str, Issued | None],
    case: Case,
    protocol: str,
) -> None:
    make = case.make
    words = {"issuer": ISSUER, "other": other.participant_id, "long": "x" * 9_000}
    who = bank
    if make.get("client") == "suspended":
        who = entrance.institution()
        await entrance.token(who)
        entrance.directory.suspend(who.participant_id)
    key = who.key if "key" not in make else keys[make["key"]]
    certificate = certificates[make["certificate"]] if "certificate" in make else who.certificate
    words["access token"] = await entrance.token(bank)
    made = wrong(make, {"alg": "EdDSA"}, claims(who), key, words)
    match make.get("before"):
        case "used":
            assert (await entrance.asked(form(made), certificate)).status_code == 200
        case "jti-used":
            jti = parts(made)[1]["jti"]
            earlier = assertion(who, jti=jti, exp=int(time.time()) + 30)
            assert (await entrance.asked(form(earlier), certificate)).status_code == 200
    fields = {name: filled(value, words) for name, value in make.get("form", {}).items()}
    sent = form(**{"client_assertion": made, **fields})
    http = entrance.http(certificate)

    async def ask() -> tuple[int, dict[str, Any]]:
        headers = make.get("http", {})
        match make.get("body"):
            case "twice":
                body = "&".join(f"{k}={v}" for k, v in [*sent.items(), ("grant_type", "x")])
                kind = {"content-type": "application/x-www-form-urlencoded"}
                response = await http.post("/oauth/token", content=body, headers=kind)
            case "query":
                kind = {"content-type": "application/x-www-form-urlencoded"}
                response = await http.post("/oauth/token", params=sent, headers=kind)
            case "json":
                response = await http.post("/oauth/token", json=sent)
            case _:
                response = await http.post("/oauth/token", data=sent, headers=headers)
        return response.status_code, response.json()

    until = asyncio.get_running_loop().time() + SOON
    status, said = await ask()
    # A suspension arrives by the feed.
    while status == 200 and "client" in make and asyncio.get_running_loop().time() < until:
        await asyncio.sleep(0.02)
        sent["client_assertion"] = assertion(who)
        status, said = await ask()
    assert (status, said["error"]) == (case.http, case.expect), said
    assert case.says in said["error_description"]
    assert set(said) == {"error", "error_description"}


@parameters("identity", "calls")
async def test_no_call_is_let_in(
    entrance: Doors,
    bank: Institution,
    other: Institution,
    keys: dict[str, Any],
    certificates: dict[str, Issued | None],
    case: Case,
    protocol: str,
) -> None:
    make = case.make
    who = entrance.institution() if "event" in make else bank
    right = await entrance.token(who)
    assert (await entrance.call(protocol, who.certificate, f"Bearer {right}")).reason == ""
    certificate = certificates[make["certificate"]] if "certificate" in make else who.certificate
    words = {
        "issuer": ISSUER,
        "other": other.participant_id,
        "token": right,
        "assertion": assertion(who),
    }
    header, said, key = template(entrance, make.get("token", "ours"), who, right)
    if make.get("key") == "hmac-of-public":
        key = public_pem(entrance.token_key)
    elif "key" in make:
        key = keys[make["key"]]
    token = wrong(make, header, said, key, words)
    sent = [filled(make.get("authorization", f"Bearer {token}"), words)]
    if "twice" in make:
        sent = [f"Bearer {right}", make["twice"]]
    if "event" not in make:
        refusal = await entrance.call(protocol, certificate, *sent)
    else:
        happens(entrance, make["event"], who)
        refusal = await refused_at_last(entrance, protocol, who, right)
    status = case.http if protocol == "https" else case.grpc
    assert (refusal.status, refusal.reason) == (str(status), case.expect), refusal
    assert case.says in refusal.message


def template(
    entrance: Doors, kind: str, who: Institution, right: str
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return header, claims and key of a right token of a kind."""
    now = int(time.time())
    if kind == "ours":
        return *parts(right), entrance.token_key
    times = {"iat": now, "exp": now + 300}
    if kind == "person":
        said = {"iss": PERSONS_ISSUER, "aud": CONSOLE, "sub": "alice", **times}
        return {"alg": "RS256", "typ": "JWT"}, said, entrance.issuer_keys["person"]
    said = {
        "iss": OTHER_ISSUER,
        "aud": ISSUER,
        "sub": "account-7",
        "client_id": who.participant_id,
        "cnf": {"x5t#S256": who.certificate.thumbprint},
        **times,
    }
    return {"alg": "EdDSA", "typ": "at+jwt"}, said, entrance.issuer_keys["issuer"]


def happens(entrance: Doors, event: str, who: Institution) -> None:
    """Let something happen to a participant."""
    if event == "suspended":
        entrance.directory.suspend(who.participant_id)
    else:
        entrance.directory.revoke(who.credentials[event.removesuffix("-revoked")])


async def refused_at_last(entrance: Doors, protocol: str, who: Institution, token: str) -> Refusal:
    """Return how a token is refused, once what happened has arrived by the feed."""
    until = asyncio.get_running_loop().time() + SOON
    while True:
        refusal = await entrance.call(protocol, who.certificate, f"Bearer {token}")
        if refusal.reason or asyncio.get_running_loop().time() > until:
            return refusal
        await asyncio.sleep(0.02)


@parameters("identity", "addresses")
async def test_no_request_is_let_in(
    entrance: Doors, bank: Institution, case: Case, protocol: str
) -> None:
    words = {"token": await entrance.token(bank)}
    make = case.make
    http = entrance.http(bank.certificate)
    query = filled(make.get("query", ""), words)
    headers = {k: filled(v, words) for k, v in make.get("headers", {}).items()}
    if "form" in make:
        kind = {"content-type": "application/x-www-form-urlencoded"}
        body = filled(make["form"], words)
        response = await http.post("/v1/scores", content=body, headers=kind)
    else:
        response = await http.get(f"/v1/whoami?{query}", headers=headers)
    assert (response.status_code, response.json()["reason"]) == (case.http, case.expect)
    assert response.headers["www-authenticate"] == 'Bearer realm="puhui"'


@parameters("identity", "handshakes")
async def test_no_connection_is_made(
    entrance: Doors, bank: Institution, case: Case, protocol: str
) -> None:
    token = await entrance.token(bank)
    address = f"127.0.0.1:{entrance.gateway.port}"
    trusted = entrance.authority.certificate.encode()
    match case.make["certificate"]:
        case "none":
            channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(trusted))
        case "stranger":
            strangers = Authority.create("strangers", clock=SystemClock()).issue("bank")
            pair = strangers.key.encode(), strangers.certificate.encode()
            channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(trusted, *pair))
        case _:
            channel = grpc.aio.insecure_channel(address)
    async with channel:
        call: Any = channel.unary_unary(WHO_AM_I)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10.0)
    assert failure.value.code().name == case.grpc


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("registered", "EdDSA"), ("registered", "Ed25519"), ("rsa", "PS256"), ("p256", "ES256")],
)
async def test_a_token_is_given_by_each_algorithm(
    entrance: Doors, bank: Institution, keys: dict[str, Any], name: str, algorithm: str
) -> None:
    made = signed({"alg": algorithm}, json.dumps(claims(bank)).encode(), keys[name])
    response = await entrance.asked(
        form(made, client_id=bank.participant_id, resource=ISSUER), bank.certificate
    )
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    given = response.json()
    assert (given["token_type"], given["expires_in"]) == ("Bearer", 300)
    header, said = parts(given["access_token"])
    assert header["typ"] == "at+jwt"
    assert said["cnf"] == {"x5t#S256": bank.certificate.thumbprint}
    assert said["exp"] - said["iat"] == 300
    who = await entrance.who(bank.certificate, given["access_token"])
    assert who.participant_id == bank.participant_id
    assert list(who.products) == ["credit_reporting", "data_service"]
    assert who.tenant == "sandbox"
    for scheme in ("Bearer", "bearer", "BEARER"):
        authorization = f"{scheme} {given['access_token']}"
        for protocol in ("grpc", "https"):
            assert (await entrance.call(protocol, bank.certificate, authorization)).reason == ""


@pytest.mark.parametrize(
    "changed",
    [{"iat": 8, "exp": 60}, {"nbf": 8}, {"nbf": -40}, {"iat": None, "nbf": -5}, {"iat": -20}],
    ids=["iat 8 s ahead", "nbf 8 s ahead", "nbf before", "nbf alone", "clock behind"],
)
async def test_clocks_may_differ_a_little(
    entrance: Doors, bank: Institution, changed: dict[str, int | None]
) -> None:
    now = int(time.time())
    moved = claims(bank) | {"exp": now + 35}
    moved |= {name: None if at is None else now + at for name, at in changed.items()}
    kept = {name: value for name, value in moved.items() if value is not None}
    made = signed({"alg": "EdDSA"}, json.dumps(kept).encode(), bank.key)
    response = await entrance.asked(form(made), bank.certificate)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("named", ["thumbprint", "credential"])
async def test_an_assertion_may_name_its_key(
    entrance: Doors, bank: Institution, named: str
) -> None:
    kid = {
        "credential": bank.credentials["key"],
        "thumbprint": KeySet.import_key_set({"keys": [jwk(bank.key)]}).keys[0].thumbprint(),
    }[named]
    made = signed({"alg": "EdDSA", "kid": kid}, json.dumps(claims(bank)).encode(), bank.key)
    assert (await entrance.asked(form(made), bank.certificate)).status_code == 200


async def test_of_an_assertion_sent_many_times_at_once_one_counts(
    entrance: Doors, bank: Institution
) -> None:
    sent = form(assertion(bank))
    answers = await asyncio.gather(*(entrance.asked(sent, bank.certificate) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


async def test_one_clients_ids_are_not_anothers(
    entrance: Doors, bank: Institution, other: Institution
) -> None:
    for who in (bank, other):
        response = await entrance.asked(form(assertion(who, jti="the-same")), who.certificate)
        assert response.status_code == 200


async def test_what_the_authorization_server_says_of_itself_is_so(
    entrance: Doors, bank: Institution
) -> None:
    http = entrance.http(None)
    said = (await http.get(METADATA_PATH)).json()
    assert said["issuer"] == ISSUER
    assert said["token_endpoint"] == f"{ISSUER}/oauth/token"
    assert said["mtls_endpoint_aliases"] == {"token_endpoint": said["token_endpoint"]}
    assert said["tls_client_certificate_bound_access_tokens"] is True
    assert said["grant_types_supported"] == ["client_credentials"]
    assert said["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    offered = said["token_endpoint_auth_signing_alg_values_supported"]
    assert set(offered) == {"PS256", "ES256", "EdDSA", "Ed25519"}
    published = (await http.get(said["jwks_uri"].removeprefix(ISSUER))).json()
    assert all("d" not in key for key in published["keys"])
    token = jwt.decode(
        await entrance.token(bank), KeySet.import_key_set(published), algorithms=["Ed25519"]
    )
    assert token.claims["client_id"] == bank.participant_id
    assert (await http.get("/oauth/token")).status_code == 405


async def test_tokens_of_a_listed_issuer_count_with_their_certificate(
    entrance: Doors, bank: Institution
) -> None:
    header, said, key = template(entrance, "issuer", bank, "")
    for audience in (ISSUER, [ISSUER, "https://elsewhere.example"]):
        token = signed(header, json.dumps(said | {"aud": audience}).encode(), key)
        who = await entrance.who(bank.certificate, token)
        assert who.participant_id == bank.participant_id


async def test_people_come_without_a_certificate_by_the_token_of_their_issuer(
    entrance: Doors, bank: Institution
) -> None:
    entrance.directory.persons[PERSONS_ISSUER, "alice"] = bank.participant_id
    header, said, key = template(entrance, "person", bank, "")
    token = signed(header, json.dumps(said).encode(), key)
    who = await entrance.who(None, token)
    assert (who.participant_id, who.person_id) == (bank.participant_id, "per_alice")
    assert (await entrance.call("https", None, f"Bearer {token}")).reason == ""


async def test_refusals_over_http_say_how_to_come_in(entrance: Doors, bank: Institution) -> None:
    http = entrance.http(bank.certificate)
    response = await http.get("/v1/whoami", headers={"authorization": "Bearer a.b.c"})
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="puhui", error="invalid_token"')


async def test_a_production_gateway_takes_no_api_keys(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("production")
    with pytest.raises(ValueError, match="workload must be set in production"):
        async with doors(folder, tenant="production"):
            pass


async def test_a_platform_knows_credentials_and_forgets_them_at_once(tmp_path: Path) -> None:
    with embedded(tmp_path) as platform:
        addresses = json.loads((tmp_path / "endpoints.json").read_text())
        keys = tmp_path / "keys"
        authority = Authority.load(
            (keys / "authority.crt").read_text(),
            (keys / "authority.pem").read_text(),
            clock=SystemClock(),
        )
        certificate = authority.issue("bank", server=False)
        for name, text in (("bank.crt", certificate.certificate), ("bank.key", certificate.key)):
            (tmp_path / name).write_text(text)
        key = ed25519.Ed25519PrivateKey.generate()
        async with Client(platform.gateway, platform.operator_key) as operator:
            member = await operator.register_participant("BANK", "bank")
            named = member.participant_id
            operator_http = httpx2.AsyncClient(
                base_url=f"http://{platform.http}/v1/participants/{named}",
                headers={"authorization": f"Bearer {platform.operator_key}"},
            )
            held = []
            async with operator_http:
                for credential in (
                    {"certificatePem": certificate.certificate},
                    {"publicJwk": json.dumps(jwk(key))},
                ):
                    body = {"requestId": uuid.uuid4().hex, **credential}
                    answer = await operator_http.post("credentials", json=body)
                    assert answer.status_code == 200, answer.text
                    held.append(answer.json()["credential"]["credentialId"])
                context = ssl.create_default_context(cadata=authority.certificate)
                context.load_cert_chain(tmp_path / "bank.crt", tmp_path / "bank.key")
                async with httpx2.AsyncClient(
                    base_url=f"https://{addresses['https']}", verify=context
                ) as bank:
                    metadata = (await bank.get(METADATA_PATH)).json()
                    assert metadata["issuer"] == f"https://{addresses['https']}"
                    who = Institution(named, certificate, key)

                    def ask() -> Awaitable[httpx2.Response]:
                        made = assertion(who, aud=metadata["issuer"])
                        return bank.post(metadata["token_endpoint"], data=form(made))

                    given = await ask()
                    assert given.status_code == 200, given.text
                    proof = {"authorization": f"Bearer {given.json()['access_token']}"}
                    told = await bank.get("/v1/whoami", headers=proof)
                    assert told.json()["participantId"] == named
                    await operator.set_standing(named, "SUSPENDED")
                    assert await at_last(bank, proof) == "PARTICIPANT_SUSPENDED"
                    assert (await ask()).json()["error"] == "invalid_client"
                    await operator.set_standing(named, "ACTIVE")
                    assert await at_last(bank, proof, refused=False) == ""
                    body = {"requestId": uuid.uuid4().hex}
                    await operator_http.post(f"credentials/{held[1]}:revoke", json=body)
                    assert await at_last(bank, proof) == "TOKEN_INVALID"


async def at_last(http: httpx2.AsyncClient, proof: dict[str, str], *, refused: bool = True) -> str:
    """Return why a call is refused, or an empty text where it is not, once that is so."""
    until = asyncio.get_running_loop().time() + SOON
    while True:
        answer = await http.get("/v1/whoami", headers=proof)
        if answer.is_error == refused or asyncio.get_running_loop().time() > until:
            return str(answer.json().get("reason", ""))
        await asyncio.sleep(0.05)
