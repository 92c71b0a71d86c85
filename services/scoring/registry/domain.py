"""The registry of models: what was done to it, and what stands because of that.

Invariants:

- All that the registry is follows from its events in their order; events stay as they are.
- A version goes no other way than those of `WAYS`. One version at most is champion.
- Who proposes does not approve: not under the same account, and not under another one either.
- A proposal holds for what it was made about: another champion, another state of its version or
  another stop closes it. Its time runs out by itself.
- A version that nobody validated serves only where models may be tried; no answer of it says that
  it is validated.
"""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import orjson

from services.kit.errors import (
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    invalid_field,
)
from services.scoring.models.domain import ModelClass

EVERYTHING: Final = ""
"""The version of what is about all scoring."""


class State(StrEnum):
    """How far a version has come: names of `ModelState` without the prefix."""

    DRAFT = "DRAFT"
    VALIDATED = "VALIDATED"
    SHADOW = "SHADOW"
    CHAMPION = "CHAMPION"
    RETIRED = "RETIRED"


class Act(StrEnum):
    """What was done: names of `ModelAct` without the prefix."""

    REGISTER = "REGISTER"
    PROPOSE = "PROPOSE"
    PROMOTE = "PROMOTE"
    DISPLACE = "DISPLACE"
    REJECT = "REJECT"
    WITHDRAW = "WITHDRAW"
    ROLL_BACK = "ROLL_BACK"
    RESTORE = "RESTORE"
    DEMOTE = "DEMOTE"
    STOP = "STOP"
    RESUME = "RESUME"


@dataclass(frozen=True, slots=True)
class Way:
    """How a version gets from one state to another.

    Args:
        act: what is done.
        source: the state before; None is none.
        target: the state after.
        people: how many it takes; 0 follows by itself from what is done to another version.
        needs: what else there has to be, in words.
        trial: only of a version that nobody validated, where models may be tried.
    """

    act: Act
    source: State | None
    target: State
    people: int
    needs: str = ""
    trial: bool = False


_STATEMENT: Final = "who validated it, and the document"
WAYS: Final = (
    Way(Act.REGISTER, None, State.DRAFT, 1, "a folder that loads"),
    Way(Act.PROMOTE, State.DRAFT, State.VALIDATED, 2, _STATEMENT),
    Way(Act.PROMOTE, State.RETIRED, State.VALIDATED, 2, _STATEMENT),
    Way(Act.PROMOTE, State.VALIDATED, State.SHADOW, 2),
    Way(Act.PROMOTE, State.VALIDATED, State.CHAMPION, 2),
    Way(Act.PROMOTE, State.SHADOW, State.CHAMPION, 2),
    Way(Act.PROMOTE, State.DRAFT, State.SHADOW, 2, trial=True),
    Way(Act.PROMOTE, State.DRAFT, State.CHAMPION, 2, trial=True),
    Way(Act.DISPLACE, State.CHAMPION, State.VALIDATED, 0, "another version becomes champion"),
    Way(Act.DISPLACE, State.CHAMPION, State.DRAFT, 0, "another version becomes champion", True),
    Way(Act.ROLL_BACK, State.CHAMPION, State.RETIRED, 1, "a predecessor that can serve"),
    Way(Act.RESTORE, State.VALIDATED, State.CHAMPION, 0, "its successor is rolled back"),
    Way(Act.RESTORE, State.SHADOW, State.CHAMPION, 0, "its successor is rolled back"),
    Way(Act.RESTORE, State.DRAFT, State.CHAMPION, 0, "its successor is rolled back", True),
    Way(Act.DEMOTE, State.SHADOW, State.VALIDATED, 1),
    Way(Act.DEMOTE, State.SHADOW, State.DRAFT, 1, trial=True),
    Way(Act.DEMOTE, State.DRAFT, State.RETIRED, 1),
    Way(Act.DEMOTE, State.VALIDATED, State.RETIRED, 1),
    Way(Act.DEMOTE, State.SHADOW, State.RETIRED, 1),
)
ANSWERING: Final = frozenset({State.VALIDATED, State.SHADOW, State.CHAMPION})
"""States in which a version answers who names it."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who does something.

    Args:
        participant_id: the account.
        officer: the person, as the operator knows them.
        person_id: the person, where the account's credentials tell; else empty.
    """

    participant_id: str
    officer: str
    person_id: str = ""

    def is_also(self, other: "Person") -> bool:
        """Tell whether this may be the same person as another: by the ids where both are known."""
        if self.person_id and other.person_id:
            return self.person_id == other.person_id
        same_name = letters(self.officer) == letters(other.officer)
        return self.participant_id == other.participant_id or same_name


