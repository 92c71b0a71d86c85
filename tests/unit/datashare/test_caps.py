import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from services.datashare.caps.app import Capped
from services.datashare.caps.domain import COUNTED_FOR, FULL_FOR, SandboxCaps
from services.kit.errors import FailedPreconditionError, ResourceExhaustedError

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class Moving:
    """A clock that is put forward."""

    time: datetime = NOON

    def now(self) -> datetime:
        return self.time


@dataclass
class Holdings:
    """What a sandbox holds, and how often it was counted."""

    accounts: int = 0
    known: set[str] = field(default_factory=set)
    rows: int = 0
    released: int = 0
    since: list[datetime] = field(default_factory=list)
    counted: int = 0
    read_takes_turns: bool = False

    @property
    def counts(self) -> "Holdings":
        return self

    @property
    def subjects(self) -> "Holdings":
        return self

    async def participants(self) -> int:
        self.counted += 1
        return self.accounts

    async def firms(self) -> int:
        return len(self.known)

    async def records(self) -> int:
        self.counted += 1
        return self.rows

    async def accesses(self, since: datetime) -> int:
        self.since.append(since)
        return self.released

    async def resolve(self, uscc: str) -> str | None:
        return uscc if uscc in self.known else None

    @asynccontextmanager
    async def read(self) -> AsyncIterator["Holdings"]:
        if self.read_takes_turns:
            await asyncio.sleep(0)
        yield self


@pytest.fixture
def held() -> Holdings:
    return Holdings()


@pytest.fixture
def clock() -> Moving:
    return Moving()


@pytest.fixture
def capped(held: Holdings, clock: Moving) -> Capped:
    caps = SandboxCaps(participants=2, firms=2, records=100, accesses_a_day=3)
    return Capped(held, caps, clock)


async def test_accounts_come_in_until_it_is_full(capped: Capped, held: Holdings) -> None:
    for number in (1, 2):
        await capped.account()
        held.accounts = number
    with pytest.raises(FailedPreconditionError, match="holds 2 participants at most") as refused:
        await capped.account()
    assert refused.value.reason == "SANDBOX_FULL"


async def test_what_was_removed_makes_room(capped: Capped, held: Holdings, clock: Moving) -> None:
    held.rows = 100
    with pytest.raises(FailedPreconditionError):
        await capped.records(set(), 1)
    held.rows = 50
    clock.time += FULL_FOR
    await capped.records(set(), 1)


async def test_it_does_not_count_for_each_batch(capped: Capped, held: Holdings) -> None:
    for _ in range(9):
        await capped.records(set(), 10)
    assert held.counted == 1


async def test_what_other_replicas_let_in_is_seen(
    capped: Capped, held: Holdings, clock: Moving
) -> None:
    await capped.records(set(), 10)
    held.rows = 100
    clock.time += COUNTED_FOR
    with pytest.raises(FailedPreconditionError, match="100 records"):
        await capped.records(set(), 10)


async def test_records_of_known_firms_need_no_room_for_firms(
    capped: Capped, held: Holdings
) -> None:
    held.known = {"a", "b"}
    await capped.records({"a", "b"}, 2)
    with pytest.raises(FailedPreconditionError, match="2 firms"):
        await capped.records({"a", "c"}, 2)


async def test_a_batch_of_rejected_rows_is_always_answered(capped: Capped, held: Holdings) -> None:
    held.rows = 100
    await capped.records(set(), 0)


async def test_accesses_are_counted_by_the_day(
    capped: Capped, held: Holdings, clock: Moving
) -> None:
    await capped.accesses(3)
    held.released = 3
    clock.time += timedelta(seconds=2)
    with pytest.raises(ResourceExhaustedError, match="3 accesses a day") as refused:
        await capped.accesses(1)
    assert refused.value.reason == "SANDBOX_FULL"
    assert refused.value.retry_after == timedelta(hours=12) - timedelta(seconds=2)
    held.released = 0
    clock.time = NOON + timedelta(hours=12)
    await capped.accesses(1)
    assert held.since[-1] == clock.time


@pytest.mark.parametrize("cap", ["participants", "firms", "records", "accesses_a_day"])
def test_a_cap_lets_in_one_at_least(cap: str) -> None:
    with pytest.raises(ValueError, match=cap):
        SandboxCaps(**{cap: 0})


async def test_calls_at_once_pass_no_cap(capped: Capped, held: Holdings) -> None:
    """None of them sees what the others let in, as that is not written yet."""
    held.read_takes_turns = True
    ends = await asyncio.gather(*(capped.accesses(1) for _ in range(10)), return_exceptions=True)
    assert [end for end in ends if end is None] == [None] * 3
    assert sum(isinstance(end, ResourceExhaustedError) for end in ends) == 7
