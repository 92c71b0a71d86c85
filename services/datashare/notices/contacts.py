"""Contacts: where a firm is told by mail or text message, and how often.

Invariants:

- What waits goes into one message, so a firm gets few: at most `MESSAGES_AN_HOUR`, and after that
  what waits until the hour is over goes into the next one.
- A message has the sentences of notices, oldest first, and how many more there are; nothing else
  about the firm, as it travels openly.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

# Neither a header nor an address of a list can be made of it: no blank, comma, angle or control.
_EMAIL: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_MOBILE: Final = re.compile(r"\+[1-9][0-9]{6,14}")


@dataclass(frozen=True, slots=True)
class Contact:
    """Where a firm is told.

    Args:
        subject_id: the firm.
        participant_id: the account that set it.
        email: an address, or "".
        mobile: a number in E.164, or "".
        language: zh or en.
        position: of the last notice that it was told.
        mailed: of the last notice in a mail; a text message about it may still be due.
        window_at: since when messages are counted.
        messages: since then.
        failures: in a row.
        next_attempt_at: when the next message may be sent.
    """

    subject_id: str
    participant_id: str
    email: str
    mobile: str
    language: str
    position: int
    mailed: int
    window_at: datetime
    next_attempt_at: datetime
    messages: int = 0
    failures: int = 0


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
    """A message was not taken; says why, without address or number."""


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


def sent(contact: Contact, position: int, now: datetime) -> Contact:
    """Return a contact after a message about notices up to a position."""
    if now - contact.window_at >= HOUR:
        contact = replace(contact, window_at=now, messages=0)
    messages = contact.messages + 1
    free_at = now if messages < MESSAGES_AN_HOUR else contact.window_at + HOUR
    return replace(
        contact,
        position=position,
        mailed=position,
        messages=messages,
        failures=0,
        next_attempt_at=free_at,
    )


def unsent(contact: Contact, now: datetime, uniform: Callable[[], float]) -> Contact:
    """Return a contact after a message that was not taken."""
    delay = min(FIRST_DELAY * 2 ** min(contact.failures, 20), LONGEST_DELAY)
    at = now + delay * (0.5 + uniform() / 2)
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
        lines.append(f"另有 {rest} 条通知。" if chinese else f"There are {rest} more notices.")
    where = "详情请登录普惠平台查看。" if chinese else "See the platform for more."
    subject = f"普惠平台通知（{len(said)} 条）" if chinese else f"Puhui: {len(said)} notice(s)"
    return Message(message_id, contact.email, subject, "\n".join([*lines, "", where]) + "\n")


def text_of(contact: Contact, message_id: str, words: Sequence[Words]) -> Message:
    """Return the text message about notices; arguments as of `mail_of`."""
    chinese = contact.language != "en"
    said = words[0].zh if chinese else words[0].en
    if more := len(words) - 1:
        said += f"另有 {more} 条通知。" if chinese else f" There are {more} more notices."
    return Message(message_id, contact.mobile, "", f"【普惠】{said}" if chinese else said)
