import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from services.gateway import issuers, jws
from services.gateway.issuers import INSTITUTIONS, PERSONS, Issuers, KeySet, load
from services.gateway.jws import RefusedTokenError
from services.kit.authority import Authority
from services.kit.clock import FixedClock, SystemClock
from services.kit.config import ConfigError
from services.kit.errors import UnavailableError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RIGHT = {
    "issuer": '"https://login.example"',
    "kind": '"institutions"',
    "audience": '"https://gateway.example"',
    "algorithms": '["ES256"]',
    "jwks_file": '"keys.json"',
    "participant_claim": '"client_id"',
}


def write(folder: Path, **changed: str | None) -> Path:
    entries = {**RIGHT, **changed}
    lines = [f"{name} = {value}" for name, value in entries.items() if value is not None]
    file = folder / "issuers.toml"
    file.write_text("[[issuers]]\n" + "\n".join(lines))
    return file


def test_a_file_is_read_with_its_own_folder(tmp_path: Path) -> None:
    (config,) = load(write(tmp_path))
    assert (config.kind, config.algorithms) == (INSTITUTIONS, ("ES256",))
    assert config.jwks_file == tmp_path / "keys.json"
    (config,) = load(
        write(tmp_path, kind='"persons"', algorithms='["RS256"]', participant_claim=None)
    )
    assert config.kind == PERSONS


