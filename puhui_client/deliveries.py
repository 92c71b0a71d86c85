"""What became of deliveries: both ends' counts, and signatures as evidence."""

from collections.abc import AsyncIterator
from datetime import date
from typing import TYPE_CHECKING

from puhui.datashare.v1.deliveries_pb2 import (
    GetEvidenceRequest,
    GetEvidenceResponse,
    GetReconciliationRequest,
    ListReconciliationsRequest,
)
from puhui.datashare.v1.records_pb2 import Reconciliation
from puhui_client.base import PAGE, Methods
from puhui_client.values import to_date

if TYPE_CHECKING:
    from puhui.datashare.v1.deliveries_pb2_grpc import DeliveryServiceAsyncStub


class DeliveryMethods(Methods):
    """Methods about deliveries."""

    _deliveries: "DeliveryServiceAsyncStub"

    async def reconciliations(
        self, *, day: date | None = None, provider_id: str = ""
    ) -> AsyncIterator[Reconciliation]:
        """Go through a day's deliveries, those whose ends differ first, then those that are open.

        Of each come the first 100 totals that differ; `reconciliation` has all of them.

        Args:
            day: of China Standard Time: deliveries opened or closed on it, or open still; None is
                today.
            provider_id: only of this provider; empty is all that the caller may see.
        """
        request = ListReconciliationsRequest(
            day=None if day is None else to_date(day), provider_id=provider_id, page_size=PAGE
        )
        pages = self._pages(self._deliveries.ListReconciliations, request)
        async for page in pages:
            for reconciliation in page.reconciliations:
                yield reconciliation

    async def reconciliation(self, provider_id: str, delivery_id: str) -> Reconciliation:
        """Return a delivery as both ends counted it.

        Args:
            provider_id: whose.
            delivery_id: of the delivery; single submissions of a day are "submitted-yyyy-mm-dd".

        Raises:
            NotFoundError: NOT_FOUND.
        """
        request = GetReconciliationRequest(provider_id=provider_id, delivery_id=delivery_id)
        answer = await self._transport.unary(self._deliveries.GetReconciliation, request)
        return answer.reconciliation

    async def evidence(
        self, provider_id: str, delivery_id: str, sequence: int
    ) -> GetEvidenceResponse:
        """Return the signature of a batch, and what it covers: `puhui_client.signing` checks it.

        Args:
            provider_id: who signed.
            delivery_id: of the batch; of a single submission SHA-256 of its canonical bytes, in
                hexadecimal.
            sequence: of the batch; 0 of a single submission.

        Raises:
            NotFoundError: NOT_FOUND.
        """
        request = GetEvidenceRequest(
            provider_id=provider_id, delivery_id=delivery_id, sequence=sequence
        )
        return await self._transport.unary(self._deliveries.GetEvidence, request)
