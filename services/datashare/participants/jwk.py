"""Public keys that participants sign with, as JWK (RFC 7517): Ed25519 (RFC 8037) and P-256.

Invariants: a key that is accepted is public, on its curve and of full strength; it has one spelling
and one name, its thumbprint (RFC 7638), whatever else the JWK said.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from services.kit.errors import InvalidArgumentError, invalid_field

_BYTES: Final = 32
_ACCEPTED: Final = "an Ed25519 key (kty OKP) or a P-256 key (kty EC)"
_ED25519: Final = ("OKP", "Ed25519")
_P256: Final = ("EC", "P-256")
# Members that only a private or symmetric key has (RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1).
PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
# Ed25519 (RFC 8032, section 5.1).
_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ORDER_8_Y: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# The y of the points whose order divides 8; under such a key one signature fits any message.
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that was checked.

    Args:
        key_id: its thumbprint.
        jwk: its required members alone, as JSON.
    """

    key_id: str
    jwk: str


def public_key(text: str) -> PublicKey:
    """Return the public key in a JWK.

    Raises:
        InvalidArgumentError: FIELD_INVALID, saying what is wrong with it.
    """
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid("is not JSON: send one public JWK") from None
    if not isinstance(members, dict):
        raise _invalid("is not a JSON object: send one public JWK, not a set")
    if PRIVATE_MEMBERS & members.keys():
        raise _invalid(
            "holds a private or secret key, which stays with its owner: send the public part, and "
            "make a new key, as this one has left your hands"
        )
    kind = (members.get("kty"), members.get("crv"))
    if kind not in (_ED25519, _P256):
        raise _invalid(f"is of another kind: send {_ACCEPTED}")
    if members.get("use", "sig") != "sig":
        raise _invalid("is not for signing: send one whose `use` is `sig`")
    required = {"crv": kind[1], "kty": kind[0], "x": _coordinate(members, "x")}
    if kind == _ED25519:
        _check_ed25519(base64.urlsafe_b64decode(required["x"] + "="))
    else:
        required["y"] = _coordinate(members, "y")
        _check_p256(required)
    jwk = json.dumps(required, separators=(",", ":"), sort_keys=True)
    return PublicKey(_encoded(hashlib.sha256(jwk.encode()).digest()), jwk)


def imported(jwk: str) -> OKPKey | ECKey:
    """Return the key of a checked JWK."""
    members = json.loads(jwk)
    return OKPKey.import_key(members) if members["kty"] == "OKP" else ECKey.import_key(members)


def _coordinate(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    value = value if isinstance(value, str) else ""
    try:
        decoded = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        decoded = b""
    if len(decoded) != _BYTES:
        raise _invalid(f"has no `{name}` of {_BYTES} bytes in base64url: send {_ACCEPTED}")
    return _encoded(decoded)


def _check_ed25519(x: bytes) -> None:
    y = int.from_bytes(x, "little") & (2**255 - 1)
    # The curve is x^2 (d y^2 + 1) = y^2 - 1, so the right side over the left factor is a square.
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if y >= _P or pow(square, (_P - 1) // 2, _P) == _P - 1:
        raise _invalid("is no point of its curve: make the key anew and send its public part")
    if y in _SMALL_ORDER_Y:
        raise _invalid("is a weak key, under which anybody could sign: make another one")


def _check_p256(members: dict[str, Any]) -> None:
    try:
        # The library checks that the point is on the curve, which has no point of small order.
        ECKey.import_key(members).get_op_key("verify")
    except (JoseError, ValueError):
        raise _invalid(
            "is no point of its curve: make the key anew and send its public part"
        ) from None


def _encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _invalid(problem: str) -> InvalidArgumentError:
    return invalid_field("FIELD_INVALID", "public_jwk", problem)
