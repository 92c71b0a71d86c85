"""`incidents.app.Incidents` and `watch.app.Watched`, in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from services.datashare.access.domain import Access
from services.datashare.incidents.domain import Incident, State
from services.datashare.log.domain import Leaf
from services.datashare.watch.domain import Key, Seen


@dataclass
class IncidentMemory:
    """The tables."""

    incidents: dict[str, Incident] = field(default_factory=dict)
    raised: dict[Key, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    counts: dict[Key, int] = field(default_factory=dict)
    seen: dict[tuple[Key, str], None] = field(default_factory=dict)

    def __copy__(self) -> "IncidentMemory":
        return IncidentMemory(*(dict(getattr(self, table.name)) for table in fields(self)))


class FakeIncidents:
    """The register in one transaction."""

    def __init__(self, memory: IncidentMemory) -> None:
        self._rows = memory.incidents

    async def add(self, incident: Incident) -> None:
        assert incident.incident_id not in self._rows
        self._rows[incident.incident_id] = incident

    async def get(self, incident_id: str) -> Incident | None:
        return self._rows.get(incident_id)

    async def hold(self, incident_id: str) -> Incident | None:
        return self._rows.get(incident_id)

    async def hold_open(self, rule: str, participant_id: str) -> Incident | None:
        found = [
            each
            for _, each in sorted(self._rows.items())
            if (each.rule, each.participant_id) == (rule, participant_id)
            and each.state is not State.CLOSED
        ]
        return found[-1] if found else None

    async def update(self, changed: Incident) -> None:
        before = self._rows[changed.incident_id]
        self._rows[changed.incident_id] = replace(changed, handling=before.handling)

    async def add_step(self, changed: Incident, leaf: Leaf) -> None:
        self._rows[changed.incident_id] = changed

    async def page(
        self,
        *,
        state: State | None,
        participant_id: str,
        shared_with: str | None,
        before: str,
        limit: int,
    ) -> Sequence[Incident]:
        return [
            each
            for incident_id, each in sorted(self._rows.items(), reverse=True)
            if state in (None, each.state)
            and participant_id in ("", each.participant_id)
            and (
                shared_with is None
                or (each.participant_id == shared_with and each.shared_at is not None)
            )
            and (not before or incident_id < before)
        ][:limit]


class FakeWatched:
    """Accesses, and what was counted of them, in one transaction.

    Args:
        memory: the tables.
        accesses: by id.
    """

    def __init__(self, memory: IncidentMemory, accesses: Mapping[str, tuple[Access, Leaf]]) -> None:
        self._memory = memory
        self._accesses = accesses

    async def alone(self) -> bool:
        return True

    async def place(self, name: str) -> str | None:
        return self._memory.places.get(name)

    async def move(self, name: str, place: str) -> None:
        self._memory.places[name] = place

    async def accesses(
        self, recipient_id: str, after: str, before: str, limit: int
    ) -> Sequence[Seen]:
        return [
            Seen(
                access.access_id,
                access.accessed_at,
                *(getattr(access, n) for n in Seen._fields[2:]),
            )
            for access_id, (access, _) in sorted(self._accesses.items())
            if access.recipient_id == recipient_id and after < access_id < before
        ][:limit]

    async def add(self, counts: Mapping[Key, int]) -> Mapping[Key, int]:
        for key, number in counts.items():
            self._memory.counts[key] = self._memory.counts.get(key, 0) + number
        return {key: self._memory.counts[key] for key in counts}

    async def run(self, key: Key) -> int:
        return self._memory.counts.get(key, 0)

    async def set_run(self, key: Key, length: int) -> None:
        self._memory.counts[key] = length

    async def meet(self, firms: Mapping[Key, Collection[str]]) -> Mapping[Key, int]:
        self._memory.seen |= {(key, what): None for key in firms for what in firms[key]}
        return {key: sum(each[0] == key for each in self._memory.seen) for key in firms}

    async def busy(self, key: Key, since: int) -> Mapping[int, int]:
        return {
            each.since: number
            for each, number in self._memory.counts.items()
            if each[:2] == key[:2] and since <= each.since < key.since
        }

    async def raised(self, keys: Collection[Key]) -> Mapping[Key, str]:
        return {key: self._memory.raised[key] for key in keys if key in self._memory.raised}

    async def note_raised(self, key: Key, incident_id: str) -> None:
        self._memory.raised.setdefault(key, incident_id)

    async def forget(self, rule: str, before: int) -> None:
        for key in list(self._memory.counts):
            if key.rule == rule and 0 != key.since < before:
                del self._memory.counts[key]
        for pair in list(self._memory.seen):
            if pair[0].rule == rule and pair[0].since < before:
                del self._memory.seen[pair]

    async def forget_raised(self, before: int) -> None:
        for key in [key for key in self._memory.raised if key.since < before]:
            del self._memory.raised[key]
