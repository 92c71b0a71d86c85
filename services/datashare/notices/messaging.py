"""Telling firms by mail and text message, in the background.

Any replica may do it: whoever does takes a firm for `LEASE`. A message that was perhaps sent is
sent again, under the same id.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.datashare.mandates.domain import Mandate, MandateState, state_at
from services.datashare.notices.app import Told, worded
from services.datashare.notices.contacts import (
    Contact,
    Message,
    MessageError,
    mail_of,
    sent,
    text_of,
    unsent,
)
from services.datashare.notices.domain import Entry, NoticeKind
from services.datashare.notices.texts import Texts
from services.datashare.participants.domain import Participant
from services.kit.clock import Clock
from services.kit.transactions import Transactions

LEASE: Final = timedelta(minutes=2)
AT_ONCE: Final = 8
NOTICES_A_MESSAGE: Final = 500
POLL_S: Final = 5.0


class Contacts(Protocol):
    """Where firms are told."""

    async def due(self, now: datetime, limit: int) -> Sequence[str]:
        """Return firms to which something may be sent that waits."""
        ...

    async def claim(self, subject_id: str, now: datetime, until: datetime) -> Contact | None:
        """Take a firm's contact, if it still is due; nobody else does until that time."""
        ...

    async def save(self, changed: Contact, claimed: datetime) -> None:
        """Write what became of a contact, unless it was changed since it was claimed."""
        ...


class Notices(Protocol):
    """What parties are told."""

    async def after(self, party_id: str, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` notices of a party behind a position, in their order."""
        ...


class Mandates(Protocol):
    """Who speaks for which firm."""

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def among(self, participant_ids: Collection[str]) -> Mapping[str, Participant]:
        """Return those of the ids that are registered, by id."""
        ...


class Work(Protocol):
    """What sending needs in a transaction."""

    @property
    def contacts(self) -> Contacts:
        """Where firms are told."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def mandates(self) -> Mandates:
        """Who speaks for which firm."""
        ...

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...


class Messenger(Protocol):
    """Sends messages."""

    async def mail(self, message: Message) -> None:
        """Send a mail; returns when it was taken.

        Raises:
            MessageError: it was not.
        """
        ...

    async def text(self, message: Message) -> None:
        """Send a text message; returns when it was taken.

        Raises:
            MessageError: it was not.
        """
        ...


class Report(Protocol):
    """Tells the operator how messages go."""

    def sent(self) -> None:
        """A firm was sent a message."""
        ...

    def unsent(self, why: str) -> None:
        """A firm could not be sent a message."""
        ...


class SendMessages:
    """Sends what waits.

    Args:
        transactions: opens transactions.
        messenger: sends.
        report: tells the operator.
        texts: the sentences.
        clock: the time.
        uniform: gives a number from 0 up to 1, for jitter.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        messenger: Messenger,
        report: Report,
        texts: Texts,
        clock: Clock,
        uniform: Callable[[], float],
    ) -> None:
        self._transactions = transactions
        self._messenger = messenger
        self._report = report
        self._texts = texts
        self._clock = clock
        self._uniform = uniform

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            await self()
            await asyncio.sleep(POLL_S)

    async def __call__(self) -> None:
        """Go on until nothing is due."""
        while True:
            async with self._transactions.read() as work:
                due = await work.contacts.due(self._clock.now(), AT_ONCE)
            if not due:
                return
            await asyncio.gather(*map(self._turn, due))

    async def _turn(self, subject_id: str) -> None:
        """Send a firm what waits, in one message."""
        now = self._clock.now()
        lease = now + LEASE
        async with self._transactions.begin() as work:
            contact = await work.contacts.claim(subject_id, now, lease)
            if contact is None:
                return
            found = await work.notices.after(subject_id, contact.position, NOTICES_A_MESSAGE)
            mandate = await work.mandates.get(contact.participant_id)
            entries = [entry for entry in found if _concerns(entry, contact, mandate, now)]
            told = await worded(work.participants, self._texts, entries)
        if not found:
            return
        contact = await self._send(contact, told, found[-1].position)
        async with self._transactions.begin() as work:
            await work.contacts.save(contact, lease)

    async def _send(self, contact: Contact, told: Sequence[Told], position: int) -> Contact:
        """Send what is told, and return the contact after it."""
        if not told:
            return replace(contact, position=position)
        new = [each for each in told if each.entry.position > contact.mailed]
        try:
            if contact.email and new:
                message_id = new[0].entry.notice_id
                words = [each.words for each in new]
                await self._messenger.mail(mail_of(contact, message_id, words))
                contact = replace(contact, mailed=position)
            if contact.mobile:
                message_id = told[0].entry.notice_id
                words = [each.words for each in told]
                await self._messenger.text(text_of(contact, message_id, words))
        except MessageError as error:
            self._report.unsent(str(error))
            return unsent(contact, self._clock.now(), self._uniform)
        self._report.sent()
        return sent(contact, position, self._clock.now())


def _concerns(entry: Entry, contact: Contact, mandate: Mandate | None, now: datetime) -> bool:
    """Tell whether a contact is told of a notice.

    One that was set by an account that does not speak for the firm any more is only told of that:
    it may be the first to see that somebody else claims the firm.
    """
    speaks = (
        mandate is not None
        and mandate.subject_id == contact.subject_id
        and state_at(mandate, now) is MandateState.ACTIVE
    )
    return speaks or entry.notice.kind is NoticeKind.MANDATE_CHANGED
