"""What of a summary features may see, and how providers' series join."""

import datetime as dt

import pytest

from services.scoring.features.domain import Coverage, SubjectSeries
from services.scoring.features.firm import WINDOW, Firm
from tests.unit.scoring.firms import firm, series

END_OF_MAY = dt.date(2024, 5, 31)


def test_a_window_ends_in_the_month_of_the_date_when_that_month_is_over() -> None:
    it = firm(series("vat_invoice", 202405, output_valid=[1, 2, 3]))
    assert Firm(it, END_OF_MAY).source("vat_invoice").window("output_valid")[-3:] == [1, 2, 3]


def test_a_month_half_gone_is_left_out_of_flows_but_not_of_events() -> None:
    it = firm(
        series("vat_invoice", 202405, output_valid=[1, 2, 3]),
        series("court_case", 202405, defendant=[1, 2, 3]),
    )
    seen = Firm(it, dt.date(2024, 5, 30))
    assert seen.source("vat_invoice").window("output_valid")[-3:] == [0, 1, 2]
    assert seen.source("court_case").window("defendant")[-3:] == [1, 2, 3]


@pytest.mark.parametrize("record_type", ["vat_invoice", "court_case", "ip_right"])
def test_what_is_after_the_date_is_not_seen(record_type: str) -> None:
    source = Firm(firm(series(record_type, 202407, x=[1, 10, 100, 1000])), END_OF_MAY).source(
        record_type
    )
    assert source.window("x")[-2:] == [1, 10]
    assert source.ever("x") == 11
    assert source.largest("x") == 10
    assert source.latest("x") == 10


def test_months_without_a_record_are_zero_and_old_months_count_only_for_ever() -> None:
    it = SubjectSeries("ip_right", "p", (201001, 202401, 202405), {"class1": [5, 7, 9]})
    source = Firm(firm(it), END_OF_MAY).source("ip_right")
    window = source.window("class1")
    assert len(window) == WINDOW
    assert window[-5:] == [7, 0, 0, 0, 9]
    assert sum(window) == 16
    assert source.ever("class1") == 21


def test_series_that_end_early_or_start_late_are_padded() -> None:
    it = firm(series("vat_invoice", 202403, output_valid=[4, 5]))
    window = Firm(it, END_OF_MAY).source("vat_invoice").window("output_valid")
    assert window == [0] * 32 + [4, 5, 0, 0]


def test_a_series_longer_than_the_window_is_cut_at_its_start() -> None:
    it = firm(series("vat_invoice", 202406, output_valid=list(range(60))))
    window = Firm(it, END_OF_MAY).source("vat_invoice").window("output_valid")
    assert window == list(range(23, 59))


def test_providers_add_up_or_join_as_the_measure_says() -> None:
    it = firm(
        series("credit_facility", 202405, "a", balance=[10, 0], days_past_due=[0, 9]),
        series("credit_facility", 202405, "b", balance=[5, 5], days_past_due=[30, 2]),
        series("tax_filing", 202405, "a", grade=[5, 5, 0]),
        series("tax_filing", 202405, "b", grade=[0, 2, 0]),
    )
    seen = Firm(it, END_OF_MAY)
    credit = seen.source("credit_facility")
    assert credit.window("balance")[-2:] == [15, 5]
    assert credit.window("days_past_due")[-2:] == [30, 9]
    assert credit.latest("balance") == 5
    assert credit.providers_with("balance") == 1
    # A good grade does not hide a bad one; no grade is not the worst one.
    assert seen.source("tax_filing").window("grade")[-3:] == [5, 2, 0]


def test_a_type_that_is_not_supplied_reads_as_empty_even_if_a_series_came() -> None:
    it = firm(
        series("court_case", 202405, defendant=[3]),
        coverage={"court_case": Coverage.NOT_CONSENTED},
    )
    assert Firm(it, END_OF_MAY).source("court_case").ever("defendant") == 0


def test_an_absent_measure_reads_as_zeros() -> None:
    source = Firm(firm(series("court_case", 202405, defendant=[3])), END_OF_MAY).source(
        "court_case"
    )
    assert source.window("plaintiff") == [0] * WINDOW
    assert source.latest("plaintiff") == source.ever("plaintiff") == 0
