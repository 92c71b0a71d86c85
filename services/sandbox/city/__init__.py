"""The simulated city."""

from services.sandbox.city.city import City
from services.sandbox.city.plan import CityPlan
from services.sandbox.city.population import Firm
from services.sandbox.city.providers import PROVIDERS
from services.sandbox.delivery import Delivery, Provider

__all__ = ["PROVIDERS", "City", "CityPlan", "Delivery", "Firm", "Provider"]
