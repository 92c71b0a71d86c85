"""Consents as their parties see them."""

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from puhui_client.signing import PublicKey, new_key
from services.datashare.access.domain import Released
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.changes.domain import ChangeKind
from services.datashare.consent.domain import (
    Action,
    Attestation,
    Consent,
    Duty,
    Mode,
    Officer,
    Signature,
    State,
    Version,
    change_content,
    state_at,
)
from services.datashare.consent.servicer import consent_message
from services.datashare.log.domain import LeafKind, canonical, leaf_hash
from services.datashare.mandates.domain import MandateKind, Power, SigningRule
from services.datashare.notices.domain import NoticeKind
from services.datashare.participants.domain import Participant, SigningKey, Standing, SubjectName
from services.datashare.quota.domain import ONE_TIME, Limit, Unit
from services.datashare.receipts.domain import Suite
from services.datashare.receipts.keyfile import FileSigner
from services.datashare.receipts.keyfile import new_key as new_platform_key
from services.datashare.wanted.domain import WantedState
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
    OFFICER,
    OPERATOR,
    OTHER,
    RIVAL,
    TERMS,
    USCC,
    World,
    caller,
)
from tests.fakes.mandates import representative
from tests.fakes.signing import SIGNER
from tests.fakes.standing import set_standing


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
        consent = await world.consents.request(bank, world.key(bank), named, TERMS, OFFICER)
        assert consent.core.subject_id == "sub_0002"

    @pytest.mark.parametrize(
        "subject", [SubjectName(subject_id="sub_9"), SubjectName(uscc="91110108MA0123457B")]
    )
    async def test_a_subject_must_be_there(self, world: World, subject: SubjectName) -> None:
        bank = caller(BANK)
        with pytest.raises((NotFoundError, InvalidArgumentError)):
            await world.consents.request(bank, world.key(bank), subject, TERMS, OFFICER)
        assert not world.transactions.memory.requests

    @pytest.mark.parametrize(
        ("officer", "fields"),
        [
            (Officer("", ""), ["officer.name", "officer.file_reference"]),
            (Officer("王", " "), ["officer.file_reference"]),
        ],
    )
    async def test_who_asks_and_for_which_file_is_named(
        self, world: World, officer: Officer, fields: list[str]
    ) -> None:
        bank, named = caller(BANK), SubjectName(uscc=USCC)
        with pytest.raises(InvalidArgumentError) as caught:
            await world.consents.request(bank, world.key(bank), named, TERMS, officer)
        assert caught.value.reason == "OFFICER_REQUIRED"
        assert [problem.field for problem in caught.value.fields] == fields

    async def test_a_provider_must_be_one(self, world: World) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await world.requested(provider_ids=("par_tax", "par_bank"))
        assert [problem.field for problem in caught.value.fields] == ["terms.provider_ids[1]"]

    async def test_for_another_firm_it_names_one_that_is_there(self, world: World) -> None:
        related = {"purpose": "related_party", "content_level": ContentLevel.SUMMARY}
        consent = await world.requested(**related, for_subject_id="sub_0002")
        assert json.loads(consent.canonical)["for_subject_id"] == "sub_0002"
        assert "sub_0002" in consent.notice
        for other in ("", "sub_0001", "sub_9"):
            with pytest.raises(InvalidArgumentError) as caught:
                await world.requested(**related, for_subject_id=other)
            assert [problem.field for problem in caught.value.fields] == ["terms.for_subject_id"]


