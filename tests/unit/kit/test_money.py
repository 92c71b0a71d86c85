from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.money import MAX_MINOR, MoneyError, UnknownCurrencyError, from_minor, to_minor


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("1.5", "CNY", 150),
        ("1.500", "CNY", 150),
        ("-0.01", "USD", -1),
        ("1E+3", "JPY", 1000),
        ("1.234", "KWD", 1234),
        ("0.0000", "JPY", 0),
        ("0E-999999", "CNY", 0),
        ("92233720368547758.07", "CNY", MAX_MINOR),
    ],
)
def test_amounts_become_minor_units(amount: str, currency: str, minor: int) -> None:
    assert to_minor(Decimal(amount), currency) == minor


@pytest.mark.parametrize(
    ("amount", "currency", "problem"),
    [
        ("1.505", "CNY", "finer"),
        ("0.5", "JPY", "finer"),
        ("1E-999999", "CNY", "finer"),
        ("1.00000000000000000000000000000000001", "CNY", "finer"),
        ("92233720368547758.08", "CNY", "too large"),
        ("1E+999999", "CNY", "too large"),
        ("NaN", "CNY", "finite"),
        ("Infinity", "CNY", "finite"),
    ],
)
def test_amounts_that_cannot_be_kept_are_refused(amount: str, currency: str, problem: str) -> None:
    with pytest.raises(MoneyError, match=problem):
        to_minor(Decimal(amount), currency)


@pytest.mark.parametrize("currency", ["", "cny", "RMB", "XXX"])
def test_unknown_currencies_are_refused(currency: str) -> None:
    with pytest.raises(UnknownCurrencyError):
        to_minor(Decimal(1), currency)


@given(st.integers(-MAX_MINOR, MAX_MINOR), st.sampled_from(["CNY", "JPY", "KWD", "CLF"]))
def test_minor_units_come_back(minor: int, currency: str) -> None:
    assert to_minor(from_minor(minor, currency), currency) == minor


def test_too_many_minor_units_are_refused() -> None:
    with pytest.raises(MoneyError, match="too large"):
        from_minor(MAX_MINOR + 1, "CNY")
