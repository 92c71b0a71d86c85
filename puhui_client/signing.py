"""Keys and signatures of a provider: detached JWS, so that they can be kept as evidence.

Needs the extra `puhui[signing]`. Invariants: a signature names its key by the RFC 7638 thumbprint;
a key is Ed25519 ("Ed25519" of RFC 9864) or P-256 ("ES256"), nothing else; one signature has one
spelling.
"""

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any, Final

try:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import (
        load_pem_private_key,
        load_pem_public_key,
    )
    from joserfc import jws as rfc7515
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, OKPKey
except ImportError as missing:
    raise ImportError(
        "signing needs packages that are not installed: pip install 'puhui[signing]'"
    ) from missing

_ALGORITHM_OF: Final = {"Ed25519": "Ed25519", "P-256": "ES256"}
"""JWS algorithm by the key's curve."""
_Key = OKPKey | ECKey


class _Registry(rfc7515.JWSRegistry):
    """Takes Ed25519 by its older name too (EdDSA), which RFC 9864 replaced; and whole files."""

    max_payload_length = 2**26
    """In base64; the library's own limit is less than a report has."""

    def get_alg(self, name: str) -> Any:
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


class SigningError(ValueError):
    """A key or signature cannot be used; the message says why and what to do."""


class SigningKey:
    """A private key. Use `read` or `new_key`.

    Args:
        key: of joserfc.

    Raises:
        SigningError: it is of another kind, or public.
    """

    def __init__(self, key: _Key) -> None:
        self._key = key
        self._algorithm = _algorithm(key)
        if not key.is_private:
            raise SigningError("this is a public key: name the file of the private one")

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """Read a private key.

        Args:
            path: PEM (PKCS 8) or JWK; nobody else may be able to read the file.

        Raises:
            SigningError: others can read it, or there is no such key in it.
        """
        key = cls(_parse(path.read_bytes(), str(path)))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise SigningError(f"others can read the key in {path}: chmod 600 {path}")
        return key

    @property
    def key_id(self) -> str:
        """The thumbprint that signatures name."""
        return self._key.thumbprint()

    @property
    def pem(self) -> str:
        """The private key, PKCS 8."""
        return self._key.as_pem(private=True).decode()

    @property
    def public(self) -> "PublicKey":
        """Its public half."""
        return PublicKey(_from_jwk(self._key.as_dict(private=False)))

    def sign(self, content: bytes) -> str:
        """Return a detached JWS over the content."""
        header = {"alg": self._algorithm, "kid": self.key_id}
        whole = rfc7515.serialize_compact(header, content, self._key, algorithms=[self._algorithm])
        return rfc7515.detach_content(whole)


class PublicKey:
    """A public key. Use `read` or `parse`.

    Args:
        key: of joserfc.

    Raises:
        SigningError: it is of another kind.
    """

    def __init__(self, key: _Key) -> None:
        self._key = key
        self._algorithm = _algorithm(key)

    @classmethod
    def read(cls, path: Path) -> "PublicKey":
        """Read a public key, PEM or JWK.

        Raises:
            SigningError: there is no such key in the file.
        """
        return cls(_parse(path.read_bytes(), str(path)))

    @classmethod
    def parse(cls, jwk: str) -> "PublicKey":
        """Return the key in a JWK, as the platform keeps it.

        Raises:
            SigningError: there is no such key in it.
        """
        return cls(_parse(jwk.encode(), "the JWK"))

    @property
    def key_id(self) -> str:
        """The thumbprint that signatures name."""
        return self._key.thumbprint()

    @property
    def jwk(self) -> str:
        """The JWK, as it is registered with the platform."""
        members = self._key.as_dict(private=False)
        return json.dumps({name: members[name] for name in sorted(members) if name != "kid"})

    def verify(self, jws: str, content: bytes) -> None:
        """Check a detached JWS over the content.

        Raises:
            SigningError: it is none, or by another key, or over something else.
        """
        header, dots, signature = jws.partition("..")
        if not (dots and _is_base64(header) and _is_base64(signature)):
            raise SigningError("not a detached JWS: header, two dots, signature")
        payload = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
        whole = f"{header}.{payload}.{signature}"
        try:
            registry = _Registry(algorithms=[self._algorithm])
            signed = rfc7515.deserialize_compact(whole, self._key, registry=registry)
        except (JoseError, ValueError):
            raise SigningError("the signature is not by this key over this content") from None
        if signed.headers().get("kid") != self.key_id:
            raise SigningError("the signature names another key than the one that made it")


def new_key() -> SigningKey:
    """Return a new Ed25519 key."""
    return SigningKey(OKPKey.generate_key("Ed25519"))


def key_id_of(jws: str) -> str:
    """Return the thumbprint that a JWS names; not checked, and empty where there is none."""
    try:
        header = json.loads(_decoded(jws.partition(".")[0]))
    except (ValueError, binascii.Error):
        return ""
    named = header.get("kid") if isinstance(header, dict) else None
    return named if isinstance(named, str) else ""


def _is_base64(text: str) -> bool:
    """Tell whether it is base64url as an encoder writes it: no other spelling of the same bytes."""
    try:
        return bool(text) and base64.urlsafe_b64encode(_decoded(text)).rstrip(b"=").decode() == text
    except (ValueError, binascii.Error):
        return False


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _algorithm(key: _Key) -> str:
    algorithm = _ALGORITHM_OF.get(str(key.curve_name))
    if algorithm is None:
        raise SigningError(f"a key on the curve {key.curve_name}: make an Ed25519 or P-256 key")
    return algorithm


def _parse(content: bytes, where: str) -> _Key:
    try:
        if content.lstrip().startswith(b"{"):
            return _from_jwk(json.loads(content))
        return _from_pem(content)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise SigningError(
            f"there is no Ed25519 or P-256 key in {where}: make one by `puhui bundle key`, or "
            "`openssl genpkey -algorithm ed25519`"
        ) from None


def _from_jwk(members: dict[str, str | list[str]]) -> _Key:
    if members["kty"] == "OKP":
        return OKPKey.import_key(members)
    if members["kty"] == "EC":
        return ECKey.import_key(members)
    raise ValueError("another kind of key")


def _from_pem(content: bytes) -> _Key:
    private = b"PRIVATE KEY" in content
    key = load_pem_private_key(content, None) if private else load_pem_public_key(content)
    if isinstance(key, ed25519.Ed25519PrivateKey | ed25519.Ed25519PublicKey):
        return OKPKey.import_key(content)
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return ECKey.import_key(content)
    raise ValueError("another kind of key")
