"""One suite for the registry of models on the fake, SQLite and PostgreSQL."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import pytest

from services.kit import transactions
from services.kit.clock import FixedClock
from services.kit.db import Database, Transactions
from services.kit.errors import PuhuiError
from services.kit.ids import SequentialIds
from services.kit.migrations import upgrade
from services.scoring.models.domain import ModelClass
from services.scoring.registry.app import (
    ChangeRegistry,
    Events,
    Key,
    SendLeaves,
    TellRegistry,
)
from services.scoring.registry.domain import (
    EVERYTHING,
    Act,
    Event,
    Person,
    Registry,
    State,
    Validation,
    content_of,
    event_of,
)
from services.scoring.registry.store import EventStore
from tests.fakes.registry import FakeFolders, FakeLog, FakeRegistryWork

NOW = datetime(2026, 11, 23, 9, 30, 15, 123456, tzinfo=UTC)
TREE = Path(__file__).parents[3] / "services" / "scoring" / "migrations"
LI, ZHAO = Person("par_1", "Li 李"), Person("par_2", "Zhao 赵")
STATEMENT = Validation("Sun 孙", "MRV-2026-11")
DAY = timedelta(days=1)
IDS, NUMBERS = SequentialIds(), itertools.count(1)
Work: TypeAlias = transactions.Transactions[Events]


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def work(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Work]:
    if request.param == "fake":
        yield FakeRegistryWork()
        return
    url = (
        f"sqlite:///{tmp_path}/scoring.db"
        if request.param == "sqlite"
        else request.getfixturevalue("migrated_copy")(TREE)
    )
    upgrade(url, TREE)
    database = Database.open(url)
    yield Transactions(database, EventStore)
    await database.close()


class Office:
    """The registry and who works on it.

    Args:
        work: its database.
        trials: models may be tried that nobody validated.
    """

    def __init__(self, work: Work, *, trials: bool = False) -> None:
        self.work = work
        self.clock = FixedClock(NOW)
        self.folders = FakeFolders(
            dict.fromkeys(("a", "b", "c"), ModelClass.UNVALIDATED)
            | {"toy": ModelClass.SIMULATED, "judged": ModelClass.EXPERT}
        )
        self.acted = 0
        self.change = ChangeRegistry(
            work,
            self.folders,
            self._act,
            self.clock,
            IDS,
            lasts=7 * DAY,
            trials=trials,
        )
        self.tell = TellRegistry(work, self.clock)

    async def _act(self) -> None:
        self.acted += 1

    def key(self, who: Person, request_id: str = "", body: str = "") -> Key:
        digest = hashlib.sha256(body.encode()).digest()
        return Key(who.participant_id, request_id or f"r{next(NUMBERS)}", digest)

    async def registry(self) -> Registry:
        return await self.tell.standing()

    async def states(self) -> dict[str, str]:
        return {name: entry.state.value for name, entry in (await self.registry()).models.items()}

    async def register(self, version: str) -> Event:
        return await self.change.register(self.key(LI), LI, "new", version, "")

    async def propose(self, version: str, to: State, by: Person = LI) -> str:
        statement = STATEMENT if to is State.VALIDATED else None
        event = await self.change.propose(self.key(by), by, "why", version, to, statement)
        return event.proposal_id

    async def approve(self, proposal_id: str, by: Person = ZHAO) -> Event:
        return await self.change.approve(self.key(by), by, "", proposal_id)

    async def bring(self, version: str, *states: State) -> None:
        """Bring a version through states, as two people do."""
        for state in states:
            if state is State.DRAFT:
                await self.register(version)
            else:
                await self.approve(await self.propose(version, state))

    async def champion(self, version: str) -> None:
        await self.bring(version, State.DRAFT, State.VALIDATED, State.CHAMPION)


@pytest.fixture
def office(work: Work) -> Office:
    return Office(work)


def refused(reason: str) -> "pytest.RaisesExc[PuhuiError]":
    return pytest.raises(PuhuiError, check=lambda error: error.reason == reason)


async def test_a_model_comes_to_serve_by_two_people(office: Office) -> None:
    await office.register("a")
    proposal = await office.propose("a", State.VALIDATED)
    assert await office.states() == {"a": "DRAFT"}
    done = await office.approve(proposal)
    assert (done.act, done.source, done.target) == (Act.PROMOTE, State.DRAFT, State.VALIDATED)
    assert done.validation == STATEMENT
    await office.bring("a", State.SHADOW, State.CHAMPION)
    registry = await office.registry()
    assert registry.champion == "a"
    assert registry.models["a"].said_class is ModelClass.VALIDATED
    assert registry.models["a"].folder.signer == "a-key"


async def test_another_champion_takes_the_place_and_one_command_brings_the_first_back(
    office: Office,
) -> None:
    await office.champion("a")
    await office.champion("b")
    assert await office.states() == {"a": "VALIDATED", "b": "CHAMPION"}
    done = await office.change.roll_back(office.key(ZHAO), ZHAO, "too many refused", "")
    assert (done.act, done.version, done.other) == (Act.ROLL_BACK, "b", "a")
    assert await office.states() == {"a": "CHAMPION", "b": "RETIRED"}
    with refused("MODEL_STATE"):
        await office.change.roll_back(office.key(LI), LI, "again", "")
    with refused("MODEL_STATE"):
        await office.change.roll_back(office.key(LI), LI, "late", "b")
    await office.bring("b", State.VALIDATED, State.CHAMPION)
    assert await office.states() == {"a": "VALIDATED", "b": "CHAMPION"}


@pytest.mark.parametrize(
    "second",
    [
        LI,
        Person("par_1", "Zhao"),
        Person("par_9", " li  李 "),
        Person("par_9", "ＬＩ　李"),
        Person("par_9", "L\u200bi李."),
    ],
    ids=repr,
)
async def test_who_proposes_does_not_approve(office: Office, second: Person) -> None:
    await office.register("a")
    proposal = await office.propose("a", State.VALIDATED)
    with refused("SECOND_PERSON_REQUIRED"):
        await office.approve(proposal, second)
    assert await office.states() == {"a": "DRAFT"}
    await office.approve(proposal)


async def test_persons_are_told_apart_by_their_ids_where_both_are_known(office: Office) -> None:
    await office.register("a")
    li = Person("operator", "Li", "per_li")
    proposal = await office.propose("a", State.VALIDATED, li)
    for same in (Person("par_9", "Zhao", "per_li"), Person("par_9", "Li"), Person("operator", "Z")):
        with refused("SECOND_PERSON_REQUIRED"):
            await office.approve(proposal, same)
    approved = await office.approve(proposal, Person("operator", "Li", "per_zhao"))
    assert approved.by.person_id == "per_zhao"
    assert (await office.tell.page("", None, 99))[0].event.by.person_id == "per_zhao"


async def test_who_validated_a_model_does_not_propose_it(office: Office) -> None:
    await office.register("a")
    with refused("SECOND_PERSON_REQUIRED"):
        await office.propose("a", State.VALIDATED, Person("par_3", "sun 孙"))


@pytest.mark.parametrize("nobody", [" ", "\u200b", "..."], ids=repr)
async def test_whoever_does_or_validated_something_has_a_name(office: Office, nobody: str) -> None:
    await office.register("a")
    with refused("FIELD_INVALID"):
        await office.propose("a", State.VALIDATED, Person("par_3", nobody))
    statement = Validation(nobody, "MRV-1")
    with refused("FIELD_INVALID"):
        await office.change.propose(office.key(LI), LI, "why", "a", State.VALIDATED, statement)


async def test_to_be_validated_needs_a_statement_and_nothing_else_does(office: Office) -> None:
    await office.register("a")
    with refused("FIELD_INVALID"):
        await office.change.propose(office.key(LI), LI, "why", "a", State.VALIDATED, None)
    await office.bring("a", State.VALIDATED)
    with refused("FIELD_INVALID"):
        await office.change.propose(office.key(LI), LI, "why", "a", State.SHADOW, STATEMENT)


@pytest.mark.parametrize("to", [State.SHADOW, State.CHAMPION])
async def test_what_nobody_validated_serves_only_where_it_may_be_tried(
    work: Work, to: State
) -> None:
    strict, sandbox = Office(work), Office(work, trials=True)
    await strict.register("a")
    with refused("MODEL_STATE"):
        await strict.propose("a", to)
    proposal = await sandbox.propose("a", to)
    with refused("PROPOSAL_CLOSED"):
        await strict.approve(proposal)
    await sandbox.approve(proposal)
    registry = await sandbox.registry()
    assert registry.models["a"].said_class is ModelClass.UNVALIDATED
    if to is State.CHAMPION:
        await sandbox.champion("b")
        assert (await sandbox.registry()).predecessor(trials=True) == "a"
        assert (await sandbox.registry()).predecessor(trials=False) == ""
    else:
        await sandbox.change.demote(sandbox.key(LI), LI, "enough", "a", State.DRAFT)
    assert (await sandbox.states())["a"] == "DRAFT"


@pytest.mark.parametrize(("version", "stays"), [("toy", "SIMULATED"), ("judged", "EXPERT")])
async def test_no_statement_makes_a_simulated_or_expert_model_a_validated_one(
    office: Office, version: str, stays: str
) -> None:
    await office.champion(version)
    assert (await office.registry()).models[version].said_class == stays


async def test_a_proposal_ends_by_itself_or_with_a_reason(office: Office) -> None:
    await office.register("a")
    late = await office.propose("a", State.VALIDATED)
    office.clock.advance(7 * DAY)
    with refused("PROPOSAL_CLOSED"):
        await office.approve(late)
    own, others = [await office.propose("a", State.VALIDATED) for _ in range(2)]
    assert [each.proposal_id for each in await office.tell.waiting()] == [own, others]
    withdrawn = await office.change.decline(office.key(LI), LI, "not yet", own)
    rejected = await office.change.decline(office.key(ZHAO), ZHAO, "no report", others)
    assert [withdrawn.act, rejected.act] == [Act.WITHDRAW, Act.REJECT]
    assert await office.tell.waiting() == []
    for proposal in (own, others, late):
        with refused("PROPOSAL_CLOSED"):
            await office.approve(proposal)
    with refused("NOT_FOUND"):
        await office.approve("mpr_none")


async def test_a_proposal_holds_for_what_it_was_made_about(office: Office) -> None:
    await office.champion("a")
    for version in ("b", "c"):
        await office.bring(version, State.DRAFT, State.VALIDATED)
    first, second = [await office.propose(version, State.CHAMPION) for version in ("b", "c")]
    shadow = await office.propose("b", State.SHADOW)
    await office.approve(second)
    for proposal in (first, second):
        with refused("PROPOSAL_CLOSED"):
            await office.approve(proposal)
    await office.approve(shadow)
    assert await office.states() == {"a": "VALIDATED", "b": "SHADOW", "c": "CHAMPION"}


async def test_a_folder_that_was_changed_is_not_approved(office: Office) -> None:
    await office.register("a")
    proposal = await office.propose("a", State.VALIDATED)
    office.folders.changed.add("a")
    with refused("MODEL_FOLDER_REFUSED"):
        await office.approve(proposal)
    with refused("MODEL_FOLDER_REFUSED"):
        await office.register("a")
    office.folders.changed.clear()
    await office.approve(proposal)


async def test_ways_that_there_are_not(office: Office) -> None:
    await office.champion("a")
    with refused("MODEL_STATE"):
        await office.register("a")
    for to in (State.VALIDATED, State.SHADOW, State.CHAMPION):
        with refused("MODEL_STATE"):
            await office.propose("a", to)
    for to in (State.RETIRED, State.VALIDATED, State.DRAFT):
        with refused("MODEL_STATE"):
            await office.change.demote(office.key(LI), LI, "why", "a", to)
    with refused("MODEL_NOT_FOUND"):
        await office.propose("nobody", State.VALIDATED)
    with refused("MODEL_NOT_FOUND"):
        await office.register("nobody")
    with refused("MODEL_STATE"):
        await office.change.propose_resumption(office.key(LI), LI, "why", EVERYTHING)


async def test_a_stop_is_one_persons_and_its_end_two_peoples(office: Office) -> None:
    await office.champion("a")
    await office.change.stop(office.key(LI), LI, "wrong data", EVERYTHING)
    await office.change.stop(office.key(LI), LI, "wrong trees", "a")
    registry = await office.registry()
    stop = registry.stop_of("b")
    assert stop is not None
    assert (stop.version, stop.reason, stop.since) == (EVERYTHING, "wrong data", NOW)
    event = await office.change.propose_resumption(office.key(LI), LI, "right", EVERYTHING)
    with refused("SECOND_PERSON_REQUIRED"):
        await office.approve(event.proposal_id, LI)
    await office.approve(event.proposal_id)
    registry = await office.registry()
    assert registry.stop_of("b") is None
    assert (registry.stop_of("a") or stop).reason == "wrong trees"
    with refused("MODEL_NOT_FOUND"):
        await office.change.stop(office.key(LI), LI, "why", "nobody")


async def test_what_was_proposed_about_a_stop_does_not_end_the_next_one(office: Office) -> None:
    await office.change.stop(office.key(LI), LI, "wrong data", EVERYTHING)
    event = await office.change.propose_resumption(office.key(LI), LI, "right", EVERYTHING)
    await office.change.stop(office.key(ZHAO), ZHAO, "still wrong", EVERYTHING)
    with refused("PROPOSAL_CLOSED"):
        await office.approve(event.proposal_id)
    stop = (await office.registry()).stop_of("a")
    assert stop is not None
    assert stop.reason == "still wrong"


async def test_a_request_is_done_once(office: Office) -> None:
    key = office.key(LI, "same", "body")
    first = await office.change.register(key, LI, "new", "a", "")
    assert await office.change.register(key, LI, "new", "a", "") == first
    with refused("REQUEST_ID_REUSED"):
        await office.change.stop(office.key(LI, "same", "other"), LI, "why", EVERYTHING)
    assert len(await office.tell.page("", None, 99)) == 1
    done = office.key(ZHAO, "once", "body")
    proposal = await office.propose("a", State.VALIDATED)
    first = await office.change.approve(done, ZHAO, "", proposal)
    assert await office.change.approve(done, ZHAO, "", proposal) == first


async def test_of_two_at_once_one_is_too_late(office: Office) -> None:
    await office.champion("a")
    await office.bring("b", State.DRAFT, State.VALIDATED)
    proposals = [await office.propose("b", State.CHAMPION) for _ in range(4)]
    ends = await asyncio.gather(
        *(office.approve(proposal) for proposal in proposals), return_exceptions=True
    )
    assert sum(isinstance(end, Event) for end in ends) == 1
    assert {end.reason for end in ends if isinstance(end, PuhuiError)} == {"PROPOSAL_CLOSED"}
    assert list((await office.states()).values()).count("CHAMPION") == 1


async def test_every_event_stays_as_it_was(office: Office) -> None:
    await office.champion("a")
    await office.champion("b")
    told = [each.event for each in await office.tell.page("", None, 99)]
    acts = [f"{event.act} {event.version}" for event in reversed(told)]
    assert acts == [
        *("REGISTER a", "PROPOSE a", "PROMOTE a", "PROPOSE a", "PROMOTE a"),
        *("REGISTER b", "PROPOSE b", "PROMOTE b", "PROPOSE b", "PROMOTE b", "DISPLACE a"),
    ]
    assert [event_of(content_of(event)) for event in told] == told
    pages = await office.tell.page("a", None, 2)
    rest = await office.tell.page("a", pages[-1].position, 99)
    assert [each.event for each in (*pages, *rest)] == [e for e in told if e.version == "a"]
    assert [each.event for each in await office.tell.after(pages[0].position)] == []


async def test_every_event_comes_to_the_log_once_whatever_happens(
    office: Office, work: Work
) -> None:
    await office.champion("a")
    log, waiting = FakeLog(away=True), list[int]()
    send = SendLeaves(work, log, waiting.append)
    await send()
    assert waiting == [5]
    log.away, log.loses_answers = False, 1
    await send()
    assert waiting == [5, 5]
    await send()
    assert waiting[-1] == 0
    calls = log.calls
    await send()
    assert log.calls == calls
    told = await office.tell.page("", None, 99)
    assert {each.event.event_id: each.leaf for each in told} == log.leaves
    for each in told:
        assert each.leaf is not None
        salted = b"\x00" + each.leaf.salt + content_of(each.event).encode()
        assert hashlib.sha256(salted).digest() == each.leaf.hash
