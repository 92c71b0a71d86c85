"""Fakes of the ports of the registry: events in memory, folders, a log that can be away."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.kit.errors import FailedPreconditionError, NotFoundError, UnavailableError
from services.scoring.models.domain import ModelClass
from services.scoring.registry.app import Key, Leaf, Placed, Told
from services.scoring.registry.domain import Event, Folder, content_of, event_of


class FakeEvents:
    """`app.Events` in memory; events are kept as their canonical JSON."""

    def __init__(self) -> None:
        self.contents: list[str] = []
        self.requests: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.leaves: dict[str, Leaf] = {}

    @property
    def events(self) -> list[Event]:
        return [event_of(content) for content in self.contents]

    async def lock(self) -> None:
        pass

    async def after(self, position: int) -> Sequence[Placed]:
        return [Placed(at, e) for at, e in enumerate(self.events, 1) if at > position]

    async def by_request(self, key: Key) -> tuple[Event, bytes] | None:
        found = self.requests.get((key.participant_id, key.request_id))
        return None if found is None else (self.events[found[0]], found[1])

    async def append(self, events: Sequence[Event], key: Key) -> None:
        at = len(self.contents)
        self.requests[key.participant_id, key.request_id] = at, key.fingerprint
        self.contents += [content_of(event) for event in events]

    async def page(self, version: str, before: int | None, limit: int) -> Sequence[Told]:
        found = [
            Told(at, event, self.leaves.get(event.event_id))
            for at, event in enumerate(self.events, 1)
            if version in ("", event.version) and (before is None or at < before)
        ]
        return found[::-1][:limit]

    async def unlogged(self, limit: int) -> Sequence[Event]:
        return [event for event in self.events if event.event_id not in self.leaves][:limit]

    async def count_unlogged(self) -> int:
        return len(await self.unlogged(len(self.contents)))

    async def add_leaves(self, leaves: Mapping[str, Leaf]) -> None:
        for event_id, leaf in leaves.items():
            self.leaves.setdefault(event_id, leaf)


class FakeRegistryWork:
    """Transactions that take effect at once."""

    def __init__(self) -> None:
        self.events = FakeEvents()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[FakeEvents]:
        yield self.events

    @asynccontextmanager
    async def read(self) -> AsyncIterator[FakeEvents]:
        yield self.events


@dataclass
class FakeFolders:
    """`app.Folders`: classes by version, and versions whose folders were changed."""

    classes: dict[str, ModelClass]
    changed: set[str] = field(default_factory=set)

    async def inspect(self, version: str) -> Folder:
        if version not in self.classes:
            raise NotFoundError("MODEL_NOT_FOUND", "no folder")
        if version in self.changed:
            raise FailedPreconditionError("MODEL_FOLDER_REFUSED", "it was changed")
        digest = hashlib.sha256(version.encode()).hexdigest()
        return Folder(digest, "a-key", self.classes[version])


@dataclass
class FakeLog:
    """`app.Log`: leaves by event, as they came; it may be away, and its answers may be lost."""

    away: bool = False
    loses_answers: int = 0
    leaves: dict[str, Leaf] = field(default_factory=dict)
    calls: int = 0

    async def append(self, events: Sequence[Event]) -> Sequence[Leaf]:
        self.calls += 1
        if self.away:
            raise UnavailableError("UNAVAILABLE", "it is away")
        for event in events:
            salt = f"{len(self.leaves):016}".encode()
            digest = hashlib.sha256(b"\x00" + salt + content_of(event).encode()).digest()
            self.leaves.setdefault(event.event_id, Leaf(f"leaf_{len(self.leaves)}", salt, digest))
        if self.loses_answers:
            self.loses_answers -= 1
            raise UnavailableError("UNAVAILABLE", "the answer was lost")
        return [self.leaves[event.event_id] for event in events]
