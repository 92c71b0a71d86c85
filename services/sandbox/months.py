"""Reporting months as plain integers.

A month is a count since January of year 0 (`year * 12 + month - 1`), so that months subtract; a day
is a count since 1970-01-01. Calendar dates are those of China Standard Time.
"""

from datetime import UTC, date, datetime, timedelta

EPOCH = date(1970, 1, 1)


def month_of(day: date) -> int:
    """The month that a day lies in."""
    return day.year * 12 + day.month - 1


def first_day(month: int) -> date:
    """The first day of a month."""
    return date(month // 12, month % 12 + 1, 1)


def last_day(month: int) -> date:
    """The last day of a month."""
    return first_day(month + 1) - timedelta(days=1)


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - EPOCH).days


def last_complete_month(today: date) -> int:
    """The latest month that is over on `today`."""
    return month_of(today) - 1


def end_of_day(day: date) -> datetime:
    """The last second of a day in China Standard Time, in UTC."""
    return datetime(day.year, day.month, day.day, 15, 59, 59, tzinfo=UTC)


def yyyymm(month: int) -> int:
    """A month as people write it, e.g. 202609."""
    return month // 12 * 100 + month % 12 + 1
