"""Mandates on the fake, SQLite and PostgreSQL: claiming, appointing, ending, signing rules."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from services.datashare.changes.domain import ChangeKind
from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.mandates.app import Mandates, Proved
from services.datashare.mandates.domain import (
    ANY_ONE,
    Mandate,
    MandateKind,
    MandateState,
    Power,
    SigningRule,
    state_at,
)
from services.datashare.mandates.servicer import MandateCodec, RuleCodec
from services.datashare.mandates.store import Signers
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.subjects.uscc import make
from services.kit.clock import FixedClock
from services.kit.db import retry_on_conflict
from services.kit.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from tests.contract.datashare.conftest import Stored
from tests.fakes.datashare_world import NOW
from tests.fakes.standing import set_standing

USCC = make("91", "110108", "MA0CLA1M")
OTHER = make("91", "110108", "MA0CLA2M")
PEOPLE = ("par_boss", "par_clerk", "par_new", "par_other")
READ = frozenset({Power.READ})


class ByWord:
    """An identity port that believes the word of a firm; each proof may be used once."""

    issued_at: datetime | None = None

    def check(self, uscc: str, participant_id: str, proof: str, now: object) -> Proved:
        if not proof.startswith(uscc):
            raise PermissionDeniedError("PROOF_INVALID", "it is about another firm: ask again")
        return Proved("word", proof.removeprefix(uscc), self.issued_at)


class Office:
    """The use cases over a store, called by account."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.clock = FixedClock(NOW)
        ids = SequentialIds()
        self.port = ByWord()
        self.mandates = Mandates(
            transactions=stored,
            retry=retry_on_conflict,
            clock=self.clock,
            ids=ids,
            sealer=Sealer(ids, lambda size: b"s" * size),
            proof=self.port,
            mandate_codec=MandateCodec(),
            rule_codec=RuleCodec(),
        )
        self._requests = 0

    def key(self, who: str) -> RequestKey:
        self._requests += 1
        return RequestKey(who, f"r{self._requests}", b"f" * 32)

    async def claim(self, who: str, uscc: str = USCC, once: str = "") -> Mandate:
        key = self.key(who)
        return await self.mandates.claim(caller(who), key, uscc, uscc + (once or key.request_id))

    async def appoint(
        self, who: str, whom: str, powers: frozenset[Power] = READ, days: int = 0
    ) -> Mandate:
        until = self.clock.now() + timedelta(days=days) if days else None
        return await self.mandates.appoint(caller(who), self.key(who), whom, powers, until)

    async def end(self, who: str, mandate: Mandate) -> Mandate:
        return await self.mandates.end(caller(who), self.key(who), mandate.mandate_id)

    async def rule(self, who: str, rule: SigningRule) -> SigningRule:
        return await self.mandates.set_rule(caller(who), self.key(who), rule)

    async def stands(self) -> dict[str, MandateState]:
        """Return the state of the mandate that each account has, where it has one."""
        found = {}
        async with self.stored.begin() as work:
            for who in PEOPLE:
                mandate = await work.mandates.hold(who)
                if mandate:
                    found[who] = state_at(mandate, self.clock.now())
        return found

    async def told(self) -> list[ChangeKind]:
        async with self.stored.read() as work:
            return [entry.change.kind for entry in await work.changes.after(0, 100)]


def caller(who: str) -> Caller:
    return Caller(who, "FIRM")


def account(who: str) -> Participant:
    return Participant(who, Role.FIRM, who, "", None, False, Standing.ACTIVE, NOW)


DATABASES = ["sqlite", "postgres"]
"""Stores with transactions at once, which the fake has not."""


@pytest.fixture
async def office(stored: Stored) -> Office:
    async with stored.begin() as work:
        for who in PEOPLE:
            await work.participants.add(account(who))
        await work.participants.add(
            Participant("par_bank", Role.BANK, "A", "", None, False, Standing.ACTIVE, NOW)
        )
    return Office(stored)


def reason_of(error: pytest.ExceptionInfo[PuhuiError]) -> str:
    return error.value.reason


