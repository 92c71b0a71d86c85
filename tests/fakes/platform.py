"""The other side of the client: a gRPC server on loopback that answers as it is told and records.

Records are pushed for real: sequences are kept per delivery, rows are remembered, and a stream can
be dropped at any point, with or without the acks that were due.
"""

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from puhui.datashare.v1 import catalogue_pb2, records_pb2

PUSH = "/puhui.datashare.v1.RecordService/PushRecords"
SUBMIT = "/puhui.datashare.v1.RecordService/SubmitRecords"


def refusal(
    code: str,
    reason: str,
    message: str = "what is wrong: what to do",
    *,
    fields: Sequence[tuple[str, str]] = (),
    retry_after: timedelta | None = None,
) -> status_pb2.Status:
    """The status that the platform sends for an error."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    if reason:
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="puhui"))
    if fields:
        bad = error_details_pb2.BadRequest()
        for name, problem in fields:
            bad.field_violations.add(field=name, description=problem)
        status.details.add().Pack(bad)
    if retry_after is not None:
        delay = Duration()
        delay.FromTimedelta(retry_after)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


UNAVAILABLE = refusal("UNAVAILABLE", "UNAVAILABLE")
SUSPENDED = refusal("PERMISSION_DENIED", "PARTICIPANT_SUSPENDED")


@dataclass(frozen=True)
class Call:
    """A call that arrived."""

    method: str
    request: Any
    metadata: dict[str, str | bytes]


@dataclass
class Records:
    """What providers pushed, and how the next streams go wrong."""

    last: dict[str, records_pb2.PushAck] = field(default_factory=dict)
    sha256: dict[str, bytes] = field(default_factory=dict)
    chain: dict[str, bytes] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    streams: int = 0
    batches: list[tuple[str, int, int]] = field(default_factory=list)
    most_unacked: int = 0
    # Per stream: the acks after which it drops, and how many batches it stores silently first.
    drops: deque[tuple[int, int]] = field(default_factory=deque)
    drop_with: status_pb2.Status = field(default_factory=lambda: UNAVAILABLE)
    hold_acks_for: int = 0
    # What deliveries closed with; the platform counts what it got as it says itself.
    closes: dict[str, records_pb2.PushClose] = field(default_factory=dict)
    requests: dict[str, list[records_pb2.PushBatch]] = field(default_factory=dict)
    loses_rows: int = 0
    drop_closes: int = 0
    refused_submits: int = 0
    jws: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    # Batches after which the provider is refused, and how many more are stored silently first.
    suspends_after: tuple[int, int] | None = None
    suspended: bool = False
    # How many times a stream that resumes is told a position one batch too early.
    stale: int = 0
    hangs: bool = False

    def store(self, rows: Sequence[records_pb2.Record]) -> records_pb2.PushAck:
        ack = records_pb2.PushAck()
        for index, row in enumerate(rows):
            body = row.SerializeToString(deterministic=True)
            if row.social_insurance.headcount < 0:
                ack.rejections.add(
                    row=index,
                    reason="NUMBER_OUT_OF_RANGE",
                    field="social_insurance.headcount",
                    message="a count is never negative: correct it",
                )
            elif row.provider_record_id in self.refused:
                ack.rejections.add(
                    row=index, reason="RECORD_CONFLICT", message="is there with other content"
                )
            elif row.hint.name:
                ack.held.add(row=index, review_id=f"rev_{row.provider_record_id}")
            elif self.stored.setdefault(row.provider_record_id, body) is body:
                ack.accepted.append(index)
            else:
                ack.duplicates.append(index)
        return ack

    def close(self, delivery_id: str, close: records_pb2.PushClose) -> records_pb2.PushClosed:
        self.closes[delivery_id] = close
        rows = [row for batch in self.requests.get(delivery_id, []) for row in batch.records]
        received = len(rows) - self.loses_rows
        return records_pb2.PushClosed(
            reconciliation=records_pb2.Reconciliation(
                delivery_id=delivery_id,
                rows_sent=close.rows,
                rows_received=received,
                agrees=close.rows == received,
                totals=[
                    records_pb2.TotalsOfBothEnds(
                        record_type=total.record_type,
                        month=total.month,
                        rows_sent=total.rows,
                        rows_received=total.rows - self.loses_rows,
                        sum_sent=total.sum,
                        sum_received=total.sum,
                    )
                    for total in close.totals
                ],
            )
        )


Answer = Message | status_pb2.Status | Callable[[Any], Any]


class FakePlatform:
    """Answers calls with what `answer` set, in order; the last answer stays."""

    def __init__(self) -> None:
        self.address = ""
        self.calls: list[Call] = []
        self.records = Records()
        self.catalogue = catalogue_pb2.ListRecordTypesResponse(
            types=[
                catalogue_pb2.RecordTypePolicy(
                    record_type="social_insurance", control_field="paid"
                ),
                catalogue_pb2.RecordTypePolicy(record_type="vat_invoice", control_field="gross"),
            ]
        )
        self._answers: dict[str, deque[Any]] = defaultdict(deque)

    def answer(self, method: str, *answers: Any) -> None:
        """Set answers of a method by its short name: messages, statuses, functions, or lists."""
        self._answers[method] = deque(answers)

    def requests(self, method: str) -> list[Any]:
        """The requests that a method got, by its short name."""
        return [call.request for call in self.calls if call.method.endswith(f"/{method}")]

    def next_answer(self, method: str, request: Any) -> Any:
        name = method.rpartition("/")[2]
        if name == "ListRecordTypes" and not self._answers[name]:
            return self.catalogue
        if not self._answers[name]:
            return refusal("UNIMPLEMENTED", "UNKNOWN_METHOD", f"no answer was set for {name}")
        queue = self._answers[name]
        answer = queue.popleft() if len(queue) > 1 else queue[0]
        return answer(request) if callable(answer) else answer

    async def submit(self, request: Any) -> Message:
        self.records.jws.append(request.jws)
        return records_pb2.SubmitRecordsResponse(ack=self.records.store(request.records))

    async def push(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Message]:
        records = self.records
        records.streams += 1
        if records.suspended:
            await _abort(context, SUSPENDED)
        drop_after, silently = records.drops.popleft() if records.drops else (None, 0)
        header = (await anext(requests)).header
        last = records.last.get(header.delivery_id, records_pb2.PushAck())
        ready = records_pb2.PushReady(last_sequence=last.sequence)
        if last.sequence and records.stale:
            records.stale -= 1
            ready.last_sequence -= 1
        elif last.sequence:
            ready.last_ack.CopyFrom(last)
            ready.last_sha256 = records.sha256[header.delivery_id]
            ready.chain_sha256 = records.chain[header.delivery_id]
        yield records_pb2.PushRecordsResponse(ready=ready)
        acked = 0
        held: list[records_pb2.PushAck] = []
        async for request in requests:
            if records.hangs:
                await asyncio.sleep(60)
            if request.HasField("close"):
                for ack in held:
                    yield records_pb2.PushRecordsResponse(ack=ack)
                held.clear()
                if records.drop_closes:
                    records.drop_closes -= 1
                    await _abort(context, UNAVAILABLE)
                closed = records.close(header.delivery_id, request.close)
                yield records_pb2.PushRecordsResponse(closed=closed)
                return
            batch = request.batch
            records.jws.append(batch.jws)
            last = records.last.get(header.delivery_id, records_pb2.PushAck())
            if batch.sequence != last.sequence + 1:
                await _abort(context, refusal("OUT_OF_RANGE", "OUT_OF_SEQUENCE"))
            if len(batch.records) > 1000:
                await _abort(context, refusal("INVALID_ARGUMENT", "BATCH_TOO_LARGE"))
            last = records.store(batch.records)
            last.sequence = batch.sequence
            records.last[header.delivery_id] = last
            records.requests.setdefault(header.delivery_id, []).append(batch)
            content = records_pb2.PushBatch(records=batch.records)
            digest = hashlib.sha256(content.SerializeToString(deterministic=True))
            records.sha256[header.delivery_id] = digest.digest()
            chain = records.chain.get(header.delivery_id, b"") + digest.digest()
            records.chain[header.delivery_id] = hashlib.sha256(chain).digest()
            records.batches.append((header.delivery_id, batch.sequence, len(batch.records)))
            if records.suspends_after is not None:
                count, unacked = records.suspends_after
                if len(records.batches) >= count + unacked:
                    for ack in held:
                        yield records_pb2.PushRecordsResponse(ack=ack)
                    if not unacked:
                        yield records_pb2.PushRecordsResponse(ack=last)
                    records.suspended = True
                    await asyncio.sleep(0.1)  # an ack right before the end may be lost with it
                    await _abort(context, SUSPENDED)
                if len(records.batches) > count:
                    continue
            if drop_after is not None and acked == drop_after:
                if not silently:
                    await _abort(context, records.drop_with)
                silently -= 1
                continue
            held.append(last)
            records.most_unacked = max(records.most_unacked, len(held))
            if len(held) >= records.hold_acks_for:
                for ack in held:
                    yield records_pb2.PushRecordsResponse(ack=ack)
                    acked += 1
                held.clear()
        for ack in held:
            yield records_pb2.PushRecordsResponse(ack=ack)


async def _abort(context: Any, status: status_pb2.Status) -> None:
    await context.abort_with_status(rpc_status.to_status(status))


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, platform: FakePlatform) -> None:
        self._platform = platform

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        path: str = details.method
        metadata = {str(k): v for k, v in details.invocation_metadata or ()}
        service, _, name = path[1:].rpartition("/")
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        parse = message_factory.GetMessageClass(method.input_type).FromString
        platform = self._platform

        async def unary(request: Any, context: Any) -> Any:
            platform.calls.append(Call(path, request, metadata))
            if path == SUBMIT:
                if platform.records.refused_submits:
                    platform.records.refused_submits -= 1
                    await _abort(context, UNAVAILABLE)
                return await platform.submit(request)
            answer = platform.next_answer(path, request)
            if isinstance(answer, status_pb2.Status):
                await _abort(context, answer)
            return answer

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            platform.calls.append(Call(path, request, metadata))
            for answer in platform.next_answer(path, request):
                if isinstance(answer, status_pb2.Status):
                    await _abort(context, answer)
                yield answer

        def dump(message: Message) -> bytes:
            return message.SerializeToString()

        if path == PUSH:
            return grpc.stream_stream_rpc_method_handler(platform.push, parse, dump)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, parse, dump)
        return grpc.unary_unary_rpc_method_handler(unary, parse, dump)


@asynccontextmanager
async def serving() -> AsyncIterator[FakePlatform]:
    """A platform that listens on loopback until the end of the block."""
    platform = FakePlatform()
    server = aio.server()
    server.add_generic_rpc_handlers([_Handler(platform)])
    platform.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield platform
    finally:
        await server.stop(0)
