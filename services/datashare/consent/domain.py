"""Consents: terms that never change, a state that does, and what a consent allows.

Invariants:

- The core (ids and terms) is fixed when the consent is requested. Other terms are another consent,
  which may name the one that it is to replace.
- `TRANSITIONS` is all that can happen to a state; what it does not name is refused, and a state
  that it does not lead out of is never left. LAPSED and EXPIRED are computed from the time,
  CONSUMED from the use, never stored; so is the PAUSED of a consent whose recipient is suspended.
- Nothing is open until all required signers agreed to these very bytes.
- `revision` is 1 at the request and grows by 1 with each change of the stored state and each
  signer's approval.
- A fetch that reaches beyond the terms is refused, never trimmed.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import rfc8785

from services.datashare.catalogue.domain import ContentLevel
from services.datashare.log.domain import Json, rfc3339
from services.datashare.mandates.domain import ANY_ONE, Mandate, SigningRule
from services.datashare.quota.domain import ONE_TIME, Limit
from services.kit.errors import (
    FailedPreconditionError,
    FieldProblem,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)

SCHEMA_VERSION: Final = 2
"""Of the cores that are made now; 1 is read still."""


class State(StrEnum):
    """Where a consent stands: names of `ConsentState` without the prefix."""

    REQUESTED = "REQUESTED"
    PARTIALLY_APPROVED = "PARTIALLY_APPROVED"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    REJECTED = "REJECTED"
    LAPSED = "LAPSED"
    WITHDRAWN = "WITHDRAWN"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"
    CONSUMED = "CONSUMED"
    SUPERSEDED = "SUPERSEDED"


class Action(StrEnum):
    """What happens to a consent."""

    APPROVE = "approve"
    GRANT = "grant"
    REJECT = "reject"
    WITHDRAW = "withdraw"
    REVOKE = "revoke"
    PAUSE = "pause"
    RESUME = "resume"
    SUPERSEDE = "supersede"
    LAPSE = "lapse"
    EXPIRE = "expire"
    CONSUME = "consume"
    SUSPEND = "suspend"


DOERS: Final[Mapping[Action, str]] = MappingProxyType(
    {
        Action.APPROVE: "a signer, others are still to",
        Action.GRANT: "the last of the required signers",
        Action.REJECT: "the subject",
        Action.WITHDRAW: "the subject",
        Action.REVOKE: "the recipient or the operator",
        Action.PAUSE: "the subject",
        Action.RESUME: "the subject",
        Action.SUPERSEDE: "a later version that becomes active, in the same transaction",
        Action.LAPSE: "computed: `answer_by` has passed",
        Action.EXPIRE: "computed: `expires_at` has passed",
        Action.CONSUME: "computed: it was for one time, and was used",
        Action.SUSPEND: "computed: the recipient is suspended; reinstating it undoes it",
    }
)
"""Who does what, or what it is computed from."""

TRANSITIONS: Final[Mapping[tuple[State, Action], State]] = MappingProxyType(
    {
        (State.REQUESTED, Action.APPROVE): State.PARTIALLY_APPROVED,
        (State.REQUESTED, Action.GRANT): State.ACTIVE,
        (State.REQUESTED, Action.REJECT): State.REJECTED,
        (State.REQUESTED, Action.WITHDRAW): State.WITHDRAWN,
        (State.REQUESTED, Action.REVOKE): State.REVOKED,
        (State.REQUESTED, Action.LAPSE): State.LAPSED,
        (State.REQUESTED, Action.EXPIRE): State.EXPIRED,
        (State.PARTIALLY_APPROVED, Action.APPROVE): State.PARTIALLY_APPROVED,
        (State.PARTIALLY_APPROVED, Action.GRANT): State.ACTIVE,
        (State.PARTIALLY_APPROVED, Action.REJECT): State.REJECTED,
        (State.PARTIALLY_APPROVED, Action.WITHDRAW): State.WITHDRAWN,
        (State.PARTIALLY_APPROVED, Action.REVOKE): State.REVOKED,
        (State.PARTIALLY_APPROVED, Action.LAPSE): State.LAPSED,
        (State.PARTIALLY_APPROVED, Action.EXPIRE): State.EXPIRED,
        (State.ACTIVE, Action.PAUSE): State.PAUSED,
        (State.ACTIVE, Action.WITHDRAW): State.WITHDRAWN,
        (State.ACTIVE, Action.REVOKE): State.REVOKED,
        (State.ACTIVE, Action.SUPERSEDE): State.SUPERSEDED,
        (State.ACTIVE, Action.CONSUME): State.CONSUMED,
        (State.ACTIVE, Action.EXPIRE): State.EXPIRED,
        (State.ACTIVE, Action.SUSPEND): State.PAUSED,
        (State.PAUSED, Action.RESUME): State.ACTIVE,
        (State.PAUSED, Action.WITHDRAW): State.WITHDRAWN,
        (State.PAUSED, Action.REVOKE): State.REVOKED,
        (State.PAUSED, Action.SUPERSEDE): State.SUPERSEDED,
        (State.PAUSED, Action.CONSUME): State.CONSUMED,
        (State.PAUSED, Action.EXPIRE): State.EXPIRED,
    }
)
"""Every change of state there is."""

OPEN_STATES: Final = frozenset(state for state, _ in TRANSITIONS)
"""States that can be left; all others are terminal."""

STANDING_STATES: Final = frozenset({State.ACTIVE, State.PAUSED})
"""States of a consent that was granted and has not ended."""

_COMPUTED: Final = (Action.CONSUME, Action.LAPSE, Action.EXPIRE, Action.SUSPEND)


class Mode(StrEnum):
    """What a recipient may do with the data: names of `ConsentMode` without the prefix."""

    VIEW = "VIEW"
    STORE = "STORE"


@dataclass(frozen=True, slots=True)
class Period:
    """Reporting dates, both ends included.

    Args:
        first: the first day.
        last: the last day, not before the first.
    """

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError("a period cannot end before it begins")

    def covers(self, other: "Period") -> bool:
        """Tell whether `other` lies within."""
        return self.first <= other.first and other.last <= self.last


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of a type that is opened.

    Args:
        record_type: the type.
        names: fields of the payload or measures.
    """

    record_type: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked for and, once granted, allowed.

    Args:
        purpose: code of the table of purposes.
        provider_ids: participants whose records may be used.
        record_types: types of the catalogue.
        content_level: the highest level.
        data_period: the records' occurrence must lie within.
        not_before: from when on; None is from the grant on.
        expires_at: until when, exclusive.
        fields: what is opened of which type; a type that is not named is opened whole.
        mode: what the recipient may do with the data.
        fetch_limit: how often it may be fetched; None asks for as often as the purpose's ceiling
            allows, and in a core of version 1 is without limit.
        data_life_days: how long the recipient may keep after the end what it stored; 0 unless
            STORE.
        score: a score may be made of it.
        automated_decision: a decision may be made by machine alone.
        onward_recipient_ids: participants to which the recipient may pass it on.
        notice_language: of the notice that the firm is shown, "zh" or "en".
        for_subject_id: the firm whose score the data may enter; empty where that is the subject.
    """

    purpose: str
    provider_ids: tuple[str, ...]
    record_types: tuple[str, ...]
    content_level: ContentLevel
    data_period: Period
    not_before: datetime | None
    expires_at: datetime
    fields: tuple[Selection, ...] = ()
    mode: Mode = Mode.VIEW
    fetch_limit: Limit | None = None
    data_life_days: int = 0
    score: bool = True
    automated_decision: bool = False
    onward_recipient_ids: tuple[str, ...] = ()
    notice_language: str = "zh"
    for_subject_id: str = ""

    @property
    def one_time(self) -> bool:
        """Whether it may be fetched once."""
        return self.fetch_limit == ONE_TIME

    def opened(self, record_type: str) -> frozenset[str] | None:
        """Return the names that are opened of a type; None is all of it."""
        for selection in self.fields:
            if selection.record_type == record_type:
                return frozenset(selection.names)
        return None


@dataclass(frozen=True, slots=True)
class Version:
    """An earlier version of a consent.

    Args:
        consent_id: its id.
        sha256: of its canonical core.
    """

    consent_id: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Core:
    """The part of a consent that never changes.

    Args:
        consent_id: opaque.
        subject_id: the firm.
        recipient_id: the bank.
        terms: what is allowed.
        schema_version: of the canonical document.
        suite: by what the platform signs it; empty in version 1, which it does not sign.
        signers: who of the firm must agree; without names, whoever may grant for the firm.
        purposes_version: of the table of purposes that the code is from.
        notice_sha256: of the notice that the firm is shown; empty where there is none.
        answer_by: when it lapses unless it was granted; None is never.
        supersedes: the version that it replaces.
    """

    consent_id: str
    subject_id: str
    recipient_id: str
    terms: Terms
    schema_version: int = SCHEMA_VERSION
    suite: str = ""
    signers: SigningRule = ANY_ONE
    purposes_version: int = 0
    notice_sha256: bytes = b""
    answer_by: datetime | None = None
    supersedes: Version | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """A signer's approval.

    Args:
        signer_id: who agreed.
        jws: over the canonical core, detached; empty of a signer without a signing key, who agreed
            by its authenticated call.
    """

    signer_id: str
    jws: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What attests the end of a consent.

    Args:
        canonical: as RFC 8785 canonical JSON.
        jws: the platform's, detached.
    """

    canonical: bytes
    jws: str


