"""Telling firms by mail and text message, in the background.

Any replica may do it: whoever does takes a firm for `LEASE`. A message that was perhaps sent is
sent again, under the same id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple, Protocol

from services.datashare.mandates.acting import Mandates
from services.datashare.mandates.domain import Mandate, Power, allows
from services.datashare.notices.app import Told, worded
from services.datashare.notices.contacts import (
    Contact,
    Message,
    MessageError,
    Way,
    mail_of,
    passed,
    refused,
    sent,
    taken,
    text_of,
    unsent,
)
from services.datashare.notices.domain import Entry, NoticeKind
from services.datashare.notices.texts import Texts, Words
from services.datashare.participants.domain import Participant
from services.kit.clock import Clock
from services.kit.transactions import Transactions

LEASE: Final = timedelta(minutes=2)
AT_ONCE: Final = 8
NOTICES_A_MESSAGE: Final = 500
SEND_EVERY: Final = timedelta(seconds=5)


class Contacts(Protocol):
    """Where firms are told."""

    async def due(self, now: datetime, limit: int) -> Sequence[str]:
        """Return firms for which something may wait, and be sent."""
        ...

    async def claim(self, subject_id: str, now: datetime, until: datetime) -> Contact | None:
        """Take a firm's contact, if it still is due; nobody else does until that time."""
        ...

    async def rest(self, subject_id: str, now: datetime, claimed: datetime) -> None:
        """Let a claimed contact go, behind which nothing waits; it is due with the next notice.

        In a transaction of its own: who tells the firm something holds its turn first.
        """
        ...

    async def save(self, changed: Contact, claimed: datetime) -> None:
        """Write what became of a contact, unless it was changed since it was claimed."""
        ...


class Notices(Protocol):
    """What parties are told."""

    async def after(self, party_id: str, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` notices of a party behind a position, in their order."""
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
        """A message was taken."""
        ...

    def unsent(self, why: str) -> None:
        """A message was not taken."""
        ...

    def parks(self, participant_id: str, why: str) -> None:
        """An address or a number is parked, which an account of a firm set."""
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
            async with self._transactions.begin() as work:
                await work.contacts.rest(subject_id, now, lease)
            return
        contact = await self._send(contact, told, found[-1].position)
        async with self._transactions.begin() as work:
            await work.contacts.save(contact, lease)

    async def _send(self, contact: Contact, told: Sequence[Told], position: int) -> Contact:
        """Send what is told wherever something is sent, and return the contact after it."""
        write_mail, write_text = partial(mail_of, contact), partial(text_of, contact)
        mail = await self._by(contact.mail, self._messenger.mail, write_mail, told, position)
        text = await self._by(contact.text, self._messenger.text, write_text, told, position)
        for before, tried in ((contact.mail, mail), (contact.text, text)):
            if tried.way.parked and not before.parked:
                self._report.parks(contact.participant_id, tried.why)
        now = self._clock.now()
        contact = replace(contact, mail=mail.way, text=text.way)
        if mail.taken or text.taken:
            contact = sent(contact, now)
        if mail.why or text.why:
            return unsent(contact, now, self._uniform)
        return passed(contact, position)

    async def _by(
        self,
        way: Way,
        send: Callable[[Message], Awaitable[None]],
        write: Callable[[str, Sequence[Words]], Message],
        told: Sequence[Told],
        position: int,
    ) -> "_Tried":
        new = [each for each in told if each.entry.position > way.position]
        if not (way.is_open and new):
            return _Tried(way)
        # A bank that has a firm told much must not push a warning out of the message.
        ordered = sorted(new, key=lambda each: not _warns(each.entry))
        try:
            await send(write(new[0].entry.notice_id, [each.words for each in ordered]))
        except MessageError as error:
            self._report.unsent(str(error))
            after = refused(way, self._clock.now()) if error.refused else way
            return _Tried(after, why=str(error))
        self._report.sent()
        return _Tried(taken(way, position), taken=True)


class _Tried(NamedTuple):
    """An address or number after an attempt, if there was one.

    Args:
        way: as it is now.
        taken: whether a message was.
        why: one was not.
    """

    way: Way
    taken: bool = False
    why: str = ""


def _concerns(entry: Entry, contact: Contact, mandate: Mandate | None, now: datetime) -> bool:
    """Tell whether a contact is told of a notice.

    One that was set by an account that may not read for the firm any more is only told of that.
    """
    return allows(mandate, contact.subject_id, Power.READ, now) or _warns(entry)


def _warns(entry: Entry) -> bool:
    """Tell whether a notice may be the first sign that somebody else claims the firm."""
    return entry.notice.kind is NoticeKind.MANDATE_CHANGED
