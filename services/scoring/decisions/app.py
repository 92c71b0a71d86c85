"""Scoring: fetch under consent, compute, keep, answer; orders at once, each with its own result.

Invariants: the access comes first and the decision names it; a decision is stored before it is
answered; a replay passes the consent again and gets the stored decision; a refused order leaves no
decision.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.kit.clock import Clock
from services.kit.errors import FailedPreconditionError, PuhuiError
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.scoring.decisions.domain import Decision, Order, Outcome, readable, replayed
from services.scoring.features.domain import FeatureVector, FirmSummary
from services.scoring.features.registry import insufficient


@dataclass(frozen=True, slots=True)
class OrderCall:
    """An order and who gives it.

    Args:
        order: what is asked.
        caller: the bank.
        identity: the assertion that proves it, passed on to datashare.
        deadline: by the event loop's clock, seconds.
        traceparent: W3C trace context.
    """

    order: Order
    caller: Caller
    identity: str
    deadline: float
    traceparent: str


@dataclass(frozen=True, slots=True)
class Released:
    """What datashare released for an order.

    Args:
        access_id: the access.
        as_of: data known by then.
        summary: the data.
    """

    access_id: str
    as_of: datetime
    summary: FirmSummary


class Summaries(Protocol):
    """Datashare, as far as scoring needs it."""

    async def fetch(self, calls: Sequence[OrderCall]) -> list[Released | PuhuiError]:
        """Fetch the summary for each call, under its own caller's consent."""
        ...


class Model(Protocol):
    """A loaded model."""

    @property
    def version(self) -> str:
        """Its version."""
        ...

    @property
    def model_class(self) -> str:
        """SIMULATED, EXPERT, UNVALIDATED or VALIDATED."""
        ...

    def features(self, summary: FirmSummary, as_of: datetime) -> FeatureVector:
        """Return its inputs."""
        ...

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        """Return what it says of each; safe to call from any thread."""
        ...