@dataclass(frozen=True, slots=True)
class Consent:
    """A consent as it stands.

    Args:
        core: what never changes.
        canonical: the core as RFC 8785 canonical JSON.
        sha256: of `canonical`.
        state: the stored state; `state_at` computes what the time and the use make of it.
        revision: counts the changes of state and the approvals, from 1.
        signatures: the approvals.
        requested_at: when it was asked for.
        changed_at: when the state last changed.
        note: why it was rejected, paused, withdrawn or revoked.
        notice: the text whose hash is in the core.
        platform_jws: the platform's over `canonical`, detached; empty of version 1.
        superseded_by: the version that replaced it.
        termination: once it ended by an act.
        used: fetches in the running period of its limit.
        suspended: its recipient is.
        end_told: the parties were told of its end.
    """

    core: Core
    canonical: bytes
    sha256: bytes
    state: State
    revision: int
    signatures: tuple[Signature, ...]
    requested_at: datetime
    changed_at: datetime
    note: str = ""
    notice: str = ""
    platform_jws: str = ""
    superseded_by: str = ""
    termination: Receipt | None = None
    used: int = 0
    suspended: bool = False
    end_told: bool = False


@dataclass(frozen=True, slots=True)
class Officer:
    """Who acts at an institution.

    Args:
        name: of the person, or its number.
        file_reference: the institution's file that the act belongs to.
    """

    name: str
    file_reference: str


