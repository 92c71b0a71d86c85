from datetime import UTC, datetime, timedelta

import pytest

from services.kit.clock import FixedClock
from services.kit.errors import UnauthenticatedError
from services.kit.identity import (
    DATASHARE,
    GATEWAY,
    SCORING,
    Caller,
    IdentitySigner,
    IdentityVerifier,
    new_key_pair,
)
from services.kit.tenant import PRODUCTION, SANDBOX

PRIVATE, PUBLIC = new_key_pair()
OTHER_PRIVATE, OTHER_PUBLIC = new_key_pair()
BANK = Caller("par_bank", "BANK", None, "模拟银行")
FIRM = Caller("par_firm", "FIRM", "sub_1", "firm")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 1, 1, tzinfo=UTC))


def verifier(clock: FixedClock, **keys: str) -> IdentityVerifier:
    return IdentityVerifier(keys or {GATEWAY: PUBLIC, SCORING: OTHER_PUBLIC}, DATASHARE, clock)


@pytest.mark.parametrize("caller", [BANK, FIRM])
def test_what_was_signed_is_verified(caller: Caller, clock: FixedClock) -> None:
    token = IdentitySigner(PRIVATE, GATEWAY, clock).sign(caller, DATASHARE)
    assert verifier(clock).verify(token) == caller


def test_an_assertion_is_reused_for_half_of_its_life(clock: FixedClock) -> None:
    signer = IdentitySigner(PRIVATE, GATEWAY, clock)
    first = signer.sign(BANK, DATASHARE)
    clock.advance(timedelta(seconds=29))
    assert signer.sign(BANK, DATASHARE) == first
    clock.advance(timedelta(seconds=2))
    assert signer.sign(BANK, DATASHARE) != first


@pytest.mark.parametrize("warm", [True, False])
def test_an_expired_assertion_is_refused_also_when_it_was_verified_before(
    warm: bool, clock: FixedClock
) -> None:
    token = IdentitySigner(PRIVATE, GATEWAY, clock).sign(BANK, DATASHARE)
    checker = verifier(clock)
    if warm:
        checker.verify(token)
    clock.advance(timedelta(seconds=61))
    with pytest.raises(UnauthenticatedError) as refusal:
        checker.verify(token)
    assert refusal.value.reason == "IDENTITY_INVALID"


def test_an_assertion_from_the_future_is_refused(clock: FixedClock) -> None:
    ahead = FixedClock(clock.at + timedelta(seconds=30))
    token = IdentitySigner(PRIVATE, GATEWAY, ahead).sign(BANK, DATASHARE)
    with pytest.raises(UnauthenticatedError):
        verifier(clock).verify(token)


@pytest.mark.parametrize(
    ("key", "issuer", "role"),
    [
        (OTHER_PRIVATE, SCORING, "BANK"),  # scoring may not speak for a bank
        (PRIVATE, GATEWAY, "SCORING"),  # the gateway may not speak for scoring
        (OTHER_PRIVATE, GATEWAY, "BANK"),  # scoring's key does not make it the gateway
        (new_key_pair()[0], GATEWAY, "BANK"),  # a key that nobody listed
    ],
)
def test_an_issuer_can_assert_only_what_it_is(
    key: str, issuer: str, role: str, clock: FixedClock
) -> None:
    token = IdentitySigner(key, issuer, clock).sign(Caller("x", role), DATASHARE)
    with pytest.raises(UnauthenticatedError):
        verifier(clock).verify(token)


@pytest.mark.parametrize("token", ["", "junk", "a.b.c", "é", "x" * 10_000])
def test_what_is_no_assertion_is_refused(token: str, clock: FixedClock) -> None:
    with pytest.raises(UnauthenticatedError):
        verifier(clock).verify(token)


def test_a_changed_assertion_is_refused(clock: FixedClock) -> None:
    header, payload, signature = (
        IdentitySigner(PRIVATE, GATEWAY, clock).sign(BANK, DATASHARE).split(".")
    )
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    with pytest.raises(UnauthenticatedError):
        verifier(clock).verify(f"{header}.{payload}.{flipped}")


def test_an_assertion_is_believed_only_by_the_service_it_is_for(clock: FixedClock) -> None:
    signer = IdentitySigner(PRIVATE, GATEWAY, clock)
    for audience in (SCORING, DATASHARE):  # both are remembered by the signer
        token = signer.sign(FIRM, audience)
        other = {SCORING: DATASHARE, DATASHARE: SCORING}[audience]
        assert IdentityVerifier({GATEWAY: PUBLIC}, audience, clock).verify(token) == FIRM
        with pytest.raises(UnauthenticatedError) as refusal:
            IdentityVerifier({GATEWAY: PUBLIC}, other, clock).verify(token)
        assert refusal.value.reason == "IDENTITY_INVALID"


@pytest.mark.parametrize(("own", "other"), [(SANDBOX, PRODUCTION), (PRODUCTION, SANDBOX)])
def test_an_assertion_is_believed_only_in_its_tenant(
    clock: FixedClock, own: str, other: str
) -> None:
    token = IdentitySigner(PRIVATE, GATEWAY, clock, own).sign(FIRM, DATASHARE)
    assert IdentityVerifier({GATEWAY: PUBLIC}, DATASHARE, clock, own).verify(token) == FIRM
    with pytest.raises(UnauthenticatedError) as refusal:
        IdentityVerifier({GATEWAY: PUBLIC}, DATASHARE, clock, other).verify(token)
    assert refusal.value.reason == "IDENTITY_INVALID"
