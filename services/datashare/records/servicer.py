"""RecordService over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import grpc

from puhui.datashare.v1 import records_pb2 as pb
from puhui.datashare.v1 import records_pb2_grpc
from services.datashare.records.app import Batch, TakeIn
from services.datashare.records.domain import Delivery, Incoming, Rejection, check_size
from services.datashare.records.intake import Intake
from services.datashare.records.wire import ack_message
from services.kit.clock import Clock
from services.kit.errors import InvalidArgumentError
from services.kit.identity import current_caller

_Context = grpc.aio.ServicerContext[object, object]
_AT_ONCE: Final = 200
"""Rows that are checked before other calls get a turn: about 4 ms."""


class RecordServicer(records_pb2_grpc.RecordServiceServicer):
    """Translates RecordService.

    One batch of a stream is in the works at a time; gRPC's flow control holds back the next ones.

    Args:
        take_in: the use case.
        intake: checks rows.
        clock: the time.
    """

    def __init__(self, take_in: TakeIn, intake: Intake, clock: Clock) -> None:
        self._take_in = take_in
        self._intake = intake
        self._clock = clock

    async def PushRecords(
        self, requests: AsyncIterator[pb.PushRecordsRequest], context: _Context
    ) -> AsyncIterator[pb.PushRecordsResponse]:
        provider_id = current_caller().participant_id
        opened: Delivery | None = None
        kind = ""
        async for request in requests:
            if request.HasField("header"):
                if opened:
                    raise _header_expected("the stream has a header already: open another stream")
                header = request.header
                supplier = await self._take_in.supplier(provider_id, historical=header.historical)
                kind = supplier.provider_kind
                opened = await self._take_in.open(
                    provider_id, header.delivery_id, historical=header.historical
                )
                yield pb.PushRecordsResponse(ready=_ready(opened))
            elif not opened:
                raise _header_expected("the stream's first message must be a header")
            else:
                batch = request.batch
                rows, rejections = await self._checked(batch.records, kind)
                ack = await self._take_in(
                    Batch(
                        provider_id=provider_id,
                        historical=opened.historical,
                        sequence=batch.sequence,
                        rows=rows,
                        rejections=rejections,
                        delivery=opened,
                    )
                )
                yield pb.PushRecordsResponse(ack=ack_message(ack))

    async def SubmitRecords(
        self, request: pb.SubmitRecordsRequest, context: _Context
    ) -> pb.SubmitRecordsResponse:
        provider_id = current_caller().participant_id
        supplier = await self._take_in.supplier(provider_id, historical=request.historical)
        rows, rejections = await self._checked(request.records, supplier.provider_kind)
        ack = await self._take_in(
            Batch(
                provider_id=provider_id,
                historical=request.historical,
                sequence=0,
                rows=rows,
                rejections=rejections,
            )
        )
        return pb.SubmitRecordsResponse(ack=ack_message(ack))

    async def _checked(
        self, records: Sequence[pb.Record], kind: str
    ) -> tuple[list[Incoming], list[Rejection]]:
        check_size(len(records))
        rows: list[Incoming] = []
        rejections: list[Rejection] = []
        now = self._clock.now()
        for start in range(0, len(records), _AT_ONCE):
            read = self._intake.read(records[start : start + _AT_ONCE], start, kind, now)
            rows += read[0]
            rejections += read[1]
            await asyncio.sleep(0)
        return rows, rejections


def _ready(delivery: Delivery) -> pb.PushReady:
    return pb.PushReady(
        last_sequence=delivery.last_sequence,
        last_ack=ack_message(delivery.last_ack) if delivery.last_ack else None,
    )


def _header_expected(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError("HEADER_EXPECTED", problem)
