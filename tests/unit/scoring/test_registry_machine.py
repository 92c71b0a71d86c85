"""The registry against a small model: whatever is done in whatever order, both agree.

The model is written anew from the documented table of ways and knows nothing of the code. What the
registry is, is folded from its events as they are stored, in pieces of any size.
"""

import asyncio
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from services.kit.clock import FixedClock
from services.kit.errors import PuhuiError
from services.kit.ids import SequentialIds
from services.scoring.models.domain import ModelClass
from services.scoring.registry.app import ChangeRegistry, Key, TellRegistry
from services.scoring.registry.domain import Person, Registry, State, Validation
from tests.fakes.registry import FakeFolders, FakeRegistryWork

VERSIONS = ("a", "b", "c")
PEOPLE = (Person("par_1", "Li"), Person("par_2", "Zhao"), Person("par_3", "Qian"))
LASTS = timedelta(hours=2)
NEEDS_TWO = {
    ("DRAFT", "VALIDATED"),
    ("RETIRED", "VALIDATED"),
    ("VALIDATED", "SHADOW"),
    ("VALIDATED", "CHAMPION"),
    ("SHADOW", "CHAMPION"),
}
ONE_PERSON = {
    ("SHADOW", "VALIDATED"),
    ("DRAFT", "RETIRED"),
    ("VALIDATED", "RETIRED"),
    ("SHADOW", "RETIRED"),
}


@dataclass
class Paper:
    """A proposal as the model has it."""

    version: str
    before: str
    after: str
    by: Person
    until: datetime
    champion: str
    stop: int
    open: bool = True


@dataclass
class Expected:
    """What should stand."""

    states: dict[str, str] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    validated: set[str] = field(default_factory=set)
    papers: list[Paper] = field(default_factory=list)
    stops: dict[str, int] = field(default_factory=dict)

    @property
    def champion(self) -> str:
        return next((name for name, state in self.states.items() if state == "CHAMPION"), "")


