"""Contacts: where a firm is told by mail or text message, and how often.

Invariants:

- What waits goes into one message, so a firm gets few: at most `MESSAGES_AN_HOUR`, and after that
  what waits until the hour is over goes into the next one. Who speaks for the firm is told at once.
- Mail and text messages are told apart: an address that refuses holds up no text message. One that
  has refused for `PARK_AFTER` is parked: nothing is sent there until the firm sets it again, and
  what waited is told then. That a mail server or a gateway is down parks nobody.
- A message has the sentences of notices, those about who speaks for the firm first, the others by
  age, and how many more there are; nothing else about the firm, as it travels openly.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from services.datashare.notices.texts import Words
from services.kit.errors import invalid_field

MESSAGES_AN_HOUR: Final = 5
HOUR: Final = timedelta(hours=1)
SENTENCES: Final = 10
"""Sentences in a mail; a text message has one."""
FIRST_DELAY: Final = timedelta(seconds=30)
LONGEST_DELAY: Final = timedelta(hours=1)
PARK_AFTER: Final = timedelta(days=1)
"""How long an address or a number may refuse before it is parked."""

# Neither a header nor an address of a list can be made of it: no blank, comma, angle or control.
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_MOBILE: Final = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class Way:
    """An address or a number of a firm, and how it goes.

    Args:
        to: the address or number, or "".
        position: of the last notice that was told there.
        refused_since: when it refused first since something was taken.
        parked: whether nothing is sent there any more.
    """

    to: str = ""
    position: int = 0
    refused_since: datetime | None = None
    parked: bool = False

    @property
    def is_open(self) -> bool:
        """Whether something is sent there."""
        return bool(self.to) and not self.parked


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a firm is told.

    Args:
        subject_id: the firm.
        participant_id: the account that set it.
        language: zh or en.
        position: of the last notice that it was told, wherever something is sent.
        window_at: since when messages are counted.
        next_attempt_at: when the next message may be sent.
        mail: its address.
        text: its number, in E.164.
        messages: since `window_at`.
        failures: in a row.
    """

    subject_id: str
    participant_id: str
    language: str
    position: int
    window_at: datetime
    next_attempt_at: datetime
    mail: Way = field(default_factory=Way)
    text: Way = field(default_factory=Way)
    messages: int = 0
    failures: int = 0

    @property
    def is_open(self) -> bool:
        """Whether something is sent anywhere."""
        return self.mail.is_open or self.text.is_open


@dataclass(frozen=True, slots=True)
class Message:
    """A mail or a text message.

    Args:
        message_id: the same in every attempt at the same notices.
        to: an address or a number.
        subject: of a mail.
        text: what it says.
    """

    message_id: str
    to: str
    subject: str
    text: str


class MessageError(Exception):
    """A message was not taken; says why, without address or number.

    Args:
        why: in words.
        refused: whether it is the address or number that was refused.
    """

    def __init__(self, why: str, *, refused: bool = False) -> None:
        super().__init__(why)
        self.refused = refused


def check_contact(email: str, mobile: str) -> None:
    """Check an address and a number; either may be empty.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    if email and (not _EMAIL.fullmatch(email) or email.count("@") != 1):
        problem = "is no mail address: send one as name@example.cn"
        raise invalid_field("FIELD_INVALID", "contact.email", problem)
    if mobile and not _MOBILE.fullmatch(mobile):
        problem = "is no number in E.164: send one as +8613800000000"
        raise invalid_field("FIELD_INVALID", "contact.mobile", problem)


def taken(way: Way, position: int) -> Way:
    """Return an address or number that took a message about notices up to a position."""
    return replace(way, position=position, refused_since=None)


def refused(way: Way, now: datetime) -> Way:
    """Return an address or number that refused a message."""
    since = way.refused_since or now
    return replace(way, refused_since=since, parked=now - since >= PARK_AFTER)


def passed(contact: Contact, position: int) -> Contact:
    """Return a contact that was told up to a position, but where it is parked."""
    mail, text = (
        way if way.parked else replace(way, position=position)
        for way in (contact.mail, contact.text)
    )
    return replace(contact, position=position, mail=mail, text=text, failures=0)


def sent(contact: Contact, now: datetime) -> Contact:
    """Return a contact after a message."""
    if not timedelta() <= now - contact.window_at < HOUR:  # or a clock was set back
        contact = replace(contact, window_at=now, messages=0)
    contact = replace(contact, messages=contact.messages + 1)
    return replace(contact, next_attempt_at=free_at(contact, now))


def free_at(contact: Contact, now: datetime) -> datetime:
    """Return when another message may be sent, for all that was sent before."""
    hour_over = contact.window_at + HOUR
    return now if contact.messages < MESSAGES_AN_HOUR else max(now, hour_over)


def unsent(contact: Contact, now: datetime, uniform: Callable[[], float]) -> Contact:
    """Return a contact after a message that was not taken."""
    delay = min(FIRST_DELAY * 2 ** min(contact.failures, 20), LONGEST_DELAY)
    at = max(contact.next_attempt_at, now + delay * (0.5 + uniform() / 2))
    return replace(contact, failures=contact.failures + 1, next_attempt_at=at)


def mail_of(contact: Contact, message_id: str, words: Sequence[Words]) -> Message:
    """Return the mail about notices.

    Args:
        contact: to whom.
        message_id: names what it is about.
        words: the sentences, oldest first; not empty.
    """
    chinese = contact.language != "en"
    said = [each.zh if chinese else each.en for each in words]
    rest = len(said) - SENTENCES
    lines = said[:SENTENCES]
    if rest > 0:
        lines.append(f"另有 {rest} 条通知。" if chinese else f"And {rest} more.")
    where = "详情请登录普惠平台查看。" if chinese else "See the platform for more."
    subject = f"普惠平台通知（{len(said)} 条）" if chinese else f"Puhui: {len(said)} notice(s)"
    return Message(message_id, contact.mail.to, subject, "\n".join([*lines, "", where]) + "\n")


def text_of(contact: Contact, message_id: str, words: Sequence[Words]) -> Message:
    """Return the text message about notices; arguments as of `mail_of`."""
    chinese = contact.language != "en"
    said = words[0].zh if chinese else words[0].en
    if more := len(words) - 1:
        said += f"另有 {more} 条通知。" if chinese else f" And {more} more."
    return Message(message_id, contact.text.to, "", f"【普惠】{said}" if chinese else said)
