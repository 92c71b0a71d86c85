"""Following what becomes of records, and telling banks which decisions are to be made again.

Invariants:

- The place in the feed moves in the transaction that keeps what was read up to there: nothing is
  skipped or kept twice, whichever replica reads and wherever it dies.
- What is due is found when somebody asks, from what was corrected and what was decided: a decision
  that is stored after a correction was read, on data from before it, is due all the same.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from services.kit.clock import Clock
from services.kit.errors import DeadlineExceededError, UnavailableError
from services.kit.identity import Caller
from services.kit.transactions import Transactions
from services.scoring.decisions.domain import Decision
from services.scoring.reevaluations.domain import (
    Correction,
    Reevaluation,
    Standing,
    disputed_since,
    due,
)

SETTLED: Final = timedelta(hours=1)
"""No decision is still under way whose data was read so long ago."""


class Read(NamedTuple):
    """What the feed says after a cursor.

    Args:
        corrections: in the order of the feed.
        disputes: in the order of the feed.
        cursor: behind all that was read, which may be more.
    """

    corrections: Sequence[Correction]
    disputes: Sequence[Standing]
    cursor: str


class Feed(Protocol):
    """Datashare's feed of changes."""

    async def after(self, cursor: str) -> Read:
        """Return what follows a cursor; the same cursor where nothing does.

        Raises:
            PuhuiError: it cannot be read.
        """
        ...


class Reevaluations(Protocol):
    """What was corrected and disputed, and the decisions that this touches, in one transaction."""

    async def cursor(self) -> str:
        """Return how far the feed was read."""
        ...

    async def advance(self, before: str, after: str) -> bool:
        """Move the place in the feed; False when somebody else moved it meanwhile."""
        ...

    async def add(self, corrections: Sequence[Correction]) -> None:
        """Keep corrections; those that are kept already are left out."""
        ...

    async def note(self, disputes: Sequence[Standing]) -> None:
        """Keep disputes that stand, forget those that no longer do, in their order."""
        ...

    async def standing(self, subject_ids: Collection[str]) -> Sequence[Standing]:
        """Return the disputes about subjects that stand."""
        ...

    async def settle(self, before: datetime) -> None:
        """Forget corrections from before a time for which no decision is due."""
        ...

    async def due(
        self, caller_id: str, after: str, limit: int
    ) -> Sequence[tuple[Decision, Sequence[Correction]]]:
        """Return a bank's decisions with the later corrections of their subjects.

        Only those after which it made no newer decision on what is known since; oldest first.

        Args:
            caller_id: the bank.
            after: only behind this decision_id; "" is from the first.
            limit: most decisions.
        """
        ...


class Follow:
    """Follows the feed.

    Args:
        feed: datashare's.
        transactions: opens transactions.
        clock: the time.
    """

    def __init__(self, feed: Feed, transactions: Transactions[Reevaluations], clock: Clock) -> None:
        self._feed = feed
        self._transactions = transactions
        self._clock = clock

    async def __call__(self) -> None:
        """Read the feed to its end."""
        while await self.step():
            pass

    async def run(self, every: timedelta) -> None:
        """Go on for ever; while datashare cannot be reached, wait.

        Args:
            every: how long to wait at the end of the feed.
        """
        loop = asyncio.get_running_loop()
        settled = loop.time()
        while True:
            try:
                await self()
                if loop.time() - settled > SETTLED.total_seconds():
                    settled = loop.time()
                    await self.settle()
            except (UnavailableError, DeadlineExceededError):
                pass
            await asyncio.sleep(every.total_seconds())

    async def step(self) -> bool:
        """Read a page; False at the end of the feed."""
        async with self._transactions.read() as kept:
            before = await kept.cursor()
        corrections, disputes, after = await self._feed.after(before)
        if after == before:
            return False
        async with self._transactions.begin() as kept:
            if await kept.advance(before, after):  # else another replica read it
                await kept.add(corrections)
                await kept.note(disputes)
        return True

    async def settle(self) -> None:
        """Forget what no decision is due for any more."""
        async with self._transactions.begin() as kept:
            await kept.settle(self._clock.now() - SETTLED)


class DisputedSince:
    """Finds decisions of which some records are in dispute that were not when they were made.

    Args:
        transactions: opens transactions.
    """

    def __init__(self, transactions: Transactions[Reevaluations]) -> None:
        self._transactions = transactions

    async def __call__(self, decisions: Collection[Decision]) -> frozenset[str]:
        """Return the ids of those that were disputed since.

        Args:
            decisions: as they were made.
        """
        subjects = {decision.order.subject_id for decision in decisions}
        subjects |= {each.linked.subject_id for made in decisions for each in made.linked}
        if not subjects:
            return frozenset()
        async with self._transactions.read() as kept:
            standing = await kept.standing(subjects)
        return frozenset(
            decision.decision_id for decision in decisions if disputed_since(decision, standing)
        )


class ListReevaluations:
    """A bank's decisions to be made again.

    Args:
        transactions: opens transactions.
    """

    def __init__(self, transactions: Transactions[Reevaluations]) -> None:
        self._transactions = transactions

    async def __call__(
        self, caller: Caller, after: str, page_size: int
    ) -> tuple[Sequence[Reevaluation], str]:
        """Return a page, oldest decision first, and the id behind which the next begins, or "".

        Args:
            caller: the bank.
            after: the decision_id behind which the page begins; "" is the first page.
            page_size: most decisions.
        """
        page: list[Reevaluation] = []
        async with self._transactions.read() as kept:
            while True:
                found = await kept.due(caller.participant_id, after, page_size + 1)
                for decision, corrections in found:
                    reevaluation = due(decision, corrections)
                    if reevaluation is None:
                        continue
                    if len(page) == page_size:
                        return page, page[-1].decision.decision_id
                    page.append(reevaluation)
                if len(found) <= page_size:
                    return page, ""
                after = found[-1][0].decision_id
