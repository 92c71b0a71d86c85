"""How an institution comes to take part, and leaves, on the fake, SQLite and PostgreSQL."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import cast

import pytest

from puhui_client.signing import new_key
from services.datashare.changes.domain import ChangeKind
from services.datashare.credentials.domain import Claim, Credential, Kind
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.participants.app import (
    Advance,
    ParticipantDirectory,
    Registration,
    Work,
)
from services.datashare.participants.domain import (
    ApiKey,
    Participant,
    Role,
    SigningKey,
    Standing,
    bootstrap_operator,
)
from services.datashare.participants.life_cycle import SANDBOX_NOTE, Event, Evidence, Step
from services.datashare.participants.servicer import ParticipantCodec, SigningKeyCodec, TimeCodec
from services.kit.clock import FixedClock
from services.kit.db import retry_on_conflict
from services.kit.errors import PuhuiError
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from services.kit.transactions import Transactions
from tests.contract.datashare.conftest import Stored
from tests.fakes.standing import PRODUCTS

NOW = datetime(2026, 5, 4, 8, 0, tzinfo=UTC)
TODAY = date(2026, 5, 4)
LI = Caller("operator", "OPERATOR", person_id="per_li", name="operator")
WANG = Caller("operator", "OPERATOR", person_id="per_wang", name="operator")
BANK = Registration(Role.BANK, "A bank")
PAPER = Evidence("business licence", "file 7/2026", b"h" * 32, TODAY, date(2027, 5, 4))
MINUTES = Evidence("minutes", "3/2026", b"", TODAY)


@dataclass
class Admission:
    """The use cases."""

    stored: Stored
    sandbox: bool = False
    clock: FixedClock = field(default_factory=lambda: FixedClock(NOW))

    def __post_init__(self) -> None:
        ids = SequentialIds()
        self.directory = ParticipantDirectory(
            transactions=cast("Transactions[Work]", self.stored),
            retry=retry_on_conflict,
            clock=self.clock,
            ids=ids,
            sealer=Sealer(ids, bytes),
            random_bytes=bytes,
            participant_codec=ParticipantCodec(),
            time_codec=TimeCodec(),
            signing_key_codec=SigningKeyCodec(),
            provider_kinds={"tax"},
            bootstrap=None,
            operator=bootstrap_operator(NOW, PRODUCTS),
            products=PRODUCTS,
            sandbox=self.sandbox,
        )
        self._requests = 0

    def key(self, who: Caller) -> RequestKey:
        self._requests += 1
        return RequestKey(who.participant_id, f"r{self._requests}", b"f" * 32)

    async def applied(self, wanted: Registration = BANK) -> Participant:
        return await self.directory.register(LI, self.key(LI), wanted)

    async def step(
        self,
        participant: Participant,
        step: Step,
        evidence: Evidence | None = MINUTES,
        *,
        by: Caller = LI,
        products: tuple[str, ...] = (),
    ) -> Participant:
        wanted = Advance(step, evidence, products, "as agreed")
        return await self.directory.advance(by, self.key(by), participant.participant_id, wanted)

    async def licensed(self, participant: Participant, evidence: Evidence = PAPER) -> Participant:
        return await self.step(
            participant, Step.LICENCE_CHECKED, evidence, products=("credit_reporting",)
        )

    async def active(self) -> Participant:
        participant = await self.licensed(await self.applied())
        await self.step(participant, Step.CONFORMANT)
        await self.step(participant, Step.APPROVED, by=LI)
        await self.step(participant, Step.APPROVED, by=WANG)
        return await self.step(participant, Step.ACTIVATED, None)

    async def set_standing(self, participant: Participant, standing: Standing) -> Participant:
        return await self.directory.set_standing(
            LI, self.key(LI), participant.participant_id, standing, "why"
        )

    async def history(self, participant: Participant) -> tuple[Participant, list[Event]]:
        found, events = await self.directory.get(LI, participant.participant_id)
        return found, list(events)

    async def told(self) -> list[ChangeKind]:
        async with self.stored.read() as work:
            return [entry.change.kind for entry in await work.changes.after(0, 1000)]


@pytest.fixture
def admission(stored: Stored) -> Admission:
    return Admission(stored)


async def test_an_institution_comes_in_step_by_step(admission: Admission) -> None:
    participant = await admission.applied()
    assert (participant.standing, participant.products) == (Standing.APPLIED, ())
    seen = [participant.standing]
    participant = await admission.licensed(participant)
    assert (participant.products, participant.licence_ends) == (("credit_reporting",), PAPER.ends)
    seen.append(participant.standing)
    for step, by in (
        (Step.CONFORMANT, LI),
        (Step.APPROVED, LI),
        (Step.APPROVED, WANG),
        (Step.ACTIVATED, LI),
    ):
        evidence = None if step is Step.ACTIVATED else MINUTES
        participant = await admission.step(participant, step, evidence, by=by)
        seen.append(participant.standing)
    assert seen == [
        Standing.APPLIED,
        Standing.LICENCE_CHECKED,
        Standing.CONFORMANT,
        Standing.CONFORMANT,
        Standing.APPROVED,
        Standing.ACTIVE,
    ]
    found, events = await admission.history(participant)
    assert found == participant
    assert [(event.step, event.by.person_id) for event in events] == [
        (Step.APPLIED, "per_li"),
        (Step.LICENCE_CHECKED, "per_li"),
        (Step.CONFORMANT, "per_li"),
        (Step.APPROVED, "per_li"),
        (Step.APPROVED, "per_wang"),
        (Step.ACTIVATED, "per_li"),
    ]
    assert events[1].evidence == PAPER
    assert events[1].products == ("credit_reporting",)
    assert all(event.leaf_id and event.at == NOW for event in events)
    assert len({event.leaf_id for event in events}) == len(events)
    assert await admission.told() == [
        ChangeKind.PARTICIPANT_CHANGED,
        ChangeKind.PARTICIPANT_CHANGED,
    ]


async def test_no_step_is_left_out_and_none_taken_twice(admission: Admission) -> None:
    participant = await admission.applied()
    for step in (Step.CONFORMANT, Step.APPROVED, Step.ACTIVATED):
        await refuse(admission, participant, step, "PARTICIPANT_STATE")
    await admission.licensed(participant)
    for step in (Step.APPROVED, Step.ACTIVATED):
        await refuse(admission, participant, step, "PARTICIPANT_STATE")
    await admission.step(participant, Step.CONFORMANT)
    for step in (Step.CONFORMANT, Step.ACTIVATED):
        await refuse(admission, participant, step, "PARTICIPANT_STATE")
    for standing in (Standing.ACTIVE, Standing.SUSPENDED):
        with pytest.raises(PuhuiError) as caught:
            await admission.set_standing(participant, standing)
        assert caught.value.reason == "PARTICIPANT_STATE"


async def refuse(
    admission: Admission, participant: Participant, step: Step, reason: str, by: Caller = LI
) -> None:
    evidence = None if step is Step.ACTIVATED else MINUTES
    with pytest.raises(PuhuiError) as caught:
        await admission.step(participant, step, evidence, by=by)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("second", "enough"),
    [
        (WANG, True),
        (LI, False),
        # One person by two accounts.
        (Caller("par_op2", "OPERATOR", person_id="per_li", name="B"), False),
        (Caller("par_op2", "OPERATOR", person_id="per_wang", name="B"), True),
        # Where a person is not known, another account of another name.
        (Caller("operator", "OPERATOR", name="operator"), False),
        (Caller("par_op2", "OPERATOR", name=" OPERATOR "), False),
        (Caller("par_op2", "OPERATOR", name="B"), True),
    ],
)
async def test_two_persons_approve(admission: Admission, second: Caller, enough: bool) -> None:
    participant = await admission.licensed(await admission.applied())
    await admission.step(participant, Step.CONFORMANT)
    await admission.step(participant, Step.APPROVED)
    if enough:
        approved = await admission.step(participant, Step.APPROVED, by=second)
        assert approved.standing is Standing.APPROVED
    else:
        await refuse(admission, participant, Step.APPROVED, "SECOND_PERSON_REQUIRED", second)


async def test_nobody_approves_its_own_account(admission: Admission) -> None:
    operator = await admission.applied(Registration(Role.OPERATOR, "Second"))
    await admission.licensed(operator)
    await admission.step(operator, Step.CONFORMANT)
    itself = Caller(operator.participant_id, "OPERATOR", name="Second")
    await refuse(admission, operator, Step.APPROVED, "SECOND_PERSON_REQUIRED", itself)


@pytest.mark.parametrize(
    ("field_", "step", "evidence", "products"),
    [
        ("evidence", Step.LICENCE_CHECKED, None, ("credit_reporting",)),
        ("products", Step.LICENCE_CHECKED, PAPER, ()),
        ("products", Step.LICENCE_CHECKED, PAPER, ("lending",)),
        ("evidence.sha256", Step.LICENCE_CHECKED, replace(PAPER, sha256=b"h"), PRODUCTS),
        (
            "evidence.dated",
            Step.LICENCE_CHECKED,
            replace(PAPER, dated=TODAY + timedelta(days=1)),
            PRODUCTS,
        ),
        (
            "evidence.ends",
            Step.LICENCE_CHECKED,
            replace(PAPER, ends=TODAY - timedelta(days=1)),
            PRODUCTS,
        ),
        ("products", Step.EXITED, MINUTES, PRODUCTS),
        ("evidence", Step.EXITED, None, ()),
    ],
)
async def test_what_a_step_rests_on_is_checked(
    admission: Admission,
    field_: str,
    step: Step,
    evidence: Evidence | None,
    products: tuple[str, ...],
) -> None:
    participant = await admission.applied()
    with pytest.raises(PuhuiError) as caught:
        await admission.step(participant, step, evidence, products=products)
    assert [problem.field for problem in caught.value.fields] == [field_]
    assert len((await admission.history(participant))[1]) == 1


async def test_a_licence_lapses_by_itself_and_is_renewed(admission: Admission) -> None:
    participant = await admission.active()
    assert PAPER.ends
    # The end of its last day in China.
    admission.clock.at = datetime(2027, 5, 4, 15, 59, 59, tzinfo=UTC)
    assert (await admission.history(participant))[0].products == ("credit_reporting",)
    admission.clock.at = datetime(2027, 5, 4, 16, 0, tzinfo=UTC)
    found, _ = await admission.history(participant)
    assert (found.standing, found.products) == (Standing.ACTIVE, ())
    await admission.set_standing(participant, Standing.SUSPENDED)
    with pytest.raises(PuhuiError) as caught:
        await admission.set_standing(participant, Standing.ACTIVE)
    assert caught.value.reason == "PARTICIPANT_STATE"
    renewed = await admission.licensed(participant, replace(PAPER, ends=date(2028, 5, 4)))
    assert (renewed.standing, renewed.products) == (Standing.SUSPENDED, ("credit_reporting",))
    assert (await admission.set_standing(participant, Standing.ACTIVE)).standing is Standing.ACTIVE


async def test_suspension_and_reinstatement_are_on_record(admission: Admission) -> None:
    participant = await admission.active()
    for standing in (Standing.SUSPENDED, Standing.SUSPENDED, Standing.ACTIVE):
        await admission.set_standing(participant, standing)
    _, events = await admission.history(participant)
    assert [(event.step, event.note) for event in events[-2:]] == [
        (Step.SUSPENDED, "why"),
        (Step.REINSTATED, "why"),
    ]
    assert (await admission.told())[-2:] == [
        ChangeKind.PARTICIPANT_SUSPENDED,
        ChangeKind.PARTICIPANT_REINSTATED,
    ]


async def test_exit_ends_everything_it_came_in_by(admission: Admission) -> None:
    participant = await admission.active()
    participant_id = participant.participant_id
    key_id = "key_1"
    certificate = Credential(
        "crd_1", participant_id, Claim(Kind.CERTIFICATE, "x", ends_at=NOW), "", NOW
    )
    async with admission.stored.begin() as work:
        await work.participants.add_key(ApiKey(key_id, participant_id, bytes(32), NOW))
        assert await work.credentials.add(certificate)
        assert await work.participants.add_signing_key(SigningKey("k", participant_id, "{}", NOW))
    gone = await admission.step(participant, Step.EXITED)
    assert gone.standing is Standing.EXITED
    async with admission.stored.read() as work:
        assert await work.credentials.unrevoked(participant_id) == []
        key = await work.participants.get_key(key_id)
        signing = await work.participants.signing_key(participant_id, "k")
    assert key
    assert signing
    assert (key.revoked_at, signing.revoked_at) == (NOW, NOW)
    assert (await admission.told())[-4:] == [
        ChangeKind.CREDENTIAL_CHANGED,
        ChangeKind.KEY_REVOKED,
        ChangeKind.PARTICIPANT_SUSPENDED,
        ChangeKind.PARTICIPANT_CHANGED,
    ]
    for step in (Step.LICENCE_CHECKED, Step.ACTIVATED, Step.EXITED):
        with pytest.raises(PuhuiError) as caught:
            await admission.step(
                participant,
                step,
                None if step is Step.ACTIVATED else PAPER,
                products=PRODUCTS if step is Step.LICENCE_CHECKED else (),
            )
        assert caught.value.reason == "PARTICIPANT_STATE"
    with pytest.raises(PuhuiError) as caught:
        await admission.directory.register_signing_key(
            admission.key(LI), participant_id, new_key().public.jwk
        )
    assert caught.value.reason == "PARTICIPANT_STATE"


async def test_both_approve_the_same_licence(admission: Admission) -> None:
    participant = await admission.licensed(await admission.applied())
    await admission.step(participant, Step.CONFORMANT)
    await admission.step(participant, Step.APPROVED, by=LI)
    await admission.step(participant, Step.LICENCE_CHECKED, PAPER, products=PRODUCTS)
    again = await admission.step(participant, Step.APPROVED, by=WANG)
    assert again.standing is Standing.CONFORMANT
    both = await admission.step(participant, Step.APPROVED, by=LI)
    assert both.standing is Standing.APPROVED


async def test_outside_of_the_sandbox_nobody_gets_an_api_key(admission: Admission) -> None:
    participant_id = (await admission.active()).participant_id
    with pytest.raises(PuhuiError) as caught:
        await admission.directory.issue_key(admission.key(LI), participant_id)
    assert caught.value.reason == "API_KEYS_NOT_HERE"


async def test_who_has_left_gets_no_api_key_in_the_sandbox_either(stored: Stored) -> None:
    admission = Admission(stored, sandbox=True)
    participant = await admission.applied()
    await admission.directory.issue_key(admission.key(LI), participant.participant_id)
    await admission.step(participant, Step.EXITED)
    with pytest.raises(PuhuiError) as caught:
        await admission.directory.issue_key(admission.key(LI), participant.participant_id)
    assert caught.value.reason == "PARTICIPANT_STATE"


async def test_in_the_sandbox_the_steps_are_taken_at_once_and_marked(stored: Stored) -> None:
    admission = Admission(stored, sandbox=True)
    participant = await admission.applied()
    assert (participant.standing, participant.products) == (Standing.ACTIVE, PRODUCTS)
    _, events = await admission.history(participant)
    assert [event.step for event in events] == [
        Step.APPLIED,
        Step.LICENCE_CHECKED,
        Step.CONFORMANT,
        Step.APPROVED,
        Step.ACTIVATED,
    ]
    assert {event.note for event in events} == {SANDBOX_NOTE}


async def test_firms_take_part_at_once_and_have_no_steps_before(admission: Admission) -> None:
    firm = await admission.applied(Registration(Role.FIRM, "A firm"))
    assert (firm.standing, firm.products) == (Standing.ACTIVE, PRODUCTS)
    assert (await admission.history(firm))[1] == []
    for step in (Step.CONFORMANT, Step.APPROVED, Step.ACTIVATED):
        await refuse(admission, firm, step, "PARTICIPANT_STATE")
    await admission.set_standing(firm, Standing.SUSPENDED)
    assert (await admission.set_standing(firm, Standing.ACTIVE)).standing is Standing.ACTIVE
    assert (await admission.step(firm, Step.EXITED)).standing is Standing.EXITED


async def test_a_participants_record_is_its_own_and_supervisions(admission: Admission) -> None:
    participant = await admission.applied()
    own = Caller(participant.participant_id, "BANK")
    for who in (own, LI, Caller("par_reg", "REGULATOR")):
        found, _ = await admission.directory.get(who, participant.participant_id)
        assert found == participant
    with pytest.raises(PuhuiError) as caught:
        await admission.directory.get(Caller("par_x", "BANK"), participant.participant_id)
    assert caught.value.reason == "NOT_YOURS"
    with pytest.raises(PuhuiError) as caught:
        await admission.directory.get(LI, "par_none")
    assert caught.value.reason == "NOT_FOUND"