class TestSuspended:
    async def test_it_neither_asks_nor_acts(self, world: World) -> None:
        consent = await world.requested()
        async with world.transactions.begin() as work:
            for person in (BANK, FIRM):
                await set_standing(work, person.participant_id, Standing.SUSPENDED)

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
        bank, firm, signature = caller(BANK), caller(FIRM), Signature("par_firm", "")
        name = SubjectName(uscc=USCC)
        asked = await world.consents.request(bank, world.key(bank, "r"), name, TERMS, OFFICER)
        consent_id = asked.core.consent_id

        async def grant() -> Consent:
            return await world.consents.grant(
                firm, world.key(firm, "r"), consent_id, asked.sha256, ()
            )

        granted = await grant()
        await world.end(firm, asked, Action.WITHDRAW)
        assert (
            await world.consents.request(bank, world.key(bank, "r"), name, TERMS, OFFICER) == asked
        )
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
        assert await listed(FIRM, State.EXPIRED) == both[:1]
        assert await listed(FIRM, State.LAPSED) == both[1:]

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
        attested = {**stated, "officer": "王", "file_reference": "F-1"}
        assert stated == {
            "consent_id": consent.core.consent_id,
            "canonical_sha256": consent.sha256.hex(),
            "revision": 1,
            "state": "REQUESTED",
            "changed_at": "2026-05-01T08:30:00.000000Z",
            "actor_id": "par_bank",
            "note": "",
            "signatures": [],
            "signer_ids": [],
            "superseded_by": "",
        }
        assert leaf.hash == leaf_hash(leaf.salt, canonical(attested))

    async def test_what_is_refused_leaves_nothing(self, world: World) -> None:
        consent = await world.end(caller(FIRM), await world.granted(), Action.WITHDRAW)
        before = world.transactions.memory
        with pytest.raises(FailedPreconditionError):
            await world.end(caller(FIRM), consent, Action.WITHDRAW)
        assert world.transactions.memory is before
        assert consent.changed_at == NOW


KEY = new_key()


async def rule(world: World, *signer_ids: str, required: int) -> None:
    """Let the firm have these signers, each with a mandate."""
    memory = world.transactions.memory
    memory.signing_rules["sub_0001"] = SigningRule(signer_ids, required)
    for signer_id in signer_ids:
        if signer_id not in memory.participants:
            person = replace(FIRM, participant_id=signer_id)
            memory.participants[signer_id] = person
            memory.mandates[f"man_{signer_id}"] = replace(
                representative(FIRM),
                mandate_id=f"man_{signer_id}",
                participant_id=signer_id,
                kind=MandateKind.DELEGATE,
                powers=frozenset({Power.GRANT, Power.WITHDRAW}),
            )


def signer(participant_id: str) -> Caller:
    return Caller(participant_id, "FIRM", "sub_0001")


class TestObject:
    async def test_the_platform_signs_what_it_is_asked_for(self, world: World) -> None:
        await rule(world, "par_firm", "par_cfo", required=2)
        consent = await world.requested(
            expires_at=NOW + timedelta(days=20), mode=Mode.STORE, data_life_days=30
        )
        core = consent.core
        assert (core.schema_version, core.suite, core.purposes_version) == (2, "EdDSA", 3)
        assert core.signers == SigningRule(("par_cfo", "par_firm"), 2)
        # What was left open is filled in: so the firm knows what it agrees to.
        assert core.terms.fetch_limit == Limit(200, Unit.DAY)
        assert core.answer_by == consent.core.terms.expires_at
        public = PublicKey.parse(SIGNER.key.public_jwk)
        public.verify(consent.platform_jws, consent.canonical)
        assert core.notice_sha256 == hashlib.sha256(consent.notice.encode()).digest()
        assert "A bank" in consent.notice
        assert "puhui consent withdraw " + core.consent_id in consent.notice

    async def test_the_suite_of_the_platforms_key_is_named_in_it(self, world: World) -> None:
        p256 = FileSigner(new_platform_key(Suite.ES256).encode(), Suite.ES256)
        world.consents._signer = p256
        consent = await world.granted()
        assert json.loads(consent.canonical)["suite"] == "ES256"
        ended = await world.end(caller(FIRM), consent, Action.WITHDRAW)
        assert ended.termination is not None
        assert json.loads(ended.termination.canonical)["suite"] == "ES256"
        public = PublicKey.parse(p256.key.public_jwk)
        public.verify(consent.platform_jws, consent.canonical)
        public.verify(ended.termination.jws, ended.termination.canonical)

    async def test_who_is_passed_on_to_must_be_another_institution(self, world: World) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await world.requested(onward_recipient_ids=("par_other", "par_firm", "par_bank", "x"))
        assert [problem.field for problem in caught.value.fields] == [
            f"terms.onward_recipient_ids[{index}]" for index in (1, 2, 3)
        ]

    async def test_it_lapses_after_thirty_days(self, world: World) -> None:
        consent = await world.requested()
        world.clock.advance(timedelta(days=30))
        with pytest.raises(FailedPreconditionError, match="lapsed"):
            await world.consents.grant(
                caller(FIRM),
                world.key(caller(FIRM)),
                consent.core.consent_id,
                consent.sha256,
                (),
            )


