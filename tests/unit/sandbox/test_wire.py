from datetime import UTC, date, datetime

import pytest

from services.sandbox.months import (
    day_number,
    end_of_day,
    first_day,
    last_complete_month,
    last_day,
    month_of,
    yyyymm,
)
from services.sandbox.wire import cny, date_of, obtained_on, period_of


@pytest.mark.parametrize(
    ("fen", "units", "nanos"),
    [
        (0, 0, 0),
        (1, 0, 10_000_000),
        (-1, 0, -10_000_000),
        (12_345, 123, 450_000_000),
        (-12_345, -123, -450_000_000),
        (900_719_925_474_099_300, 9_007_199_254_740_993, 0),
    ],
)
def test_an_amount_is_exact_and_of_one_sign(fen: int, units: int, nanos: int) -> None:
    amount = cny(fen)
    assert (amount.currency_code, amount.units, amount.nanos) == ("CNY", units, nanos)


def test_a_period_holds_whole_months_and_leap_days() -> None:
    february = month_of(date(2024, 2, 11))
    period = period_of(february - 1, february)
    assert (getattr(period, "from").month, getattr(period, "from").day) == (1, 1)
    assert (period.to.month, period.to.day) == (2, 29)


def test_a_day_ends_in_china_standard_time() -> None:
    day = date(2020, 1, 1)
    assert end_of_day(day) == datetime(2020, 1, 1, 15, 59, 59, tzinfo=UTC)
    assert obtained_on(day_number(day)).seconds == int(end_of_day(day).timestamp())
    assert date_of(day_number(day)).year == 2020


def test_months_count_across_years() -> None:
    january = month_of(date(2026, 1, 31))
    assert last_complete_month(date(2026, 1, 31)) == january - 1
    assert last_day(january - 1) == date(2025, 12, 31)
    assert first_day(january) == date(2026, 1, 1)
    assert yyyymm(january - 1) == 202512
