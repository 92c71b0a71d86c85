"""How an institution comes to take part, and leaves.

    APPLIED -> LICENCE_CHECKED -> CONFORMANT -> APPROVED -> ACTIVE <-> SUSPENDED

and from everywhere to EXITED, for good. A licence may be checked again at any later standing, as it
is renewed or withdrawn; that changes the products and not the standing.

Invariants:

- Each step is on record with who took it, what it rests on and a leaf in the log.
- Who approves first does not approve second, and the applicant approves nothing of its own. Both
  approve the same licence: one that is checked between them makes the second one the first.
- Two persons are told apart by their ids where both are known; otherwise two accounts are, and the
  names that they go by.
- A licence that has ended lets nobody become active or be reinstated.
- Steps are checked anew after exit: who comes back, comes as another participant.
"""

import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from services.datashare.china import china_date
from services.datashare.log.domain import Json, rfc3339
from services.datashare.participants.domain import Participant, Role, Standing
from services.kit.errors import FailedPreconditionError, PermissionDeniedError, invalid_field
from services.kit.identity import Caller

SANDBOX_NOTE: Final = "sandbox: taken at once, nothing was checked"
_SHA256_BYTES: Final = 32


class Step(StrEnum):
    """What happened: names of `puhui.datashare.v1.ParticipantStep` without the prefix."""

    APPLIED = "APPLIED"
    LICENCE_CHECKED = "LICENCE_CHECKED"
    CONFORMANT = "CONFORMANT"
    APPROVED = "APPROVED"
    ACTIVATED = "ACTIVATED"
    SUSPENDED = "SUSPENDED"
    REINSTATED = "REINSTATED"
    EXITED = "EXITED"


