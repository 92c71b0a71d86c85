"""Who is calling, as the gateway vouches for it.

The gateway authenticates a participant and sends a short-lived assertion with every call: a
compact JWS (RFC 7515, Ed25519 by RFC 9864) that each service verifies. An issuer can assert only
what it is: the gateway every role but SCORING, scoring only SCORING. An assertion is for one
service, its audience, so that none can pass it on to another as if the caller had come there; and
it is of one tenant, so that no key that got into the other's hands makes anybody somebody there.
Nothing a client sends is believed.
"""

import contextvars
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from services.kit.clock import Clock
from services.kit.config import ConfigError
from services.kit.errors import UnauthenticatedError
from services.kit.tenant import SANDBOX

GATEWAY = "puhui-gateway"
SCORING = "puhui-scoring"
DATASHARE = "puhui-datashare"
IDENTITY_METADATA = "x-puhui-identity"

_ALGORITHM = "Ed25519"
_LIFE = timedelta(seconds=60)
_REUSE = timedelta(seconds=30)
_SKEW = timedelta(seconds=5)
_CACHE_LIMIT = 10_000


@dataclass(frozen=True)
class Caller:
    """A caller whose identity is proved.

    Args:
        participant_id: which participant; of Puhui's own services their role in lower case.
        role: name of `puhui.common.v1.Role` without its prefix, e.g. "BANK".
        subject_id: of a firm, itself as a subject.
        name: as registered; for records of who did what.
        person_id: which person acts, opaque, where the credentials are a person's; else "".
        products: what the participant holds a licence for, by the codes of the products.
    """

    participant_id: str
    role: str
    subject_id: str | None = None
    name: str = ""
    person_id: str = ""
    products: tuple[str, ...] = ()


_current: contextvars.ContextVar[Caller] = contextvars.ContextVar("puhui_caller")


def current_caller() -> Caller:
    """Return the caller of the RPC that is being served.

    Raises:
        LookupError: outside of an RPC.
    """
    return _current.get()


def set_caller(caller: Caller) -> contextvars.Token[Caller]:
    """Make `caller` the current one in this context."""
    return _current.set(caller)


def new_key_pair() -> tuple[str, str]:
    """Return a new Ed25519 key pair as PEM: private, public."""
    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    )


def read_private_key(setting: str, path: Path) -> str:
    """Return the Ed25519 private key in a PEM file.

    Args:
        setting: of the configuration, such as "gateway.identity_private_key".
        path: what it holds.

    Raises:
        ConfigError: there is no such key in the file.
    """
    return _read_key(setting, path, "private", _is_private)


def read_public_key(setting: str, path: Path) -> str:
    """Return the Ed25519 public key in a PEM file; see `read_private_key`."""
    return _read_key(setting, path, "public", _is_public)


def _read_key(setting: str, path: Path, kind: str, right: Callable[[bytes], bool]) -> str:
    try:
        pem = path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror}), check it"
        raise ConfigError([f"{setting}: {problem}"]) from None
    try:
        found = right(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        found = False
    if not found:
        raise ConfigError([f"{setting}: {path} must hold an Ed25519 {kind} key in PEM"])
    return pem.decode()


def _is_private(pem: bytes) -> bool:
    return isinstance(load_pem_private_key(pem, None), Ed25519PrivateKey)


def _is_public(pem: bytes) -> bool:
    return isinstance(load_pem_public_key(pem), Ed25519PublicKey)


class IdentitySigner:
    """Signs assertions; one is reused for half of its life.

    Args:
        private_key_pem: Ed25519, PKCS 8.
        issuer: `GATEWAY` or `SCORING`.
        clock: the time.
        tenant: in which the issuer is.
    """

    def __init__(
        self, private_key_pem: str, issuer: str, clock: Clock, tenant: str = SANDBOX
    ) -> None:
        self._key = OKPKey.import_key(private_key_pem)
        self._issuer = issuer
        self._tenant = tenant
        self._clock = clock
        self._signed: dict[tuple[Caller, str], tuple[datetime, str]] = {}

    def sign(self, caller: Caller, audience: str) -> str:
        """Return an assertion that `caller` is calling, good for 30 to 60 s.

        Args:
            caller: who is calling.
            audience: the service that is to believe it, `DATASHARE` or `SCORING`.
        """
        now = self._clock.now()
        known = self._signed.get((caller, audience))
        if known and now < known[0]:
            return known[1]
        token = jwt.encode(
            {"alg": _ALGORITHM},
            {
                "iss": self._issuer,
                "aud": audience,
                "tenant": self._tenant,
                "sub": caller.participant_id,
                "role": caller.role,
                "subject_id": caller.subject_id,
                "name": caller.name,
                "person_id": caller.person_id,
                "products": caller.products,
                "iat": int(now.timestamp()),
                "exp": int((now + _LIFE).timestamp()),
            },
            self._key,
            algorithms=[_ALGORITHM],
        )
        if len(self._signed) >= _CACHE_LIMIT:
            self._signed.clear()
        self._signed[caller, audience] = (now + _REUSE, token)
        return token


class IdentityVerifier:
    """Verifies assertions; a verified one is remembered until it expires.

    Args:
        public_keys: PEM by issuer.
        audience: the service that assertions must be for, `DATASHARE` or `SCORING`.
        clock: the time.
        tenant: in which the service is; another's assertions are refused.
    """

    def __init__(
        self,
        public_keys: Mapping[str, str],
        audience: str,
        clock: Clock,
        tenant: str = SANDBOX,
    ) -> None:
        self._keys = {issuer: OKPKey.import_key(pem) for issuer, pem in public_keys.items()}
        self._audience = audience
        self._tenant = tenant
        self._clock = clock
        self._verified: dict[str, tuple[datetime, Caller]] = {}

    def verify(self, token: str) -> Caller:
        """Return who the assertion says is calling.

        Raises:
            UnauthenticatedError: IDENTITY_INVALID, whatever is wrong with it.
        """
        now = self._clock.now()
        known = self._verified.get(token)
        if known and now < known[0]:
            return known[1]
        expires, caller = self._decode(token, now)
        if len(self._verified) >= _CACHE_LIMIT:
            self._verified.clear()
        self._verified[token] = (expires, caller)
        return caller

    def _decode(self, token: str, now: datetime) -> tuple[datetime, Caller]:
        for issuer, key in self._keys.items():
            try:
                claims = jwt.decode(token, key, algorithms=[_ALGORITHM]).claims
                issued = datetime.fromtimestamp(claims["iat"], now.tzinfo)
                expires = datetime.fromtimestamp(claims["exp"], now.tzinfo)
                role = claims["role"]
                caller = Caller(
                    claims["sub"],
                    role,
                    claims["subject_id"],
                    claims["name"],
                    claims["person_id"],
                    tuple(claims["products"]),
                )
            except (JoseError, ValueError, KeyError, TypeError, OverflowError):
                continue
            timely = issued - _SKEW <= now < expires <= issued + _LIFE
            if (
                claims.get("iss") == issuer
                and claims.get("aud") == self._audience
                and claims.get("tenant") == self._tenant
                and (role == "SCORING") == (issuer == SCORING)
                and timely
            ):
                return expires, caller
        raise UnauthenticatedError(
            "IDENTITY_INVALID",
            "the identity assertion is missing, forged, expired, or for another service or tenant: "
            "calls come through the gateway",
        )
