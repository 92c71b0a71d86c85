"""What happens to a firm's mandates when the register shows another representative.

Invariants:

- It is done in the transaction that takes the record in: no act of the firm begins after the
  provider's acknowledgement and still goes by the mandates of before.
- Only a change that the claim did not know counts: one that was registered before the day of the
  claim, or that shows in a state of the register from before it, says nothing against who proved
  it later. A change on the day of the claim counts, as its hour is not known: claiming again costs
  little, a stranger who goes on speaking for a firm much.
- What counts is when it came about, never when it came in: back-fills, imports and records that are
  late tell days and states of before, and change nothing for who claimed after these.
- A batch without a record of these types asks nothing; one about firms for which nobody speaks asks
  one question.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol

from services.datashare.log.domain import Sealer
from services.datashare.mandates import recording
from services.datashare.mandates.domain import Mandate, MandateState, state_at
from services.datashare.records.domain import Incoming

TYPES: Final = frozenset({"officer_change", "registration"})


@dataclass(frozen=True, slots=True)
class Shown:
    """That the register shows another representative than before.

    Args:
        subject_id: the firm.
        record_type: of the record that shows it.
        at: the latest time at which this can have come about, by the records themselves.
    """

    subject_id: str
    record_type: str
    at: datetime


class Register(Protocol):
    """What records of the register say of representatives."""

    async def shown(
        self, provider_id: str, rows: Sequence[tuple[str, Incoming]]
    ) -> Sequence[Shown]:
        """Return the changes of representatives that rows show, before they are stored.

        Args:
            provider_id: whose rows.
            rows: of `TYPES`, no retractions; each with its subject_id.
        """
        ...


class MandateRows(Protocol):
    """Mandates."""

    async def spoken_for(self, subject_ids: Collection[str]) -> set[str]:
        """Return those of the firms that have a mandate that stands and is not suspended."""
        ...

    async def lock_subject(self, subject_id: str) -> Sequence[Mandate]:
        """Return a firm's mandates that nobody ended; nobody acts under them until the end."""
        ...

    async def suspend(self, mandates: Sequence[Mandate], at: datetime) -> None:
        """Suspend locked mandates."""
        ...


class Work(recording.Work, Protocol):
    """What watching needs in a transaction."""

    @property
    def mandates(self) -> MandateRows:
        """Mandates."""
        ...

    @property
    def register(self) -> Register:
        """What records of the register say of representatives."""
        ...


class RegisterWatch:
    """Suspends the mandates of firms whose representative changed.

    Args:
        sealer: makes leaves.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    async def __call__(
        self, work: Work, provider_id: str, rows: Sequence[tuple[str, Incoming]], now: datetime
    ) -> None:
        """Look at accepted rows, before they are stored and before the feed is written.

        Args:
            work: their transaction.
            provider_id: whose rows.
            rows: each with its subject_id.
            now: when they are recorded.
        """
        rows = [(id_, row) for id_, row in rows if row.record_type in TYPES and not row.retracted]
        if not rows:
            return
        spoken_for = await work.mandates.spoken_for({subject_id for subject_id, _ in rows})
        rows = [(subject_id, row) for subject_id, row in rows if subject_id in spoken_for]
        if not rows:
            return
        latest: dict[str, Shown] = {}
        for shown in await work.register.shown(provider_id, rows):
            known = latest.get(shown.subject_id)
            if known is None or shown.at > known.at:
                latest[shown.subject_id] = shown
        for subject_id, shown in sorted(latest.items()):
            await self._suspend(work, subject_id, shown, provider_id, now)

    async def _suspend(
        self, work: Work, subject_id: str, shown: Shown, provider_id: str, now: datetime
    ) -> None:
        standing = await work.mandates.lock_subject(subject_id)
        claims = [each.since for each in standing if each.is_representative]
        if any(since > shown.at for since in claims):
            return
        active = [each for each in standing if state_at(each, now) is MandateState.ACTIVE]
        await work.mandates.suspend(active, now)
        await recording.record(
            work,
            self._sealer,
            [replace(each, suspended_at=now) for each in active],
            "suspended",
            provider_id,
            now,
            record_type=shown.record_type,
        )
