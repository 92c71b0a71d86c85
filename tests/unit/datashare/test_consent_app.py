"""Consents as their parties see them."""

import pytest

from services.datashare.changes.domain import ChangeKind
from services.datashare.consent.domain import Action, Consent, Signature, State, change_content
from services.datashare.log.domain import LeafKind, canonical, leaf_hash
from services.datashare.participants.domain import Participant, Standing, SubjectName
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from services.kit.identity import Caller
from tests.fakes.datashare_world import (
    BANK,
    COURT,
    FIRM,
    NOW,
    OPERATOR,
    OTHER,
    RIVAL,
    TERMS,
    USCC,
    World,
    caller,
)


@pytest.fixture
def world() -> World:
    return World()


class TestRequest:
    async def test_it_names_the_bank_and_the_firm(self, world: World) -> None:
        consent = await world.requested()
        assert consent.core.recipient_id == "par_bank"
        assert consent.core.subject_id == "sub_0001"
        assert (consent.state, consent.revision) == (State.REQUESTED, 1)

    async def test_a_subject_may_be_named_by_id(self, world: World) -> None:
        bank = caller(BANK)
        named = SubjectName(subject_id="sub_0002")
        consent = await world.consents.request(bank, world.key(bank), named, TERMS)
        assert consent.core.subject_id == "sub_0002"

    @pytest.mark.parametrize(
        "subject", [SubjectName(subject_id="sub_9"), SubjectName(uscc="91110108MA0123457B")]
    )
    async def test_a_subject_must_be_there(self, world: World, subject: SubjectName) -> None:
        bank = caller(BANK)
        with pytest.raises((NotFoundError, InvalidArgumentError)):
            await world.consents.request(bank, world.key(bank), subject, TERMS)
        assert not world.transactions.memory.requests

    async def test_a_provider_must_be_one(self, world: World) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await world.requested(provider_ids=("par_tax", "par_bank"))
        assert [problem.field for problem in caught.value.fields] == ["terms.provider_ids[1]"]


class TestSuspended:
    async def test_it_neither_asks_nor_acts(self, world: World) -> None:
        consent = await world.requested()
        async with world.transactions.begin() as work:
            for person in (BANK, FIRM):
                await work.participants.set_standing(person.participant_id, Standing.SUSPENDED)

        with pytest.raises(PermissionDeniedError) as asked:
            await world.requested()
        assert asked.value.reason == "PARTICIPANT_SUSPENDED"
        firm = caller(FIRM)
        with pytest.raises(PermissionDeniedError) as granted:
            await world.consents.grant(
                firm, world.key(firm), consent.core.consent_id, consent.sha256, ()
            )
        assert granted.value.reason == "PARTICIPANT_SUSPENDED"
        with pytest.raises(PermissionDeniedError) as ended:
            await world.end(firm, consent, Action.REJECT)
        assert ended.value.reason == "PARTICIPANT_SUSPENDED"
        revoked = await world.end(OPERATOR, consent, Action.REVOKE)
        assert revoked.state is State.REVOKED


class TestReplay:
    async def test_a_replay_returns_what_was_answered_whatever_happened_since(
        self, world: World
    ) -> None:
        bank, firm, signature = caller(BANK), caller(FIRM), Signature("par_firm", "e30..c2ln")
        name = SubjectName(uscc=USCC)
        asked = await world.consents.request(bank, world.key(bank, "r"), name, TERMS)
        consent_id = asked.core.consent_id

        async def grant() -> Consent:
            return await world.consents.grant(
                firm, world.key(firm, "r"), consent_id, asked.sha256, (signature,)
            )

        granted = await grant()
        await world.end(firm, asked, Action.WITHDRAW)
        assert await world.consents.request(bank, world.key(bank, "r"), name, TERMS) == asked
        assert await grant() == granted
        assert granted.signatures == (signature,)
        assert len(world.change_kinds()) == 3

    async def test_another_body_is_refused(self, world: World) -> None:
        consent, firm = await world.granted(), caller(FIRM)
        withdraw = Action.WITHDRAW
        await world.consents.end(
            firm, world.key(firm, "r"), consent.core.consent_id, withdraw, "because"
        )
        with pytest.raises(AlreadyExistsError) as caught:
            await world.consents.end(
                firm, world.key(firm, "r", b"g" * 32), consent.core.consent_id, withdraw, "other"
            )
        assert caught.value.reason == "REQUEST_ID_REUSED"

    async def test_what_failed_may_be_tried_again(self, world: World) -> None:
        consent, firm = await world.requested(), caller(FIRM)
        consent_id = consent.core.consent_id
        with pytest.raises(InvalidArgumentError):
            await world.consents.grant(firm, world.key(firm, "r"), consent_id, bytes(32), ())
        granted = await world.consents.grant(
            firm, world.key(firm, "r"), consent_id, consent.sha256, ()
        )
        assert granted.state is State.ACTIVE


