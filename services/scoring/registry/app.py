"""Changing the registry, reading it, and bringing its events to datashare's log.

Invariants:

- Whoever changes the registry does it alone, on all that was done before.
- A request_id of a participant does one thing once; sent again it gets the event of the first time.
- An event without its leaf is sent to the log until it has one: datashare adds it once, however
  often it is sent.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from services.kit.clock import Clock
from services.kit.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    UnavailableError,
    invalid_field,
)
from services.kit.ids import Ids
from services.kit.transactions import Snapshots, Transactions
from services.scoring.registry import domain
from services.scoring.registry.domain import (
    Doing,
    Event,
    Folder,
    Person,
    Proposal,
    Registry,
    State,
    Validation,
)

LEAVES: Final = 100
"""Events that are sent to the log at a time."""
SEND_EVERY: Final = timedelta(seconds=1)
"""How long is waited before it is looked anew for what the log has not got."""


@dataclass(frozen=True, slots=True)
class Key:
    """One write as its caller named it.

    Args:
        participant_id: the caller.
        request_id: unique for this caller.
        fingerprint: SHA-256 of the method and the body.
    """

    participant_id: str
    request_id: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where an event stands in datashare's log.

    Args:
        leaf_id: of the leaf.
        salt: 16 bytes.
        hash: SHA-256 of 0x00, the salt and the event's canonical JSON.
    """

    leaf_id: str
    salt: bytes
    hash: bytes


class Placed(NamedTuple):
    """An event in its place, ascending in the order of commit."""

    position: int
    event: Event


class Told(NamedTuple):
    """An event in its place, with its leaf where the log has it."""

    position: int
    event: Event
    leaf: Leaf | None


class Events(Protocol):
    """The registry's events, in one transaction."""

    async def lock(self) -> None:
        """Let nobody else change the registry until the end."""
        ...

    async def after(self, position: int) -> Sequence[Placed]:
        """Return the events behind a position, in their order."""
        ...

    async def by_request(self, key: Key) -> tuple[Event, bytes] | None:
        """Return the event that a request made, and its fingerprint."""
        ...

    async def append(self, events: Sequence[Event], key: Key) -> None:
        """Add events, the first of which is what the request asked for."""
        ...

    async def page(self, version: str, before: int | None, limit: int) -> Sequence[Told]:
        """Return events, newest first, behind a position; all, or those of a version."""
        ...

    async def unlogged(self, limit: int) -> Sequence[Event]:
        """Return the oldest events that have no leaf."""
        ...

    async def count_unlogged(self) -> int:
        """Return how many events have no leaf."""
        ...

    async def add_leaves(self, leaves: Mapping[str, Leaf]) -> None:
        """Keep leaves by the ids of their events; those that are kept already are left out."""
        ...


class Folders(Protocol):
    """Scoring's models_dir."""

    async def inspect(self, version: str) -> Folder:
        """Load a folder and return what of it is held fast.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, there is none.
            FailedPreconditionError: MODEL_FOLDER_REFUSED, it must not serve.
        """
        ...


class Log(Protocol):
    """Datashare's log."""

    async def append(self, events: Sequence[Event]) -> Sequence[Leaf]:
        """Add leaves for events, in their order; those that it has are returned as they are.

        Raises:
            PuhuiError: it cannot be had now, or it has another content of one of these.
        """
        ...


