"""Telling of the ends that nobody made: of consents that expired and requests that lapsed.

Invariants:

- Nothing waits for this: a consent has ended as soon as its time is over, told or not.
- An end is told once, to the firm and the recipient, with its receipt and, where something may have
  been stored, until when it must be erased. Only who acts on a consent after its end was told, as a
  clock was set back, has it told again.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

from services.datashare.consent.domain import (
    STANDING_STATES,
    Consent,
    Mode,
    Receipt,
    State,
    due_by,
    receipt_content,
    state_at,
)
from services.datashare.notices.domain import Notice, NoticeKind
from services.datashare.notices.writing import Notices, erasure_due
from services.datashare.receipts.domain import Signer
from services.kit.clock import Clock
from services.kit.transactions import Transactions

AT_ONCE: Final = 200
"""Most ends that are told in one transaction."""

_KINDS: Final = {
    State.EXPIRED: NoticeKind.CONSENT_EXPIRED,
    State.LAPSED: NoticeKind.CONSENT_LAPSED,
}


class Consents(Protocol):
    """Consents."""

    async def is_over(self, now: datetime) -> bool:
        """Tell whether there is one whose time is over and whose end is to be told."""
        ...

    async def over(self, now: datetime, limit: int) -> Sequence[Consent]:
        """Return those, held for a change: one that somebody else holds once there are no others.

        None where somebody else tells of it meanwhile.
        """
        ...

    async def update(self, consent: Consent) -> None:
        """Write what changed of a held consent."""
        ...


class Work(Protocol):
    """What telling of ends needs in a transaction."""

    @property
    def consents(self) -> Consents:
        """Consents."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...


class TellEnds:
    """Tells of ends that time made.

    Args:
        transactions: opens transactions.
        clock: the time.
        signer: signs receipts for the platform.
    """

    def __init__(self, transactions: Transactions[Work], clock: Clock, signer: Signer) -> None:
        self._transactions = transactions
        self._clock = clock
        self._signer = signer

    async def __call__(self) -> int:
        """Tell what is to be told now; return of how many consents."""
        told = 0
        while True:
            now = self._clock.now()
            async with self._transactions.read() as work:
                if not await work.consents.is_over(now):
                    return told
            async with self._transactions.begin() as work:
                found = await work.consents.over(now, AT_ONCE)
                for consent in found:
                    await self._tell(work, consent, now)
            if not found:  # somebody else tells them
                return told
            told += len(found)

    async def _tell(self, work: Work, consent: Consent, now: datetime) -> None:
        state = state_at(replace(consent, suspended=False), now)
        receipt = consent.termination
        # That one was used up was told with its use.
        if kind := _KINDS.get(state):
            core = consent.core
            at = core.terms.expires_at
            if state is State.LAPSED:
                at = core.answer_by or at
            notices = [
                Notice(
                    party_id,
                    kind,
                    at,
                    subject_id=core.subject_id,
                    consent_id=core.consent_id,
                    participant_id=core.recipient_id,
                )
                for party_id in (core.subject_id, core.recipient_id)
            ]
            erase_by = None
            if core.terms.mode is Mode.STORE and consent.state in STANDING_STATES:
                erase_by = due_by(consent, at)
                notices += erasure_due(notices, erase_by)
            await work.notices.append(notices)
            ended = replace(consent, state=state, changed_at=at)
            stated = receipt_content(ended, "", self._signer.key.suite, erase_by)
            receipt = Receipt(stated, self._signer.sign(stated))
        await work.consents.update(replace(consent, termination=receipt, end_told=True))
