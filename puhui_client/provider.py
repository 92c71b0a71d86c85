"""What a data provider does: push records."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from puhui.datashare.v1.catalogue_pb2 import ListRecordTypesRequest
from puhui.datashare.v1.records_pb2 import PushAck, PushClose, Record, SubmitRecordsRequest
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.canonical import Signer, canonical_batch
from puhui_client.push import MAX_BATCH, BatchAck, Delivery, PushReport, Rows
from puhui_client.totals import Totals

if TYPE_CHECKING:
    from puhui.datashare.v1.catalogue_pb2_grpc import CatalogueServiceAsyncStub
    from puhui.datashare.v1.records_pb2_grpc import RecordServiceAsyncStub


class ProviderMethods(Methods):
    """Methods about records."""

    _catalogue: "CatalogueServiceAsyncStub"
    _records: "RecordServiceAsyncStub"

    async def push(
        self,
        rows: Rows,
        *,
        delivery_id: str | None = None,
        historical: bool = False,
        batch_size: int = MAX_BATCH,
        window: int = 4,
        ack_timeout: float = 60.0,
        patience: float = 60.0,
        keep_rejections: int = 10_000,
        on_ack: Callable[[BatchAck], None] | None = None,
        totals: bool | Totals | PushClose = False,
        signer: Signer | None = None,
        acked_through: int | None = None,
    ) -> PushReport:
        """Push any number of records over one stream, and go on after a dropped connection.

        A bad row is rejected and never blocks the others. Should this process die, pushing the same
        rows under the same `delivery_id` and `batch_size` goes on after the last durable batch.

        Args:
            rows: records, or batches of at most 1,000 made already; any iterable, also async.
            delivery_id: names the delivery; None makes a new one.
            historical: the records are an import or back-fill, and count as known when they were
                obtained. Only for providers registered as historical sources.
            batch_size: records per batch, where single records are given.
            window: batches on their way without an ack.
            ack_timeout: seconds without an ack after which the connection counts as lost.
            patience: seconds to go on trying while nothing gets through.
            keep_rejections: rejections to keep in the report; all are counted.
            on_ack: told of every batch, in order, with all its rejections.
            totals: close the delivery with control totals: True counts all the rows
                that are given, by the catalogue; `Totals` does by other rules; `PushClose` was
                counted before. `PushReport.reconciliation` says whether the platform counted the
                same.
            signer: signs every batch, e.g. `puhui_client.signing.SigningKey.read(path)`; has to
                where the platform knows a signing key of this provider.
            acked_through: of a delivery that an earlier process began, the last batch that was told
                to its `on_ack`: what became of later ones is asked again. None does not ask.

        Returns:
            What became of the rows.

        Raises:
            PuhuiError: the delivery cannot go on; what was acked stays.
        """
        delivery = Delivery(
            self._transport,
            self._records,
            delivery_id=delivery_id or new_request_id(),
            historical=historical,
            batch_size=batch_size,
            window=window,
            ack_timeout=ack_timeout,
            patience=patience,
            keep_rejections=keep_rejections,
            on_ack=on_ack,
            signer=signer,
            totals=Totals(await self.control_fields()) if totals is True else totals or None,
            acked_through=acked_through,
        )
        return await delivery.run(rows)

    async def control_fields(self) -> dict[str, str]:
        """Return the amount that control totals add up, by record type where there is one."""
        request = ListRecordTypesRequest(page_size=PAGE)
        pages = self._pages(self._catalogue.ListRecordTypes, request)
        return {
            policy.record_type: policy.control_field
            async for page in pages
            for policy in page.types
            if policy.control_field
        }

    async def submit(
        self,
        records: Sequence[Record],
        *,
        historical: bool = False,
        signer: Signer | None = None,
    ) -> PushAck:
        """Send at most 1,000 records in one call; for small senders.

        Args:
            records: the rows.
            historical: as in `push`.
            signer: as in `push`.

        Returns:
            The indices of accepted and duplicate rows, why others were rejected, and which wait for
            a review.

        Raises:
            InvalidArgumentError: BATCH_TOO_LARGE.
        """
        jws = "" if signer is None else signer.sign(canonical_batch("", 0, records))
        request = SubmitRecordsRequest(records=records, historical=historical, jws=jws)
        return (await self._transport.unary(self._records.SubmitRecords, request)).ack
