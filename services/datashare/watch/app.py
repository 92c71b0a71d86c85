"""Looking at accesses as they come, and entering what is abnormal as incidents.

Invariants:

- Each access is counted once: where the watch stands moves in the transaction that counts. One
  replica watches at a time.
- Work is bounded: a step reads at most `ACCESSES` of one participant, and each participant has its
  turn after `STEPS` of them. A window that was raised takes in no further firms.
- A window raises its rule once. While an incident of the same rule about the same participant is
  not closed, a further window repeats it.
- Accesses are looked at `SETTLED` after they were made, so that none commits behind the watch.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.datashare.incidents import app as incidents_app
from services.datashare.incidents.app import enter
from services.datashare.incidents.domain import MOST_ACCESSES, Incident, Severity, State
from services.datashare.log.domain import Sealer
from services.datashare.metering.app import REPORTS_KEPT
from services.datashare.metering.domain import Refused
from services.datashare.participants.domain import Role
from services.datashare.watch.domain import (
    Calendar,
    Finding,
    Key,
    Name,
    Notes,
    Rule,
    Seen,
    judge,
    long_runs,
    note,
    note_calls,
    runs,
    words,
)
from services.kit.clock import Clock
from services.kit.ids import Ids, encode
from services.kit.transactions import Transactions

ACCESSES: Final = 500
STEPS: Final = 20
SETTLED: Final = timedelta(seconds=15)
FIRST_LOOK: Final = timedelta(days=1)
"""How far back the watch looks at a participant that it has not looked at before."""
WINDOWS_KEPT: Final = timedelta(days=60)
TIDY_EVERY: Final = timedelta(hours=1)

_PEOPLE: Final = 100
_WATCHED: Final = frozenset({Role.BANK, Role.PROVIDER, Role.REGULATOR, Role.OPERATOR})
_REFUSALS: Final = "refusals"


class Incidents(incidents_app.Incidents, Protocol):
    """The register."""

    async def hold_open(self, rule: str, participant_id: str) -> Incident | None:
        """Return the latest of a rule about a participant that is not closed, unchangeable."""
        ...

    async def update(self, changed: Incident) -> None:
        """Store what was seen again of an incident; its steps are as they were."""
        ...


class Watched(Protocol):
    """Accesses, and what was counted of them."""

    async def alone(self) -> bool:
        """Tell whether nobody else watches until the end of this transaction."""
        ...

    async def place(self, name: str) -> str | None:
        """Return how far was looked under a name."""
        ...

    async def move(self, name: str, place: str) -> None:
        """Say how far was looked under a name."""
        ...

    async def accesses(
        self, recipient_id: str, after: str, before: str, limit: int
    ) -> Sequence[Seen]:
        """Return a recipient's accesses with ids between two, in their order."""
        ...

    async def add(self, counts: Mapping[Key, int]) -> Mapping[Key, int]:
        """Add to counts and return the sums."""
        ...

    async def run(self, key: Key) -> int:
        """Return how long a run is."""
        ...

    async def set_run(self, key: Key, length: int) -> None:
        """Say how long a run is."""
        ...

    async def meet(self, firms: Mapping[Key, Collection[str]]) -> Mapping[Key, int]:
        """Add firms to those that were met, and return how many different ones there are."""
        ...

    async def busy(self, key: Key, since: int) -> Mapping[int, int]:
        """Return the counts of a key's rule and participant by window, from one to the key's."""
        ...

    async def raised(self, keys: Collection[Key]) -> Mapping[Key, str]:
        """Return the incidents that windows raised or repeated, of those that did."""
        ...

    async def note_raised(self, key: Key, incident_id: str) -> None:
        """Say that a window raised or repeated an incident."""
        ...

    async def forget(self, rule: str, before: int) -> None:
        """Forget what was counted for a rule in windows that begin before one; runs stay."""
        ...

    async def forget_raised(self, before: int) -> None:
        """Forget which windows raised incidents, of those that begin before one."""
        ...


