"""Changes what a participant may do, past the use cases."""

from dataclasses import replace
from typing import Any

from services.datashare.participants.domain import Standing

PRODUCTS = ("credit_reporting", "data_service")


async def set_standing(work: Any, participant_id: str, standing: Standing) -> None:
    """Give a participant a standing, in a transaction over the stores or their fakes."""
    found = await work.participants.lock(participant_id)
    await work.participants.change(replace(found, standing=standing))
