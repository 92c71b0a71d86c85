"""Tax filings: VAT by month (general taxpayers) or quarter (small-scale), income tax by year.

VAT is due on the 15th of the following month, income tax on 31 May of the following year; that
filing carries the year's grade 纳税信用等级. A filing is handed over on the day it is made, so the
latest periods are not there yet.
"""

from collections.abc import Iterator
from datetime import date
from itertools import repeat
from typing import NamedTuple

import numpy as np

from puhui.datashare.v1.payloads_pb2 import TaxFiling
from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city.health import Health
from services.sandbox.city.plan import CityPlan, Floats
from services.sandbox.city.population import Population
from services.sandbox.city.providers import TAX
from services.sandbox.delivery import Delivery
from services.sandbox.months import day_number, first_day, last_day, month_of, yyyymm
from services.sandbox.wire import cny, obtained_on, period_of, subject_of

GRADES = ("A", "B", "C", "D")
GRADE_CUTS = (0.10, 0.26, 0.45)  # of the year's distress with noise
NEW_FIRM_MONTHS = 36  # younger firms get grade M instead
INCOME_TAX_RATE = 0.05  # of the profit of a small firm


class _Filing(NamedTuple):
    """One filing; amounts in fen."""

    firm: int
    made: int  # day
    kind: str
    first_month: int
    last_month: int
    sales: int
    tax: int
    arrears: int
    days_late: int
    grade: str


def filings(plan: CityPlan, population: Population, health: Health, sales: Floats) -> Delivery:
    """The filings of every firm whose filings are supplied."""
    rng = plan.stream("filings")
    shape = (plan.firms, plan.months)
    distress = health.distress[:, : plan.months]
    habit = rng.lognormal(-0.12, 0.5, (plan.firms, 1))
    late = rng.random(shape) < habit * (0.02 + 0.40 * distress**1.3)
    days_late = np.where(late, 1 + rng.geometric(0.12, shape), 0)
    owing = rng.random(shape) < habit * (0.004 + 0.30 * distress**1.5)
    unpaid = np.where(owing, rng.uniform(0.2, 1.0, shape), 0.0)
    # What is declared strays from what was sold, downwards in distress.
    declared = sales * np.exp(rng.normal(0, 0.05, shape) - 0.25 * distress)
    margin = np.maximum(
        0, 0.07 + 0.03 * health.level[:, : plan.months] + rng.normal(0, 0.04, shape)
    )
    unease = distress + rng.normal(0, 0.3, shape)

    months = plan.first_month + np.arange(plan.months)
    founded = np.array([month_of(f.founded) for f in population.firms])[:, None]
    general = np.array([f.general_taxpayer for f in population.firms])[:, None]
    supplied = population.supplied["tax_filing"][:, None]
    value_added = [f.industry.vat_rate * (1 - f.industry.cost_share) for f in population.firms]
    vat_rate = np.where(general[:, 0], value_added, 0.01)

    rows: list[_Filing] = []
    everybody = np.ones((plan.firms, 1), bool)
    for kind, length, ends in (
        ("vat", 1, general & np.ones(plan.months, bool)),
        ("vat", 3, ~general & (months % 3 == 2)),
        ("cit", 12, everybody & (months % 12 == 11)),
    ):
        whole = (np.arange(plan.months) >= length - 1) & (months - length + 1 >= founded)
        firm, at = np.nonzero(ends & whole & supplied)
        base = _trailing(declared, length)[firm, at]
        if kind == "vat":
            tax = base * vat_rate[firm]
            due = np.array([day_number(first_day(int(m) + 1)) + 14 for m in months])[at]
            grade = [""] * len(firm)
        else:
            tax = base * INCOME_TAX_RATE * _trailing(margin, length)[firm, at] / length
            due = np.array([day_number(date(int(m) // 12 + 1, 5, 31)) for m in months])[at]
            cut = np.searchsorted(GRADE_CUTS, _trailing(unease, length)[firm, at] / length)
            young = months[at] - founded[firm, 0] < NEW_FIRM_MONTHS
            grade = np.where(young & (cut < 2), "M", np.array(GRADES)[cut]).tolist()
        days = days_late[firm, at]
        columns = (
            firm,
            due + days,
            months[at] - length + 1,
            months[at],
            np.rint(base).astype(np.int64),
            np.rint(tax).astype(np.int64),
            np.rint(tax * unpaid[firm, at]).astype(np.int64),
            days,
        )
        f, made, first, last, sold, taxed, owed, tardy = (c.tolist() for c in columns)
        rows.extend(
            map(_Filing, f, made, repeat(kind), first, last, sold, taxed, owed, tardy, grade)
        )
    cut_off = day_number(last_day(plan.last_month))
    rows = sorted(row for row in rows if row.made <= cut_off)

    def build() -> Iterator[Record]:
        for row in rows:
            firm = population.firms[row.firm]
            yield Record(
                provider_record_id=f"filing-{row.kind}:{firm.number}:{yyyymm(row.last_month)}",
                subject=subject_of(firm.uscc),
                record_type="tax_filing",
                period=period_of(row.first_month, row.last_month),
                obtained_at=obtained_on(row.made),
                tax_filing=TaxFiling(
                    tax_kind=row.kind,
                    declared_sales=cny(row.sales),
                    declared_tax=cny(row.tax),
                    paid=cny(row.tax - row.arrears),
                    arrears=cny(row.arrears),
                    days_late=row.days_late,
                    grade=row.grade,
                ),
            )

    return Delivery(TAX, "tax_filing", len(rows), build)


def _trailing(values: Floats, length: int) -> Floats:
    """Sums over the `length` months that end in each month; wrong before there are as many."""
    sums = np.cumsum(values, axis=1)
    sums[:, length:] -= sums[:, :-length].copy()
    return sums
