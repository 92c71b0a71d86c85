"""Consents against a small model: whatever is done in whatever order, both agree.

The model is written anew from the documented table and knows nothing of the code. It is compared
with the use cases over tables in memory, over SQLite and, more shortly, over PostgreSQL. The clock
goes back as well as forward.
"""

import asyncio
import itertools
import shutil
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from services.datashare.access.app import Item
from services.datashare.access.domain import Channel, Fetch, Released
from services.datashare.catalogue.domain import ContentLevel
from services.datashare.consent.domain import Action, Consent, Period, State, Terms, state_at
from services.datashare.consent.ending import TellEnds
from services.datashare.idempotency.domain import RequestKey
from services.datashare.mandates.domain import (
    Mandate,
    MandateKind,
    Power,
    SigningRule,
    registered,
)
from services.datashare.notices.domain import NoticeKind
from services.datashare.participants.domain import Participant, Role, Standing, SubjectName
from services.datashare.quota.domain import ONE_TIME, Limit, Unit
from services.kit.clock import FixedClock
from services.kit.db import Database
from services.kit.errors import PuhuiError
from services.kit.identity import Caller
from tests.fakes.datashare_world import NOW, OFFICER, World
from tests.fakes.replicas import Replica
from tests.fakes.signing import SIGNER
from tests.fakes.standing import PRODUCTS, set_standing

T = TypeVar("T")

NUMBERS = itertools.count(1)
OPEN = {"REQUESTED", "PARTIALLY_APPROVED"}
STANDING = {"ACTIVE", "PAUSED"}
TARGETS = {
    "reject": (OPEN, "REJECTED"),
    "withdraw": (OPEN | STANDING, "WITHDRAWN"),
    "revoke": (OPEN | STANDING, "REVOKED"),
    "pause": ({"ACTIVE"}, "PAUSED"),
    "resume": ({"PAUSED"}, "ACTIVE"),
}
REFUSALS = {
    "WITHDRAWN": "CONSENT_WITHDRAWN",
    "REVOKED": "CONSENT_REVOKED",
    "EXPIRED": "CONSENT_EXPIRED",
    "PAUSED": "CONSENT_PAUSED",
    "CONSUMED": "CONSENT_CONSUMED",
    "SUPERSEDED": "CONSENT_SUPERSEDED",
}


@dataclass(eq=False)
class Modelled:
    """What the model knows of a consent."""

    consent: Consent
    expires_at: datetime
    answer_by: datetime
    one_time: bool
    required: int
    replaces: "Modelled | None"
    state: str = "REQUESTED"
    agreed: set[str] = field(default_factory=set)
    revision: int = 1
    used: int = 0
    told: int = 0
    to_tell: bool = True

    def at(self, now: datetime, *, used: bool = True) -> str:
        if self.state in STANDING and used and self.one_time and self.used:
            return "CONSUMED"
        if self.state in OPEN and now >= self.answer_by:
            return "LAPSED"
        if self.state in STANDING and now >= self.expires_at:
            return "EXPIRED"
        return self.state


