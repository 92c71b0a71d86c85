"""Whatever is claimed, appointed, suspended and ended, in any order: what must hold of mandates."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Sealer
from services.datashare.mandates.app import Mandates, Proved
from services.datashare.mandates.domain import (
    Mandate,
    MandateState,
    Power,
    SigningRule,
    state_at,
)
from services.datashare.mandates.servicer import MandateCodec, RuleCodec
from services.datashare.participants.domain import Participant, Role, Standing
from services.datashare.subjects.uscc import make
from services.kit.clock import FixedClock
from services.kit.errors import PuhuiError
from services.kit.identity import Caller
from services.kit.ids import SequentialIds
from tests.fakes.datashare import FakeTransactions
from tests.fakes.datashare_world import NOW

T = TypeVar("T")

FIRMS = [make("91", "110108", f"MA0F1RM{number}") for number in range(2)]
PEOPLE = [f"par_{number}" for number in range(3)]

firms = st.sampled_from(FIRMS)
people = st.sampled_from(PEOPLE)
powers = st.frozensets(st.sampled_from(Power), min_size=1)


class Believing:
    """An identity port that believes everybody."""

    def check(self, uscc: str, participant_id: str, proof: str, now: object) -> Proved:
        return Proved("word")


def done(act: Coroutine[Any, Any, T], *refusals: str) -> T | None:
    """Return what an act returned; None when it was refused for one of some reasons."""
    try:
        return asyncio.run(act)
    except PuhuiError as error:
        if error.reason in refusals:
            return None
        raise


class MandateMachine(RuleBasedStateMachine):
    """The use cases over tables in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FixedClock(NOW)
        self.transactions = FakeTransactions()
        for who in PEOPLE:
            self.transactions.memory.participants[who] = Participant(
                who, Role.FIRM, who, "", None, False, Standing.ACTIVE, NOW
            )
        ids = SequentialIds()
        self.mandates = Mandates(
            transactions=self.transactions,
            retry=lambda work: work(),
            clock=self.clock,
            ids=ids,
            sealer=Sealer(ids, bytes),
            proof=Believing(),
            mandate_codec=MandateCodec(),
            rule_codec=RuleCodec(),
        )
        self.requests = 0
        self.seen: dict[str, Mandate] = {}

    @property
    def rows(self) -> list[Mandate]:
        return list(self.transactions.memory.mandates.values())

    def key(self, who: str) -> RequestKey:
        self.requests += 1
        return RequestKey(who, f"r{self.requests}", b"f" * 32)

    def active(self, who: str) -> Mandate | None:
        now = self.clock.now()
        mine = [row for row in self.rows if row.participant_id == who]
        return next((row for row in mine if state_at(row, now) is MandateState.ACTIVE), None)

    @rule(who=people, uscc=firms)
    def claim(self, who: str, uscc: str) -> None:
        before = self.active(who)
        got = done(
            self.mandates.claim(Caller(who, "FIRM"), self.key(who), uscc, "proof"),
            "ALREADY_EXISTS",
        )
        if got is None:
            return
        assert got.is_representative
        assert before is None or before.subject_id == got.subject_id
        if before is None or not before.is_representative:
            others = [row for row in self.rows if row.subject_id == got.subject_id]
            assert all(row.ended_at for row in others if row.mandate_id != got.mandate_id)

    @rule(who=people, whom=people, given=powers, hours=st.integers(0, 3))
    def appoint(self, who: str, whom: str, given: frozenset[Power], hours: int) -> None:
        mine = self.active(who)
        until = self.clock.now() + timedelta(hours=hours) if hours else None
        appointing = self.mandates.appoint(Caller(who, "FIRM"), self.key(who), whom, given, until)
        got = done(appointing, "ALREADY_EXISTS", "MANDATE_REQUIRED")
        if got is None:
            return
        assert mine is not None
        assert mine.is_representative
        assert (got.subject_id, got.appointed_by, got.powers) == (mine.subject_id, who, given)

    @rule(who=people, data=st.data())
    def end(self, who: str, data: Any) -> None:
        if not self.rows:
            return
        chosen: Mandate = data.draw(st.sampled_from(self.rows))
        mine = self.active(who)
        ending = self.mandates.end(Caller(who, "FIRM"), self.key(who), chosen.mandate_id)
        if done(ending, "NOT_FOUND", "MANDATE_REQUIRED") is None:
            return
        assert chosen.participant_id == who or (
            mine is not None and mine.is_representative and mine.subject_id == chosen.subject_id
        )

    @rule(who=people)
    def leave(self, who: str) -> None:
        mine = self.active(who)
        if mine is not None:
            asyncio.run(self.mandates.end(Caller(who, "FIRM"), self.key(who), mine.mandate_id))
            assert self.active(who) is None

    @rule(who=people, signers=st.lists(people, min_size=1, unique=True), required=st.integers(1, 3))
    def set_rule(self, who: str, signers: list[str], required: int) -> None:
        asked = SigningRule(tuple(signers), required)
        setting = self.mandates.set_rule(Caller(who, "FIRM"), self.key(who), asked)
        if done(setting, "FIELD_INVALID", "MANDATE_REQUIRED") is None:
            return
        assert required <= len(signers)
        firms_of = {mandate.subject_id for each in signers if (mandate := self.active(each))}
        assert len(firms_of) == 1

    @rule(uscc=firms, really=st.integers(0, 3))
    def suspend(self, uscc: str, really: int) -> None:
        if really:
            return

        async def suspend() -> None:
            subject_id = self.transactions.memory.subjects.get(uscc, "")
            async with self.transactions.begin() as work:
                standing = await work.mandates.lock_subject(subject_id)
                await work.mandates.suspend(standing, self.clock.now())

        asyncio.run(suspend())

    @rule(minutes=st.integers(1, 90))
    def wait(self, minutes: int) -> None:
        self.clock.at += timedelta(minutes=minutes)

    @invariant()
    def an_account_acts_for_one_firm_and_a_firm_has_one_representative(self) -> None:
        stands = [row for row in self.rows if row.ended_at is None]
        assert max(Counter(row.participant_id for row in stands).values(), default=0) <= 1
        heads = Counter(row.subject_id for row in stands if row.is_representative)
        assert max(heads.values(), default=0) <= 1

    @invariant()
    def nobody_acts_for_a_firm_without_its_representative(self) -> None:
        now = self.clock.now()
        active = [row for row in self.rows if state_at(row, now) is MandateState.ACTIVE]
        heads = {row.subject_id: row.participant_id for row in active if row.is_representative}
        for row in active:
            assert heads.get(row.subject_id) == row.principal_id

    @invariant()
    def what_ended_or_was_suspended_stays_so(self) -> None:
        order = list(MandateState)
        for row in self.rows:
            before = self.seen.get(row.mandate_id, row)
            now = self.clock.now()
            assert order.index(state_at(row, now)) >= order.index(state_at(before, now))
            assert (before.ended_at, before.powers) in (
                (None, row.powers),
                (row.ended_at, row.powers),
            )
            self.seen[row.mandate_id] = row

    @invariant()
    def every_change_has_its_leaf_and_its_notice(self) -> None:
        memory = self.transactions.memory
        assert len(memory.notices) == len(memory.changes)
        if memory.mandates:
            assert len(memory.leaves) >= len(memory.mandates)


TestMandates = MandateMachine.TestCase
TestMandates.settings = settings(max_examples=100, stateful_step_count=40)
