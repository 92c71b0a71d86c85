"""Credentials: certificates and keys of institutions, and persons who sign in at an issuer.

Invariants:

- A credential belongs to one participant, and what it stands for to no other: a certificate or a
  key for ever, a person's account until it is revoked, as people change employers.
- A revoked credential stays revoked, and a certificate ends by itself.
- A person has one opaque id whichever participant it acts for; accounts cannot be found from ids.
- Institutions change over to their next certificate and key themselves; who may act for a
  participant, the operator alone says.
"""

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from services.datashare.participants.domain import Participant, Role, Standing
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    invalid_field,
)
from services.kit.identity import Caller

_PERSON_ID_BYTES: Final = 16


class Kind(StrEnum):
    """What a credential is."""

    CERTIFICATE = "certificate"
    KEY = "key"
    PERSON = "person"


_FIELDS: Final = {
    Kind.CERTIFICATE: "certificate_pem",
    Kind.KEY: "public_jwk",
    Kind.PERSON: "person",
}


@dataclass(frozen=True, slots=True)
class PersonAccount:
    """An account at an OpenID provider.

    Args:
        issuer: `iss`, exactly as in its tokens.
        subject: `sub`.
    """

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to become a credential, checked.

    Args:
        kind: what it is.
        identity: its name among those of its kind: of a certificate x5t#S256 (RFC 8705), of a key
            its thumbprint (RFC 7638), of a person its opaque id.
        public_jwk: of a key, as JSON.
        person: of a person.
        ends_at: of a certificate.
    """

    kind: Kind
    identity: str
    public_jwk: str = ""
    person: PersonAccount | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """What a participant may prove itself with.

    Args:
        credential_id: opaque.
        participant_id: whose it is.
        claim: what it is.
        label: what it is called among the participant's.
        registered_at: since when it is accepted.
        revoked_at: since when it is not.
    """

    credential_id: str
    participant_id: str
    claim: Claim
    label: str
    registered_at: datetime
    revoked_at: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Tell whether it is accepted now."""
        ends_at = self.claim.ends_at
        return self.revoked_at is None and (ends_at is None or now < ends_at)


class PersonIds:
    """Names persons so that their accounts cannot be found from the names.

    Args:
        key: secret bytes; with another key everybody is another person.
    """

    def __init__(self, key: bytes) -> None:
        self._key = hmac.digest(key, b"puhui persons", "sha256")

    def of(self, person: PersonAccount) -> str:
        """Return the id of a person."""
        # Hashed apart first, so that no two pairs are one text.
        parts = (hashlib.sha256(part.encode()).digest() for part in (person.issuer, person.subject))
        digest = hmac.digest(self._key, b"".join(parts), "sha256")
        return f"per_{digest[:_PERSON_ID_BYTES].hex()}"


def check_registration(caller: Caller, participant: Participant | None, kind: Kind) -> None:
    """Refuse a credential that the caller may not register, or that does not fit the participant.

    Args:
        caller: who registers.
        participant: whose it is to be.
        kind: what it is.

    Raises:
        NotFoundError: NOT_FOUND.
        PermissionDeniedError: NOT_YOURS or ROLE_NOT_ALLOWED.
        FailedPreconditionError: PARTICIPANT_STATE, it has left.
        InvalidArgumentError: FIELD_INVALID.
    """
    if participant is None:
        raise NotFoundError("NOT_FOUND", "there is no such participant: check the participant_id")
    check_change(caller, participant.participant_id, kind)
    if participant.standing is Standing.EXITED:
        raise FailedPreconditionError(
            "PARTICIPANT_STATE",
            "the participant has left: register it anew as another one",
        )
    if participant.role is Role.FIRM and kind is not Kind.PERSON:
        problem = "is for institutions: for a firm register the persons who act for it"
        raise invalid_field("FIELD_INVALID", _FIELDS[kind], problem)


def check_change(caller: Caller, participant_id: str, kind: Kind) -> None:
    """Refuse to change a credential that the caller may not change.

    Raises:
        PermissionDeniedError: NOT_YOURS or ROLE_NOT_ALLOWED.
    """
    if caller.role == Role.OPERATOR:
        return
    check_reader(caller, participant_id)
    if kind is Kind.PERSON:
        raise PermissionDeniedError(
            "ROLE_NOT_ALLOWED", "who may act for a participant, the operator says: ask it"
        )


def check_reader(caller: Caller, participant_id: str) -> None:
    """Refuse who is neither the participant nor the operator.

    Raises:
        PermissionDeniedError: NOT_YOURS.
    """
    if caller.role != Role.OPERATOR and caller.participant_id != participant_id:
        raise PermissionDeniedError(
            "NOT_YOURS", "these are another participant's credentials: name yourself"
        )


def taken(kind: Kind) -> AlreadyExistsError:
    """Return the refusal of what is registered already."""
    remedy = {
        Kind.CERTIFICATE: "one that is valid needs nothing; in the place of another get a new one",
        Kind.KEY: "one that is valid needs nothing; in the place of another make a new key",
        Kind.PERSON: "revoke it first where the person acts for another participant from now on",
    }[kind]
    name = "person's account" if kind is Kind.PERSON else kind
    return AlreadyExistsError("ALREADY_EXISTS", f"this {name} is or was registered: {remedy}")


def usable(credentials: Collection[Credential], now: datetime) -> tuple[Credential, ...]:
    """Return the certificates and keys that are accepted now.

    Raises:
        UnauthenticatedError: CREDENTIALS_INVALID, there is none.
    """
    found = tuple(
        each for each in credentials if each.claim.kind is not Kind.PERSON and each.valid(now)
    )
    if not found:
        raise nobody()
    return found


def nobody() -> UnauthenticatedError:
    """Return the refusal of credentials that are nobody's."""
    return UnauthenticatedError(
        "CREDENTIALS_INVALID",
        "nobody proves itself by this here: have the operator register the certificate, the key "
        "or the person",
    )


def bootstrap_account(text: str) -> PersonAccount:
    """Return the account of an operator from the configuration, `issuer subject`.

    Raises:
        ValueError: it is not of this form.
    """
    issuer, separator, subject = text.partition(" ")
    if not (separator and issuer and subject):
        raise ValueError('each of bootstrap_operators is "issuer subject", with one space between')
    return PersonAccount(issuer, subject)
