"""Usage and contributions, by month of China Standard Time.

Invariants:

- A gateway's report is counted once, however often and through whichever replica it is sent.
- A participant sees its own usage, a provider its own contributions; the operator and the regulator
  see all.
- What is counted names no firm and no person.
"""

from calendar import monthrange
from datetime import date, datetime
from typing import NamedTuple

from services.datashare.china import china_date, day_number
from services.datashare.participants.domain import Role
from services.kit.errors import PermissionDeniedError
from services.kit.identity import Caller

SEES_ALL = frozenset({Role.OPERATOR, Role.REGULATOR})


class UsageKey(NamedTuple):
    """What calls are counted by.

    Args:
        participant_id: who called.
        product: to which the method belongs; may be empty.
        method: full name.
    """

    participant_id: str
    product: str
    method: str


class Counts(NamedTuple):
    """Calls and their bytes."""

    served: int = 0
    refused: int = 0
    failed: int = 0
    request_bytes: int = 0
    response_bytes: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Return the sums."""
        return Counts(*(mine + more for mine, more in zip(self, other, strict=True)))


class Usage(NamedTuple):
    """What a participant called.

    Args:
        key: who, of which product, what.
        day: days since 1970-01-01; of a sum, the month's first.
        counts: how often.
    """

    key: UsageKey
    day: int
    counts: Counts


class Refused(NamedTuple):
    """How often a gateway refused a participant for one reason since its last report.

    Args:
        participant_id: "" where none was proved.
        reason: name of the `ErrorReason` without its prefix.
        times: how often.
        in_a_row: longest run of refusals in which one of these stood.
        last_at: the last of them.
    """

    participant_id: str
    reason: str
    times: int
    in_a_row: int
    last_at: datetime


class Supplied(NamedTuple):
    """Records of one firm that came in.

    Args:
        subject_id: the firm.
        record_type: of which type.
        provider_id: from whom.
        month: yyyymm in which they came in.
        records: how many.
    """

    subject_id: str
    record_type: str
    provider_id: str
    month: int
    records: int


class Supply(NamedTuple):
    """A provider and a type of record that it supplied."""

    provider_id: str
    record_type: str


class Contribution(NamedTuple):
    """What a provider contributed in a month.

    Args:
        supply: who, and of which type.
        accepted: records that were taken in.
        subjects: firms that these are about.
        uses: releases that held such records.
        recipients: different ones of them.
    """

    supply: Supply
    accepted: int = 0
    subjects: int = 0
    uses: int = 0
    recipients: int = 0

    @property
    def is_any(self) -> bool:
        """Whether anything was contributed."""
        return bool(self.accepted or self.uses)


class Month(NamedTuple):
    """A month of China Standard Time.

    Args:
        number: yyyymm.
        first: its first day, days since 1970-01-01.
        last: its last day.
    """

    number: int
    first: int
    last: int


def month_with(day: date) -> Month:
    """Return the month that a day lies in."""
    last = day.replace(day=monthrange(day.year, day.month)[1])
    return Month(day.year * 100 + day.month, day_number(day.replace(day=1)), day_number(last))


def month_of(at: datetime) -> int:
    """Return the month yyyymm of a time in China."""
    day = china_date(at)
    return day.year * 100 + day.month


def seen_by(caller: Caller, participant_id: str) -> str:
    """Return whose figures a caller is shown; "" is everybody's.

    Args:
        caller: who asks.
        participant_id: whose were asked for; "" is all that the caller may see.

    Raises:
        PermissionDeniedError: NOT_YOURS.
    """
    if caller.role in SEES_ALL:
        return participant_id
    if participant_id not in ("", caller.participant_id):
        raise PermissionDeniedError(
            "NOT_YOURS", "a participant sees its own figures: name yourself, or nobody"
        )
    return caller.participant_id
