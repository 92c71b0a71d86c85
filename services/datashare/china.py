"""Days in China Standard Time, in which reporting dates are; it has no summer time."""

from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

CHINA: Final = timezone(timedelta(hours=8))
_EPOCH: Final = date(1970, 1, 1)


def china_date(at: datetime) -> date:
    """Return the day of a time."""
    return at.astimezone(CHINA).date()


def china_day(at: datetime) -> int:
    """Return the day of a time, days since 1970-01-01."""
    return day_number(china_date(at))


def day_number(day: date) -> int:
    """Return a day as days since 1970-01-01."""
    return (day - _EPOCH).days


def date_of_day(day: int) -> date:
    """Return a day given as days since 1970-01-01."""
    return _EPOCH + timedelta(days=day)


@lru_cache(1 << 14)
def month_of_day(day: int) -> int:
    """Return the month yyyymm of a day given as days since 1970-01-01."""
    on = date_of_day(day)
    return on.year * 100 + on.month