class TestClaim:
    async def test_a_claim_makes_a_representative(self, office: Office) -> None:
        mandate = await office.claim("par_boss")
        assert mandate.is_representative
        assert mandate.powers == frozenset(Power)
        assert mandate.proved_by == "word"
        assert await office.stands() == {"par_boss": MandateState.ACTIVE}
        assert await office.told() == [ChangeKind.MANDATE_CHANGED]
        async with office.stored.read() as work:
            (notice,) = [e.notice for e in await work.notices.after(mandate.subject_id, 0, 9)]
        assert (notice.mandate_id, notice.participant_id) == (mandate.mandate_id, "par_boss")

    async def test_a_replay_returns_what_was_made(self, office: Office) -> None:
        key = office.key("par_boss")
        first = await office.mandates.claim(caller("par_boss"), key, USCC, f"{USCC}once")
        office.clock.at += timedelta(days=1)
        again = await office.mandates.claim(caller("par_boss"), key, USCC, f"{USCC}once")
        assert again == first

    async def test_who_has_it_keeps_it_and_uses_no_proof(self, office: Office) -> None:
        first = await office.claim("par_boss", once="one")
        assert await office.claim("par_boss", once="two") == first
        assert (await office.claim("par_new", once="two")).participant_id == "par_new"

    async def test_the_newest_proof_wins_over_everybody(self, office: Office) -> None:
        await office.claim("par_boss")
        await office.appoint("par_boss", "par_clerk")
        await office.rule("par_boss", SigningRule(("par_boss",), 1))
        office.clock.at += timedelta(days=1)
        claimed = await office.claim("par_new")
        assert await office.stands() == {"par_new": MandateState.ACTIVE}
        async with office.stored.begin() as work:
            assert await Signers(work.mandates).of(claimed.subject_id) == ANY_ONE  # type: ignore[arg-type]  # the fake has the same methods

    async def test_a_proof_that_was_kept_takes_nothing_back(self, office: Office) -> None:
        kept = office.clock.now()
        office.clock.at += timedelta(minutes=1)
        claimed = await office.claim("par_new")
        office.port.issued_at = kept
        office.clock.at += timedelta(minutes=1)
        with pytest.raises(PermissionDeniedError, match="older than the claim") as caught:
            await office.claim("par_boss", once="kept")
        assert reason_of(caught) == "PROOF_INVALID"
        assert await office.stands() == {"par_new": MandateState.ACTIVE}
        # The register shows another one: nobody comes back by what was proved before.
        office.port.issued_at = office.clock.now()
        office.clock.at += timedelta(minutes=1)
        async with office.stored.begin() as work:
            await work.mandates.suspend([claimed], office.clock.now())
        for who in ("par_new", "par_boss"):
            with pytest.raises(PermissionDeniedError, match="suspension"):
                await office.claim(who)
        office.clock.at += timedelta(minutes=1)
        office.port.issued_at = office.clock.now()
        await office.claim("par_boss", once="kept")
        assert await office.stands() == {"par_boss": MandateState.ACTIVE}

    async def test_a_delegate_may_become_the_representative(self, office: Office) -> None:
        await office.claim("par_boss")
        await office.appoint("par_boss", "par_clerk")
        assert (await office.claim("par_clerk")).is_representative
        assert await office.stands() == {"par_clerk": MandateState.ACTIVE}

    async def test_a_proof_is_used_once(self, office: Office) -> None:
        await office.claim("par_boss", once="once")
        with pytest.raises(PermissionDeniedError, match="used before") as caught:
            await office.claim("par_new", once="once")
        assert reason_of(caught) == "PROOF_INVALID"
        assert await office.stands() == {"par_boss": MandateState.ACTIVE}

    async def test_a_wrong_proof_leaves_everything(self, office: Office) -> None:
        await office.claim("par_boss")
        with pytest.raises(PermissionDeniedError):
            await office.mandates.claim(caller("par_new"), office.key("par_new"), USCC, "wrong")
        assert await office.stands() == {"par_boss": MandateState.ACTIVE}

    async def test_an_account_acts_for_one_firm(self, office: Office) -> None:
        await office.claim("par_boss")
        with pytest.raises(AlreadyExistsError, match="speaks for a firm already"):
            await office.claim("par_boss", OTHER)

    async def test_a_malformed_number_is_named(self, office: Office) -> None:
        with pytest.raises(InvalidArgumentError) as caught:
            await office.claim("par_boss", USCC[::-1])
        assert [problem.field for problem in caught.value.fields] == ["uscc"]

    async def test_who_is_suspended_claims_nothing(self, office: Office) -> None:
        async with office.stored.begin() as work:
            await work.participants.lock("par_boss")
            await set_standing(work, "par_boss", Standing.SUSPENDED)
        with pytest.raises(PermissionDeniedError) as caught:
            await office.claim("par_boss")
        assert reason_of(caught) == "PARTICIPANT_SUSPENDED"

    @pytest.mark.parametrize("stored", DATABASES, indirect=True)
    async def test_of_claims_at_once_one_stands(self, office: Office) -> None:
        claimed = await asyncio.gather(*(office.claim(who) for who in PEOPLE))
        assert len({mandate.subject_id for mandate in claimed}) == 1
        assert list((await office.stands()).values()) == [MandateState.ACTIVE]


