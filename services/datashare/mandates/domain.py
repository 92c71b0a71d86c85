"""Mandates: which account speaks for which firm, and what it may do.

Invariants:

- An account has at most one mandate that has not ended, so it acts for one firm at most.
- A firm has at most one representative. The representative may do everything, has proved who it is,
  and alone appoints delegates; a delegate may do what its powers name, until its mandate's end.
- The newest proof wins: a claim ends every earlier mandate of the firm, so that nobody goes on who
  was appointed by a representative of before. A proof from before the claim that stands, or from
  before the register showed another representative, gives nothing back to who kept it. The end of
  the representative's mandate ends those of its delegates.
- When the register shows another representative, every mandate of the firm is suspended, and none
  is ever taken up again: only a new claim gives new ones.
- Mandates are ended, never deleted or changed otherwise.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.datashare.changes.domain import Change, ChangeKind
from services.datashare.log.domain import Json, rfc3339
from services.kit.errors import PermissionDeniedError, invalid_field


class Power(StrEnum):
    """What an account may do for a firm: names of `puhui.datashare.v1.Power` without the prefix."""

    READ = "READ"
    GRANT = "GRANT"
    WITHDRAW = "WITHDRAW"
    DISPUTE = "DISPUTE"
    SUBMIT = "SUBMIT"


ALL_POWERS: Final = frozenset(Power)
BY_OPERATOR: Final = "operator"


class MandateKind(StrEnum):
    """How an account came to speak for a firm."""

    REPRESENTATIVE = "REPRESENTATIVE"
    DELEGATE = "DELEGATE"


class MandateState(StrEnum):
    """Whether a mandate gives power."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    ENDED = "ENDED"


@dataclass(frozen=True, slots=True)
class Mandate:
    """That an account speaks for a firm.

    Args:
        mandate_id: opaque, ascending with time.
        subject_id: the firm.
        participant_id: the account.
        kind: representative or delegate.
        powers: what it may do; of a representative all.
        since: from when on.
        appointed_by: of a delegate the representative's account, else empty.
        until: its end, if it was given one.
        suspended_at: since when the register shows another representative.
        ended_at: when somebody ended it.
        proved_by: of a representative how it was proved, else empty.
    """

    mandate_id: str
    subject_id: str
    participant_id: str
    kind: MandateKind
    powers: frozenset[Power]
    since: datetime
    appointed_by: str = ""
    until: datetime | None = None
    suspended_at: datetime | None = None
    ended_at: datetime | None = None
    proved_by: str = ""

    @property
    def principal_id(self) -> str:
        """The representative's account, in whose name this one acts."""
        return self.appointed_by or self.participant_id

    @property
    def is_representative(self) -> bool:
        """Whether it is the firm's representative's."""
        return self.kind is MandateKind.REPRESENTATIVE

    @property
    def names(self) -> Mapping[str, str]:
        """Both who are named in each act: the representative's account and the one that acts."""
        return {"principal_id": self.principal_id, "delegate_id": self.participant_id}


@dataclass(frozen=True, slots=True)
class SigningRule:
    """How many of which accounts must agree before a consent of a firm is active.

    Args:
        signer_ids: accounts; none is everyone who may grant.
        required: how many of them.
    """

    signer_ids: tuple[str, ...] = ()
    required: int = 1


ANY_ONE: Final = SigningRule()


def registered(mandate_id: str, subject_id: str, participant_id: str, at: datetime) -> Mandate:
    """Return the mandate of the account with which the operator registers a firm."""
    return Mandate(
        mandate_id=mandate_id,
        subject_id=subject_id,
        participant_id=participant_id,
        kind=MandateKind.REPRESENTATIVE,
        powers=ALL_POWERS,
        since=at,
        proved_by=BY_OPERATOR,
    )


def state_at(mandate: Mandate, now: datetime) -> MandateState:
    """Return whether a mandate gives power; its end is computed from the time."""
    if ended_at(mandate, now) is not None:
        return MandateState.ENDED
    return MandateState.ACTIVE if mandate.suspended_at is None else MandateState.SUSPENDED


def ended_at(mandate: Mandate, now: datetime) -> datetime | None:
    """Return when a mandate ended, by somebody or by its own time, if it has."""
    if mandate.ended_at is not None:
        return mandate.ended_at
    return mandate.until if mandate.until is not None and mandate.until <= now else None


def read_by(mandate: Mandate | None, now: datetime) -> str | None:
    """Return the firm about which the account of a mandate may read now."""
    if mandate is None or state_at(mandate, now) is not MandateState.ACTIVE:
        return None
    return mandate.subject_id if Power.READ in mandate.powers else None


def require_power(mandate: Mandate | None, power: Power, now: datetime) -> Mandate:
    """Return the mandate under which an account acts.

    Args:
        mandate: of the account, if it has one that was not ended; held in the act's transaction.
        power: that the act needs.
        now: the act's time.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    return require_any(mandate, (power,), now)


def require_any(mandate: Mandate | None, powers: Collection[Power], now: datetime) -> Mandate:
    """Return the mandate under which an account acts that needs one of some powers.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    found = require_active(mandate, now)
    if found.powers.isdisjoint(powers):
        needed = " or ".join(sorted(powers))
        raise _required(
            f"this account's mandate does not have the power {needed}: ask the firm's "
            "representative to appoint it anew with it"
        )
    return found