class TestParties:
    @pytest.mark.parametrize("stranger", [OTHER, RIVAL, COURT])
    @pytest.mark.parametrize("act", ["get", "grant", "reject", "withdraw", "revoke"])
    async def test_a_stranger_learns_nothing(
        self, world: World, stranger: Participant, act: str
    ) -> None:
        consent, who = await world.requested(), caller(stranger)
        told = []
        for consent_id in (consent.core.consent_id, "con_none"):
            with pytest.raises(NotFoundError) as caught:
                if act == "get":
                    await world.consents.get(who, consent_id)
                elif act == "grant":
                    await world.consents.grant(who, world.key(who), consent_id, bytes(32), ())
                else:
                    await world.consents.end(who, world.key(who), consent_id, Action(act), "")
            told.append((caught.value.reason, caught.value.message))
        assert told[0] == told[1]
        assert told[0][0] == "CONSENT_NOT_FOUND"

    async def test_bank_and_operator_may_revoke(self, world: World) -> None:
        for who in (caller(BANK), OPERATOR):
            ended = await world.end(who, await world.granted(), Action.REVOKE)
            assert (ended.state, ended.note) == (State.REVOKED, "because")

    async def test_lists_hold_ones_own(self, world: World) -> None:
        first, second = await world.requested(), await world.granted()

        async def listed(who: Participant, state: State | None = None) -> list[str]:
            found, _, _ = await world.consents.list(caller(who), state, "", 10)
            return [consent.core.consent_id for consent in found]

        both = [second.core.consent_id, first.core.consent_id]
        assert await listed(FIRM) == await listed(BANK) == both
        assert await listed(RIVAL) == await listed(OTHER) == []
        assert await listed(FIRM, State.ACTIVE) == both[:1]
        world.clock.at = TERMS.expires_at
        assert await listed(FIRM, State.ACTIVE) == []
        assert await listed(FIRM, State.EXPIRED) == both

    async def test_an_account_acts_as_its_mandate_says_whatever_came_with_the_call(
        self, world: World
    ) -> None:
        consent = await world.granted()
        stale = Caller("par_firm", "FIRM", "sub_0002")
        assert len((await world.consents.list(stale, None, "", 10))[0]) == 1
        world.transactions.memory.mandates.clear()
        for act in (
            world.consents.list(caller(FIRM), None, "", 10),
            world.consents.get(caller(FIRM), consent.core.consent_id),
            world.end(caller(FIRM), consent, Action.WITHDRAW),
        ):
            with pytest.raises(PermissionDeniedError) as caught:
                await act
            assert caught.value.reason == "MANDATE_REQUIRED"

    async def test_pages_meet(self, world: World) -> None:
        made = [(await world.requested()).core.consent_id for _ in range(5)]
        seen, before = [], ""
        for _ in range(3):
            page, before, _ = await world.consents.list(caller(FIRM), None, before, 2)
            seen += [consent.core.consent_id for consent in page]
        assert (seen, before) == (made[::-1], "")


class TestWhatIsWritten:
    async def test_each_change_has_its_leaf_and_its_place_in_the_feed(self, world: World) -> None:
        consent = await world.granted()
        await world.end(caller(FIRM), consent, Action.WITHDRAW)
        assert world.change_kinds() == [
            ChangeKind.CONSENT_REQUESTED,
            ChangeKind.CONSENT_GRANTED,
            ChangeKind.CONSENT_WITHDRAWN,
        ]
        for change in world.transactions.memory.changes.values():
            assert (change.subject_id, change.consent_id, change.participant_id) == (
                "sub_0001",
                consent.core.consent_id,
                "par_bank",
            )
        assert [leaf.kind for leaf in world.transactions.memory.leaves.values()] == [
            LeafKind.CONSENT
        ] * 3

    async def test_a_leaf_attests_who_did_what_to_which_terms(self, world: World) -> None:
        consent = await world.requested()
        (leaf,) = world.transactions.memory.leaves.values()
        stated = change_content(consent, "par_bank")
        assert stated == {
            "consent_id": consent.core.consent_id,
            "canonical_sha256": consent.sha256.hex(),
            "revision": 1,
            "state": "REQUESTED",
            "changed_at": "2026-05-01T08:30:00.000000Z",
            "actor_id": "par_bank",
            "note": "",
            "signatures": [],
        }
        assert leaf.hash == leaf_hash(leaf.salt, canonical(stated))

    async def test_what_is_refused_leaves_nothing(self, world: World) -> None:
        consent = await world.end(caller(FIRM), await world.granted(), Action.WITHDRAW)
        before = world.transactions.memory
        with pytest.raises(FailedPreconditionError):
            await world.end(caller(FIRM), consent, Action.WITHDRAW)
        assert world.transactions.memory is before
        assert consent.changed_at == NOW
