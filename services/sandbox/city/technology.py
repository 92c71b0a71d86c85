"""Intellectual property, titles with their research figures, and grants.

They follow how technical a firm is far more than its health, so that a firm that burns cash on
research does not look like a failing one.
"""

from collections.abc import Iterator

import numpy as np

from puhui.datashare.v1.payloads_pb2 import Grant, IpRight, TechStatus
from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city.health import Health
from services.sandbox.city.plan import CityPlan, Floats
from services.sandbox.city.population import SIZES, Population
from services.sandbox.city.providers import IP_OFFICE, SCIENCE
from services.sandbox.delivery import Delivery
from services.sandbox.months import day_number, first_day, last_day, month_of
from services.sandbox.wire import cny, date_of, obtained_on, subject_of

RIGHTS_PER_YEAR = {"micro": 0.35, "small": 0.9, "medium": 2.2}
PROGRAMMES = ("模拟科技型中小企业技术创新资金", "模拟研发投入补助", "模拟专精特新奖励")
# Years that a title holds, and the least technology that gets it.
TITLES = {"high_tech": (3, 0.9), "tech_sme": (1, 0.6), "specialised": (3, 1.7)}


def ip_rights(plan: CityPlan, population: Population, health: Health) -> Delivery:
    """Rights granted between a firm's founding (ten years at most) and the end."""
    rng = plan.stream("ip")
    end = day_number(last_day(plan.last_month))
    founded = np.array([day_number(f.founded) for f in population.firms])
    begin = np.maximum(founded + 365, end - 3_650)
    years = np.maximum(0, end - begin) / 365.25
    pace = np.array([RIGHTS_PER_YEAR[f.size] for f in population.firms]) * population.technology
    pace *= np.exp(0.3 * health.level[:, : plan.months].mean(axis=1))
    counts = np.minimum(rng.poisson(pace * years * rng.lognormal(-0.1, 0.4, plan.firms)), 60)
    firm = np.repeat(np.arange(plan.firms), counts)
    granted = begin[firm] + (rng.random(len(firm)) * (end - begin)[firm]).astype(np.int64)
    order = np.lexsort((granted, firm))
    granted = granted[order]
    software = np.array([f.industry.software for f in population.firms])[firm]
    pick, share = rng.random(len(firm)), rng.random(len(firm))
    kind = np.where(
        pick < software,
        "software_copyright",
        np.where(share < 0.35, "invention", np.where(share < 0.85, "utility_model", "design")),
    )
    waited = np.where(kind == "invention", rng.integers(400, 900, len(firm)), 120)
    strained = health.distress[:, : plan.months].mean(axis=1)
    pledged = rng.random(len(firm)) < (0.02 + 0.10 * strained)[firm]

    def build() -> Iterator[Record]:
        rows = zip(*(c.tolist() for c in (firm, kind, granted, waited, pledged)), strict=True)
        for number, (f, what, day, wait, pledge) in enumerate(rows, 1):
            owner = population.firms[f]
            yield Record(
                provider_record_id=f"right:{owner.number}:{number}",
                subject=subject_of(owner.uscc),
                record_type="ip_right",
                date=date_of(day),
                obtained_at=obtained_on(day),
                ip_right=IpRight(
                    kind=what,
                    ip_class=1 if what == "invention" else 2,
                    filed=date_of(day - wait),
                    granted=date_of(day),
                    status="granted",
                    pledged=pledge,
                ),
            )

    return Delivery(IP_OFFICE, "ip_right", len(firm), build)


def titles(plan: CityPlan, population: Population, health: Health, sales: Floats) -> Delivery:
    """Titles as they are given and renewed; a firm in distress renews less often."""
    rng = plan.stream("titles")
    rows: list[tuple[int, int, str, int, int, int]] = []
    share = np.clip(0.07 * population.technology * rng.lognormal(0, 0.4, plan.firms), 0.005, 0.6)
    research_staff = np.clip(
        0.35 * population.technology * rng.lognormal(0, 0.3, plan.firms), 0, 0.9
    )
    for firm in population.firms:
        i = firm.index
        for title, (years, least) in TITLES.items():
            if population.technology[i] * rng.lognormal(0, 0.3) < least:
                continue
            if title == "specialised" and firm.size == "micro":
                continue
            month = plan.first_month + int(rng.integers(-12 * years, 12)) + 12
            month = max(month, month_of(firm.founded) + 12)
            while month <= plan.last_month:
                at = max(0, month - plan.first_month)
                if rng.random() > health.distress[i, at] * 1.2:
                    year = sales[i, max(0, at - 11) : at + 1].mean() * 12
                    rows.append(
                        (
                            i,
                            day_number(first_day(month)) + int(rng.integers(0, 28)),
                            title,
                            years,
                            round(float(year * share[i])),
                            round(float(population.staff[i] * research_staff[i])),
                        )
                    )
                month += 12 * years
    rows.sort()

    def build() -> Iterator[Record]:
        for i, day, title, years, spend, staff in rows:
            firm = population.firms[i]
            yield Record(
                provider_record_id=f"title:{firm.number}:{title}:{day}",
                subject=subject_of(firm.uscc),
                record_type="tech_status",
                date=date_of(day),
                obtained_at=obtained_on(day),
                tech_status=TechStatus(
                    title=title,
                    valid_from=date_of(day),
                    valid_to=date_of(day + 365 * years),
                    rd_spend=cny(spend),
                    rd_staff=staff,
                ),
            )

    return Delivery(SCIENCE, "tech_status", len(rows), build)


def grants(plan: CityPlan, population: Population, health: Health) -> Delivery:
    """Grants of the history: more for technical firms, somewhat fewer for ailing ones."""
    rng = plan.stream("grants")
    pace = 0.018 * population.technology[:, None] * (1 - 0.6 * health.distress[:, : plan.months])
    months = plan.first_month + np.arange(plan.months)
    founded = np.array([month_of(f.founded) for f in population.firms])[:, None]
    firm, at = np.nonzero((rng.random(pace.shape) < pace) & (months >= founded))
    starts = np.array([day_number(first_day(int(m))) for m in months])
    day = starts[at] + rng.integers(0, 28, len(firm))
    scale = np.array([80_000, 200_000, 500_000])[[SIZES.index(f.size) for f in population.firms]]
    amount = np.rint(scale[firm] * rng.lognormal(0, 0.6, len(firm)) / 1_000).astype(np.int64)
    programme = rng.integers(0, len(PROGRAMMES), len(firm))

    def build() -> Iterator[Record]:
        rows = zip(firm.tolist(), day.tolist(), amount.tolist(), programme.tolist(), strict=True)
        for number, (f, d, thousands, p) in enumerate(rows, 1):
            owner = population.firms[f]
            yield Record(
                provider_record_id=f"grant:{owner.number}:{number}",
                subject=subject_of(owner.uscc),
                record_type="grant",
                date=date_of(d),
                obtained_at=obtained_on(d),
                grant=Grant(programme=PROGRAMMES[p], amount=cny(max(1, thousands) * 100_000)),
            )

    return Delivery(SCIENCE, "grant", len(firm), build)
