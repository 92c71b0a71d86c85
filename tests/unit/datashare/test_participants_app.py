"""Registering participants, keys and standing."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from puhui_client.signing import new_key
from services.datashare.changes.domain import ChangeKind
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import LeafKind, Sealer
from services.datashare.mandates.domain import Power, registered
from services.datashare.participants.app import BootstrapKey, ParticipantDirectory, Registration
from services.datashare.participants.domain import (
    Role,
    SigningKey,
    Standing,
    SubjectName,
    bootstrap_operator,
)
from services.datashare.participants.jwk import public_key
from services.datashare.participants.servicer import ParticipantCodec, SigningKeyCodec, TimeCodec
from services.kit.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from tests.fakes.datashare_world import (
    BANK,
    COURT,
    FIRM,
    NOW,
    OPERATOR,
    TAX,
    USCC,
    World,
    caller,
)

JWK = public_key(new_key().public.jwk).jwk
PRODUCTS = ("credit_reporting", "data_service")
BOOTSTRAP = BootstrapKey("key_first", hashlib.sha256(b"first").digest())


@pytest.fixture
def world() -> World:
    empty = World()
    empty.transactions.memory.participants.clear()
    empty.transactions.memory.subjects.clear()
    empty.transactions.memory.mandates.clear()
    return empty


@pytest.fixture
def directory(world: World) -> ParticipantDirectory:
    return ParticipantDirectory(
        transactions=world.transactions,
        retry=lambda work: work(),
        clock=world.clock,
        ids=SequentialIds(),
        sealer=Sealer(SequentialIds(), bytes),
        random_bytes=lambda size: bytes(range(size)),
        participant_codec=ParticipantCodec(),
        time_codec=TimeCodec(),
        signing_key_codec=SigningKeyCodec(),
        provider_kinds={"tax", "court"},
        bootstrap=BOOTSTRAP,
        operator=bootstrap_operator(NOW, PRODUCTS),
        products=PRODUCTS,
        sandbox=True,
    )


@pytest.fixture
def key(world: World) -> Callable[..., RequestKey]:
    def make(request_id: str = "", fingerprint: bytes = b"f" * 32) -> RequestKey:
        return world.key(OPERATOR, request_id, fingerprint)

    return make


Key = Callable[..., RequestKey]
A_BANK = Registration(Role.BANK, "A bank")
A_FIRM = Registration(Role.FIRM, "A firm", subject=SubjectName(uscc=USCC))


class TestRegister:
    async def test_a_replay_returns_what_was_made(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        first = await directory.register(OPERATOR, key("r1"), A_BANK)
        await directory.set_standing(OPERATOR, key(), first.participant_id, Standing.SUSPENDED, "")
        assert await directory.register(OPERATOR, key("r1"), A_BANK) == first
        assert len(world.transactions.memory.participants) == 1

    async def test_another_body_is_refused(self, directory: ParticipantDirectory, key: Key) -> None:
        await directory.register(OPERATOR, key("r1"), A_BANK)
        with pytest.raises(AlreadyExistsError) as caught:
            await directory.register(OPERATOR, key("r1", b"g" * 32), A_BANK)
        assert caught.value.reason == "REQUEST_ID_REUSED"

    async def test_a_firm_becomes_a_subject(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        firm = await directory.register(OPERATOR, key(), A_FIRM)
        assert firm.subject_id == world.transactions.memory.subjects[USCC]

    async def test_a_firm_may_be_a_known_subject_and_only_once(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        world.transactions.memory.subjects[USCC] = "sub_7"
        by_id = replace(A_FIRM, subject=SubjectName(subject_id="sub_7"))
        assert (await directory.register(OPERATOR, key(), by_id)).subject_id == "sub_7"
        with pytest.raises(AlreadyExistsError) as caught:
            await directory.register(OPERATOR, key("r9"), A_FIRM)
        assert caught.value.reason == "ALREADY_EXISTS"
        assert ("operator", "r9") not in world.transactions.memory.requests

    async def test_it_is_its_own_representative_and_its_key_says_so(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        firm = await directory.register(OPERATOR, key(), A_FIRM)
        (mandate,) = world.transactions.memory.mandates.values()
        assert (mandate.subject_id, mandate.participant_id) == (
            firm.subject_id,
            firm.participant_id,
        )
        assert mandate.is_representative
        assert mandate.proved_by == "operator"
        assert world.change_kinds() == [ChangeKind.MANDATE_CHANGED]
        (leaf,) = world.transactions.memory.leaves.values()
        assert leaf.kind is LeafKind.MANDATE
        api_key, secret = (await directory.issue_key(key(), firm.participant_id))[1].split(".")
        sha256 = hashlib.sha256(secret.encode()).digest()
        assert (await directory.verify_key(api_key, sha256)).subject_id == firm.subject_id
        rows = world.transactions.memory.mandates
        for changed in (
            replace(mandate, suspended_at=NOW),
            replace(mandate, ended_at=NOW),
            replace(mandate, until=NOW),
            replace(mandate, powers=frozenset(Power) - {Power.READ}),
        ):
            rows[mandate.mandate_id] = changed
            assert (await directory.verify_key(api_key, sha256)).subject_id is None

    async def test_an_account_without_a_firm_speaks_for_none(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        account = await directory.register(OPERATOR, key(), replace(A_FIRM, subject=None))
        assert account.subject_id is None
        assert not world.transactions.memory.mandates

    async def test_a_firm_that_somebody_speaks_for_is_not_given_to_another(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        world.transactions.memory.subjects[USCC] = "sub_7"
        rows = world.transactions.memory.mandates
        rows["man_1"] = registered("man_1", "sub_7", "par_1", NOW)
        with pytest.raises(AlreadyExistsError, match="appoint"):
            await directory.register(OPERATOR, key(), A_FIRM)

    async def test_bad_subjects(self, directory: ParticipantDirectory, key: Key) -> None:
        with pytest.raises(InvalidArgumentError) as malformed:
            await directory.register(
                OPERATOR, key(), replace(A_FIRM, subject=SubjectName(uscc=USCC[::-1]))
            )
        assert malformed.value.reason == "USCC_MALFORMED"
        assert [problem.field for problem in malformed.value.fields] == ["subject.uscc"]
        with pytest.raises(NotFoundError):
            await directory.register(OPERATOR, key(), replace(A_FIRM, subject=SubjectName("sub_9")))

    async def test_a_provider_is_of_a_kind(self, directory: ParticipantDirectory, key: Key) -> None:
        with pytest.raises(InvalidArgumentError):
            await directory.register(
                OPERATOR, key(), Registration(Role.PROVIDER, "X", "astrologer")
            )


class TestList:
    async def test_firms_are_for_the_operator(
        self, directory: ParticipantDirectory, key: Key
    ) -> None:
        for registration in (A_BANK, A_FIRM, Registration(Role.PROVIDER, "Tax", "tax")):
            await directory.register(OPERATOR, key(), registration)

        async def roles(who: Caller, role: Role | None = None) -> list[str]:
            found, _ = await directory.list(who, role, "", 10)
            return [participant.role for participant in found]

        assert await roles(OPERATOR) == ["BANK", "FIRM", "PROVIDER"]
        assert await roles(OPERATOR, Role.FIRM) == ["FIRM"]
        assert await roles(caller(BANK)) == ["BANK", "PROVIDER"]
        assert await roles(caller(FIRM), Role.PROVIDER) == ["PROVIDER"]
        with pytest.raises(PermissionDeniedError) as caught:
            await roles(caller(BANK), Role.FIRM)
        assert caught.value.reason == "ROLE_NOT_ALLOWED"

    async def test_pages_meet(self, directory: ParticipantDirectory, key: Key) -> None:
        made = [
            (await directory.register(OPERATOR, key(), A_BANK)).participant_id for _ in range(5)
        ]
        seen, after = [], ""
        for _ in range(3):
            page, after = await directory.list(OPERATOR, None, after, 2)
            seen += [participant.participant_id for participant in page]
        assert (seen, after) == (made, "")


def digest(api_key: str) -> bytes:
    return hashlib.sha256(api_key.partition(".")[2].encode()).digest()


class TestKeys:
    async def test_a_key_verifies_and_its_secret_is_not_kept(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        bank = await directory.register(OPERATOR, key(), A_BANK)
        key_id, api_key = await directory.issue_key(key(), bank.participant_id)
        assert api_key.startswith(f"{key_id}.")
        assert await directory.verify_key(key_id, digest(api_key)) == bank
        assert api_key.partition(".")[2] not in repr(world.transactions.memory)

    async def test_a_replay_does_not_show_the_secret_again(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        bank = await directory.register(OPERATOR, key(), A_BANK)
        await directory.issue_key(key("r1"), bank.participant_id)
        with pytest.raises(AlreadyExistsError) as caught:
            await directory.issue_key(key("r1"), bank.participant_id)
        assert caught.value.reason == "REQUEST_ID_REUSED"
        assert len(world.transactions.memory.keys) == 1

    async def test_there_are_no_keys_for_nobody(
        self, directory: ParticipantDirectory, key: Key
    ) -> None:
        with pytest.raises(NotFoundError):
            await directory.issue_key(key(), "par_none")
        with pytest.raises(NotFoundError):
            await directory.revoke_key(key(), "key_none")
        with pytest.raises(NotFoundError):
            await directory.set_standing(OPERATOR, key(), "par_none", Standing.SUSPENDED, "")

    async def test_revocation_acts_at_once_and_is_told_once(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        bank = await directory.register(OPERATOR, key(), A_BANK)
        key_id, api_key = await directory.issue_key(key(), bank.participant_id)
        at = await directory.revoke_key(key("r1"), key_id)
        assert at == await directory.revoke_key(key("r1"), key_id)
        assert at == await directory.revoke_key(key(), key_id)
        with pytest.raises(UnauthenticatedError):
            await directory.verify_key(key_id, digest(api_key))
        (change,) = world.transactions.memory.changes.values()
        assert (change.kind, change.participant_id, change.key_id) == (
            ChangeKind.KEY_REVOKED,
            bank.participant_id,
            key_id,
        )

    async def test_the_first_operators_key_is_in_the_configuration(
        self, directory: ParticipantDirectory
    ) -> None:
        operator = await directory.verify_key("key_first", BOOTSTRAP.secret_sha256)
        assert (operator.participant_id, operator.role) == ("operator", Role.OPERATOR)
        with pytest.raises(UnauthenticatedError):
            await directory.verify_key("key_first", bytes(32))


class TestSigningKeys:
    async def test_a_key_is_registered_once(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        world.transactions.memory.participants[TAX.participant_id] = TAX
        first = await directory.register_signing_key(key("r1"), "par_tax", JWK)
        assert first == SigningKey(public_key(JWK).key_id, "par_tax", JWK, NOW)
        assert world.transactions.memory.participants["par_tax"].signs
        assert await directory.register_signing_key(key("r1"), "par_tax", JWK) == first
        with pytest.raises(AlreadyExistsError) as caught:
            await directory.register_signing_key(key(), "par_tax", JWK)
        assert caught.value.reason == "ALREADY_EXISTS"

    async def test_a_key_is_one_participants(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        for who in (TAX, COURT):
            world.transactions.memory.participants[who.participant_id] = who
        await directory.register_signing_key(key(), "par_tax", JWK)
        with pytest.raises(AlreadyExistsError):
            await directory.register_signing_key(key(), "par_court", JWK)
        assert not world.transactions.memory.participants["par_court"].signs

    async def test_a_revoked_key_stays_revoked(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        world.transactions.memory.participants[TAX.participant_id] = TAX
        added = await directory.register_signing_key(key(), "par_tax", JWK)
        world.clock.advance(timedelta(hours=1))
        revoked = await directory.revoke_signing_key(key("r1"), "par_tax", added.key_id)
        assert revoked == replace(added, revoked_at=NOW + timedelta(hours=1))
        world.clock.advance(timedelta(hours=1))
        for again in (key("r1"), key()):
            assert await directory.revoke_signing_key(again, "par_tax", added.key_id) == revoked
        with pytest.raises(AlreadyExistsError):
            await directory.register_signing_key(key(), "par_tax", JWK)
        kinds = [leaf.kind for leaf in world.transactions.memory.leaves.values()]
        assert kinds == [LeafKind.SIGNING_KEY] * 2
        # Nor is the participant let off signing.
        assert world.transactions.memory.participants["par_tax"].signs

    async def test_who_is_unknown_or_supplies_nothing_has_none(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        with pytest.raises(NotFoundError):
            await directory.register_signing_key(key(), "par_tax", JWK)
        regulator = replace(BANK, participant_id="par_reg", role=Role.REGULATOR)
        world.transactions.memory.participants["par_reg"] = regulator
        with pytest.raises(InvalidArgumentError) as caught:
            await directory.register_signing_key(key(), "par_reg", JWK)
        assert caught.value.fields[0].field == "participant_id"
        with pytest.raises(NotFoundError):
            await directory.revoke_signing_key(key(), "par_reg", "none")
        assert not world.transactions.memory.signing_keys

    async def test_a_provider_lists_its_own(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        for who in (TAX, COURT):
            world.transactions.memory.participants[who.participant_id] = who
        added = [
            await directory.register_signing_key(key(), "par_tax", new_key().public.jwk)
            for _ in range(3)
        ]
        ids = sorted(each.key_id for each in added)
        for lister in (OPERATOR, caller(TAX)):
            page, after = await directory.signing_keys(lister, "par_tax", "", 2)
            rest, end = await directory.signing_keys(lister, "par_tax", after, 2)
            assert [each.key_id for each in (*page, *rest)] == ids
            assert (after, end) == (ids[1], "")
        with pytest.raises(PermissionDeniedError) as caught:
            await directory.signing_keys(caller(COURT), "par_tax", "", 2)
        assert caught.value.reason == "NOT_YOURS"


class TestStanding:
    async def test_suspension_and_reinstatement_are_told_when_they_change_something(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        bank = await directory.register(OPERATOR, key(), A_BANK)
        key_id, api_key = await directory.issue_key(key(), bank.participant_id)
        for standing in (Standing.ACTIVE, Standing.SUSPENDED, Standing.SUSPENDED):
            changed = await directory.set_standing(
                OPERATOR, key(), bank.participant_id, standing, ""
            )
            assert changed == replace(bank, standing=standing)
        with pytest.raises(PermissionDeniedError) as caught:
            await directory.verify_key(key_id, digest(api_key))
        assert caught.value.reason == "PARTICIPANT_SUSPENDED"
        await directory.set_standing(OPERATOR, key(), bank.participant_id, Standing.ACTIVE, "")
        assert await directory.verify_key(key_id, digest(api_key)) == bank
        assert world.change_kinds() == [
            ChangeKind.PARTICIPANT_SUSPENDED,
            ChangeKind.PARTICIPANT_REINSTATED,
        ]

    async def test_its_consents_rest_and_go_on_and_each_firm_is_told(
        self, directory: ParticipantDirectory, world: World, key: Key
    ) -> None:
        world.transactions.memory = World().transactions.memory
        consent = await world.granted()
        await world.requested()
        for standing in (Standing.SUSPENDED, Standing.SUSPENDED, Standing.ACTIVE):
            await directory.set_standing(OPERATOR, key(), "par_bank", standing, "")
        rows = world.transactions.memory.notices.values()
        told = [row for row in rows if not row.kind.endswith(("REQUESTED", "GRANTED"))]
        assert [(row.party_id, row.kind, row.consent_id, row.participant_id) for row in told] == [
            ("par_bank", "CONSENT_PAUSED", "", "par_bank"),
            ("sub_0001", "CONSENT_PAUSED", consent.core.consent_id, "par_bank"),
            ("par_bank", "CONSENT_RESUMED", "", "par_bank"),
            ("sub_0001", "CONSENT_RESUMED", consent.core.consent_id, "par_bank"),
        ]
