"""Deleting what is hidden, erasing subjects, folding summaries anew.

Invariants:

- A run deletes in transactions of a few series each, which it holds; whatever moment it is killed
  at, the same run goes on where it was, and reads were right all the time.
- What a run deleted is added to its row in the transaction that deletes it, so its leaf tells
  exactly what went.
- A record that only time hides is told to others when it is deleted (RECORD_ERASED); a repair was
  told when it came (RECORD_REPAIRED).
"""

import functools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from services.datashare.changes.domain import Change, ChangeKind, Changes
from services.datashare.china import china_day
from services.datashare.idempotency.domain import RequestKey, require_same
from services.datashare.log.domain import LeafKind, Leaves, Sealer
from services.datashare.notices.writing import Notices, Recipients, tell_of_records
from services.datashare.records.domain import RecordKey
from services.datashare.retention.domain import (
    Due,
    DueSeries,
    PlanHash,
    Reason,
    Run,
    old_notices,
    total,
)
from services.datashare.summaries.app import Facts, Series, refold
from services.datashare.summaries.domain import Layout, SeriesKey, SeriesState
from services.kit.clock import Clock
from services.kit.errors import FailedPreconditionError, NotFoundError
from services.kit.ids import Ids
from services.kit.transactions import Retry, Transactions

SERIES_AT_ONCE: Final = 50
"""Series that one transaction of a run holds."""
PLANNED_AT_ONCE: Final = 500
NOTICES_AT_ONCE: Final = 20_000
REQUESTS_KEPT: Final = timedelta(days=3 * 365)
"""How long a request_id is remembered: as other records of processing (个人信息保护法 56)."""


class Records(Facts, Protocol):
    """Raw records."""

    async def days(self, keys: Collection[SeriesKey]) -> Mapping[RecordKey, int | None]:
        """Return the day on which each record is to be hidden by today's policy.

        Only records that have another one, of series of one provider.
        """
        ...

    async def hide(self, provider_id: str, days: Mapping[RecordKey, int | None]) -> None:
        """Give all stored versions of records another day from which on they are hidden."""
        ...


class Hidden(Protocol):
    """What is hidden and not deleted yet."""

    async def series(self, after: SeriesKey | None, day: int, limit: int) -> Sequence[SeriesKey]:
        """Return the next series that may have something hidden on a day, in their order."""
        ...

    async def due(self, keys: Collection[SeriesKey], day: int) -> Mapping[SeriesKey, DueSeries]:
        """Return what is hidden of each series on a day; a series without is absent."""
        ...

    async def delete(self, keys: Collection[SeriesKey], day: int) -> None:
        """Delete it, remembering by month that it is withheld."""
        ...


class OldNotices(Protocol):
    """Notices that are kept no longer."""

    async def due(self, day: int) -> int:
        """Return how many there are on a day."""
        ...

    async def delete(self, day: int, limit: int) -> int:
        """Delete some of them and return how many; 0 is that none is left."""
        ...


class AllSeries(Series, Protocol):
    """Stored summaries."""

    async def hold(self, keys: Collection[SeriesKey]) -> Mapping[SeriesKey, SeriesState]:
        """Return the state of those series that there are, which nobody else changes then."""
        ...

    async def after(self, last: SeriesKey | None, limit: int) -> Sequence[SeriesKey]:
        """Return the next series in their order."""
        ...

    async def count(self, marks: Mapping[str, str]) -> tuple[int, int]:
        """Return how many series there are, and how many have another mark than their type's."""
        ...

    async def of(self, subject_id: str) -> Sequence[SeriesKey]:
        """Return the series of a subject."""
        ...


class Runs(Protocol):
    """Runs and erasures."""

    async def by_request(self, key: RequestKey) -> Run | None:
        """Return the run that a request began; nobody else goes on with it."""
        ...

    async def unfinished(self) -> Sequence[Run]:
        """Return the runs that were begun and not finished; nobody else goes on with them."""
        ...

    async def add(self, run: Run) -> None:
        """Store a new one."""
        ...

    async def update(self, run: Run) -> None:
        """Store how far a locked one has come."""
        ...

    async def lock(self, run_id: str) -> Run:
        """Return one as it is now; nobody else goes on with it."""
        ...

    async def page(self, before: str, limit: int) -> Sequence[Run]:
        """Return finished ones, newest first.

        Args:
            before: only with an id less than this; "" is any.
            limit: most of them.
        """
        ...

    async def forget_requests(self, before: datetime) -> None:
        """Delete the responses to requests of before a time."""
        ...


