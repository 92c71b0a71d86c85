import doctest
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import puhui_client
from puhui_client import client, records, values


@given(st.decimals(-(10**12), 10**12, places=9, allow_nan=False))
def test_amounts_come_back(amount: Decimal) -> None:
    money = values.to_money(amount)
    assert values.from_money(money) == amount
    assert money.units * money.nanos >= 0
    assert abs(money.nanos) < 10**9


@pytest.mark.parametrize("amount", ["", "ten", "1e-10", "NaN", "Infinity", "1,000"])
def test_what_is_not_an_amount(amount: str) -> None:
    with pytest.raises(ValueError, match="amount"):
        values.to_money(amount)


def test_a_float_is_not_exact() -> None:
    with pytest.raises(TypeError, match="exact"):
        values.to_money(0.1)  # type: ignore[arg-type]  # a wrong type is what is tested


def test_times_need_a_zone() -> None:
    with pytest.raises(ValueError, match="zone"):
        values.to_timestamp(datetime(2024, 1, 1))  # noqa: DTZ001 - a time without a zone is what is refused
    beijing = datetime(2024, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    assert values.from_timestamp(values.to_timestamp(beijing)) == datetime(2024, 1, 1, tzinfo=UTC)


@given(st.dates())
def test_dates_come_back(day: date) -> None:
    assert values.from_date(values.to_date(day)) == day


@pytest.mark.parametrize("names", [{}, {"uscc": "a", "subject_id": "b"}])
def test_a_subject_has_one_name(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either"):
        values.subject_ref(**names)


@pytest.mark.parametrize("module", [puhui_client, client, records, values])
def test_examples_run(module: object) -> None:
    result = doctest.testmod(module, raise_on_error=True)  # type: ignore[arg-type]  # a wrong type is what is tested
    assert result.attempted
