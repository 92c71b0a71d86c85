"""Looking at records off the path on which they come in.

Invariants:

- Every batch leaves its arrivals in its own transaction, and an arrival is taken away in the
  transaction that counts its records: each record is counted once, in whatever order batches commit
  and wherever a process dies. Nothing here is a place in time behind which something could appear.
- What is counted leaves its subjects due, in the same transaction; a subject is no longer due in
  the transaction that stores what was found about it.
- One replica looks at a time; should two, the second finds the arrivals taken and drops its work.
- Each step is small: it reads a snapshot, computes in a thread, and writes in a short transaction.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple, Protocol

from services.datashare.china import china_date, day_number
from services.datashare.metering.app import supplied_in
from services.datashare.metering.domain import Supplied
from services.datashare.quality.domain import (
    OF_ONE_SUBJECT,
    Contradiction,
    Edge,
    Finding,
    Reconciled,
    Rule,
    Rules,
    Shared,
    Summary,
    View,
    circles,
    judge,
    reconcile,
    shared_invoices,
)
from services.datashare.quality.tally import Tally
from services.kit.clock import Clock
from services.kit.ids import Ids
from services.kit.transactions import Transactions

RECORDS_A_STEP: Final = 500
ARRIVALS_A_STEP: Final = 200
SUBJECTS_A_STEP: Final = 50
TALLIES_IN_A_ROW: Final = 20
"""So many steps of counting before a step of looking at due subjects, while more keeps coming."""
OTHERS_GONE_AFTER: Final = timedelta(hours=1)
"""After a migration from a version without arrivals, its last replica has ended by then."""

CATCH_UP: Final = "catch_up"
"""Noted by the migration: when records were there before arrivals were."""

_RESTS: Final = 4
"""How much longer than it worked inspection rests while there is more to do."""


class Arrival(NamedTuple):
    """Records of one batch in one series.

    Args:
        subject_id: the series' subject.
        record_type: its type.
        provider_id: its provider.
        recorded_at: of the batch.
        records: how many.
    """

    subject_id: str
    record_type: str
    provider_id: str
    recorded_at: datetime
    records: int


class Arrived(NamedTuple):
    """A version of a record that came in.

    Args:
        subject_id: whose.
        record_type: its type.
        provider_id: its provider.
        recorded_at: when it came in.
        provider_record_id: the provider's own id.
        version: from 1.
        month: yyyymm in whose summary it counts.
        occurred_to: last day of the occurrence, since 1970-01-01.
        retracted: it takes the record back.
        hidden_on: the day from which no read shows it; None is never.
        imported: it was known long before it came in: of an import or a back-fill.
        payload: serialised; None where it cannot be read any more.
    """

    subject_id: str
    record_type: str
    provider_id: str
    recorded_at: datetime
    provider_record_id: str
    version: int
    month: int
    occurred_to: int
    retracted: bool
    hidden_on: int | None
    imported: bool
    payload: bytes | None


class Statement(NamedTuple):
    """A record that counts, of the types that rules read one by one.

    Args:
        subject_id: whose.
        record_type: its type.
        provider_id: its provider.
        occurred_from: first day of the occurrence, since 1970-01-01.
        occurred_to: last day of it.
        obtained_at: when the provider obtained it.
        hidden_on: the day from which no read shows it; None is never.
        payload: serialised.
    """

    subject_id: str
    record_type: str
    provider_id: str
    occurred_from: int
    occurred_to: int
    obtained_at: datetime
    hidden_on: int | None
    payload: bytes


class Due(NamedTuple):
    """A subject to look at.

    Args:
        subject_id: which.
        since: when something about it changed last.
    """

    subject_id: str
    since: datetime


class Quality(Protocol):
    """What is kept of quality, in one transaction."""

    async def alone(self) -> bool:
        """Tell whether nobody else inspects until the end of this transaction."""
        ...

    async def state(self) -> Mapping[str, str]:
        """Return what was noted."""
        ...

    async def note(self, name: str, value: str | None) -> None:
        """Note something under a name; None forgets it."""
        ...

    async def arrivals(self, after: Arrival | None, limit: int) -> Sequence[Arrival]:
        """Return arrivals behind one, in the order of their series."""
        ...

    async def records(self, arrivals: Sequence[Arrival]) -> Sequence[Arrived]:
        """Return the records of arrivals."""
        ...

    async def take(self, arrivals: Sequence[Arrival]) -> bool:
        """Take arrivals away; False when somebody else took one of them."""
        ...

    async def add(self, tally: Tally, at: datetime) -> None:
        """Add what was counted; its subjects and those with the same invoices are due."""
        ...

    async def enqueue_past(self, after: str, subjects: int) -> str:
        """Make arrivals of all records of some subjects, where there are none.

        Returns:
            The last of these subjects; "" when there was none.
        """
        ...

    async def enqueue_open(self, today: int, at: datetime) -> None:
        """Make the subjects due whose open findings were not looked at today."""
        ...

    async def enqueue_all(self, at: datetime) -> None:
        """Make every subject due."""
        ...

    async def due(self, limit: int) -> Sequence[Due]:
        """Return subjects to look at, those first that wait longest."""
        ...

    async def done(self, due: Sequence[Due]) -> None:
        """Say that subjects were looked at; those stay due that changed since."""
        ...

    async def summaries(
        self, subject_ids: Collection[str], record_types: Collection[str], today: int
    ) -> Mapping[str, Sequence[Summary]]:
        """Return the series of subjects, without what is hidden today."""
        ...

    async def statements(self, subject_ids: Collection[str], today: int) -> Sequence[Statement]:
        """Return the records that rules read one by one, in the order of their occurrence."""
        ...

    async def shared(self, subject_ids: Collection[str], today: int) -> Sequence[Shared]:
        """Return the invoices that any of the subjects has on the same side as another one."""
        ...

    async def edges(self, today: int) -> Sequence[Edge]:
        """Return the guarantees in force between subjects."""
        ...

    async def unnamed(self, limit: int) -> Sequence[str]:
        """Return subjects without a token, while a guarantee names somebody unknown."""
        ...

    async def name(self, tokens: Mapping[str, bytes | None]) -> None:
        """Store the tokens of subjects; None of one without a registration number."""
        ...

    async def opened(
        self, rules: Collection[Rule], subject_ids: Collection[str] | None
    ) -> Sequence[Finding]:
        """Return open findings of rules, of any of the subjects, or of all."""
        ...

    async def settle(
        self, reconciled: Reconciled, added: Sequence[Finding], today: int, at: datetime
    ) -> None:
        """Store what looking again changed.

        Args:
            reconciled: what changes about findings that are there.
            added: new ones.
            today: when this was looked at.
            at: when what no longer holds is cleared.
        """
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def usccs(self, subject_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the registration numbers of subjects, but for those that were erased."""
        ...


