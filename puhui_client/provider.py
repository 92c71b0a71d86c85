"""What a data provider does: push records."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from puhui.datashare.v1.records_pb2 import PushAck, Record, SubmitRecordsRequest
from puhui_client.base import Methods, new_request_id
from puhui_client.push import MAX_BATCH, BatchAck, Delivery, PushReport, Rows

if TYPE_CHECKING:
    from puhui.datashare.v1.records_pb2_grpc import RecordServiceAsyncStub


class ProviderMethods(Methods):
    """Methods about records."""

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
        )
        return await delivery.run(rows)

    async def submit(self, records: Sequence[Record], *, historical: bool = False) -> PushAck:
        """Send at most 1,000 records in one call; for small senders.

        Args:
            records: the rows.
            historical: as in `push`.

        Returns:
            The indices of accepted and duplicate rows, and why others were rejected.

        Raises:
            InvalidArgumentError: BATCH_TOO_LARGE.
        """
        request = SubmitRecordsRequest(records=records, historical=historical)
        return (await self._transport.unary(self._records.SubmitRecords, request)).ack
