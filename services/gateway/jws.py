"""Signed tokens (JWS compact, RFC 7515) as strangers send them: read strictly, verified by one key.

Whoever signed, these hold:

- The algorithm is one that the verifier names, and fits the key: a public key never verifies an
  HMAC, RSA verifies no PKCS #1 v1.5 unless it is asked for, `none` does not exist.
- A header that brings its own key (`jwk`, `jku`, `x5u`, `x5c`) or an extension that must be
  understood (`crit`, `b64`) is refused.
- One token has one spelling: base64url without padding or stray bits, and no member twice.
"""

import base64
import binascii
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

MOST_CHARACTERS: Final = 8192
_REFUSED_HEADERS: Final = ("jwk", "jku", "x5u", "x5c", "crit", "b64")
_PARTS: Final = 3
_LEAST_RSA_BITS: Final = 2048
_KEY_TYPES: Final = {
    "PS256": "RSA",
    "RS256": "RSA",
    "ES256": "P-256",
    "EdDSA": "Ed25519",
    "Ed25519": "Ed25519",
}

PublicKey = ECKey | OKPKey | RSAKey


class RefusedTokenError(Exception):
    """A token does not count; the text says why, and repeats nothing of it."""


@dataclass(frozen=True)
class Unverified:
    """What a token says, before anybody has verified it.

    Args:
        text: as it came.
        header: its protected header.
        claims: its payload.
    """

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


@dataclass(frozen=True)
class VerifyingKey:
    """A public key.

    Args:
        key: itself.
        kind: "RSA", "P-256" or "Ed25519".
        names: what a header's `kid` may call it.
        algorithm: the only one that it is for; None where it does not say.
    """

    key: PublicKey
    kind: str
    names: frozenset[str]
    algorithm: str | None


class _Registry(jws.JWSRegistry):
    """Takes the algorithms that it is given, and unknown headers, as RFC 7515 asks."""

    def __init__(self, algorithms: Collection[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        # joserfc warns of `EdDSA` (RFC 9864), which clients will send for years; its keys are
        # checked here to be Ed25519.
        if name in (self.allowed or ()):
            return self.algorithms[name]
        return super().get_alg(name)


def looks_signed(token: str) -> bool:
    """Return whether a token is meant to be a JWS, and no API key."""
    return token.count(".") == _PARTS - 1


def read(token: str) -> Unverified:
    """Return what a token says.

    Raises:
        RefusedTokenError: it is none, or one that no key would make good.
    """
    if len(token) > MOST_CHARACTERS:
        raise RefusedTokenError("is too long")
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise RefusedTokenError("is no JWS in compact form")
    header_bytes, payload, _ = (_decoded(part) for part in parts)
    header, claims = _members(header_bytes), _members(payload)
    if not isinstance(header.get("alg"), str):
        raise RefusedTokenError("has no alg")
    if not isinstance(header.get("kid", ""), str):
        raise RefusedTokenError("has a kid that is no text")
    for name in _REFUSED_HEADERS:
        if name in header:
            raise RefusedTokenError(f"has a header {name}, which is not accepted")
    return Unverified(token, header, claims)


def verify(
    token: Unverified, keys: Iterable[VerifyingKey], algorithms: Sequence[str]
) -> VerifyingKey:
    """Return the key that signed a token.

    Args:
        token: what was read.
        keys: that may have signed it.
        algorithms: that may have been used.

    Raises:
        RefusedTokenError: none of the keys did.
    """
    algorithm, kid = token.header["alg"], token.header.get("kid")
    if algorithm not in algorithms:
        raise RefusedTokenError(f"must be signed by one of {', '.join(algorithms)}")
    registry = _Registry(algorithms)
    for key in keys:
        if key.kind != _KEY_TYPES[algorithm] or key.algorithm not in (None, algorithm):
            continue
        if kid is not None and kid not in key.names:
            continue
        try:
            jws.deserialize_compact(token.text.encode(), key.key, registry=registry)
        except (JoseError, ValueError):
            continue
        return key
    raise RefusedTokenError("is not signed by a valid key of its issuer")


def verifying_key(jwk: Mapping[str, Any], names: Iterable[str] = ()) -> VerifyingKey:
    """Return a public key that verifies tokens.

    Args:
        jwk: the key (RFC 7517).
        names: that `kid` may call it, beside its own `kid` and its thumbprint (RFC 7638).

    Raises:
        ValueError: it is no public key of a kind that is accepted, or is for something else.
    """
    if "d" in jwk or "k" in jwk:
        raise ValueError("is no public key")
    uses = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        raise ValueError("is not for signatures")
    algorithm = jwk.get("alg")
    material = {name: value for name, value in jwk.items() if name not in ("alg", "use", "key_ops")}
    try:
        key = JWKRegistry.import_key(material)
    except (JoseError, ValueError, TypeError, KeyError):
        raise ValueError("is no JWK") from None
    kind = _kind(key)
    if algorithm is not None and (
        not isinstance(algorithm, str) or _KEY_TYPES.get(algorithm) != kind
    ):
        raise ValueError("is for another algorithm")
    named = {*names, key.thumbprint(), *([jwk["kid"]] if isinstance(jwk.get("kid"), str) else [])}
    return VerifyingKey(key, kind, frozenset(named), algorithm)  # type: ignore[arg-type]  # _kind refuses the others


def _kind(key: object) -> str:
    if isinstance(key, RSAKey) and key.public_key.key_size >= _LEAST_RSA_BITS:
        return "RSA"
    if isinstance(key, ECKey) and key.curve_name == "P-256":
        return "P-256"
    if isinstance(key, OKPKey) and key.curve_name == "Ed25519":
        return "Ed25519"
    raise ValueError("must be RSA of at least 2048 bits, P-256 or Ed25519")


def _decoded(part: str) -> bytes:
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise RefusedTokenError("is not base64url") from None
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != part:
        raise RefusedTokenError("is not canonical base64url")
    return decoded


def _members(content: bytes) -> dict[str, Any]:
    try:
        members = json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise RefusedTokenError("does not hold a JSON object") from None
    if not isinstance(members, dict):
        raise RefusedTokenError("does not hold a JSON object")
    return members


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member comes twice")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