class Contributions(Protocol):
    """What providers contributed."""

    async def supplied(self, supplied: Sequence[Supplied]) -> None:
        """Add records that came in."""
        ...


class Work(Protocol):
    """What inspection needs in a transaction."""

    @property
    def metering(self) -> Contributions:
        """What providers contributed."""
        ...

    @property
    def quality(self) -> Quality:
        """What is kept of quality."""
        ...

    @property
    def subjects(self) -> Subjects:
        """The mapping of registration numbers."""
        ...


class Examiner(Protocol):
    """Reads payloads."""

    def tally(self, records: Sequence[Arrived]) -> Tally:
        """Return what records say."""
        ...

    def views(
        self,
        subject_ids: Collection[str],
        summaries: Mapping[str, Sequence[Summary]],
        statements: Sequence[Statement],
    ) -> Sequence[View]:
        """Return what rules look at, for each subject."""
        ...

    def token(self, uscc: str) -> bytes:
        """Return the token that a guarantee names a registration number by."""
        ...


class Inspect:
    """Looks at what came in.

    Args:
        transactions: opens transactions.
        examiner: reads payloads.
        rules: what is a finding.
        clock: the time.
        ids: makes ids of findings.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        examiner: Examiner,
        rules: Rules,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._transactions = transactions
        self._examiner = examiner
        self._rules = rules
        self._clock = clock
        self._ids = ids
        self._after: Arrival | None = None
        self._tallies = 0
        self._types = frozenset(
            {"vat_invoice", "social_insurance"}
            | {watched.record_type for watched in rules.jump.measures}
        )

    async def __call__(self) -> None:
        """Go on until nothing is left to do."""
        while await self.step():
            pass

    async def run(self, every: timedelta) -> None:
        """Go on for ever, at most a fifth of the time.

        Who pushes a back-fill waits for its acks, nobody for what is found in it: at half of the
        time inspection took a fifth of datashare's CPU while a million records came in.

        Args:
            every: how long to wait when nothing is left to do.
        """
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            busy = await self.step()
            worked = loop.time() - begun
            await asyncio.sleep(_RESTS * worked if busy else every.total_seconds())

    async def step(self) -> bool:
        """Do a small part; False when nothing is left to do, or somebody else does it."""
        now = self._clock.now()
        today = china_date(now)
        async with self._transactions.read() as work:
            if not await work.quality.alone():
                return False
            state = await work.quality.state()
            if int(state.get("rules", "0")) > self._rules.version:
                return False  # a replica of a newer version is there, which judges by its own rules
            if CATCH_UP in state:
                return await self._catch_up(state, now)
            if await self._begin_day(state, today, now):
                return True
            if self._tallies < TALLIES_IN_A_ROW and await self._tally(work, now):
                self._tallies += 1
                return True
            self._tallies = 0
            return (
                await self._judge(work, today, now)
                or await self._find_circles(work, state, today, now)
                or await self._tally(work, now)
            )

    async def _catch_up(self, state: Mapping[str, str], now: datetime) -> bool:
        """Make arrivals of the records that were there before arrivals were.

        Nothing is taken meanwhile: a record whose batch left its arrival has it, and counts once.
        """
        if now < datetime.fromisoformat(state[CATCH_UP]) + OTHERS_GONE_AFTER:
            return False
        async with self._transactions.begin() as work:
            after = await work.quality.enqueue_past(state.get("caught_up_to", ""), SUBJECTS_A_STEP)
            await work.quality.note("caught_up_to", after or None)
            if not after:
                await work.quality.note(CATCH_UP, None)
        return True

    async def _begin_day(self, state: Mapping[str, str], today: date, now: datetime) -> bool:
        """Have open findings looked at once a day, and everything when rules changed."""
        version = str(self._rules.version)
        if state.get("day") == today.isoformat() and state.get("rules") == version:
            return False
        async with self._transactions.begin() as work:
            if state.get("rules", version) != version:
                await work.quality.enqueue_all(now)
            await work.quality.enqueue_open(day_number(today), now)
            await work.quality.note("rules", version)
            await work.quality.note("day", today.isoformat())
            await work.quality.note("circles", None)
        return True

    async def _tally(self, work: Work, now: datetime) -> bool:
        found = await work.quality.arrivals(self._after, ARRIVALS_A_STEP)
        taken = _first(found, RECORDS_A_STEP)
        if not taken:
            # From the front again, as what lies behind may have filled up meanwhile.
            again, self._after = self._after is not None, None
            return again and await self._tally(work, now)
        records = await work.quality.records(taken)
        tally = await asyncio.to_thread(self._examiner.tally, records)
        try:
            async with self._transactions.begin() as write:
                if not await write.quality.take(taken):
                    raise _TakenError
                await write.quality.add(tally, now)
                await write.metering.supplied(supplied_in(taken))
                if tally.guarantees:
                    await write.quality.note("circles", None)
        except _TakenError:
            self._after = None
        else:
            self._after = taken[-1]
        return True

    async def _judge(self, work: Work, today: date, now: datetime) -> bool:
        due = await work.quality.due(SUBJECTS_A_STEP)
        if not due:
            return False
        ids = [item.subject_id for item in due]
        day = day_number(today)
        summaries = await work.quality.summaries(ids, self._types, day)
        statements = await work.quality.statements(ids, day)
        shared = await work.quality.shared(ids, day)
        opened = await work.quality.opened(OF_ONE_SUBJECT | {Rule.INVOICE_UNDER_TWO_FIRMS}, ids)

        def held() -> list[Contradiction]:
            views = self._examiner.views(ids, summaries, statements)
            this_month = today.year * 100 + today.month
            return [
                *(found for view in views for found in judge(view, self._rules, this_month)),
                *shared_invoices(shared, self._rules.invoice_under_two_firms),
            ]

        reconciled = reconcile(opened, await asyncio.to_thread(held))
        async with self._transactions.begin() as write:
            await self._settle(write, reconciled, today, now)
            await write.quality.done(due)
        return True

    async def _find_circles(
        self, work: Work, state: Mapping[str, str], today: date, now: datetime
    ) -> bool:
        if state.get("circles") == today.isoformat():
            return False
        if unnamed := await work.quality.unnamed(SUBJECTS_A_STEP):
            usccs = await work.subjects.usccs(unnamed)
            tokens = {
                subject_id: self._examiner.token(usccs[subject_id]) if subject_id in usccs else None
                for subject_id in unnamed
            }
            async with self._transactions.begin() as write:
                await write.quality.name(tokens)
            return True
        edges = await work.quality.edges(day_number(today))
        opened = await work.quality.opened({Rule.GUARANTEE_CIRCLE}, None)
        held = await asyncio.to_thread(circles, edges, self._rules.guarantee_circle)
        async with self._transactions.begin() as write:
            await self._settle(write, reconcile(opened, held), today, now)
            await write.quality.note("circles", today.isoformat())
        return True

    async def _settle(self, work: Work, reconciled: Reconciled, today: date, now: datetime) -> None:
        added = [Finding(self._ids.new("fnd"), found, now) for found in reconciled.added]
        await work.quality.settle(reconciled, added, day_number(today), now)


class _TakenError(Exception):
    """Somebody else took the arrivals; nothing of the step is stored."""


def _first(arrivals: Sequence[Arrival], records: int) -> list[Arrival]:
    """Return the first arrivals with about so many records, at least one."""
    taken: list[Arrival] = []
    for arrival in arrivals:
        records -= arrival.records
        if taken and records < 0:
            break
        taken.append(arrival)
    return taken
