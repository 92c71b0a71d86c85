"""What a firm says is wrong about it, and what the provider answers."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Literal

from puhui.datashare.v1.disputes_pb2 import (
    AnswerDisputeRequest,
    CloseDisputeRequest,
    Dispute,
    DisputeReason,
    DisputeState,
    GetDisputeRequest,
    ListDisputesRequest,
    OpenDisputeRequest,
    SetStatementRequest,
)
from puhui_client.base import PAGE, Methods, new_request_id

if TYPE_CHECKING:
    from puhui.datashare.v1.disputes_pb2_grpc import DisputeServiceAsyncStub

DisputeStateName = Literal["OPEN", "CORRECTED", "UPHELD", "UNVERIFIABLE", "CLOSED"]
"""Where a dispute stands."""

DisputeReasonName = Literal["WRONG_VALUE", "NOT_OURS", "OUTDATED", "DUPLICATE", "SETTLED"]
"""What is wrong."""

AnswerName = Literal["CORRECTED", "UPHELD", "UNVERIFIABLE"]
"""What a provider may answer."""


class DisputeMethods(Methods):
    """Methods about disputes."""

    _disputes: "DisputeServiceAsyncStub"

    async def open_dispute(
        self,
        provider_id: str,
        record_type: str,
        provider_record_id: str,
        *,
        reason: DisputeReasonName,
        statement: str,
        field: str = "",
        request_id: str | None = None,
    ) -> Dispute:
        """As a firm, dispute one of its records: every answer that it counts in says so at once.

        Args:
            provider_id: whose record.
            record_type: its type.
            provider_record_id: the provider's own id of it.
            reason: what is wrong.
            statement: in the firm's words; readers of the record are shown it.
            field: of the payload; "" is the whole record.
            request_id: None makes one.

        Raises:
            NotFoundError: NOT_FOUND, the firm has no such record that anybody can read.
            AlreadyExistsError: ALREADY_EXISTS, it is disputed already.
            PermissionDeniedError: MANDATE_REQUIRED.
        """
        request = OpenDisputeRequest(
            request_id=request_id or new_request_id(),
            provider_id=provider_id,
            record_type=record_type,
            provider_record_id=provider_record_id,
            field=field,
            reason=DisputeReason.Value(f"DISPUTE_REASON_{reason}"),
            statement=statement,
        )
        return (await self._transport.unary(self._disputes.OpenDispute, request)).dispute

    async def answer_dispute(
        self,
        dispute_id: str,
        state: AnswerName,
        answer: str,
        *,
        evidence: str = "",
        request_id: str | None = None,
    ) -> Dispute:
        """As who supplied the record, answer.

        Args:
            dispute_id: which dispute.
            state: CORRECTED once the correction or retraction was pushed, UPHELD with evidence, or
                UNVERIFIABLE.
            answer: in writing, for the firm.
            evidence: what the answer relies on; needed with UPHELD.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: DISPUTE_STATE, also for CORRECTED before a correction came in.
        """
        request = AnswerDisputeRequest(
            request_id=request_id or new_request_id(),
            dispute_id=dispute_id,
            state=DisputeState.Value(f"DISPUTE_STATE_{state}"),
            answer=answer,
            evidence=evidence,
        )
        return (await self._transport.unary(self._disputes.AnswerDispute, request)).dispute

    async def close_dispute(self, dispute_id: str, *, request_id: str | None = None) -> Dispute:
        """As the firm, take a dispute back.

        Raises:
            FailedPreconditionError: DISPUTE_STATE.
        """
        request = CloseDisputeRequest(
            request_id=request_id or new_request_id(), dispute_id=dispute_id
        )
        return (await self._transport.unary(self._disputes.CloseDispute, request)).dispute

    async def set_dispute_statement(
        self, dispute_id: str, statement: str, *, request_id: str | None = None
    ) -> Dispute:
        """As the firm, say what readers of the record are shown; "" takes it away.

        Raises:
            FailedPreconditionError: DISPUTE_STATE, nothing is shown of it any more.
        """
        request = SetStatementRequest(
            request_id=request_id or new_request_id(), dispute_id=dispute_id, statement=statement
        )
        return (await self._transport.unary(self._disputes.SetStatement, request)).dispute

    async def dispute(self, dispute_id: str) -> Dispute:
        """Return a dispute that concerns the caller.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        request = GetDisputeRequest(dispute_id=dispute_id)
        return (await self._transport.unary(self._disputes.GetDispute, request)).dispute

    async def disputes(
        self, *, state: DisputeStateName | None = None, overdue: bool = False
    ) -> AsyncIterator[Dispute]:
        """Go through the disputes that concern the caller, soonest due first.

        Args:
            state: only in this one; None is all.
            overdue: only those whose deadline passed without an answer.
        """
        request = ListDisputesRequest(
            state=DisputeState.Value(f"DISPUTE_STATE_{state or 'UNSPECIFIED'}"),
            overdue=overdue,
            page_size=PAGE,
        )
        async for page in self._pages(self._disputes.ListDisputes, request):
            for dispute in page.disputes:
                yield dispute
