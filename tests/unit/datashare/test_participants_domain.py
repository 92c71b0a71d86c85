"""Registration rules and API keys."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.datashare.participants.domain import (
    ApiKey,
    Participant,
    Role,
    Standing,
    accept,
    check_registration,
    new_secret,
)
from services.kit.errors import InvalidArgumentError, PermissionDeniedError, UnauthenticatedError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SHA = hashlib.sha256(b"secret").digest()
BANK = Participant("par_1", Role.BANK, "A bank", "", None, False, Standing.ACTIVE, NOW)
KEY = ApiKey("key_1", "par_1", SHA, NOW)


@pytest.mark.parametrize(
    ("role", "kind", "subject", "historical", "fields"),
    [
        (Role.PROVIDER, "tax", False, True, []),
        (Role.FIRM, "", True, False, []),
        (Role.FIRM, "", False, False, []),
        (Role.BANK, "", False, False, []),
        (Role.PROVIDER, "", False, False, ["provider_kind"]),
        (Role.PROVIDER, "astrologer", False, False, ["provider_kind"]),
        (Role.PROVIDER, "tax", True, False, ["subject"]),
        (Role.BANK, "tax", True, True, ["provider_kind", "historical_source", "subject"]),
    ],
)
def test_a_registration_fits_its_role(
    role: Role, kind: str, subject: bool, historical: bool, fields: list[str]
) -> None:
    def run() -> None:
        check_registration(
            role,
            kind,
            has_subject=subject,
            historical_source=historical,
            simulated_source=False,
            kinds={"tax", "court"},
        )

    if not fields:
        run()
        return
    with pytest.raises(InvalidArgumentError) as caught:
        run()
    assert caught.value.reason == "FIELD_INVALID"
    assert [problem.field for problem in caught.value.fields] == fields


def test_only_a_provider_is_a_simulated_source() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_registration(
            Role.BANK,
            "",
            has_subject=False,
            historical_source=False,
            simulated_source=True,
            kinds={"tax"},
        )
    assert [problem.field for problem in caught.value.fields] == ["simulated_source"]


def test_a_secret_is_the_random_bytes_in_base64url_and_kept_as_a_hash() -> None:
    secret, sha256 = new_secret(b"\xff" * 32)
    assert secret == "_" * 42 + "8"
    assert sha256 == hashlib.sha256(secret.encode()).digest()


def test_the_right_secret_is_accepted() -> None:
    assert accept(KEY, BANK, SHA) == BANK


@pytest.mark.parametrize(
    ("key", "sha256"),
    [
        (KEY, hashlib.sha256(b"other").digest()),
        (replace(KEY, revoked_at=NOW), SHA),
        (None, SHA),
        (None, bytes(32)),
    ],
    ids=["wrong secret", "revoked", "unknown", "unknown and all zeros"],
)
def test_whatever_is_wrong_with_a_key_the_reason_is_one(key: ApiKey | None, sha256: bytes) -> None:
    with pytest.raises(UnauthenticatedError) as caught:
        accept(key, BANK if key else None, sha256)
    assert caught.value.reason == "CREDENTIALS_INVALID"


def test_suspension_shows_only_to_who_has_the_secret() -> None:
    suspended = replace(BANK, standing=Standing.SUSPENDED)
    with pytest.raises(PermissionDeniedError) as caught:
        accept(KEY, suspended, SHA)
    assert caught.value.reason == "PARTICIPANT_SUSPENDED"
    with pytest.raises(UnauthenticatedError):
        accept(KEY, suspended, bytes(32))
