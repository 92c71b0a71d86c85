"""Participants, their API keys and the keys that they sign with.

Invariants:

- An API key is `<key_id>.<secret>`; only the SHA-256 of the secret's characters is kept.
- Only a provider has a provider kind; only a firm's account may have a subject. For whom such an
  account speaks, its mandate says: it need not be the firm that it was registered with.
- Only an active participant may act; when it ceases to be one, that acts at once.
- A product is held no longer than the licence for it lasts.
- Who has registered a signing key once signs every batch from then on; a revoked key stays revoked,
  and with the last one revoked nothing is accepted until the next one is registered.
"""

import base64
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum

from services.datashare.china import china_date
from services.kit.errors import (
    FieldProblem,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
    invalid_field,
)

SECRET_BYTES = 32
OPERATOR_ID = "operator"

_NO_KEY_SHA256 = bytes(32)


class Role(StrEnum):
    """What a participant is: names of `puhui.common.v1.Role` without the prefix."""

    PROVIDER = "PROVIDER"
    FIRM = "FIRM"
    BANK = "BANK"
    REGULATOR = "REGULATOR"
    OPERATOR = "OPERATOR"


_SUPPLIES_AS = {Role.FIRM: "firm", Role.BANK: "bank"}


class Standing(StrEnum):
    """Whether a participant may act."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    APPLIED = "APPLIED"
    LICENCE_CHECKED = "LICENCE_CHECKED"
    CONFORMANT = "CONFORMANT"
    APPROVED = "APPROVED"
    EXITED = "EXITED"


@dataclass(frozen=True, slots=True)
class Participant:
    """Someone who takes part.

    Args:
        participant_id: opaque.
        role: what it is.
        name: as registered.
        provider_kind: of a provider, e.g. "tax"; else empty.
        subject_id: of a firm, itself as a subject, where the operator registered it with one.
        historical_source: of a provider: it may say of a delivery that its records count as known
            when they were obtained.
        standing: whether it may act.
        registered_at: when it was registered.
        simulated_source: of a provider: its records are simulated.
        signs: it has registered a signing key, so every batch of its has to be signed.
        products: what it was licensed for, by the codes of the products, ascending.
        licence_ends: the last day of that licence; None has no end.
    """

    participant_id: str
    role: Role
    name: str
    provider_kind: str
    subject_id: str | None
    historical_source: bool
    standing: Standing
    registered_at: datetime
    simulated_source: bool = False
    signs: bool = False
    products: tuple[str, ...] = ()
    licence_ends: date | None = None

    @property
    def supplies_as(self) -> str:
        """The provider kind as which it supplies records; empty where it supplies none."""
        return self.provider_kind or _SUPPLIES_AS.get(self.role, "")

    def today(self, now: datetime) -> "Participant":
        """Return it with the products that it holds now: once a licence has ended, none."""
        if self.licence_ends is None or china_date(now) <= self.licence_ends:
            return self
        return replace(self, products=())


@dataclass(frozen=True, slots=True)
class Held:
    """What of a participant cannot change until the end of a transaction; see `Participant`."""

    standing: Standing
    products: tuple[str, ...]
    licence_ends: date | None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of an API key.

    Args:
        key_id: its public part.
        participant_id: whose it is.
        secret_sha256: of the secret part, 32 bytes.
        issued_at: when it was made.
        revoked_at: since when it is not accepted.
    """

    key_id: str
    participant_id: str
    secret_sha256: bytes
    issued_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key that a participant signs its batches with.

    Args:
        key_id: its thumbprint.
        participant_id: whose it is.
        public_jwk: as JSON.
        registered_at: since when it is accepted.
        revoked_at: since when it is not.
    """

    key_id: str
    participant_id: str
    public_jwk: str
    registered_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SubjectName:
    """A subject as a caller names it: one of the two is set.

    Args:
        subject_id: its opaque id.
        uscc: its registration number.
    """

    subject_id: str = ""
    uscc: str = ""


def check_registration(
    role: Role,
    provider_kind: str,
    *,
    has_subject: bool,
    historical_source: bool,
    simulated_source: bool,
    kinds: Collection[str],
) -> None:
    """Refuse a registration whose parts do not fit its role.

    Args:
        role: what the participant is to be.
        provider_kind: what kind of provider, or empty.
        has_subject: whether a subject was named.
        historical_source: whether it is to be a historical source.
        simulated_source: whether its records are to count as simulated.
        kinds: the provider kinds that the catalogue names.

    Raises:
        InvalidArgumentError: FIELD_INVALID, naming every field at fault.
    """
    problems = []
    if role is Role.PROVIDER:
        if provider_kind not in kinds:
            known = ", ".join(sorted(kinds))
            problems.append(
                FieldProblem("provider_kind", f"is no kind of the catalogue: one of {known}")
            )
    else:
        if provider_kind:
            problems.append(FieldProblem("provider_kind", "is for providers only: leave it out"))
        if historical_source:
            problems.append(FieldProblem("historical_source", "is for providers only: unset it"))
        if simulated_source:
            problems.append(FieldProblem("simulated_source", "is for providers only: unset it"))
    if role is not Role.FIRM and has_subject:
        problems.append(FieldProblem("subject", "is for firms only: leave it out"))
    if problems:
        names = ", ".join(problem.field for problem in problems)
        raise InvalidArgumentError(
            "FIELD_INVALID",
            f"fields do not fit the role, correct them: {names}",
            fields=tuple(problems),
        )


def bootstrap_operator(since: datetime, products: Collection[str]) -> Participant:
    """Return the participant for which the operators of the configuration act.

    Args:
        since: when this process began.
        products: all there are: it needs a licence for none.
    """
    return Participant(
        participant_id=OPERATOR_ID,
        role=Role.OPERATOR,
        name="operator",
        provider_kind="",
        subject_id=None,
        historical_source=False,
        standing=Standing.ACTIVE,
        registered_at=since,
        products=tuple(sorted(products)),
    )


def check_signer(participant: Participant) -> None:
    """Refuse a signing key of a participant that supplies no records.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    if not participant.supplies_as:
        problem = "supplies no records, so it signs none: name a provider, a firm or a bank"
        raise invalid_field("FIELD_INVALID", "participant_id", problem)


