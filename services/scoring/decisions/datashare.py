"""Datashare as the source of summaries: one internal batch RPC for all orders that wait together.

Every item carries its own caller's identity, deadline and trace; datashare checks each consent. An
order's linked subjects are items beside its own, each under its own consent, for the order's firm
and under a request id that follows from the order's: so a replay of the order is one of theirs too.
"""

import asyncio
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Final

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2, consents_pb2, disputes_pb2, summaries_pb2
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.errors import (
    DeadlineExceededError,
    FieldProblem,
    InternalError,
    PuhuiError,
    UnavailableError,
)
from services.kit.status import error_from_status
from services.scoring.decisions.app import OrderCall, Released
from services.scoring.decisions.domain import DisputeMark
from services.scoring.decisions.papers import Entry, Papers, Receipt
from services.scoring.reader import read_summary

_log = structlog.get_logger()
METHOD = "/puhui.datashare.v1.AccessService/BatchFetchSummaries"
RELATED_PARTY: Final = "related_party"
"""Purpose under which a linked subject's data is asked for."""
MOST_ITEMS: Final = 256
"""Of one call, as its message says."""
# No order can be of a purpose that needs what it has no field for.
_OF_ORDER: Final = {"for_subject_id": "purpose"}
# What goes wrong whatever the consent says.
_NOT_OF_A_CONSENT = (DeadlineExceededError, InternalError, UnavailableError)


class DatashareSummaries:
    """Fetches summaries from datashare.

    Args:
        channel: to datashare, as scoring itself.
        clock: the time.
    """

    def __init__(self, channel: Channel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock

    async def fetch(
        self, calls: Sequence[OrderCall], answered: Callable[[], None] | None = None
    ) -> list[Released | PuhuiError]:
        """Fetch the summary for each call, under the consent that it names.

        So are those of its linked subjects, each under its own consent; one that is refused refuses
        the call.

        Args:
            calls: what is ordered.
            answered: is called once datashare has answered, before its answer is read.
        """
        parts = list(_parts(calls))
        results: list[Released | PuhuiError] = []
        for part in parts:
            results += await self._fetch(part, answered if part is parts[-1] else None)
        return results

    async def _fetch(
        self, calls: Sequence[OrderCall], answered: Callable[[], None] | None
    ) -> list[Released | PuhuiError]:
        """Fetch for calls whose items fit into one call of datashare."""
        loop_now, now = asyncio.get_running_loop().time(), self._clock.now()
        request = accesses_pb2.BatchFetchSummariesRequest()
        for call in calls:
            deadline = Timestamp()
            deadline.FromDatetime(now + timedelta(seconds=call.deadline - loop_now))
            for fetch in (_fetch(call), *map(functools.partial(_linked, call), _places(call))):
                request.items.add(
                    identity=call.identity,
                    fetch=fetch,
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
        if answered is not None:
            answered()
        papers = [call.with_papers for call in calls for _ in range(1 + len(_places(call)))]
        read: list[Released | PuhuiError] = []
        for result, wanted in zip(response.results, papers, strict=True):
            # Others have a turn meanwhile: the next batch is sent off.
            await asyncio.sleep(0)
            read.append(_answer(result, wanted))
        answers = iter(read)
        return [
            _together(next(answers), {at: next(answers) for at in _places(call)}) for call in calls
        ]


def _places(call: OrderCall) -> list[int]:
    """Return the places of the linked subjects that are fetched for a call."""
    return [at for at, each in enumerate(call.order.linked) if each.relation in call.relations]


def _parts(calls: Sequence[OrderCall]) -> Iterator[list[OrderCall]]:
    """Cut calls into parts whose items fit into one call of datashare."""
    part: list[OrderCall] = []
    items = 0
    for call in calls:
        more = 1 + len(_places(call))
        if items + more > MOST_ITEMS:
            yield part
            part, items = [], 0
        part.append(call)
        items += more
    if part:
        yield part


def _together(
    own: Released | PuhuiError, linked: Mapping[int, Released | PuhuiError]
) -> Released | PuhuiError:
    """Return what a firm's own data and that of its linked subjects are for the order."""
    if isinstance(own, PuhuiError):
        return _as_ordered(own)
    released: dict[int, Released] = {}
    for at, answer in linked.items():
        if isinstance(answer, PuhuiError):
            return _as_linked(answer, at)
        released[at] = answer
    return replace(own, linked=released) if released else own


def _answer(result: accesses_pb2.BatchFetchResult, papers: bool) -> Released | PuhuiError:
    if not result.HasField("released"):
        return error_from_status(result.refused)
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
        papers=_papers(released) if papers else None,
    )


def _papers(released: accesses_pb2.FetchSummaryResponse) -> Papers:
    receipt, name = released.receipt, accesses_pb2.Completeness.Name
    return Papers(
        Receipt(receipt.leaf_hash, receipt.salt, receipt.content, receipt.promise),
        tuple(
            Entry(
                entry.provider_id,
                entry.record_type,
                name(entry.completeness).removeprefix("COMPLETENESS_"),
            )
            for entry in released.manifest
        ),
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
        replace(problem, field=f"order.{_OF_ORDER.get(name, name)}")
        for problem in error.fields
        for name in [problem.field.removeprefix("fetch.")]
    )
    return error


def _as_linked(error: PuhuiError, at: int) -> PuhuiError:
    """Name the linked subject, whose consent it is that does not allow it."""
    if not isinstance(error, _NOT_OF_A_CONSENT):
        what = "subject_id" if error.reason in ("NOT_FOUND", "SUBJECT_ERASED") else "consent_id"
        error.fields = (FieldProblem(f"order.linked[{at}].{what}", error.message),)
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
        product=order.product,
    )
    if order.as_of is not None:
        fetch.as_of.FromDatetime(order.as_of)
    return fetch


def _linked(call: OrderCall, at: int) -> accesses_pb2.SummaryFetch:
    fetch, each = _fetch(call), call.order.linked[at]
    fetch.request_id = linked_request_id(call.order.request_id, each.subject_id)
    fetch.subject_id = each.subject_id
    fetch.consent_id = each.consent_id
    fetch.purpose = RELATED_PARTY
    fetch.for_subject_id = call.order.subject_id
    return fetch


def linked_request_id(request_id: str, subject_id: str) -> str:
    """Return the id under which an order's linked subject is fetched: 64 characters."""
    said = json.dumps(["linked", request_id, subject_id])
    return hashlib.sha256(said.encode()).hexdigest()
