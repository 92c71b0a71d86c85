"""Scoring in the shadow: off the path of who asks, and never in its way.

Invariants:

- To offer a decision takes no time and never fails: it is put into a queue of limited length, and
  counted as dropped where that is full.
- Challengers run on threads of their own, at most so large a share of the time; the pool of those
  who answer is not touched. One that hangs is asked nothing until it comes back, and does not keep
  the service from ending.
- What was read of a firm is held in memory until it was scored, and not kept.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

from services.kit.clock import Clock
from services.kit.errors import UnavailableError
from services.kit.transactions import Snapshots, Transactions
from services.scoring.decisions.domain import Decision, Inputs, Outcome, claimed
from services.scoring.features.domain import FeatureVector, FirmSummary
from services.scoring.features.firm import china_day
from services.scoring.shadow.domain import Counts, Difference, Loss, Pair, Report, report

T = TypeVar("T")

BATCH: Final = 64
"""Decisions that are scored at a time."""
SHARE: Final = 0.25
"""Of the time, that challengers run at most."""
PATIENCE_S: Final = 10.0
"""Seconds after which a challenger counts as hanging."""
FORGET_EVERY: Final = timedelta(hours=1)
"""How often it is looked for what was kept long enough."""


class Observed(NamedTuple):
    """A decision that was made, and what it was made of."""

    decision: Decision
    summary: FirmSummary


class Challenger(Protocol):
    """A model in the shadow."""

    @property
    def version(self) -> str:
        """Its version."""
        ...

    @property
    def model_class(self) -> str:
        """How much its PD may be believed."""
        ...

    @property
    def inputs(self) -> Inputs:
        """What its features are."""
        ...

    def features(
        self, summary: FirmSummary, as_of: datetime, declared: Mapping[str, float | str]
    ) -> FeatureVector:
        """Return the values of its features; see `decisions.app.Model`."""
        ...

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        """Return what it says of each; safe to call from any thread."""
        ...


class Differences(Protocol):
    """What challengers said, in one transaction."""

    async def add(self, differences: Sequence[Difference]) -> None:
        """Keep differences; those that are kept already are left out."""
        ...

    async def lose(self, losses: Sequence[tuple[Pair, Loss]]) -> None:
        """Add to what challengers have not scored."""
        ...

    async def counts(self, challenger: str, answered_by: str, since: date | None) -> Counts:
        """Count what there is of a challenger beside a version, from a day on."""
        ...

    async def forget(self, before: date) -> None:
        """Delete what is of earlier days."""
        ...


class Meter(Protocol):
    """Counts for who watches."""

    def scored(self, decisions: int) -> None:
        """Challengers have scored decisions."""
        ...

    def lost(self, loss: Loss) -> None:
        """Challengers have not scored decisions."""
        ...

    def hangs(self, version: str) -> None:
        """A challenger has not come back in time."""
        ...

    def failed(self, version: str, error: Exception) -> None:
        """A challenger failed on decisions, on the last of them by this."""
        ...


class Shadow:
    """Scores in the shadow what was decided.

    Args:
        challengers: returns the models in the shadow.
        transactions: opens transactions.
        meter: counts.
        clock: the time.
        queue: most decisions that wait.
        patience: seconds after which a challenger counts as hanging.
        kept: how long differences are kept.
    """

    def __init__(
        self,
        challengers: Callable[[], Iterable[Challenger]],
        transactions: Transactions[Differences],
        meter: Meter,
        clock: Clock,
        *,
        queue: int,
        patience: float,
        kept: timedelta,
    ) -> None:
        self._challengers = challengers
        self._transactions = transactions
        self._meter = meter
        self._clock = clock
        self._most = queue
        self._patience = patience
        self._kept = kept
        self._waiting: deque[Observed] = deque()
        self._wake = asyncio.Event()
        self._losses: defaultdict[Pair, Loss] = defaultdict(Loss)
        self._hanging: dict[str, threading.Thread] = {}

    def offer(self, made: Sequence[tuple[Decision, FirmSummary]]) -> None:
        """Have decisions scored in the shadow, some time, if there is a challenger and room.

        Args:
            made: decisions, and what they were made of.
        """
        challengers = [each.version for each in self._challengers()]
        if not challengers:
            return
        observed = [Observed(*each) for each in made]
        room = max(0, self._most - len(self._waiting))
        self._waiting.extend(observed[:room])
        for version in challengers:
            self._lose(version, observed[room:], Loss(dropped=1))
        self._wake.set()

    async def run(self) -> None:
        """Score what waits, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                started = loop.time()
                await self._score(
                    [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                )
                await asyncio.sleep((loop.time() - started) * (1 / SHARE - 1))
            await self._keep([])

    async def close(self) -> None:
        """Count what still waits as dropped."""
        # Of a service that did not start, who challenges is not known.
        for challenger in self._challengers() if self._waiting else ():
            self._lose(challenger.version, self._waiting, Loss(dropped=1))
        self._waiting.clear()
        await self._keep([])

    async def forget(self) -> None:
        """Delete what was kept long enough."""
        before = china_day(self._clock.now() - self._kept)
        async with self._transactions.begin() as differences:
            await differences.forget(before)

    async def _score(self, batch: Sequence[Observed]) -> None:
        """Have every challenger score decisions, all at once; whatever goes wrong is counted."""
        challengers = list(self._challengers())
        said = await asyncio.gather(*(self._ask(each, batch) for each in challengers))
        await self._keep([difference for part in said for difference in part])

    async def _ask(self, challenger: Challenger, batch: Sequence[Observed]) -> list[Difference]:
        version = challenger.version
        others = [each for each in batch if each.decision.model_version != version]
        hanging = self._hanging.get(version)
        if hanging is not None:
            if hanging.is_alive():
                self._lose(version, others, Loss(dropped=1))
                return []
            del self._hanging[version]
        problems: list[Exception] = []
        thread, future = _on_a_thread(lambda: _said(challenger, others, problems))
        try:
            outcomes = await asyncio.wait_for(asyncio.wrap_future(future), self._patience)
        except TimeoutError:
            self._meter.hangs(version)
            self._hanging[version] = thread
            self._lose(version, others, Loss(dropped=1))
            return []
        if problems:
            self._meter.failed(version, problems[-1])
        found = []
        for each, outcome in zip(others, outcomes, strict=True):
            if outcome is None:
                self._lose(version, [each], Loss(failed=1))
            else:
                answered = claimed(outcome, challenger.model_class)
                found.append(_difference(version, each.decision, answered))
        return found

    def _lose(self, version: str, observed: Iterable[Observed], loss: Loss) -> None:
        for each in observed:
            decision = each.decision
            pair = Pair(version, decision.model_version, china_day(decision.decided_at))
            self._losses[pair] += loss
            self._meter.lost(loss)

    async def _keep(self, differences: Sequence[Difference]) -> None:
        losses = dict(self._losses)
        if not differences and not losses:
            return
        try:
            async with self._transactions.begin() as kept:
                await kept.add(differences)
                await kept.lose(list(losses.items()))
        except UnavailableError:
            for each in differences:
                self._losses[Pair(each.challenger, each.answered_by, each.day)] += Loss(dropped=1)
            self._meter.lost(Loss(dropped=len(differences)))
            return
        self._meter.scored(len(differences))
        for pair, loss in losses.items():
            left = Loss(
                self._losses[pair].dropped - loss.dropped, self._losses[pair].failed - loss.failed
            )
            if left == Loss():
                del self._losses[pair]
            else:
                self._losses[pair] = left


class TellShadow:
    """Reports what challengers would have said.

    Args:
        transactions: opens snapshots.
    """

    def __init__(self, transactions: Snapshots[Differences]) -> None:
        self._transactions = transactions

    async def __call__(self, challenger: str, answered_by: str, since: date | None) -> Report:
        """Return a challenger's report beside a version, from a day on."""
        async with self._transactions.read() as differences:
            return report(await differences.counts(challenger, answered_by, since))


def _said(
    challenger: Challenger, batch: Sequence[Observed], problems: list[Exception]
) -> list[Outcome | None]:
    """Return what a challenger says of each decision; None where it fails.

    Args:
        challenger: who is asked.
        batch: decisions.
        problems: gets what it failed by.
    """

    def trying(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - whatever it was, it is the challenger's
            problems.append(error)
            return None

    def vector(observed: Observed) -> FeatureVector:
        decision = observed.decision
        if challenger.inputs == decision.inputs:
            return decision.features
        declared = {each.name: each.value for each in decision.order.declared}
        return challenger.features(observed.summary, decision.as_of, declared)

    def alone(row: FeatureVector) -> Outcome:
        return challenger.score([row])[0]

    rows = [(at, trying(partial(vector, each))) for at, each in enumerate(batch)]
    good = [(at, row) for at, row in rows if row is not None]
    said = trying(lambda: challenger.score([row for _, row in good])) if good else []
    outcomes: list[Outcome | None] = [None] * len(batch)
    for place, (at, row) in enumerate(good):  # those that make it fail are found one by one
        outcomes[at] = trying(partial(alone, row)) if said is None else said[place]
    return outcomes


def _difference(challenger: str, decision: Decision, outcome: Outcome) -> Difference:
    return Difference(
        challenger=challenger,
        answered_by=decision.model_version,
        decision_id=decision.decision_id,
        day=china_day(decision.decided_at),
        pd_answered=decision.outcome.pd,
        pd_challenger=outcome.pd,
        score_answered=decision.outcome.score,
        score_challenger=outcome.score,
        grade_answered=decision.outcome.grade,
        grade_challenger=outcome.grade,
    )


def _on_a_thread(work: Callable[[], T]) -> tuple[threading.Thread, "Future[T]"]:
    """Run work on a thread of its own, which does not keep the process from ending."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - given to who waits
            future.set_exception(error)

    thread = threading.Thread(target=run, name="shadow", daemon=True)
    thread.start()
    return thread, future
