"""Features of all other records: tax, people, technology, law, credit, basics; what is withheld.

Ratios stand on the year's sales by invoices, which every score has.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.scoring.features.arithmetic import (
    NAN,
    burden,
    growth,
    log_cny,
    log_count,
    months_since_first,
    months_since_last,
    share,
)
from services.scoring.features.domain import Coverage
from services.scoring.features.firm import WINDOW, Firm

DAYS_PER_YEAR: Final = 365.25


def _sum_24m(record_type: str, measure: str) -> Callable[[Firm], float]:
    return lambda firm: sum(firm.source(record_type).window(measure)[-24:])


def _max_24m(record_type: str, measure: str) -> Callable[[Firm], float]:
    return lambda firm: max(firm.source(record_type).window(measure)[-24:])


def _withheld(record_type: str) -> Callable[[Firm], float]:
    return lambda firm: firm.summary.coverage_of(record_type) is Coverage.NOT_CONSENTED


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
    "firm_age": _firm_age,
    "capital": _capital,
}
