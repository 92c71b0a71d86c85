"""An entrance with real TLS, its authority, and institutions with right and wrong proof.

Tokens are put together by hand here, so that they can be wrong in every way.
"""

import base64
import hashlib
import hmac
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import time
from typing import Any

import grpc
import httpx2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey, OKPKey, RSAKey

from puhui.gateway.v1 import gateway_pb2
from services.gateway.clients import ASSERTION_TYPE
from services.gateway.main import Gateway, GatewayConfig, build
from services.kit.authority import Authority, Issued
from services.kit.clock import SystemClock
from services.kit.identity import new_key_pair
from services.kit.server import ServerConfig
from services.kit.tls import TlsConfig
from tests.e2e.gateway import told
from tests.fakes.credentials import Credentials, start_credentials

ISSUER = "https://gateway.example"
OTHER_ISSUER = "https://login.bank.example"
PERSONS_ISSUER = "https://id.example"
CONSOLE = "puhui-console"
WHO_AM_I = "/puhui.gateway.v1.GatewayService/WhoAmI"

Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def encoded(content: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def public_pem(key: Private) -> bytes:
    """Return the public key in PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk(key: Private) -> dict[str, Any]:
    """Return the public key as a JWK."""
    kind: Any = ECKey
    if isinstance(key, ed25519.Ed25519PrivateKey):
        kind = OKPKey
    elif isinstance(key, rsa.RSAPrivateKey):
        kind = RSAKey
    made: dict[str, Any] = kind.import_key(public_pem(key)).as_dict(private=False)
    return made


def signature(algorithm: str, key: Private | bytes | None, signed: bytes) -> bytes:
    """Return a signature, right or not."""
    if key is None:
        return b""
    if isinstance(key, bytes):
        return hmac.new(key, signed, hashlib.sha256).digest()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(signed)
    digest = hashes.SHA384() if algorithm.endswith("384") else hashes.SHA256()
    if isinstance(key, rsa.RSAPrivateKey):
        if algorithm.startswith("RS"):
            return key.sign(signed, padding.PKCS1v15(), digest)
        return key.sign(signed, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    size = key.key_size // 8
    r, s = utils.decode_dss_signature(key.sign(signed, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def signed(header: Mapping[str, Any], payload: bytes, key: Private | bytes | None) -> str:
    """Return a compact JWS."""
    start = f"{encoded(json.dumps(header).encode())}.{encoded(payload)}"
    return f"{start}.{encoded(signature(str(header.get('alg')), key, start.encode()))}"


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims of a token."""
    header, payload = (
        json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]
    )
    return header, payload


@dataclass
class Institution:
    """A participant with what it proves itself by."""

    participant_id: str
    certificate: Issued
    key: ed25519.Ed25519PrivateKey
    credentials: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """How a call ended; an empty reason says that it did not fail."""

    status: str
    reason: str
    message: str


@dataclass
class Doors:
    """The gateway and ways to come to it."""

    gateway: Gateway
    directory: Credentials
    authority: Authority
    folder: Path
    token_key: Private
    issuer_keys: dict[str, Private]
    exits: AsyncExitStack
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    sessions: dict[str, httpx2.AsyncClient] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def institution(self, role: str = "BANK", products: tuple[str, ...] = ()) -> Institution:
        """Let a participant join, with a certificate and an Ed25519 key."""
        participant_id = f"par_{uuid.uuid4().hex[:12]}"
        self.directory.join(role, participant_id, products)
        made = Institution(
            participant_id,
            self.authority.issue(participant_id),
            ed25519.Ed25519PrivateKey.generate(),
        )
        thumbprint = made.certificate.thumbprint
        held = made.credentials
        held["certificate"] = self.directory.register(participant_id, certificate=thumbprint)
        held["key"] = self.register_key(participant_id, made.key)
        return made

    def register_key(self, participant_id: str, key: Private) -> str:
        """Register a key for client assertions."""
        return self.directory.register(participant_id, jwk=json.dumps(jwk(key)))

    def http(self, certificate: Issued | None) -> httpx2.AsyncClient:
        """Return a client over HTTPS with a certificate, or with none."""
        name = certificate.thumbprint if certificate else ""
        if name not in self.sessions:
            context = ssl.create_default_context(cadata=self.authority.certificate)
            if certificate is not None:
                context.load_cert_chain(*self.files(certificate))
            self.sessions[name] = httpx2.AsyncClient(
                base_url=f"https://127.0.0.1:{self.gateway.http_port}", verify=context
            )
            self.exits.push_async_callback(self.sessions[name].aclose)
        return self.sessions[name]

    def channel(self, certificate: Issued | None, *, institutions: bool = True) -> grpc.aio.Channel:
        """Return a channel with a certificate, to the people's entrance with none."""
        name = f"{certificate.thumbprint if certificate else ''} {institutions}"
        if name not in self.channels:
            pair = (
                (certificate.key.encode(), certificate.certificate.encode()) if certificate else ()
            )
            trusted = grpc.ssl_channel_credentials(self.authority.certificate.encode(), *pair)
            port = self.gateway.port if institutions else self.gateway.people_port
            self.channels[name] = grpc.aio.secure_channel(f"127.0.0.1:{port}", trusted)
            self.exits.push_async_callback(self.channels[name].close)
        return self.channels[name]

    def files(self, certificate: Issued) -> tuple[Path, Path]:
        """Return where a certificate and its key are, for OpenSSL."""
        found = tuple(self.folder / f"{certificate.thumbprint}.{part}" for part in ("crt", "key"))
        found[0].write_text(certificate.certificate)
        found[1].write_text(certificate.key)
        return found[0], found[1]

    async def asked(self, form: Mapping[str, str], certificate: Issued | None) -> httpx2.Response:
        """Ask for a token."""
        return await self.http(certificate).post("/oauth/token", data=dict(form))

    async def token(self, who: Institution) -> str:
        """Return a token for an institution, got in the right way, the same for a test or more."""
        if who.participant_id not in self.tokens:
            self.tokens[who.participant_id] = await self.new_token(who)
        return self.tokens[who.participant_id]

    async def new_token(self, who: Institution) -> str:
        """Return a token for an institution, got in the right way."""
        response = await self.asked(form(assertion(who)), who.certificate)
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])

    async def call(
        self, protocol: str, certificate: Issued | None, *authorizations: str
    ) -> Refusal:
        """Ask who one is; over gRPC without a certificate at the people's entrance."""
        headers = [("authorization", value) for value in authorizations if value]
        if protocol == "https":
            response = await self.http(certificate).get("/v1/whoami", headers=headers)
            said = response.json()
            return Refusal(
                str(response.status_code), said.get("reason", ""), said.get("detail", "")
            )
        channel = self.channel(certificate, institutions=certificate is not None)
        call: Any = channel.unary_unary(WHO_AM_I)
        try:
            await call(b"", metadata=tuple(headers), timeout=10.0)
        except grpc.aio.AioRpcError as error:
            return Refusal(error.code().name, told(error).reason, error.details() or "")
        return Refusal("OK", "", "")

    async def who(self, certificate: Issued | None, token: str) -> gateway_pb2.WhoAmIResponse:
        """Return who a caller is to the gateway, over gRPC."""
        channel = self.channel(certificate, institutions=certificate is not None)
        call: Any = channel.unary_unary(WHO_AM_I)
        answer = await call(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10.0)
        return gateway_pb2.WhoAmIResponse.FromString(answer)


