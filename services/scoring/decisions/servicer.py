"""ScoringService and DecisionService on the wire.

A decision is told by the names that are stored with it, not by those that this release computes.
The firm that it is about is told of linked subjects what they are to it and the points of their
group, nothing else: who they are and all of their data they opened to the bank alone.
Each part of a portfolio is a fetch of its own, whose consents are checked when it begins: a
withdrawal that comes while results stream stops them before the next part.
"""

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from functools import lru_cache
from typing import Any, Final

import structlog

from puhui.datashare.v1 import disputes_pb2, summaries_pb2
from puhui.scoring.v1 import decisions_pb2, decisions_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from services.kit.calls import current_call, current_deadline
from services.kit.coalesce import StagedCoalescer
from services.kit.errors import InternalError, PuhuiError, UnavailableError
from services.kit.identity import IDENTITY_METADATA, Caller, current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size
from services.kit.status import status_of
from services.kit.telemetry import current_traceparent
from services.scoring.decisions.app import OrderCall, Scoring
from services.scoring.decisions.domain import (
    EXPERT,
    Decision,
    DisputeMark,
    Entered,
    Inputs,
    Linked,
    NoticeCode,
    Order,
    Referred,
    Use,
)
from services.scoring.decisions.referrals import STOPPED, THIN_FILE, referral
from services.scoring.features.domain import Coverage, Relation
from services.scoring.features.linked import RELATION_OF
from services.scoring.products.domain import Declared
from services.scoring.reevaluations.app import DisputedSince, ListReevaluations
from services.scoring.reevaluations.domain import Reevaluation

_log = structlog.get_logger()
_MAX_BATCH = 64
_BATCHES = 3
STREAM_LIMIT: Final = 25.0
"""Seconds after which a batch starts no further part: the caller's assertion, which datashare
checks with each order, may live no longer than 30 when a call begins."""

_NOTICES: Final[Mapping[NoticeCode, tuple[str, str]]] = {
    NoticeCode.MODEL_SIMULATED: (
        "本模型以模拟数据训练, 仅供试用, 不得用于授信决定。",
        "Trained on simulated data: for trying out only, not for credit decisions.",
    ),
    NoticeCode.MODEL_UNVALIDATED: (
        "本模型以真实结果训练, 但未经独立验证, 不得单独作为授信依据。",
        "Trained on real outcomes, but not validated independently: do not decide by it alone.",
    ),
    NoticeCode.MODEL_EXPERT: (
        "本模型是依据专家判断制定的评分卡, 未以违约结果训练: 分数与等级仅供排序, 不代表违约概率。",
        "Built by judgement and not trained on outcomes: its points and grades rank firms and are "
        "no probability of default.",
    ),
    NoticeCode.DATA_SIMULATED: (
        "本次评分所用的部分数据来自模拟数据源, 不代表真实企业。",
        "Some of the data comes from a simulated source: it says nothing about a real firm.",
    ),
    NoticeCode.DATA_WITHHELD: (
        "当时已知的部分数据因信用修复、保存期限届满或删除而不再使用, 未计入本次评分; "
        "此项本身不表示任何负面信息。",
        "Some data known at that time is no longer used, because it was repaired, ran out or was "
        "erased: it is not in this score, and that it was says nothing against the firm.",
    ),
    NoticeCode.DISPUTED_DATA: (
        "本次评分所用的部分记录存在异议, 或异议经核查未能证实; 请结合企业的说明人工判断, "
        "记录更正后应重新评分。",
        "Some of the records in this score are in dispute, or their dispute ended without proof: "
        "read the firm's statement, judge by hand, and score again once they are corrected.",
    ),
}
_DISPUTED_SINCE: Final = scoring_pb2.Notice(
    code="DISPUTED_SINCE",
    text_zh="本次评分作出之后, 其所用类别的记录被提出异议; 重新评分可了解现状。",
    text_en="Records of a kind that is in this score have come to be in dispute since it was made: "
    "score again to see how they stand.",
)
_DOUBLE: Final = struct.Struct("<d")
_RELATION: Final = "SUBJECT_RELATION_"
_RAISES: Final = scoring_pb2.REASON_DIRECTION_RAISES_SCORE
_LOWERS: Final = scoring_pb2.REASON_DIRECTION_LOWERS_SCORE
_COVERAGE = {
    state: summaries_pb2.CoverageState.Value(f"COVERAGE_STATE_{state}")
    for state in ("SUPPLIED", "NOT_CONSENTED", "NOT_SUPPLIED", "NONE_EXISTS")
}


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """Scores; orders that wait together are decided together.

    Args:
        scoring: the use cases.
        stream_limit: seconds after which a batch starts no further part.
    """

    def __init__(self, scoring: Scoring, *, stream_limit: float = STREAM_LIMIT) -> None:
        self._scoring = scoring
        self._stream_limit = stream_limit
        # While datashare works for one batch, this service computes for the one before.
        self._coalescer: StagedCoalescer[OrderCall, Decision | Referred] = StagedCoalescer(
            scoring.score, max_batch=_MAX_BATCH, batches=_BATCHES
        )

    async def Score(
        self, request: scoring_pb2.ScoreRequest, context: Any
    ) -> scoring_pb2.ScoreResponse:
        call = call_of(request.order)
        result = await self._coalescer.submit(call, call.deadline)
        if isinstance(result, Referred):
            return scoring_pb2.ScoreResponse(referral=referral(STOPPED, result.since))
        return scoring_pb2.ScoreResponse(decision=decision_to_proto(result))

    async def BatchScore(
        self, request: scoring_pb2.BatchScoreRequest, context: Any
    ) -> AsyncIterator[scoring_pb2.BatchScoreResponse]:
        calls = [call_of(order) for order in request.orders]
        loop = asyncio.get_running_loop()
        until = loop.time() + self._stream_limit
        for start in range(0, len(calls), _MAX_BATCH):
            if start and loop.time() >= until:
                raise UnavailableError(
                    "UNAVAILABLE",
                    "the call has lasted as long as it may: send what has no result again, with "
                    "the same request_ids",
                )
            results = await self._scoring.score(calls[start : start + _MAX_BATCH])
            for index, result in enumerate(results, start):
                if isinstance(result, Decision):
                    yield scoring_pb2.BatchScoreResponse(
                        index=index, decision=decision_to_proto(result)
                    )
                elif isinstance(result, Referred):
                    stopped = referral(STOPPED, result.since)
                    yield scoring_pb2.BatchScoreResponse(index=index, referral=stopped)
                else:
                    refused = status_of(_told(result))
                    yield scoring_pb2.BatchScoreResponse(index=index, refused=refused)


