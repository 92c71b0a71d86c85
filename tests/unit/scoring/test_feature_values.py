"""Worked examples of each group of features."""

import datetime as dt
import math
from collections.abc import Sequence

import pytest

from services.scoring.features.domain import FirmSummary, SubjectSeries
from services.scoring.features.registry import FEATURES
from tests.unit.scoring.firms import series

AS_OF = dt.date(2024, 5, 31)
DAY = (AS_OF - dt.date(1970, 1, 1)).days
BY_NAME = {feature.name: feature for feature in FEATURES}


def value(name: str, *parts: SubjectSeries) -> float:
    return BY_NAME[name].value(FirmSummary(parts, {}), AS_OF)


def sales(**columns: Sequence[int]) -> SubjectSeries:
    return series("vat_invoice", 202405, **{f"output_{name}": x for name, x in columns.items()})


def purchases(**columns: Sequence[int]) -> SubjectSeries:
    return series("vat_invoice", 202405, **{f"input_{name}": x for name, x in columns.items()})


YEAR = sales(net=[1_000_00] * 12, valid=[1] * 12)  # 12,000 yuan


class TestInvoices:
    def test_amounts_are_logs_of_yuan(self) -> None:
        it = sales(net=[1_000_00] * 24)
        assert value("sales_amount_12m", it) == pytest.approx(math.log1p(12_000))
        assert value("sales_amount_36m", it) == pytest.approx(math.log1p(24_000))
        assert value("purchases_amount_12m", it) == 0

    def test_growth_compares_the_last_year_with_the_one_before(self) -> None:
        assert value("sales_growth_12m", sales(net=[200] * 12 + [150] * 12)) == pytest.approx(-0.25)
        assert value("sales_growth_6m", sales(net=[100] * 6 + [150] * 6)) == pytest.approx(0.5)
        assert math.isnan(value("sales_growth_12m", sales(net=[150] * 12)))
        assert value("sales_growth_12m", sales(net=[1] * 12 + [10**9] * 12)) == 10

    def test_variation_is_standard_deviation_to_mean(self) -> None:
        assert value("sales_variation_24m", sales(net=[100] * 24)) == 0
        assert value("sales_variation_24m", sales(net=[0, 200] * 12)) == pytest.approx(1)
        assert math.isnan(value("sales_variation_24m", sales(net=[-5] * 24)))

    def test_activity_counts_months(self) -> None:
        it = sales(valid=[1, 1, 0, 0, 0, 1, 0], positive_net=[1, 1, 0, 0, 0, 1, 0])
        assert value("sales_active_24m", it) == 3
        assert value("sales_longest_gap_24m", it) == 17  # nothing before the seven months
        assert value("sales_months_since_last", it) == 1
        assert value("sales_history", it) == 7
        assert value("sales_months_since_last", purchases(valid=[1])) == 36

    def test_voided_and_red_letter_shares(self) -> None:
        it = sales(valid=[8, 8], void=[2, 2], red=[1, 3], red_net=[5, 15], positive_net=[50, 50])
        assert value("sales_void_share", it) == pytest.approx(4 / 20)
        assert value("sales_red_share", it) == pytest.approx(4 / 16)
        assert value("sales_red_amount", it) == pytest.approx(0.2)
        assert math.isnan(value("purchases_void_share", it))

    def test_counterparties_are_those_of_the_last_month_that_has_them(self) -> None:
        it = sales(
            counterparties=[9, 4, 0],
            top1=[1, 500_000, 0],
            top5=[1, 900_000, 0],
            hhi=[1, 300_000, 0],
            churn=[1, 250_000, 0],
        )
        assert value("sales_counterparties", it) == pytest.approx(math.log1p(4))
        assert value("sales_top1", it) == 0.5
        assert value("sales_top5", it) == 0.9
        assert value("sales_hhi", it) == 0.3
        assert value("sales_churn", it) == 0.25

    def test_counterparties_of_more_than_a_year_ago_are_gone(self) -> None:
        it = sales(counterparties=[9] + [0] * 12, top1=[500_000] + [0] * 12)
        assert value("sales_counterparties", it) == 0
        assert math.isnan(value("sales_top1", it))

    def test_ticket_is_the_mean_of_positive_invoices(self) -> None:
        it = sales(valid=[3], red=[1], positive_net=[400_00])
        assert value("sales_ticket", it) == pytest.approx(math.log1p(200))

    def test_tax_rate_and_margin(self) -> None:
        both = series("vat_invoice", 202405, output_net=[200], output_tax=[26], input_net=[150])
        assert value("sales_tax_rate", both) == pytest.approx(0.13)
        assert value("gross_margin", both) == pytest.approx(0.25)
        assert math.isnan(value("gross_margin", purchases(net=[5])))


