"""Scoring: fetch under consent, compute, keep, answer; orders at once, each with its own result.

Linked subjects are scored for themselves first, by the model of the order that names them and all
orders together; what it says of them are features of the firm.

Invariants: while a model is stopped its orders are referrals and nothing is fetched for them; the
access comes first and the decision names it; below what its product requires there is no score; a
decision is stored before it is answered; a replay passes the consent again and gets the stored
decision, with what was disputed since; a refused order leaves no decision; every reading of a
stored decision is recorded before it is answered.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Protocol, TypeAlias

from services.kit.clock import Clock
from services.kit.errors import (
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    PuhuiError,
    Violation,
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
    Referred,
    Replay,
    Use,
    as_disputed,
    check_linked,
    check_use,
    claimed,
    comparable,
    difference,
    notices,
    readable,
    replayed,
)
from services.scoring.decisions.papers import Papers
from services.scoring.features.domain import Coverage, FeatureVector, FirmSummary, Relation
from services.scoring.features.firm import china_day
from services.scoring.features.linked import Shown, worst
from services.scoring.features.registry import as_opened, why_insufficient
from services.scoring.models.improvements import Improvements
from services.scoring.products.domain import (
    NO_PRODUCT,
    Asked,
    Product,
    check_model,
    check_order,
    lacking,
    product_of,
    suffices,
)
from services.scoring.registry.domain import Stop

Result: TypeAlias = Decision | Referred | Exception
"""What becomes of an order."""


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

    async def fetch(
        self, calls: Sequence[OrderCall], answered: Callable[[], None] | None = None
    ) -> list[Released | PuhuiError]:
        """Fetch the summary for each call, under the consent that it names.

        So are those of its linked subjects, each under its own consent; one that is refused refuses
        the call.

        Args:
            calls: what is ordered.
            answered: is called once datashare has answered, before its answer is read.
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
    def asks(self) -> Mapping[str, Asked]:
        """Those of its features that the bank declares."""
        ...

    @property
    def relations(self) -> frozenset[Relation]:
        """Those of which it takes the PD of linked subjects."""
        ...

    def features(
        self,
        summary: FirmSummary,
        as_of: datetime,
        declared: Mapping[str, float | str] = MappingProxyType({}),
    ) -> FeatureVector:
        """Return the values of its features.

        Args:
            summary: what was released.
            as_of: data known by then.
            declared: what the bank said of the firm, by name.
        """
        ...

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        """Return what it says of each; safe to call from any thread."""
        ...

    def improvements(self, vector: FeatureVector) -> Improvements:
        """Return what reaches a better grade."""
        ...