_LICENSED: Final = frozenset(
    {
        Standing.LICENCE_CHECKED,
        Standing.CONFORMANT,
        Standing.APPROVED,
        Standing.ACTIVE,
        Standing.SUSPENDED,
    }
)
# From which standing each step may be taken; to which it leads, `_reached` says.
_FROM: Final[Mapping[Step, frozenset[Standing]]] = MappingProxyType(
    {
        Step.LICENCE_CHECKED: _LICENSED | {Standing.APPLIED},
        Step.CONFORMANT: frozenset({Standing.LICENCE_CHECKED}),
        Step.APPROVED: frozenset({Standing.CONFORMANT}),
        Step.ACTIVATED: frozenset({Standing.APPROVED}),
        Step.SUSPENDED: frozenset({Standing.ACTIVE}),
        Step.REINSTATED: frozenset({Standing.SUSPENDED}),
        Step.EXITED: _LICENSED | {Standing.APPLIED},
    }
)
# Firms take part once they are registered, and need no licence.
_OF_FIRMS: Final = frozenset({Step.SUSPENDED, Step.REINSTATED, Step.EXITED})
_NEEDS_LICENCE: Final = frozenset({Step.CONFORMANT, Step.APPROVED, Step.ACTIVATED})
_WITHOUT_EVIDENCE: Final = frozenset(
    {Step.APPLIED, Step.ACTIVATED, Step.SUSPENDED, Step.REINSTATED}
)
_ADMISSION: Final = (
    Step.APPLIED,
    Step.LICENCE_CHECKED,
    Step.CONFORMANT,
    Step.APPROVED,
    Step.ACTIVATED,
)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who takes a step.

    Args:
        participant_id: the account.
        person_id: the person, where the account's credentials tell; else empty.
        name: of the account, as registered.
    """

    participant_id: str
    person_id: str = ""
    name: str = ""

    def is_also(self, other: "Actor") -> bool:
        """Tell whether this may be the same person as another."""
        if self.person_id and other.person_id:
            return self.person_id == other.person_id
        name = _letters(self.name)
        same_name = bool(name) and name == _letters(other.name)
        return self.participant_id == other.participant_id or same_name


def actor(caller: Caller) -> Actor:
    """Return who is calling, as one who takes steps."""
    return Actor(caller.participant_id, caller.person_id, caller.name)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a step rests on: a document that is not kept here.

    Args:
        kind: what it is.
        reference: where it is kept, or its number.
        sha256: of the document; empty where it is not known.
        dated: its day.
        ends: its last day; None has no end.
    """

    kind: str
    reference: str
    sha256: bytes
    dated: date
    ends: date | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A step that was taken.

    Args:
        step: what happened.
        at: when.
        by: who did it.
        evidence: what it rests on.
        products: of a licence that was checked, what it is for.
        note: why.
        leaf_id: of the leaf that attests it; empty until it has one.
    """

    step: Step
    at: datetime
    by: Actor
    evidence: Evidence | None = None
    products: tuple[str, ...] = ()
    note: str = ""
    leaf_id: str = ""


def applied(at: datetime, by: Actor) -> Event:
    """Return the first step of an institution."""
    return Event(Step.APPLIED, at, by)


def admitted(at: datetime, by: Actor, products: Collection[str]) -> Sequence[Event]:
    """Return the steps of an institution of the sandbox, all taken at once and marked so."""
    return [
        Event(
            step,
            at,
            by,
            products=tuple(sorted(products)) if step is Step.LICENCE_CHECKED else (),
            note=SANDBOX_NOTE,
        )
        for step in _ADMISSION
    ]


def take(
    participant: Participant,
    history: Sequence[Event],
    event: Event,
    *,
    products: Collection[str],
) -> Participant:
    """Return a participant after a step.

    Args:
        participant: before it.
        history: its earlier steps.
        event: the step.
        products: those that there are.

    Raises:
        InvalidArgumentError: FIELD_INVALID, evidence or products are missing, wrong or too many.
        FailedPreconditionError: PARTICIPANT_STATE, the standing or the licence does not allow it.
        PermissionDeniedError: SECOND_PERSON_REQUIRED.
    """
    today = china_date(event.at)
    _check_said(event, today, products)
    _check_standing(participant, event.step)
    if event.step in _NEEDS_LICENCE or event.step is Step.REINSTATED:
        _check_licence(participant, today)
    match event.step:
        case Step.LICENCE_CHECKED:
            first = participant.standing is Standing.APPLIED
            return replace(
                participant,
                standing=Standing.LICENCE_CHECKED if first else participant.standing,
                products=tuple(sorted(set(event.products))),
                licence_ends=event.evidence.ends if event.evidence else None,
            )
        case Step.APPROVED:
            return _approved(participant, history, event)
        case step:
            return replace(participant, standing=_REACHED[step])


_REACHED: Final[Mapping[Step, Standing]] = MappingProxyType(
    {
        Step.CONFORMANT: Standing.CONFORMANT,
        Step.ACTIVATED: Standing.ACTIVE,
        Step.SUSPENDED: Standing.SUSPENDED,
        Step.REINSTATED: Standing.ACTIVE,
        Step.EXITED: Standing.EXITED,
    }
)


def content(participant_id: str, event: Event) -> Mapping[str, Json]:
    """Return what the leaf of a step attests."""
    evidence = event.evidence
    return {
        "at": rfc3339(event.at),
        "by": {"participant_id": event.by.participant_id, "person_id": event.by.person_id},
        "evidence": None
        if evidence is None
        else {
            "dated": evidence.dated.isoformat(),
            "ends": evidence.ends.isoformat() if evidence.ends else None,
            "kind": evidence.kind,
            "reference": evidence.reference,
            "sha256": evidence.sha256.hex(),
        },
        "note": event.note,
        "participant_id": participant_id,
        "products": list(event.products),
        "step": event.step.value,
    }


def _approved(participant: Participant, history: Sequence[Event], event: Event) -> Participant:
    if event.by.participant_id == participant.participant_id:
        raise PermissionDeniedError(
            "SECOND_PERSON_REQUIRED", "nobody approves for its own account: let others do it"
        )
    checked = max(
        (at for at, each in enumerate(history) if each.step is Step.LICENCE_CHECKED), default=0
    )
    earlier = [each for each in history[checked:] if each.step is Step.APPROVED]
    if any(event.by.is_also(each.by) for each in earlier):
        raise PermissionDeniedError(
            "SECOND_PERSON_REQUIRED",
            "who approved cannot approve again: let another person do it, with an account of "
            "their own",
        )
    return replace(participant, standing=Standing.APPROVED) if earlier else participant


def _check_said(event: Event, today: date, products: Collection[str]) -> None:
    step, evidence = event.step, event.evidence
    if (step is Step.LICENCE_CHECKED) != bool(event.products):
        problem = (
            "is needed: say what the licence is for"
            if step is Step.LICENCE_CHECKED
            else "belongs to LICENCE_CHECKED alone: leave it out"
        )
        raise invalid_field("FIELD_INVALID", "products", problem)
    if unknown := sorted(set(event.products) - set(products)):
        known = ", ".join(sorted(products))
        problem = f"names {', '.join(unknown)}, which is no product: one of {known}"
        raise invalid_field("FIELD_INVALID", "products", problem)
    if evidence is None:
        if step not in _WITHOUT_EVIDENCE:
            problem = "is needed: name the document that the step rests on, and its day"
            raise invalid_field("FIELD_INVALID", "evidence", problem)
        return
    if evidence.sha256 and len(evidence.sha256) != _SHA256_BYTES:
        problem = f"has {len(evidence.sha256)} bytes: send the 32 of SHA-256, or none"
        raise invalid_field("FIELD_INVALID", "evidence.sha256", problem)
    if evidence.dated > today:
        problem = "is in the future: send the day that the document bears"
        raise invalid_field("FIELD_INVALID", "evidence.dated", problem)
    if evidence.ends is not None and evidence.ends < today:
        problem = "is over: a document that has ended proves nothing any more"
        raise invalid_field("FIELD_INVALID", "evidence.ends", problem)


def _check_standing(participant: Participant, step: Step) -> None:
    firm = participant.role is Role.FIRM
    if firm and step not in _OF_FIRMS:
        raise FailedPreconditionError(
            "PARTICIPANT_STATE",
            "a firm takes part once it is registered: this step is for institutions",
        )
    if participant.standing not in _FROM[step]:
        raise FailedPreconditionError(
            "PARTICIPANT_STATE",
            f"{step} does not follow on {participant.standing}: GetParticipant tells what was done",
        )


def _check_licence(participant: Participant, today: date) -> None:
    ends = participant.licence_ends
    if ends is not None and ends < today:
        raise FailedPreconditionError(
            "PARTICIPANT_STATE",
            f"its licence ended on {ends.isoformat()}: have the renewed one checked first "
            "(LICENCE_CHECKED)",
        )


def _letters(name: str) -> str:
    """Return what of a name tells people apart: no width, case, blanks, marks or what is unseen."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(sign for sign in folded if unicodedata.category(sign)[0] in "LN")
