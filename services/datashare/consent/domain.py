"""Consents: terms that never change, a state that does, and what a consent allows.

Invariants:

- The core (ids and terms) is fixed when the consent is requested; its RFC 8785 canonical JSON is
  what is hashed, granted and signed. Lists in it are sorted. Other terms are another consent.
- `TRANSITIONS` is all that can happen to a state; what it does not name is refused. EXPIRED is
  computed from the time, never stored. Only REQUESTED and ACTIVE can be left.
- `revision` is 1 at the request and grows by 1 with each change of state.
- A fetch that reaches beyond the terms is refused, never trimmed.
"""

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import rfc8785

from services.datashare.catalogue.domain import Catalogue, ContentLevel
from services.datashare.log.domain import Json, rfc3339
from services.datashare.participants.domain import Participant, Role
from services.kit.errors import (
    FailedPreconditionError,
    FieldProblem,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)

SCHEMA_VERSION = 1


class State(StrEnum):
    """Where a consent stands: names of `ConsentState` without the prefix."""

    REQUESTED = "REQUESTED"
    ACTIVE = "ACTIVE"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"
    REVOKED = "REVOKED"
    EXPIRED = "EXPIRED"


class Action(StrEnum):
    """What a party does to a consent."""

    GRANT = "grant"
    REJECT = "reject"
    WITHDRAW = "withdraw"
    REVOKE = "revoke"


TRANSITIONS: Mapping[tuple[State, Action], State] = MappingProxyType(
    {
        (State.REQUESTED, Action.GRANT): State.ACTIVE,
        (State.REQUESTED, Action.REJECT): State.REJECTED,
        (State.REQUESTED, Action.WITHDRAW): State.WITHDRAWN,
        (State.REQUESTED, Action.REVOKE): State.REVOKED,
        (State.ACTIVE, Action.WITHDRAW): State.WITHDRAWN,
        (State.ACTIVE, Action.REVOKE): State.REVOKED,
    }
)
"""Every change of state there is. REVOKE is another party's, the other actions the subject's."""

OPEN_STATES = frozenset(state for state, _ in TRANSITIONS)
"""States that can be left; a consent in one of them expires when its time is over."""


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
    """

    purpose: str
    provider_ids: tuple[str, ...]
    record_types: tuple[str, ...]
    content_level: ContentLevel
    data_period: Period
    not_before: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Core:
    """The part of a consent that never changes.

    Args:
        consent_id: opaque.
        subject_id: the firm.
        recipient_id: the bank.
        terms: what is allowed.
    """

    consent_id: str
    subject_id: str
    recipient_id: str
    terms: Terms


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature over the canonical core.

    Args:
        signer_id: who signed, as the signer says.
        jws: compact JWS with detached payload.
    """

    signer_id: str
    jws: str


@dataclass(frozen=True, slots=True)
class Consent:
    """A consent as it stands.

    Args:
        core: what never changes.
        canonical: the core as RFC 8785 canonical JSON.
        sha256: of `canonical`.
        state: the stored state, never EXPIRED; `state_at` computes that.
        revision: counts the changes of state, from 1.
        signatures: over `canonical`; may be empty.
        requested_at: when it was asked for.
        changed_at: when the state last changed.
        note: why it was rejected, withdrawn or revoked.
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
    """

    recipient_id: str
    subject_id: str
    purpose: str
    record_types: frozenset[str]
    content_level: ContentLevel
    provider_ids: frozenset[str] = frozenset()
    period: Period | None = None


def canonical(core: Core) -> bytes:
    """Return the core as RFC 8785 canonical JSON: what hashes and signatures cover."""
    terms = core.terms
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "consent_id": core.consent_id,
        "subject_id": core.subject_id,
        "recipient_id": core.recipient_id,
        "purpose": terms.purpose,
        "provider_ids": sorted(terms.provider_ids),
        "record_types": sorted(terms.record_types),
        "content_level": terms.content_level.name,
        "data_period": {
            "from": terms.data_period.first.isoformat(),
            "to": terms.data_period.last.isoformat(),
        },
        "expires_at": rfc3339(terms.expires_at),
    }
    if terms.not_before is not None:
        document["not_before"] = rfc3339(terms.not_before)
    return rfc8785.dumps(document)