class ConsentMachine(RuleBasedStateMachine):
    """Random parties doing random things, at times that go forward and back."""

    side: ClassVar[Any]
    consents = Bundle("consents")
    fetches = Bundle("fetches")

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = FixedClock(NOW)
        number = next(NUMBERS)
        self.made: list[Modelled] = []
        self.suspended = False
        self.number = number
        self.requests = itertools.count(1)
        self.use = self.loop.run_until_complete(self.open())
        self.loop.run_until_complete(self.populate(f"{number:08}"))

    async def open(self) -> Any:
        raise AssertionError("each side opens its own")

    async def close(self) -> None:
        """Close what was opened."""

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.close())
            self.loop.close()

    async def populate(self, suffix: str) -> None:
        bank, tax = f"par_bank_{suffix}", f"par_tax_{suffix}"
        async with self.use.transactions.begin() as work:
            uscc = f"9111{suffix}MA0123"
            self.subject_id = (await work.subjects.resolve_or_create_many([uscc]))[uscc]
            for id_, role, kind in ((bank, Role.BANK, ""), (tax, Role.PROVIDER, "tax")):
                person = Participant(
                    id_, role, id_, kind, None, False, Standing.ACTIVE, NOW, products=PRODUCTS
                )
                await work.participants.add(person)
            head = f"par_firm_{suffix}"
            await work.mandates.add(registered(f"man_{head}", self.subject_id, head, NOW))
            cfo = f"par_cfo_{suffix}"
            powers = frozenset({Power.GRANT, Power.WITHDRAW, Power.READ})
            await work.mandates.add(
                Mandate(
                    f"man_{cfo}",
                    self.subject_id,
                    cfo,
                    MandateKind.DELEGATE,
                    powers,
                    NOW,
                    appointed_by=head,
                )
            )
        self.bank, self.tax = Caller(bank, "BANK"), tax
        self.firm, self.cfo = (Caller(id_, "FIRM", self.subject_id) for id_ in (head, cfo))

    def run(self, work: Coroutine[Any, Any, T]) -> T | PuhuiError:
        try:
            return self.loop.run_until_complete(work)
        except PuhuiError as error:
            return error

    def key(self, who: Caller) -> RequestKey:
        return RequestKey(who.participant_id, f"r{next(self.requests)}", b"f" * 32)

    def changed(self, made: Modelled, state: str) -> None:
        made.state, made.revision = state, made.revision + 1
        made.to_tell = True

    @rule(
        target=consents,
        days=st.integers(1, 60),
        one_time=st.booleans(),
        required=st.integers(1, 2),
    )
    def ask(self, days: int, one_time: bool, required: int) -> Modelled | None:
        return self.asked(days, one_time, required, None)

    @rule(target=consents, earlier=consents, days=st.integers(1, 60))
    def ask_anew(self, earlier: Modelled | None, days: int) -> Modelled | None:
        return self.asked(days, False, 1, earlier)

    def asked(
        self, days: int, one_time: bool, required: int, earlier: Modelled | None
    ) -> Modelled | None:
        now = self.clock.now()
        terms = Terms(
            purpose="credit_application",
            provider_ids=(self.tax,),
            record_types=("vat_invoice",),
            content_level=ContentLevel.SUMMARY,
            data_period=Period(date(2023, 1, 1), date(2026, 12, 31)),
            not_before=None,
            expires_at=now + timedelta(days=days),
            fetch_limit=ONE_TIME if one_time else Limit(50, Unit.DAY),
        )
        signers = (self.firm.participant_id, self.cfo.participant_id)
        self.run(self.set_rule(SigningRule(signers, required) if required > 1 else None))
        result = self.run(
            self.use.consents.request(
                self.bank,
                self.key(self.bank),
                SubjectName(subject_id=self.subject_id),
                terms,
                OFFICER,
                supersedes=earlier.consent.core.consent_id if earlier else "",
            )
        )
        if self.suspended:
            assert isinstance(result, PuhuiError)
            assert result.reason == "PARTICIPANT_SUSPENDED"
            return None
        if earlier is not None and earlier.at(now) not in STANDING:
            assert isinstance(result, PuhuiError)
            assert result.reason == "FIELD_INVALID"
            return None
        assert isinstance(result, Consent)
        answer_by = min(now + timedelta(days=30), terms.expires_at)
        made = Modelled(result, terms.expires_at, answer_by, one_time, required, earlier)
        self.made.append(made)
        return made

    async def set_rule(self, asked: SigningRule | None) -> None:
        async with self.use.transactions.begin() as work:
            await work.mandates.set_rule(self.subject_id, asked)

    @rule(made=consents, by_cfo=st.booleans())
    def grant(self, made: Modelled | None, by_cfo: bool) -> None:
        if made is None:
            return
        who, now = self.cfo if by_cfo else self.firm, self.clock.now()
        consent = made.consent
        result = self.run(
            self.use.consents.grant(who, self.key(who), consent.core.consent_id, consent.sha256, ())
        )
        expected = ""
        last = len(made.agreed) + 1 >= made.required
        if made.at(now) not in OPEN:
            expected = "CONSENT_STATE"
        elif who.participant_id in made.agreed:
            expected = "NOT_A_SIGNER"
        elif last and made.replaces is not None and made.replaces.state == "SUPERSEDED":
            expected = "CONSENT_STATE"
        if expected:
            assert isinstance(result, PuhuiError)
            assert result.reason == expected
            return
        assert isinstance(result, Consent)
        made.agreed.add(who.participant_id)
        self.changed(made, "ACTIVE" if last else "PARTIALLY_APPROVED")
        if last and made.replaces is not None and made.replaces.at(now) in STANDING:
            self.changed(made.replaces, "SUPERSEDED")
        assert (str(result.state), result.revision) == (made.state, made.revision)

    @rule(made=consents, action=st.sampled_from(sorted(TARGETS)), by_cfo=st.booleans())
    def act(self, made: Modelled | None, action: str, by_cfo: bool) -> None:
        if made is None:
            return
        who = self.cfo if by_cfo else self.firm
        if action == "revoke":
            who = self.bank
        key, consent_id = self.key(who), made.consent.core.consent_id
        if action == "pause":
            work = self.use.consents.pause(who, key, consent_id, "because")
        elif action == "resume":
            work = self.use.consents.resume(who, key, consent_id)
        else:
            work = self.use.consents.end(who, key, consent_id, Action(action), "because")
        result = self.run(work)
        sources, target = TARGETS[action]
        if action == "revoke" and self.suspended:
            assert isinstance(result, PuhuiError)
            assert result.reason == "PARTICIPANT_SUSPENDED"
        elif made.at(self.clock.now()) not in sources:
            assert isinstance(result, PuhuiError)
            assert result.reason == "CONSENT_STATE"
        else:
            self.changed(made, target)
            assert isinstance(result, Consent)
            assert (str(result.state), result.revision) == (made.state, made.revision)
            assert (result.termination is not None) == (made.state not in OPEN | STANDING)

    @rule(target=fetches, made=consents)
    def fetch(self, made: Modelled | None) -> tuple[Modelled, Item] | None:
        if made is None:
            return None
        core = made.consent.core
        fetch = Fetch(
            request_id=f"f{next(self.requests)}",
            fingerprint=b"f" * 32,
            subject_id=self.subject_id,
            consent_id=core.consent_id,
            purpose="credit_application",
            officer="王",
            file_reference="F-1",
        )
        item = Item(self.bank, fetch)
        return (made, item) if self.fetched(made, item, fresh=True) else None

    @rule(again=fetches)
    def fetch_again(self, again: tuple[Modelled, Item] | None) -> None:
        if again is not None:
            self.fetched(*again, fresh=False)

    def fetched(self, made: Modelled, item: Item, *, fresh: bool) -> bool:
        results = self.run(self.use.fetch([item], Channel.SCORING))
        assert isinstance(results, list)
        (result,) = results
        state = made.at(self.clock.now(), used=False)
        if state == "ACTIVE" and fresh:  # that it is used up is found out last, by counting
            state = made.at(self.clock.now())
        expected = REFUSALS.get(state, "CONSENT_NOT_ACTIVE")
        if self.suspended:
            expected = "PARTICIPANT_SUSPENDED"
        elif state == "ACTIVE":
            assert isinstance(result, Released)
            made.used += fresh
            return True
        assert isinstance(result, PuhuiError)
        assert result.reason == expected
        return False

    @rule()
    def suspend_or_reinstate(self) -> None:
        self.suspended = not self.suspended
        standing = Standing.SUSPENDED if self.suspended else Standing.ACTIVE
        self.run(self.set_standing(standing))

    async def set_standing(self, standing: Standing) -> None:
        async with self.use.transactions.begin() as work:
            await work.participants.lock(self.bank.participant_id)
            await set_standing(work, self.bank.participant_id, standing)

    @rule()
    def tell_ends(self) -> None:
        self.run(TellEnds(self.use.transactions, self.clock, SIGNER)())
        now = self.clock.now()
        for made in self.made:
            if made.at(now) in ("EXPIRED", "LAPSED"):
                made.told += made.to_tell
                made.to_tell = False
        assert self.run(self.told_of_ends()) == sum(made.told for made in self.made)

    async def told_of_ends(self) -> int:
        async with self.use.transactions.read() as work:
            entries = await work.notices.after(self.bank.participant_id, 0, 10_000)
        ends = (NoticeKind.CONSENT_EXPIRED, NoticeKind.CONSENT_LAPSED)
        return sum(entry.notice.kind in ends for entry in entries)

    @rule(hours=st.integers(-24 * 10, 24 * 40))
    def step(self, hours: int) -> None:
        self.clock.advance(timedelta(hours=hours))

    def shown(self, made: Modelled) -> str:
        state = made.at(self.clock.now())
        return "PAUSED" if self.suspended and state == "ACTIVE" else state

    @rule(state=st.sampled_from(State))
    def lists_agree(self, state: State) -> None:
        found = self.run(self.use.consents.list(self.firm, state, "", 500))
        assert not isinstance(found, PuhuiError)
        listed = {consent.core.consent_id for consent in found[0]}
        assert listed == {
            made.consent.core.consent_id for made in self.made if self.shown(made) == state
        }

    @invariant()
    def states_agree(self) -> None:
        if not hasattr(self, "made"):
            return
        now = self.clock.now()
        found = self.run(self.use.consents.list(self.firm, None, "", 500))
        assert not isinstance(found, PuhuiError)
        stored = {consent.core.consent_id: consent for consent in found[0]}
        assert len(stored) == len(self.made)
        for made in self.made:
            consent = stored[made.consent.core.consent_id]
            assert state_at(consent, now) == self.shown(made)
            assert consent.state not in (State.EXPIRED, State.LAPSED, State.CONSUMED)
            assert consent.revision == made.revision
            assert consent.canonical == made.consent.canonical
            assert {each.signer_id for each in consent.signatures} == made.agreed


