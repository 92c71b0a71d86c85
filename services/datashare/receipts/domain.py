"""The platform's own signatures: over consents, receipts of their end and promises.

Invariants:

- A signature is a compact JWS with detached payload (RFC 7515, appendix F); its header names the
  suite as `alg` and the key, by its thumbprint (RFC 7638), as `kid`, and nothing else.
- A public key is told for ever: what was signed under a key that is retired can still be checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class Suite(StrEnum):
    """How the platform signs: names as in the header of a JWS."""

    EDDSA = "EdDSA"
    ES256 = "ES256"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key that the platform signs with.

    Args:
        key_id: its thumbprint; signatures name it as `kid`.
        public_jwk: as JSON.
        suite: what it signs by.
    """

    key_id: str
    public_jwk: str
    suite: Suite


@dataclass(frozen=True, slots=True)
class PlatformKey:
    """A key of the platform as it is told.

    Args:
        key: the key.
        since: when the platform first started with it.
    """

    key: PublicKey
    since: datetime


class Signer(Protocol):
    """Signs for the platform."""

    @property
    def key(self) -> PublicKey:
        """The public half of the key that signs now."""
        ...

    def sign(self, payload: bytes) -> str:
        """Return the detached JWS over a payload."""
        ...


class PlatformKeyRows(Protocol):
    """The keys under which the platform signs and has signed."""

    async def add(self, key: PlatformKey) -> bool:
        """Add a key unless it is there; tell whether it was added."""
        ...

    async def all(self) -> Sequence[PlatformKey]:
        """Return every key, oldest first."""
        ...