def new_secret(random: bytes) -> tuple[str, bytes]:
    """Return a key's secret part and its SHA-256.

    Args:
        random: `SECRET_BYTES` random bytes.
    """
    secret = base64.urlsafe_b64encode(random).rstrip(b"=")
    return secret.decode(), hashlib.sha256(secret).digest()


def accept(
    key: ApiKey | None, participant: Participant | None, secret_sha256: bytes
) -> Participant:
    """Return whose key it is.

    Args:
        key: what is kept of the key with the id that was sent, if anything.
        participant: whose it is.
        secret_sha256: of the secret that was sent.

    Raises:
        UnauthenticatedError: CREDENTIALS_INVALID, whatever is wrong.
        PermissionDeniedError: PARTICIPANT_SUSPENDED or PARTICIPANT_NOT_ACTIVE.
    """
    # Compares also when there is no such key, so that the time taken does not tell.
    same = hmac.compare_digest(key.secret_sha256 if key else _NO_KEY_SHA256, secret_sha256)
    if not same or key is None or key.revoked_at is not None or participant is None:
        raise UnauthenticatedError(
            "CREDENTIALS_INVALID", "the API key is not valid: ask the operator for a new one"
        )
    require_good_standing(participant.standing)
    return participant


def require_good_standing(standing: Standing | None) -> None:
    """Refuse a participant that may not act.

    Args:
        standing: None for one that is not registered.

    Raises:
        PermissionDeniedError: PARTICIPANT_SUSPENDED or PARTICIPANT_NOT_ACTIVE.
    """
    if standing is Standing.SUSPENDED:
        raise PermissionDeniedError(
            "PARTICIPANT_SUSPENDED", "the participant is suspended: ask the operator why"
        )
    if standing is not Standing.ACTIVE:
        raise PermissionDeniedError(
            "PARTICIPANT_NOT_ACTIVE",
            "the participant is not active yet or has left: ask the operator what is missing",
        )


def require_product(held: Held | Participant, product: str, now: datetime) -> None:
    """Refuse a participant that holds no licence for a product.

    Raises:
        PermissionDeniedError: PRODUCT_NOT_LICENSED.
    """
    ends = held.licence_ends
    if product not in held.products or (ends is not None and ends < china_date(now)):
        raise PermissionDeniedError(
            "PRODUCT_NOT_LICENSED",
            f"this belongs to {product}, for which the participant holds no licence that lasts: "
            "have the operator check one",
        )
