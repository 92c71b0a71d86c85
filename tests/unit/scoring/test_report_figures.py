"""Figures of a report: folds of months, and what is told where there is nothing to fold."""

import datetime as dt

import pytest

from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.reports.figures import Figures, yyyymm

DAY = dt.date(2026, 3, 15)
FLOWS = frozenset({"vat_invoice"})
OPEN = frozenset({"court_case"})


def figures(
    *series: SubjectSeries,
    coverage: dict[str, Coverage] | None = None,
    period: tuple[dt.date, dt.date] | None = None,
) -> Figures:
    stated = coverage or {each.record_type: Coverage.SUPPLIED for each in series}
    return Figures(FirmSummary(series, stated, period), DAY, FLOWS, OPEN)


def sold(months: tuple[int, ...], values: list[int], provider: str = "p") -> SubjectSeries:
    return SubjectSeries("vat_invoice", provider, months, {"output_net": values})


def test_a_flow_ends_with_the_last_month_that_is_over_an_event_with_the_month_itself() -> None:
    cases = SubjectSeries("court_case", "p", (202602, 202603, 202604), {"defendant": [1, 2, 4]})
    found = figures(sold((202601, 202602, 202603), [1, 2, 4]), cases)
    assert found.fold("vat_invoice", "output_net", "sum_12", "sum").value == 3
    assert found.fold("court_case", "defendant", "sum_24", "sum").value == 3


def test_windows_reach_back_as_many_months_as_they_say() -> None:
    found = figures(sold((202502, 202503, 202602), [1, 2, 4]))
    assert found.fold("vat_invoice", "output_net", "sum_12", "sum").value == 6
    assert found.fold("vat_invoice", "output_net", "sum_24", "sum").value == 7
    assert found.fold("vat_invoice", "output_net", "max_12", "max").value == 4
    assert found.fold("vat_invoice", "output_net", "sum", "sum").value == 7


def test_the_latest_is_that_of_each_provider_joined() -> None:
    found = figures(sold((202601, 202602), [5, 6]), sold((202512,), [30], "q"))
    assert found.fold("vat_invoice", "output_net", "latest", "sum").value == 36
    assert found.fold("vat_invoice", "output_net", "latest", "max").value == 30
    assert found.fold("vat_invoice", "output_net", "providers", "sum").value == 2


def test_growth_is_the_year_on_the_year_before() -> None:
    found = figures(sold((202409, 202509), [100, 120]))
    assert found.fold("vat_invoice", "output_net", "growth", "sum").value == pytest.approx(0.2)
    alone = figures(sold((202509,), [120]))
    assert alone.fold("vat_invoice", "output_net", "growth", "sum").value is None


def test_no_growth_is_told_of_a_year_that_was_not_opened() -> None:
    period = (dt.date(2024, 9, 1), DAY)
    found = figures(sold((202409, 202509), [100, 120]), period=period)
    assert found.fold("vat_invoice", "output_net", "growth", "sum").value is None


def test_a_window_that_was_opened_in_part_says_since_when_it_counts() -> None:
    period = (dt.date(2025, 6, 15), DAY)
    cases = SubjectSeries("court_case", "p", (202602,), {"defendant": [1]})
    found = figures(sold((202507,), [5]), cases, period=period)
    since = found.fold("vat_invoice", "output_net", "sum_12", "sum").since
    assert since is not None
    assert yyyymm(since) == "2025-07"  # a month that is opened in part is not there
    assert found.fold("court_case", "defendant", "sum_24", "sum").since is None


@pytest.mark.parametrize("state", [Coverage.NOT_CONSENTED, Coverage.NOT_SUPPLIED])
def test_what_is_not_there_is_told_by_why_never_as_a_zero(state: Coverage) -> None:
    found = figures(coverage={"vat_invoice": state})
    figure = found.fold("vat_invoice", "output_net", "sum_12", "sum")
    assert (figure.value, figure.missing) == (None, state)


def test_a_register_without_the_firm_says_none() -> None:
    found = figures(coverage={"court_case": Coverage.NONE_EXISTS})
    figure = found.fold("court_case", "defendant", "sum_24", "sum")
    assert (figure.value, figure.missing) == (0, None)


def test_a_measure_that_the_consent_leaves_out_is_not_a_zero() -> None:
    found = figures(sold((202601,), [5]), coverage={"vat_invoice": Coverage.NOT_CONSENTED})
    left_out = found.fold("vat_invoice", "input_net", "sum_12", "sum")
    opened = found.fold("vat_invoice", "output_net", "sum_12", "sum")
    assert (left_out.value, left_out.missing) == (None, Coverage.NOT_CONSENTED)
    assert opened.value == 5


def test_what_was_stated_goes_before_zeros_and_the_worse_grade_before_the_better() -> None:
    graded = figures(sold((202506, 202601), [4, 0]), sold((202507,), [2], "q"))
    assert graded.fold("vat_invoice", "output_net", "stated", "min").value == 2
    assert figures(sold((202601,), [0])).fold("vat_invoice", "output_net", "stated", "max") == (
        figures(sold((), [])).fold("vat_invoice", "output_net", "latest", "max")
    )


def test_an_old_state_says_of_which_month_it_is() -> None:
    at = figures(sold((202512,), [7])).fold("vat_invoice", "output_net", "latest", "sum").at
    assert at is not None
    assert yyyymm(at) == "2025-12"
    assert (
        figures(sold((202602,), [7])).fold("vat_invoice", "output_net", "latest", "sum").at is None
    )