def test_the_example_of_the_guide_is_one(tmp_path: Path, checkout: Path) -> None:
    guide = (checkout / "docs/security.md").read_text("utf-8")
    lines = guide.partition("    [[issuers]]\n")[2].partition("\n\n")[0].splitlines()
    file = tmp_path / "issuers.toml"
    file.write_text("\n".join(["[[issuers]]", *(line.strip() for line in lines)]))
    (config,) = load(file)
    assert config.participant_claim == "client_id"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"issuer": None}, "issuer is missing"),
        ({"kind": '"robots"'}, "kind must be"),
        ({"algorithms": '["RS256"]'}, "algorithms must be"),
        ({"algorithms": '["none"]'}, "algorithms must be"),
        ({"algorithms": "[]"}, "algorithms must be"),
        ({"algorithms": '"ES256"'}, "algorithms must be"),
        ({"audience": "1"}, "audience must be a text"),
        ({"participant_claim": None}, "participant_claim is for"),
        ({"kind": '"persons"'}, "participant_claim is for"),
        ({"jwks_file": None}, "jwks_url or jwks_file"),
        ({"jwks_url": '"https://a.example"'}, "jwks_url or jwks_file"),
        ({"jwks_file": None, "jwks_url": '"http://a.example"'}, "https://"),
        ({"secret": '"x"'}, "no such key"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    tmp_path: Path, changed: dict[str, str | None], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(write(tmp_path, **changed))


@pytest.mark.parametrize("content", ["", "[[issuers", "[other]\na = 1", "issuers = []"])
def test_a_file_without_issuers_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "issuers.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match="issuers"):
        load(file)


class Endpoint:
    """Gives keys, and counts how often."""

    def __init__(self, *keys: Any) -> None:
        self.keys = list(keys)
        self.asked = 0
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def fetch(self) -> bytes:
        self.asked += 1
        await self.go_on.wait()
        if self.error:
            raise self.error
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()


def key() -> ECKey:
    return ECKey.generate_key("P-256")


async def test_keys_are_asked_for_again_when_they_are_old() -> None:
    clock, endpoint = FixedClock(NOW), Endpoint(key())
    keys = KeySet(endpoint.fetch, clock)
    for _ in range(3):
        assert len(await keys.for_kid(None)) == 1
    assert endpoint.asked == 1
    clock.advance(timedelta(minutes=10))
    await keys.for_kid(None)
    assert endpoint.asked == 2


async def test_an_unknown_kid_brings_new_keys_at_most_every_thirty_seconds() -> None:
    clock, first, second = FixedClock(NOW), key(), key()
    endpoint = Endpoint(first)
    keys = KeySet(endpoint.fetch, clock)
    await keys.for_kid(first.thumbprint())
    endpoint.keys.append(second)
    for number in range(100):
        await keys.for_kid(f"unknown-{number}")
    assert endpoint.asked == 1
    clock.advance(timedelta(seconds=30))
    assert len(await keys.for_kid(second.thumbprint())) == 2
    for number in range(100):
        await keys.for_kid(f"unknown-{number}")
    assert endpoint.asked == 2


async def test_who_makes_up_a_kid_holds_up_nobody_else() -> None:
    clock, known = FixedClock(NOW), key()
    endpoint = Endpoint(known)
    keys = KeySet(endpoint.fetch, clock)
    await keys.for_kid(known.thumbprint())
    clock.advance(timedelta(seconds=30))
    endpoint.go_on.clear()
    made_up = asyncio.create_task(keys.for_kid("made up"))
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        assert await keys.for_kid(known.thumbprint())
    assert not made_up.done()
    endpoint.go_on.set()
    await made_up


async def test_old_keys_count_for_an_hour_while_their_issuer_does_not_answer() -> None:
    clock, endpoint = FixedClock(NOW), Endpoint(key())
    keys = KeySet(endpoint.fetch, clock)
    await keys.for_kid(None)
    for error in (OSError(), ValueError(), KeyError(), TypeError()):
        endpoint.error = error
        clock.advance(timedelta(minutes=11))
        assert await keys.for_kid(None)
    clock.advance(timedelta(minutes=16))
    with pytest.raises(UnavailableError):
        await keys.for_kid(None)
    endpoint.error = None
    clock.advance(timedelta(seconds=30))
    assert await keys.for_kid(None)


async def test_a_removed_key_counts_no_longer() -> None:
    clock, gone, left = FixedClock(NOW), key(), key()
    endpoint = Endpoint(gone, left)
    keys = KeySet(endpoint.fetch, clock)
    assert len(await keys.for_kid(None)) == 2
    endpoint.keys.remove(gone)
    clock.advance(timedelta(minutes=10))
    assert [known.names for known in await keys.for_kid(None)] == [{left.thumbprint()}]


async def test_keys_for_anything_else_are_left_out() -> None:
    class Mixed(Endpoint):
        async def fetch(self) -> bytes:
            good = key().as_dict(private=False)
            others = [
                {**key().as_dict(private=False), "use": "enc"},
                {"kty": "oct", "k": "c2VjcmV0"},
                key().as_dict(private=True),
                ECKey.generate_key("P-384").as_dict(private=False),
                "no key",
            ]
            return json.dumps({"keys": [good, *others]}).encode()

    assert len(await KeySet(Mixed().fetch, FixedClock(NOW)).for_kid(None)) == 1


async def test_only_the_listed_algorithm_verifies(tmp_path: Path) -> None:
    signer, edwards = key(), OKPKey.generate_key("Ed25519")
    public = [signer.as_dict(private=False), edwards.as_dict(private=False)]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": public}))
    verifier = Issuers(load(write(tmp_path)), FixedClock(NOW))
    said = {
        "iss": "https://login.example",
        "aud": "https://gateway.example",
        "client_id": "par_1",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 300,
    }
    named = await verifier.verify(jws.read(jwt.encode({"alg": "ES256"}, said, signer)))
    assert (named.name, named.certificate) == ("par_1", None)
    wrong = jwt.encode({"alg": "Ed25519"}, said, edwards, algorithms=["Ed25519"])
    with pytest.raises(RefusedTokenError, match="must be signed by"):
        await verifier.verify(jws.read(wrong))
    await verifier.close()


def test_a_file_of_authorities_has_to_hold_some(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    file = write(tmp_path, jwks_file=None, jwks_url='"https://login.example"', ca_file='"ca.pem"')
    with pytest.raises(ConfigError, match="authorities"):
        Issuers(issuers.load(file), FixedClock(NOW))


@pytest.mark.parametrize("answer", ["keys", "redirect", "failure", "endless", "another authority"])
async def test_keys_come_over_https_from_the_right_server_alone(
    tmp_path: Path, answer: str
) -> None:
    clock = SystemClock()
    authority = Authority.create("issuer", clock=clock)
    issued = authority.issue("issuer", hosts=["127.0.0.1"], client=False)
    trusted = authority
    if answer == "another authority":
        trusted = Authority.create("another", clock=clock)
    for name, text in (
        ("ca.pem", trusted.certificate),
        ("issuer.crt", issued.certificate),
        ("issuer.key", issued.key),
    ):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "issuer.crt", tmp_path / "issuer.key")
    signer = key()
    content = json.dumps({"keys": [signer.as_dict(private=False)]}).encode()
    if answer == "endless":
        content += b" " * 300_000
    head = {"redirect": b"302 Found\r\nlocation: /", "failure": b"500 Oh"}.get(answer, b"200 OK")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + head + b"\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(content) + content)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    file = write(
        tmp_path, jwks_file=None, jwks_url=f'"https://127.0.0.1:{port}"', ca_file='"ca.pem"'
    )
    said = {
        "iss": "https://login.example",
        "aud": "https://gateway.example",
        "client_id": "par_1",
        "iat": int(clock.now().timestamp()),
        "exp": int(clock.now().timestamp()) + 300,
    }
    token = jws.read(jwt.encode({"alg": "ES256"}, said, signer))
    verifier = Issuers(load(file), clock)
    try:
        if answer == "keys":
            assert (await verifier.verify(token)).name == "par_1"
        else:
            with pytest.raises(UnavailableError):
                await verifier.verify(token)
    finally:
        await verifier.close()
        server.close()
