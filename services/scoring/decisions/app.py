"""Scoring: fetch under consent, compute, keep, answer; orders at once, each with its own result.

Linked subjects are scored for themselves first, by the model of the order that names them and all
orders together; what it says of them are features of the firm.

Invariants: the access comes first and the decision names it; a decision is stored before it is
answered; a replay passes the consent again and gets the stored decision, with what was disputed
since; a refused order leaves no decision; every reading of a stored decision is recorded before it
is answered.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from services.kit.clock import Clock
from services.kit.errors import (
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
)
from services.kit.identity import Caller
from services.kit.ids import Ids
from services.kit.transactions import Transactions
from services.scoring.decisions.domain import (
    Decision,
    DisputeMark,
    Entered,
    Inputs,
    Linked,
    NoticeCode,
    Order,
    Outcome,
    Read,
    Reading,
    Use,
    as_disputed,
    check_linked,
    check_use,
    difference,
    notices,
    readable,
    replayed,
)
from services.scoring.decisions.papers import Papers
from services.scoring.features.domain import Coverage, FeatureVector, FirmSummary, Relation
from services.scoring.features.firm import china_day
from services.scoring.features.linked import Shown, worst
from services.scoring.features.registry import as_opened, insufficient, why_insufficient


@dataclass(frozen=True, slots=True)
class OrderCall:
    """An order and who gives it.

    Args:
        order: what is asked.
        caller: the bank.
        identity: the assertion that proves it, passed on to datashare.
        deadline: by the event loop's clock, seconds.
        traceparent: W3C trace context.
        automated_decision: a machine alone will decide on the credit, which the consent must allow.
        relations: those of which linked subjects are fetched, as the model has features for them.
        with_papers: the release's papers are wanted, too.
    """

    order: Order
    caller: Caller
    identity: str
    deadline: float
    traceparent: str
    automated_decision: bool = False
    relations: frozenset[Relation] = frozenset()
    with_papers: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """What datashare released for an order.

    Args:
        access_id: the access.
        as_of: data known by then.
        summary: the data.
        disputes: about records that count in it.
        linked: what was released of the order's linked subjects, by their places in it.
        papers: of the release, where the order wanted them.
    """

    access_id: str
    as_of: datetime
    summary: FirmSummary
    disputes: tuple[DisputeMark, ...] = ()
    linked: Mapping[int, "Released"] = field(default_factory=dict)
    papers: Papers | None = None


class Summaries(Protocol):
    """Datashare, as far as scoring needs it."""

    async def fetch(self, calls: Sequence[OrderCall]) -> list[Released | PuhuiError]:
        """Fetch the summary for each call, under the consent that it names.

        So are those of its linked subjects, each under its own consent; one that is refused refuses
        the call.
        """
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

    @property
    def inputs(self) -> Inputs:
        """What its features are."""
        ...

    @property
    def relations(self) -> frozenset[Relation]:
        """Those of which it takes the PD of linked subjects."""
        ...

    def features(self, summary: FirmSummary, as_of: datetime) -> FeatureVector:
        """Return the values of its features."""
        ...

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        """Return what it says of each; safe to call from any thread."""
        ...


class Models(Protocol):
    """The models that can answer."""

    async def get(self, version: str | None) -> Model:
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

    async def add_read(self, read: Read) -> None:
        """Record a reading."""
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
        self,
        summaries: Summaries,
        models: Models,
        work: Transactions[Decisions],
        clock: Clock,
        ids: Ids,
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
            MODEL_NOT_FOUND, DATA_INSUFFICIENT, REQUEST_ID_REUSED, or FIELD_INVALID of linked
            subjects; whatever the model raised for one that it failed on.
        """
        return (await self._scored(calls))[0]

    async def score_and_show(self, call: OrderCall) -> tuple[Decision, Released]:
        """Decide one order as `score` does, and return what the same access released for it.

        Raises:
            PuhuiError: as `score` returns it.
        """
        (result,), released = await self._scored([call])
        if isinstance(result, Exception):
            raise result
        return result, released[0]

    async def _scored(
        self, calls: Sequence[OrderCall]
    ) -> tuple[list[Decision | Exception], Mapping[int, Released]]:
        results: list[Decision | Exception | None] = [None] * len(calls)
        models: dict[int, Model] = {}
        for index, call in enumerate(calls):
            try:
                check_linked(call.order)
                models[index] = await self._models.get(call.order.model_version)
            except PuhuiError as error:
                results[index] = error
        asked = list(models)
        released = await self._summaries.fetch(
            [_with_relations(calls[index], models[index]) for index in asked]
        )
        good: dict[int, Released] = {}
        for index, answer in zip(asked, released, strict=True):
            if isinstance(answer, PuhuiError):
                results[index] = answer
            else:
                good[index] = answer
        await self._decide(calls, models, good, results)
        return [result for result in results if result is not None], good

    async def _decide(
        self,
        calls: Sequence[OrderCall],
        models: Mapping[int, Model],
        released: Mapping[int, Released],
        results: list[Decision | Exception | None],
    ) -> None:
        keys = {index: _key(calls[index]) for index in released}
        lacking: dict[int, Exception] = {
            index: problem
            for index, answer in released.items()
            if (problem := _problem(answer.summary))
        }
        shown = await _shown(models, released, lacking)
        fresh: dict[Model, list[tuple[int, FeatureVector]]] = {}
        for index, answer in released.items():
            if index in lacking:
                continue
            model, summary = models[index], answer.summary
            if index in shown:
                relations = (
                    (calls[index].order.linked[at].relation, pd) for at, pd in shown[index].items()
                )
                summary = replace(summary, linked=worst(relations))
            try:
                vector = model.features(summary, answer.as_of)
            except Exception as error:  # noqa: BLE001 - one firm's data must not fail the others
                lacking[index] = error
                continue
            fresh.setdefault(model, []).append((index, vector))
        made: dict[int, Decision] = {}
        for model, rows in fresh.items():
            outcomes = await _outcomes(model, [vector for _, vector in rows])
            for (index, vector), outcome in zip(rows, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    lacking[index] = outcome
                    continue
                summary, as_of = released[index].summary, released[index].as_of
                made[index] = Decision(
                    decision_id=self._ids.new("dec"),
                    caller_id=calls[index].caller.participant_id,
                    order=calls[index].order,
                    access_id=released[index].access_id,
                    as_of=as_of,
                    decided_at=self._clock.now(),
                    model_version=model.version,
                    model_class=model.model_class,
                    inputs=model.inputs,
                    features=vector,
                    coverage=dict(as_opened(summary, china_day(as_of)).coverage),
                    notices=_notices(model.model_class, released[index]),
                    outcome=outcome,
                    disputes=released[index].disputes,
                    sources=_sources(summary),
                    linked=_entered(
                        calls[index].order.linked, released[index].linked, shown.get(index, {})
                    ),
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
                    answer = released[index]
                    results[index] = as_disputed(
                        replayed(calls[index].order, standing),
                        answer.disputes,
                        {at: other.disputes for at, other in answer.linked.items()},
                    )
            except PuhuiError as error:
                results[index] = error

    async def read(self, decision_id: str, use: Use, caller: Caller) -> Reading:
        """Return a stored decision and whether its model gives the same outcome again.

        Raises:
            PermissionDeniedError: ROLE_NOT_ALLOWED, the use is not the caller's.
            NotFoundError: NOT_FOUND.
        """
        check_use(use, caller.role)
        async with self._work.begin() as decisions:
            decision = readable(await decisions.get(decision_id), caller)
            await decisions.add_read(
                Read(
                    read_id=self._ids.new("read"),
                    decision_id=decision_id,
                    subject_id=decision.order.subject_id,
                    reader_id=caller.participant_id,
                    role=caller.role,
                    use=use,
                    read_at=self._clock.now(),
                )
            )
        return Reading(decision, await self._remark(decision))

    async def _remark(self, decision: Decision) -> str:
        """Return why a decision cannot be reproduced; empty when it is."""
        try:
            model = await self._models.get(decision.model_version)
        except NotFoundError:
            return "the model's folder is gone or cannot be served any more"
        if model.inputs != decision.inputs:
            return "the features have changed since"
        [again] = await _outcomes(model, [decision.features])
        if isinstance(again, Exception):
            return "the model cannot compute it any more"
        return difference(decision.outcome, again)

    async def page(
        self, caller: Caller, subject_id: str | None, before: str | None, limit: int
    ) -> list[Decision]:
        """Return a firm's decisions to the firm, a bank's own to the bank, newest first.

        Raises:
            PermissionDeniedError: NOT_YOURS, the caller is a firm without a subject.
        """
        firm = caller.role == "FIRM"
        if firm and not caller.subject_id:
            raise PermissionDeniedError(
                "NOT_YOURS", "this firm is not linked to a subject: ask the operator to link it"
            )
        async with self._work.read() as decisions:
            return await decisions.page(
                caller_id=None if firm else caller.participant_id,
                subject_id=caller.subject_id if firm else subject_id,
                before=before,
                limit=limit,
            )


def _with_relations(call: OrderCall, model: Model) -> OrderCall:
    return replace(call, relations=model.relations) if call.order.linked else call


async def _shown(
    models: Mapping[int, Model],
    released: Mapping[int, Released],
    lacking: dict[int, Exception],
) -> Mapping[int, Mapping[int, Shown]]:
    """Return what each order's model says of each of its linked subjects for itself alone.

    Args:
        models: by index of the order.
        released: likewise.
        lacking: what is wrong with an order, which has no score then; gets what is found here.

    Returns:
        PD or why there is none, by index and place. Orders that name nobody are left out, and cost
        nothing.
    """
    shown: dict[int, dict[int, Shown]] = {}
    rows: dict[Model, list[tuple[int, int, FeatureVector]]] = {}
    for index, answer in released.items():
        if index in lacking or not answer.linked:
            continue
        shown[index] = {}
        for at, other in answer.linked.items():
            why = why_insufficient(other.summary)
            if why is not None:
                shown[index][at] = why
                continue
            try:
                vector = models[index].features(other.summary, other.as_of)
            except Exception as error:  # noqa: BLE001 - one firm's data must not fail the others
                lacking[index] = error
                continue
            rows.setdefault(models[index], []).append((index, at, vector))
    for model, waiting in rows.items():
        outcomes = await _outcomes(model, [vector for _, _, vector in waiting])
        for (index, at, _), outcome in zip(waiting, outcomes, strict=True):
            if isinstance(outcome, Exception):
                lacking[index] = outcome
            else:
                shown[index][at] = outcome.pd
    return shown


def _entered(
    linked: Sequence[Linked], released: Mapping[int, Released], shown: Mapping[int, Shown]
) -> tuple[Entered, ...]:
    found = []
    for at, each in enumerate(linked):
        answer, pd = released.get(at), shown.get(at)
        if answer is None:
            found.append(Entered(each))
            continue
        found.append(
            Entered(
                each,
                access_id=answer.access_id,
                as_of=answer.as_of,
                pd=None if isinstance(pd, Coverage) else pd,
                coverage=dict(as_opened(answer.summary, china_day(answer.as_of)).coverage),
                notices=_notices("", answer),
                disputes=answer.disputes,
                sources=_sources(answer.summary),
            )
        )
    return tuple(found)


def _notices(model_class: str, answer: Released) -> tuple[NoticeCode, ...]:
    return notices(
        model_class,
        simulated_data=answer.summary.simulated,
        withheld_data=answer.summary.withheld,
        disputed_data=any(mark.in_doubt for mark in answer.disputes),
    )


def _sources(summary: FirmSummary) -> frozenset[tuple[str, str]]:
    return frozenset((series.record_type, series.provider_id) for series in summary.series)


def _key(call: OrderCall) -> tuple[str, str]:
    return call.caller.participant_id, call.order.request_id


async def _outcomes(
    model: Model, vectors: Sequence[FeatureVector]
) -> Sequence[Outcome | Exception]:
    """Return what a model says of each; one that it fails on does not touch the others."""
    try:
        return await asyncio.to_thread(model.score, vectors)
    except Exception as error:  # noqa: BLE001 - found out one by one below
        if len(vectors) == 1:
            return [error]
    return [(await _outcomes(model, [vector]))[0] for vector in vectors]


def _problem(summary: FirmSummary) -> PuhuiError | None:
    missing = insufficient(summary)
    if not missing:
        return None
    return FailedPreconditionError(
        "DATA_INSUFFICIENT",
        f"a score needs {', '.join(missing)}: ask for a consent that opens it, or wait for it",
    )
