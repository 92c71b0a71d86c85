"""Pushing a delivery: batches in sequence, several on their way at once, resumed after a drop.

Invariants: a batch is forgotten only when its rows' outcomes are known; sequence numbers follow the
order of the input, so the same input under the same delivery_id goes on where it stopped, in this
process or in the next, and another input fails; accepted + duplicate + rejected + held = sent; a
delivery that closes is done only when the platform told its own totals.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, cast

from grpc import aio

from puhui.datashare.v1.records_pb2 import (
    PushAck,
    PushBatch,
    PushClose,
    PushHeader,
    PushReady,
    PushRecordsRequest,
    PushRecordsResponse,
    Reconciliation,
    Record,
    SubmitRecordsRequest,
)
from puhui_client.canonical import Signer, canonical_batch
from puhui_client.errors import (
    AlreadyExistsError,
    OutOfRangeError,
    PuhuiError,
    UnavailableError,
)
from puhui_client.totals import Totals
from puhui_client.transport import Transport, pause_before

if TYPE_CHECKING:
    from puhui.datashare.v1.records_pb2_grpc import RecordServiceAsyncStub

MAX_BATCH = 1000
"""Rows that a batch may have."""

Rows = Iterable[Record] | AsyncIterable[Record] | Iterable[PushBatch] | AsyncIterable[PushBatch]
"""What can be pushed: single records, or batches made already, whose sequence is set on the way."""

_PushCall = aio.StreamStreamCall[PushRecordsRequest, PushRecordsResponse]


@dataclass(frozen=True)
class Rejection:
    """A row that was not stored.

    Args:
        row: index into everything that was pushed, from 0.
        record_id: the provider's id of the record.
        reason: name of the `ErrorReason` without its prefix.
        field: path of the field.
        message: what is wrong and what to do.
    """

    row: int
    record_id: str
    reason: str
    field: str
    message: str


@dataclass(frozen=True)
class Held:
    """A row that waits until somebody says whom it is about.

    Args:
        row: index into everything that was pushed, from 0.
        record_id: the provider's id of the record.
        review_id: of the review that it waits for.
    """

    row: int
    record_id: str
    review_id: str


@dataclass
class PushReport:
    """What became of a delivery. accepted + duplicate + rejected + held = sent.

    A row whose ack was lost with the connection is asked for again, and counts as a duplicate then
    if it is in.

    Args:
        delivery_id: opening it again resumes it.
        skipped: rows not sent, because an earlier push of this delivery made them durable.
        sent: rows that were sent.
        accepted: rows that are new and in.
        duplicate: rows that were in already with the same content.
        rejected: rows that were not stored, by reason.
        rejections: the first of them, row by row.
        held: rows that wait for a review of whom they are about.
        reviews: the first of them.
        reconnects: times that the connection was lost and found again.
        reconciliation: both ends' totals, where the delivery was closed.
    """

    delivery_id: str
    skipped: int = 0
    sent: int = 0
    accepted: int = 0
    duplicate: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    rejections: list[Rejection] = field(default_factory=list)
    held: int = 0
    reviews: list[Held] = field(default_factory=list)
    reconnects: int = 0
    reconciliation: Reconciliation | None = None

    def add(self, ack: "BatchAck", keep_rejections: int) -> None:
        """Count a batch.

        Args:
            ack: what became of it.
            keep_rejections: rejections, and reviews, to keep at most.
        """
        self.sent += ack.rows
        self.accepted += ack.accepted
        self.duplicate += ack.duplicate
        for rejection in ack.rejections:
            self.rejected[rejection.reason] = self.rejected.get(rejection.reason, 0) + 1
        self.rejections.extend(ack.rejections[: keep_rejections - len(self.rejections)])
        self.held += len(ack.held)
        self.reviews.extend(ack.held[: keep_rejections - len(self.reviews)])


@dataclass(frozen=True)
class BatchAck:
    """What became of one batch.

    Args:
        sequence: of the batch, from 1.
        first_row: index of its first row into everything that was pushed.
        rows: how many it has.
        accepted: how many are new and in.
        duplicate: how many were in already.
        rejections: those that were not stored.
        held: those that wait for a review.
    """

    sequence: int
    first_row: int
    rows: int
    accepted: int
    duplicate: int
    rejections: tuple[Rejection, ...]
    held: tuple[Held, ...] = ()


@dataclass(frozen=True)
class _Pending:
    sequence: int
    first_row: int
    batch: PushBatch


class Delivery:
    """One push. Use `Client.push`.

    Args:
        transport: the connection.
        stub: the record service over it.
        delivery_id: names the delivery for this provider.
        historical: the records are an import or back-fill.
        batch_size: records per batch, where single records are given.
        window: batches on their way without an ack.
        ack_timeout: seconds without an ack after which the connection counts as lost.
        patience: seconds to go on trying while nothing gets through.
        keep_rejections: rejections to keep in the report.
        on_ack: told of every batch, in order.
        signer: signs every batch.
        totals: counts what is sent, to close the delivery with; or the close itself, where who made
            the batches counted them; None leaves the delivery open.
        acked_through: the last batch whose ack an earlier process has; what became of later ones
            that the platform has is asked again. None does not ask.
    """

    def __init__(
        self,
        transport: Transport,
        stub: "RecordServiceAsyncStub",
        *,
        delivery_id: str,
        historical: bool,
        batch_size: int,
        window: int,
        ack_timeout: float,
        patience: float,
        keep_rejections: int,
        on_ack: Callable[[BatchAck], None] | None,
        signer: Signer | None = None,
        totals: Totals | PushClose | None = None,
        acked_through: int | None = None,
    ) -> None:
        if not 1 <= batch_size <= MAX_BATCH:
            raise ValueError(f"batch_size must be from 1 to {MAX_BATCH}")
        if window < 1:
            raise ValueError("window must be at least 1")
        self._transport = transport
        self._stub = stub
        self._header = PushHeader(delivery_id=delivery_id, historical=historical)
        self._batch_size = batch_size
        self._window = window
        self._ack_timeout = ack_timeout
        self._patience = patience
        self._keep_rejections = keep_rejections
        self._on_ack = on_ack
        self._signer = signer
        self._totals = totals
        self._acked_through = acked_through
        self._closing = False
        self._report = PushReport(delivery_id)
        self._pending: deque[_Pending] = deque()
        self._acks = 0
        self._numbered = 0
        # Of the batches up to `_chained`, as `PushReady.chain_sha256`.
        self._chained, self._chain = 0, b""
        self._source_failure: Exception | None = None
        # After a failure one batch goes at a time until an ack: gRPC does not tell why a call ended
        # while something was being written, so that a refusal would look like a lost connection.
        self._careful = False

    async def run(self, rows: Rows) -> PushReport:
        """Push everything and return what became of it.

        Raises:
            PuhuiError: the delivery cannot go on; what was acked stays, and the same delivery_id
                goes on after it.
        """
        loop = asyncio.get_running_loop()
        failures, failing_since = 0, 0.0
        async with aclosing(self._numbered_batches(rows)) as batches:
            while True:
                acks = self._acks
                try:
                    await self._session(batches)
                    return self._report
                except PuhuiError as error:
                    if self._acks > acks or not failures:
                        failures, failing_since = 0, loop.time()
                    failures += 1
                    self._careful = True
                    pause = pause_before(failures, self._resumable(error))
                    if pause is None or loop.time() + pause - failing_since > self._patience:
                        raise
                await asyncio.sleep(pause)
                self._report.reconnects += 1

    def _resumable(self, error: PuhuiError) -> PuhuiError:
        # The platform may still have been busy with the dropped stream's batch when it said where
        # to go on; it says better the next time.
        if isinstance(error, OutOfRangeError) and self._report.reconnects:
            return UnavailableError("UNAVAILABLE", error.reason, error.message)
        return error

    async def _session(self, batches: AsyncIterator[_Pending]) -> None:
        stream = _Stream(self._transport, self._stub, *await self._transport.metadata())
        sender: asyncio.Task[None] | None = None
        self._closing = False
        try:
            async with _limit(self._ack_timeout):
                await stream.write(PushRecordsRequest(header=self._header))
                ready = (await stream.read()).ready
            await self._settle(ready)
            room = asyncio.Semaphore(1 if self._careful else self._window)
            async with _limit(self._ack_timeout if self._pending else None) as watch:
                sender = asyncio.create_task(self._send(stream, batches, ready, room, watch))
                await self._read_acks(stream, room, watch)
        finally:
            stream.cancel()
            if sender is not None:
                sender.cancel()
                with suppress(asyncio.CancelledError):
                    await sender
            # Told before all others, and never lost where the sender was cancelled: a source that
            # failed gives nothing any more, so another session would take it for ended.
            if self._source_failure is not None:
                raise self._source_failure

    async def _send(
        self,
        stream: "_Stream",
        batches: AsyncIterator[_Pending],
        ready: PushReady,
        room: asyncio.Semaphore,
        watch: asyncio.Timeout,
    ) -> None:
        try:
            for pending in tuple(self._pending):
                await room.acquire()
                await stream.write(self._request(pending))
            while True:
                await room.acquire()
                try:
                    following = await self._following(batches, ready)
                except Exception as error:
                    self._source_failure = error
                    raise
                if following is None:
                    await self._close(stream, watch)
                    return
                self._pending.append(following)
                if following.sequence <= ready.last_sequence:
                    await self._settle(ready)
                    room.release()
                    continue
                self._expect(watch)
                await stream.write(self._request(following))
        except UnavailableError:
            pass  # the reader hears why
        finally:
            # Also when the rows' source fails: what is on its way is acked before that is told.
            await stream.done_writing()

    async def _close(self, stream: "_Stream", watch: asyncio.Timeout) -> None:
        if self._totals is None:
            return
        close = self._totals.close() if isinstance(self._totals, Totals) else self._totals
        self._closing = True
        self._expect(watch)
        await stream.write(PushRecordsRequest(close=close))

    def _expect(self, watch: asyncio.Timeout) -> None:
        if watch.when() is None:
            watch.reschedule(asyncio.get_running_loop().time() + self._ack_timeout)

    async def _read_acks(
        self, stream: "_Stream", room: asyncio.Semaphore, watch: asyncio.Timeout
    ) -> None:
        while (response := await stream.read_unless_ended()) is not None:
            if response.HasField("closed"):
                self._report.reconciliation = response.closed.reconciliation
                continue
            self._acked(response.ack)
            due = asyncio.get_running_loop().time() + self._ack_timeout
            watch.reschedule(due if self._pending or self._closing else None)
            room.release()
            if self._careful:
                self._careful = False
                for _ in range(self._window - 1):
                    room.release()
        if self._pending:
            raise _lost("the stream ended before every batch was acked")
        if self._closing and self._report.reconciliation is None:
            raise _lost("the stream ended before the delivery was closed")

    async def _following(
        self, batches: AsyncIterator[_Pending], ready: PushReady
    ) -> _Pending | None:
        async for pending in batches:
            self._numbered = pending.sequence
            if pending.sequence > ready.last_sequence:
                return pending
            if self._acked_through is not None and pending.sequence > self._acked_through:
                return pending  # durable, but what became of its rows is not known here
            self._check_same(pending, ready)
            self._report.skipped += len(pending.batch.records)
        if self._numbered < ready.last_sequence:
            raise self._mismatch("has more batches than these rows make")
        return None

    def _check_same(self, pending: _Pending, ready: PushReady) -> None:
        """Refuse to take other rows for those that are durable, in this batch or one before."""
        if not ready.last_sha256:
            return
        content = PushBatch(records=pending.batch.records).SerializeToString(deterministic=True)
        sha256 = hashlib.sha256(content).digest()
        if pending.sequence == self._chained + 1:
            self._chained = pending.sequence
            self._chain = hashlib.sha256(self._chain + sha256).digest()
        if pending.sequence != ready.last_sequence:
            return
        if sha256 != ready.last_sha256:
            raise self._mismatch(f"has other rows in batch {pending.sequence}")
        # Batches that this process sent itself are not chained: it knows that they are the same.
        if self._chained == pending.sequence and ready.chain_sha256 not in (b"", self._chain):
            raise self._mismatch(f"has other rows in a batch before {pending.sequence}")

    def _mismatch(self, problem: str) -> AlreadyExistsError:
        return AlreadyExistsError(
            "ALREADY_EXISTS",
            "DELIVERY_MISMATCH",
            f"the delivery {self._header.delivery_id} {problem}: give the rows and the batch size "
            "that it was begun with, or another delivery_id; rows that are in are duplicates then",
        )

    async def _settle(self, ready: PushReady) -> None:
        """Account for batches that are durable and whose acks a dropped stream took along."""
        while self._pending and self._pending[0].sequence <= ready.last_sequence:
            pending = self._pending[0]
            self._check_same(pending, ready)
            if pending.sequence == ready.last_ack.sequence:
                self._acked(ready.last_ack)
                continue
            request = SubmitRecordsRequest(
                records=pending.batch.records,
                historical=self._header.historical,
                jws=self._signature("", 0, pending.batch),
            )
            again = await self._transport.unary(self._stub.SubmitRecords, request)
            again.ack.sequence = pending.sequence
            self._acked(again.ack)

    def _acked(self, ack: PushAck) -> None:
        if not self._pending or self._pending[0].sequence != ack.sequence:
            raise _lost("an ack out of sequence")
        pending = self._pending.popleft()
        self._acks += 1
        records = pending.batch.records
        told = BatchAck(
            sequence=pending.sequence,
            first_row=pending.first_row,
            rows=len(records),
            accepted=len(ack.accepted),
            duplicate=len(ack.duplicates),
            rejections=tuple(
                Rejection(
                    row=pending.first_row + rejection.row,
                    record_id=records[rejection.row].provider_record_id,
                    reason=rejection.reason,
                    field=rejection.field,
                    message=rejection.message,
                )
                for rejection in ack.rejections
            ),
            held=tuple(
                Held(
                    row=pending.first_row + held.row,
                    record_id=records[held.row].provider_record_id,
                    review_id=held.review_id,
                )
                for held in ack.held
            ),
        )
        self._report.add(told, self._keep_rejections)
        if self._on_ack is not None:
            self._on_ack(told)

    async def _numbered_batches(self, rows: Rows) -> AsyncGenerator[_Pending]:
        sequence, first_row = 0, 0
        async for batch in _batches(rows, self._batch_size):
            sequence += 1
            if isinstance(self._totals, Totals):
                self._totals.add(batch.records)
            yield _Pending(sequence, first_row, batch)
            first_row += len(batch.records)

    def _request(self, pending: _Pending) -> PushRecordsRequest:
        request = PushRecordsRequest(batch=pending.batch)
        request.batch.sequence = pending.sequence
        if self._signer is not None:
            request.batch.jws = self._signature(
                self._header.delivery_id, pending.sequence, pending.batch
            )
        return request

    def _signature(self, delivery_id: str, sequence: int, batch: PushBatch) -> str:
        if self._signer is None:
            return ""
        return self._signer.sign(canonical_batch(delivery_id, sequence, batch.records))


class _Stream:
    """One connection's stream; whatever ends it early is told as a PuhuiError."""

    def __init__(
        self,
        transport: Transport,
        stub: "RecordServiceAsyncStub",
        trace_id: str,
        metadata: aio.Metadata,
    ) -> None:
        self._transport = transport
        self._trace_id = trace_id
        self._metadata = metadata
        self._call = stub.PushRecords(metadata=metadata)
        self._broken = False

    async def write(self, request: PushRecordsRequest) -> None:
        try:
            await self._call.write(request)
        except (aio.AioRpcError, asyncio.InvalidStateError):
            self._broken = True
            raise _lost("the stream broke while a batch was on its way") from None

    async def done_writing(self) -> None:
        with suppress(aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def read(self) -> PushRecordsResponse:
        response = await self.read_unless_ended()
        if response is None:
            raise _lost("the stream ended before it began")
        return response

    async def read_unless_ended(self) -> PushRecordsResponse | None:
        try:
            response = await self._call.read()
        except aio.AioRpcError as failure:
            raise self._told(failure) from None
        return response if isinstance(response, PushRecordsResponse) else None

    def cancel(self) -> None:
        self._call.cancel()

    def _told(self, failure: aio.AioRpcError) -> PuhuiError:
        error = self._transport.told(failure, self._metadata)
        # CANCELLED, not by us: a server that stops. INTERNAL after a write that failed: gRPC's own.
        if error.code == "CANCELLED" or (self._broken and error.code == "INTERNAL"):
            error = _lost("the platform ended the stream")
        error.trace_id = self._trace_id
        return error


@asynccontextmanager
async def _limit(seconds: float | None) -> AsyncIterator[asyncio.Timeout]:
    watch = asyncio.timeout(seconds)
    try:
        async with watch:
            yield watch
    except TimeoutError:
        if not watch.expired():
            raise
        raise _lost("no ack in time: the connection counts as lost") from None


async def _batches(rows: Rows, size: int) -> AsyncIterator[PushBatch]:
    if isinstance(rows, AsyncIterable):
        chunk: list[Record] = []
        async for row in rows:
            if isinstance(row, PushBatch):
                yield row
                continue
            chunk.append(row)
            if len(chunk) == size:
                yield PushBatch(records=chunk)
                chunk = []
        if chunk:
            yield PushBatch(records=chunk)
        return
    remaining: Iterator[Record | PushBatch] = iter(rows)
    first = next(remaining, None)
    if first is None:
        return
    everything = chain((first,), remaining)
    if isinstance(first, PushBatch):
        for batch in cast(Iterator[PushBatch], everything):
            yield batch
    else:
        while part := list(islice(cast(Iterator[Record], everything), size)):
            yield PushBatch(records=part)


def _lost(message: str) -> UnavailableError:
    return UnavailableError("UNAVAILABLE", "UNAVAILABLE", message)