class ChangeRegistry:
    """The ways to change the registry.

    Args:
        transactions: opens transactions.
        folders: scoring's models_dir.
        changed: is awaited after a change, so that this replica acts by it at once.
        clock: the time.
        ids: makes ids.
        lasts: how long a proposal can be approved.
        trials: models may be tried that nobody validated.
    """

    def __init__(
        self,
        transactions: Transactions[Events],
        folders: Folders,
        changed: Callable[[], Awaitable[None]],
        clock: Clock,
        ids: Ids,
        *,
        lasts: timedelta,
        trials: bool,
    ) -> None:
        self._transactions = transactions
        self._folders = folders
        self._changed = changed
        self._clock = clock
        self._ids = ids
        self._lasts = lasts
        self._trials = trials

    async def register(self, key: Key, by: Person, reason: str, version: str, parent: str) -> Event:
        """Enter a folder of models_dir as a draft.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
            FailedPreconditionError: MODEL_FOLDER_REFUSED, MODEL_STATE.
        """
        found = await self._folders.inspect(version)
        folder = Folder(
            found.manifest_sha256, found.signer, found.model_class, found.parent or parent
        )
        return await self._write(
            key,
            by,
            reason,
            lambda registry, doing: domain.register(registry, doing, version, folder),
        )

    async def propose(
        self,
        key: Key,
        by: Person,
        reason: str,
        version: str,
        target: State,
        validation: Validation | None,
    ) -> Event:
        """Propose another state of a version; see `domain.propose`."""
        return await self._write(
            key,
            by,
            reason,
            lambda registry, doing: domain.propose(
                registry,
                doing,
                version,
                target,
                validation,
                lasts=self._lasts,
                trials=self._trials,
            ),
        )

    async def propose_resumption(self, key: Key, by: Person, reason: str, version: str) -> Event:
        """Propose to end a stop; see `domain.propose_resumption`."""
        return await self._write(
            key,
            by,
            reason,
            lambda registry, doing: domain.propose_resumption(
                registry, doing, version, lasts=self._lasts
            ),
        )

    async def approve(self, key: Key, by: Person, reason: str, proposal_id: str) -> Event:
        """Do what was proposed, with a folder that still is what was registered.

        Raises:
            FailedPreconditionError: MODEL_FOLDER_REFUSED, and as `domain.approve`.
        """
        async with self._transactions.read() as events:
            registry = await _standing(events)
        proposal = registry.proposals.get(proposal_id)
        if proposal and proposal.target is not None and proposal.waits(self._clock.now()):
            await self._folders.inspect(proposal.version)
        return await self._write(
            key,
            by,
            reason,
            lambda registry, doing: domain.approve(
                registry, doing, proposal_id, trials=self._trials
            ),
        )

    async def decline(self, key: Key, by: Person, reason: str, proposal_id: str) -> Event:
        """Reject a proposal, or withdraw one's own; see `domain.decline`."""
        return await self._write(
            key, by, reason, lambda registry, doing: domain.decline(registry, doing, proposal_id)
        )

    async def roll_back(self, key: Key, by: Person, reason: str, version: str) -> Event:
        """Put the champion's predecessor back; see `domain.roll_back`."""
        return await self._write(
            key,
            by,
            reason,
            lambda registry, doing: domain.roll_back(registry, doing, version, trials=self._trials),
        )

    async def demote(self, key: Key, by: Person, reason: str, version: str, to: State) -> Event:
        """End a shadow, or retire a version; see `domain.demote`."""
        return await self._write(
            key, by, reason, lambda registry, doing: domain.demote(registry, doing, version, to)
        )

    async def stop(self, key: Key, by: Person, reason: str, version: str) -> Event:
        """Make scores referrals; see `domain.stop`."""
        return await self._write(
            key, by, reason, lambda registry, doing: domain.stop(registry, doing, version)
        )

    async def _write(
        self,
        key: Key,
        by: Person,
        reason: str,
        decide: Callable[[Registry, Doing], Sequence[Event]],
    ) -> Event:
        if not domain.letters(by.officer):
            raise invalid_field("FIELD_INVALID", "officer", "names nobody: say who asks")
        async with self._transactions.begin() as events:
            await events.lock()
            standing = await events.by_request(key)
            if standing is not None:
                made, fingerprint = standing
                if fingerprint != key.fingerprint:
                    raise AlreadyExistsError(
                        "REQUEST_ID_REUSED",
                        "this request_id was used for another call: use a new one for each new "
                        "call",
                    )
                return made
            doing = Doing(self._clock.now(), by, reason, self._ids.new)
            done = decide(await _standing(events), doing)
            await events.append(done, key)
        await self._changed()
        return done[0]


class TellRegistry:
    """The ways to read the registry.

    Args:
        transactions: opens snapshots.
        clock: the time.
    """

    def __init__(self, transactions: Snapshots[Events], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def after(self, position: int) -> Sequence[Placed]:
        """Return the events behind a position, in their order."""
        async with self._transactions.read() as events:
            return await events.after(position)

    async def standing(self) -> Registry:
        """Return what stands."""
        async with self._transactions.read() as events:
            return await _standing(events)

    async def waiting(self) -> Sequence[Proposal]:
        """Return the proposals that wait for a second person, oldest first."""
        now: datetime = self._clock.now()
        registry = await self.standing()
        return [each for each in registry.proposals.values() if each.waits(now)]

    async def page(self, version: str, before: int | None, limit: int) -> Sequence[Told]:
        """Return events, newest first, behind a position; all, or those of a version."""
        async with self._transactions.read() as events:
            return await events.page(version, before, limit)


class SendLeaves:
    """Brings events to datashare's log.

    Args:
        transactions: opens transactions.
        log: datashare's.
        waiting: is told how many events are without their leaf.
    """

    def __init__(
        self, transactions: Transactions[Events], log: Log, waiting: Callable[[int], None]
    ) -> None:
        self._transactions = transactions
        self._log = log
        self._waiting = waiting

    async def __call__(self) -> None:
        """Send what waits; while datashare cannot be reached, it goes on waiting."""
        while True:
            async with self._transactions.read() as events:
                unlogged = await events.unlogged(LEAVES)
                self._waiting(await events.count_unlogged() if unlogged else 0)
            if not unlogged:
                return
            try:
                leaves = await self._log.append(unlogged)
            except (UnavailableError, DeadlineExceededError):
                return
            made = {event.event_id: leaf for event, leaf in zip(unlogged, leaves, strict=True)}
            async with self._transactions.begin() as events:
                await events.add_leaves(made)


async def _standing(events: Events) -> Registry:
    return Registry().after(placed.event for placed in await events.after(0))
