"""Quotas: how often a consent may be fetched under.

Invariants:

- A limit counts releases within a calendar period of China Standard Time, or over the consent's
  whole life. Refusals and replays use none.
- What a clock says decides into which period a release falls: none has more than the limit,
  whatever the clock does.
- Of the releases that one transaction asks for beyond a limit, the last are the ones refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from services.datashare.china import CHINA, china_date, day_number
from services.kit.errors import FailedPreconditionError, PuhuiError, ResourceExhaustedError

Key: TypeAlias = tuple[str, str, int]
"""subject_id, consent_id, and the first day of a period, days since 1970-01-01."""

LIFE: Final = 0
"""The period of a limit over a consent's whole life."""


class Unit(StrEnum):
    """Calendar units: names of `FrequencyUnit` without the prefix."""

    DAY = "DAY"
    MONTH = "MONTH"
    YEAR = "YEAR"


_LONGEST: Final = {Unit.DAY: 1, Unit.MONTH: 31, Unit.YEAR: 366}
"""Days: from a period's first day, so many lead into the next one."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How often a consent may be fetched under.

    Args:
        times: most releases, from 1.
        unit: in each such period; None is over the consent's whole life.
    """

    times: int
    unit: Unit | None

    def period(self, now: datetime) -> int:
        """Return the first day of the running period, days since 1970-01-01, or `LIFE`."""
        return LIFE if self.unit is None else day_number(_begin(self.unit, china_date(now)))

    def next_begins(self, now: datetime) -> datetime | None:
        """Return when the next period begins; None where there is none."""
        if self.unit is None:
            return None
        begin = _begin(self.unit, china_date(now))
        following = _begin(self.unit, begin + timedelta(days=_LONGEST[self.unit]))
        return datetime.combine(following, time(), CHINA)


ONE_TIME: Final = Limit(1, None)


@dataclass(frozen=True, slots=True)
class Wish:
    """A release that counts.

    Args:
        subject_id: of the consent.
        consent_id: under which.
        limit: of the consent.
    """

    subject_id: str
    consent_id: str
    limit: Limit

    def key(self, now: datetime) -> Key:
        """Return what it is counted under."""
        return self.subject_id, self.consent_id, self.limit.period(now)


def wanted(wishes: Sequence[Wish], now: datetime) -> list[tuple[Key, int]]:
    """Return how many releases are asked for, by key in ascending order."""
    counts: dict[Key, int] = {}
    for wish in wishes:
        key = wish.key(now)
        counts[key] = counts.get(key, 0) + 1
    return sorted(counts.items())


def beyond(wishes: Sequence[Wish], used: Mapping[Key, int], now: datetime) -> list[bool]:
    """Tell of each wish whether it is beyond its limit.

    Args:
        wishes: what was asked for.
        used: the count of each key with all of them added.
        now: as they were counted.
    """
    over = {wish.key(now): used[wish.key(now)] - wish.limit.times for wish in wishes}
    refused: list[bool] = []
    for wish in reversed(wishes):
        key = wish.key(now)
        refused.append(over[key] > 0)
        over[key] -= 1
    return refused[::-1]


def exhausted(limit: Limit, now: datetime) -> PuhuiError:
    """Return why a release beyond a limit is refused."""
    following = limit.next_begins(now)
    if following is None:
        return FailedPreconditionError(
            "CONSENT_CONSUMED", "the consent was for one time and was used: ask for a new one"
        )
    return ResourceExhaustedError(
        "QUOTA_EXHAUSTED",
        f"the consent's {limit.times} for this {str(limit.unit).lower()} are used up: the next one "
        f"begins at {following.isoformat()}",
        retry_after=following - now,
    )


def _begin(unit: Unit, day: date) -> date:
    match unit:
        case Unit.DAY:
            return day
        case Unit.MONTH:
            return day.replace(day=1)
        case Unit.YEAR:
            return day.replace(month=1, day=1)