class DecisionServicer(decisions_pb2_grpc.DecisionServiceServicer):
    """Reads stored decisions.

    Args:
        scoring: the use cases.
        reevaluations: the use case of listing what is to be decided again.
        disputed_since: the use case of finding what came to be disputed.
    """

    def __init__(
        self, scoring: Scoring, reevaluations: ListReevaluations, disputed_since: DisputedSince
    ) -> None:
        self._scoring = scoring
        self._reevaluations = reevaluations
        self._disputed_since = disputed_since

    async def GetDecision(
        self, request: decisions_pb2.GetDecisionRequest, context: Any
    ) -> decisions_pb2.GetDecisionResponse:
        use = Use(decisions_pb2.DecisionUse.Name(request.use).removeprefix("DECISION_USE_"))
        caller = current_caller()
        reading = await self._scoring.read(request.decision_id, use, caller)
        decision, outcome = reading.decision, reading.decision.outcome
        hidden = _hidden(decision, caller)
        message = decision_to_proto(decision, hidden)
        await self._tell_since(caller, [decision], [message])
        return decisions_pb2.GetDecisionResponse(
            decision=message,
            features=_features(decision, range(len(decision.inputs.names)), hidden),
            groups=[
                decisions_pb2.GroupPoints(group=group, points=points)
                for group, points in outcome.group_points.items()
            ],
            base_points=outcome.base_points,
            reproduced=not reading.remark,
            remark=reading.remark,
        )

    async def ReplayDecision(
        self, request: decisions_pb2.ReplayDecisionRequest, context: Any
    ) -> decisions_pb2.ReplayDecisionResponse:
        use = Use(decisions_pb2.DecisionUse.Name(request.use).removeprefix("DECISION_USE_"))
        replay = await self._scoring.replay(request.decision_id, use, current_caller())
        return decisions_pb2.ReplayDecisionResponse(
            decision_id=request.decision_id,
            model=_model(replay.decision),
            stored=replay.stored,
            again=replay.again,
            same=replay.stored == replay.again,
            remark=replay.remark,
        )

    async def GetImprovements(
        self, request: decisions_pb2.GetImprovementsRequest, context: Any
    ) -> decisions_pb2.GetImprovementsResponse:
        found = await self._scoring.improvements(request.decision_id, current_caller())
        return decisions_pb2.GetImprovementsResponse(
            counterfactuals=[
                decisions_pb2.Counterfactual(
                    grade=each.grade,
                    score=each.score,
                    changes=[
                        decisions_pb2.FeatureChange(
                            **{"from": change.shift.before},
                            feature=change.shift.feature,
                            to=change.shift.after,
                            unit=change.shift.unit,
                            text_zh=change.zh,
                            text_en=change.en,
                            months=change.months,
                            along=[
                                decisions_pb2.FeatureShift(
                                    **{"from": shift.before},
                                    feature=shift.feature,
                                    to=shift.after,
                                    unit=shift.unit,
                                )
                                for shift in change.along
                            ],
                        )
                        for change in each.changes
                    ],
                )
                for each in found.counterfactuals
            ],
            remark="" if found.remark is None else f"{found.remark.zh}。{found.remark.en}.",
            consents=[
                decisions_pb2.ConsentOption(text_zh=words.zh, text_en=words.en)
                for words in found.consents
            ],
        )

    async def ListDecisions(
        self, request: decisions_pb2.ListDecisionsRequest, context: Any
    ) -> decisions_pb2.ListDecisionsResponse:
        caller, limit = current_caller(), page_size(request.page_size)
        bound = ("decisions", caller.participant_id, request.subject_id)
        after = decode_page_token(request.page_token, bound, (str,))
        page = await self._scoring.page(
            caller, request.subject_id or None, str(after[0]) if after else None, limit + 1
        )
        more = len(page) > limit
        heads = [_head(decision, _hidden(decision, caller)) for decision in page[:limit]]
        await self._tell_since(caller, page[:limit], heads)
        return decisions_pb2.ListDecisionsResponse(
            decisions=heads,
            next_page_token=encode_page_token((page[limit - 1].decision_id,), bound)
            if more
            else "",
        )

    async def ListReevaluations(
        self, request: decisions_pb2.ListReevaluationsRequest, context: Any
    ) -> decisions_pb2.ListReevaluationsResponse:
        caller = current_caller()
        bound = ("reevaluations", caller.participant_id)
        after = decode_page_token(request.page_token, bound, (str,))
        page, behind = await self._reevaluations(
            caller, str(after[0]) if after else "", page_size(request.page_size)
        )
        due = [_reevaluation(each) for each in page]
        await self._tell_since(
            caller, [each.decision for each in page], [each.decision for each in due]
        )
        return decisions_pb2.ListReevaluationsResponse(
            reevaluations=due,
            next_page_token=encode_page_token((behind,), bound) if behind else "",
        )

    async def _tell_since(
        self,
        reader: Caller,
        decisions: Sequence[Decision],
        messages: Sequence[scoring_pb2.Decision],
    ) -> None:
        """Say in the messages of decisions which have come to rest on disputed records."""
        if reader.role == "FIRM":  # which is told nothing of linked subjects
            decisions = [replace(decision, linked=()) for decision in decisions]
        since = await self._disputed_since(decisions)
        for message in messages:
            if message.decision_id in since:
                message.notices.append(_DISPUTED_SINCE)