class Erasing(Protocol):
    """Everything that is kept about a subject."""

    async def held(self, subject_id: str) -> Sequence[Due]:
        """Return what there is, by type and provider."""
        ...

    async def erased(self, subject_ids: Collection[str]) -> set[str]:
        """Return those of the ids that stood for a subject that was erased."""
        ...

    async def erase(self, subject_id: str) -> None:
        """Delete it, but for what attests what was done with it."""
        ...


class Quality(Protocol):
    """What inspection keeps of records."""

    async def forget(self, subject_id: str) -> None:
        """Delete what is kept about a subject, findings about it and others included."""
        ...

    async def forget_hidden(self, subject_ids: Collection[str], today: int, at: datetime) -> None:
        """Delete what is kept of hidden records of subjects; look at the rest again."""
        ...


class Metering(Protocol):
    """What providers contributed."""

    async def forget(self, subject_id: str) -> None:
        """Forget that anything was supplied about a subject; how much came in stays."""
        ...


class Reviews(Protocol):
    """Rows that wait, or waited, until somebody says whom they are about."""

    async def forget(self, subject_id: str) -> None:
        """Take a subject off those that the rows may be about."""
        ...


class Subjects(Protocol):
    """The mapping of registration numbers."""

    async def existing(self, subject_ids: Collection[str]) -> set[str]:
        """Return those of the ids that name a subject."""
        ...

    async def erase(self, subject_id: str, at: datetime) -> None:
        """Destroy a subject's data key and number."""
        ...


class Work(Protocol):
    """What retention needs in a transaction."""

    @property
    def records(self) -> Records:
        """Raw records."""
        ...

    @property
    def hidden(self) -> Hidden:
        """What is hidden and not deleted yet."""
        ...

    @property
    def old_notices(self) -> OldNotices:
        """Notices that are kept no longer."""
        ...

    @property
    def series(self) -> AllSeries:
        """Stored summaries."""
        ...

    @property
    def runs(self) -> Runs:
        """Runs and erasures."""
        ...

    @property
    def metering(self) -> Metering:
        """What providers contributed."""
        ...

    @property
    def quality(self) -> Quality:
        """What inspection keeps of records."""
        ...

    @property
    def reviews(self) -> Reviews:
        """Rows that wait until somebody says whom they are about."""
        ...

    @property
    def erasing(self) -> Erasing:
        """Everything that is kept about a subject."""
        ...

    @property
    def subjects(self) -> Subjects:
        """The mapping of registration numbers."""
        ...

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def recipients(self) -> Recipients:
        """Who was released which records."""
        ...

    @property
    def changes(self) -> Changes:
        """The outbox."""
        ...


@dataclass(frozen=True)
class Plan:
    """What a run would delete.

    Args:
        plan_id: names it.
        due: what it is.
        planned_at: when it was looked up.
    """

    plan_id: str
    due: tuple[Due, ...]
    planned_at: datetime


