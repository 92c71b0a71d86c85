"""One suite for credentials on the fake, SQLite and PostgreSQL: what may be registered, by whom."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from joserfc.jwk import OKPKey

from services.datashare.changes.domain import ChangeKind
from services.datashare.credentials.app import CredentialDesk, Offer, Work
from services.datashare.credentials.domain import Credential, PersonAccount, PersonIds
from services.datashare.credentials.servicer import CredentialCodec
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.mandates.domain import registered
from services.datashare.participants.domain import (
    Participant,
    Role,
    Standing,
    bootstrap_operator,
)
from services.kit.clock import FixedClock
from services.kit.db import retry_on_conflict
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
    UnauthenticatedError,
)
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from services.kit.transactions import Transactions
from tests.contract.datashare.conftest import Stored
from tests.fakes.certificates import certificate
from tests.fakes.standing import PRODUCTS, set_standing

NOW = datetime.now(UTC)
OPERATOR = Caller("operator", "OPERATOR")
BANK, OTHER = Caller("par_bank", "BANK"), Caller("par_other", "BANK")
FIRM = Caller("par_firm", "FIRM")
LI = PersonAccount("https://id.example", "li@bank.example")
FIRST = PersonAccount("https://id.example", "first")


@dataclass
class Entrance:
    """The use cases, and those whose credentials they are."""

    stored: Stored
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))

    def __post_init__(self) -> None:
        ids = SequentialIds()
        self.desk = CredentialDesk(
            transactions=cast("Transactions[Work]", self.stored),
            retry=retry_on_conflict,
            clock=self.clock,
            ids=ids,
            sealer=Sealer(ids, bytes),
            codec=CredentialCodec(),
            person_ids=PersonIds(b"k" * 32),
            bootstrap=[FIRST],
            operator=bootstrap_operator(NOW, PRODUCTS),
        )
        self._requests = 0

    async def populate(self) -> "Entrance":
        async with self.stored.begin() as work:
            for who in (BANK, OTHER, FIRM):
                role = Role(who.role)
                licensed = Participant(
                    who.participant_id, role, "n", "", None, False, Standing.ACTIVE, NOW
                )
                assert await work.participants.add(replace(licensed, products=PRODUCTS))
        return self

    def key(self, who: Caller, request_id: str = "") -> RequestKey:
        self._requests += 1
        return RequestKey(who.participant_id, request_id or f"r{self._requests}", b"f" * 32)

    async def add(self, offer: Offer, of: Caller = BANK, by: Caller = OPERATOR) -> Credential:
        return await self.desk.register(by, self.key(by), of.participant_id, offer)

    async def end(
        self, credential: Credential, by: Caller = OPERATOR, of: Caller = BANK
    ) -> Credential:
        return await self.desk.revoke(by, self.key(by), of.participant_id, credential.credential_id)

    async def refused(self, offer: Offer, of: Caller = BANK, by: Caller = OPERATOR) -> PuhuiError:
        with pytest.raises(PuhuiError) as caught:
            await self.add(offer, of, by)
        return caught.value

    async def standing(self, standing: Standing, of: Caller = BANK) -> None:
        async with self.stored.begin() as work:
            await set_standing(work, of.participant_id, standing)

    async def told(self) -> list[tuple[ChangeKind, str, str]]:
        async with self.stored.read() as work:
            entries = await work.changes.after(0, 1000)
        return [
            (entry.change.kind, entry.change.participant_id, entry.change.key_id)
            for entry in entries
        ]


def a_certificate() -> Offer:
    return Offer(certificate_pem=certificate())


def a_key() -> Offer:
    return Offer(public_jwk=json.dumps(OKPKey.generate_key("Ed25519").as_dict(private=False)))


@pytest.fixture
async def entrance(stored: Stored) -> Entrance:
    return await Entrance(stored).populate()


async def test_a_client_has_what_is_valid_now(entrance: Entrance) -> None:
    short = Offer(certificate_pem=certificate(ends=NOW + timedelta(days=1)))
    first, key = await entrance.add(short), await entrance.add(a_key())
    person = await entrance.add(Offer(person=LI))
    participant, found = await entrance.desk.find_client("par_bank")
    assert {each.credential_id for each in found} == {first.credential_id, key.credential_id}
    assert person not in found
    assert participant.products == PRODUCTS
    entrance.clock.advance(timedelta(days=1))
    _, found = await entrance.desk.find_client("par_bank")
    assert [each.credential_id for each in found] == [key.credential_id]
    await entrance.end(key)
    with pytest.raises(UnauthenticatedError):
        await entrance.desk.find_client("par_bank")
    with pytest.raises(UnauthenticatedError):
        await entrance.desk.find_client("par_none")


async def test_what_is_registered_is_one_participants_alone(entrance: Entrance) -> None:
    for offer in (a_certificate(), a_key()):
        made = await entrance.add(offer)
        for of in (BANK, OTHER):
            assert isinstance(await entrance.refused(offer, of), AlreadyExistsError)
        await entrance.end(made)
        assert isinstance(await entrance.refused(offer, OTHER), AlreadyExistsError)


async def test_a_person_changes_its_employer_and_stays_the_same(entrance: Entrance) -> None:
    person = Offer(person=LI)
    made = await entrance.add(person)
    who, person_id = await entrance.desk.find_person(LI)
    assert who.participant_id == "par_bank"
    assert isinstance(await entrance.refused(person, OTHER), AlreadyExistsError)
    await entrance.end(made)
    with pytest.raises(UnauthenticatedError):
        await entrance.desk.find_person(LI)
    await entrance.add(person, OTHER)
    who, again = await entrance.desk.find_person(LI)
    assert (who.participant_id, again) == ("par_other", person_id)
    assert LI.subject not in person_id


async def test_the_first_operators_are_in_the_configuration(entrance: Entrance) -> None:
    who, person_id = await entrance.desk.find_person(FIRST)
    assert (who.participant_id, who.role, who.products) == ("operator", Role.OPERATOR, PRODUCTS)
    assert person_id.startswith("per_")
    assert isinstance(await entrance.refused(Offer(person=FIRST)), AlreadyExistsError)


async def test_institutions_change_over_themselves(entrance: Entrance) -> None:
    certificate_, key = (
        await entrance.add(a_certificate(), by=BANK),
        await entrance.add(a_key(), by=BANK),
    )
    for made in (certificate_, key):
        assert (await entrance.end(made, BANK)).revoked_at == NOW
    for offer in (a_certificate(), a_key()):
        error = await entrance.refused(offer, OTHER, BANK)
        assert (type(error), error.reason) == (PermissionDeniedError, "NOT_YOURS")
    error = await entrance.refused(Offer(person=LI), BANK, BANK)
    assert error.reason == "ROLE_NOT_ALLOWED"
    person = await entrance.add(Offer(person=LI))
    with pytest.raises(PermissionDeniedError, match="operator says"):
        await entrance.end(person, BANK)
    others = await entrance.add(a_key(), OTHER)
    with pytest.raises(NotFoundError):
        await entrance.end(others, BANK)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing.SUSPENDED, "PARTICIPANT_SUSPENDED"),
        (Standing.APPLIED, "PARTICIPANT_NOT_ACTIVE"),
        (Standing.APPROVED, "PARTICIPANT_NOT_ACTIVE"),
        (Standing.EXITED, "PARTICIPANT_NOT_ACTIVE"),
    ],
)
async def test_who_may_not_act_comes_in_by_nothing(
    entrance: Entrance, standing: Standing, reason: str
) -> None:
    await entrance.add(a_certificate())
    await entrance.add(Offer(person=LI))
    await entrance.standing(standing)
    for finding in (entrance.desk.find_client("par_bank"), entrance.desk.find_person(LI)):
        with pytest.raises(PermissionDeniedError) as caught:
            await finding
        assert caught.value.reason == reason
    assert (await entrance.refused(a_key(), by=BANK)).reason == reason
    if standing is Standing.EXITED:
        assert isinstance(await entrance.refused(a_key()), FailedPreconditionError)
    else:
        await entrance.add(a_key())


async def test_firms_have_persons_alone(entrance: Entrance) -> None:
    for offer in (a_certificate(), a_key()):
        assert isinstance(await entrance.refused(offer, FIRM), InvalidArgumentError)
    await entrance.add(Offer(person=LI), FIRM)
    participant, _ = await entrance.desk.find_person(LI)
    assert participant.subject_id is None
    async with entrance.stored.begin() as work:
        await work.mandates.add(registered("man_1", "sub_7", "par_firm", NOW))
    participant, _ = await entrance.desk.find_person(LI)
    assert participant.subject_id == "sub_7"


async def test_a_list_names_persons_to_the_operator_alone(entrance: Entrance) -> None:
    made = [
        await entrance.add(Offer(person=LI, label="Li")),
        await entrance.add(a_certificate()),
        await entrance.add(a_key()),
    ]
    await entrance.end(made[2])
    seen: list[Credential] = []
    after = ""
    for _ in range(2):
        page, after = await entrance.desk.list(OPERATOR, "par_bank", after, 2)
        seen += page
    assert after == ""
    assert [each.credential_id for each in seen] == sorted(each.credential_id for each in made)
    assert seen[0].claim.person == LI
    own, _ = await entrance.desk.list(BANK, "par_bank", "", 10)
    assert own[0].claim.person == PersonAccount(LI.issuer, "")
    with pytest.raises(PermissionDeniedError):
        await entrance.desk.list(OTHER, "par_bank", "", 10)


async def test_each_change_is_told_once_and_in_the_log(entrance: Entrance) -> None:
    offer, key = a_certificate(), entrance.key(OPERATOR, "r_once")
    made = await entrance.desk.register(OPERATOR, key, "par_bank", offer)
    again = await entrance.desk.register(OPERATOR, key, "par_bank", offer)
    assert again.credential_id == made.credential_id
    await entrance.end(made)
    await entrance.end(made)
    one = (ChangeKind.CREDENTIAL_CHANGED, "par_bank", made.credential_id)
    assert await entrance.told() == [one, one]
    with pytest.raises(NotFoundError):
        await entrance.desk.register(OPERATOR, entrance.key(OPERATOR), "par_none", offer)
