from typing import Any

import numpy as np
import pytest

from services.scoring.training.domain import Finding
from services.scoring.training.inspection import (
    Candidate,
    Outcomes,
    duplicate_rows,
    firm_like,
    inspect,
    weighted_auc,
)

ROWS = 2000
CHANCE = np.random.default_rng(3)
LABELS = (CHANCE.random(ROWS) < 0.2).astype(np.int64)
TIMES = np.sort(CHANCE.integers(10_000, 14_000, ROWS)).astype(np.float64)
NOISE = CHANCE.normal(0, 1, ROWS)


def found(
    values: Any, name: str = "x", *, names: bool = False, days: Any = None,
    times: bool = False, named: tuple[str, ...] = (),
) -> list[Finding]:  # fmt: skip  # a table, line by line
    outcomes = Outcomes(LABELS, np.ones(ROWS), TIMES if times else None, "applied")
    return list(inspect([Candidate(name, values, names=names, days=days)], outcomes, named))


def only(findings: list[Finding]) -> tuple[str, bool]:
    assert len(findings) == 1, findings
    return findings[0].problem, findings[0].refused


def test_honest_columns_pass() -> None:
    assert found(NOISE + 0.8 * LABELS) == []
    assert found(np.where(NOISE > 1, np.nan, NOISE)) == []
    assert found(np.round(np.abs(NOISE) * 2), names=True) == []
    assert found(np.floor(np.exp(NOISE) * 1000), "assets") == []


def test_columns_without_anything_to_learn_from() -> None:
    assert only(found(np.full(ROWS, np.nan))) == ("constant", True)
    assert only(found(np.full(ROWS, 3.0))) == ("constant", True)
    assert only(found(np.arange(ROWS) * 10.0, "number")) == ("id_like", True)
    assert only(found(CHANCE.permutation(ROWS) * 7919.0, "LoanNr_ChkDgt")) == ("id_like", True)
    assert only(found(np.arange(ROWS) * 1.0, "name", names=True)) == ("id_like", True)


def test_whole_amounts_that_never_repeat_are_no_ids() -> None:
    assert found(CHANCE.permutation(10**6)[:ROWS] * 1.0, "total assets") == []


def test_a_copy_of_the_label_is_refused() -> None:
    assert only(found(LABELS * 2.0 + 5, "state")) == ("leak_label", True)
    assert only(found(1.0 - LABELS, "state", names=True)) == ("leak_label", True)


def test_a_column_that_ranks_nearly_perfectly_is_refused_and_a_strong_one_told() -> None:
    assert only(found(NOISE + 3.0 * LABELS)) == ("leak_auc", True)
    assert only(found(NOISE + 1.8 * LABELS)) == ("predictive", False)
    assert only(found(-NOISE - 3.0 * LABELS)) == ("leak_auc", True)


def test_a_value_that_is_there_only_for_defaults_is_refused() -> None:
    assert only(found(np.where(LABELS == 1, NOISE, np.nan))) == ("leak_missing", True)
    # A third of the defaults have one, nobody else: the AUC alone would not tell.
    some = (LABELS == 1) & (NOISE > 0.4)
    assert only(found(np.where(some, NOISE, np.nan))) == ("leak_missing", True)
    assert only(found(np.where(some, np.exp(NOISE), 0.0))) == ("leak_value", True)


def test_that_those_who_failed_lack_a_value_is_told_and_no_leak() -> None:
    some = (LABELS == 1) & (NOISE > 1)
    values = np.where(some, np.nan, CHANCE.normal(0, 1, ROWS))
    assert only(found(values)) == ("missing", False)


def test_a_category_that_only_defaults_have_is_refused() -> None:
    some = (LABELS == 1) & (NOISE > 0)
    assert only(found(np.where(some, 3.0, np.floor(np.abs(NOISE)) % 3), names=True)) == (
        "leak_value",
        True,
    )