def _reevaluation(due: Reevaluation) -> decisions_pb2.Reevaluation:
    message = decisions_pb2.Reevaluation(
        decision=_head(due.decision), cause=due.cause, dispute_id=due.dispute_id
    )
    message.due_since.FromDatetime(due.due_since)
    return message


def call_of(order: scoring_pb2.ScoreOrder) -> OrderCall:
    """Return an order of the call that runs."""
    return OrderCall(
        order=Order(
            request_id=order.request_id,
            subject_id=order.subject_id,
            consent_id=order.consent_id,
            purpose=order.purpose,
            as_of=order.as_of.ToDatetime(tzinfo=UTC) if order.HasField("as_of") else None,
            model_version=order.model_version or None,
            officer=order.officer.name,
            file_reference=order.officer.file_reference,
            linked=tuple(
                Linked(
                    Relation(
                        scoring_pb2.SubjectRelation.Name(each.relation).removeprefix(_RELATION)
                    ),
                    each.subject_id,
                    each.consent_id,
                )
                for each in order.linked
            ),
            product=order.product,
            declared=tuple(
                Declared(each.name, getattr(each, each.WhichOneof("value") or ""))
                for each in order.declared
            ),
        ),
        caller=current_caller(),
        identity=current_call().metadata[IDENTITY_METADATA],
        deadline=current_deadline(),
        traceparent=current_traceparent(),
        automated_decision=order.automated_decision,
    )


