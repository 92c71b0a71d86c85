"""What sealing is: ciphers, places, data keys, tokens.

Invariants:

- Sealed bytes say in their first byte which suite made them; an unknown suite is refused. Another
  suite (SM4 is the likely next) is one more entry of `_SUITES`: what is there stays readable.
- Sealed bytes open only under their key and in the place that they were sealed for: a subject's
  payload does not open as another record's, nor another version's, nor another subject's.
- A place has one encoding: every part carries its kind and its length.
- One key never serves two ends: ciphers and blinding use keys derived from the data key.
"""

import hmac
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.kit.errors import UnavailableError

KEY_BYTES: Final = 32
TOKEN_BYTES: Final = 16
SEALED_FROM: Final = 4
"""Sensitivity (JR/T 0197-2020) from which a type's payloads and summaries are sealed."""

Place: TypeAlias = tuple[str | int, ...]
"""Where sealed bytes belong: a kind of thing, then what names it."""

RandomBytes: TypeAlias = Callable[[int], bytes]
"""Returns so many unpredictable bytes, as `secrets.token_bytes` does."""

_NONCE_BYTES: Final = 12


class SealBrokenError(Exception):
    """Sealed bytes are not what was sealed here: altered, moved, or of an unknown suite.

    The message says of what kind they are, never what they hold.
    """


class MissingKekError(UnavailableError):
    """A data key is wrapped by a key-encryption key that is not at hand.

    Args:
        kek_id: which.
    """

    def __init__(self, kek_id: str) -> None:
        self.kek_id = kek_id
        super().__init__(
            "UNAVAILABLE",
            f'the key-encryption key "{kek_id}" is not at hand, so what it protects cannot be '
            "read: the operator has to put it back into the key ring",
        )


class _Cipher(Protocol):
    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class _Suite(NamedTuple):
    name: str
    cipher: Callable[[bytes], _Cipher]


_AES_256_GCM: Final = 1
_SUITES: Final = {_AES_256_GCM: _Suite("AES-256-GCM", AESGCM)}
_CURRENT: Final = _AES_256_GCM


class Box:
    """Seals and opens under one key.

    Args:
        key: 32 bytes.
        random_bytes: where nonces come from; 2^32 boxes may be sealed under one key.
    """

    def __init__(self, key: bytes, random_bytes: RandomBytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self._ciphers = {number: suite.cipher(key) for number, suite in _SUITES.items()}
        self._random_bytes = random_bytes

    def seal(self, place: Place, content: bytes) -> bytes:
        """Return the sealed bytes: suite, nonce, ciphertext and tag."""
        nonce = self._random_bytes(_NONCE_BYTES)
        data = _associated_data(_CURRENT, place)
        return bytes((_CURRENT,)) + nonce + self._ciphers[_CURRENT].encrypt(nonce, content, data)

    def open(self, place: Place, sealed: bytes) -> bytes:
        """Return what was sealed.

        Raises:
            SealBrokenError: not under this key, or not in this place.
        """
        number = sealed[0] if sealed else 0
        cipher = self._ciphers.get(number)
        if cipher is None:
            raise SealBrokenError(f"a sealed {place[0]} is of the unknown suite {number}")
        nonce, content = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, content, _associated_data(number, place))
        except (InvalidTag, ValueError):  # ValueError: cut off within the nonce
            raise SealBrokenError(
                f"a sealed {place[0]} was altered, or moved from where it belongs"
            ) from None


class DataKey:
    """The key of one subject's data.

    Args:
        material: 32 bytes.
        random_bytes: where nonces come from.
    """

    def __init__(self, material: bytes, random_bytes: RandomBytes) -> None:
        self._box = Box(_derived(material, b"puhui seal"), random_bytes)
        self._blind = _derived(material, b"puhui blind")
        self.seal = self._box.seal
        self.open = self._box.open

    def blind(self, digest: bytes) -> bytes:
        """Return a keyed digest in the place of a plain one, with which contents can be guessed."""
        return hmac.digest(self._blind, digest, "sha256")


class Wrapped(NamedTuple):
    """A data key as it is stored.

    Args:
        kek_id: the key-encryption key that opens it.
        content: sealed bytes, in whatever form that key's owner gives them.
    """

    kek_id: str
    content: bytes


class SubjectTokens:
    """Names registration numbers so that they can be found and not read.

    A plain hash would hide nothing, as there are few enough numbers to try all.

    Args:
        key: 32 bytes, for this alone.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes")
        self._key = key

    def of(self, uscc: str) -> bytes:
        """Return the token of a checked registration number."""
        return hmac.digest(self._key, b"puhui uscc " + uscc.encode(), "sha256")[:TOKEN_BYTES]


def provider_owner(provider_id: str) -> str:
    """Return the owner of what a provider sent that is of no one subject; it is no subject's id."""
    return f"~{provider_id}"


def record_place(
    subject_id: str, record_type: str, provider_id: str, provider_record_id: str, version: int
) -> Place:
    """Return where a record's payload belongs."""
    return ("payload", subject_id, record_type, provider_id, provider_record_id, version)


def series_place(subject_id: str, record_type: str, provider_id: str) -> Place:
    """Return where a summary series' content belongs."""
    return ("series", subject_id, record_type, provider_id)


def uscc_place(subject_id: str) -> Place:
    """Return where a subject's registration number belongs."""
    return ("uscc", subject_id)


def _associated_data(suite: int, place: Place) -> bytes:
    parts = [bytes((suite,))]
    for part in place:
        encoded = str(part).encode()
        parts.append(b"s" if isinstance(part, str) else b"i")
        parts.append(len(encoded).to_bytes(4, "big"))
        parts.append(encoded)
    return b"".join(parts)


def _derived(material: bytes, use: bytes) -> bytes:
    if len(material) != KEY_BYTES:
        raise ValueError(f"a data key has {KEY_BYTES} bytes")
    return hmac.digest(material, use, "sha256")