def test_missing_values_that_tell_something_are_told() -> None:
    there = ((LABELS == 1) & (NOISE > -1)) | (NOISE > 0.3)
    assert only(found(np.where(there, CHANCE.normal(0, 1, ROWS), np.nan))) == ("missing", False)


def test_a_name_of_what_comes_after_weighs_in() -> None:
    values = NOISE + 1.2 * LABELS
    assert found(values, "total_assets") == []
    for name in ("total_pymnt", "ChgOffPrin", "recovered", "days_at_default", "核销金额"):
        assert only(found(values, name)) == ("leak_after", True)
    assert only(found(NOISE + 0.6 * LABELS, "collections")) == ("after", False)


def test_dates() -> None:
    before, after = TIMES - 400 - np.abs(NOISE) * 900, TIMES + 30 + np.abs(NOISE)
    assert found(TIMES - before, "founded", days=before, times=True) == []
    assert only(found(TIMES - after, "paid out", days=after, times=True)) == ("leak_date", True)
    assert only(found(before, "founded", days=before)) == ("date", True)


def test_a_calendar_is_refused_where_time_is_known() -> None:
    year = np.floor(TIMES / 365)
    assert only(found(year, "fiscal year", times=True)) == ("calendar", True)
    assert found(year, "fiscal year") == []


def test_a_column_that_moved_with_time_is_told() -> None:
    late = np.quantile(TIMES, 0.7) < TIMES
    assert only(found(NOISE + 1.5 * late, times=True)) == ("moved", False)
    kinds = np.where(late, 2.0, np.floor(np.abs(NOISE)) % 3)
    assert only(found(kinds, names=True, times=True)) == ("moved", False)
    assert found(np.where(np.abs(NOISE) > 1, np.nan, NOISE), times=True) == []


def test_numbers_of_customers_are_no_inputs() -> None:
    values = CHANCE.integers(0, 3 * ROWS, ROWS).astype(np.float64)
    assert only(found(values, "CustId")) == ("id_like", True)
    assert found(values, "assets") == []


def test_names_of_firms_are_for_groups() -> None:
    firms = CHANCE.integers(0, 400, ROWS).astype(np.float64)
    assert only(found(firms, "company_name", names=True)) == ("firm", True)
    assert not firm_like(Candidate("company_kind", firms % 4, names=True))
    assert not firm_like(Candidate("company sales", NOISE))


def test_of_twins_the_named_one_stays() -> None:
    twins = [Candidate("a", NOISE), Candidate("b", NOISE.copy()), Candidate("c", NOISE + 1)]
    outcomes = Outcomes(LABELS, np.ones(ROWS))
    assert [f.column for f in inspect(twins, outcomes)] == ["b"]
    assert [f.column for f in inspect(twins, outcomes, ("b",))] == ["a"]


def test_few_defaults_prove_little() -> None:
    labels = np.zeros(40, dtype=np.int64)
    labels[:6] = 1
    values = np.r_[np.linspace(1, 2, 6), np.linspace(0, 1.3, 34)]
    findings = inspect([Candidate("x", values)], Outcomes(labels, np.ones(40)))
    assert [f.refused for f in findings] == [False]


def test_auc_goes_by_weights_and_ties_count_half() -> None:
    labels = np.array([1, 0, 1, 0])
    values = np.array([2.0, 1.0, 1.0, 3.0])
    assert weighted_auc(labels, values, np.ones(4)) == pytest.approx((1 + 0.5) / 4)
    weights = np.array([2.0, 1, 1, 1])
    assert weighted_auc(labels, values, weights) == pytest.approx((2 * 1 + 0.5) / 6)


def test_rows_that_occur_twice() -> None:
    columns = [np.array([1.0, np.nan, 1.0, np.nan]), np.array([0.0, 2.0, -0.0, 3.0])]
    assert duplicate_rows(columns).tolist() == [False, False, True, False]
