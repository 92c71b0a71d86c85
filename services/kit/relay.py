"""Waiting calls as one RPC, on both sides: `Relayer` gathers them, `RelayServicer` runs them.

Each call keeps its own identity, deadline and trace, and gets its own result.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.rpc import status_pb2

from puhui.common.v1 import relay_pb2, relay_pb2_grpc
from services.kit.calls import Call, Endpoint, Pipeline
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.coalesce import Coalescer
from services.kit.errors import NotFoundError, PuhuiError
from services.kit.identity import IDENTITY_METADATA
from services.kit.status import error_from_status, status_of
from services.kit.telemetry import TRACEPARENT_METADATA

METHOD = "/puhui.common.v1.RelayService/Relay"
_MAX_BATCH = 64
_WORKERS = 2


@dataclass(frozen=True)
class RelayItem:
    """A unary call to pass on.

    Args:
        method: full name.
        body: the request's bytes.
        identity: the caller's assertion.
        traceparent: W3C trace context.
        timeout: seconds that the caller will wait.
    """

    method: str
    body: bytes
    identity: str
    traceparent: str
    timeout: float


class Relayer:
    """Passes unary calls on to one service, those that wait together in one RPC.

    Args:
        channel: to the service, as the gateway itself.
        clock: the time.
    """

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock
        self._coalescer: Coalescer[RelayItem, bytes] = Coalescer(
            self._send, max_batch=_MAX_BATCH, workers=_WORKERS
        )

    async def call(self, item: RelayItem) -> bytes:
        """Return the response's bytes.

        Raises:
            PuhuiError: what the service answered, or UNAVAILABLE.
        """
        deadline = asyncio.get_running_loop().time() + item.timeout
        return await self._coalescer.submit(item, deadline)

    async def _send(self, items: list[RelayItem]) -> list[bytes | Exception]:
        now = self._clock.now()
        request = relay_pb2.RelayRequest()
        for item in items:
            call = request.calls.add(
                method=item.method,
                identity=item.identity,
                traceparent=item.traceparent,
                body=item.body,
            )
            call.deadline.FromDatetime(now + timedelta(seconds=item.timeout))
        timeout = max(item.timeout for item in items)
        response = await self._channel.unary(
            METHOD, request, relay_pb2.RelayResponse, timeout=timeout
        )
        return [
            result.body
            if result.code == 0
            else error_from_status(status_pb2.Status.FromString(result.body))
            for result in response.results
        ]


class RelayServicer(relay_pb2_grpc.RelayServiceServicer):
    """Runs relayed calls through the service's own pipeline.

    Args:
        pipeline: the service's.
        endpoints: its unary methods by full name.
        clock: the time.
    """

    def __init__(self, pipeline: Pipeline, endpoints: Mapping[str, Endpoint], clock: Clock) -> None:
        self._pipeline = pipeline
        self._endpoints = endpoints
        self._clock = clock

    async def Relay(  # noqa: N802 - the name in the .proto
        self, request: relay_pb2.RelayRequest, context: Any
    ) -> relay_pb2.RelayResponse:
        """Run every call as if it had come alone."""
        results = await asyncio.gather(*(self._run(call) for call in request.calls))
        return relay_pb2.RelayResponse(results=results)

    async def _run(self, call: relay_pb2.RelayedCall) -> relay_pb2.RelayedResult:
        try:
            endpoint = self._endpoints.get(call.method)
            if endpoint is None or endpoint.response_streaming:
                raise NotFoundError("UNKNOWN_METHOD", "no such unary method")
            timeout = None
            if call.HasField("deadline"):
                left = call.deadline.ToDatetime(tzinfo=UTC) - self._now()
                timeout = left.total_seconds()
            metadata = {IDENTITY_METADATA: call.identity, TRACEPARENT_METADATA: call.traceparent}
            # A task of its own: context variables of one call must not show in another.
            body = await asyncio.create_task(
                self._pipeline.unary(endpoint, Call(metadata, timeout), call.body)
            )
            return relay_pb2.RelayedResult(body=body)
        except PuhuiError as error:
            status = status_of(error)
            return relay_pb2.RelayedResult(code=status.code, body=status.SerializeToString())

    def _now(self) -> datetime:
        return self._clock.now()
