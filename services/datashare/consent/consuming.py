"""What follows from the use of a one-time consent, in the transaction of its release.

CONSUMED itself is computed from the use; what is written here is what others must learn of it:
providers that nothing is due any more, both parties that it was used and until when what was stored
must be erased, with the receipt of the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from services.datashare.changes.domain import Change, ChangeKind, Changes
from services.datashare.consent.domain import (
    Consent,
    Mode,
    Receipt,
    State,
    due_by,
    receipt_content,
)
from services.datashare.notices.writing import Notices, erasure_due, of_consent
from services.datashare.receipts.domain import Signer
from services.datashare.wanted.domain import Item, ended


class Duties(Protocol):
    """What recipients must erase."""

    async def end(self, consent: Consent, at: datetime) -> None:
        """Bring a duty forward, as its consent ended before its time."""
        ...


class WantedItems(Protocol):
    """What providers are told to supply."""

    async def append(self, items: Sequence[Item]) -> None:
        """Add items."""
        ...

    async def due_under(self, subject_id: str, consent_id: str) -> Sequence[Item]:
        """Return what a consent made due."""
        ...


class Consents(Protocol):
    """Consents."""

    async def consume(self, consent: Consent, receipt: Receipt) -> None:
        """Keep the receipt of the end of a held one-time consent, which is used now."""
        ...


class Work(Protocol):
    """What telling of a use needs in a transaction."""

    @property
    def consents(self) -> Consents:
        """Consents."""
        ...

    @property
    def changes(self) -> Changes:
        """The outbox."""
        ...

    @property
    def duties(self) -> Duties:
        """What recipients must erase."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def wanted(self) -> WantedItems:
        """What providers are told to supply."""
        ...


async def tell_consumed(
    work: Work, consents: Iterable[Consent], now: datetime, signer: Signer
) -> None:
    """Write down what follows from the use of one-time consents, of which there may be none.

    To be called last: other writers of changes wait from then on.

    Args:
        work: the transaction of the releases.
        consents: each held, and used in this transaction.
        now: the releases' time.
        signer: signs receipts for the platform.
    """
    changes, over = [], []
    for consent in consents:
        core = consent.core
        change = Change(
            ChangeKind.CONSENT_CONSUMED,
            now,
            subject_id=core.subject_id,
            consent_id=core.consent_id,
            participant_id=core.recipient_id,
        )
        changes.append(change)
        notices, erase_by = of_consent(change, core.recipient_id), None
        if core.terms.mode is Mode.STORE:
            erase_by = due_by(consent, now)
            await work.duties.end(consent, now)
            notices += erasure_due(notices, erase_by)
        await work.notices.append(notices)
        used = replace(consent, state=State.CONSUMED, changed_at=now)
        stated = receipt_content(used, core.recipient_id, signer.key.suite, erase_by)
        await work.consents.consume(consent, Receipt(stated, signer.sign(stated)))
        over += ended(await work.wanted.due_under(core.subject_id, core.consent_id), now)
    await work.changes.append(changes)
    await work.wanted.append(over)
