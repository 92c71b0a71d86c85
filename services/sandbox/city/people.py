"""Insured staff by month: it follows health slowly; contributions are missed in distress."""

from collections.abc import Iterator

import numpy as np

from puhui.datashare.v1.payloads_pb2 import SocialInsurance
from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city.health import Health
from services.sandbox.city.plan import CityPlan
from services.sandbox.city.population import Population
from services.sandbox.city.providers import INSURANCE
from services.sandbox.delivery import Delivery
from services.sandbox.months import day_number, last_day, month_of, yyyymm
from services.sandbox.wire import cny, obtained_on, period_of, subject_of

CONTRIBUTION_FEN = 280_000  # a month, per person


def social_insurance(plan: CityPlan, population: Population, health: Health) -> Delivery:
    """A record for each month of each firm whose insurance is supplied."""
    rng = plan.stream("people")
    shape = (plan.firms, plan.months)
    level, distress = health.level[:, : plan.months], health.distress[:, : plan.months]
    drift = 0.002 + 0.007 * level + rng.normal(0, 0.018, shape)
    headcount = np.maximum(
        1, np.rint(population.staff[:, None] * np.exp(np.cumsum(drift, axis=1)))
    ).astype(np.int64)
    habit = rng.lognormal(-0.12, 0.5, (plan.firms, 1))
    missed = rng.random(shape) < habit * (0.005 + 0.33 * distress**1.4)
    due = headcount * CONTRIBUTION_FEN
    overdue = np.where(missed, np.rint(due * rng.uniform(0.3, 1.0, shape)), 0).astype(np.int64)

    founded = np.array([month_of(f.founded) for f in population.firms])[:, None]
    there = population.supplied["social_insurance"][:, None] & (
        plan.first_month + np.arange(plan.months) >= founded
    )
    ends = [day_number(last_day(plan.first_month + m)) for m in range(plan.months)]

    def build() -> Iterator[Record]:
        for firm in population.firms:
            i, subject = firm.index, subject_of(firm.uscc)
            for at in np.flatnonzero(there[i]).tolist():
                month = plan.first_month + at
                yield Record(
                    provider_record_id=f"insurance:{firm.number}:{yyyymm(month)}",
                    subject=subject,
                    record_type="social_insurance",
                    period=period_of(month, month),
                    obtained_at=obtained_on(ends[at]),
                    social_insurance=SocialInsurance(
                        headcount=int(headcount[i, at]),
                        paid=cny(int(due[i, at] - overdue[i, at])),
                        overdue=cny(int(overdue[i, at])),
                    ),
                )

    return Delivery(INSURANCE, "social_insurance", int(there.sum()), build)
