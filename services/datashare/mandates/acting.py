"""Under which mandate a caller acts or reads; callers that are no firm need none."""

from datetime import datetime
from typing import Protocol

from services.datashare.mandates.domain import Mandate, Power, require_any
from services.datashare.participants.domain import Role
from services.kit.identity import Caller


class Held(Protocol):
    """Mandates, in a transaction that writes."""

    async def hold(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended, unchangeable until the end."""
        ...


class Read(Protocol):
    """Mandates, in a snapshot."""

    async def get(self, participant_id: str) -> Mandate | None:
        """Return the mandate of an account that nobody ended."""
        ...


async def acting(mandates: Held, caller: Caller, power: Power, now: datetime) -> Mandate | None:
    """Return the mandate under which a firm's account acts, which holds until the end.

    To be called after the rows that the act is about were locked, as records are taken in that way.

    Args:
        mandates: in the transaction of the act.
        caller: who acts; None is returned for one that is no firm.
        power: that the act needs.
        now: the act's time.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    if caller.role != Role.FIRM:
        return None
    return require_any(await mandates.hold(caller.participant_id), (power,), now)


async def reading(mandates: Read, caller: Caller, now: datetime, *powers: Power) -> Mandate | None:
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
