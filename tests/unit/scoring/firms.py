"""Firms for tests: one that is described by hand, and many with a latent risk."""

import dataclasses
import datetime as dt
import random
from collections.abc import Mapping, Sequence

from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries

TYPES = (
    "vat_invoice",
    "registration",
    "tax_filing",
    "social_insurance",
    "ip_right",
    "tech_status",
    "court_case",
    "credit_facility",
    "grant",
    "housing_fund",
    "utility_bill",
    "technology_contract",
    "equity_financing",
    "enquiry",
    "guarantee",
    "annual_report",
    "bank_flow",
    "receivable",
    "enforcement",
    "penalty",
    "abnormal_operation",
    "officer_change",
)
DAY_2024 = 19723  # 2024-01-01


def month_before(yyyymm: int, by: int) -> int:
    at = yyyymm // 100 * 12 + yyyymm % 100 - 1 - by
    return at // 12 * 100 + at % 12 + 1


def months_to(yyyymm: int, count: int) -> tuple[int, ...]:
    return tuple(month_before(yyyymm, by) for by in range(count - 1, -1, -1))


def series(
    record_type: str, last: int, provider_id: str = "p", /, **columns: Sequence[int]
) -> SubjectSeries:
    """A series whose columns end in the month `last`."""
    count = len(next(iter(columns.values())))
    return SubjectSeries(record_type, provider_id, months_to(last, count), columns)


def firm(*parts: SubjectSeries, coverage: Mapping[str, Coverage] | None = None) -> FirmSummary:
    """A firm of which every type that is not given is not supplied."""
    return FirmSummary(parts, coverage or {})


def withholding(summary: FirmSummary, record_type: str) -> FirmSummary:
    """The same firm without its consent to a type."""
    return FirmSummary(
        tuple(each for each in summary.series if each.record_type != record_type),
        {**summary.coverage, record_type: Coverage.NOT_CONSENTED},
    )


def leaving_out(summary: FirmSummary, record_type: str, provider_id: str) -> FirmSummary:
    """The same firm without its consent to one provider of a type."""
    kept = tuple(
        each
        for each in summary.series
        if (each.record_type, each.provider_id) != (record_type, provider_id)
    )
    coverage = {**summary.coverage, record_type: Coverage.NOT_CONSENTED}
    return dataclasses.replace(summary, series=kept, coverage=coverage)


def opened(
    summary: FirmSummary, types: Sequence[str], first: dt.date, last: dt.date
) -> FirmSummary:
    """The same firm when of `types` only the whole months of a period were opened."""
    start = first.year * 100 + first.month + (first.day > 1)
    after = last + dt.timedelta(days=1)
    end = month_before(after.year * 100 + after.month, 1)
    parts = []
    for each in summary.series:
        shown = [at for at, month in enumerate(each.months) if start <= month <= end]
        if each.record_type not in types:
            parts.append(each)
        elif shown:
            columns = {name: [values[at] for at in shown] for name, values in each.columns.items()}
            months = tuple(each.months[at] for at in shown)
            parts.append(SubjectSeries(each.record_type, each.provider_id, months, columns))
    present = {each.record_type for each in parts}
    coverage = {
        name: Coverage.NOT_SUPPLIED if name in types and name not in present else state
        for name, state in summary.coverage.items()
    }
    return dataclasses.replace(
        summary, series=tuple(parts), coverage=coverage, period=(first, last)
    )