class TestAppoint:
    async def test_a_delegate_has_what_it_was_given(self, office: Office) -> None:
        boss = await office.claim("par_boss")
        powers = frozenset({Power.READ, Power.DISPUTE})
        made = await office.appoint("par_boss", "par_clerk", powers, days=30)
        assert (made.kind, made.powers) == (MandateKind.DELEGATE, powers)
        assert made.subject_id == boss.subject_id
        assert made.principal_id == "par_boss"
        async with office.stored.begin() as work:
            assert await work.mandates.hold("par_clerk") == made
        office.clock.at += timedelta(days=30)
        assert (await office.stands())["par_clerk"] is MandateState.ENDED

    async def test_a_mandate_whose_time_is_over_makes_room(self, office: Office) -> None:
        await office.claim("par_boss")
        first = await office.appoint("par_boss", "par_clerk", days=1)
        office.clock.at += timedelta(days=2)
        second = await office.appoint("par_boss", "par_clerk", frozenset({Power.GRANT}))
        listed = await office.mandates.list(caller("par_boss"), "", 10)
        ends = {each.mandate_id: each.ended_at for each in listed.mandates}
        assert ends[first.mandate_id] == first.until
        assert ends[second.mandate_id] is None

    @pytest.mark.parametrize(
        ("whom", "error", "reason"),
        [
            ("par_nobody", NotFoundError, "NOT_FOUND"),
            ("par_bank", InvalidArgumentError, "FIELD_INVALID"),
            ("par_boss", AlreadyExistsError, "ALREADY_EXISTS"),
            ("par_other", AlreadyExistsError, "ALREADY_EXISTS"),
        ],
    )
    async def test_not_everybody_can_be_appointed(
        self, office: Office, whom: str, error: type[PuhuiError], reason: str
    ) -> None:
        await office.claim("par_boss")
        await office.claim("par_other", OTHER)
        with pytest.raises(error) as caught:
            await office.appoint("par_boss", whom)
        assert reason_of(caught) == reason

    async def test_only_the_representative_appoints(self, office: Office) -> None:
        await office.claim("par_boss")
        await office.appoint("par_boss", "par_clerk", frozenset(Power))
        for who in ("par_clerk", "par_new"):
            with pytest.raises(PermissionDeniedError) as caught:
                await office.appoint(who, "par_other")
            assert reason_of(caught) == "MANDATE_REQUIRED"

    async def test_the_end_is_in_the_future(self, office: Office) -> None:
        await office.claim("par_boss")
        with pytest.raises(InvalidArgumentError) as caught:
            await office.appoint("par_boss", "par_clerk", days=-1)
        assert [problem.field for problem in caught.value.fields] == ["until"]


class TestEnd:
    async def test_the_representative_ends_a_delegates(self, office: Office) -> None:
        await office.claim("par_boss")
        delegate = await office.appoint("par_boss", "par_clerk")
        ended = await office.end("par_boss", delegate)
        assert ended.ended_at == NOW
        assert await office.stands() == {"par_boss": MandateState.ACTIVE}
        with pytest.raises(NotFoundError):
            await office.end("par_boss", delegate)

    async def test_a_delegate_ends_its_own_and_no_other(self, office: Office) -> None:
        boss = await office.claim("par_boss")
        delegate = await office.appoint("par_boss", "par_clerk", frozenset(Power))
        other = await office.appoint("par_boss", "par_new")
        for mandate in (boss, other):
            with pytest.raises(PermissionDeniedError):
                await office.end("par_clerk", mandate)
        await office.end("par_clerk", delegate)
        assert set(await office.stands()) == {"par_boss", "par_new"}

    async def test_with_the_representative_all_go(self, office: Office) -> None:
        boss = await office.claim("par_boss")
        await office.appoint("par_boss", "par_clerk")
        await office.end("par_boss", boss)
        assert await office.stands() == {}

    async def test_another_firms_is_not_found(self, office: Office) -> None:
        boss = await office.claim("par_boss")
        await office.claim("par_other", OTHER)
        with pytest.raises(NotFoundError):
            await office.end("par_other", boss)
        assert len(await office.stands()) == 2


class TestRule:
    async def test_a_rule_is_kept_and_replaced(self, office: Office) -> None:
        boss = await office.claim("par_boss")
        await office.appoint("par_boss", "par_clerk", frozenset({Power.GRANT}))
        both = SigningRule(("par_boss", "par_clerk"), 2)
        async with office.stored.read() as work:
            told = await work.notices.after(boss.subject_id, 0, 9)
        assert await office.rule("par_boss", both) == both
        async with office.stored.begin() as work:
            (notice,) = (await work.notices.after(boss.subject_id, 0, 9))[len(told) :]
            assert notice.notice.mandate_id == boss.mandate_id
            assert await Signers(work.mandates).of(boss.subject_id) == both  # type: ignore[arg-type]  # the fake has the same methods
            assert await Signers(work.mandates).of("sub_other") == ANY_ONE  # type: ignore[arg-type]  # the fake has the same methods
        one = replace(both, required=1)
        await office.rule("par_boss", one)
        assert (await office.mandates.list(caller("par_clerk"), "", 10)).rule == one

    async def test_a_delegate_sets_none(self, office: Office) -> None:
        await office.claim("par_boss")
        await office.appoint("par_boss", "par_clerk", frozenset(Power))
        with pytest.raises(PermissionDeniedError):
            await office.rule("par_clerk", SigningRule(("par_clerk",), 1))


