"""Features of all other records: tax, people, technology, law, credit, basics; what is not there.

Ratios stand on the year's sales by invoices, which every score has.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.scoring.features.arithmetic import (
    NAN,
    active,
    burden,
    growth,
    log_cny,
    log_count,
    months_since_first,
    months_since_last,
    share,
)
from services.scoring.features.domain import Coverage
from services.scoring.features.firm import OPTIONAL, WINDOW, Firm

DAYS_PER_YEAR: Final = 365.25


def _sum_24m(record_type: str, measure: str) -> Callable[[Firm], float]:
    return lambda firm: sum(firm.source(record_type).window(measure)[-24:])


def _max_24m(record_type: str, measure: str) -> Callable[[Firm], float]:
    return lambda firm: max(firm.source(record_type).window(measure)[-24:])


def _withheld(record_type: str) -> Callable[[Firm], float]:
    return lambda firm: firm.summary.coverage_of(record_type) is Coverage.NOT_CONSENTED


def _unsupplied(record_type: str) -> Callable[[Firm], float]:
    return lambda firm: firm.summary.coverage_of(record_type) is Coverage.NOT_SUPPLIED


def _last_stated(window: Sequence[int]) -> int:
    return next((value for value in reversed(window) if value > 0), 0)


def _arrears_to_sales(firm: Firm) -> float:
    return burden(firm.source("tax_filing").standing("arrears"), firm.revenue)


def _late_share(firm: Firm) -> float:
    filings = firm.source("tax_filing")
    return share(sum(filings.window("late")[-24:]), sum(filings.window("filings")[-24:]))


def _tax_grade(firm: Firm) -> float:
    return _last_stated(firm.source("tax_filing").window("grade")) or NAN


def _tax_gap(firm: Firm) -> float:
    """Over the year up to the last filing, or as far back as filings go; 0 without sales."""
    filed = firm.source("tax_filing").window("filings")
    end = WINDOW - months_since_last(filed)
    if end == 0:
        return NAN
    start = max(end - 12, WINDOW - months_since_first(filed))
    invoiced = sum(firm.sales.net[start:end])
    declared = sum(firm.source("tax_filing").window("vat_declared_sales")[start:end])
    return share(invoiced - declared, invoiced) if invoiced > 0 else 0.0


def _headcounts(firm: Firm) -> tuple[int, int]:
    """Of the last month of this year with insured staff, and of the same month a year before."""
    window = firm.source("social_insurance").window("headcount")
    age = months_since_last(window[-12:])
    at = WINDOW - 1 - (age if age < 12 else 0)  # nobody for a year: nobody now
    return window[at], window[at - 12]


def _headcount_growth(firm: Firm) -> float:
    return growth(*_headcounts(firm))


def _titles(firm: Firm) -> float:
    status = firm.source("tech_status")
    titles = ("high_tech_valid_to", "tech_sme_valid_to", "specialised_valid_to")
    return sum(1 for title in titles if status.largest(title) >= firm.day)


def _rd_staff_share(firm: Firm) -> float:
    return share(_last_stated(firm.source("tech_status").window("rd_staff")), _headcounts(firm)[0])


def _rd_intensity(firm: Firm) -> float:
    spent = _last_stated(firm.source("tech_status").window("rd_spend"))
    return burden(spent, firm.revenue)


def _defendant_amount_to_sales(firm: Firm) -> float:
    return burden(sum(firm.source("court_case").window("defendant_amount")[-24:]), firm.revenue)


def _utilisation(firm: Firm) -> float:
    credit = firm.source("credit_facility")
    return burden(credit.standing("balance"), credit.standing("limit"))


def _overdue_bills(firm: Firm) -> float:
    bills = firm.source("utility_bill")
    return share(sum(bills.window("overdue_bills")[-24:]), sum(bills.window("bills")[-24:]))


def _electricity_drop(firm: Firm) -> float:
    used = firm.source("utility_bill").window("electricity")
    return max(-growth(sum(used[-6:]), sum(used[-18:-12])), 0.0)


def _technology_sales(firm: Firm) -> float:
    """A firm that lives by research has contracts before it has sales."""
    return burden(sum(firm.source("technology_contract").window("sold_amount")[-12:]), firm.revenue)


def _enforcement_to_sales(firm: Firm) -> float:
    return burden(firm.source("enforcement").ever("outstanding"), firm.revenue)


def _reported(firm: Firm, measure: str) -> int | None:
    """What the last annual report of the window discloses; None when there is no report."""
    reports = firm.source("annual_report")
    at = WINDOW - 1 - months_since_last(reports.window("reports"))
    return None if at < 0 else reports.window(measure)[at]


def _equity_ratio(firm: Firm) -> float:
    equity, assets = _reported(firm, "equity"), _reported(firm, "assets")
    if equity is None or not assets or assets < 0:
        return NAN
    return max(-1.0, min(equity / assets, 1.0))


def _guarantees_to_equity(firm: Firm) -> float:
    given = firm.source("guarantee")
    running = sum(
        amount
        for amount, until in zip(
            given.window("given_amount"), given.window("given_until"), strict=True
        )
        if until >= firm.day
    )
    equity = _reported(firm, "equity")
    if equity is None and running > 0:
        return NAN
    return burden(running, equity or 0)


def _firm_age(firm: Firm) -> float:
    founded = firm.source("registration").largest("founded")
    return max(firm.day - founded, 0) / DAYS_PER_YEAR if founded else NAN


def _capital(firm: Firm) -> float:
    capital = firm.source("registration").latest("capital")
    return log_cny(capital) if capital > 0 else NAN


COMPUTE: Final[Mapping[str, Callable[[Firm], float]]] = {
    "tax_arrears_to_sales": _arrears_to_sales,
    "tax_late_share": _late_share,
    "tax_days_late": _max_24m("tax_filing", "days_late"),
    "tax_grade": _tax_grade,
    "tax_gap": _tax_gap,
    "withheld_tax_filing": _withheld("tax_filing"),
    "headcount": lambda firm: log_count(_headcounts(firm)[0]),
    "headcount_growth": _headcount_growth,
    "social_missed_24m": _sum_24m("social_insurance", "missed"),
    "withheld_social_insurance": _withheld("social_insurance"),
    "ip_class1": lambda firm: firm.source("ip_right").ever("class1"),
    "ip_class2": lambda firm: firm.source("ip_right").ever("class2"),
    "ip_pledged": lambda firm: firm.source("ip_right").ever("pledged"),
    "tech_titles": _titles,
    "grants_24m": _sum_24m("grant", "grants"),
    "rd_staff_share": _rd_staff_share,
    "rd_intensity": _rd_intensity,
    "defendant_24m": _sum_24m("court_case", "defendant"),
    "defendant_amount_to_sales": _defendant_amount_to_sales,
    "credit_days_past_due": _max_24m("credit_facility", "days_past_due"),
    "credit_five_class": _max_24m("credit_facility", "five_class"),
    "credit_utilisation": _utilisation,
    "credit_lenders": lambda firm: firm.source("credit_facility").providers_with("balance"),
    "withheld_credit_facility": _withheld("credit_facility"),
    "housing_missed_24m": _sum_24m("housing_fund", "missed"),
    "utility_days_overdue_24m": _max_24m("utility_bill", "days_overdue"),
    "utility_overdue_share_24m": _overdue_bills,
    "electricity_drop_6m": _electricity_drop,
    "technology_contracts_24m": _sum_24m("technology_contract", "sold"),
    "technology_contracts_to_sales": _technology_sales,
    "equity_rounds_36m": lambda firm: sum(firm.source("equity_financing").window("investments")),
    "equity_raised_36m": lambda firm: log_cny(
        sum(firm.source("equity_financing").window("amount"))
    ),
    "enforcement_open": lambda firm: firm.source("enforcement").ever("open"),
    "enforcement_to_sales": _enforcement_to_sales,
    "dishonest_judgments": lambda firm: firm.source("enforcement").ever("dishonest"),
    "serious_penalties": lambda firm: firm.source("penalty").ever("serious_unrepaired"),
    "abnormal_open": lambda firm: firm.source("abnormal_operation").ever("open"),
    "credit_applications_3m": lambda firm: sum(
        firm.source("enquiry").window("credit_applications")[-3:]
    ),
    "guarantees_to_equity": _guarantees_to_equity,
    "guarantees_called_36m": lambda firm: sum(firm.source("guarantee").window("called")),
    "equity_ratio": _equity_ratio,
    "overdrawn_months_12m": lambda firm: active(firm.source("bank_flow").window("overdrawn")[-12:]),
    "receivables_days_late_24m": _max_24m("receivable", "days_late"),
    "officer_changes_12m": lambda firm: sum(firm.source("officer_change").window("changes")[-12:]),
    "firm_age": _firm_age,
    "capital": _capital,
    **{f"unsupplied_{record_type}": _unsupplied(record_type) for record_type in OPTIONAL},
}