class Models(Protocol):
    """The models that can answer."""

    async def get(self, version: str | None) -> Model | Stop:
        """Return a model, None is the one in service; or the stop that makes orders referrals.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        ...

    async def recall(self, version: str) -> Model:
        """Return a model to give again what it said, whether it still serves or not.

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
        products: score products by code.
        observe: is told of decisions that were made, with what they were made of.
    """

    def __init__(
        self,
        summaries: Summaries,
        models: Models,
        work: Transactions[Decisions],
        clock: Clock,
        ids: Ids,
        products: Mapping[str, Product] = MappingProxyType({}),
        observe: Callable[[Sequence[tuple[Decision, FirmSummary]]], None] | None = None,
    ) -> None:
        self._observe = observe
        self._products = products
        self._summaries = summaries
        self._models = models
        self._work = work
        self._clock = clock
        self._ids = ids

    async def score(
        self, calls: Sequence[OrderCall], fetched: Callable[[], None] | None = None
    ) -> list[Result]:
        """Decide each order; one's refusal does not touch the others.

        Args:
            calls: the orders.
            fetched: is called once datashare has answered.

        Returns:
            A decision, a referral or a PuhuiError per call, in their order: datashare's reason of
            refusal, MODEL_NOT_FOUND, DATA_INSUFFICIENT, REQUEST_ID_REUSED, or FIELD_INVALID of
            linked subjects, of the product or what is declared; whatever the model raised for one
            that it failed on.
        """
        return (await self._scored(calls, fetched))[0]

    async def score_and_show(self, call: OrderCall) -> tuple[Decision, Released] | Referred:
        """Decide one order as `score` does, and return what the same access released for it.

        Raises:
            PuhuiError: as `score` returns it.
        """
        (result,), released = await self._scored([call])
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, Referred) else (result, released[0])

    async def _scored(
        self, calls: Sequence[OrderCall], fetched: Callable[[], None] | None = None
    ) -> tuple[list[Result], Mapping[int, Released]]:
        results: list[Result | None] = [None] * len(calls)
        models: dict[int, Model] = {}
        for index, call in enumerate(calls):
            try:
                found = await self._model(call.order)
            except PuhuiError as error:
                results[index] = error
            else:
                if isinstance(found, Referred):
                    results[index] = found
                else:
                    models[index] = found
        asked = list(models)
        released = await self._summaries.fetch(
            [_with_relations(calls[index], models[index]) for index in asked], fetched
        )
        good: dict[int, Released] = {}
        for index, answer in zip(asked, released, strict=True):
            if isinstance(answer, PuhuiError):
                results[index] = answer
            else:
                good[index] = answer
        await self._decide(calls, models, good, results)
        return [result for result in results if result is not None], good

    async def _model(self, order: Order) -> Model | Referred:
        """Return the model that an order gets, once the order is as its product says.

        Raises:
            PuhuiError: FIELD_INVALID, or MODEL_NOT_FOUND.
        """
        check_linked(order)
        if not order.product:
            check_order(None, order.purpose, "", "", order.declared)
            found = await self._models.get(order.model_version)
            return Referred(found.since) if isinstance(found, Stop) else found
        product = product_of(self._products, order.product, "order.product")
        found = await self._models.get(product.model or None)
        version = order.model_version or ""
        # While all is stopped it is not known which version serves.
        serves = version if isinstance(found, Stop) else found.version
        check_order(product, order.purpose, version, serves, order.declared)
        if isinstance(found, Stop):
            return Referred(found.since)
        check_model(product, found.asks)
        return found

    def _problem(self, order: Order, answer: Released) -> PuhuiError | None:
        """Return what is missing for a score of an order's product."""
        product = self._products.get(order.product)
        required = NO_PRODUCT if product is None else product.required
        lacks = lacking(required, answer.summary, china_day(answer.as_of))
        if not lacks:
            return None
        violations = tuple(
            Violation(judged.state, judged.need.record_type, suffices(judged).en)
            for judged in lacks
        )
        remedies = "; ".join(each.description for each in violations)
        return FailedPreconditionError(
            "DATA_INSUFFICIENT",
            f"a score needs {', '.join(each.subject for each in violations)}: {remedies}",
            violations=violations,
        )

    async def _decide(
        self,
        calls: Sequence[OrderCall],
        models: Mapping[int, Model],
        released: Mapping[int, Released],
        results: list[Result | None],
    ) -> None:
        keys = {index: _key(calls[index]) for index in released}
        lacking: dict[int, Exception] = {
            index: problem
            for index, answer in released.items()
            if (problem := self._problem(calls[index].order, answer))
        }
        shown = await _shown(models, released, lacking)
        fresh: dict[Model, list[tuple[int, FeatureVector]]] = {}
        read: dict[int, FirmSummary] = {}
        for index, answer in released.items():
            # Others have a turn between two orders: what comes and goes meanwhile is not held up,
            # above all the fetch of the next batch.
            await asyncio.sleep(0)
            if index in lacking:
                continue
            model, summary = models[index], answer.summary
            if index in shown:
                relations = (
                    (calls[index].order.linked[at].relation, pd) for at, pd in shown[index].items()
                )
                summary = replace(summary, linked=worst(relations))
            try:
                vector = model.features(summary, answer.as_of, _declared(calls[index].order))
            except Exception as error:  # noqa: BLE001 - one firm's data must not fail the others
                lacking[index] = error
                continue
            fresh.setdefault(model, []).append((index, vector))
            read[index] = summary
        made: dict[int, Decision] = {}
        for model, rows in fresh.items():
            outcomes = await _outcomes(model, [vector for _, vector in rows])
            for (index, vector), outcome in zip(rows, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    lacking[index] = outcome
                    continue
                summary, as_of = released[index].summary, released[index].as_of
                answered = claimed(outcome, model.model_class)
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
                    outcome=answered,
                    disputes=released[index].disputes,
                    sources=_sources(summary),
                    linked=_entered(
                        calls[index].order.linked, released[index].linked, shown.get(index, {})
                    ),
                    said=answered.said(),
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
        if self._observe is not None:
            self._observe([(each, read[at]) for at, each in made.items() if results[at] is each])

    async def read(self, decision_id: str, use: Use, caller: Caller) -> Reading:
        """Return a stored decision and whether its model gives the same outcome again.

        Raises:
            PermissionDeniedError: ROLE_NOT_ALLOWED, the use is not the caller's.
            NotFoundError: NOT_FOUND.
        """
        decision = await self._looked_up(decision_id, use, caller)
        again = await self._again(decision)
        if isinstance(again, str):
            return Reading(decision, again)
        return Reading(decision, difference(decision.outcome, again))

    async def replay(self, decision_id: str, use: Use, caller: Caller) -> Replay:
        """Return the bytes of what a model said, and of what it says now of the stored inputs.

        Raises:
            PermissionDeniedError: ROLE_NOT_ALLOWED, the use is not the caller's.
            NotFoundError: NOT_FOUND.
        """
        decision = await self._looked_up(decision_id, use, caller)
        again = await self._again(decision)
        stored = decision.answered
        if isinstance(again, str):
            return Replay(decision, stored.whole, b"", again)
        again, remark = comparable(decision.outcome, again)
        said, differing = again.said(), difference(decision.outcome, again)
        if said != stored and not differing:
            differing = "the model gives the same result in other words now"
        remarks = "; ".join(part for part in (differing, remark) if part)
        return Replay(decision, stored.whole, said.whole, remarks)

    async def improvements(self, decision_id: str, caller: Caller) -> Improvements:
        """Return what reaches the next grade by the decision's model.

        Raises:
            NotFoundError: NOT_FOUND; or MODEL_NOT_FOUND, the model's folder is gone.
            FailedPreconditionError: MODEL_NOT_FOUND, it reads other features by now.
        """
        decision = await self._looked_up(decision_id, Use.EXPLANATION, caller)
        model = await self._models.recall(decision.model_version)
        if not model.inputs.same_as(decision.inputs):
            raise FailedPreconditionError(
                "MODEL_NOT_FOUND", "the features have changed since: score the firm again"
            )
        return await asyncio.to_thread(model.improvements, decision.features)

    async def _looked_up(self, decision_id: str, use: Use, caller: Caller) -> Decision:
        """Return a decision to who may read it for a use, which is recorded."""
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
        return decision

    async def _again(self, decision: Decision) -> Outcome | str:
        """Return what the model says now of a decision's inputs, or why it cannot say it."""
        try:
            model = await self._models.recall(decision.model_version)
        except NotFoundError:
            return "the model's folder is gone or cannot be served any more"
        if not model.inputs.same_as(decision.inputs):
            return "the features have changed since"
        [again] = await _outcomes(model, [decision.features])
        if isinstance(again, Exception):
            return "the model cannot compute it any more"
        return claimed(again, decision.model_class)

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
                vector = models[index].features(other.summary, other.as_of, {})
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
                shown[index][at] = Coverage.NOT_SUPPLIED if outcome.pd is None else outcome.pd
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


def _declared(order: Order) -> Mapping[str, float | str]:
    return {each.name: each.value for each in order.declared}


def _key(call: OrderCall) -> tuple[str, str]:
    return call.caller.participant_id, call.order.request_id


async def _outcomes(
    model: Model, vectors: Sequence[FeatureVector]
) -> Sequence[Outcome | Exception]:
    """Return what a model says of each; one that it fails on does not touch the others."""
    try:
        return model.score(vectors)
    except Exception as error:  # noqa: BLE001 - found out one by one below
        if len(vectors) == 1:
            return [error]
    return [(await _outcomes(model, [vector]))[0] for vector in vectors]
