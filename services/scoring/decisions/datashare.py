"""Datashare as the source of summaries: one internal batch RPC for all orders that wait together.

Every item carries its own caller's identity, deadline and trace; datashare checks each consent.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, timedelta

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2, consents_pb2, disputes_pb2, summaries_pb2
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.errors import InternalError, PuhuiError
from services.kit.status import error_from_status
from services.scoring.decisions.app import OrderCall, Released
from services.scoring.decisions.domain import DisputeMark
from services.scoring.reader import read_summary

_log = structlog.get_logger()
METHOD = "/puhui.datashare.v1.AccessService/BatchFetchSummaries"


class DatashareSummaries:
    """Fetches summaries from datashare.

    Args:
        channel: to datashare, as scoring itself.
        clock: the time.
    """

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock

    async def fetch(self, calls: Sequence[OrderCall]) -> list[Released | PuhuiError]:
        """Fetch the summary for each call, under its own caller's consent."""
        if not calls:
            return []
        loop_now, now = asyncio.get_running_loop().time(), self._clock.now()
        request = accesses_pb2.BatchFetchSummariesRequest()
        for call in calls:
            deadline = Timestamp()
            deadline.FromDatetime(now + timedelta(seconds=call.deadline - loop_now))
            request.items.add(
                identity=call.identity,
                fetch=_fetch(call),
                deadline=deadline,
                traceparent=call.traceparent,
            )
        timeout = max(call.deadline for call in calls) - loop_now
        try:
            # Safe to repeat: a request_id that was released is checked again and opens no access.
            response = await self._channel.unary(
                METHOD,
                request,
                accesses_pb2.BatchFetchSummariesResponse,
                timeout=timeout,
                idempotent=True,
            )
        except PuhuiError as error:
            return [error] * len(calls)
        return [_answer(result) for result in response.results]


def _answer(result: accesses_pb2.BatchFetchResult) -> Released | PuhuiError:
    if not result.HasField("released"):
        return _as_ordered(error_from_status(result.refused))
    released = result.released
    try:
        summary = read_summary(released.summary)
    except ValueError as error:
        _log.error("summary cannot be read", access_id=released.access_id, problem=str(error))
        return InternalError("INTERNAL", "a fault of ours: report the trace id")
    return Released(
        released.access_id,
        released.summary.as_of.ToDatetime(tzinfo=UTC),
        summary,
        tuple(map(_mark, released.summary.disputes)),
    )


def _mark(message: summaries_pb2.DisputeMark) -> DisputeMark:
    return DisputeMark(
        dispute_id=message.dispute_id,
        record_type=message.record_type,
        provider_id=message.provider_id,
        month=message.month,
        field=message.field,
        state=disputes_pb2.DisputeState.Name(message.state).removeprefix("DISPUTE_STATE_"),
        statement=message.statement,
    )


def _as_ordered(error: PuhuiError) -> PuhuiError:
    """Name the fields as whoever sent the order knows them."""
    error.fields = tuple(
        replace(problem, field=f"order.{problem.field.removeprefix('fetch.')}")
        for problem in error.fields
    )
    return error


def _fetch(call: OrderCall) -> accesses_pb2.SummaryFetch:
    order = call.order
    fetch = accesses_pb2.SummaryFetch(
        request_id=order.request_id,
        subject_id=order.subject_id,
        consent_id=order.consent_id,
        purpose=order.purpose,
        officer=types_pb2.Officer(name=order.officer, file_reference=order.file_reference),
        derived_use=consents_pb2.DerivedUse(score=True, automated_decision=call.automated_decision),
    )
    if order.as_of is not None:
        fetch.as_of.FromDatetime(order.as_of)
    return fetch
