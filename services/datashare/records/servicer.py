"""RecordService over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import grpc

from puhui.datashare.v1 import records_pb2 as pb
from puhui.datashare.v1 import records_pb2_grpc
from services.datashare.caps.app import CappedTakeIn
from services.datashare.deliveries.app import CloseDelivery
from services.datashare.deliveries.domain import Claim, Delivery
from services.datashare.deliveries.wire import Reader, claim_of, reconciliation_message
from services.datashare.records.app import Batch, TakeIn
from services.datashare.records.domain import Incoming, Rejection, check_size
from services.datashare.records.intake import Intake
from services.datashare.records.wire import ack_message
from services.kit.clock import Clock
from services.kit.db import DialectName
from services.kit.errors import InvalidArgumentError
from services.kit.identity import current_caller

_Context = grpc.aio.ServicerContext[object, object]
AT_ONCE: Final[Mapping[DialectName, int]] = {"sqlite": 200, "postgresql": 10}
"""Rows that are checked before others get a turn: about 2 and 0.2 ms.

Among the others is the batch that is being stored: each answer of the database waits for a turn.
Short ones keep PostgreSQL busy, and what is left to check is there to do while it works on the long
statements and the commit. SQLite works in this process: its thread and the event loop's take the
interpreter's lock from each other at every turn.
"""


class RecordServicer(records_pb2_grpc.RecordServiceServicer):
    """Translates RecordService.

    Of a stream one batch is stored and one is checked at a time; gRPC's flow control holds back the
    next ones.

    Args:
        take_in: takes in batches.
        close: closes deliveries.
        reader: reads what was sent.
        intake: checks rows.
        clock: the time.
        at_once: rows that are checked before others get a turn, of `AT_ONCE`.
    """

    def __init__(
        self,
        take_in: TakeIn | CappedTakeIn,
        close: CloseDelivery,
        reader: Reader,
        intake: Intake,
        clock: Clock,
        at_once: int,
    ) -> None:
        self._take_in = take_in
        self._close = close
        self._reader = reader
        self._intake = intake
        self._clock = clock
        self._at_once = at_once

    async def PushRecords(
        self, requests: AsyncIterator[pb.PushRecordsRequest], context: _Context
    ) -> AsyncIterator[pb.PushRecordsResponse]:
        provider_id = current_caller().participant_id
        first = await anext(requests, None)
        if first is None or not first.HasField("header"):
            raise _header_expected("the stream's first message must be a header")
        header = first.header
        supplier = await self._take_in.supplier(provider_id, historical=header.historical)
        delivery = await self._take_in.open(
            provider_id, header.delivery_id, historical=header.historical
        )
        yield pb.PushRecordsResponse(ready=_ready(delivery))
        following = asyncio.ensure_future(self._next(requests, delivery, supplier.supplies_as))
        try:
            while part := await following:
                if isinstance(part, Claim):
                    # Only once the batches before it are in.
                    closed = await self._close(delivery, part)
                    message = reconciliation_message(closed)
                    yield pb.PushRecordsResponse(closed=pb.PushClosed(reconciliation=message))
                    await _check_ended(requests)
                    return
                # The next batch is read and checked while this one is stored.
                following = asyncio.ensure_future(
                    self._next(requests, delivery, supplier.supplies_as)
                )
                ack = await self._take_in(part)
                yield pb.PushRecordsResponse(ack=ack_message(ack))
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _next(
        self, requests: AsyncIterator[pb.PushRecordsRequest], delivery: Delivery, kind: str
    ) -> Batch | Claim | None:
        request = await anext(requests, None)
        if request is None:
            return None
        if request.HasField("header"):
            raise _header_expected("the stream has a header already: open another stream")
        if request.HasField("close"):
            return claim_of(request.close)
        check_size(len(request.batch.records))
        # Before the rows are checked, which changes them.
        sent = self._reader.batch(request.batch)
        rows, rejections = await self._checked(request.batch.records, kind)
        return Batch(
            provider_id=delivery.provider_id,
            historical=delivery.historical,
            sequence=request.batch.sequence,
            rows=rows,
            rejections=rejections,
            delivery=delivery,
            sent=sent,
        )

    async def SubmitRecords(
        self, request: pb.SubmitRecordsRequest, context: _Context
    ) -> pb.SubmitRecordsResponse:
        provider_id = current_caller().participant_id
        supplier = await self._take_in.supplier(provider_id, historical=request.historical)
        check_size(len(request.records))
        sent = self._reader.submission(request)
        rows, rejections = await self._checked(request.records, supplier.supplies_as)
        ack = await self._take_in(
            Batch(
                provider_id=provider_id,
                historical=request.historical,
                sequence=0,
                rows=rows,
                rejections=rejections,
                sent=sent,
            )
        )
        return pb.SubmitRecordsResponse(ack=ack_message(ack))

    async def _checked(
        self, records: Sequence[pb.Record], kind: str
    ) -> tuple[list[Incoming], list[Rejection]]:
        rows: list[Incoming] = []
        rejections: list[Rejection] = []
        now = self._clock.now()
        size = self._at_once
        for start in range(0, len(records), size):
            read = self._intake.read(records[start : start + size], start, kind, now)
            rows += read[0]
            rejections += read[1]
            await asyncio.sleep(0)
        return rows, rejections


def _ready(delivery: Delivery) -> pb.PushReady:
    return pb.PushReady(
        last_sequence=delivery.last_sequence,
        last_sha256=delivery.last_sha256,
        chain_sha256=delivery.chain_sha256,
        last_ack=ack_message(delivery.last_ack) if delivery.last_ack else None,
    )


async def _check_ended(requests: AsyncIterator[pb.PushRecordsRequest]) -> None:
    if await anext(requests, None) is not None:
        raise _header_expected("nothing follows the close of a delivery: open another stream")


def _header_expected(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError("HEADER_EXPECTED", problem)
