"""Worked examples of GB 32100-2015 and GB 11714."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.subjects.uscc import (
    ALPHABET,
    UsccError,
    check,
    make,
    organisation_check_digit,
)


@pytest.mark.parametrize(
    ("body", "digit"),
    [
        # D2143569: 13*3 + 2*7 + 1*9 + 4*10 + 3*5 + 5*8 + 6*4 + 9*2 = 199, 199 mod 11 = 1, so X.
        ("D2143569", "X"),
        # 60003734: 18 + 0 + 0 + 0 + 15 + 56 + 12 + 8 = 109, 109 mod 11 = 10, so 1.
        ("60003734", "1"),
        # 00000000: 0 mod 11 = 0, and 11 is written 0.
        ("00000000", "0"),
    ],
)
def test_organisation_check_digit(body: str, digit: str) -> None:
    assert organisation_check_digit(body) == digit


@pytest.mark.parametrize(
    "code",
    [
        "91110000600037341L",
        "91110108551385082Q",
        "911101085923662400",
        "914403001922038216",
        "91330100799655058B",
        "12100000400000624D",
    ],
)
def test_published_codes_pass(code: str) -> None:
    assert check(code) == code


def test_letters_in_the_first_two_places_pass() -> None:
    code = make("N2", "110108", "MA01ABCD")
    assert code.startswith("N2110108MA01ABCD")
    assert check(code) == code


def test_one_spelling() -> None:
    assert check(" 9111 0000-600037341l ") == "91110000600037341L"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("", "18 characters"),
        ("9111000060003734", "18 characters"),
        ("91110000600037341L0", "18 characters"),
        ("9111O000600037341L", "places 3 to 8"),
        ("91110000I00037341L", "places 3 to 8"),
        ("9111000060003734中L", "places 3 to 8"),
        ("91110000600037342L", "place 17"),
        ("91110000600037341M", "place 18"),
        ("91110001600037341L", "place 18"),
    ],
)
def test_malformed(code: str, says: str) -> None:
    with pytest.raises(UsccError, match=says) as caught:
        check(code)
    assert not code or code not in str(caught.value)


@pytest.mark.parametrize(
    ("department", "district", "organisation"),
    [("9", "110108", "MA01ABCD"), ("91", "11010A", "MA01ABCD"), ("91", "110108", "MA01ABC")],
)
def test_parts_that_make_no_code(department: str, district: str, organisation: str) -> None:
    with pytest.raises(UsccError):
        make(department, district, organisation)


_characters = st.sampled_from(ALPHABET)


@given(
    organisation=st.text(_characters, min_size=8, max_size=8),
    district=st.from_regex(r"\A[0-9]{6}\Z"),
    place=st.integers(0, 17),
    other=_characters,
)
def test_made_codes_pass_and_no_single_slip_does(
    organisation: str, district: str, place: int, other: str
) -> None:
    code = make("91", district, organisation)
    assert check(code) == code
    slipped = code[:place] + other + code[place + 1 :]
    if slipped != code:
        with pytest.raises(UsccError):
            check(slipped)
