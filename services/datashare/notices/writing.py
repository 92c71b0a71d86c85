"""What other use cases call to tell parties, in the transaction of what they tell.

Invariants:

- Every change of a consent is told to the firm and to the recipient.
- A correction, retraction, repair or erasure is told to the firm, and to every recipient to which
  such records were released within `TOLD_BACK`; whoever scored on what has changed since is told
  that as well. One batch tells a party the same once, however many rows it has.
- A batch without such rows asks and writes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.datashare.changes.domain import Change, ChangeKind
from services.datashare.notices.domain import About, Notice, NoticeKind, Recipient

TOLD_BACK: Final = timedelta(days=366)
"""Who was released a record since then is told what became of it: 12 months, with a leap day."""

TOLD_AT_ONCE: Final = 1_000
"""Consents of which is told in one statement."""

_RECORDS: Final = {
    ChangeKind.RECORD_CORRECTED: NoticeKind.RECORD_CORRECTED,
    ChangeKind.RECORD_RETRACTED: NoticeKind.RECORD_RETRACTED,
    ChangeKind.RECORD_REPAIRED: NoticeKind.RECORD_REPAIRED,
    ChangeKind.RECORD_ERASED: NoticeKind.RECORD_ERASED,
}
_CHANGED: Final = {
    NoticeKind.RECORD_CORRECTED,
    NoticeKind.RECORD_RETRACTED,
    NoticeKind.RECORD_REPAIRED,
}


class Notices(Protocol):
    """What parties are told."""

    async def append(self, notices: Sequence[Notice]) -> None:
        """Add notices."""
        ...


class Recipients(Protocol):
    """Who was released which records."""

    async def since(
        self, at: datetime, asked: Collection[About], *, until: datetime | None = None
    ) -> Mapping[About, Sequence[Recipient]]:
        """Return who was released such records since a time, of what anybody was."""
        ...


class ManyNotices(Notices, Protocol):
    """What parties are told, more than memory should hold."""

    async def spill(self) -> None:
        """Write what was added so far; nothing else may be locked after this."""
        ...


class Consents(Protocol):
    """Consents."""

    async def given_to(
        self, recipient_id: str, now: datetime, after: str, limit: int
    ) -> Sequence[tuple[str, str]]:
        """Return subject_id and consent_id of a recipient's consents that are in force, by id."""
        ...


class TellingStanding(Protocol):
    """What telling of a recipient's standing needs in a transaction."""

    @property
    def consents(self) -> Consents:
        """Consents."""
        ...

    @property
    def notices(self) -> ManyNotices:
        """What parties are told."""
        ...


class Telling(Protocol):
    """What telling of records needs in a transaction."""

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def recipients(self) -> Recipients:
        """Who was released which records."""
        ...


def of_consent(change: Change, acting_id: str) -> list[Notice]:
    """Return what a change of a consent tells the firm and the recipient.

    Args:
        change: as the feed tells it.
        acting_id: whose act it is.
    """
    return [
        Notice(
            party_id=party_id,
            kind=NoticeKind(change.kind),
            occurred_at=change.changed_at,
            subject_id=change.subject_id,
            consent_id=change.consent_id,
            participant_id=acting_id,
        )
        for party_id in (change.subject_id, change.participant_id)
    ]


def erasure_due(told: Sequence[Notice], by: datetime) -> list[Notice]:
    """Return what tells the same parties until when must be erased what was stored.

    Args:
        told: the notices of a consent's end.
        by: the last moment.
    """
    return [replace(notice, kind=NoticeKind.ERASURE_DUE, due_at=by) for notice in told]


async def tell_of_standing(
    work: TellingStanding, recipient_id: str, kind: NoticeKind, at: datetime
) -> None:
    """Tell that the consents given to a recipient rest, or no longer do.

    Each firm is told of each consent, the recipient once. There may be very many, so it is the last
    that happens in the transaction.

    Args:
        work: the transaction, which holds the recipient.
        recipient_id: who was suspended or reinstated.
        kind: CONSENT_PAUSED or CONSENT_RESUMED.
        at: when.
    """
    whole, after = Notice(recipient_id, kind, at, participant_id=recipient_id), ""
    while given := await work.consents.given_to(recipient_id, at, after, TOLD_AT_ONCE):
        told = [
            replace(whole, party_id=subject_id, subject_id=subject_id, consent_id=consent_id)
            for subject_id, consent_id in given
        ]
        await work.notices.append(told if after else [whole, *told])
        after = given[-1][1]
        if len(given) < TOLD_AT_ONCE:
            break
        await work.notices.spill()


async def tell_of_records(work: Telling, changes: Sequence[Change]) -> None:
    """Tell of corrections, retractions, repairs and erasures.

    Args:
        work: the transaction.
        changes: as the feed tells them, all of one moment.
    """
    if not changes:
        return
    about = {change: about_of(change) for change in changes}
    since = changes[0].changed_at - TOLD_BACK
    found = await work.recipients.since(since, set(about.values()))
    told = []
    for change, which in about.items():
        told.append(_of_record(change, change.subject_id))
        told += to_recipients(change, found.get(which, ()))
    await work.notices.append(told)


def about_of(change: Change) -> About:
    """Return which records a change is about."""
    return About(change.subject_id, change.record_type, change.participant_id)


def is_of_records(change: Change) -> bool:
    """Tell whether a change is one of which recipients of records are told."""
    return change.kind in _RECORDS


def to_recipients(change: Change, recipients: Sequence[Recipient]) -> list[Notice]:
    """Return what a change of records tells those to whom such records were released."""
    told = []
    for recipient in recipients:
        notice = _of_record(change, recipient.participant_id)
        told.append(notice)
        if recipient.scored and notice.kind in _CHANGED:
            told.append(replace(notice, kind=NoticeKind.RESCORE_DUE))
    return told


def _of_record(change: Change, party_id: str) -> Notice:
    return Notice(
        party_id=party_id,
        kind=_RECORDS[change.kind],
        occurred_at=change.changed_at,
        subject_id=change.subject_id,
        record_type=change.record_type,
        participant_id=change.participant_id,
    )
