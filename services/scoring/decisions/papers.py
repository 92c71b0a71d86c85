"""The papers of a release: what proves it, and whether all is there that was reached for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a release is in the log, or will be.

    Args:
        leaf_hash: SHA-256 of 0x00, salt and content.
        salt: random.
        content: canonical JSON of what the leaf attests.
        promise: the platform's, compact JWS over the leaf's hash.
    """

    leaf_hash: bytes
    salt: bytes
    content: bytes
    promise: str


@dataclass(frozen=True, slots=True)
class Entry:
    """Whether all of one type of one provider was released.

    Args:
        provider_id: empty where the entry is about nobody in particular.
        record_type: of the catalogue.
        completeness: COMPLETE, PARTIAL, ABSENT or NOT_CONSENTED.
    """

    provider_id: str
    record_type: str
    completeness: str


@dataclass(frozen=True, slots=True)
class Papers:
    """What comes with a release.

    Args:
        receipt: of it.
        manifest: of it, by type and provider.
    """

    receipt: Receipt
    manifest: tuple[Entry, ...]
