"""Mandates as other use cases see them, and under which of them a caller reads."""

from datetime import datetime
from typing import Protocol

from services.datashare.mandates.domain import Mandate, Power, require_any
from services.datashare.participants.domain import Role
from services.kit.identity import Caller


class Mandates(Protocol):
    """Who speaks for which firm."""

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        ...


class HeldMandates(Mandates, Protocol):
    """Who speaks for which firm, in a transaction that writes."""

    async def hold(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended, unchangeable until the end."""
        ...


async def reading(
    mandates: Mandates, caller: Caller, now: datetime, *powers: Power
) -> Mandate | None:
    """Return the mandate under which a firm's account reads.

    Args:
        mandates: in the snapshot that is read.
        caller: who reads; None is returned for one that is no firm.
        now: the time.
        powers: one of which is needed.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    if caller.role != Role.FIRM:
        return None
    return require_any(await mandates.get(caller.participant_id), powers, now)