def _told(error: Exception) -> PuhuiError:
    if isinstance(error, PuhuiError):
        return error
    _log.error("order failed", exc_info=error)
    return InternalError("INTERNAL", "a fault of ours: report the trace id")


def _hidden(decision: Decision, reader: Caller) -> frozenset[Relation]:
    """Return the relations of whose subjects a reader sees that they are there, and no more.

    They consented to the bank; the firm that the decision is about is another one.
    """
    if reader.role != "FIRM":
        return frozenset()
    return frozenset(entered.linked.relation for entered in decision.linked)


def decision_to_proto(
    decision: Decision, hidden: Collection[Relation] = ()
) -> scoring_pb2.Decision:
    """Return a decision as it is answered.

    Args:
        decision: as it was made.
        hidden: relations of whose subjects no more is told than that they are there.
    """
    message = _head(decision, hidden, words=True)
    index = _places(decision.inputs)
    for reason in decision.outcome.reasons:
        told = message.reasons.add(
            code=reason.code,
            points=reason.points,
            text_zh=reason.text_zh,
            text_en=reason.text_en,
            direction=_RAISES if reason.raises else _LOWERS,
            improve_zh=reason.improve_zh,
            improve_en=reason.improve_en,
        )
        told.MergeFromString(
            _of_reason(decision, [index[name] for name in reason.features], hidden)
        )
    base, points = decision.outcome.whole_points()
    titles = _titles(decision.inputs)
    message.base = base
    # Serialised messages one after the other are one message.
    said = [
        _points(group, each, *titles.get(group, (group, group))) for group, each in points.items()
    ]
    said.append(_coverage(tuple(decision.coverage.items())))
    message.MergeFromString(b"".join(said))
    message.declared.extend(map(_declared, decision.order.declared))
    message.outcome_sha256 = decision.answered.sha256
    return message


def _mark(mark: DisputeMark, *, words: bool) -> summaries_pb2.DisputeMark:
    return summaries_pb2.DisputeMark(
        dispute_id=mark.dispute_id,
        record_type=mark.record_type,
        provider_id=mark.provider_id,
        month=mark.month,
        field=mark.field,
        state=disputes_pb2.DisputeState.Value(f"DISPUTE_STATE_{mark.state}"),
        statement=mark.statement if words else "",
    )


@lru_cache(16_384)
def _points(group: str, points: int, zh: str, en: str) -> bytes:
    """Return the points of a group in a decision, serialised: there are few numbers of each."""
    score = scoring_pb2.GroupScore(group=group, points=points, title_zh=zh, title_en=en)
    return scoring_pb2.Decision(points=[score]).SerializeToString()


@lru_cache(1024)
def _coverage(states: tuple[tuple[str, Coverage], ...]) -> bytes:
    """Return the coverage of a decision, serialised: most firms have one of few."""
    message = scoring_pb2.Decision()
    for name, state in states:
        message.coverage.add(record_type=name, state=_COVERAGE[state])
    return message.SerializeToString()


def _linked(
    entered: Entered, hidden: Collection[Relation], *, words: bool, claims_pd: bool
) -> scoring_pb2.LinkedAccess:
    linked = entered.linked
    message = scoring_pb2.LinkedAccess(
        relation=scoring_pb2.SubjectRelation.Value(f"{_RELATION}{linked.relation}")
    )
    if linked.relation not in hidden:
        message.subject_id = linked.subject_id
        message.consent_id = linked.consent_id
        message.access_id = entered.access_id
        if entered.pd is not None and claims_pd:
            message.pd = entered.pd
        for name, state in entered.coverage.items():
            message.coverage.add(record_type=name, state=_COVERAGE[state])
        message.disputes.extend(_mark(mark, words=words) for mark in entered.disputes)
    return message


