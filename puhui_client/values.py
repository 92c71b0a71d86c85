"""Plain Python values to the small messages of the protocol, and back.

Amounts are exact: Decimal, int or a decimal string, never float. Times are aware; a naive one is
an error, because its zone would be a guess.
"""

from calendar import monthrange
from datetime import UTC, date, datetime
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.common.v1.types_pb2 import DatePeriod, SubjectRef

Amount = Decimal | int | str
"""An amount of money: `Decimal("12.50")`, `12` or `"12.50"`."""

_NANO = Decimal(10) ** 9


def to_money(amount: Amount, currency: str = "CNY") -> Money:
    """Return an amount as it travels.

    Args:
        amount: exact, at most nine decimals.
        currency: ISO 4217.

    Raises:
        TypeError: it is a float, which cannot be exact.
        ValueError: it is not a number, or has more than nine decimals.

    >>> to_money("-0.5").nanos
    -500000000
    """
    if isinstance(amount, float):
        raise TypeError("a float is not exact: give the amount as Decimal, int or str")
    if isinstance(amount, int):
        return Money(currency_code=currency, units=amount)
    try:
        nanos = Decimal(amount) * _NANO
        whole = int(nanos)
    except (ArithmeticError, ValueError):
        raise ValueError("not an amount: give a decimal number such as 12.50") from None
    if whole != nanos:
        raise ValueError("more than nine decimals: round the amount first")
    sign = -1 if whole < 0 else 1
    units, rest = divmod(abs(whole), 10**9)
    return Money(currency_code=currency, units=sign * units, nanos=sign * rest)


def from_money(money: Money) -> Decimal:
    """Return the amount, without its currency.

    >>> str(from_money(to_money("12.50")))
    '12.5'
    """
    return Decimal(money.units) + Decimal(money.nanos) / _NANO


def to_date(day: date) -> Date:
    """Return a reporting date as it travels."""
    return Date(year=day.year, month=day.month, day=day.day)


def from_date(message: Date) -> date:
    """Return the date.

    Raises:
        ValueError: it does not exist.
    """
    return date(message.year, message.month, message.day)


def to_timestamp(moment: datetime) -> Timestamp:
    """Return a time as it travels.

    Raises:
        ValueError: it has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time without a zone is a guess: make it aware, e.g. tzinfo=UTC")
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def from_timestamp(message: Timestamp) -> datetime:
    """Return the time, in UTC."""
    return message.ToDatetime(UTC)


def to_period(first: date, last: date) -> DatePeriod:
    """Return a period as it travels; both ends are included."""
    return DatePeriod(**{"from": to_date(first), "to": to_date(last)})


def month(year: int, number: int) -> tuple[date, date]:
    """Return the first and last day of a month.

    >>> month(2024, 2)[1].day
    29
    """
    return date(year, number, 1), date(year, number, monthrange(year, number)[1])


def subject_ref(*, uscc: str = "", subject_id: str = "") -> SubjectRef:
    """Return a reference to a firm by registration number or by id.

    Raises:
        ValueError: not exactly one of them is given.
    """
    if bool(uscc) == bool(subject_id):
        raise ValueError("name the subject by either uscc or subject_id")
    return SubjectRef(uscc=uscc) if uscc else SubjectRef(subject_id=subject_id)