class Models(Protocol):
    """The models that can answer."""

    def get(self, version: str | None) -> Model:
        """Return a model; None is the one in service.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        ...


class Decisions(Protocol):
    """Stored decisions, in one transaction."""

    async def by_request(
        self, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Decision]:
        """Return what was decided under (caller_id, request_id)."""
        ...

    async def add(self, decisions: Sequence[Decision]) -> Mapping[tuple[str, str], Decision]:
        """Store new decisions; those whose (caller_id, request_id) exists are left out.

        Returns:
            What stands under each (caller_id, request_id): a new one, or the one that was there.
        """
        ...

    async def get(self, decision_id: str) -> Decision | None:
        """Return one."""
        ...

    async def page(
        self, *, caller_id: str | None, subject_id: str | None, before: str | None, limit: int
    ) -> list[Decision]:
        """Return decisions, newest first, with ids below `before`."""
        ...


class Work(Protocol):
    """Opens transactions."""

    def begin(self) -> AbstractAsyncContextManager[Decisions]:
        """Open one that writes."""
        ...

    def read(self) -> AbstractAsyncContextManager[Decisions]:
        """Open one that reads."""
        ...


class Scoring:
    """The use cases.

    Args:
        summaries: datashare.
        models: the models.
        work: the decisions' database.
        clock: the time.
        ids: makes decision ids.
    """

    def __init__(
        self, summaries: Summaries, models: Models, work: Work, clock: Clock, ids: Ids
    ) -> None:
        self._summaries = summaries
        self._models = models
        self._work = work
        self._clock = clock
        self._ids = ids

    async def score(self, calls: Sequence[OrderCall]) -> list[Decision | Exception]:
        """Decide each order; one's refusal does not touch the others.

        Returns:
            A decision or a PuhuiError per call, in their order: datashare's reason of refusal,
            MODEL_NOT_FOUND, DATA_INSUFFICIENT or REQUEST_ID_REUSED.
        """
        results: list[Decision | Exception | None] = [None] * len(calls)
        models: dict[int, Model] = {}
        for index, call in enumerate(calls):
            try:
                models[index] = self._models.get(call.order.model_version)
            except PuhuiError as error:
                results[index] = error
        asked = list(models)
        released = await self._summaries.fetch([calls[index] for index in asked])
        good: dict[int, Released] = {}
        for index, answer in zip(asked, released, strict=True):
            if isinstance(answer, PuhuiError):
                results[index] = answer
            else:
                good[index] = answer
        await self._decide(calls, models, good, results)
        return [result for result in results if result is not None]

    async def _decide(
        self,
        calls: Sequence[OrderCall],
        models: Mapping[int, Model],
        released: Mapping[int, Released],
        results: list[Decision | Exception | None],
    ) -> None:
        keys = {index: _key(calls[index]) for index in released}
        lacking: dict[int, PuhuiError] = {}
        fresh: dict[Model, list[tuple[int, FeatureVector]]] = {}
        for index, answer in released.items():
            problem = _problem(answer.summary)
            if problem:
                lacking[index] = problem
                continue
            model = models[index]
            vector = model.features(answer.summary, answer.as_of)
            fresh.setdefault(model, []).append((index, vector))
        made: dict[int, Decision] = {}
        for model, rows in fresh.items():
            outcomes = await asyncio.to_thread(model.score, [vector for _, vector in rows])
            for (index, vector), outcome in zip(rows, outcomes, strict=True):
                made[index] = Decision(
                    decision_id=self._ids.new("dec"),
                    caller_id=calls[index].caller.participant_id,
                    order=calls[index].order,
                    access_id=released[index].access_id,
                    as_of=released[index].as_of,
                    decided_at=self._clock.now(),
                    model_version=model.version,
                    model_class=model.model_class,
                    features=vector,
                    coverage=dict(released[index].summary.coverage),
                    outcome=outcome,
                )
        # Replays, and who lost a race on the same request_id, answer what is stored. They are found
        # by trying to store: to look first would cost every order a transaction.
        stored: dict[tuple[str, str], Decision] = {}
        if made:
            async with self._work.begin() as decisions:
                stored |= await decisions.add(list(made.values()))
        if lacking:
            async with self._work.read() as decisions:
                stored |= await decisions.by_request([keys[index] for index in lacking])
        for index, key in keys.items():
            standing = stored.get(key)
            try:
                if standing is None:
                    results[index] = lacking[index]
                elif standing is made.get(index):
                    results[index] = standing
                else:
                    results[index] = replayed(calls[index].order, standing)
            except PuhuiError as error:
                results[index] = error

    async def reproduce(self, decision_id: str, caller: Caller) -> tuple[Decision, bool]:
        """Return a stored decision and whether its model gives the same outcome again.

        Raises:
            NotFoundError: NOT_FOUND; MODEL_NOT_FOUND when the model's folder is gone.
        """
        async with self._work.read() as decisions:
            found = await decisions.get(decision_id)
        decision = readable(found, caller_id=caller.participant_id, subject_id=caller.subject_id)
        model = self._models.get(decision.model_version)
        [again] = await asyncio.to_thread(model.score, [decision.features])
        return decision, again == decision.outcome

    async def page(
        self, caller: Caller, subject_id: str | None, before: str | None, limit: int
    ) -> list[Decision]:
        """Return a firm's decisions to the firm, a bank's own to the bank, newest first."""
        firm = caller.role == "FIRM"
        async with self._work.read() as decisions:
            return await decisions.page(
                caller_id=None if firm else caller.participant_id,
                subject_id=caller.subject_id if firm else subject_id,
                before=before,
                limit=limit,
            )


def _key(call: OrderCall) -> tuple[str, str]:
    return call.caller.participant_id, call.order.request_id


def _problem(summary: FirmSummary) -> PuhuiError | None:
    missing = insufficient(summary)
    if not missing:
        return None
    return FailedPreconditionError(
        "DATA_INSUFFICIENT",
        f"a score needs {', '.join(missing)}: ask for a consent that opens it, or wait for it",
    )
