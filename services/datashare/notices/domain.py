"""Notices: what a party is told, written in the transaction that made it so.

Invariants:

- A party is a participant's id (of a bank or a provider), or the `subject_id` of a firm: everybody
  who acts for a firm is told the same.
- A notice says what happened by ids and codes alone: no name of a person, no registration number,
  nothing out of a record.
- The order of a party's notices is the order of commit, so that a reader that keeps its cursor
  misses nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple


class NoticeKind(StrEnum):
    """What happened: names of `puhui.datashare.v1.NoticeKind` without the prefix."""

    CONSENT_REQUESTED = "CONSENT_REQUESTED"
    CONSENT_APPROVED = "CONSENT_APPROVED"
    CONSENT_GRANTED = "CONSENT_GRANTED"
    CONSENT_REJECTED = "CONSENT_REJECTED"
    CONSENT_PAUSED = "CONSENT_PAUSED"
    CONSENT_RESUMED = "CONSENT_RESUMED"
    CONSENT_WITHDRAWN = "CONSENT_WITHDRAWN"
    CONSENT_REVOKED = "CONSENT_REVOKED"
    CONSENT_CONSUMED = "CONSENT_CONSUMED"
    CONSENT_SUPERSEDED = "CONSENT_SUPERSEDED"
    CONSENT_EXPIRED = "CONSENT_EXPIRED"
    CONSENT_LAPSED = "CONSENT_LAPSED"
    ERASURE_DUE = "ERASURE_DUE"
    ERASURE_ATTESTED = "ERASURE_ATTESTED"
    DISPUTE_OPENED = "DISPUTE_OPENED"
    DISPUTE_REMINDER = "DISPUTE_REMINDER"
    DISPUTE_OVERDUE = "DISPUTE_OVERDUE"
    DISPUTE_STATED = "DISPUTE_STATED"
    DISPUTE_ANSWERED = "DISPUTE_ANSWERED"
    DISPUTE_CLOSED = "DISPUTE_CLOSED"
    RECORD_CORRECTED = "RECORD_CORRECTED"
    RECORD_RETRACTED = "RECORD_RETRACTED"
    RECORD_REPAIRED = "RECORD_REPAIRED"
    RECORD_ERASED = "RECORD_ERASED"
    RESCORE_DUE = "RESCORE_DUE"
    MANDATE_CHANGED = "MANDATE_CHANGED"
    INCIDENT_OPENED = "INCIDENT_OPENED"
    INCIDENT_SHARED = "INCIDENT_SHARED"


class Party(StrEnum):
    """Whom something concerns."""

    FIRM = "firm"
    RECIPIENT = "recipient of the consent"
    PROVIDER = "provider of the record"
    READERS = "banks that read it"
    SCORERS = "banks that scored on it"
    OPERATOR = "operators"
    CONCERNED = "whom an incident concerns"


_OF_CONSENT: Final = frozenset({Party.FIRM, Party.RECIPIENT})
_OF_DISPUTE: Final = frozenset({Party.FIRM, Party.PROVIDER, Party.READERS})
_OF_RECORD: Final = frozenset({Party.FIRM, Party.READERS})

TOLD: Final[Mapping[NoticeKind, frozenset[Party]]] = {
    **{kind: _OF_CONSENT for kind in NoticeKind if kind.startswith("CONSENT_")},
    NoticeKind.ERASURE_DUE: _OF_CONSENT,
    NoticeKind.ERASURE_ATTESTED: _OF_CONSENT,
    NoticeKind.DISPUTE_OPENED: _OF_DISPUTE,
    NoticeKind.DISPUTE_REMINDER: frozenset({Party.PROVIDER}),
    NoticeKind.DISPUTE_OVERDUE: frozenset({Party.FIRM, Party.PROVIDER}),
    NoticeKind.DISPUTE_STATED: _OF_DISPUTE,
    NoticeKind.DISPUTE_ANSWERED: _OF_DISPUTE,
    NoticeKind.DISPUTE_CLOSED: _OF_DISPUTE,
    NoticeKind.RECORD_CORRECTED: _OF_RECORD,
    NoticeKind.RECORD_RETRACTED: _OF_RECORD,
    NoticeKind.RECORD_REPAIRED: _OF_RECORD,
    NoticeKind.RECORD_ERASED: _OF_RECORD,
    NoticeKind.RESCORE_DUE: frozenset({Party.SCORERS}),
    NoticeKind.MANDATE_CHANGED: frozenset({Party.FIRM}),
    NoticeKind.INCIDENT_OPENED: frozenset({Party.OPERATOR}),
    NoticeKind.INCIDENT_SHARED: frozenset({Party.CONCERNED}),
}
"""Who is told what: the docs are made from this, and every use case is tested against it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What one party is told; which ids are set depends on the kind.

    Args:
        party_id: who is told.
        kind: what happened.
        occurred_at: by the clock of the transaction.
        subject_id: whose consent, record or mandate it is.
        consent_id: of a consent's notice.
        dispute_id: of a dispute's notice.
        record_type: of a record's or a dispute's notice.
        participant_id: whose act or record it is about.
        mandate_id: of a mandate's notice.
        due_at: when something has to be done by.
        incident_id: of an incident's notice.
    """

    party_id: str
    kind: NoticeKind
    occurred_at: datetime
    subject_id: str = ""
    consent_id: str = ""
    dispute_id: str = ""
    record_type: str = ""
    participant_id: str = ""
    mandate_id: str = ""
    due_at: datetime | None = None
    incident_id: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A notice in its place.

    Args:
        position: ascending in the order of commit among those of a party, with gaps.
        notice_id: names it for ever: whoever gets it twice knows it by this.
        notice: what it says.
    """

    position: int
    notice_id: str
    notice: Notice


class About(NamedTuple):
    """Records of a subject, of a type and a provider; "" stands for any of them."""

    subject_id: str
    record_type: str = ""
    provider_id: str = ""


class Recipient(NamedTuple):
    """Who was released such records.

    Args:
        participant_id: which bank.
        scored: also for a score.
    """

    participant_id: str
    scored: bool
