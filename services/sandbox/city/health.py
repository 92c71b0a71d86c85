"""The latent health of every firm, and the defaults that follow from it.

One number per firm and month drives everything that providers see: a lasting effect of the firm,
a persistent wave, sudden shocks and the city's economy. Nobody is told it. A default is drawn month
by month from a hazard of health and of a part that leaves no trace in any record, so that a model
can learn who will default, but never exactly. Firms enter the risk twelve months before the end of
the history: the city holds the firms that were in business then.
"""

from dataclasses import dataclass

import numpy as np

from services.sandbox.city.plan import OUTCOME_MONTHS, CityPlan, Floats, Ints

PERSISTENCE = 0.96
FIRM_SPREAD = 0.9
WAVE_SPREAD = 0.65
HAZARD_SLOPE = 2.8
UNSEEN_SPREAD = 0.4
NEVER = 1 << 30


@dataclass(frozen=True)
class Health:
    """Health and defaults; rows are firms, columns months from the plan's first on.

    Args:
        level: about 0 on average, spread about 1; higher is better. Twelve months longer than the
            history.
        distress: 0 to 1, what health does to a firm's conduct; as long as `level`.
        default_month: column of each firm's default, or `NEVER`.
    """

    level: Floats
    distress: Floats
    default_month: Ints


def simulate_health(plan: CityPlan) -> Health:
    """Draws health and defaults for a city."""
    rng = plan.stream("health")
    firms, span = plan.firms, plan.months + OUTCOME_MONTHS
    lasting = rng.normal(0, FIRM_SPREAD, (firms, 1))
    pushes = rng.normal(0, WAVE_SPREAD * np.sqrt(1 - PERSISTENCE**2), (firms, span))
    pushes -= (rng.random((firms, span)) < 0.008) * rng.exponential(1.2, (firms, span))
    economy = rng.normal(0, 0.03, span)
    wave = np.empty((firms, span))
    carried = rng.normal(0, WAVE_SPREAD, firms)
    for month in range(span):
        carried = PERSISTENCE * carried + pushes[:, month] + economy[month]
        wave[:, month] = carried
    level = lasting + wave

    unseen = rng.normal(0, UNSEEN_SPREAD, (firms, 1))
    risk = -HAZARD_SLOPE * level + unseen
    start = plan.months - OUTCOME_MONTHS
    hazard = _logistic(risk + _intercept(risk[:, start : plan.months], plan.default_rate))
    hazard[:, :start] = 0
    defaulted = rng.random((firms, span)) < hazard
    default_month = np.where(defaulted.any(axis=1), defaulted.argmax(axis=1), NEVER)

    # A default is itself a blow that every provider sees afterwards.
    level = level - 1.2 * (np.arange(span) >= default_month[:, None])
    return Health(level, _logistic(-1.5 * level - 1.6), default_month)


def _intercept(risk: Floats, rate: float) -> float:
    """The hazard's constant at which the expected share of defaults over `risk` is `rate`."""
    low, high = -30.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        expected = 1 - np.prod(1 - _logistic(risk + middle), axis=1).mean()
        low, high = (middle, high) if expected < rate else (low, middle)
    return (low + high) / 2


def _logistic(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