class InMemory(ConsentMachine):
    """Over the fakes of the ports."""

    async def open(self) -> World:
        return World(self.clock)

    @invariant()
    def every_change_is_told_and_logged(self) -> None:
        if hasattr(self, "made"):
            memory = self.use.transactions.memory
            acts = sum(made.revision for made in self.made)
            consumed = sum(made.one_time and made.used > 0 for made in self.made)
            assert len(memory.changes) == acts + consumed
            assert len(memory.leaves) == acts + len(memory.accesses)


def over(machine: type[ConsentMachine], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_in_memory() -> None:
    over(InMemory, examples=60, steps=40)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / f"{number}.db" for number in itertools.count())


def test_over_sqlite(migrated_sqlite: Path, files: Iterator[Path]) -> None:
    class OverSQLite(ConsentMachine):
        async def open(self) -> Replica:
            path = next(files)
            shutil.copy(migrated_sqlite, path)
            self.database = Database.open(f"sqlite:///{path}")
            return Replica(self.database, self.clock)

        async def close(self) -> None:
            await self.database.close()

    over(OverSQLite, examples=12, steps=25)


def test_over_postgresql(migrated_postgres_url: str) -> None:
    class OverPostgreSQL(ConsentMachine):
        async def open(self) -> Replica:
            self.database = Database.open(migrated_postgres_url)
            return Replica(self.database, self.clock)

        async def close(self) -> None:
            await self.database.close()

    over(OverPostgreSQL, examples=5, steps=20)
