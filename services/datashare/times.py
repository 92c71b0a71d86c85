"""Dates and times of messages as those of Python."""

from datetime import UTC, date, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from google.type import date_pb2

from puhui.common.v1 import types_pb2
from services.datashare.consent.domain import Period
from services.kit.errors import InvalidArgumentError, invalid_field


def time_of(stamp: Timestamp, field: str) -> datetime:
    """Return a time, cut to microseconds.

    Args:
        stamp: set.
        field: its path, for the error.

    Raises:
        InvalidArgumentError: DATE_INVALID.
    """
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise _invalid(field, "is no time between the years 1 and 9999") from None


def stamp_of(at: datetime) -> Timestamp:
    """Return the message of a time."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def period_of(message: types_pb2.DatePeriod, field: str) -> Period:
    """Return a period of days.

    Args:
        message: set.
        field: its path, for the error.

    Raises:
        InvalidArgumentError: DATE_INVALID.
    """
    first = date_of(getattr(message, "from"), f"{field}.from")
    last = date_of(message.to, f"{field}.to")
    if last < first:
        raise _invalid(field, "ends before it begins")
    return Period(first, last)


def period_message(period: Period) -> types_pb2.DatePeriod:
    """Return the message of a period."""
    ends = {"from": date_message(period.first), "to": date_message(period.last)}
    return types_pb2.DatePeriod(**ends)


def date_of(message: date_pb2.Date, field: str) -> date:
    """Return a day.

    Args:
        message: set.
        field: its path, for the error.

    Raises:
        InvalidArgumentError: DATE_INVALID.
    """
    try:
        return date(message.year, message.month, message.day)
    except (ValueError, OverflowError):
        raise _invalid(field, "is no day of the calendar") from None


def date_message(day: date) -> date_pb2.Date:
    """Return the message of a day."""
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def _invalid(field: str, problem: str) -> InvalidArgumentError:
    return invalid_field("DATE_INVALID", field, problem)