class TestSigners:
    async def agree(self, world: World, who: Caller, consent: Consent, *jws: str) -> Consent:
        signatures = tuple(Signature(who.participant_id, each) for each in jws)
        return await world.consents.grant(
            who, world.key(who), consent.core.consent_id, consent.sha256, signatures
        )

    async def test_all_required_ones_must_agree_and_any_one_may_withdraw(
        self, world: World
    ) -> None:
        await rule(world, "par_firm", "par_cfo", "par_ceo", required=2)
        consent = await world.requested()
        once = await self.agree(world, signer("par_cfo"), consent)
        assert once.state is State.PARTIALLY_APPROVED
        (refused,) = await world.fetched(world.item(consent))
        assert isinstance(refused, FailedPreconditionError)
        assert refused.reason == "CONSENT_NOT_ACTIVE"
        with pytest.raises(FailedPreconditionError) as again:
            await self.agree(world, signer("par_cfo"), consent)
        assert again.value.reason == "NOT_A_SIGNER"
        twice = await self.agree(world, signer("par_ceo"), consent)
        assert twice.state is State.ACTIVE
        assert [each.signer_id for each in twice.signatures] == ["par_cfo", "par_ceo"]
        assert world.change_kinds()[1:] == [
            ChangeKind.CONSENT_APPROVED,
            ChangeKind.CONSENT_GRANTED,
        ]
        ended = await world.end(signer("par_firm"), consent, Action.WITHDRAW)
        assert ended.state is State.WITHDRAWN

    @pytest.mark.parametrize(
        "changes",
        [
            {"ended_at": NOW},
            {"suspended_at": NOW},
            {"until": NOW},
            {"powers": frozenset({Power.READ})},
            {"subject_id": "sub_other"},
        ],
        ids=str,
    )
    async def test_who_may_not_sign_any_more_has_not_agreed(
        self, world: World, changes: dict[str, object]
    ) -> None:
        await rule(world, "par_firm", "par_cfo", "par_ceo", required=2)
        consent = await world.requested()
        await self.agree(world, signer("par_cfo"), consent)
        mandates = world.transactions.memory.mandates
        before = mandates["man_par_cfo"]
        mandates["man_par_cfo"] = replace(before, **changes)  # type: ignore[arg-type]  # names fields
        twice = await self.agree(world, signer("par_ceo"), consent)
        assert twice.state is State.PARTIALLY_APPROVED
        thrice = await self.agree(world, signer("par_firm"), consent)
        assert thrice.state is State.ACTIVE

    async def test_a_signer_may_withdraw_whatever_else_it_may_not(self, world: World) -> None:
        await rule(world, "par_firm", "par_cfo", required=2)
        mandates = world.transactions.memory.mandates
        grants = replace(mandates["man_par_cfo"], powers=frozenset({Power.GRANT}))
        mandates["man_par_cfo"] = grants
        mandates["man_clerk"] = replace(grants, mandate_id="man_clerk", participant_id="clerk")
        consent = await world.requested()
        for act in (
            world.consents.pause(signer("par_cfo"), world.key(signer("par_cfo")), "c", ""),
            world.end(signer("clerk"), consent, Action.WITHDRAW),
        ):
            with pytest.raises(PermissionDeniedError) as caught:
                await act
            assert caught.value.reason == "MANDATE_REQUIRED"
        ended = await world.end(signer("par_cfo"), consent, Action.WITHDRAW)
        assert ended.state is State.WITHDRAWN

    async def test_who_may_grant_but_is_no_signer_does_not(self, world: World) -> None:
        await rule(world, "par_cfo", required=1)
        consent = await world.requested()
        with pytest.raises(PermissionDeniedError) as caught:
            await self.agree(world, caller(FIRM), consent)
        assert caught.value.reason == "NOT_A_SIGNER"

    async def test_who_has_a_signing_key_signs_with_it(self, world: World) -> None:
        consent = await world.requested()
        async with world.transactions.begin() as work:
            await work.participants.add_signing_key(
                SigningKey(KEY.key_id, "par_firm", KEY.public.jwk, NOW)
            )
        good = KEY.sign(consent.canonical)
        for jws in (
            (),
            ("e30..c2ln",),
            (KEY.sign(consent.canonical + b" "),),
            (new_key().sign(consent.canonical),),
            (good, good),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                await self.agree(world, caller(FIRM), consent, *jws)
            assert caught.value.reason == "CONSENT_SIGNATURE_INVALID"
            assert caught.value.fields[0].field.startswith("signatures")
        granted = await self.agree(world, caller(FIRM), consent, good)
        assert granted.signatures == (Signature("par_firm", good),)

    async def test_nobody_signs_for_others_nor_by_a_key_that_was_revoked(
        self, world: World
    ) -> None:
        consent = await world.requested()
        jws = KEY.sign(consent.canonical)
        for participant_id, revoked_at in (("par_cfo", None), ("par_firm", NOW)):
            async with world.transactions.begin() as work:
                memory = world.transactions.memory
                memory.participants["par_cfo"] = replace(FIRM, participant_id="par_cfo")
                work.participants._signing_keys[KEY.key_id] = SigningKey(
                    KEY.key_id, participant_id, KEY.public.jwk, NOW, revoked_at
                )
            with pytest.raises(InvalidArgumentError) as caught:
                await self.agree(world, caller(FIRM), consent, jws)
            assert [each.field for each in caught.value.fields] == ["signatures[0].jws"]
        with pytest.raises(InvalidArgumentError) as other:
            await world.consents.grant(
                caller(FIRM),
                world.key(caller(FIRM)),
                consent.core.consent_id,
                consent.sha256,
                (Signature("par_cfo", jws),),
            )
        assert [each.field for each in other.value.fields] == ["signatures[0].signer_id"]


class TestPausing:
    async def test_it_holds_at_once_and_ends_when_the_firm_says(self, world: World) -> None:
        consent, firm = await world.granted(), caller(FIRM)
        consent_id = consent.core.consent_id
        paused = await world.consents.pause(firm, world.key(firm), consent_id, "holiday")
        assert (paused.state, paused.note) == (State.PAUSED, "holiday")
        (refused,) = await world.fetched(world.item(consent))
        assert isinstance(refused, FailedPreconditionError)
        assert refused.reason == "CONSENT_PAUSED"
        resumed = await world.consents.resume(firm, world.key(firm), consent_id)
        assert resumed.state is State.ACTIVE
        (released,) = await world.fetched(world.item(consent))
        assert isinstance(released, Released)
        # Providers were told once: what was due stays so.
        assert [item.state for item in world.transactions.memory.wanted.values()].count(
            WantedState.ENDED
        ) == 0

    async def test_who_may_only_withdraw_does_not_open_it_again(self, world: World) -> None:
        await rule(world, "par_cfo", required=1)
        mandates = world.transactions.memory.mandates
        mandates["man_par_cfo"] = replace(
            mandates["man_par_cfo"], powers=frozenset({Power.WITHDRAW})
        )
        world.transactions.memory.signing_rules.clear()
        consent, cfo = await world.granted(), signer("par_cfo")
        consent_id = consent.core.consent_id
        paused = await world.consents.pause(cfo, world.key(cfo), consent_id, "")
        assert paused.state is State.PAUSED
        with pytest.raises(PermissionDeniedError) as caught:
            await world.consents.resume(cfo, world.key(cfo), consent_id)
        assert caught.value.reason == "MANDATE_REQUIRED"

    async def test_suspending_the_recipient_pauses_what_it_holds(self, world: World) -> None:
        consent = await world.granted()

        async def shown() -> tuple[State, list[Consent]]:
            found, now = await world.consents.get(caller(FIRM), consent.core.consent_id)
            listed, _, _ = await world.consents.list(caller(FIRM), State.PAUSED, "", 10)
            return state_at(found, now), list(listed)

        async def change(standing: Standing) -> None:
            async with world.transactions.begin() as work:
                await set_standing(work, "par_bank", standing)

        await change(Standing.SUSPENDED)
        state, listed = await shown()
        assert (state, len(listed)) == (State.PAUSED, 1)
        await change(Standing.ACTIVE)
        assert await shown() == (State.ACTIVE, [])

    async def test_what_is_granted_to_one_that_is_suspended_rests_and_is_told_so(
        self, world: World
    ) -> None:
        asked, paused = await world.requested(), await world.granted()
        firm = caller(FIRM)
        await world.consents.pause(firm, world.key(firm), paused.core.consent_id, "")
        async with world.transactions.begin() as work:
            await set_standing(work, "par_bank", Standing.SUSPENDED)
        before = len(world.transactions.memory.notices)
        await world.consents.grant(firm, world.key(firm), asked.core.consent_id, asked.sha256, ())
        await world.consents.resume(firm, world.key(firm), paused.core.consent_id)
        told = list(world.transactions.memory.notices.values())[before:]
        assert [(notice.kind, notice.party_id, notice.participant_id) for notice in told] == [
            (kind, party_id, who)
            for act in (NoticeKind.CONSENT_GRANTED, NoticeKind.CONSENT_RESUMED)
            for kind, who in ((act, "par_firm"), (NoticeKind.CONSENT_PAUSED, "par_bank"))
            for party_id in ("sub_0001", "par_bank")
        ]


class TestVersions:
    async def replacing(self, world: World, consent: Consent, **terms: Any) -> Consent:
        bank = caller(BANK)
        return await world.consents.request(
            bank,
            world.key(bank),
            SubjectName(uscc=USCC),
            replace(TERMS, **terms),
            OFFICER,
            supersedes=consent.core.consent_id,
        )

    async def agree(self, world: World, consent: Consent) -> Consent:
        firm = caller(FIRM)
        return await world.consents.grant(
            firm, world.key(firm), consent.core.consent_id, consent.sha256, ()
        )

    async def test_the_new_one_ends_the_old_one_as_it_becomes_active(self, world: World) -> None:
        old = await world.granted()
        new = await self.replacing(world, old, record_types=("vat_invoice",))
        assert new.core.supersedes == Version(old.core.consent_id, old.sha256)
        assert old.core.consent_id in new.notice
        await self.agree(world, new)
        memory = world.transactions.memory
        ended = memory.consents[old.core.consent_id]
        assert (ended.state, ended.superseded_by) == (State.SUPERSEDED, new.core.consent_id)
        assert world.change_kinds()[-2:] == [
            ChangeKind.CONSENT_SUPERSEDED,
            ChangeKind.CONSENT_GRANTED,
        ]
        (refused,) = await world.fetched(world.item(old))
        assert isinstance(refused, FailedPreconditionError)
        assert refused.reason == "CONSENT_SUPERSEDED"

    async def test_only_one_replaces_it(self, world: World) -> None:
        old = await world.granted()
        one, other = await self.replacing(world, old), await self.replacing(world, old)
        await self.agree(world, one)
        with pytest.raises(FailedPreconditionError) as caught:
            await self.agree(world, other)
        assert caught.value.reason == "CONSENT_STATE"

    async def test_one_that_has_ended_meanwhile_stays_as_it_is(self, world: World) -> None:
        old = await world.granted()
        new = await self.replacing(world, old)
        await world.end(caller(FIRM), old, Action.WITHDRAW)
        assert (await self.agree(world, new)).state is State.ACTIVE
        ended = world.transactions.memory.consents[old.core.consent_id]
        assert (ended.state, ended.superseded_by) == (State.WITHDRAWN, "")

    async def test_what_is_not_there_or_of_others_or_over_cannot_be_replaced(
        self, world: World
    ) -> None:
        waiting, over = await world.requested(), await world.granted()
        await world.end(caller(FIRM), over, Action.WITHDRAW)
        for consent in (waiting, over, replace(over, core=replace(over.core, consent_id="x"))):
            with pytest.raises(InvalidArgumentError) as caught:
                await self.replacing(world, consent)
            assert [each.field for each in caught.value.fields] == ["supersedes_consent_id"]


class TestCeilings:
    async def test_one_that_was_lowered_since_holds_at_once(self, world: World) -> None:
        consent = await world.granted()
        credit = replace(world.catalogue.purpose("credit_application"), max_days=30)
        purposes = {**world.catalogue.purposes, "credit_application": credit}
        lowered = World(
            world.clock, world.transactions, replace(world.catalogue, purposes=purposes)
        )
        (refused,) = await lowered.fetched(lowered.item(consent))
        assert isinstance(refused, FailedPreconditionError)
        assert refused.reason == "CONSENT_OVER_CEILING"
        (released,) = await world.fetched(world.item(consent, request_id="of_before"))
        assert isinstance(released, Released)


class TestEnding:
    async def test_subject_and_recipient_get_a_signed_receipt(self, world: World) -> None:
        consent = await world.granted(mode=Mode.STORE, data_life_days=30)
        world.clock.advance(timedelta(days=1))
        await world.end(caller(FIRM), consent, Action.WITHDRAW)
        for who in (FIRM, BANK):
            found, _ = await world.consents.get(caller(who), consent.core.consent_id)
            assert found.termination is not None
            public = PublicKey.parse(SIGNER.key.public_jwk)
            public.verify(found.termination.jws, found.termination.canonical)
            stated = json.loads(found.termination.canonical)
            assert stated["state"] == "WITHDRAWN"
            assert stated["ended_by"] == "par_firm"
            assert (stated["principal_id"], stated["delegate_id"]) == ("par_firm", "par_firm")
            assert stated["canonical_sha256"] == consent.sha256.hex()
            assert stated["erase_by"] == "2026-06-01T08:30:00.000000Z"
        due = [
            notice
            for notice in world.transactions.memory.notices.values()
            if notice.kind is NoticeKind.ERASURE_DUE
        ]
        assert {notice.party_id for notice in due} == {"sub_0001", "par_bank"}
        assert {notice.due_at for notice in due} == {NOW + timedelta(days=31)}

    async def test_what_is_only_viewed_leaves_no_duty(self, world: World) -> None:
        consent = await world.granted()
        ended = await world.end(caller(FIRM), consent, Action.WITHDRAW)
        assert ended.termination is not None
        assert "erase_by" not in json.loads(ended.termination.canonical)
        assert not world.transactions.memory.duties

    async def test_a_request_that_is_ended_leaves_no_duty(self, world: World) -> None:
        consent = await world.requested(mode=Mode.STORE, data_life_days=30)
        await world.end(caller(FIRM), consent, Action.REJECT)
        assert not world.transactions.memory.duties


class TestErasure:
    async def listed(
        self, world: World, who: Caller, *, overdue: bool = False
    ) -> list[tuple[str, datetime]]:
        found, _ = await world.duties.list(who, None, 10, overdue=overdue)
        return [(duty.consent_id, duty.due_at) for duty in found]

    async def attest(self, world: World, who: Participant, consent: Consent) -> Duty:
        bank = caller(who)
        return await world.duties.attest(
            bank,
            world.key(bank),
            consent.core.consent_id,
            Attestation(NOW, Officer("王", "F-1"), "deleted"),
        )

    async def test_it_is_due_after_the_end_however_it_came(self, world: World) -> None:
        expires = await world.granted(mode=Mode.STORE, data_life_days=10)
        ended = await world.granted(mode=Mode.STORE, data_life_days=60)
        bank = caller(BANK)
        assert await self.listed(world, bank) == []
        await world.end(bank, ended, Action.REVOKE)
        soon = (ended.core.consent_id, NOW + timedelta(days=60))
        assert await self.listed(world, bank) == [soon]
        assert await self.listed(world, bank, overdue=True) == []
        world.clock.at = TERMS.expires_at
        late = (expires.core.consent_id, TERMS.expires_at + timedelta(days=10))
        for who in (bank, caller(FIRM), OPERATOR):
            assert await self.listed(world, who) == [soon, late]
            assert await self.listed(world, who, overdue=True) == [soon]
        assert await self.listed(world, caller(OTHER)) == []
        assert await self.listed(world, caller(RIVAL)) == []

    async def test_one_use_of_a_one_time_consent_ends_it(self, world: World) -> None:
        consent = await world.granted(mode=Mode.STORE, data_life_days=7, fetch_limit=ONE_TIME)
        world.clock.advance(timedelta(days=2))
        item = world.item(consent)
        released, again = (await world.fetched(item))[0], (await world.fetched(item))[0]
        assert isinstance(released, Released)
        assert again == released
        (refused,) = await world.fetched(world.item(consent))
        assert isinstance(refused, FailedPreconditionError)
        assert refused.reason == "CONSENT_CONSUMED"
        due_at = world.clock.now() + timedelta(days=7)
        assert await self.listed(world, caller(BANK)) == [(consent.core.consent_id, due_at)]
        memory = world.transactions.memory
        assert world.change_kinds().count(ChangeKind.CONSENT_CONSUMED) == 1
        told = [
            notice.party_id
            for notice in memory.notices.values()
            if notice.kind is NoticeKind.CONSENT_CONSUMED
        ]
        assert told == ["sub_0001", "par_bank"]
        due = [
            (notice.party_id, notice.due_at)
            for notice in memory.notices.values()
            if notice.kind is NoticeKind.ERASURE_DUE
        ]
        assert due == [("sub_0001", due_at), ("par_bank", due_at)]
        ended = [item.state for item in memory.wanted.values()].count(WantedState.ENDED)
        assert ended == [item.state for item in memory.wanted.values()].count(WantedState.DUE)
        found, now = await world.consents.get(caller(FIRM), consent.core.consent_id)
        assert state_at(found, now) is State.CONSUMED
        message = consent_message(found, now)
        public = PublicKey.parse(SIGNER.key.public_jwk)
        public.verify(message.termination.jws, message.termination.canonical)
        stated = json.loads(message.termination.canonical)
        assert (stated["state"], stated["ended_by"]) == ("CONSUMED", "par_bank")
        assert stated["ended_at"] == "2026-05-03T08:30:00.000000Z"
        assert stated["erase_by"] == "2026-05-10T08:30:00.000000Z"
        with pytest.raises(FailedPreconditionError, match="consumed"):
            await world.end(caller(FIRM), consent, Action.WITHDRAW)

    async def test_it_is_attested_once_by_a_named_officer(self, world: World) -> None:
        consent = await world.granted(mode=Mode.STORE, data_life_days=0)
        with pytest.raises(FailedPreconditionError) as early:
            await self.attest(world, BANK, consent)
        assert early.value.reason == "CONSENT_STATE"
        await world.end(caller(FIRM), consent, Action.WITHDRAW)
        with pytest.raises(NotFoundError):
            await self.attest(world, OTHER, consent)
        bank = caller(BANK)
        with pytest.raises(InvalidArgumentError) as unnamed:
            await world.duties.attest(
                bank,
                world.key(bank),
                consent.core.consent_id,
                Attestation(NOW, Officer("", " "), "deleted"),
            )
        assert unnamed.value.reason == "OFFICER_REQUIRED"
        assert [each.field for each in unnamed.value.fields] == [
            "officer.name",
            "officer.file_reference",
        ]
        assert len(await self.listed(world, bank, overdue=True)) == 1
        duty = await self.attest(world, BANK, consent)
        assert duty.attestation == Attestation(NOW, Officer("王", "F-1"), "deleted")
        assert await self.listed(world, bank, overdue=True) == []
        kinds = [notice.kind for notice in world.transactions.memory.notices.values()]
        assert kinds.count(NoticeKind.ERASURE_ATTESTED) == 2
        with pytest.raises(FailedPreconditionError):
            await self.attest(world, BANK, consent)