class RegistryMachine(RuleBasedStateMachine):
    """Does anything in any order, as anybody."""

    @initialize()
    def begin(self) -> None:
        self.clock = FixedClock(datetime(2026, 11, 23, tzinfo=UTC))
        self.work = FakeRegistryWork()
        self.numbers = itertools.count(1)
        self.change = ChangeRegistry(
            self.work,
            FakeFolders(dict.fromkeys(VERSIONS, ModelClass.UNVALIDATED)),
            self.nothing,
            self.clock,
            SequentialIds(),
            lasts=LASTS,
            trials=False,
        )
        self.tell = TellRegistry(self.work, self.clock)
        self.expected = Expected()
        self.ids: list[str] = []

    async def nothing(self) -> None:
        pass

    def key(self, who: Person) -> Key:
        return Key(who.participant_id, str(next(self.numbers)), b"")

    def does(self, work: Any, *, allowed: bool) -> Any:
        """Do something that the model allows or not; both must see it alike."""
        before = list(self.work.events.contents)
        try:
            event = asyncio.run(work)
        except PuhuiError:
            assert not allowed
            assert self.work.events.contents == before
            return None
        assert allowed
        return event

    @rule(version=st.sampled_from(VERSIONS), who=st.sampled_from(PEOPLE))
    def register(self, version: str, who: Person) -> None:
        allowed = version not in self.expected.states
        self.does(self.change.register(self.key(who), who, "", version, ""), allowed=allowed)
        self.expected.states.setdefault(version, "DRAFT")

    @rule(
        version=st.sampled_from(VERSIONS),
        to=st.sampled_from(["VALIDATED", "SHADOW", "CHAMPION"]),
        who=st.sampled_from(PEOPLE),
    )
    def propose(self, version: str, to: str, who: Person) -> None:
        state = self.expected.states.get(version, "")
        statement = Validation("Sun", "MRV-1") if to == "VALIDATED" else None
        event = self.does(
            self.change.propose(self.key(who), who, "why", version, State(to), statement),
            allowed=(state, to) in NEEDS_TWO,
        )
        if event is not None:
            self.ids.append(event.proposal_id)
            until = self.clock.now() + LASTS
            champion = self.expected.champion
            self.expected.papers.append(Paper(version, state, to, who, until, champion, 0))

    @rule(version=st.sampled_from(("", *VERSIONS)), who=st.sampled_from(PEOPLE))
    def propose_resumption(self, version: str, who: Person) -> None:
        stop = self.expected.stops.get(version, 0)
        event = self.does(
            self.change.propose_resumption(self.key(who), who, "why", version), allowed=stop > 0
        )
        if event is not None:
            self.ids.append(event.proposal_id)
            until = self.clock.now() + LASTS
            self.expected.papers.append(Paper(version, "", "", who, until, "", stop))

    @rule(which=st.integers(0, 5), who=st.sampled_from(PEOPLE))
    def approve(self, which: int, who: Person) -> None:
        if not self.ids:
            return
        at = max(0, len(self.ids) - 1 - which)
        paper, expected = self.expected.papers[at], self.expected
        holds = paper.open and self.clock.now() < paper.until and paper.by != who
        if paper.stop:
            holds = holds and expected.stops.get(paper.version) == paper.stop
        else:
            holds = holds and expected.states[paper.version] == paper.before
            if paper.after == "CHAMPION":
                holds = holds and expected.champion == paper.champion
        self.does(self.change.approve(self.key(who), who, "", self.ids[at]), allowed=holds)
        if not holds:
            return
        paper.open = False
        if paper.stop:
            del expected.stops[paper.version]
            return
        if paper.after == "CHAMPION":
            expected.before[paper.version] = expected.champion
            if expected.champion:
                expected.states[expected.champion] = "VALIDATED"
        if paper.after == "VALIDATED":
            expected.validated.add(paper.version)
        expected.states[paper.version] = paper.after

    @rule(which=st.integers(0, 5), who=st.sampled_from(PEOPLE))
    def decline(self, which: int, who: Person) -> None:
        if not self.ids:
            return
        at = max(0, len(self.ids) - 1 - which)
        paper = self.expected.papers[at]
        allowed = paper.open and self.clock.now() < paper.until
        self.does(self.change.decline(self.key(who), who, "why", self.ids[at]), allowed=allowed)
        paper.open = paper.open and not allowed

    @rule(version=st.sampled_from(("", *VERSIONS)), who=st.sampled_from(PEOPLE))
    def roll_back(self, version: str, who: Person) -> None:
        expected, champion = self.expected, self.expected.champion
        before = expected.before.get(champion, "")
        allowed = (
            champion != ""
            and version in ("", champion)
            and expected.states.get(before) in ("VALIDATED", "SHADOW")
        )
        self.does(self.change.roll_back(self.key(who), who, "why", version), allowed=allowed)
        if allowed:
            expected.states |= {champion: "RETIRED", before: "CHAMPION"}

    @rule(
        version=st.sampled_from(VERSIONS),
        to=st.sampled_from(["DRAFT", "VALIDATED", "RETIRED"]),
        who=st.sampled_from(PEOPLE),
    )
    def demote(self, version: str, to: str, who: Person) -> None:
        state = self.expected.states.get(version, "")
        allowed = (state, to) in ONE_PERSON
        self.does(
            self.change.demote(self.key(who), who, "why", version, State(to)), allowed=allowed
        )
        if allowed:
            self.expected.states[version] = to

    @rule(version=st.sampled_from(("", *VERSIONS)), who=st.sampled_from(PEOPLE))
    def stop(self, version: str, who: Person) -> None:
        allowed = version in ("", *self.expected.states)
        event = self.does(self.change.stop(self.key(who), who, "why", version), allowed=allowed)
        if event is not None:
            self.expected.stops[version] = next(self.numbers)

    @rule(minutes=st.integers(1, 90))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(timedelta(minutes=minutes))

    @invariant()
    def both_agree(self) -> None:
        registry = asyncio.run(self.tell.standing())
        expected = self.expected
        assert {name: entry.state.value for name, entry in registry.models.items()} == (
            expected.states
        )
        assert registry.champion == expected.champion
        assert set(registry.stops) == set(expected.stops)
        assert list(expected.states.values()).count("CHAMPION") <= 1
        for name, entry in registry.models.items():
            said = "VALIDATED" if name in expected.validated else "UNVALIDATED"
            assert entry.said_class == said
        now = self.clock.now()
        waiting = [p for p in expected.papers if p.open and now < p.until]
        assert len(asyncio.run(self.tell.waiting())) == len(waiting)

    @invariant()
    def it_is_the_same_read_in_pieces(self) -> None:
        events = self.work.events.events
        cut = len(events) // 2
        pieces = Registry().after(events[:cut]).after(events[cut:])
        assert pieces == Registry().after(events)


def test_the_registry_and_its_model_agree_whatever_is_done() -> None:
    run_state_machine_as_test(
        RegistryMachine, settings=settings(max_examples=60, stateful_step_count=40)
    )
