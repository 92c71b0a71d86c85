"""Incidents: what was seen, and what was done about it.

Invariants:

- Steps of the handling are added, never changed or taken back; opening and each step has a leaf.
- A closed incident stays closed: what is seen anew is another incident.
- The operator and the regulator see all. A participant sees those that concern it once the operator
  shares them: the steps from then on, and not which person of the operator took them.
- Words name no registration number.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.datashare.log.domain import Json, rfc3339
from services.datashare.participants.domain import Role
from services.kit.errors import FailedPreconditionError, NotFoundError, invalid_field
from services.kit.identity import Caller

MANUAL: Final = "manual"
MOST_ACCESSES: Final = 100
SEE_ALL: Final = frozenset({Role.OPERATOR, Role.REGULATOR})

# As GB 32100-2015 writes a code; what only looks like one is no word either.
_REGISTRATION_NUMBER: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9A-HJ-NPQRTUWXY]{2}\d{6}[0-9A-HJ-NPQRTUWXY]{10}(?![0-9A-Za-z])",
    re.IGNORECASE,
)


class Severity(StrEnum):
    """How grave: names of `IncidentSeverity` without the prefix."""

    NOTICE = "NOTICE"
    WARNING = "WARNING"
    GRAVE = "GRAVE"


class State(StrEnum):
    """Where the handling stands: names of `IncidentState` without the prefix."""

    OPEN = "OPEN"
    TAKEN = "TAKEN"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the handling.

    Args:
        at: when.
        by_participant_id: of the operator.
        by_person_id: who, where the credentials were a person's.
        state: of the incident from then on.
        note: what was done.
        reference: who told it whom.
    """

    at: datetime
    by_participant_id: str
    by_person_id: str
    state: State
    note: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident.

    Args:
        incident_id: opaque.
        rule: of the watch, or `MANUAL`.
        severity: how grave.
        state: where the handling stands.
        participant_id: whom it concerns; "" where nobody was proved.
        opened_at: when it was entered.
        summary_zh: what was seen.
        summary_en: the same.
        observed: what the rule counted, the most of its windows.
        threshold: from which on it is an incident.
        window_begin: of the first window in which it was seen.
        window_end: of the last one.
        access_ids: that show it.
        shared_at: from when on the participant sees it; None is never.
        repeats: further windows in which it was seen.
        handling: in its order.
    """

    incident_id: str
    rule: str
    severity: Severity
    state: State
    participant_id: str
    opened_at: datetime
    summary_zh: str
    summary_en: str
    observed: float = 0.0
    threshold: float = 0.0
    window_begin: datetime | None = None
    window_end: datetime | None = None
    access_ids: tuple[str, ...] = ()
    shared_at: datetime | None = None
    repeats: int = 0
    handling: tuple[Step, ...] = ()

    def handled(self, step: Step, *, share: bool) -> "Incident":
        """Return it after a step; a step to OPEN leaves the state as it is.

        Raises:
            FailedPreconditionError: INCIDENT_STATE.
        """
        if self.state is State.CLOSED:
            raise FailedPreconditionError(
                "INCIDENT_STATE", "the incident is closed: open another one for what came after"
            )
        state = self.state if step.state is State.OPEN else step.state
        return replace(
            self,
            state=state,
            shared_at=self.shared_at or (step.at if share else None),
            handling=(*self.handling, replace(step, state=state)),
        )

    def shown_to(self, caller: Caller) -> "Incident":
        """Return what a caller sees of it.

        Raises:
            NotFoundError: NOT_FOUND, it is nothing to this caller.
        """
        if caller.role in SEE_ALL:
            return self
        if self.shared_at is None or caller.participant_id != self.participant_id:
            raise no_incident()
        return replace(
            self,
            handling=tuple(
                replace(step, by_person_id="")
                for step in self.handling
                if step.at >= self.shared_at
            ),
        )


def no_incident() -> NotFoundError:
    """Return the refusal of an incident that is not there for the caller."""
    return NotFoundError(
        "NOT_FOUND", "there is no such incident: ListIncidents names those you see"
    )


def check_words(**texts: str) -> None:
    """Refuse words with a registration number.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    for name, text in texts.items():
        if _REGISTRATION_NUMBER.search(text):
            problem = "has a registration number: name the subject_id instead"
            raise invalid_field("FIELD_INVALID", name, problem)


def content(incident: Incident) -> Mapping[str, Json]:
    """Return what the leaf of an incident's latest step attests; without steps its opening."""
    attested: dict[str, Json] = {
        "incident_id": incident.incident_id,
        "rule": incident.rule,
        "severity": incident.severity,
        "state": incident.state,
        "participant_id": incident.participant_id,
        "opened_at": rfc3339(incident.opened_at),
        "shared": incident.shared_at is not None,
    }
    if not incident.handling:
        words: Sequence[tuple[str, Json]] = (
            ("summary_zh", incident.summary_zh),
            ("summary_en", incident.summary_en),
            ("access_ids", incident.access_ids),
        )
        return {**attested, **dict(words)}
    step = incident.handling[-1]
    return {
        **attested,
        "step": len(incident.handling),
        "at": rfc3339(step.at),
        "by_participant_id": step.by_participant_id,
        "by_person_id": step.by_person_id,
        "note": step.note,
        "reference": step.reference,
    }