def risky_firm(chance: random.Random, last: int) -> tuple[FirmSummary, int]:
    """A firm with a latent risk that shows in all its records, and whether it defaulted."""
    risk = chance.gauss(0, 1)

    def count(mean: float) -> int:
        return max(0, round(chance.gauss(mean, mean / 3 + 0.3)))

    size = 10 ** chance.uniform(7, 9)
    sales = [round(max(0, chance.gauss(1 - 0.1 * risk * at / 12, 0.2)) * size) for at in range(30)]
    spent = [round(amount * chance.uniform(0.6, 0.9)) for amount in sales]
    invoices: dict[str, Sequence[int]] = {}
    for side, amounts in (("output", sales), ("input", spent)):
        red = [chance.random() < 0.1 for _ in amounts]
        invoices |= {
            f"{side}_valid": [1 + count(8) for _ in amounts],
            f"{side}_void": [count(max(0.2, 0.6 + risk)) for _ in amounts],
            f"{side}_red": [int(each) for each in red],
            f"{side}_net": amounts,
            f"{side}_tax": [round(amount * 0.13) for amount in amounts],
            f"{side}_red_net": [round(size / 10) if each else 0 for each in red],
            f"{side}_positive_net": [
                amount + round(size / 10) * each for amount, each in zip(amounts, red, strict=True)
            ],
            f"{side}_counterparties": [5 + count(6) for _ in amounts],
            f"{side}_top1": [chance.randrange(100_000, 600_000)] * len(amounts),
            f"{side}_top5": [chance.randrange(600_000, 1_000_000)] * len(amounts),
            f"{side}_hhi": [chance.randrange(50_000, 500_000)] * len(amounts),
            f"{side}_churn": [chance.randrange(0, 900_000)] * len(amounts),
        }  # fmt: skip  # a table, line by line
    headcount = [max(1, round(20 - risk * at / 6)) for at in range(30)]
    missed = [int(chance.random() < 0.05 + 0.1 * (risk > 0.8)) for _ in range(30)]
    late = [int(chance.random() < 0.1 + 0.15 * (risk > 0.5)) for _ in range(30)]
    past_due = [max(0, round(chance.gauss(risk * 20 - 20, 20))) for _ in range(24)]
    parts = (
        series("vat_invoice", last, **invoices),
        series(
            "registration", last, founded=[DAY_2024 - chance.randrange(300, 6000)], capital=[10**9]
        ),
        series(
            "tax_filing",
            last,
            vat_declared_sales=sales,
            declared_tax=spent,
            paid=spent,
            arrears=[round(max(0, risk) * size / 50)] * 30,
            late=late,
            filings=[1] * 30,
            days_late=[each * 9 for each in late],
            grade=[min(5, max(1, round(chance.gauss(3.6 - risk, 0.8))))] * 30,
        ),
        series(
            "social_insurance",
            last,
            headcount=headcount,
            paid=[10**6] * 30,
            overdue=[0] * 30,
            missed=missed,
        ),
        series("ip_right", last, class1=[count(1)], class2=[count(4)], pledged=[count(0.1)]),
        series(
            "tech_status",
            last,
            high_tech_valid_to=[DAY_2024 + chance.randrange(-400, 400)],
            tech_sme_valid_to=[0],
            specialised_valid_to=[0],
            rd_spend=[round(size / 5)],
            rd_staff=[count(5)],
        ),
        series(
            "court_case",
            last,
            defendant=[count(max(0.1, risk))],
            defendant_amount=[round(max(0, risk) * size)],
            plaintiff=[count(0.3)],
        ),
        series(
            "credit_facility",
            last,
            facilities=[1] * 24,
            limit=[round(size)] * 24,
            balance=[round(size * min(1, max(0.1, 0.5 + risk / 5)))] * 24,
            days_past_due=past_due,
            five_class=[1 + (days > 30) + (days > 60) for days in past_due],
        ),
        series("grant", last, grants=[count(0.5)], amount=[10**7]),
        *other_records(last, risk, round(size)),
    )
    return FirmSummary(parts, dict.fromkeys(TYPES, Coverage.SUPPLIED)), int(
        chance.gauss(risk, 0.7) > 0.9
    )


def other_records(last: int, risk: float, size: int) -> tuple[SubjectSeries, ...]:
    """The records of a firm that not every platform has."""
    chance = random.Random(risk)

    def some(mean: float, shift: float) -> int:
        return max(0, round(chance.gauss(mean + shift * risk, 0.5)))

    used = [round(max(0, chance.gauss(1 - 0.02 * risk * at, 0.05)) * 10**4) for at in range(24)]
    equity = round(size * max(0.05, chance.gauss(0.5 - 0.2 * risk, 0.1)))
    return (
        series(
            "housing_fund",
            last,
            headcount=[10] * 24,
            missed=[some(1, 1) for _ in range(24)],
        ),
        series(
            "utility_bill",
            last,
            bills=[1] * 24,
            electricity=used,
            days_overdue=[some(2, 4) for _ in range(24)],
            overdue_bills=[min(1, some(0, 0.6)) for _ in range(24)],
        ),
        series(
            "technology_contract", last, sold=[some(1, -1)], sold_amount=[some(2, -1) * size // 10]
        ),
        series("equity_financing", last, investments=[some(3, -3)], amount=[some(4, -2) * size]),
        series("enquiry", last, credit_applications=[some(3, 3) for _ in range(3)]),
        series(
            "guarantee",
            last,
            given_amount=[some(1, 1) * size // 5],
            given_until=[DAY_2024 + 900],
            called=[some(0, 0.5)],
        ),
        series("annual_report", last, reports=[1], assets=[size], equity=[equity]),
        series("bank_flow", last, overdrawn=[some(0, 0.7) for _ in range(12)]),
        series("receivable", last, days_late=[10 * some(2, 2) for _ in range(3)]),
        series("enforcement", last, open=[some(0, 0.4)], outstanding=[some(0, 0.4) * size // 10]),
        series("penalty", last, serious_unrepaired=[some(0, 0.3)]),
        series("abnormal_operation", last, open=[some(0, 0.3)]),
        series("officer_change", last, changes=[some(0, 0.5)]),
    )


def city(count: int, last: int, seed: int = 1) -> list[tuple[FirmSummary, int]]:
    """Firms, some without tax filings or loans, some that keep their loans to themselves."""
    chance = random.Random(seed)
    found = []
    for at in range(count):
        summary, defaulted = risky_firm(chance, last)
        if at % 9 == 0:
            summary = withholding(summary, "credit_facility")
        if at % 7 == 0:
            parts = tuple(each for each in summary.series if each.record_type != "tax_filing")
            summary = FirmSummary(parts, {**summary.coverage, "tax_filing": Coverage.NOT_SUPPLIED})
        found.append((summary, defaulted))
    return found
