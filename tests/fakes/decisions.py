"""Fakes of the ports of decisions: a store in memory, models that add, a datashare that answers."""

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from services.kit.errors import NotFoundError, PuhuiError
from services.scoring.decisions.app import Model, OrderCall, Released
from services.scoring.decisions.domain import (
    Decision,
    DisputeMark,
    Inputs,
    Interval,
    Outcome,
    Read,
    Reason,
)
from services.scoring.features.domain import Coverage, FeatureVector, FirmSummary, Relation
from services.scoring.models.domain import Words
from services.scoring.models.improvements import Improvements
from services.scoring.products.domain import Asked
from services.scoring.registry.domain import Stop

INPUTS = Inputs(1, ("sold", "headcount"), ("log_cny", "count"))


class FakeDecisions:
    """`app.Decisions` in memory."""

    def __init__(self) -> None:
        self.made: dict[str, Decision] = {}
        self.requests: dict[tuple[str, str], str] = {}
        self.reads: list[Read] = []

    async def by_request(
        self, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Decision]:
        return {key: self.made[self.requests[key]] for key in keys if key in self.requests}

    async def add(self, decisions: Sequence[Decision]) -> Mapping[tuple[str, str], Decision]:
        for made in decisions:
            if self.requests.setdefault(made.key, made.decision_id) == made.decision_id:
                self.made[made.decision_id] = made
        return await self.by_request([made.key for made in decisions])

    async def get(self, decision_id: str) -> Decision | None:
        return self.made.get(decision_id)

    async def page(
        self, *, caller_id: str | None, subject_id: str | None, before: str | None, limit: int
    ) -> list[Decision]:
        found = [
            made
            for made in self.made.values()
            if caller_id in (None, made.caller_id)
            and subject_id in (None, made.order.subject_id)
            and (before is None or made.decision_id < before)
        ]
        return sorted(found, key=lambda made: made.decision_id, reverse=True)[:limit]

    async def add_read(self, read: Read) -> None:
        self.reads.append(read)


class FakeWork:
    """Transactions that take effect at once."""

    def __init__(self) -> None:
        self.decisions = FakeDecisions()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[FakeDecisions]:
        yield self.decisions

    @asynccontextmanager
    async def read(self) -> AsyncIterator[FakeDecisions]:
        yield self.decisions


@dataclass(frozen=True)
class AddingModel:
    """PD is the sum of the features that are there, capped at 1.

    Args:
        version: its version.
        model_class: how much its PD may be believed.
        inputs: what its features are.
        words: of its reason.
        chokes_on: a sum of sales that it cannot compute with.
        cannot_score: a PD that it cannot score.
        shift: of the PD.
        relations: whose PD it adds to its own, halved; nobody named counts as 1.
        asks: declared inputs, which it adds as well.
        interval: of every PD.
        refer: nothing of it may be gone by.
        catalogue: version of its words.
        scored: how many were scored in each pass.
    """

    version: str
    model_class: str = "SIMULATED"
    inputs: Inputs = INPUTS
    words: str = "low sales"
    chokes_on: float | None = None
    cannot_score: float | None = None
    shift: float = 0.0
    relations: frozenset[Relation] = frozenset()
    asks: Mapping[str, Asked] = field(default_factory=dict, compare=False)
    interval: Interval | None = None
    refer: bool = False
    catalogue: int = 1
    scored: list[int] = field(default_factory=list, compare=False)

    def features(
        self,
        summary: FirmSummary,
        as_of: datetime,
        declared: Mapping[str, float | str] = MappingProxyType({}),
    ) -> FeatureVector:
        said = [float(declared.get(name, math.nan)) for name in self.asks]
        sold = sum(sum(series.columns.get("output_net", ())) / 1e4 for series in summary.series)
        if sold == self.chokes_on:
            raise ZeroDivisionError
        linked = [summary.linked.get(relation, 1.0) for relation in sorted(self.relations)]
        shown = [1.0 if isinstance(pd, Coverage) else pd for pd in linked]
        return FeatureVector(
            (sold, math.nan, *(pd / 2 for pd in shown), *said),
            (None, Coverage.NOT_SUPPLIED, *(None for _ in (*shown, *said))),
        )

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        self.scored.append(len(vectors))
        return [self._outcome(vector) for vector in vectors]

    def _outcome(self, vector: FeatureVector) -> Outcome:
        there = [value for value in vector.values if not math.isnan(value)]
        pd = min(1.0, sum(there) + self.shift)
        if pd == self.cannot_score:
            raise ZeroDivisionError
        points = -100 * pd
        reason = Reason("SALES_LOW", points, "销售偏低", self.words, ("sold",))
        return Outcome(
            pd,
            math.floor(600 + points + 0.5),
            "B",
            600.0,
            {"sales": points},
            (reason,),
            self.interval,
            self.refer,
            self.catalogue,
        )

    def improvements(self, vector: FeatureVector) -> Improvements:
        return Improvements((), Words("已是最高等级", "The grade is the best there is"))


@dataclass
class FakeModels:
    """`app.Models` from a dictionary."""

    loaded: dict[str, Model]
    in_service: str | None
    stop: Stop | None = None

    async def get(self, version: str | None) -> Model | Stop:
        return self.stop or await self.recall(version or self.in_service or "")

    async def recall(self, version: str) -> Model:
        model = self.loaded.get(version)
        if model is None:
            raise NotFoundError("MODEL_NOT_FOUND", "no such model")
        return model


@dataclass
class FakeSummaries:
    """`app.Summaries`: what it releases or refuses, by subject."""

    answers: dict[str, FirmSummary | PuhuiError]
    as_of: datetime
    fetched: list[list[OrderCall]] = field(default_factory=list)
    disputes: dict[str, tuple[DisputeMark, ...]] = field(default_factory=dict)

    async def fetch(
        self, calls: Sequence[OrderCall], answered: Callable[[], None] | None = None
    ) -> list[Released | PuhuiError]:
        self.fetched.append(list(calls))
        if answered is not None:
            answered()
        return [self._answer(call) for call in calls]

    def _answer(self, call: OrderCall) -> Released | PuhuiError:
        answer = self.answers[call.order.subject_id]
        if isinstance(answer, PuhuiError):
            return answer
        linked = {}
        for at, each in enumerate(call.order.linked):
            if each.relation in call.relations:
                other = self.answers[each.subject_id]
                if isinstance(other, PuhuiError):
                    return other
                linked[at] = Released(
                    f"acc_{call.order.request_id}_{each.subject_id}",
                    self.as_of,
                    other,
                    self.disputes.get(each.subject_id, ()),
                )
        return Released(
            f"acc_{call.order.request_id}",
            self.as_of,
            answer,
            self.disputes.get(call.order.subject_id, ()),
            linked,
        )
