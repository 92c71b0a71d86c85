"""DisputeService over gRPC."""

from datetime import datetime

import grpc

from puhui.datashare.v1 import disputes_pb2 as pb
from puhui.datashare.v1 import disputes_pb2_grpc, summaries_pb2
from services.datashare.disputes.app import Disputes, Position
from services.datashare.disputes.domain import Dispute, DisputeReason, DisputeState, Mark, Target
from services.datashare.idempotency.servicer import key_of
from services.datashare.times import stamp_of
from services.kit.clock import Clock
from services.kit.db import from_microseconds, to_microseconds
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]

_STATES = {pb.DisputeState.Value(f"DISPUTE_STATE_{state}"): state for state in DisputeState}
_REASONS = {pb.DisputeReason.Value(f"DISPUTE_REASON_{reason}"): reason for reason in DisputeReason}


class DisputeServicer(disputes_pb2_grpc.DisputeServiceServicer):
    """Translates DisputeService.

    Args:
        disputes: the use cases.
        clock: tells what is overdue.
    """

    def __init__(self, disputes: Disputes, clock: Clock) -> None:
        self._disputes = disputes
        self._clock = clock

    async def OpenDispute(
        self, request: pb.OpenDisputeRequest, context: _Context
    ) -> pb.OpenDisputeResponse:
        caller = current_caller()
        dispute = await self._disputes.open(
            caller,
            key_of(caller, request.request_id, request),
            Target(
                request.provider_id,
                request.record_type,
                request.provider_record_id,
                request.field,
            ),
            _REASONS[request.reason],
            request.statement,
        )
        return pb.OpenDisputeResponse(dispute=dispute_message(dispute, self._clock.now()))

    async def AnswerDispute(
        self, request: pb.AnswerDisputeRequest, context: _Context
    ) -> pb.AnswerDisputeResponse:
        caller = current_caller()
        dispute = await self._disputes.answer(
            caller,
            key_of(caller, request.request_id, request),
            request.dispute_id,
            _STATES[request.state],
            request.answer,
            request.evidence,
        )
        return pb.AnswerDisputeResponse(dispute=dispute_message(dispute, self._clock.now()))

    async def CloseDispute(
        self, request: pb.CloseDisputeRequest, context: _Context
    ) -> pb.CloseDisputeResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        dispute = await self._disputes.close(caller, key, request.dispute_id)
        return pb.CloseDisputeResponse(dispute=dispute_message(dispute, self._clock.now()))

    async def SetStatement(
        self, request: pb.SetStatementRequest, context: _Context
    ) -> pb.SetStatementResponse:
        caller = current_caller()
        key = key_of(caller, request.request_id, request)
        dispute = await self._disputes.set_statement(
            caller, key, request.dispute_id, request.statement
        )
        return pb.SetStatementResponse(dispute=dispute_message(dispute, self._clock.now()))

    async def GetDispute(
        self, request: pb.GetDisputeRequest, context: _Context
    ) -> pb.GetDisputeResponse:
        dispute, read_at = await self._disputes.get(current_caller(), request.dispute_id)
        return pb.GetDisputeResponse(dispute=dispute_message(dispute, read_at))

    async def ListDisputes(
        self, request: pb.ListDisputesRequest, context: _Context
    ) -> pb.ListDisputesResponse:
        caller = current_caller()
        bound_to = ("disputes", caller.participant_id, request.state, int(request.overdue))
        position = decode_page_token(request.page_token, bound_to, (int, str))
        after: Position | None = None
        if position:
            after = from_microseconds(int(position[0])), str(position[1])
        disputes, behind, read_at = await self._disputes.list(
            caller,
            _STATES.get(request.state),
            after,
            page_size(request.page_size),
            overdue=request.overdue,
        )
        token = ""
        if behind:
            token = encode_page_token((to_microseconds(behind[0]), behind[1]), bound_to)
        return pb.ListDisputesResponse(
            disputes=[dispute_message(dispute, read_at) for dispute in disputes],
            next_page_token=token,
        )


def dispute_message(dispute: Dispute, read_at: datetime) -> pb.Dispute:
    """Return the message of a dispute.

    Args:
        dispute: as it stands.
        read_at: the time at which it is told whether it is overdue.
    """
    due = dispute.deadlines
    return pb.Dispute(
        dispute_id=dispute.dispute_id,
        subject_id=dispute.subject_id,
        record_type=dispute.target.record_type,
        provider_id=dispute.target.provider_id,
        provider_record_id=dispute.target.provider_record_id,
        field=dispute.target.field,
        statement=dispute.statement,
        state=pb.DisputeState.Value(f"DISPUTE_STATE_{dispute.state}"),
        opened_at=stamp_of(dispute.opened_at),
        answer_due_at=stamp_of(due.answer_due_at),
        answer=dispute.answer,
        closed_at=stamp_of(dispute.closed_at) if dispute.closed_at else None,
        reason=pb.DisputeReason.Value(f"DISPUTE_REASON_{dispute.reason}"),
        version=dispute.version,
        evidence=dispute.evidence,
        deadline_provisional=due.provisional,
        correction_due_at=stamp_of(due.correction_due_at) if due.correction_due_at else None,
        overdue=dispute.overdue(read_at),
    )


def mark_message(mark: Mark) -> summaries_pb2.DisputeMark:
    """Return the message of what readers of a record are told."""
    return summaries_pb2.DisputeMark(
        dispute_id=mark.dispute_id,
        record_type=mark.record_type,
        provider_id=mark.provider_id,
        month=mark.month,
        field=mark.field,
        state=pb.DisputeState.Value(f"DISPUTE_STATE_{mark.state}"),
        statement=mark.statement,
    )
