"""AccessService over gRPC."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

import grpc
import structlog

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2 as pb
from puhui.datashare.v1 import accesses_pb2_grpc, catalogue_pb2, summaries_pb2
from services.datashare.access.app import FetchSummaries, Item, ListAccesses, TellSupply
from services.datashare.access.domain import (
    Channel,
    Completeness,
    CoverageState,
    Entry,
    Fetch,
    Recorded,
    Released,
)
from services.datashare.caps.app import CappedFetch
from services.datashare.china import date_of_day
from services.datashare.consent.domain import Selection
from services.datashare.disputes.servicer import mark_message
from services.datashare.idempotency.servicer import fingerprint
from services.datashare.participants.domain import Role
from services.datashare.times import (
    date_message,
    date_of,
    period_message,
    period_of,
    stamp_of,
    time_of,
)
from services.datashare.uses.app import ListUses, Place
from services.kit.calls import current_deadline
from services.kit.coalesce import Coalescer
from services.kit.errors import InternalError, PermissionDeniedError, PuhuiError
from services.kit.identity import IdentityVerifier, current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size
from services.kit.status import status_of

_log = structlog.get_logger()

_COVERAGE = {
    state: summaries_pb2.CoverageState.Value(f"COVERAGE_STATE_{state}") for state in CoverageState
}
_COMPLETENESS = {state: pb.Completeness.Value(f"COMPLETENESS_{state}") for state in Completeness}

_Context = grpc.aio.ServicerContext[object, object]

_MAX_BATCH: Final = 64
_WORKERS: Final = 2


class AccessServicer(accesses_pb2_grpc.AccessServiceServicer):
    """Translates AccessService.

    Args:
        fetch: the use case of fetching.
        list_accesses: the use case of listing them.
        list_uses: the use case of telling providers.
        tell_supply: the use case of telling who may supply what.
        verifier: of the identities in a batch, which were asserted to scoring.
    """

    def __init__(
        self,
        fetch: FetchSummaries | CappedFetch,
        list_accesses: ListAccesses,
        list_uses: ListUses,
        tell_supply: TellSupply,
        verifier: IdentityVerifier,
    ) -> None:
        self._fetch = fetch
        self._together: Coalescer[Item, Released] = Coalescer(
            self._single, max_batch=_MAX_BATCH, workers=_WORKERS
        )
        self._list = list_accesses
        self._list_uses = list_uses
        self._tell_supply = tell_supply
        self._verifier = verifier

    async def FetchSummary(
        self, request: pb.FetchSummaryRequest, context: _Context
    ) -> pb.FetchSummaryResponse:
        item = Item(current_caller(), _fetch(request.fetch))
        if item.fetch.as_of is None:
            released = await self._together.submit(item, current_deadline())
        else:  # a read of a past may take long: nobody else waits for it
            (result,) = await self._fetched([item], Channel.DATASHARE)
            if isinstance(result, PuhuiError):
                raise result
            released = result
        response = pb.FetchSummaryResponse()
        _fill(response, released)
        return response

    async def BatchFetchSummaries(
        self, request: pb.BatchFetchSummariesRequest, context: _Context
    ) -> pb.BatchFetchSummariesResponse:
        results: list[Released | PuhuiError | None] = []
        items = []
        for message in request.items:
            try:
                items.append(self._item(message))
                results.append(None)
            except PuhuiError as error:
                results.append(error)
        done = iter(await self._fetched(items, Channel.SCORING))
        # Filled in place: a message given to another's constructor is copied.
        response = pb.BatchFetchSummariesResponse()
        for result in results:
            _fill_result(response.results.add(), next(done) if result is None else result)
        return response

    async def CheckFetch(
        self, request: pb.CheckFetchRequest, context: _Context
    ) -> pb.CheckFetchResponse:
        item = self._item(request.item)
        checked = replace(item, fetch=replace(item.fetch, check=True))
        (result,) = await self._fetched([checked], Channel.SCORING)
        if isinstance(result, PuhuiError):
            raise result
        first: dict[str, int] = {}
        for series in result.series:
            for month in summaries_pb2.Series.FromString(series.content).months[:1]:
                first[series.record_type] = min(first.get(series.record_type, month), month)
        return pb.CheckFetchResponse(
            access_id=result.access_id,
            as_of=stamp_of(result.as_of),
            period=period_message(result.period),
            types=[
                pb.TypeFound(
                    record_type=record_type,
                    state=_COVERAGE[state],
                    first_month=first.get(record_type, 0),
                )
                for record_type, state in result.coverage
            ],
        )

    async def GetSupply(
        self, request: pb.GetSupplyRequest, context: _Context
    ) -> pb.GetSupplyResponse:
        return pb.GetSupplyResponse(
            types=[
                pb.TypeSupply(
                    record_type=each.policy.name,
                    sharing_mode=catalogue_pb2.SharingMode.ValueType(each.policy.sharing_mode),
                    provider_kinds=sorted(each.policy.provider_kinds),
                    provider_ids=each.provider_ids,
                    supplied=each.supplied,
                    title_zh=each.policy.title.zh,
                    title_en=each.policy.title.en,
                )
                for each in await self._tell_supply()
            ]
        )

    async def ListAccesses(
        self, request: pb.ListAccessesRequest, context: _Context
    ) -> pb.ListAccessesResponse:
        caller = current_caller()
        bound_to = ("accesses", caller.participant_id, request.subject_id)
        position = decode_page_token(request.page_token, bound_to, (str,))
        accesses, next_before = await self._list(
            caller,
            request.subject_id,
            str(position[0]) if position else "",
            page_size(request.page_size),
        )
        return pb.ListAccessesResponse(
            accesses=access_messages(accesses),
            next_page_token=encode_page_token((next_before,), bound_to) if next_before else "",
        )

    async def ListUses(self, request: pb.ListUsesRequest, context: _Context) -> pb.ListUsesResponse:
        begins, ends = getattr(request, "from"), request.to
        first = date_of(begins, "from") if request.HasField("from") else None
        last = date_of(ends, "to") if request.HasField("to") else None
        bound_to = ("uses", request.provider_id, str(first), str(last))
        position = decode_page_token(request.page_token, bound_to, (int, str, str))
        after: Place | None = None
        if position:
            after = int(position[0]), str(position[1]), str(position[2])
        uses, behind = await self._list_uses(
            current_caller(),
            request.provider_id,
            first,
            last,
            after,
            page_size(request.page_size),
        )
        return pb.ListUsesResponse(
            uses=[
                pb.Use(
                    day=date_message(date_of_day(use.day)),
                    record_type=use.record_type,
                    purpose=use.purpose,
                    count=use.releases,
                )
                for use in uses
            ],
            next_page_token=encode_page_token(behind, bound_to) if behind else "",
        )

    async def _single(self, items: Sequence[Item]) -> list[Released | Exception]:
        """Fetch for callers that came one by one and waited together, in one transaction."""
        return list(await self._fetched(items, Channel.DATASHARE))

    async def _fetched(
        self, items: Sequence[Item], channel: Channel
    ) -> list[Released | PuhuiError]:
        results = await self._fetch(items, channel)
        for result in results:
            if isinstance(result, InternalError):
                _log.error("fault", exc_info=result.__cause__)
        return results

    def _item(self, message: pb.BatchFetchItem) -> Item:
        caller = self._verifier.verify(message.identity)
        if caller.role != Role.BANK:
            raise PermissionDeniedError("ROLE_NOT_ALLOWED", "only a bank may fetch summaries")
        deadline = time_of(message.deadline, "deadline") if message.HasField("deadline") else None
        return Item(caller, _fetch(message.fetch), deadline)


def _fetch(message: pb.SummaryFetch) -> Fetch:
    return Fetch(
        request_id=message.request_id,
        fingerprint=fingerprint(message),
        subject_id=message.subject_id,
        consent_id=message.consent_id,
        purpose=message.purpose,
        record_types=tuple(message.record_types),
        period=period_of(message.period, "fetch.period") if message.HasField("period") else None,
        as_of=time_of(message.as_of, "fetch.as_of") if message.HasField("as_of") else None,
        officer=message.officer.name,
        file_reference=message.officer.file_reference,
        fields=tuple(Selection(part.record_type, tuple(part.names)) for part in message.fields),
        score=message.derived_use.score,
        automated_decision=message.derived_use.automated_decision,
        for_subject_id=message.for_subject_id,
        product=message.product,
    )


def _fill_result(message: pb.BatchFetchResult, result: Released | PuhuiError) -> None:
    if isinstance(result, PuhuiError):
        message.refused.CopyFrom(status_of(result))
    else:
        _fill(message.released, result)


def _fill(message: pb.FetchSummaryResponse, released: Released) -> None:
    message.access_id = released.access_id
    summary = message.summary
    summary.subject_id = released.subject_id
    summary.as_of.FromDatetime(released.as_of)
    summary.period.CopyFrom(period_message(released.period))
    summary.simulated = released.simulated
    summary.withheld = released.withheld
    for series in released.series:
        summary.series.add().MergeFromString(series.content)
    summary.MergeFromString(_coverage(released.coverage))
    for mark in released.disputes:
        summary.disputes.append(mark_message(mark))
    receipt = message.receipt
    receipt.leaf_hash = released.receipt.leaf_hash
    receipt.salt = released.receipt.salt
    receipt.content = released.receipt.content
    receipt.promise = released.receipt.promise
    message.MergeFromString(_manifest(released.manifest))


@lru_cache(1024)
def _coverage(states: tuple[tuple[str, CoverageState], ...]) -> bytes:
    """Return the coverage of a summary, serialised: most firms have one of few."""
    summary = summaries_pb2.SubjectSummary()
    for record_type, state in states:
        summary.coverage.add(record_type=record_type, state=_COVERAGE[state])
    return summary.SerializeToString()


@lru_cache(4096)
def _manifest(entries: tuple[Entry, ...]) -> bytes:
    """Return the manifest of a response, serialised: most firms of a bank have one of few."""
    response = pb.FetchSummaryResponse()
    for entry in entries:
        response.manifest.add(
            provider_id=entry.provider_id,
            record_type=entry.record_type,
            completeness=_COMPLETENESS[entry.completeness],
        )
    return response.SerializeToString()


def access_messages(accesses: Sequence[Recorded]) -> list[pb.Access]:
    """Return the messages of accesses."""
    return [_access_message(recorded) for recorded in accesses]


def _access_message(recorded: Recorded) -> pb.Access:
    access = recorded.access
    message = pb.Access(
        access_id=access.access_id,
        subject_id=access.subject_id,
        accessed_at=stamp_of(access.accessed_at),
        recipient_id=access.recipient_id,
        recipient_name=recorded.recipient_name,
        officer=types_pb2.Officer(name=access.officer, file_reference=access.file_reference),
        purpose=access.purpose,
        record_types=access.record_types,
        content_level=types_pb2.ContentLevel.ValueType(access.content_level),
        consent_id=access.consent_id,
        consent_revision=access.consent_revision,
        outcome=pb.AccessOutcome.Value(f"ACCESS_OUTCOME_{access.outcome}"),
        refusal_reason=access.refusal_reason,
        channel=access.channel,
        leaf_hash=recorded.leaf_hash,
        first_month=access.first_month,
        last_month=access.last_month,
        for_subject_id=access.for_subject_id,
        product=access.product,
    )
    if access.score is not None:
        message.derived_use.score = access.score
        message.derived_use.automated_decision = bool(access.automated_decision)
    return message
