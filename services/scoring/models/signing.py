"""Signatures over a model's manifest: who made a model, and that nothing of it was changed.

Invariants: a signature is a compact JWS with detached payload (RFC 7515, appendix F), by EdDSA with
Ed25519 or by ES256, over the exact bytes of the manifest; its header has the public key as `jwk`
and its RFC 7638 thumbprint as `kid`, and nothing else. One signature has one spelling. Whoever
reads a folder can see that it is whole; whether its maker is to be trusted, only a list of keys
tells. Nobody but its owner can read a private key.
"""

import base64
import binascii
import contextlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import JWSRegistry

from services.kit.config import ConfigError

PUBLIC: Final = ".pub.jwk"
"""What the name of a public key's file has behind that of the private one."""
_MEMBERS: Final = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y")}
_ALGORITHM: Final = {"Ed25519": "EdDSA", "P-256": "ES256"}
_LIBRARY: Final = {"EdDSA": "Ed25519", "ES256": "ES256"}
"""The library has EdDSA with Ed25519 by the name that RFC 9864 gave it."""
_Key = OKPKey | ECKey


class SignatureError(ValueError):
    """A key or a signature cannot be used; the message says why and what to do."""


class ModelKey:
    """A private key that signs models. Use `new` or `read`.

    Args:
        pem: PKCS 8.

    Raises:
        ValueError: there is no Ed25519 or P-256 private key in it.
    """

    def __init__(self, pem: bytes) -> None:
        private = load_pem_private_key(pem, None)
        if isinstance(private, Ed25519PrivateKey):
            self._key: _Key = OKPKey.import_key(pem)
        elif isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
            self._key = ECKey.import_key(pem)
        else:
            raise ValueError("a key of another kind")  # noqa: TRY004 - of the file's content, not of an argument
        self._pem = pem

    @classmethod
    def new(cls) -> Self:
        """Return a new Ed25519 key."""
        made = Ed25519PrivateKey.generate()
        return cls(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a private key.

        Raises:
            SignatureError: it cannot be read, others can read it, or there is no such key in it.
        """
        try:
            mode, pem = path.stat().st_mode, path.read_bytes()
        except OSError as error:
            raise SignatureError(f"{path} cannot be read ({error.strerror}): check it") from None
        if os.name == "posix" and mode & 0o077:
            raise SignatureError(f"others can read the model key in {path}: chmod 600 {path}")
        try:
            return cls(pem)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SignatureError(
                f"there is no Ed25519 or P-256 private key in {path}: make one by "
                "`openssl genpkey -algorithm ed25519`, with mode 600"
            ) from None

    @property
    def key_id(self) -> str:
        """The thumbprint that signatures name."""
        return self._key.thumbprint()

    @property
    def jwk(self) -> str:
        """The public half, as JSON."""
        return _json(_public(self._key))

    def write(self, path: Path) -> None:
        """Write the private key, which only the owner can read, and the public one beside it.

        Raises:
            FileExistsError: there is a key already.
            OSError: there cannot be one.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        # Linked into place: who finds a key there finds all of it; the first of two writers wins.
        pending = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        handle = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self._pem)
                file.flush()
                os.fsync(handle)
            path.hardlink_to(pending)
        finally:
            pending.unlink()
        path.with_name(path.name + PUBLIC).write_text(self.jwk + "\n", "utf-8")

    def sign(self, content: bytes) -> str:
        """Return a detached JWS over the content."""
        jwk = _public(self._key)
        named = _ALGORITHM[str(jwk["crv"])]
        header = _base64url(_json({"alg": named, "jwk": jwk, "kid": self.key_id}).encode())
        algorithm = JWSRegistry(algorithms=[_LIBRARY[named]]).get_alg(_LIBRARY[named])
        signature = algorithm.sign(header + b"." + _base64url(content), self._key)
        return f"{header.decode()}..{_base64url(signature).decode()}"


def platform_key(data_dir: Path) -> Path:
    """Return where an embedded platform has the key of its own models."""
    return data_dir / "keys" / "models.pem"


