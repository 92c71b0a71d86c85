"""What is written beside every change of mandates, in its transaction: leaf, feed and notices."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.datashare.changes.domain import Changes
from services.datashare.log.domain import Json, LeafKind, Leaves, Sealer
from services.datashare.mandates.domain import Mandate, change_content, change_of
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.writing import Notices


class Work(Protocol):
    """What recording needs in a transaction."""

    @property
    def changes(self) -> Changes:
        """The outbox."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...


async def record(
    work: Work,
    sealer: Sealer,
    mandates: Sequence[Mandate],
    action: str,
    by: str,
    at: datetime,
    **more: Json,
) -> None:
    """Write down that mandates were given, suspended or ended.

    Args:
        work: the transaction.
        sealer: makes leaves.
        mandates: as they are after it, all of one firm.
        action: see `change_content`.
        by: see `change_content`.
        at: when.
        more: what else the leaves attest.
    """
    if not mandates:
        return
    contents = (change_content(each, action, by, at, **more) for each in mandates)
    await work.leaves.append([sealer.seal(LeafKind.MANDATE, content, at) for content in contents])
    await work.changes.append([change_of(each, at) for each in mandates])
    await work.notices.append([notice_of(each, at) for each in mandates])


def notice_of(mandate: Mandate, at: datetime) -> Notice:
    """Return what a firm is told of a change of a mandate, or of who signs for it."""
    return Notice(
        party_id=mandate.subject_id,
        kind=NoticeKind.MANDATE_CHANGED,
        occurred_at=at,
        subject_id=mandate.subject_id,
        participant_id=mandate.participant_id,
        mandate_id=mandate.mandate_id,
    )