class Retention:
    """The job.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        layouts: what summaries hold, by record type.
        clock: the time.
        ids: makes run ids.
        sealer: makes leaves.
        clean: takes what was deleted out of the database's files.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        layouts: Mapping[str, Layout],
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        clean: Callable[[], Awaitable[None]],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._layouts = layouts
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._clean = clean

    async def plan(self) -> Plan:
        """Return what a run would delete now."""
        now = self._clock.now()
        day = china_day(now)
        name = PlanHash()
        found: list[Due] = []
        last = None
        async with self._transactions.read() as work:
            while keys := await work.hidden.series(last, day, PLANNED_AT_ONCE):
                due = await work.hidden.due(keys, day)
                for key in keys:
                    if key in due:
                        name.add(key, due[key])
                        found += due[key].due
                found = list(total(found))
                last = keys[-1]
            if notices := await work.old_notices.due(day):
                name.add(("notice",), DueSeries((old_notices(notices),), newest=0))
                found = list(total([*found, old_notices(notices)]))
        return Plan(str(name), tuple(found), now)

    async def run(self, request: RequestKey, plan_id: str) -> Run:
        """Delete what a plan names, or go on with it.

        Args:
            request: the call.
            plan_id: of the plan.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            FailedPreconditionError: PLAN_STALE.
        """
        run = await self._begun(request, plan_id) or await self._begin(request, plan_id)
        last: SeriesKey | None = None
        while run.finished_at is None:
            run, last = await self._retry(functools.partial(self._step, run.run_id, last))
        if run.deleted:
            await self._clean()
        return run

    async def runs(self, before: str, page_size: int) -> tuple[Sequence[Run], str]:
        """Return finished runs and erasures, newest first, and where the next page begins or "".

        Args:
            before: the id before which the page begins; "" is the first page.
            page_size: most of them.
        """
        async with self._transactions.read() as work:
            found = await work.runs.page(before, page_size + 1)
        page = found[:page_size]
        return page, page[-1].run_id if len(found) > page_size else ""

    async def _begun(self, request: RequestKey, plan_id: str) -> Run | None:
        """Return the run that this request, or an earlier one of its plan, began.

        A run of another plan that was broken off ends here, with what it did.
        """
        async with self._transactions.begin() as work:
            run = await work.runs.by_request(request)
            if run is not None:
                require_same(request, run.request.fingerprint)
                return run
            for begun in await work.runs.unfinished():
                if begun.plan_id == plan_id:
                    return begun
                await self._finish(work, begun)
        return None

    async def _begin(self, request: RequestKey, plan_id: str) -> Run:
        plan = await self.plan()
        if plan.plan_id != plan_id:
            raise FailedPreconditionError(
                "PLAN_STALE",
                "something else is due by now: plan again, and run the plan that you get",
            )
        now = self._clock.now()
        run = Run(self._ids.new("ret"), plan_id, request, now, china_day(plan.planned_at))
        async with self._transactions.begin() as work:
            await work.runs.add(run)
        return run

    async def _step(self, run_id: str, last: SeriesKey | None) -> tuple[Run, SeriesKey | None]:
        """Delete what is hidden of the next few series; finish where there is none."""
        async with self._transactions.begin() as work:
            run = await work.runs.lock(run_id)
            if run.finished_at is not None:
                return run, last
            keys = await work.hidden.series(last, run.day, SERIES_AT_ONCE)
            if keys:
                deleted, last = await self._delete(work, keys, run.day), keys[-1]
            elif notices := await work.old_notices.delete(run.day, NOTICES_AT_ONCE):
                deleted = [old_notices(notices)]
            else:
                return await self._finish(work, run), last
            run = replace(run, deleted=total([*run.deleted, *deleted]))
            await work.runs.update(run)
        return run, last

    async def _delete(self, work: Work, keys: Sequence[SeriesKey], day: int) -> list[Due]:
        states = await work.series.hold(keys)
        due = await work.hidden.due(list(states), day)
        await work.hidden.delete(list(due), day)
        await work.quality.forget_hidden({key.subject_id for key in due}, day, self._clock.now())
        stale = {key: state for key, state in states.items() if state.is_stale(day)}
        if stale:
            await refold(work.series, work.records, self._layouts, stale, day)
        first = await work.records.next_hidden_on(keys, None)
        for key, state in states.items():
            state.due_on = first.get(key)
            state.withheld = state.withheld or key in due
            state.revision += 1
        for simulated in (False, True):
            mine = {key: state for key, state in states.items() if state.simulated is simulated}
            await work.series.save(mine, simulated=simulated)
        now = self._clock.now()
        changes = [
            Change(
                kind=ChangeKind.RECORD_ERASED,
                changed_at=now,
                subject_id=key.subject_id,
                participant_id=key.provider_id,
                record_type=key.record_type,
            )
            for key, found in due.items()
            if any(each.reason is not Reason.REPAIRED for each in found.due)
        ]
        await tell_of_records(work, changes)
        await work.changes.append(changes)
        return [each for found in due.values() for each in found.due]

    async def _finish(self, work: Work, run: Run) -> Run:
        now = self._clock.now()
        leaf = self._sealer.seal(LeafKind.RETENTION, run.content(), now)
        run = replace(run, finished_at=now, leaf_hash=leaf.hash)
        await work.leaves.append([leaf])
        await work.runs.update(run)
        await work.runs.forget_requests(now - REQUESTS_KEPT)
        return run


class EraseSubject:
    """Erasing everything about a subject.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        clock: the time.
        ids: makes run ids.
        sealer: makes leaves.
        clean: takes what was deleted out of the database's files.
    """

    def __init__(
        self,
        *,
        transactions: Transactions[Work],
        retry: Retry,
        clock: Clock,
        ids: Ids,
        sealer: Sealer,
        clean: Callable[[], Awaitable[None]],
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._clock = clock
        self._ids = ids
        self._sealer = sealer
        self._clean = clean

    async def plan(self, subject_id: str) -> tuple[Due, ...]:
        """Return what would go.

        Raises:
            NotFoundError: NOT_FOUND.
            FailedPreconditionError: SUBJECT_ERASED.
        """
        async with self._transactions.read() as work:
            await _check(work, subject_id)
            return total(await work.erasing.held(subject_id))

    async def __call__(self, request: RequestKey, subject_id: str, note: str) -> Run:
        """Erase a subject, or return what this request erased.

        Args:
            request: the call.
            subject_id: whom.
            note: why, for the log.

        Raises:
            AlreadyExistsError: REQUEST_ID_REUSED.
            FailedPreconditionError: SUBJECT_ERASED.
            NotFoundError: NOT_FOUND.
        """
        run = await self._retry(functools.partial(self._erase, request, subject_id, note))
        await self._clean()
        return run

    async def _erase(self, request: RequestKey, subject_id: str, note: str) -> Run:
        async with self._transactions.begin() as work:
            done = await work.runs.by_request(request)
            if done is not None:
                require_same(request, done.request.fingerprint)
                return done
            await _check(work, subject_id)
            now = self._clock.now()
            # First, as who brings records of it holds these before the series.
            await work.subjects.erase(subject_id, now)
            await work.series.hold(await work.series.of(subject_id))
            deleted = total(await work.erasing.held(subject_id))
            await work.quality.forget(subject_id)
            await work.metering.forget(subject_id)
            await work.erasing.erase(subject_id)
            await work.reviews.forget(subject_id)
            run = Run(
                self._ids.new("ret"), "", request, now, china_day(now), subject_id, note, deleted
            )
            leaf = self._sealer.seal(LeafKind.RETENTION, run.content(), now)
            run = replace(run, finished_at=now, leaf_hash=leaf.hash)
            await work.runs.add(run)
            await work.leaves.append([leaf])
            change = Change(ChangeKind.RECORD_ERASED, now, subject_id)
            await tell_of_records(work, [change])
            await work.changes.append([change])
        return run


async def _check(work: Work, subject_id: str) -> None:
    if await work.erasing.erased([subject_id]):
        raise FailedPreconditionError("SUBJECT_ERASED", "the subject was erased before")
    if not await work.subjects.existing([subject_id]):
        raise NotFoundError("NOT_FOUND", "there is no such subject: check the subject_id")


class Rebuild:
    """Folding every summary anew from the raw records, by today's catalogue.

    What it makes is what is there already, but where a measure or a policy of retention changed
    with the version that runs, or a program of another version wrote.

    Args:
        transactions: opens transactions.
        retry: runs a transaction again that lost a race.
        layouts: what summaries hold, by record type.
        clock: the time.
    """

    def __init__(
        self,
        transactions: Transactions[Work],
        retry: Retry,
        layouts: Mapping[str, Layout],
        clock: Clock,
    ) -> None:
        self._transactions = transactions
        self._retry = retry
        self._layouts = layouts
        self._clock = clock

    async def count(self) -> tuple[int, int]:
        """Return how many series there are, and how many were not folded by this catalogue."""
        marks = {name: layout.mark for name, layout in self._layouts.items()}
        async with self._transactions.read() as work:
            return await work.series.count(marks)

    async def __call__(self, tell: Callable[[int], None]) -> int:
        """Fold every series; return how many.

        Args:
            tell: is told how many are done, again and again.
        """
        done = 0
        last: SeriesKey | None = None
        while True:
            async with self._transactions.read() as work:
                keys = await work.series.after(last, SERIES_AT_ONCE)
            if not keys:
                return done
            for key in keys:
                await self._retry(functools.partial(self._one, key))
            last = keys[-1]
            done += len(keys)
            tell(done)

    async def _one(self, key: SeriesKey) -> None:
        async with self._transactions.begin() as work:
            states = await work.series.hold([key])
            if key not in states:
                return
            state = states[key]
            await work.records.hide(key.provider_id, await work.records.days([key]))
            day = china_day(self._clock.now())
            await refold(work.series, work.records, self._layouts, states, day)
            state.due_on = (await work.records.next_hidden_on([key], None)).get(key)
            state.revision += 1
            await work.series.save(states, simulated=state.simulated)
