"""A fake of the port of mandates, on tables in memory."""

from collections.abc import Collection, MutableMapping, Sequence
from dataclasses import replace
from datetime import datetime

from services.datashare.mandates.domain import (
    Mandate,
    MandateKind,
    Power,
    SigningRule,
    registered,
)
from services.datashare.participants.domain import Participant
from services.kit.errors import UnavailableError


class FakeMandates:
    def __init__(
        self,
        rows: MutableMapping[str, Mandate],
        rules: MutableMapping[str, SigningRule],
        proofs: MutableMapping[str, datetime],
    ) -> None:
        self._rows = rows
        self._rules = rules
        self._proofs = proofs

    async def add(self, added: Mandate) -> None:
        for row in self._rows.values():
            if row.ended_at is None and (
                row.participant_id == added.participant_id
                or (
                    row.subject_id == added.subject_id
                    and row.is_representative
                    and added.is_representative
                )
            ):
                raise UnavailableError("UNAVAILABLE", "lost a race: try again")
        self._rows[added.mandate_id] = added

    async def get(self, participant_id: str) -> Mandate | None:
        found = [row for row in self._rows.values() if row.participant_id == participant_id]
        return next((row for row in found if row.ended_at is None), None)

    hold = get

    async def lock_subject(self, subject_id: str) -> Sequence[Mandate]:
        return [
            row
            for _, row in sorted(self._rows.items())
            if row.subject_id == subject_id and row.ended_at is None
        ]

    async def spoken_for(self, subject_ids: Collection[str]) -> set[str]:
        return {
            row.subject_id
            for row in self._rows.values()
            if row.subject_id in subject_ids and row.ended_at is None and row.suspended_at is None
        }

    async def accounts_of(self, subject_id: str, participant_ids: Collection[str]) -> set[str]:
        return {
            row.participant_id
            for row in self._rows.values()
            if row.subject_id == subject_id and row.participant_id in participant_ids
        }

    async def end(self, mandates: Collection[Mandate]) -> None:
        for each in mandates:
            row = self._rows[each.mandate_id]
            self._rows[each.mandate_id] = replace(row, ended_at=each.ended_at)

    async def suspend(self, mandates: Collection[Mandate], at: datetime) -> None:
        for each in mandates:
            self._rows[each.mandate_id] = replace(self._rows[each.mandate_id], suspended_at=at)

    async def page(self, subject_id: str, before: str, limit: int) -> Sequence[Mandate]:
        return [
            row
            for mandate_id, row in sorted(self._rows.items(), reverse=True)
            if row.subject_id == subject_id and (not before or mandate_id < before)
        ][:limit]

    async def rule(self, subject_id: str) -> SigningRule | None:
        return self._rules.get(subject_id)

    async def set_rule(self, subject_id: str, rule: SigningRule | None) -> None:
        self._rules.pop(subject_id, None)
        if rule is not None:
            self._rules[subject_id] = rule

    async def use_proof(self, proof_id: str, at: datetime) -> bool:
        fresh = proof_id not in self._proofs
        self._proofs.setdefault(proof_id, at)
        return fresh


def delegated(before: Mandate, *powers: Power) -> Mandate:
    """Return a mandate of the same account that was appointed for these powers."""
    return replace(
        before,
        mandate_id=f"{before.mandate_id}_2",
        kind=MandateKind.DELEGATE,
        powers=frozenset(powers),
        appointed_by="par_boss",
    )


def representative(firm: Participant) -> Mandate:
    """Return the mandate of a firm that the operator registered."""
    assert firm.subject_id
    mandate_id = f"man_{firm.participant_id}"
    return registered(mandate_id, firm.subject_id, firm.participant_id, firm.registered_at)