@functools.lru_cache(maxsize=4096)
def core_of(canonical_json: bytes) -> Core:
    """Return the core that canonical JSON states; the inverse of `canonical` up to order in lists.

    Kept for the consents that are in use: each fetch needs it, and it never changes.
    """
    document = json.loads(canonical_json)
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"unknown schema version of a consent: {document['schema_version']}")
    period = document["data_period"]
    not_before = document.get("not_before")
    return Core(
        consent_id=document["consent_id"],
        subject_id=document["subject_id"],
        recipient_id=document["recipient_id"],
        terms=Terms(
            purpose=document["purpose"],
            provider_ids=tuple(document["provider_ids"]),
            record_types=tuple(document["record_types"]),
            content_level=ContentLevel[document["content_level"]],
            data_period=Period(
                date.fromisoformat(period["from"]), date.fromisoformat(period["to"])
            ),
            not_before=None if not_before is None else datetime.fromisoformat(not_before),
            expires_at=datetime.fromisoformat(document["expires_at"]),
        ),
    )


def request(core: Core, now: datetime) -> Consent:
    """Return a new consent, asked for and not yet granted."""
    document = canonical(core)
    return Consent(
        core=core_of(document),
        canonical=document,
        sha256=hashlib.sha256(document).digest(),
        state=State.REQUESTED,
        revision=1,
        signatures=(),
        requested_at=now,
        changed_at=now,
    )


def nameable(
    people: Collection[Participant],
    record_types: Collection[str],
    catalogue: Catalogue,
    *,
    subject_id: str,
    recipient_id: str,
) -> set[str]:
    """Return whom terms may name as providers.

    Args:
        people: participants.
        record_types: the types of the terms.
        catalogue: the types there are.
        subject_id: the firm's; it may be named where it supplies one of the types about itself.
        recipient_id: the bank; it may be named where it supplies one of the types.
    """
    kinds: set[str] = set()
    for name in record_types:
        if name in catalogue.types:
            kinds |= catalogue.types[name].provider_kinds
    return {
        person.participant_id
        for person in people
        if person.role is Role.PROVIDER
        or (
            person.supplies_as in kinds
            and (person.subject_id == subject_id or person.participant_id == recipient_id)
        )
    }


def check_terms(
    terms: Terms,
    now: datetime,
    catalogue: Catalogue,
    known_providers: Collection[str],
    recipient_id: str,
) -> None:
    """Refuse terms that name what is not there, make no sense, or ask for too much.

    Args:
        terms: lists in the order in which they were sent.
        now: the time of the request.
        catalogue: the types and purposes there are.
        known_providers: those of `terms.provider_ids` that may be named.
        recipient_id: the bank that asks.

    Raises:
        InvalidArgumentError: PURPOSE_UNKNOWN, TYPE_UNKNOWN, FIELD_INVALID or CONSENT_OVER_CEILING,
            naming every field at fault.
    """
    purpose = catalogue.purposes.get(terms.purpose)
    if purpose is None:
        raise _refusal("PURPOSE_UNKNOWN", {"terms.purpose": "is not in the table of purposes"})
    unknown = {
        f"terms.record_types[{index}]": "is not in the catalogue: ListRecordTypes names its types"
        for index, name in enumerate(terms.record_types)
        if name not in catalogue.types
    }
    if unknown:
        raise _refusal("TYPE_UNKNOWN", unknown)
    problems = {
        f"terms.provider_ids[{index}]": "is no registered provider: ListParticipants names them"
        for index, provider_id in enumerate(terms.provider_ids)
        if provider_id not in known_providers
    }
    if recipient_id not in terms.provider_ids:
        problems |= {
            f"terms.record_types[{index}]": "is kept to the institution that supplies it: leave it "
            "out, or name yourself among the providers to read your own"
            for index, name in enumerate(terms.record_types)
            if catalogue.types[name].kept_to_provider
        }
    begins = now if terms.not_before is None else terms.not_before
    if terms.expires_at <= max(begins, now):
        problems["terms.expires_at"] = "must be after now and after not_before"
    if problems:
        raise _refusal("FIELD_INVALID", problems)

    over = {}
    if terms.expires_at - begins > timedelta(days=purpose.max_days):
        over["terms.expires_at"] = f"is beyond the purpose's ceiling of {purpose.max_days} days"
    if terms.content_level > purpose.max_content_level:
        most = purpose.max_content_level.name
        over["terms.content_level"] = f"is beyond the purpose's ceiling, {most}"
    if over:
        raise _refusal("CONSENT_OVER_CEILING", over)