def key_at(path: Path) -> ModelKey:
    """Return the key in a file, after making one where there is none.

    Raises:
        SignatureError: what is there cannot be used.
        OSError: nothing can be written there.
    """
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was faster: its key it is
            ModelKey.new().write(path)
    return ModelKey.read(path)


def verify(jws: str, content: bytes) -> str:
    """Check a detached JWS over the content.

    Returns:
        The thumbprint of the key in its header, which is nobody's in particular.

    Raises:
        SignatureError: it is not a signature of this content.
    """
    header, dots, signature = jws.partition("..")
    if not (dots and _is_base64url(header) and _is_base64url(signature)):
        raise SignatureError("it is not a detached JWS: header, two dots, signature")
    try:
        stated = json.loads(_decoded(header))
        if not isinstance(stated, dict) or set(stated) != {"alg", "jwk", "kid"}:
            raise SignatureError("its header has other members than alg, jwk and kid")
        key = _parse_jwk(stated["jwk"])
        named = _ALGORITHM[str(stated["jwk"]["crv"])]
        if stated["alg"] != named or stated["kid"] != key.thumbprint():
            raise SignatureError("its header names another key than the one that it holds")
        algorithm = JWSRegistry(algorithms=[_LIBRARY[named]]).get_alg(_LIBRARY[named])
        covered = header.encode() + b"." + _base64url(content)
        genuine = algorithm.verify(covered, _decoded(signature), key)
    except (JoseError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, SignatureError):
            raise
        raise SignatureError("its header holds no public key of Ed25519 or P-256") from None
    if not genuine:
        raise SignatureError("it is not a signature of these bytes")
    return key.thumbprint()


def read_public(path: Path) -> str:
    """Return the thumbprint of the public key in a file, JWK or PEM.

    Raises:
        SignatureError: it cannot be read, or there is no such key in it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror}): check it") from None
    try:
        if content.lstrip().startswith(b"{"):
            return _parse_jwk(json.loads(content)).thumbprint()
        return _parse_pem(content).thumbprint()
    except (JoseError, KeyError, TypeError, ValueError, UnsupportedAlgorithm):
        raise SignatureError(
            f"there is no public key of Ed25519 or P-256 in {path}: name the file that ends in "
            f"{PUBLIC}, not the private key"
        ) from None


def trusted_keys(setting: str, paths: Iterable[str]) -> frozenset[str] | None:
    """Return the thumbprints of keys whose models are served; None, without files, is everybody's.

    Args:
        setting: of the configuration, which names the files.
        paths: of public keys.

    Raises:
        ConfigError: a file cannot be used.
    """
    try:
        return frozenset(read_public(Path(path)) for path in paths) or None
    except SignatureError as error:
        raise ConfigError([f"{setting}: {error}"]) from None


def _public(key: _Key) -> dict[str, Any]:
    stated = key.as_dict(private=False)
    return {name: stated[name] for name in _MEMBERS[str(stated["kty"])]}


def _parse_jwk(stated: dict[str, str | list[str]]) -> _Key:
    """Return a public key.

    Raises:
        KeyError, TypeError, ValueError, JoseError: it is none.
    """
    if sorted(stated) != sorted(_MEMBERS[str(stated["kty"])]) or stated["crv"] not in _ALGORITHM:
        raise ValueError("another kind of key")
    return OKPKey.import_key(stated) if stated["kty"] == "OKP" else ECKey.import_key(stated)


def _parse_pem(content: bytes) -> _Key:
    key = load_pem_public_key(content)
    if isinstance(key, Ed25519PublicKey):
        return OKPKey.import_key(content)
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return ECKey.import_key(content)
    raise ValueError("another kind of key")


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))


def _is_base64url(text: str) -> bool:
    """Tell whether it is base64url as an encoder writes it: no other spelling of the same bytes."""
    try:
        return bool(text) and _base64url(_decoded(text)).decode() == text
    except (ValueError, binascii.Error):
        return False
