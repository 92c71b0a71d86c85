"""Cohorts: what was known then, what became of a firm, and what is only counted."""

import dataclasses
import datetime as dt
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.features.domain import Coverage, FirmSummary
from services.scoring.features.registry import NAMES
from services.scoring.training.cohorts import (
    Observation,
    Outcome,
    OutcomeRule,
    coverage,
    segments,
    table,
    vintages,
)
from services.scoring.training.domain import TrainingError
from tests.unit.scoring.firms import firm, risky_firm, series

COHORT = dt.date(2023, 5, 31)
RULE = OutcomeRule()


def loans(**columns: list[int]) -> FirmSummary:
    """A firm whose last month is twelve months after the cohort's."""
    return firm(series("credit_facility", 202405, **columns))


@pytest.mark.parametrize(
    ("days", "outcome"),
    [
        ([0] * 12, Outcome.GOOD),
        ([29] * 12, Outcome.GOOD),
        ([0] * 11 + [30], Outcome.INDETERMINATE),
        ([0] * 11 + [89], Outcome.INDETERMINATE),
        ([90] + [0] * 11, Outcome.BAD),
        ([0] * 11 + [90], Outcome.BAD),
        ([95] + [0] * 12, Outcome.ALREADY_BAD),  # the first is the cohort's own month
        ([95] + [0] * 13, Outcome.GOOD),  # cured before it
    ],
)
def test_the_outcome_follows_the_months_after_the_cohort(days: list[int], outcome: Outcome) -> None:
    assert RULE.outcome(loans(days_past_due=days), COHORT) is outcome


def test_a_loan_that_is_classed_substandard_is_in_default() -> None:
    assert RULE.outcome(loans(five_class=[1] * 6 + [3] * 6), COHORT) is Outcome.BAD
    assert RULE.outcome(loans(five_class=[2] * 12), COHORT) is Outcome.GOOD


def test_what_comes_after_the_window_is_no_outcome() -> None:
    later = firm(series("credit_facility", 202406, days_past_due=[0] * 12 + [99]))
    assert RULE.outcome(later, COHORT) is Outcome.GOOD


@pytest.mark.parametrize(
    ("first", "last", "outcome"),
    [
        (dt.date(2020, 1, 1), dt.date(2024, 5, 31), Outcome.GOOD),
        (dt.date(2023, 6, 1), dt.date(2024, 5, 31), Outcome.GOOD),
        (dt.date(2020, 1, 1), dt.date(2024, 5, 30), Outcome.NOT_OPENED),
        (dt.date(2023, 6, 2), dt.date(2024, 5, 31), Outcome.NOT_OPENED),
    ],
)
def test_a_consent_that_opens_a_part_of_the_window_tells_nothing(
    first: dt.date, last: dt.date, outcome: Outcome
) -> None:
    seen = dataclasses.replace(loans(days_past_due=[0] * 12), period=(first, last))
    assert RULE.outcome(seen, COHORT) is outcome


def test_a_firm_of_which_no_lender_says_anything_has_no_outcome() -> None:
    assert RULE.outcome(firm(), COHORT) is Outcome.NO_LOAN
    before = firm(series("credit_facility", 202305, days_past_due=[0] * 12))
    assert RULE.outcome(before, COHORT) is Outcome.NO_LOAN


def test_the_worst_of_several_lenders_counts() -> None:
    both = firm(
        series("credit_facility", 202405, "a", days_past_due=[0] * 12),
        series("credit_facility", 202405, "b", days_past_due=[0] * 11 + [91]),
    )
    assert RULE.outcome(both, COHORT) is Outcome.BAD


@given(st.dates(dt.date(2019, 1, 1), dt.date(2026, 1, 1)), st.integers(1, 60))
def test_a_window_is_ripe_on_the_day_after_its_last_month(cohort: dt.date, months: int) -> None:
    rule = OutcomeRule(months=months)
    ripe = rule.ripe_on(cohort)
    last = ripe - dt.timedelta(days=1)
    known = series("credit_facility", last.year * 100 + last.month, days_past_due=[91])
    beyond = series("credit_facility", ripe.year * 100 + ripe.month, days_past_due=[91])
    assert ripe.day == 1
    assert rule.outcome(firm(known), cohort) is Outcome.BAD
    assert rule.outcome(firm(beyond), cohort) is Outcome.NO_LOAN


@pytest.mark.parametrize("wrong", [{"months": 0}, {"months": 61}, {"grey_days": 91}])
def test_a_rule_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(TrainingError):
        OutcomeRule(**wrong)


def observed(number: int, outcome: Outcome, cohort: dt.date = COHORT) -> Observation:
    summary, _ = risky_firm(random.Random(number), 202305)
    return Observation(f"sub_{number}", cohort, summary, outcome)


OTHER = dt.date(2022, 5, 31)
SEEN = (
    observed(1, Outcome.GOOD),
    observed(1, Outcome.BAD, OTHER),
    observed(2, Outcome.BAD),
    observed(3, Outcome.INDETERMINATE),
    dataclasses.replace(observed(4, Outcome.GOOD), inputs=firm()),
    Observation("sub_5", COHORT, None, None),
)


def test_a_table_has_the_good_and_the_bad_by_firm_and_day() -> None:
    made = table(SEEN, RULE)
    assert made.labels.tolist() == [0, 1, 1]
    assert made.matrix.shape == (3, len(NAMES))
    assert made.groups is not None
    assert made.groups.tolist() == [0, 0, 1]
    assert made.times is not None
    assert np.diff(made.times).tolist() == [-365, 365]
    assert made.as_of == "2022-05-31 to 2023-05-31"
    assert "90 days past due" in made.source
    assert {len(words) for words in made.segments.values()} == {3}


def test_nobody_is_guessed() -> None:
    with pytest.raises(TrainingError, match="earlier cohorts"):
        table(SEEN[3:], RULE)


def test_vintages_count_everybody_once() -> None:
    old, new = vintages(SEEN)
    assert (old.cohort, old.rate) == (OTHER, 1.0)
    assert new.rate == 0.5
    assert new.outcomes == {Outcome.GOOD: 1, Outcome.BAD: 1, Outcome.INDETERMINATE: 1}
    assert (new.refused, new.insufficient) == (1, 1)


def test_segments_come_from_the_register_and_the_insured_staff() -> None:
    known = dataclasses.replace(
        series("registration", 202305, founded=[1]),
        attributes={"district": "110108", "industry": "I65"},
    )
    staff = series("social_insurance", 202305, headcount=[400, 12])
    assert segments([firm(known, staff), firm()]) == {
        "region": ["11", "unknown"],
        "industry": ["I", "unknown"],
        "size": ["small", "unknown"],
    }


def test_coverage_names_the_optional_sources_that_were_there() -> None:
    assert coverage(firm()) == "required sources alone"
    both = firm(coverage=dict.fromkeys(("tax_filing", "bank_flow"), Coverage.SUPPLIED))
    assert coverage(both) == "bank_flow+tax_filing"
