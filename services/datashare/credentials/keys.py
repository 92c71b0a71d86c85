"""Public keys that sign client assertions (RFC 7523), as JWK: Ed25519, P-256, or RSA.

Invariants: as for the keys that batches are signed with; an RSA key has 2048 to 8192 bits and an
exponent that is odd and at least 65537 (FIPS 186-5, 5.4), so that verifying is neither unsafe nor
slow.
"""

import base64
import binascii
import hashlib
import json
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from services.datashare.credentials.domain import Claim, Kind
from services.datashare.participants.jwk import PRIVATE_MEMBERS, public_key
from services.kit.errors import InvalidArgumentError, invalid_field

_RSA_BITS: Final = range(2048, 8193)
_LEAST_EXPONENT: Final = 65537


def assertion_key(jwk: str) -> Claim:
    """Return what a key stands for.

    Args:
        jwk: the public key as JSON.

    Raises:
        InvalidArgumentError: FIELD_INVALID, saying what is wrong with it.
    """
    members = _members(jwk)
    # The public part of another kind is judged there, and so is what has a private part.
    if members.get("kty") != "RSA" or PRIVATE_MEMBERS & members.keys():
        found = public_key(jwk)
        return Claim(Kind.KEY, found.key_id, public_jwk=found.jwk)
    if members.get("use", "sig") != "sig":
        raise _invalid("is not for signing: send one whose `use` is `sig`")
    exponent, modulus = _number(members, "e"), _number(members, "n")
    if modulus.bit_length() not in _RSA_BITS or exponent < _LEAST_EXPONENT:
        raise _invalid("is too weak or too long: use 2048 to 8192 bits and the exponent 65537")
    try:
        RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise _invalid("is no RSA key: make the key anew and send its public part") from None
    required = {"e": _encoded(exponent), "kty": "RSA", "n": _encoded(modulus)}
    text = json.dumps(required, separators=(",", ":"), sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    identity = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return Claim(Kind.KEY, identity, public_jwk=text)


def _members(jwk: str) -> dict[str, Any]:
    try:
        members = json.loads(jwk)
    except (ValueError, RecursionError):
        raise _invalid("is not JSON: send one public JWK") from None
    if not isinstance(members, dict):
        raise _invalid("is not a JSON object: send one public JWK, not a set")
    return members


def _number(members: dict[str, Any], name: str) -> int:
    value = members.get(name)
    value = value if isinstance(value, str) else ""
    try:
        decoded = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    if not decoded:
        raise _invalid(f"has no `{name}` in base64url: send a public RSA key")
    return int.from_bytes(decoded)


def _encoded(value: int) -> str:
    octets = value.to_bytes((value.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _invalid(problem: str) -> InvalidArgumentError:
    return invalid_field("FIELD_INVALID", "public_jwk", problem)
