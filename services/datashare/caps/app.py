"""Letting in only what the sandbox has room for."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol

from services.datashare.access.app import FetchSummaries, Item
from services.datashare.access.domain import Channel, Released
from services.datashare.caps.domain import Room, SandboxCaps, full, full_today
from services.datashare.records.app import Batch, TakeIn
from services.datashare.records.domain import Ack
from services.kit.clock import Clock
from services.kit.errors import PuhuiError
from services.kit.transactions import Snapshots


class Counts(Protocol):
    """Counts what is there."""

    async def participants(self) -> int:
        """Return the number of accounts."""
        ...

    async def firms(self) -> int:
        """Return the number of subjects."""
        ...

    async def records(self) -> int:
        """Return the number of versions of records."""
        ...

    async def accesses(self, since: datetime) -> int:
        """Return the number of releases since a time."""
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve(self, uscc: str) -> str | None:
        """Return the subject_id of a checked code, if it has one."""
        ...


class Work(Protocol):
    """What is looked at in a transaction."""

    @property
    def counts(self) -> Counts:
        """How much is there."""
        ...

    @property
    def subjects(self) -> Subjects:
        """The mapping of registration numbers."""
        ...


class Capped:
    """Keeps the caps of a sandbox.

    Args:
        snapshots: opens transactions.
        caps: how much it holds.
        clock: the time.
    """

    def __init__(self, snapshots: Snapshots[Work], caps: SandboxCaps, clock: Clock) -> None:
        self._snapshots = snapshots
        self._clock = clock
        self._participants = Room("participants", caps.participants)
        self._firms = Room("firms", caps.firms)
        self._records = Room("records", caps.records)
        self._accesses = Room("accesses", caps.accesses_a_day)

    async def account(self) -> None:
        """Let an account in, which may be another firm's.

        Raises:
            FailedPreconditionError: SANDBOX_FULL.
        """
        await self._let_in(self._participants, 1, lambda work: work.counts.participants())
        await self._let_in(self._firms, 1, lambda work: work.counts.firms())

    async def records(self, usccs: Collection[str], rows: int) -> None:
        """Let records in.

        Args:
            usccs: registration numbers of the firms that they are about.
            rows: how many.

        Raises:
            FailedPreconditionError: SANDBOX_FULL.
        """
        if not rows:
            return
        await self._let_in(self._records, rows, lambda work: work.counts.records())
        try:
            await self._let_in(self._firms, len(usccs), lambda work: work.counts.firms())
        except PuhuiError:
            # Firms that are there already need no room.
            async with self._snapshots.read() as work:
                for uscc in usccs:
                    if await work.subjects.resolve(uscc) is None:
                        raise

    async def accesses(self, number: int) -> None:
        """Let accesses in.

        Raises:
            ResourceExhaustedError: SANDBOX_FULL.
        """
        now = self._clock.now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if not await self._room(
            self._accesses, number, lambda work: work.counts.accesses(midnight)
        ):
            raise full_today(self._accesses, now)

    async def _let_in(
        self, room: Room, wanted: int, count: Callable[[Work], Awaitable[int]]
    ) -> None:
        if wanted and not await self._room(room, wanted, count):
            raise full(room)

    async def _room(self, room: Room, wanted: int, count: Callable[[Work], Awaitable[int]]) -> bool:
        now = self._clock.now()
        if room.stale(wanted, now):
            known = room.counted_at
            async with self._snapshots.read() as work:
                found = await count(work)
            # Another call may have counted meanwhile and let in what this count has not seen.
            if room.counted_at == known:
                room.count(found, now)
        return room.take(wanted)


class CappedTakeIn:
    """Takes in batches for which there is room.

    Args:
        take_in: takes them in.
        capped: the caps.
    """

    def __init__(self, take_in: TakeIn, capped: Capped) -> None:
        self._take_in = take_in
        self._capped = capped
        self.supplier = take_in.supplier
        self.open = take_in.open

    async def __call__(self, batch: Batch) -> Ack:
        """Take in a batch; see `TakeIn`.

        Raises:
            FailedPreconditionError: SANDBOX_FULL.
        """
        usccs = {row.uscc for row in batch.rows if row.uscc}
        await self._capped.records(usccs, len(batch.rows))
        return await self._take_in(batch)


class CappedFetch:
    """Releases summaries for which there is room today.

    Args:
        fetch: releases them.
        capped: the caps.
    """

    def __init__(self, fetch: FetchSummaries, capped: Capped) -> None:
        self._fetch = fetch
        self._capped = capped

    async def __call__(
        self, items: Sequence[Item], channel: Channel
    ) -> list[Released | PuhuiError]:
        """Return a summary or a refusal for each item; see `FetchSummaries`."""
        try:
            await self._capped.accesses(len(items))
        except PuhuiError as error:
            return [error for _ in items]
        return await self._fetch(items, channel)
