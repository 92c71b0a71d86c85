"""Fakes of the ports of score products: a datashare that knows types and one firm."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.kit.errors import PuhuiError
from services.scoring.products.app import Check, Look, Supply


@dataclass
class FakePlatform:
    """`products.app.Platform`: what it supplies, and what it finds under each consent.

    Args:
        types: how each comes to the platform.
        looks: what is there, or why not, by consent; "" is without one.
    """

    types: dict[str, Supply]
    looks: dict[str, Look | PuhuiError]
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def supply(self) -> Mapping[str, Supply]:
        return self.types

    async def look(self, check: Check, purpose: str) -> Look | PuhuiError:
        self.asked.append((check.consent_id, purpose))
        return self.looks[check.consent_id]
