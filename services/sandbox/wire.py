"""The small messages that records are made of, built once and shared.

A record holds five to eight sub-messages; a city or an import has few distinct days and subjects,
so those are shared and only amounts are built anew.
"""

from datetime import timedelta
from functools import cache

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.common.v1.types_pb2 import DatePeriod, SubjectRef
from services.sandbox.months import EPOCH, day_number, end_of_day, first_day, last_day


def cny(fen: int) -> Money:
    """An amount in renminbi, exact to the fen."""
    if fen >= 0:
        units, rest = divmod(fen, 100)
        return Money(currency_code="CNY", units=units, nanos=rest * 10_000_000)
    units, rest = divmod(-fen, 100)
    return Money(currency_code="CNY", units=-units, nanos=-rest * 10_000_000)


@cache
def date_of(day: int) -> Date:
    """The reporting date of a day since 1970-01-01."""
    value = EPOCH + timedelta(days=day)
    return Date(year=value.year, month=value.month, day=value.day)


@cache
def obtained_on(day: int) -> Timestamp:
    """The end of a day in China Standard Time, when a provider has that day's records."""
    return Timestamp(seconds=int(end_of_day(EPOCH + timedelta(days=day)).timestamp()))


@cache
def period_of(first_month: int, last_month: int) -> DatePeriod:
    """From the first day of one month to the last day of another."""
    return DatePeriod(
        **{
            "from": date_of(day_number(first_day(first_month))),
            "to": date_of(day_number(last_day(last_month))),
        }
    )


def subject_of(uscc: str) -> SubjectRef:
    """The subject with a registration number."""
    return SubjectRef(uscc=uscc)
