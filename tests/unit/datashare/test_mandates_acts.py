"""What accounts of a firm may do, by their powers: consents, accesses; and how acts are named."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.consent.domain import Action, State, change_content
from services.datashare.log.domain import canonical, leaf_hash
from services.datashare.mandates.domain import Mandate, MandateKind, Power
from services.datashare.participants.domain import Participant, Role, Standing
from services.kit.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from services.kit.identity import Caller
from tests.fakes.datashare_world import FIRM, NOW, RIVAL, World, caller

CLERK = Participant("par_clerk", Role.FIRM, "A clerk", "", None, False, Standing.ACTIVE, NOW)


def appointed(powers: frozenset[Power], subject_id: str = "sub_0001") -> Mandate:
    return Mandate(
        "man_clerk",
        subject_id,
        CLERK.participant_id,
        MandateKind.DELEGATE,
        powers,
        NOW,
        appointed_by=FIRM.participant_id,
    )


def world_with(powers: frozenset[Power], **changes: object) -> World:
    world = World()
    memory = world.transactions.memory
    memory.participants[CLERK.participant_id] = CLERK
    memory.mandates["man_clerk"] = replace(appointed(powers), **changes)  # type: ignore[arg-type]  # names fields
    return world


async def does(world: World, act: str, consent_id: str, sha256: bytes) -> None:
    """Try an act as the clerk."""
    who = caller(CLERK)
    key = world.key(who)
    match act:
        case "grant":
            await world.consents.grant(who, key, consent_id, sha256, ())
        case "reject":
            await world.consents.end(who, key, consent_id, Action.REJECT, "")
        case "withdraw":
            await world.consents.end(who, key, consent_id, Action.WITHDRAW, "")
        case "pause":
            await world.consents.pause(who, key, consent_id, "")
        case "get":
            await world.consents.get(who, consent_id)
        case "list":
            await world.consents.list(who, None, "", 10)
        case "accesses":
            await world.accesses(who, "", "", 10)


NEEDS = {
    "grant": {Power.GRANT},
    "reject": {Power.GRANT},
    "withdraw": {Power.WITHDRAW},
    "pause": {Power.WITHDRAW},
    "get": {Power.READ, Power.GRANT, Power.WITHDRAW},
    "list": {Power.READ},
    "accesses": {Power.READ},
}
"""One of these is needed for each act."""


@given(powers=st.frozensets(st.sampled_from(Power)), act=st.sampled_from(sorted(NEEDS)))
async def test_an_act_is_done_exactly_with_its_power(powers: frozenset[Power], act: str) -> None:
    world = world_with(powers)
    consent = await (world.granted() if act == "pause" else world.requested())
    consent_id = consent.core.consent_id
    before = world.transactions.memory.consents[consent_id]
    if powers & NEEDS[act]:
        await does(world, act, consent_id, consent.sha256)
        return
    with pytest.raises(PermissionDeniedError) as caught:
        await does(world, act, consent_id, consent.sha256)
    assert caught.value.reason == "MANDATE_REQUIRED"
    assert world.transactions.memory.consents[consent_id] == before


@pytest.mark.parametrize("act", sorted(NEEDS))
@pytest.mark.parametrize(
    "changes",
    [{"suspended_at": NOW}, {"ended_at": NOW}, {"until": NOW + timedelta(seconds=1)}],
)
async def test_with_the_mandate_every_power_goes(act: str, changes: dict[str, object]) -> None:
    world = world_with(frozenset(Power), **changes)
    consent = await (world.granted() if act == "pause" else world.requested())
    world.clock.at += timedelta(seconds=2)
    with pytest.raises(PermissionDeniedError) as caught:
        await does(world, act, consent.core.consent_id, consent.sha256)
    assert caught.value.reason == "MANDATE_REQUIRED"


async def test_an_act_names_whom_it_is_for_and_who_did_it() -> None:
    world = world_with(frozenset({Power.GRANT}))
    consent = await world.requested()
    granted = await world.consents.grant(
        caller(CLERK), world.key(caller(CLERK)), consent.core.consent_id, consent.sha256, ()
    )
    *_, leaf = world.transactions.memory.leaves.values()
    attested = {
        **change_content(granted, "par_clerk"),
        "principal_id": "par_firm",
        "delegate_id": "par_clerk",
    }
    assert leaf.hash == leaf_hash(leaf.salt, canonical(attested))


async def test_an_account_of_another_firm_learns_of_no_consent() -> None:
    world = world_with(frozenset(Power), subject_id=str(RIVAL.subject_id))
    consent = await world.requested()
    for act in ("grant", "withdraw", "get"):
        with pytest.raises(NotFoundError) as caught:
            await does(world, act, consent.core.consent_id, consent.sha256)
        assert caught.value.reason == "CONSENT_NOT_FOUND"


async def test_a_consent_may_name_an_account_that_supplies_for_the_firm() -> None:
    terms = {"provider_ids": ("par_clerk",), "record_types": ("financial_statement",)}
    world = world_with(frozenset({Power.SUBMIT}))
    assert (await world.requested(**terms)).state is State.REQUESTED
    # What it supplied before stays when it no longer speaks for the firm.
    ended = replace(appointed(frozenset({Power.SUBMIT})), ended_at=NOW)
    world.transactions.memory.mandates["man_clerk"] = ended
    assert (await world.requested(**terms)).state is State.REQUESTED
    stranger = world_with(frozenset({Power.SUBMIT}), subject_id="sub_0002")
    with pytest.raises(InvalidArgumentError):
        await stranger.requested(**terms)


async def test_what_comes_with_a_call_gives_no_power() -> None:
    world = World()
    consent = await world.requested()
    forged = Caller("par_nobody", "FIRM", "sub_0001")
    world.transactions.memory.participants["par_nobody"] = replace(
        CLERK, participant_id="par_nobody"
    )
    with pytest.raises(PermissionDeniedError) as caught:
        await world.consents.grant(
            forged, world.key(forged), consent.core.consent_id, consent.sha256, ()
        )
    assert caught.value.reason == "MANDATE_REQUIRED"