def letters(name: str) -> str:
    """Return what of a name tells people apart: no width, case, blanks, marks or what is unseen."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(sign for sign in folded if unicodedata.category(sign)[0] in "LN")


@dataclass(frozen=True, slots=True)
class Validation:
    """A statement that a model was validated.

    Args:
        validator: who did.
        document: where that can be read.
    """

    validator: str
    document: str


@dataclass(frozen=True, slots=True)
class Folder:
    """What of a model's folder is held fast.

    Args:
        manifest_sha256: of manifest.json, which has the hashes of the other files.
        signer: thumbprint of the key that signed it.
        model_class: as the manifest states it.
        parent: the version that it was made from, or empty.
    """

    manifest_sha256: str
    signer: str
    model_class: ModelClass
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done.

    Args:
        event_id: opaque.
        at: when.
        act: what.
        version: of which model; `EVERYTHING` of a stop of all scoring.
        by: who.
        reason: why.
        source: its state before; of a proposal, when it was made.
        target: its state after, or the one that is proposed; None where it has none.
        proposal_id: the proposal that is made, approved or declined.
        expires_at: until when a proposal can be approved.
        validation: the statement of who becomes validated.
        other: the champion that it takes the place of, or that takes its place; of the proposal to
            end a stop, that stop's event.
        folder: of who is registered.
    """

    event_id: str
    at: datetime
    act: Act
    version: str
    by: Person
    reason: str = ""
    source: State | None = None
    target: State | None = None
    proposal_id: str = ""
    expires_at: datetime | None = None
    validation: Validation | None = None
    other: str = ""
    folder: Folder | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A version.

    Args:
        version: its name.
        state: how far it has come.
        folder: what of its folder is held fast.
        registered_at: when.
        validation: the last statement that it was validated; None: nobody did.
        predecessor: the champion before it, or empty.
    """

    version: str
    state: State
    folder: Folder
    registered_at: datetime
    validation: Validation | None = None
    predecessor: str = ""

    @property
    def said_class(self) -> ModelClass:
        """How much its PD may be believed: what is simulated or judgement stays so."""
        stated = self.folder.model_class
        if stated is ModelClass.UNVALIDATED and self.validation:
            return ModelClass.VALIDATED
        return stated

    @property
    def resting(self) -> State:
        """The state that it has when it is neither champion nor shadow any more."""
        return State.VALIDATED if self.validation else State.DRAFT


@dataclass(frozen=True, slots=True)
class Proposal:
    """What somebody proposed.

    Args:
        proposal_id: opaque.
        version: about which model; `EVERYTHING` is all scoring.
        source: its state then; None of the proposal to end a stop.
        target: the state that it should have; None: a stop should end.
        by: who.
        reason: why.
        validation: the statement of who should become validated.
        about: the champion then, or the event of the stop.
        proposed_at: when.
        expires_at: it can be approved before.
        closed: it was approved or declined.
    """

    proposal_id: str
    version: str
    source: State | None
    target: State | None
    by: Person
    reason: str
    validation: Validation | None
    about: str
    proposed_at: datetime
    expires_at: datetime
    closed: bool = False

    def waits(self, now: datetime) -> bool:
        """Tell whether it can still be decided."""
        return not self.closed and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Stop:
    """That scores are referrals.

    Args:
        event_id: that began it.
        version: of which model; `EVERYTHING` is all scoring.
        since: when it began.
        reason: why.
    """

    event_id: str
    version: str
    since: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Registry:
    """What stands.

    Args:
        models: by version.
        proposals: by id, in the order in which they were made.
        stops: by version.
    """

    models: Mapping[str, Entry] = field(default_factory=dict)
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    stops: Mapping[str, Stop] = field(default_factory=dict)

    @property
    def champion(self) -> str:
        """The version that answers when none is named; empty when there is none."""
        found = (each.version for each in self.models.values() if each.state is State.CHAMPION)
        return next(found, "")

    def predecessor(self, *, trials: bool) -> str:
        """Return what a rollback puts in the champion's place; empty when nothing can be.

        Args:
            trials: models may be tried.
        """
        champion = self.models.get(self.champion)
        before = self.models.get(champion.predecessor) if champion else None
        if before is None or not _is_way(Act.RESTORE, before, State.CHAMPION, trials=trials):
            return ""
        return before.version

    def stop_of(self, version: str) -> Stop | None:
        """Return what makes a version's scores referrals, the stop of all scoring first."""
        return self.stops.get(EVERYTHING) or self.stops.get(version)

    def get(self, version: str) -> Entry:
        """Return a version.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        found = self.models.get(version)
        if found is None:
            raise NotFoundError(
                "MODEL_NOT_FOUND",
                "no model of this version is registered: register its folder first",
            )
        return found

    def after(self, events: Iterable[Event]) -> "Registry":
        """Return what stands after events, in their order."""
        models, proposals, stops = dict(self.models), dict(self.proposals), dict(self.stops)
        for event in events:
            if event.act is Act.PROPOSE:
                proposals[event.proposal_id] = _proposed(event)
                continue
            if event.proposal_id:
                known = proposals[event.proposal_id]
                proposals[event.proposal_id] = replace(known, closed=True)
            if event.act is Act.STOP:
                stops[event.version] = Stop(event.event_id, event.version, event.at, event.reason)
            elif event.act is Act.RESUME:
                del stops[event.version]
            elif event.folder and event.target:
                models[event.version] = Entry(event.version, event.target, event.folder, event.at)
            elif event.target:
                models[event.version] = _moved(models[event.version], event, event.target)
        return Registry(models, proposals, stops)


def _proposed(event: Event) -> Proposal:
    return Proposal(
        proposal_id=event.proposal_id,
        version=event.version,
        source=event.source,
        target=event.target,
        by=event.by,
        reason=event.reason,
        validation=event.validation,
        about=event.other,
        proposed_at=event.at,
        expires_at=event.expires_at or event.at,
    )


def _moved(entry: Entry, event: Event, target: State) -> Entry:
    if event.act is Act.PROMOTE and target is State.CHAMPION:
        return replace(entry, state=target, predecessor=event.other)
    return replace(entry, state=target, validation=event.validation or entry.validation)


@dataclass(frozen=True, slots=True)
class Doing:
    """The circumstances of something that is done.

    Args:
        at: when.
        by: who.
        reason: why.
        new_id: makes ids from prefixes.
    """

    at: datetime
    by: Person
    reason: str
    new_id: Callable[[str], str]

    def event(self, act: Act, version: str) -> Event:
        """Return the event of it, to be completed."""
        return Event(self.new_id("mev"), self.at, act, version, self.by, self.reason)


def register(registry: Registry, doing: Doing, version: str, folder: Folder) -> list[Event]:
    """Enter a version as a draft.

    Raises:
        FailedPreconditionError: MODEL_STATE, it is there already.
    """
    if version in registry.models:
        raise FailedPreconditionError(
            "MODEL_STATE",
            "this version is registered already, and a version never changes: take another name",
        )
    made = doing.event(Act.REGISTER, version)
    return [replace(made, target=State.DRAFT, folder=folder)]


def propose(
    registry: Registry,
    doing: Doing,
    version: str,
    target: State,
    validation: Validation | None,
    *,
    lasts: timedelta,
    trials: bool,
) -> list[Event]:
    """Propose another state of a version.

    Args:
        registry: what stands.
        doing: its circumstances.
        version: of which model.
        target: the state that it should have.
        validation: needed for VALIDATED, and only there.
        lasts: how long it can be approved.
        trials: models may be tried that nobody validated.

    Raises:
        NotFoundError: MODEL_NOT_FOUND.
        FailedPreconditionError: MODEL_STATE.
        InvalidArgumentError: FIELD_INVALID, of the statement.
        PermissionDeniedError: SECOND_PERSON_REQUIRED, who validated it proposes it.
    """
    entry = registry.get(version)
    if (target is State.VALIDATED) != (validation is not None):
        problem = (
            "is needed: say who validated it and in which document"
            if validation is None
            else "belongs to the proposal of VALIDATED alone: leave it out"
        )
        raise invalid_field("FIELD_INVALID", "validation", problem)
    if validation and not letters(validation.validator):
        raise invalid_field("FIELD_INVALID", "validation.validator", "names nobody")
    if validation and doing.by.is_also(Person("", validation.validator)):
        raise PermissionDeniedError(
            "SECOND_PERSON_REQUIRED", "who validated a model does not propose it: let another"
        )
    if not _is_way(Act.PROMOTE, entry, target, trials=trials):
        raise _no_way(entry, target)
    made = doing.event(Act.PROPOSE, version)
    return [
        replace(
            made,
            source=entry.state,
            target=target,
            proposal_id=doing.new_id("mpr"),
            expires_at=doing.at + lasts,
            validation=validation,
            other=registry.champion if target is State.CHAMPION else "",
        )
    ]


def propose_resumption(
    registry: Registry, doing: Doing, version: str, *, lasts: timedelta
) -> list[Event]:
    """Propose to end a stop.

    Raises:
        FailedPreconditionError: MODEL_STATE, it is not stopped.
    """
    stop = registry.stops.get(version)
    if stop is None:
        raise FailedPreconditionError(
            "MODEL_STATE", "that is not stopped: GetServing tells what is"
        )
    made = doing.event(Act.PROPOSE, version)
    return [
        replace(
            made,
            proposal_id=doing.new_id("mpr"),
            expires_at=doing.at + lasts,
            other=stop.event_id,
        )
    ]


def approve(registry: Registry, doing: Doing, proposal_id: str, *, trials: bool) -> list[Event]:
    """Do what was proposed.

    Raises:
        NotFoundError: NOT_FOUND.
        FailedPreconditionError: PROPOSAL_CLOSED.
        PermissionDeniedError: SECOND_PERSON_REQUIRED.
    """
    proposal = _waiting(registry, proposal_id, doing.at)
    if doing.by.is_also(proposal.by):
        raise PermissionDeniedError(
            "SECOND_PERSON_REQUIRED",
            "who proposed cannot approve: let another person do it, with an account of their own",
        )
    version, target = proposal.version, proposal.target
    if target is None:
        stop = registry.stops.get(version)
        if stop is None or stop.event_id != proposal.about:
            raise _closed("the stop that it is about has ended, or scoring was stopped anew")
        return [replace(doing.event(Act.RESUME, version), proposal_id=proposal_id)]
    entry = registry.get(version)
    same = entry.state is proposal.source and _is_way(Act.PROMOTE, entry, target, trials=trials)
    if not same:
        raise _closed("the version's state has changed since")
    made = replace(
        doing.event(Act.PROMOTE, version),
        source=entry.state,
        target=target,
        proposal_id=proposal_id,
        validation=proposal.validation,
        other=proposal.about,
    )
    if target is not State.CHAMPION:
        return [made]
    champion = registry.champion
    if champion != proposal.about:
        raise _closed("another version is champion now")
    if not champion:
        return [made]
    displaced = replace(
        doing.event(Act.DISPLACE, champion),
        source=State.CHAMPION,
        target=registry.get(champion).resting,
        proposal_id=proposal_id,
        other=version,
    )
    return [made, displaced]


def decline(registry: Registry, doing: Doing, proposal_id: str) -> list[Event]:
    """Reject a proposal, or withdraw one's own.

    Raises:
        NotFoundError: NOT_FOUND.
        FailedPreconditionError: PROPOSAL_CLOSED.
    """
    proposal = _waiting(registry, proposal_id, doing.at)
    own = doing.by.participant_id == proposal.by.participant_id
    made = doing.event(Act.WITHDRAW if own else Act.REJECT, proposal.version)
    return [replace(made, proposal_id=proposal_id)]


def roll_back(registry: Registry, doing: Doing, version: str, *, trials: bool) -> list[Event]:
    """Put the champion's predecessor back.

    Args:
        registry: what stands.
        doing: its circumstances.
        version: the champion that is to go; empty is whichever it is.
        trials: models may be tried that nobody validated.

    Raises:
        FailedPreconditionError: MODEL_STATE, there is no champion, it is another one, or nothing
            can serve in its place.
    """
    champion = registry.champion
    if not champion or version not in ("", champion):
        raise FailedPreconditionError(
            "MODEL_STATE", "that version is not champion: GetServing tells which one is"
        )
    before = registry.predecessor(trials=trials)
    if not before:
        raise FailedPreconditionError(
            "MODEL_STATE",
            "the champion has no predecessor that can serve: stop scoring, or promote another",
        )
    made = doing.event(Act.ROLL_BACK, champion)
    back = doing.event(Act.RESTORE, before)
    return [
        replace(made, source=State.CHAMPION, target=State.RETIRED, other=before),
        replace(back, source=registry.get(before).state, target=State.CHAMPION, other=champion),
    ]


def demote(registry: Registry, doing: Doing, version: str, target: State) -> list[Event]:
    """End a shadow, or retire a version that does not serve.

    Raises:
        NotFoundError: MODEL_NOT_FOUND.
        FailedPreconditionError: MODEL_STATE.
    """
    entry = registry.get(version)
    if target is not State.RETIRED and target is not entry.resting:
        raise _no_way(entry, target)
    if not _is_way(Act.DEMOTE, entry, target, trials=True):
        raise _no_way(entry, target)
    made = doing.event(Act.DEMOTE, version)
    return [replace(made, source=entry.state, target=target)]


def stop(registry: Registry, doing: Doing, version: str) -> list[Event]:
    """Stop scoring; a stop that stands begins anew, so that what was proposed about it is closed.

    Raises:
        NotFoundError: MODEL_NOT_FOUND.
    """
    if version != EVERYTHING:
        registry.get(version)
    return [doing.event(Act.STOP, version)]


def _is_way(act: Act, entry: Entry, target: State, *, trials: bool) -> bool:
    """Tell whether a version may go there.

    A version that nobody validated goes nowhere that it would serve, but for trials.
    """
    serves = target in (State.SHADOW, State.CHAMPION)
    if serves and entry.validation is None and not trials:
        return False
    return any(
        way.act is act and way.source is entry.state and way.target is target
        for way in WAYS
        if trials or not way.trial
    )


def _waiting(registry: Registry, proposal_id: str, now: datetime) -> Proposal:
    proposal = registry.proposals.get(proposal_id)
    if proposal is None:
        raise NotFoundError("NOT_FOUND", "there is no such proposal")
    if proposal.closed:
        raise _closed("it was decided")
    if not proposal.waits(now):
        raise _closed("its time is over")
    return proposal


def _closed(why: str) -> FailedPreconditionError:
    return FailedPreconditionError("PROPOSAL_CLOSED", f"{why}: propose again")


def _no_way(entry: Entry, target: State) -> FailedPreconditionError:
    return FailedPreconditionError(
        "MODEL_STATE",
        f"a model that is {_said(entry.state)} does not become {_said(target)} like this: "
        "docs/model-risk.md has the ways",
    )


def _said(state: State) -> str:
    return state.lower()


def content_of(event: Event) -> str:
    """Return the canonical JSON (RFC 8785) of an event: its keys are ASCII, its values strings.

    What is empty or None is left out.
    """
    said: dict[str, str | None] = {
        "event_id": event.event_id,
        "at": _rfc3339(event.at),
        "act": event.act,
        "version": event.version,
        "participant_id": event.by.participant_id,
        "officer": event.by.officer,
        "person_id": event.by.person_id,
        "reason": event.reason,
        "from": event.source,
        "to": event.target,
        "proposal_id": event.proposal_id,
        "expires_at": _rfc3339(event.expires_at) if event.expires_at else None,
        "other": event.other,
    }
    if event.validation:
        said |= {
            "validator": event.validation.validator,
            "document": event.validation.document,
        }
    if event.folder:
        said |= {
            "manifest_sha256": event.folder.manifest_sha256,
            "signer": event.folder.signer,
            "model_class": event.folder.model_class,
            "parent": event.folder.parent,
        }
    stated = {name: value for name, value in said.items() if value}
    return orjson.dumps(stated, option=orjson.OPT_SORT_KEYS).decode()


def event_of(content: str) -> Event:
    """Return the event of its canonical JSON."""
    said: dict[str, str] = orjson.loads(content)
    return Event(
        event_id=said["event_id"],
        at=datetime.fromisoformat(said["at"]),
        act=Act(said["act"]),
        version=said.get("version", EVERYTHING),
        by=Person(said["participant_id"], said["officer"], said.get("person_id", "")),
        reason=said.get("reason", ""),
        source=State(said["from"]) if "from" in said else None,
        target=State(said["to"]) if "to" in said else None,
        proposal_id=said.get("proposal_id", ""),
        expires_at=datetime.fromisoformat(said["expires_at"]) if "expires_at" in said else None,
        validation=Validation(said["validator"], said["document"]) if "validator" in said else None,
        other=said.get("other", ""),
        folder=Folder(
            said["manifest_sha256"],
            said.get("signer", ""),
            ModelClass(said["model_class"]),
            said.get("parent", ""),
        )
        if "manifest_sha256" in said
        else None,
    )


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
