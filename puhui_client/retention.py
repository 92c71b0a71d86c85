"""What may no longer be kept: the operator's job, and erasing a firm."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from puhui.datashare.v1.retention_pb2 import (
    EraseSubjectRequest,
    EraseSubjectResponse,
    ListRetentionRunsRequest,
    PlanRetentionRequest,
    PlanRetentionResponse,
    RetentionRun,
    RunRetentionRequest,
)
from puhui_client.base import PAGE, Methods, new_request_id

if TYPE_CHECKING:
    from puhui.datashare.v1.retention_pb2_grpc import RetentionServiceAsyncStub

RUN_TIMEOUT = 600.0
"""Seconds that a run may take. One that takes longer goes on when it is called again."""


class RetentionMethods(Methods):
    """Methods about retention and erasure."""

    _retention: "RetentionServiceAsyncStub"

    async def plan_retention(self) -> PlanRetentionResponse:
        """As the operator, ask what a run would delete now; changes nothing."""
        return await self._transport.unary(self._retention.PlanRetention, PlanRetentionRequest())

    async def run_retention(
        self, plan_id: str, *, request_id: str | None = None, timeout: float = RUN_TIMEOUT
    ) -> RetentionRun:
        """As the operator, delete what a plan names.

        A run that was broken off goes on when it is called again with the same plan.

        Args:
            plan_id: of `plan_retention`.
            request_id: None makes one.
            timeout: seconds.

        Raises:
            FailedPreconditionError: PLAN_STALE, something else is due by now.
        """
        request = RunRetentionRequest(request_id=request_id or new_request_id(), plan_id=plan_id)
        run = self._retention.RunRetention
        return (await self._transport.unary(run, request, timeout=timeout)).run

    async def retention_runs(self) -> AsyncIterator[RetentionRun]:
        """Go through runs and erasures, newest first."""
        pages = self._pages(
            self._retention.ListRetentionRuns, ListRetentionRunsRequest(page_size=PAGE)
        )
        async for page in pages:
            for run in page.runs:
                yield run

    async def erase_subject(
        self,
        subject_id: str,
        reason: str,
        *,
        confirm: bool = False,
        request_id: str | None = None,
        timeout: float = RUN_TIMEOUT,
    ) -> EraseSubjectResponse:
        """As the operator, erase everything about a subject but the evidence of its use.

        Args:
            subject_id: whom.
            reason: why, for the log.
            confirm: do it; else only say what would go.
            request_id: None makes one.
            timeout: seconds.

        Raises:
            NotFoundError: NOT_FOUND.
            FailedPreconditionError: SUBJECT_ERASED.
        """
        request = EraseSubjectRequest(
            request_id=request_id or new_request_id(),
            subject_id=subject_id,
            reason=reason,
            confirm=confirm,
        )
        erase = self._retention.EraseSubject
        return await self._transport.unary(erase, request, timeout=timeout)
