"""RetentionService over gRPC."""

from collections.abc import Sequence

import grpc

from puhui.datashare.v1 import retention_pb2 as pb
from puhui.datashare.v1 import retention_pb2_grpc
from services.datashare.idempotency.servicer import key_of
from services.datashare.retention.app import EraseSubject, Retention
from services.datashare.retention.domain import Due, Run
from services.datashare.times import stamp_of
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_RUNS = ("retention_runs",)

_Context = grpc.aio.ServicerContext[object, object]


class RetentionServicer(retention_pb2_grpc.RetentionServiceServicer):
    """Translates RetentionService.

    Args:
        retention: the job.
        erase: the use case of erasing.
    """

    def __init__(self, retention: Retention, erase: EraseSubject) -> None:
        self._retention = retention
        self._erase = erase

    async def PlanRetention(
        self, request: pb.PlanRetentionRequest, context: _Context
    ) -> pb.PlanRetentionResponse:
        plan = await self._retention.plan()
        return pb.PlanRetentionResponse(
            plan_id=plan.plan_id, due=_due(plan.due), planned_at=stamp_of(plan.planned_at)
        )

    async def RunRetention(
        self, request: pb.RunRetentionRequest, context: _Context
    ) -> pb.RunRetentionResponse:
        key = key_of(current_caller(), request.request_id, request)
        return pb.RunRetentionResponse(run=_run(await self._retention.run(key, request.plan_id)))

    async def ListRetentionRuns(
        self, request: pb.ListRetentionRunsRequest, context: _Context
    ) -> pb.ListRetentionRunsResponse:
        position = decode_page_token(request.page_token, _RUNS, (str,))
        before = str(position[0]) if position else ""
        runs, next_before = await self._retention.runs(before, page_size(request.page_size))
        return pb.ListRetentionRunsResponse(
            runs=map(_run, runs),
            next_page_token=encode_page_token((next_before,), _RUNS) if next_before else "",
        )

    async def EraseSubject(
        self, request: pb.EraseSubjectRequest, context: _Context
    ) -> pb.EraseSubjectResponse:
        if not request.confirm:
            return pb.EraseSubjectResponse(due=_due(await self._erase.plan(request.subject_id)))
        key = key_of(current_caller(), request.request_id, request)
        run = await self._erase(key, request.subject_id, request.reason)
        return pb.EraseSubjectResponse(due=_due(run.deleted), run=_run(run))


def _due(found: Sequence[Due]) -> list[pb.DueRecords]:
    return [
        pb.DueRecords(
            record_type=due.record_type,
            provider_id=due.provider_id,
            reason=due.reason,
            records=due.records,
            versions=due.versions,
            subjects=due.subjects,
        )
        for due in found
    ]


def _run(run: Run) -> pb.RetentionRun:
    return pb.RetentionRun(
        run_id=run.run_id,
        ran_at=stamp_of(run.ran_at),
        operator_id=run.request.caller_id,
        deleted=_due(run.deleted),
        leaf_hash=run.leaf_hash,
        subject_id=run.subject_id,
    )