class TestList:
    async def test_pages_meet_newest_first(self, office: Office) -> None:
        boss = await office.claim("par_boss")
        made = [boss, await office.appoint("par_boss", "par_clerk")]
        made.append(await office.appoint("par_boss", "par_new"))
        seen: list[Mandate] = []
        before = ""
        for _ in made:
            listed = await office.mandates.list(caller("par_clerk"), before, 1)
            seen += listed.mandates
            before = listed.before
        assert seen == made[::-1]
        assert before == ""

    async def test_who_speaks_for_nobody_sees_nothing(self, office: Office) -> None:
        await office.claim("par_boss")
        with pytest.raises(PermissionDeniedError) as caught:
            await office.mandates.list(caller("par_new"), "", 10)
        assert reason_of(caught) == "MANDATE_REQUIRED"

    async def test_who_is_suspended_sees_its_own_alone(self, office: Office) -> None:
        await office.claim("par_boss")
        own = await office.appoint("par_boss", "par_clerk")
        async with office.stored.begin() as work:
            await work.mandates.suspend(await work.mandates.lock_subject(own.subject_id), NOW)
        listed = await office.mandates.list(caller("par_clerk"), "", 10)
        assert listed.mandates == [replace(own, suspended_at=NOW)]
        assert listed.rule is None


async def test_accounts_of_a_firm_are_those_that_speak_or_once_spoke_for_it(
    office: Office,
) -> None:
    boss = await office.claim("par_boss")
    await office.end("par_boss", await office.appoint("par_boss", "par_clerk"))
    await office.claim("par_other", OTHER)
    async with office.stored.read() as work:
        assert await work.mandates.accounts_of(boss.subject_id, PEOPLE) == {
            "par_boss",
            "par_clerk",
        }
        assert await work.mandates.accounts_of(boss.subject_id, ["par_new"]) == set()


async def test_a_firm_is_spoken_for_while_a_mandate_stands(office: Office) -> None:
    boss = await office.claim("par_boss")
    async with office.stored.begin() as work:
        assert await work.mandates.spoken_for({boss.subject_id, "x"}) == {boss.subject_id}
        await work.mandates.suspend(await work.mandates.lock_subject(boss.subject_id), NOW)
        assert await work.mandates.spoken_for({boss.subject_id}) == set()


@pytest.mark.parametrize("stored", DATABASES, indirect=True)
async def test_who_acts_is_waited_for_and_who_comes_after_is_refused(office: Office) -> None:
    boss = await office.claim("par_boss")
    delegate = await office.appoint("par_boss", "par_clerk")
    async with office.stored.begin() as work:
        assert await work.mandates.hold("par_clerk") == delegate
        ending = asyncio.create_task(office.end("par_boss", delegate))
        done, _ = await asyncio.wait([ending], timeout=0.3)
        assert not done
    await ending
    assert await office.stands() == {"par_boss": MandateState.ACTIVE}
    assert boss.is_representative


@pytest.mark.parametrize("stored", DATABASES, indirect=True)
@pytest.mark.parametrize("how", ["a claim", "the end", "the register"])
async def test_a_delegate_who_is_appointed_meanwhile_goes_with_the_others(
    office: Office, how: str
) -> None:
    boss = await office.claim("par_boss")

    async def suspend() -> None:
        async with office.stored.begin() as work:
            standing = await work.mandates.lock_subject(boss.subject_id)
            await work.mandates.suspend(standing, office.clock.now())

    change = {
        "a claim": lambda: office.claim("par_new"),
        "the end": lambda: office.end("par_boss", boss),
        "the register": suspend,
    }
    delegate = replace(
        boss, mandate_id="man_9", participant_id="par_clerk", kind=MandateKind.DELEGATE
    )
    async with office.stored.begin() as work:
        await work.mandates.lock_subject(boss.subject_id)
        await work.mandates.add(replace(delegate, appointed_by="par_boss"))
        changing = asyncio.create_task(change[how]())
        done, _ = await asyncio.wait([changing], timeout=0.3)
        assert not done
    await changing
    standing = await office.stands()
    assert standing.get("par_clerk") is not MandateState.ACTIVE
