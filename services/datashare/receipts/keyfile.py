"""The file with the key that the platform signs with.

Invariant: nobody but the process may read it; the key in it is the suite's.
"""

import base64
import json
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_p256
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import JWSRegistry

from services.datashare.participants.jwk import public_key
from services.datashare.receipts.domain import PublicKey, Suite
from services.datashare.sealing.keyring import read_secret
from services.kit.config import ConfigError

_KINDS: Final = {Suite.EDDSA: "an Ed25519", Suite.ES256: "a P-256"}
# The library has EdDSA with Ed25519 by the name that RFC 9864 gave it.
_ALGORITHM: Final = {Suite.EDDSA: "Ed25519", Suite.ES256: "ES256"}


class FileSigner:
    """Signs with the key in a PEM file.

    Args:
        pem: the private key, PKCS 8.
        suite: what it signs by.

    Raises:
        ValueError: there is no private key of the suite in it.
    """

    def __init__(self, pem: bytes, suite: Suite) -> None:
        private = _loaded(pem, suite)
        key_type = OKPKey if suite is Suite.EDDSA else ECKey
        self._private = key_type.import_key(private)
        public = public_key(json.dumps(self._private.as_dict(private=False)))
        self._key = PublicKey(public.key_id, public.jwk, suite)
        self._algorithm = JWSRegistry(algorithms=[_ALGORITHM[suite]]).get_alg(_ALGORITHM[suite])
        header = json.dumps({"alg": suite, "kid": public.key_id}, separators=(",", ":"))
        self._header = _base64url(header.encode())

    @property
    def key(self) -> PublicKey:
        """The public half of the key."""
        return self._key

    def sign(self, payload: bytes) -> str:
        """Return the detached JWS over a payload."""
        covered = self._header + b"." + _base64url(payload)
        signature = _base64url(self._algorithm.sign(covered, self._private))
        return f"{self._header.decode()}..{signature.decode()}"


def read_signer(path: Path, suite: Suite) -> FileSigner:
    """Return what signs with the key in a file.

    Raises:
        ConfigError: it cannot be read, others can read it, or it holds no key of the suite.
    """
    pem = read_secret("datashare.signing_key", path).encode()
    try:
        return FileSigner(pem, suite)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        problem = (
            f"{path} must hold {_KINDS[suite]} private key in PEM (PKCS 8), as "
            f"datashare.signing_suite is {suite}: set the suite to the key's, or make another key"
        )
        raise ConfigError([f"datashare.signing_key: {problem}"]) from None


def new_key(suite: Suite) -> str:
    """Return a new private key, PEM (PKCS 8)."""
    key = Ed25519PrivateKey.generate() if suite is Suite.EDDSA else new_p256(SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _loaded(pem: bytes, suite: Suite) -> bytes:
    """Return the PEM when a private key of the suite is in it.

    Raises:
        ValueError: there is none.
    """
    key = load_pem_private_key(pem, None)
    if isinstance(key, Ed25519PrivateKey):
        found = Suite.EDDSA
    elif isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        found = Suite.ES256
    else:
        raise ValueError("a key of another kind")  # noqa: TRY004 - of the file's content, not of an argument
    if found is not suite:
        raise ValueError("a key of another suite")
    return pem


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
