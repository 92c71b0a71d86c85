"""A simulated city of technology firms, from one seed.

Nothing here is about anybody: every name and every provider says that it is simulated.
"""

from datetime import date

from services.sandbox.city.courts import court_cases
from services.sandbox.city.health import NEVER, simulate_health
from services.sandbox.city.loans import credit_facilities
from services.sandbox.city.people import social_insurance
from services.sandbox.city.plan import OUTCOME_MONTHS, CityPlan
from services.sandbox.city.population import Firm, simulate_population
from services.sandbox.city.registration import registrations
from services.sandbox.city.tax import filings
from services.sandbox.city.technology import grants, ip_rights, titles
from services.sandbox.city.trade import invoices, simulate_sales
from services.sandbox.delivery import Delivery
from services.sandbox.months import month_of


class City:
    """Firms, what providers know about them, and what becomes of them.

    Args:
        plan: what to simulate.
    """

    def __init__(self, plan: CityPlan) -> None:
        self.plan = plan
        self._population = simulate_population(plan)
        self._health = simulate_health(plan)
        self._sales = simulate_sales(plan, self._population, self._health)

    @property
    def firms(self) -> tuple[Firm, ...]:
        """All firms, by index."""
        return self._population.firms

    def deliveries(self) -> tuple[Delivery, ...]:
        """Everything that the providers hand over."""
        plan, population, health, sales = self.plan, self._population, self._health, self._sales
        return (
            registrations(population),
            *invoices(plan, population, health, sales),
            filings(plan, population, health, sales),
            social_insurance(plan, population, health),
            ip_rights(plan, population, health),
            titles(plan, population, health, sales),
            grants(plan, population, health),
            court_cases(plan, population, health, sales),
            *credit_facilities(plan, population, health, sales),
        )

    def health(self, firm: Firm, as_of: date) -> float:
        """The latent health that nobody is told, in the month of `as_of`."""
        return float(self._health.level[firm.index, self._column(as_of)])

    def defaults_after(self, firm: Firm, as_of: date) -> bool | None:
        """Whether the firm defaults in the twelve months after `as_of`'s month.

        None if it has defaulted by then: such a firm is in neither class.
        """
        column = self._column(as_of)
        defaulted = int(self._health.default_month[firm.index])
        if defaulted == NEVER:
            return False
        if defaulted <= column:
            return None
        return defaulted <= column + OUTCOME_MONTHS

    def _column(self, as_of: date) -> int:
        column = month_of(as_of) - self.plan.first_month
        earliest = self.plan.months - OUTCOME_MONTHS - 1
        if not earliest <= column < self.plan.months:
            raise ValueError("outcomes are known from the last twelve months of the history on")
        return column
