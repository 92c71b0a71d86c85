"""ScoringService and DecisionService on the wire."""

import math
from collections.abc import AsyncIterator, Iterable
from datetime import UTC
from typing import Any

from puhui.datashare.v1 import summaries_pb2
from puhui.scoring.v1 import decisions_pb2, decisions_pb2_grpc, scoring_pb2, scoring_pb2_grpc
from services.kit.calls import current_deadline, current_metadata
from services.kit.coalesce import Coalescer
from services.kit.errors import PuhuiError
from services.kit.identity import IDENTITY_METADATA, current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size
from services.kit.status import status_of
from services.kit.telemetry import current_traceparent
from services.scoring.decisions.app import OrderCall, Scoring
from services.scoring.decisions.domain import SIMULATED, Decision, Order
from services.scoring.features.domain import FeatureVector
from services.scoring.features.registry import FEATURES

_MAX_BATCH = 64
_WORKERS = 2
_SIMULATED_NOTICE = scoring_pb2.Notice(
    code="MODEL_SIMULATED",
    text_zh="本模型以模拟数据训练, 仅供试用, 不得用于授信决定。",
    text_en="Trained on simulated data: for trying out only, not for credit decisions.",
)
_COVERAGE = {
    state: summaries_pb2.CoverageState.Value(f"COVERAGE_STATE_{state}")
    for state in ("SUPPLIED", "NOT_CONSENTED", "NOT_SUPPLIED", "NONE_EXISTS")
}
_INDEX = {feature.name: index for index, feature in enumerate(FEATURES)}


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """Scores; orders that wait together are decided together.

    Args:
        scoring: the use cases.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._coalescer: Coalescer[OrderCall, Decision] = Coalescer(
            scoring.score, max_batch=_MAX_BATCH, workers=_WORKERS
        )

    async def Score(
        self, request: scoring_pb2.ScoreRequest, context: Any
    ) -> scoring_pb2.ScoreResponse:
        call = _call(request.order)
        decision = await self._coalescer.submit(call, call.deadline)
        return scoring_pb2.ScoreResponse(decision=decision_to_proto(decision))

    async def BatchScore(
        self, request: scoring_pb2.BatchScoreRequest, context: Any
    ) -> AsyncIterator[scoring_pb2.BatchScoreResponse]:
        calls = [_call(order) for order in request.orders]
        for start in range(0, len(calls), _MAX_BATCH):
            results = await self._scoring.score(calls[start : start + _MAX_BATCH])
            for index, result in enumerate(results, start):
                if isinstance(result, Decision):
                    yield scoring_pb2.BatchScoreResponse(
                        index=index, decision=decision_to_proto(result)
                    )
                elif isinstance(result, PuhuiError):
                    yield scoring_pb2.BatchScoreResponse(index=index, refused=status_of(result))
                else:
                    raise result


class DecisionServicer(decisions_pb2_grpc.DecisionServiceServicer):
    """Reads stored decisions.

    Args:
        scoring: the use cases.
    """

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    async def GetDecision(
        self, request: decisions_pb2.GetDecisionRequest, context: Any
    ) -> decisions_pb2.GetDecisionResponse:
        decision, reproduced = await self._scoring.reproduce(request.decision_id, current_caller())
        outcome = decision.outcome
        return decisions_pb2.GetDecisionResponse(
            decision=decision_to_proto(decision),
            features=_features(decision.features, range(len(FEATURES))),
            groups=[
                decisions_pb2.GroupPoints(group=group, points=points)
                for group, points in outcome.group_points.items()
            ],
            base_points=outcome.base_points,
            reproduced=reproduced,
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
        return decisions_pb2.ListDecisionsResponse(
            decisions=[decision_to_proto(decision) for decision in page[:limit]],
            next_page_token=encode_page_token((page[limit - 1].decision_id,), bound)
            if more
            else "",
        )


def _call(order: scoring_pb2.ScoreOrder) -> OrderCall:
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
        ),
        caller=current_caller(),
        identity=current_metadata()[IDENTITY_METADATA],
        deadline=current_deadline(),
        traceparent=current_traceparent(),
    )


def decision_to_proto(decision: Decision) -> scoring_pb2.Decision:
    """Return a decision as it is answered."""
    order, outcome = decision.order, decision.outcome
    message = scoring_pb2.Decision(
        decision_id=decision.decision_id,
        subject_id=order.subject_id,
        access_id=decision.access_id,
        consent_id=order.consent_id,
        purpose=order.purpose,
        model=scoring_pb2.ModelRef(
            version=decision.model_version,
            model_class=scoring_pb2.ModelClass.Value(f"MODEL_CLASS_{decision.model_class}"),
        ),
        pd=outcome.pd,
        score=outcome.score,
        grade=outcome.grade,
        reasons=[
            scoring_pb2.Reason(
                code=reason.code,
                points=reason.points,
                text_zh=reason.text_zh,
                text_en=reason.text_en,
                features=_features(decision.features, (_INDEX[name] for name in reason.features)),
            )
            for reason in outcome.reasons
        ],
        coverage=[
            summaries_pb2.Coverage(record_type=name, state=_COVERAGE[state])
            for name, state in decision.coverage.items()
        ],
    )
    message.decided_at.FromDatetime(decision.decided_at)
    message.as_of.FromDatetime(decision.as_of)
    if decision.model_class == SIMULATED:
        message.notices.append(_SIMULATED_NOTICE)
    return message


def _features(vector: FeatureVector, indices: Iterable[int]) -> list[scoring_pb2.FeatureValue]:
    values = []
    for index in indices:
        feature, value = FEATURES[index], vector.values[index]
        message = scoring_pb2.FeatureValue(name=feature.name, unit=feature.unit)
        missing = vector.missing[index]
        if not math.isnan(value):
            message.value = value
        elif missing is not None:
            message.missing = _COVERAGE[missing]
        values.append(message)
    return values