class Refusals(Protocol):
    """What gateways refused."""

    async def refused_after(self, position: int, limit: int) -> Sequence[tuple[int, Refused]]:
        """Return refusals behind a position, each with its own."""
        ...

    async def forget_refused(self, position: int) -> None:
        """Forget refusals up to a position."""
        ...

    async def forget_reports(self, before: datetime) -> None:
        """Forget which reports were taken before a time."""
        ...


class Work(incidents_app.Entering, Protocol):
    """What the watch needs in a transaction."""

    @property
    def incidents(self) -> Incidents:
        """The register."""
        ...

    @property
    def watch(self) -> Watched:
        """Accesses, and what was counted of them."""
        ...

    @property
    def metering(self) -> Refusals:
        """What gateways refused."""
        ...


class Watch:
    """Looks at accesses.

    Args:
        transactions: opens transactions.
        rules: by name.
        calendar: China's working days.
        clock: the time.
        ids: makes ids of incidents.
        sealer: makes leaves.
        report: is told of each new incident, by rule and severity.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        rules: Mapping[Name, Rule],
        calendar: Calendar,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        report: Callable[[str, Severity], None],
    ) -> None:
        self._transactions = transactions
        self._rules = rules
        self._calendar = calendar
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._report = report
        self._tidied: datetime | None = None

    async def __call__(self) -> None:
        """Look at everything that is new, or as much of it as is one turn."""
        after = ""
        while people := await self._people(after):
            for participant_id in people:
                for _ in range(STEPS):
                    if not await self._look(participant_id):
                        break
            after = people[-1]
        for _ in range(STEPS):
            if not await self._look_at_calls():
                break
        await self._tidy()

    async def _people(self, after: str) -> Sequence[str]:
        async with self._transactions.read() as work:
            found = await work.participants.page(_WATCHED, after, _PEOPLE)
        return [participant.participant_id for participant in found]

    async def _look(self, participant_id: str) -> bool:
        """Look at some of a participant's accesses; tell whether there may be more."""
        async with self._transactions.read() as work:
            if not await self._next(work, participant_id):
                return False
        new: list[Incident] = []
        async with self._transactions.begin() as work:
            if not await work.watch.alone():
                return False
            accesses = await self._next(work, participant_id)
            if not accesses:
                return False
            notes = note(accesses, self._rules, self._calendar)
            findings = await self._judged(work, notes)
            if rule := self._rules.get(Name.REFUSED_RUN):
                run = Key(rule.name, participant_id, 0)
                length, found = runs(await work.watch.run(run), accesses, rule)
                await work.watch.set_run(run, length)
                findings += found.values()
            await self._enter(work, findings, new)
            await work.watch.move(participant_id, accesses[-1].access_id)
        self._tell(new)
        return len(accesses) == ACCESSES

    async def _next(self, work: Work, participant_id: str) -> Sequence[Seen]:
        now = self._clock.now()
        after = await work.watch.place(participant_id) or _id_at(now - FIRST_LOOK)
        return await work.watch.accesses(participant_id, after, _id_at(now - SETTLED), ACCESSES)

    async def _look_at_calls(self) -> bool:
        """Look at some of what gateways refused; tell whether there may be more."""
        async with self._transactions.read() as work:
            if not await work.metering.refused_after(await _position(work), 1):
                return False
        new: list[Incident] = []
        async with self._transactions.begin() as work:
            if not await work.watch.alone():
                return False
            found = await work.metering.refused_after(await _position(work), ACCESSES)
            if not found:
                return False
            refusals = [refused for _, refused in found]
            findings = await self._judged(work, note_calls(refusals, self._rules))
            if rule := self._rules.get(Name.REFUSED_CALLS):
                findings += long_runs(refusals, rule)
            await self._enter(work, findings, new)
            await work.watch.move(_REFUSALS, str(found[-1][0]))
            await work.metering.forget_refused(found[-1][0])
        self._tell(new)
        return len(found) == ACCESSES

    async def _judged(self, work: Work, notes: Notes) -> list[Finding]:
        done = await work.watch.raised(notes.seen.keys())
        open_ = {key: firms for key, firms in notes.seen.items() if key not in done}
        sums = {**await work.watch.add(notes.counts), **await work.watch.meet(open_)}
        findings = []
        for key, number in sums.items():
            rule = self._rules[Name(key.rule)]
            busy: Mapping[int, int] = {}
            if rule.name is Name.VOLUME_PAST and number >= rule.least:
                since = key.since - int(timedelta(days=rule.days).total_seconds())
                # What came before today: today's own hours would hide a flood that lasts.
                busy = {
                    at: busiest
                    for at, busiest in (await work.watch.busy(key, since)).items()
                    if at < _midnight(key.since)
                }
            finding = judge(rule, key, number, busy)
            if finding:
                shown = tuple(notes.evidence.get(key, ()))
                findings.append(replace(finding, access_ids=shown))
        return findings

    async def _enter(self, work: Work, findings: Iterable[Finding], new: list[Incident]) -> None:
        ordered = sorted(findings, key=lambda finding: finding.key)
        raised = await work.watch.raised({finding.key for finding in ordered})
        for finding in ordered:
            key, rule = finding.key, self._rules[Name(finding.key.rule)]
            begin, end = rule.span(key.since)
            if key in raised:
                before = await work.incidents.hold(raised[key])
                if before is not None and before.state is not State.CLOSED:
                    await work.incidents.update(_more(before, finding, end))
                continue
            before = await work.incidents.hold_open(key.rule, key.participant_id)
            if before is not None:
                again = replace(_more(before, finding, end), repeats=before.repeats + 1)
                await work.incidents.update(again)
                await work.watch.note_raised(key, before.incident_id)
                continue
            zh, en = words(rule, finding)
            incident = Incident(
                incident_id=self._ids.new("inc"),
                rule=key.rule,
                severity=rule.severity,
                state=State.OPEN,
                participant_id=key.participant_id,
                opened_at=self._clock.now(),
                summary_zh=zh,
                summary_en=en,
                observed=finding.observed,
                threshold=finding.threshold,
                window_begin=begin,
                window_end=end,
                access_ids=finding.access_ids[:MOST_ACCESSES],
            )
            await enter(work, self._sealer, incident)
            await work.watch.note_raised(key, incident.incident_id)
            new.append(incident)

    def _tell(self, new: Iterable[Incident]) -> None:
        for incident in new:
            self._report(incident.rule, incident.severity)

    async def _tidy(self) -> None:
        """Forget what is needed no longer, now and then."""
        now = self._clock.now()
        if self._tidied is not None and now < self._tidied + TIDY_EVERY:
            return
        async with self._transactions.begin() as work:
            if not await work.watch.alone():
                return
            for rule in self._rules.values():
                await work.watch.forget(rule.name, int((now - rule.kept).timestamp()))
            await work.watch.forget_raised(int((now - WINDOWS_KEPT).timestamp()))
            await work.metering.forget_reports(now - REPORTS_KEPT)
        self._tidied = now


def _more(before: Incident, finding: Finding, end: datetime) -> Incident:
    """Return an incident with what was seen of it besides."""
    shown = dict.fromkeys((*before.access_ids, *finding.access_ids))
    return replace(
        before,
        observed=max(before.observed, finding.observed),
        window_end=max(before.window_end or end, end),
        access_ids=tuple(shown)[:MOST_ACCESSES],
    )


async def _position(work: Work) -> int:
    return int(await work.watch.place(_REFUSALS) or 0)


def _id_at(at: datetime) -> str:
    """Return the least id of an access of a time."""
    return f"acc_{encode(int(at.timestamp() * 1000), 0)}"


def _midnight(since: int) -> int:
    return (since + 28_800) // 86_400 * 86_400 - 28_800
