"""Reference data: the worked examples in the modules hold, and the tables are whole."""

import doctest
from decimal import Decimal
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.reference import (
    districts,
    firm_size,
    five_class,
    industries,
    tech_sme,
)
from services.datashare.reference.firm_size import Size, size
from services.datashare.reference.five_class import FiveClass, least
from services.datashare.reference.tech_sme import points

YUAN = st.integers(0, 10**12).map(Decimal)


@pytest.mark.parametrize("module", [districts, firm_size, five_class, industries, tech_sme])
def test_the_worked_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("code", "year", "name"),
    [
        ("110000", 2026, "北京市"),
        ("500101", 1997, "万县区"),
        ("500101", 1998, "万州区"),
        ("360426", 1982, None),
        ("11010", 2026, None),
        ("11010a", 2026, None),
    ],
)
def test_a_district_is_that_of_its_year(code: str, year: int, name: str | None) -> None:
    found = districts.district(code, year)
    assert (found and found.name) == name


def test_every_division_belongs_to_one_section() -> None:
    divisions = [number for each in industries.SECTIONS.values() for number in each.divisions]
    assert divisions == list(range(1, 98))


@pytest.mark.parametrize("code", ["", "I6", "U10", "i65", "I65130", "65", "A00"])
def test_what_is_no_industry_has_no_section(code: str) -> None:
    assert industries.section(code) is None


def test_every_division_of_the_economy_has_a_size_rule_or_is_left_out_by_it() -> None:
    left_out = {"53", "59", "66", "67", "68", "69", "70", "83", "84"} | {
        str(number) for number in range(91, 98)
    }
    without = {
        f"{number:02}"
        for each in industries.SECTIONS.values()
        for number in each.divisions
        if firm_size.group(f"{each.letter}{number:02}") is None
    }
    assert without == left_out


@pytest.mark.parametrize(
    ("industry", "figures", "expected"),
    [
        ("C39", {"staff": 1000, "revenue": Decimal(400_000_000)}, Size.LARGE),
        ("C39", {"staff": 999, "revenue": Decimal(400_000_000)}, Size.MEDIUM),
        ("C39", {"staff": 1000, "revenue": Decimal(2_999_999)}, Size.MICRO),
        ("F5179", {"staff": 5, "revenue": Decimal(10_000_000)}, Size.SMALL),
        ("L72", {"staff": 300, "assets": Decimal(1_200_000_000)}, Size.LARGE),
        ("G592", {"staff": 20, "revenue": Decimal(1_000_000)}, Size.SMALL),
        ("M73", {"staff": 10}, Size.SMALL),
        ("M73", {}, None),
        ("P83", {"staff": 10}, None),
    ],
)
def test_size_needs_every_floor(
    industry: str, figures: dict[str, object], expected: Size | None
) -> None:
    assert size(industry, **figures) == expected  # type: ignore[arg-type]  # a table of keywords


@given(staff=st.integers(0, 10_000), revenue=YUAN, more=st.integers(0, 5_000), richer=YUAN)
def test_a_greater_firm_is_never_of_a_lesser_class(
    staff: int, revenue: Decimal, more: int, richer: Decimal
) -> None:
    before = size("C39", staff=staff, revenue=revenue)
    after = size("C39", staff=staff + more, revenue=revenue + richer)
    assert before is not None
    assert after is not None
    assert after >= before


def test_the_better_measure_of_research_counts() -> None:
    firm = {"staff": 100, "scientific_staff": 9, "assets": Decimal(1), "class1": 1, "class2": 0}
    found = points(research=Decimal(15), sales=Decimal(1_000), costs=Decimal(100), **firm)  # type: ignore[arg-type]  # a table of keywords
    assert found == (0, 20, 30, True)
    assert not found.passes, "without points for staff nobody passes"


@given(part=st.integers(0, 500), staff=st.integers(1, 500), research=YUAN, sales=YUAN)
def test_points_are_within_their_ranges(
    part: int, staff: int, research: Decimal, sales: Decimal
) -> None:
    found = points(
        staff=staff,
        scientific_staff=min(part, staff),
        sales=sales,
        costs=sales,
        assets=Decimal(0),
        research=research,
        class1=0,
        class2=part,
    )
    assert found.staff in (0, 4, 8, 12, 16, 20)
    assert found.research in (0, 10, 20, 30, 40, 50)
    assert found.rights in (0, 6, 12, 18, 24)
    assert 0 <= found.total <= 94


@given(days=st.integers(0, 5_000), more=st.integers(0, 5_000))
def test_more_days_past_due_never_make_a_better_class(days: int, more: int) -> None:
    assert least(days + more) >= least(days) >= FiveClass.NORMAL