class TestTax:
    def test_arrears_to_sales(self) -> None:
        it = series("tax_filing", 202405, arrears=[9, 600_00])
        assert value("tax_arrears_to_sales", YEAR, it) == pytest.approx(0.05)
        assert value("tax_arrears_to_sales", YEAR, series("tax_filing", 202405, arrears=[0])) == 0

    def test_arrears_without_any_sales_are_the_heaviest_burden(self) -> None:
        assert value("tax_arrears_to_sales", series("tax_filing", 202405, arrears=[1])) == 10

    def test_late_filings(self) -> None:
        it = series(
            "tax_filing", 202405, late=[0, 1, 1, 0], filings=[1, 1, 1, 1], days_late=[0, 4, 9, 0]
        )
        assert value("tax_late_share", it) == 0.5
        assert value("tax_days_late", it) == 9

    def test_grade_is_the_last_one_given(self) -> None:
        assert value("tax_grade", series("tax_filing", 202405, grade=[5, 3, 0])) == 3
        assert math.isnan(value("tax_grade", series("tax_filing", 202405, grade=[0])))

    def test_gap_is_the_share_invoiced_and_not_declared(self) -> None:
        it = series("tax_filing", 202405, filings=[1] * 12, vat_declared_sales=[750_00] * 12)
        assert value("tax_gap", YEAR, it) == pytest.approx(0.25)

    def test_gap_ignores_what_is_not_due_yet_and_what_is_before_the_first_filing(self) -> None:
        it = series("tax_filing", 202404, filings=[1] * 3, vat_declared_sales=[1_000_00] * 3)
        assert value("tax_gap", YEAR, it) == 0

    def test_gap_of_quarterly_filings(self) -> None:
        declared = [0, 0, 3_000_00] * 5
        it = series("tax_filing", 202403, filings=[0, 0, 1] * 5, vat_declared_sales=declared)
        assert value("tax_gap", sales(net=[1_000_00] * 20), it) == 0


class TestPeople:
    def test_headcount_is_that_of_the_last_month_with_staff(self) -> None:
        it = series("social_insurance", 202405, headcount=[20] * 12 + [10, 0])
        assert value("headcount", it) == pytest.approx(math.log1p(10))
        assert value("headcount_growth", it) == pytest.approx(-0.5)

    def test_nobody_for_a_year_is_nobody(self) -> None:
        it = series("social_insurance", 202405, headcount=[20] + [0] * 12)
        assert value("headcount", it) == 0
        assert value("headcount_growth", it) == -1

    def test_missed_contributions_of_two_years(self) -> None:
        it = series("social_insurance", 202405, missed=[1] * 30)
        assert value("social_missed_24m", it) == 24


class TestTechnology:
    def test_rights_count_whenever_they_were_granted(self) -> None:
        it = SubjectSeries(
            "ip_right",
            "p",
            (201001, 202405),
            {"class1": [2, 1], "class2": [0, 4], "pledged": [1, 0]},
        )
        assert value("ip_class1", it) == 3
        assert value("ip_class2", it) == 4
        assert value("ip_pledged", it) == 1

    def test_a_title_counts_while_it_is_valid(self) -> None:
        it = series(
            "tech_status", 202201, high_tech_valid_to=[DAY], tech_sme_valid_to=[DAY - 1],
            specialised_valid_to=[DAY + 300],
        )  # fmt: skip  # a table, line by line
        assert value("tech_titles", it) == 2

    def test_research(self) -> None:
        status = series("tech_status", 202312, rd_staff=[4], rd_spend=[1_200_00])
        staff = series("social_insurance", 202405, headcount=[10])
        assert value("rd_staff_share", status, staff) == pytest.approx(0.4)
        assert value("rd_intensity", status, YEAR) == pytest.approx(0.1)

    def test_grants_of_two_years(self) -> None:
        assert value("grants_24m", series("grant", 202405, grants=[1] * 25)) == 24


def test_court_cases_weigh_by_annual_sales() -> None:
    cases = series("court_case", 202405, defendant=[1, 2], defendant_amount=[0, 6_000_00])
    assert value("defendant_24m", cases) == 3
    assert value("defendant_amount_to_sales", cases, YEAR) == pytest.approx(0.5)