def _head(
    decision: Decision, hidden: Collection[Relation] = (), *, words: bool = False
) -> scoring_pb2.Decision:
    """A decision without what was read of the firm, and without its words unless they are asked."""
    order, outcome = decision.order, decision.outcome
    message = scoring_pb2.Decision(
        decision_id=decision.decision_id,
        subject_id=order.subject_id,
        access_id=decision.access_id,
        consent_id=order.consent_id,
        purpose=order.purpose,
        model=_model(decision),
        pd=outcome.pd,
        score=outcome.score,
        grade=outcome.grade,
        notices=[
            scoring_pb2.Notice(code=code, text_zh=_NOTICES[code][0], text_en=_NOTICES[code][1])
            for code in (decision.notices if hidden else decision.all_notices)
        ],
        disputes=[_mark(mark, words=words) for mark in decision.disputes],
        linked=[
            _linked(entered, hidden, words=words, claims_pd=decision.model_class != EXPERT)
            for entered in decision.linked
        ],
        product=order.product,
    )
    if outcome.interval is not None:
        within = outcome.interval
        message.interval.low, message.interval.high = within.low, within.high
        message.interval.method = within.method
    if outcome.refer:
        message.referral.CopyFrom(referral(THIN_FILE))
    message.decided_at.FromDatetime(decision.decided_at)
    message.as_of.FromDatetime(decision.as_of)
    return message


def _model(decision: Decision) -> scoring_pb2.ModelRef:
    return scoring_pb2.ModelRef(
        version=decision.model_version,
        model_class=scoring_pb2.ModelClass.Value(f"MODEL_CLASS_{decision.model_class}"),
    )


def _declared(declared: Declared) -> scoring_pb2.DeclaredFeature:
    if isinstance(declared.value, str):
        return scoring_pb2.DeclaredFeature(name=declared.name, category=declared.value)
    return scoring_pb2.DeclaredFeature(name=declared.name, number=declared.value)


def _features(
    decision: Decision, indices: Iterable[int], hidden: Collection[Relation] = ()
) -> Sequence[scoring_pb2.FeatureValue]:
    return scoring_pb2.Reason.FromString(_of_reason(decision, indices, hidden)).features


def _of_reason(
    decision: Decision, indices: Iterable[int], hidden: Collection[Relation] = ()
) -> bytes:
    """Return features of a decision as a part of a reason, serialised."""
    inputs, vector, parts = decision.inputs, decision.features, []
    for index in indices:
        name, unit = inputs.names[index], inputs.units[index]
        value = vector.values[index]
        if hidden and RELATION_OF.get(name) in hidden:
            parts.append(_hidden_feature(name, unit))
        elif not math.isnan(value):
            before, after = _around(name, unit)
            parts += (before, _DOUBLE.pack(value), after)
        else:
            parts.append(_missing_feature(name, unit, vector.missing[index]))
    return b"".join(parts)


@lru_cache(4096)
def _around(name: str, unit: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the value of a feature in a serialised reason."""
    mark = -1.2345678901234567e-89
    feature = scoring_pb2.FeatureValue(name=name, unit=unit, value=mark)
    whole = scoring_pb2.Reason(features=[feature]).SerializeToString()
    before, _, after = whole.partition(_DOUBLE.pack(mark))
    return before, after


@lru_cache(4096)
def _missing_feature(name: str, unit: str, missing: Coverage | None) -> bytes:
    feature = scoring_pb2.FeatureValue(name=name, unit=unit)
    if missing is not None:
        feature.missing = _COVERAGE[missing]
    return scoring_pb2.Reason(features=[feature]).SerializeToString()


@lru_cache(64)
def _hidden_feature(name: str, unit: str) -> bytes:
    feature = scoring_pb2.FeatureValue(name=name, unit=unit, hidden=True)
    return scoring_pb2.Reason(features=[feature]).SerializeToString()


@lru_cache(64)
def _places(inputs: Inputs) -> Mapping[str, int]:
    return {name: at for at, name in enumerate(inputs.names)}


@lru_cache(64)
def _titles(inputs: Inputs) -> Mapping[str, tuple[str, str]]:
    return {group: (zh, en) for group, zh, en in inputs.titles}
