"""Rules of mandates."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.mandates.domain import (
    ALL_POWERS,
    Mandate,
    MandateKind,
    MandateState,
    Power,
    SigningRule,
    check_rule,
    registered,
    require_any,
    require_power,
    require_representative,
    state_at,
)
from services.kit.errors import InvalidArgumentError, PermissionDeniedError

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)
BOSS = registered("man_1", "sub_1", "par_1", NOW)
DELEGATE = Mandate(
    "man_2",
    "sub_1",
    "par_2",
    MandateKind.DELEGATE,
    frozenset({Power.READ}),
    NOW,
    appointed_by="par_1",
)

times = st.integers(-(10**6), 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds))
mandates = st.builds(
    Mandate,
    mandate_id=st.just("man_2"),
    subject_id=st.just("sub_1"),
    participant_id=st.just("par_2"),
    kind=st.sampled_from(MandateKind),
    powers=st.frozensets(st.sampled_from(Power)),
    since=times,
    appointed_by=st.sampled_from(["", "par_1"]),
    until=st.none() | times,
    suspended_at=st.none() | times,
    ended_at=st.none() | times,
)


@given(mandates, st.sampled_from(Power), times)
def test_a_power_is_there_while_a_mandate_that_names_it_is_active_and_never_else(
    mandate: Mandate, power: Power, now: datetime
) -> None:
    over = mandate.ended_at is not None or (mandate.until is not None and mandate.until <= now)
    may = power in mandate.powers and not over and mandate.suspended_at is None
    if may:
        assert require_power(mandate, power, now) is mandate
    else:
        with pytest.raises(PermissionDeniedError) as caught:
            require_power(mandate, power, now)
        assert caught.value.reason == "MANDATE_REQUIRED"


@given(mandates, st.sampled_from(Power), times, times)
def test_a_power_that_was_lost_stays_lost(
    mandate: Mandate, power: Power, one: datetime, two: datetime
) -> None:
    earlier, later = sorted((one, two))
    if _may(mandate, power, later):
        assert _may(mandate, power, earlier)


@given(mandates, st.sampled_from(Power), times)
def test_less_in_a_mandate_never_allows_more(mandate: Mandate, power: Power, now: datetime) -> None:
    less = (
        replace(mandate, powers=mandate.powers - {power}),
        replace(mandate, suspended_at=now),
        replace(mandate, ended_at=now),
        replace(mandate, until=now),
    )
    assert not any(_may(each, power, now) for each in less)


@given(mandates, st.frozensets(st.sampled_from(Power), min_size=1), times)
def test_one_of_several_is_enough(
    mandate: Mandate, powers: frozenset[Power], now: datetime
) -> None:
    try:
        require_any(mandate, powers, now)
        enough = True
    except PermissionDeniedError:
        enough = False
    assert enough == any(_may(mandate, power, now) for power in powers)


def test_the_refusal_says_what_to_do() -> None:
    for mandate, told in (
        (None, "speaks for no firm"),
        (replace(DELEGATE, suspended_at=NOW), "claim the firm anew"),
        (replace(DELEGATE, until=NOW), "has ended"),
        (DELEGATE, "power GRANT"),
    ):
        with pytest.raises(PermissionDeniedError, match=told):
            require_power(mandate, Power.GRANT, NOW)


def test_both_are_named() -> None:
    assert BOSS.names == {"principal_id": "par_1", "delegate_id": "par_1"}
    assert DELEGATE.names == {"principal_id": "par_1", "delegate_id": "par_2"}


def test_a_delegate_appoints_nobody_whatever_it_may() -> None:
    assert require_representative(BOSS, NOW) is BOSS
    with pytest.raises(PermissionDeniedError, match="representative alone"):
        require_representative(replace(DELEGATE, powers=ALL_POWERS), NOW)


def test_the_end_counts_from_its_instant_on() -> None:
    until = NOW + timedelta(hours=1)
    mandate = replace(DELEGATE, until=until)
    assert state_at(mandate, until - timedelta(microseconds=1)) is MandateState.ACTIVE
    assert state_at(mandate, until) is MandateState.ENDED


@pytest.mark.parametrize(
    ("signers", "required", "field"),
    [
        (("par_1", "par_2"), 1, "rule.signer_ids[1]"),
        (("par_9",), 1, "rule.signer_ids[0]"),
        (("par_1",), 2, "rule.required"),
        (("par_1", "par_3"), 2, ""),
    ],
)
def test_a_rule_can_be_met(signers: tuple[str, ...], required: int, field: str) -> None:
    granter = replace(DELEGATE, participant_id="par_3", powers=frozenset({Power.GRANT}))
    of_the_firm = [BOSS, DELEGATE, granter]
    if not field:
        check_rule(SigningRule(signers, required), of_the_firm, NOW)
        return
    with pytest.raises(InvalidArgumentError) as caught:
        check_rule(SigningRule(signers, required), of_the_firm, NOW)
    assert [problem.field for problem in caught.value.fields] == [field]


def _may(mandate: Mandate, power: Power, now: datetime) -> bool:
    try:
        require_power(mandate, power, now)
    except PermissionDeniedError:
        return False
    return True
