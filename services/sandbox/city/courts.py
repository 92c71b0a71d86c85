"""Court cases: sued mostly in distress, suing now and then."""

from collections.abc import Iterator

import numpy as np

from puhui.datashare.v1.payloads_pb2 import CourtCase
from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city.health import Health
from services.sandbox.city.plan import CityPlan, Floats
from services.sandbox.city.population import Population
from services.sandbox.city.providers import COURTS
from services.sandbox.delivery import Delivery
from services.sandbox.months import day_number, first_day, last_day, month_of
from services.sandbox.wire import cny, date_of, obtained_on, subject_of

CAUSES = ("买卖合同纠纷", "服务合同纠纷", "劳动争议", "借款合同纠纷")


def court_cases(plan: CityPlan, population: Population, health: Health, sales: Floats) -> Delivery:
    """The cases filed in the history; open or closed as they stand at its end."""
    rng = plan.stream("courts")
    shape = (plan.firms, plan.months)
    distress = health.distress[:, : plan.months]
    months = plan.first_month + np.arange(plan.months)
    trading = months >= np.array([month_of(f.founded) for f in population.firms])[:, None]
    sued = (rng.random(shape) < 0.002 + 0.07 * distress**1.2) & trading
    suing = (rng.random(shape) < 0.004) & trading & ~sued
    firm, at = np.nonzero(sued | suing)
    defending = sued[firm, at]
    starts = np.array([day_number(first_day(int(m))) for m in months])
    filed = starts[at] + rng.integers(0, 28, len(firm))
    closed = filed + rng.integers(60, 400, len(firm))
    size = sales[firm, at] * rng.lognormal(-0.7, 1.0, len(firm))
    amount = np.maximum(100_000, np.rint(size / 100) * 100).astype(np.int64)
    cause = rng.integers(0, len(CAUSES), len(firm))
    end = day_number(last_day(plan.last_month))

    def build() -> Iterator[Record]:
        rows = zip(
            *(c.tolist() for c in (firm, defending, filed, closed, amount, cause)), strict=True
        )
        for number, (f, defends, day, done, fen, why) in enumerate(rows, 1):
            party = population.firms[f]
            over = done <= end
            yield Record(
                provider_record_id=f"case:{party.number}:{number}",
                subject=subject_of(party.uscc),
                record_type="court_case",
                date=date_of(day),
                obtained_at=obtained_on(day),
                court_case=CourtCase(
                    case_number=f"模拟民初{number}号",
                    role="defendant" if defends else "plaintiff",
                    cause=CAUSES[why],
                    amount=cny(fen),
                    stage="closed" if over else "filed",
                    filed=date_of(day),
                    closed=date_of(done) if over else None,
                ),
            )

    return Delivery(COURTS, "court_case", len(firm), build)
