"""DeliveryService over gRPC."""

from typing import Final

import grpc

from puhui.datashare.v1 import deliveries_pb2 as pb
from puhui.datashare.v1 import deliveries_pb2_grpc
from services.datashare.deliveries.app import Reconciliations
from services.datashare.deliveries.wire import reconciliation_message
from services.datashare.times import date_of
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]
_LARGEST: Final = 500


class DeliveryServicer(deliveries_pb2_grpc.DeliveryServiceServicer):
    """Translates DeliveryService.

    Args:
        reconciliations: the use cases.
    """

    def __init__(self, reconciliations: Reconciliations) -> None:
        self._reconciliations = reconciliations

    async def ListReconciliations(
        self, request: pb.ListReconciliationsRequest, context: _Context
    ) -> pb.ListReconciliationsResponse:
        day = date_of(request.day, "day") if request.HasField("day") else None
        bound_to = ("reconciliations", day.isoformat() if day else "", request.provider_id)
        position = decode_page_token(request.page_token, bound_to, (int, str, str))
        after = None
        if position:
            rank, provider_id, delivery_id = position
            after = (int(rank), str(provider_id), str(delivery_id))
        found, last = await self._reconciliations.list(
            current_caller(),
            day,
            request.provider_id,
            after,
            page_size(request.page_size, largest=_LARGEST),
        )
        return pb.ListReconciliationsResponse(
            reconciliations=[reconciliation_message(each) for each in found],
            next_page_token=encode_page_token(last, bound_to) if last else "",
        )

    async def GetReconciliation(
        self, request: pb.GetReconciliationRequest, context: _Context
    ) -> pb.GetReconciliationResponse:
        found = await self._reconciliations.get(
            current_caller(), request.provider_id, request.delivery_id
        )
        return pb.GetReconciliationResponse(reconciliation=reconciliation_message(found))

    async def GetEvidence(
        self, request: pb.GetEvidenceRequest, context: _Context
    ) -> pb.GetEvidenceResponse:
        found = await self._reconciliations.evidence(
            current_caller(), request.provider_id, request.delivery_id, request.sequence
        )
        return pb.GetEvidenceResponse(jws=found.jws, canonical=found.canonical)
