"""Changes: what others must learn, written in the transaction that made it so.

The order of the feed is the order of commit, so that a reader that keeps its cursor misses nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol


class ChangeKind(StrEnum):
    """What changed: names of `puhui.datashare.v1.ChangeKind` without the prefix."""

    CONSENT_REQUESTED = "CONSENT_REQUESTED"
    CONSENT_GRANTED = "CONSENT_GRANTED"
    CONSENT_REJECTED = "CONSENT_REJECTED"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    CONSENT_REVOKED = "CONSENT_REVOKED"
    CONSENT_APPROVED = "CONSENT_APPROVED"
    CONSENT_PAUSED = "CONSENT_PAUSED"
    CONSENT_RESUMED = "CONSENT_RESUMED"
    CONSENT_CONSUMED = "CONSENT_CONSUMED"
    CONSENT_SUPERSEDED = "CONSENT_SUPERSEDED"
    RECORD_CORRECTED = "RECORD_CORRECTED"
    RECORD_RETRACTED = "RECORD_RETRACTED"
    RECORD_REPAIRED = "RECORD_REPAIRED"
    RECORD_ERASED = "RECORD_ERASED"
    DISPUTE_OPENED = "DISPUTE_OPENED"
    DISPUTE_CLOSED = "DISPUTE_CLOSED"
    KEY_REVOKED = "KEY_REVOKED"
    PARTICIPANT_SUSPENDED = "PARTICIPANT_SUSPENDED"
    PARTICIPANT_REINSTATED = "PARTICIPANT_REINSTATED"
    MANDATE_CHANGED = "MANDATE_CHANGED"
    CREDENTIAL_CHANGED = "CREDENTIAL_CHANGED"
    PARTICIPANT_CHANGED = "PARTICIPANT_CHANGED"


@dataclass(frozen=True, slots=True)
class Change:
    """One change; which ids are set depends on its kind.

    Args:
        kind: what changed.
        changed_at: by the clock of the transaction.
        subject_id: whose consent or record it is.
        consent_id: of a consent's change.
        participant_id: of a consent its recipient, of a record its provider, of a mandate
            the account, else who changed.
        key_id: of a key's or a credential's change.
        record_type: of a record's change, or a dispute's.
        dispute_id: of a dispute's change; opened says that readers of the record are told of it
            from now on, closed that they no longer are.
    """

    kind: ChangeKind
    changed_at: datetime
    subject_id: str = ""
    consent_id: str = ""
    participant_id: str = ""
    key_id: str = ""
    record_type: str = ""
    dispute_id: str = ""


class Changes(Protocol):
    """The outbox, in the transaction that makes the changes."""

    async def append(self, changes: Sequence[Change]) -> None:
        """Add changes."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A change in its place.

    Args:
        position: ascending in the order of commit, with gaps.
        change: what happened.
    """

    position: int
    change: Change
