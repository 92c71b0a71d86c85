"""Client certificates (RFC 5280) as participants register them.

Invariants: a certificate that is accepted is one end entity's, valid now, for clients where it says
what it is for, with a key and a signature of full strength; no private key is taken in.
"""

import base64
import hashlib
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from services.datashare.credentials.domain import Claim, Kind
from services.kit.errors import InvalidArgumentError, invalid_field

_LEAST_RSA_BITS: Final = 2048
_CLIENTS: Final = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
_STRONG_KEYS: Final = "RSA of at least 2048 bits, P-256, P-384, P-521, Ed25519 or Ed448"


def certificate(pem: str, now: datetime) -> Claim:
    """Return what a client certificate stands for.

    Args:
        pem: one certificate.
        now: the time.

    Raises:
        InvalidArgumentError: FIELD_INVALID, saying what is wrong with it.
    """
    if "PRIVATE KEY" in pem:
        raise _invalid(
            "holds a private key, which stays with its owner: send the certificate alone, and get "
            "another one for a new key, as this one has left your hands"
        )
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
        if len(found) != 1:
            raise _invalid(f"holds {len(found)} certificates: send the client's own alone")
        parsed = found[0]
        extensions = parsed.extensions
        _check_key(parsed)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise _invalid("is no certificate in PEM that can be read: send one X.509") from None
    _check_use(extensions)
    if parsed.not_valid_after_utc <= now:
        raise _invalid("has expired: get the next one")
    if parsed.not_valid_before_utc > now:
        raise _invalid("is not valid yet: register it when it is")
    return Claim(Kind.CERTIFICATE, thumbprint(parsed), ends_at=parsed.not_valid_after_utc)


def thumbprint(parsed: x509.Certificate) -> str:
    """Return x5t#S256 (RFC 8705): SHA-256 of the DER, base64url without padding."""
    digest = hashlib.sha256(parsed.public_bytes(Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _check_key(parsed: x509.Certificate) -> None:
    match parsed.public_key():
        case RSAPublicKey() as key:
            strong = key.key_size >= _LEAST_RSA_BITS
        case EllipticCurvePublicKey() as key:
            strong = isinstance(key.curve, SECP256R1 | SECP384R1 | SECP521R1)
        case other:
            strong = isinstance(other, Ed25519PublicKey | Ed448PublicKey)
    if not strong:
        raise _invalid(f"has a key that is too weak or of another kind: use {_STRONG_KEYS}")
    # Ed25519 and Ed448 sign without a hash of their own.
    hashed = parsed.signature_hash_algorithm
    if hashed is not None and not isinstance(hashed, SHA256 | SHA384 | SHA512):
        raise _invalid("is signed over a weak hash: get one that is signed over SHA-256 or longer")


def _check_use(extensions: x509.Extensions) -> None:
    for extension in extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True):
                raise _invalid("is an authority's: send the client's own")
            case x509.KeyUsage(key_cert_sign=True):
                raise _invalid("may sign other certificates: send the client's own")
            case x509.KeyUsage(digital_signature=False):
                raise _invalid("may not sign, as TLS clients do: get one for TLS clients")
            case x509.ExtendedKeyUsage() as uses:
                allowed = {
                    ExtendedKeyUsageOID.CLIENT_AUTH,
                    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
                }
                if not allowed & set(uses):
                    raise _invalid("is not for TLS clients: get one that is")


def _invalid(problem: str) -> InvalidArgumentError:
    return invalid_field("FIELD_INVALID", "certificate_pem", problem)