def test_credit() -> None:
    old = [99] + [0] * 24
    a = series("credit_facility", 202405, "a", balance=[80], limit=[100], five_class=[2])
    b = series("credit_facility", 202405, "b", balance=[0], limit=[100], days_past_due=[45])
    assert value("credit_utilisation", a, b) == pytest.approx(0.4)
    assert value("credit_lenders", a, b) == 1
    assert value("credit_days_past_due", a, b) == 45
    assert value("credit_five_class", a, b) == 2
    forgotten = series("credit_facility", 202405, days_past_due=old)
    assert value("credit_days_past_due", forgotten) == 0


def test_basics() -> None:
    it = series("registration", 201001, founded=[DAY - 3653], capital=[100_00])
    assert value("firm_age", it) == pytest.approx(10, abs=0.01)
    assert value("capital", it) == pytest.approx(math.log1p(100))
    assert math.isnan(value("firm_age", YEAR))


def test_housing_fund_and_utilities() -> None:
    assert value("housing_missed_24m", series("housing_fund", 202405, missed=[9] + [1] * 24)) == 24
    bills = series(
        "utility_bill", 202405, bills=[1] * 24, overdue_bills=[0] * 18 + [1] * 6,
        days_overdue=[0] * 23 + [12], electricity=[100] * 18 + [60] * 6,
    )  # fmt: skip  # a table, line by line
    assert value("utility_days_overdue_24m", bills) == 12
    assert value("utility_overdue_share_24m", bills) == pytest.approx(0.25)
    assert value("electricity_drop_6m", bills) == pytest.approx(0.4)
    rising = series("utility_bill", 202405, electricity=[100] * 18 + [160] * 6)
    assert value("electricity_drop_6m", rising) == 0
    assert math.isnan(value("electricity_drop_6m", series("utility_bill", 202405, gas=[1])))


def test_technology_contracts_and_equity_stand_beside_invoices() -> None:
    sold = series("technology_contract", 202405, sold=[1, 2], sold_amount=[0, 6_000_00])
    assert value("technology_contracts_24m", sold) == 3
    assert value("technology_contracts_to_sales", sold, YEAR) == pytest.approx(0.5)
    assert value("technology_contracts_to_sales", sold) == 10  # before there are any sales
    rounds = series("equity_financing", 202405, investments=[1, 1], amount=[100_00, 200_00])
    assert value("equity_rounds_36m", rounds) == 2
    assert value("equity_raised_36m", rounds) == pytest.approx(math.log1p(300))


def test_sanctions_that_stand_count_however_old() -> None:
    cases = SubjectSeries(
        "enforcement",
        "p",
        (201501, 202405),
        {"open": [1, 0], "outstanding": [3_000_00, 0], "dishonest": [1, 0]},
    )
    assert value("enforcement_open", cases) == 1
    assert value("enforcement_to_sales", cases, YEAR) == pytest.approx(0.25)
    assert value("dishonest_judgments", cases) == 1
    assert value("serious_penalties", series("penalty", 202201, serious_unrepaired=[2])) == 2
    assert value("abnormal_open", series("abnormal_operation", 202201, open=[1])) == 1


def test_enquiries_of_the_last_three_whole_months() -> None:
    asked = series("enquiry", 202405, enquiries=[9] * 4, credit_applications=[8, 1, 0, 2])
    assert value("credit_applications_3m", asked) == 3


def test_guarantees_that_run_to_the_equity_last_reported() -> None:
    report = series("annual_report", 202312, reports=[1], equity=[1_000], assets=[4_000])
    given = series(
        "guarantee", 202405, given_amount=[700, 500], given_until=[DAY - 1, DAY], called=[1, 0]
    )
    assert value("guarantees_to_equity", given, report) == pytest.approx(0.5)
    assert value("guarantees_called_36m", given) == 1
    assert math.isnan(value("guarantees_to_equity", given))
    under_water = series("annual_report", 202312, reports=[1], equity=[-5], assets=[4_000])
    assert value("guarantees_to_equity", given, under_water) == 10
    assert value("guarantees_to_equity", report) == 0


def test_finances() -> None:
    report = series("annual_report", 202312, reports=[1], equity=[-1_000], assets=[4_000])
    assert value("equity_ratio", report) == pytest.approx(-0.25)
    assert math.isnan(value("equity_ratio", series("annual_report", 202312, reports=[0])))
    assert value("overdrawn_months_12m", series("bank_flow", 202405, overdrawn=[1, 0, 2])) == 2
    assert value("receivables_days_late_24m", series("receivable", 202405, days_late=[3, 40])) == 40


def test_changes_of_officers_within_a_year() -> None:
    assert value("officer_changes_12m", series("officer_change", 202405, changes=[1] * 13)) == 12