def claims(who: Institution) -> dict[str, Any]:
    """Return the claims of a right assertion."""
    now = int(time())
    named = who.participant_id
    return {
        "iss": named,
        "sub": named,
        "aud": ISSUER,
        "iat": now,
        "exp": now + 55,
        "jti": uuid.uuid4().hex,
    }


def assertion(who: Institution, **changed: Any) -> str:
    """Return a client assertion, right but for what is changed."""
    payload = json.dumps(claims(who) | changed).encode()
    return signed({"alg": "EdDSA"}, payload, who.key)


def form(client_assertion: str, **more: str) -> dict[str, str]:
    """Return the parameters of a token request; an empty one is left out."""
    made = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": client_assertion,
        **more,
    }
    return {name: value for name, value in made.items() if value}


@asynccontextmanager
async def doors(folder: Path, **config: Any) -> AsyncIterator[Doors]:
    """Run a gateway with TLS, and a small datashare that knows credentials."""
    clock = SystemClock()
    authority = Authority.create("test", clock=clock)
    own = authority.issue("gateway", hosts=["127.0.0.1"], client=False)
    identity_private, identity_public = new_key_pair()
    token_private, _ = new_key_pair()
    issuer_keys: dict[str, Private] = {
        "issuer": ed25519.Ed25519PrivateKey.generate(),
        "issuer-p256": ec.generate_private_key(ec.SECP256R1()),
        "person": rsa.generate_private_key(65537, 2048),
    }
    files = {
        "ca.crt": authority.certificate,
        "gateway.crt": own.certificate,
        "gateway.key": own.key,
        "identity.pem": identity_private,
        "token.pem": token_private,
        "issuer.json": json.dumps(
            {"keys": [jwk(issuer_keys["issuer"]), jwk(issuer_keys["issuer-p256"])]}
        ),
        "persons.json": json.dumps({"keys": [jwk(issuer_keys["person"])]}),
        "issuers.toml": f"""
            [[issuers]]
            issuer = "{OTHER_ISSUER}"
            kind = "institutions"
            audience = "{ISSUER}"
            algorithms = ["EdDSA"]
            jwks_file = "issuer.json"
            participant_claim = "client_id"

            [[issuers]]
            issuer = "{PERSONS_ISSUER}"
            kind = "persons"
            audience = "{CONSOLE}"
            algorithms = ["RS256"]
            jwks_file = "persons.json"
        """,
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    server, directory = await start_credentials(identity_public)
    tls = TlsConfig(folder / "gateway.crt", folder / "gateway.key", folder / "ca.crt")
    settings = {
        "datashare": f"127.0.0.1:{server.port}",
        "scoring": f"127.0.0.1:{server.port}",
        "identity_private_key": folder / "identity.pem",
        "people_listen": "127.0.0.1:0",
        "changes_every": timedelta(seconds=0.05),
        "server": ServerConfig(grace=0.1, tls=tls),
        "issuer": ISSUER,
        "token_key": folder / "token.pem",
        "issuers": folder / "issuers.toml",
        **config,
    }
    gateway = build(GatewayConfig(**settings), clock)
    await gateway.start()
    token_key = load_pem_private_key(token_private.encode(), None)
    assert isinstance(token_key, ed25519.Ed25519PrivateKey)
    async with AsyncExitStack() as exits:
        exits.push_async_callback(server.stop)
        exits.push_async_callback(gateway.stop)
        yield Doors(gateway, directory, authority, folder, token_key, issuer_keys, exits)