def require_active(mandate: Mandate | None, now: datetime) -> Mandate:
    """Return the mandate of an account that speaks for a firm now, with whatever powers.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    if mandate is None:
        raise _required(
            "this account speaks for no firm: claim the firm with a proof of who you are, or have "
            "its representative appoint this account"
        )
    match state_at(mandate, now):
        case MandateState.SUSPENDED:
            raise _required(
                "this account's mandate is suspended, because the register shows another "
                "representative of the firm: the representative must claim the firm anew"
            )
        case MandateState.ENDED:
            raise _required(
                "this account's mandate has ended: ask the firm's representative to appoint it anew"
            )
    return mandate


def require_representative(mandate: Mandate | None, now: datetime) -> Mandate:
    """Return the mandate of a firm's representative.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    found = require_active(mandate, now)
    if not found.is_representative:
        raise _required("this is for the firm's representative alone: ask the representative")
    return found


def check_end(until: datetime | None, now: datetime) -> None:
    """Refuse a mandate that would end before it begins.

    Raises:
        InvalidArgumentError: DATE_INVALID.
    """
    if until is not None and until <= now:
        problem = "is not in the future: name a later time, or leave it out for no end"
        raise invalid_field("DATE_INVALID", "until", problem)


def check_newer(issued_at: datetime | None, standing: Collection[Mandate]) -> None:
    """Refuse a proof that is older than what has become of its firm's mandates since.

    Args:
        issued_at: of the proof, if it says it.
        standing: the firm's mandates that nobody ended.

    Raises:
        PermissionDeniedError: PROOF_INVALID.
    """
    if issued_at is None:
        return
    known = [each.since for each in standing if each.is_representative]
    known += [each.suspended_at for each in standing if each.suspended_at is not None]
    if any(issued_at <= at for at in known):
        raise PermissionDeniedError(
            "PROOF_INVALID",
            "the proof is older than the claim of the representative that stands, or than its "
            "suspension: ask for a new one",
        )


def check_rule(rule: SigningRule, mandates: Collection[Mandate], now: datetime) -> None:
    """Refuse a signing rule that can never be met.

    Args:
        rule: names its signers.
        mandates: of the firm.
        now: the time.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    signers = {
        mandate.participant_id
        for mandate in mandates
        if allows(mandate, mandate.subject_id, Power.GRANT, now)
    }
    for position, signer_id in enumerate(rule.signer_ids):
        if signer_id not in signers:
            problem = (
                "has no mandate of the firm with the power GRANT: appoint it first, or leave it out"
            )
            raise invalid_field("FIELD_INVALID", f"rule.signer_ids[{position}]", problem)
    if rule.required > len(rule.signer_ids):
        problem = f"is more than the {len(rule.signer_ids)} signers named: name more, or ask fewer"
        raise invalid_field("FIELD_INVALID", "rule.required", problem)


def allows(mandate: Mandate | None, subject_id: str, power: Power, now: datetime) -> bool:
    """Tell whether an account may do something for a firm.

    Args:
        mandate: of the account, if it has one that was not ended.
        subject_id: the firm.
        power: that is needed.
        now: the time.
    """
    return (
        mandate is not None
        and mandate.subject_id == subject_id
        and state_at(mandate, now) is MandateState.ACTIVE
        and power in mandate.powers
    )


def ended(mandate: Mandate, now: datetime) -> Mandate:
    """Return a mandate that somebody ends now; one whose time is over ended then."""
    return replace(mandate, ended_at=ended_at(mandate, now) or now)


def change_of(mandate: Mandate, at: datetime) -> Change:
    """Return what the feed says of a mandate that was given, suspended or ended."""
    return Change(
        ChangeKind.MANDATE_CHANGED,
        at,
        subject_id=mandate.subject_id,
        participant_id=mandate.participant_id,
    )


def change_content(
    mandate: Mandate, action: str, by: str, at: datetime, **more: Json
) -> Mapping[str, Json]:
    """Return what the leaf of a mandate's change attests.

    Args:
        mandate: as it is after the change.
        action: "claimed", "appointed", "suspended" or "ended".
        by: the account that did it; of a suspension the provider whose record shows it.
        at: when.
        more: what else is attested.
    """
    return {
        "action": action,
        "at": rfc3339(at),
        "by": by,
        "kind": mandate.kind,
        "mandate_id": mandate.mandate_id,
        "powers": sorted(mandate.powers),
        "proved_by": mandate.proved_by,
        "subject_id": mandate.subject_id,
        "until": rfc3339(mandate.until) if mandate.until else None,
        **mandate.names,
        **more,
    }


def _required(problem: str) -> PermissionDeniedError:
    return PermissionDeniedError("MANDATE_REQUIRED", problem)
