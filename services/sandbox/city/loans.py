"""Credit facilities at the end of each month, at one to three of the lenders' desks.

Before a default, late days come and go with distress; from the default on they only grow.
"""

from collections.abc import Iterator

import numpy as np

from puhui.datashare.v1.payloads_pb2 import CreditFacility
from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city.health import Health
from services.sandbox.city.plan import CityPlan, Floats
from services.sandbox.city.population import Population
from services.sandbox.city.providers import LENDERS
from services.sandbox.delivery import Delivery, Provider
from services.sandbox.months import day_number, last_day, month_of, yyyymm
from services.sandbox.wire import cny, date_of, obtained_on, subject_of

FACILITIES = (0.35, 0.40, 0.18, 0.07)  # share of firms with none, one, two, three
FIVE_CLASS = ("normal", "special_mention", "substandard", "doubtful", "loss")
FIVE_CLASS_DAYS = (1, 91, 181, 361)  # days past due from which the next class applies


def credit_facilities(
    plan: CityPlan, population: Population, health: Health, sales: Floats
) -> tuple[Delivery, ...]:
    """Each lender's month-end reports."""
    rng = plan.stream("loans")
    number = rng.choice(len(FACILITIES), size=plan.firms, p=FACILITIES)
    firm = np.repeat(np.arange(plan.firms), number)
    order = np.arange(len(firm)) - np.repeat(np.cumsum(number) - number, number)
    desk = (firm + order) % len(LENDERS)
    founded = np.array([month_of(f.founded) for f in population.firms]) - plan.first_month
    opened = np.maximum(rng.integers(-30, plan.months - 6, len(firm)), founded[firm] + 6)
    limit = np.maximum(
        10_000_000,
        np.rint(sales[firm, 0] * rng.uniform(1.0, 3.0, len(firm)) / 10_000_000) * 10_000_000,
    ).astype(np.int64)

    shape = (len(firm), plan.months)
    distress = health.distress[firm, : plan.months]
    drawn = np.clip(0.45 + 0.45 * distress + rng.normal(0, 0.12, shape), 0.02, 1.0)
    balance = np.rint(limit[:, None] * drawn).astype(np.int64)
    habit = rng.lognormal(-0.12, 0.5, (len(firm), 1))
    slipped = rng.random(shape) < habit * (0.004 + 0.22 * distress**1.4)
    days = np.where(slipped, 1 + rng.geometric(0.07, shape), 0).clip(max=60)
    since = np.arange(plan.months) - health.default_month[firm][:, None]
    days = np.where(since >= 0, 30 * since + 15, days)
    grade = np.searchsorted(FIVE_CLASS_DAYS, days, side="right")
    there = np.arange(plan.months) >= opened[:, None]
    ends = [day_number(last_day(plan.first_month + m)) for m in range(plan.months)]

    def deliver(place: int, lender: Provider) -> Delivery:
        mine = np.flatnonzero(desk == place)

        def build() -> Iterator[Record]:
            for f in mine.tolist():
                debtor = population.firms[firm[f]]
                subject = subject_of(debtor.uscc)
                facility = f"{debtor.number}-{order[f] + 1}"
                for at in np.flatnonzero(there[f]).tolist():
                    yield Record(
                        provider_record_id=f"facility:{facility}:{yyyymm(plan.first_month + at)}",
                        subject=subject,
                        record_type="credit_facility",
                        date=date_of(ends[at]),
                        obtained_at=obtained_on(ends[at]),
                        credit_facility=CreditFacility(
                            facility_id=facility,
                            limit=cny(int(limit[f])),
                            balance=cny(int(balance[f, at])),
                            days_past_due=int(days[f, at]),
                            five_class=FIVE_CLASS[grade[f, at]],
                        ),
                    )

        return Delivery(lender, "credit_facility", int(there[mine].sum()), build)

    return tuple(deliver(place, lender) for place, lender in enumerate(LENDERS))