@dataclass(frozen=True, slots=True)
class Attestation:
    """That a recipient erased what it stored.

    Args:
        at: when it said so.
        officer: who said so.
        statement: what was done, in the recipient's words.
    """

    at: datetime
    officer: Officer
    statement: str


@dataclass(frozen=True, slots=True)
class Duty:
    """What a recipient must erase and by when.

    Args:
        consent_id: under which it was stored.
        subject_id: whose data.
        recipient_id: who must.
        ended_at: when the consent ended.
        due_at: until when.
        attestation: that it was done; None until then.
    """

    consent_id: str
    subject_id: str
    recipient_id: str
    ended_at: datetime
    due_at: datetime
    attestation: Attestation | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a fetch wants to be covered by a consent.

    Args:
        recipient_id: who asks.
        subject_id: about whom.
        purpose: what for.
        record_types: the types that need consent.
        provider_ids: whose records; empty leaves it to the consent.
        period: when they occurred; None leaves it to the consent.
        content_level: the level.
        fields: names by type; a type that is not named leaves them to the consent.
        score: a score is made of it.
        automated_decision: a decision is made of it by machine alone.
        for_subject_id: the firm whose score it is for; empty is that of the subject itself.
    """

    recipient_id: str
    subject_id: str
    purpose: str
    record_types: frozenset[str]
    content_level: ContentLevel
    provider_ids: frozenset[str] = frozenset()
    period: Period | None = None
    fields: Mapping[str, frozenset[str]] = field(default_factory=dict)
    score: bool = False
    automated_decision: bool = False
    for_subject_id: str = ""


def state_at(consent: Consent, now: datetime) -> State:
    """Return the state at a time: the stored one, or what the time and the use make of it."""
    state = consent.state
    if state in OPEN_STATES:
        for action in _happened(consent, now):
            state = TRANSITIONS.get((state, action), state)
    return state


def _happened(consent: Consent, now: datetime) -> Iterator[Action]:
    """Give what has happened to a consent by itself, in the order in which it counts."""
    core = consent.core
    if core.terms.one_time and consent.used:
        yield Action.CONSUME
    if core.answer_by is not None and now >= core.answer_by:
        yield Action.LAPSE
    if now >= core.terms.expires_at:
        yield Action.EXPIRE
    if consent.suspended:
        yield Action.SUSPEND


def advance(
    consent: Consent,
    action: Action,
    now: datetime,
    *,
    note: str = "",
    signatures: tuple[Signature, ...] = (),
) -> Consent:
    """Return the consent after an action.

    Args:
        consent: as it stands.
        action: what is done.
        now: when.
        note: why, in the words of who does it.
        signatures: those that come with a grant.

    Raises:
        FailedPreconditionError: CONSENT_STATE, there is no such transition.
    """
    # That its recipient is suspended keeps nobody from acting on it.
    state = state_at(replace(consent, suspended=False), now)
    target = TRANSITIONS.get((state, action))
    if target is None or action in _COMPUTED:
        raise FailedPreconditionError("CONSENT_STATE", _no_way(state, action))
    return replace(
        consent,
        state=target,
        revision=consent.revision + 1,
        changed_at=now,
        note=note,
        signatures=consent.signatures + signatures,
        # What was told of an end, before a clock was set back, is told again when it comes.
        termination=None,
        end_told=False,
    )


def _no_way(state: State, action: Action) -> str:
    word = state.lower().replace("_", " ")
    if state not in OPEN_STATES:
        return f"nothing is left to {action}, the consent is {word} already: it needs a new request"
    ways = ", ".join(other for at, other in TRANSITIONS if at is state and other not in _COMPUTED)
    return f"there is nothing to {action}, the consent is {word}: what can be done is {ways}"


def approve(
    consent: Consent, signature: Signature, now: datetime, void: Collection[str] = ()
) -> Consent:
    """Return the consent after one of its signers agreed; it is active once all required ones did.

    Args:
        consent: as it stands.
        signature: the signer's, which was checked.
        now: when.
        void: those of the signers that agreed before and may not any more: they count for nothing.

    Raises:
        FailedPreconditionError: CONSENT_STATE; or NOT_A_SIGNER, this one has agreed already.
        PermissionDeniedError: NOT_A_SIGNER.
    """
    agreed = {earlier.signer_id for earlier in consent.signatures}
    last = len(agreed.difference(void)) + 1 >= consent.core.signers.required
    # First, so that a signer of what has ended is told that it has.
    changed = advance(
        consent, Action.GRANT if last else Action.APPROVE, now, signatures=(signature,)
    )
    signer_ids = consent.core.signers.signer_ids
    if signer_ids and signature.signer_id not in signer_ids:
        raise PermissionDeniedError(
            "NOT_A_SIGNER",
            "this account is not among the consent's signers: let one of them agree, or have the "
            "bank ask anew now that the firm's signing rule is another one",
        )
    if signature.signer_id in agreed:
        raise FailedPreconditionError(
            "NOT_A_SIGNER",
            "this account has agreed already, others have to: signer_ids names all of them",
        )
    return changed


def due_by(consent: Consent, ended_at: datetime) -> datetime:
    """Return until when what was stored under a consent must be erased.

    Args:
        consent: of mode STORE.
        ended_at: when it ended.
    """
    return ended_at + timedelta(days=consent.core.terms.data_life_days)


def check_officer(officer: Officer) -> None:
    """Refuse an institution's act without who does it and the file that it belongs to.

    Raises:
        InvalidArgumentError: OFFICER_REQUIRED.
    """
    problem = "is missing: say who at your institution does this, and for which of your files"
    parts = {"name": officer.name, "file_reference": officer.file_reference}
    missing = {f"officer.{name}": problem for name, value in parts.items() if not value.strip()}
    if missing:
        raise refusal("OFFICER_REQUIRED", missing)


def check_attestable(duty: Duty, attestation: Attestation) -> None:
    """Refuse an attestation that says too little, or about what is not to be erased yet.

    Raises:
        InvalidArgumentError: OFFICER_REQUIRED.
        FailedPreconditionError: CONSENT_STATE.
    """
    check_officer(attestation.officer)
    if attestation.at < duty.ended_at:
        raise FailedPreconditionError(
            "CONSENT_STATE", "the consent has not ended: end it first, then nothing more is stored"
        )
    if duty.attestation is not None:
        raise FailedPreconditionError(
            "CONSENT_STATE", "this was attested already: ListErasureDuties says by whom and when"
        )


def check_grant(consent: Consent, sha256: bytes) -> None:
    """Refuse a grant of other terms than the consent's.

    Raises:
        InvalidArgumentError: FIELD_INVALID on `canonical_sha256`.
    """
    if sha256 != consent.sha256:
        problem = "is not the hash of this consent's terms: read the consent again"
        raise refusal("FIELD_INVALID", {"canonical_sha256": problem})


def check(consent: Consent, wanted: Wanted, now: datetime) -> PuhuiError | None:
    """Return why a consent does not allow a fetch now, or None when it does.

    The first reason that applies, in this order: subject and recipient (CONSENT_NOT_FOUND, so that
    a stranger learns nothing), state (CONSENT_WITHDRAWN, CONSENT_REVOKED, CONSENT_EXPIRED,
    CONSENT_PAUSED, CONSENT_CONSUMED, CONSENT_SUPERSEDED, CONSENT_NOT_ACTIVE),
    CONSENT_NOT_YET_VALID, PURPOSE_, SUBJECT_, TYPE_, FIELD_, PROVIDER_, PERIOD_, CONTENT_ and
    USE_NOT_CONSENTED.
    """
    core, terms = consent.core, consent.core.terms
    if core.subject_id != wanted.subject_id or core.recipient_id != wanted.recipient_id:
        return not_found()
    state = state_at(consent, now)
    if state is not State.ACTIVE:
        reason, message = _NOT_ACTIVE[state]
        return FailedPreconditionError(reason, message)
    if terms.not_before is not None and now < terms.not_before:
        return FailedPreconditionError(
            "CONSENT_NOT_YET_VALID", "the consent's time has not begun: ask again after it has"
        )
    types = wanted.record_types.difference(terms.record_types)
    fields = (
        f"{type_}.{name}"
        for type_, names in wanted.fields.items()
        for name in _beyond(terms.opened(type_), names)
    )
    providers = wanted.provider_ids.difference(terms.provider_ids)
    level = wanted.content_level
    uses = _if(wanted.score and not terms.score, "a score") or _if(
        wanted.automated_decision and not terms.automated_decision,
        "a decision by machine alone",
    )
    for reason, beyond, remedy in (
        (
            "PURPOSE_NOT_CONSENTED",
            _if(wanted.purpose != terms.purpose, "this purpose"),
            "the consent's purpose",
        ),
        (
            "SUBJECT_NOT_CONSENTED",
            _if(wanted.for_subject_id != terms.for_subject_id, "the score of this firm"),
            "the score of the firm that the consent names",
        ),
        ("TYPE_NOT_CONSENTED", ", ".join(sorted(types)), "record types of the consent"),
        ("FIELD_NOT_CONSENTED", ", ".join(sorted(fields)), "fields of the consent"),
        ("PROVIDER_NOT_CONSENTED", ", ".join(sorted(providers)), "providers of the consent"),
        (
            "PERIOD_NOT_CONSENTED",
            _if(
                wanted.period is not None and not terms.data_period.covers(wanted.period),
                "this period",
            ),
            "a period within the consent's",
        ),
        (
            "CONTENT_NOT_CONSENTED",
            _if(level > terms.content_level, f"the level {level.name}"),
            "a content level of the consent",
        ),
        ("USE_NOT_CONSENTED", uses, "a use of the data that the consent allows"),
    ):
        if beyond:
            return PermissionDeniedError(
                reason,
                f"the consent does not cover {beyond}: ask for {remedy}, or for a new consent",
            )
    return None


def _if(beyond: bool, said: str) -> str:
    return said if beyond else ""


def _beyond(opened: frozenset[str] | None, names: frozenset[str]) -> frozenset[str]:
    return frozenset() if opened is None else names - opened


def change_content(consent: Consent, actor_id: str) -> dict[str, Json]:
    """Return what the leaf of a consent's change of state attests.

    Args:
        consent: after the change.
        actor_id: the participant that made it.
    """
    return {
        "consent_id": consent.core.consent_id,
        "canonical_sha256": consent.sha256.hex(),
        "revision": consent.revision,
        "state": consent.state,
        "changed_at": rfc3339(consent.changed_at),
        "actor_id": actor_id,
        "note": consent.note,
        "signatures": [signature.jws for signature in consent.signatures],
        "signer_ids": [signature.signer_id for signature in consent.signatures],
        "superseded_by": consent.superseded_by,
    }


def receipt_content(
    consent: Consent,
    actor_id: str,
    suite: str,
    erase_by: datetime | None,
    mandate: Mandate | None = None,
) -> bytes:
    """Return what the receipt of a consent's end attests, as RFC 8785 canonical JSON.

    Args:
        consent: after its end.
        actor_id: who ended it; empty where time did.
        suite: by what the receipt is signed.
        erase_by: when the recipient must have erased what it stored; None where it may store
            nothing.
        mandate: under which a firm's account ended it; the receipt names both, as each act does.
    """
    document: dict[str, Any] = {
        "schema_version": 1,
        "suite": suite,
        "consent_id": consent.core.consent_id,
        "canonical_sha256": consent.sha256.hex(),
        "subject_id": consent.core.subject_id,
        "recipient_id": consent.core.recipient_id,
        "state": consent.state,
        "revision": consent.revision,
        "ended_at": rfc3339(consent.changed_at),
        "ended_by": actor_id,
    }
    if consent.superseded_by:
        document["superseded_by"] = consent.superseded_by
    if erase_by is not None:
        document["erase_by"] = rfc3339(erase_by)
    if mandate is not None:
        document |= mandate.names
    return rfc8785.dumps(document)


def not_found() -> NotFoundError:
    """Return what a party that a consent does not concern is told: as if there were none."""
    return NotFoundError(
        "CONSENT_NOT_FOUND", "there is no such consent for you: check the consent_id"
    )


_NOT_ACTIVE: Mapping[State, tuple[str, str]] = {
    State.REQUESTED: ("CONSENT_NOT_ACTIVE", "the firm has not granted the consent yet"),
    State.PARTIALLY_APPROVED: (
        "CONSENT_NOT_ACTIVE",
        "not all required signers of the firm have granted the consent yet",
    ),
    State.PAUSED: (
        "CONSENT_PAUSED",
        "the consent is paused: wait until the firm lets it go on",
    ),
    State.LAPSED: ("CONSENT_NOT_ACTIVE", "the firm did not answer in time: ask for a new one"),
    State.CONSUMED: ("CONSENT_CONSUMED", "the consent was for one time: ask for a new one"),
    State.SUPERSEDED: (
        "CONSENT_SUPERSEDED",
        "a later version of the consent is active: name that one, superseded_by_consent_id says it",
    ),
    State.REJECTED: ("CONSENT_NOT_ACTIVE", "the firm rejected the consent: ask for a new one"),
    State.WITHDRAWN: ("CONSENT_WITHDRAWN", "the firm withdrew the consent: ask for a new one"),
    State.REVOKED: ("CONSENT_REVOKED", "the consent was revoked: ask for a new one"),
    State.EXPIRED: ("CONSENT_EXPIRED", "the consent's time is over: ask for a new one"),
}


def refusal(reason: str, problems: Mapping[str, str]) -> InvalidArgumentError:
    """Return the refusal of fields."""
    fields = tuple(FieldProblem(field, problem) for field, problem in problems.items())
    message = "; ".join(f"{field} {problem}" for field, problem in problems.items())
    return InvalidArgumentError(reason, message, fields=fields)
