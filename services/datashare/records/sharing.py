"""Rows of types that are shared on consent, in the transaction that takes them in.

Invariant: no such row is stored after the withdrawal of its consent was acknowledged, as the
consents that let rows in are held until the commit.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.datashare.china import date_of_day
from services.datashare.consent.domain import Consent, Period
from services.datashare.consent.supply import why_not
from services.datashare.participants.domain import Participant, Role
from services.datashare.records.domain import Incoming, Rejection
from services.kit.clock import Clock


class Consents(Protocol):
    """Consents, by what they made due from a provider."""

    async def hold_due(
        self, provider_id: str, asked: Sequence[tuple[str, str]], now: datetime
    ) -> Mapping[str, Sequence[Consent]]:
        """Return the consents under which something is due, unchangeable until the end.

        Args:
            provider_id: from whom.
            asked: sorted (subject_id, record_type).
            now: those that end before are left out.

        Returns:
            The consents by subject_id.
        """
        ...

    async def once_due(
        self, provider_id: str, asked: Sequence[tuple[str, str]]
    ) -> Mapping[str, Sequence[Consent]]:
        """Return the consents under which something was ever due; they are not held."""
        ...


async def uncovered(
    consents: Consents,
    on_consent: Collection[str],
    provider: Participant,
    rows: Iterable[tuple[str, Incoming]],
    clock: Clock,
) -> list[Rejection]:
    """Return why rows that need a consent may not come in, those that may not.

    The consents that let the others in are held.

    Args:
        consents: in a write transaction.
        on_consent: the types that are shared on consent.
        provider: whose rows they are.
        rows: each with its subject_id.
        clock: the time at which a consent must stand.
    """
    own = provider.subject_id if provider.role is Role.FIRM else None
    needing = [
        (subject_id, row)
        for subject_id, row in rows
        if row.record_type in on_consent
        and subject_id != own
        and not (row.retracted and not row.payload)
    ]
    if not needing:
        return []
    provider_id = provider.participant_id
    asked = sorted({(subject_id, row.record_type) for subject_id, row in needing})
    held = await consents.hold_due(provider_id, asked, clock.now())
    # Only now, as the locks may have been waited for: a consent must stand at this time.
    now = clock.now()

    def refused(
        found: Mapping[str, Sequence[Consent]], asking: Iterable[tuple[str, Incoming]]
    ) -> list[tuple[str, Incoming, Rejection]]:
        answers = []
        for subject_id, row in asking:
            occurred = Period(
                date_of_day(row.occurred_from),
                date_of_day(row.occurred_to),
            )
            known = found.get(subject_id, ())
            problem = why_not(known, provider_id, row.record_type, occurred, now)
            if problem:
                answers.append((subject_id, row, Rejection(row.row, *problem)))
        return answers

    out = refused(held, needing)
    if not out:
        return []
    # They stay out whatever comes; consents that are over say why.
    asked = sorted({(subject_id, row.record_type) for subject_id, row, _ in out})
    once = await consents.once_due(provider_id, asked)
    why = {row.row: reason for _, row, reason in refused(once, (item[:2] for item in out))}
    return [why.get(row.row, reason) for _, row, reason in out]