def state_at(consent: Consent, now: datetime) -> State:
    """Return the state at a time: the stored one, or EXPIRED when its time is over."""
    if consent.state in OPEN_STATES and now >= consent.core.terms.expires_at:
        return State.EXPIRED
    return consent.state


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
    state = state_at(consent, now)
    target = TRANSITIONS.get((state, action))
    if target is None:
        raise FailedPreconditionError(
            "CONSENT_STATE",
            f"nothing is left to {action}, the consent is {state.lower()} already: "
            + ("withdraw it to end it" if state is State.ACTIVE else "it needs a new request"),
        )
    return replace(
        consent,
        state=target,
        revision=consent.revision + 1,
        changed_at=now,
        note=note,
        signatures=consent.signatures + signatures,
    )


def check_grant(consent: Consent, sha256: bytes) -> None:
    """Refuse a grant of other terms than the consent's.

    Raises:
        InvalidArgumentError: FIELD_INVALID on `canonical_sha256`.
    """
    if sha256 != consent.sha256:
        problem = "is not the hash of this consent's terms: read the consent again"
        raise _refusal("FIELD_INVALID", {"canonical_sha256": problem})


def check(consent: Consent, wanted: Wanted, now: datetime) -> PuhuiError | None:
    """Return why a consent does not allow a fetch now, or None when it does.

    The first reason that applies, in this order: subject and recipient (CONSENT_NOT_FOUND, so that
    a stranger learns nothing), state (CONSENT_WITHDRAWN, CONSENT_REVOKED, CONSENT_EXPIRED,
    CONSENT_NOT_ACTIVE), CONSENT_NOT_YET_VALID, PURPOSE_, TYPE_, PROVIDER_, PERIOD_ and
    CONTENT_NOT_CONSENTED.
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
    for reason, missing, remedy in (
        ("PURPOSE_NOT_CONSENTED", wanted.purpose != terms.purpose, "the consent's purpose"),
        (
            "TYPE_NOT_CONSENTED",
            not wanted.record_types.issubset(terms.record_types),
            "record types of the consent",
        ),
        (
            "PROVIDER_NOT_CONSENTED",
            not wanted.provider_ids.issubset(terms.provider_ids),
            "providers of the consent",
        ),
        (
            "PERIOD_NOT_CONSENTED",
            wanted.period is not None and not terms.data_period.covers(wanted.period),
            "a period within the consent's",
        ),
        (
            "CONTENT_NOT_CONSENTED",
            wanted.content_level > terms.content_level,
            "a content level of the consent",
        ),
    ):
        if missing:
            return PermissionDeniedError(
                reason, f"the consent does not cover this: ask for {remedy}, or for a new consent"
            )
    return None


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
    }


def not_found() -> NotFoundError:
    """Return what a party that a consent does not concern is told: as if there were none."""
    return NotFoundError(
        "CONSENT_NOT_FOUND", "there is no such consent for you: check the consent_id"
    )


_NOT_ACTIVE: Mapping[State, tuple[str, str]] = {
    State.REQUESTED: ("CONSENT_NOT_ACTIVE", "the firm has not granted the consent yet"),
    State.REJECTED: ("CONSENT_NOT_ACTIVE", "the firm rejected the consent: ask for a new one"),
    State.WITHDRAWN: ("CONSENT_WITHDRAWN", "the firm withdrew the consent: ask for a new one"),
    State.REVOKED: ("CONSENT_REVOKED", "the consent was revoked: ask for a new one"),
    State.EXPIRED: ("CONSENT_EXPIRED", "the consent's time is over: ask for a new one"),
}


def _refusal(reason: str, problems: Mapping[str, str]) -> InvalidArgumentError:
    fields = tuple(FieldProblem(field, problem) for field, problem in problems.items())
    message = "; ".join(f"{field} {problem}" for field, problem in problems.items())
    return InvalidArgumentError(reason, message, fields=fields)
