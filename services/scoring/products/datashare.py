"""Datashare as far as score products need it: who supplies what, and what there is for a firm."""

import asyncio
import datetime as dt
from collections.abc import Mapping
from typing import Final

from puhui.common.v1 import types_pb2
from puhui.datashare.v1 import accesses_pb2, catalogue_pb2, consents_pb2, summaries_pb2
from services.kit.client import Channel
from services.kit.clock import Clock
from services.kit.errors import PuhuiError
from services.kit.ids import Ids
from services.scoring.features.domain import Coverage
from services.scoring.products.app import Check, Look, Supply
from services.scoring.products.domain import Found

SUPPLY: Final = "/puhui.datashare.v1.AccessService/GetSupply"
CHECK: Final = "/puhui.datashare.v1.AccessService/CheckFetch"
_STATE: Final = "COVERAGE_STATE_"
_FIELDS: Final = {"fetch.officer.name": "officer.name"} | {
    "fetch.officer.file_reference": "officer.file_reference",
    "fetch.as_of": "as_of",
    "fetch.purpose": "product",
}


class DatasharePlatform:
    """Asks datashare.

    Args:
        channel: to datashare, as scoring itself.
        clock: the time.
        ids: makes request ids.
    """

    def __init__(self, channel: Channel, clock: Clock, ids: Ids) -> None:
        self._channel = channel
        self._clock = clock
        self._ids = ids

    async def supply(self) -> Mapping[str, Supply]:
        """Return how each record type comes to the platform."""
        answer = await self._channel.unary(
            SUPPLY,
            accesses_pb2.GetSupplyRequest(),
            accesses_pb2.GetSupplyResponse,
            idempotent=True,
        )
        return {
            each.record_type: Supply(
                is_open=each.sharing_mode == catalogue_pb2.SHARING_MODE_OPEN,
                kinds=tuple(each.provider_kinds),
                provider_ids=tuple(each.provider_ids),
                supplied=each.supplied,
                zh=each.title_zh,
                en=each.title_en,
            )
            for each in answer.types
        }

    async def look(self, check: Check, purpose: str) -> Look | PuhuiError:
        """Return what there is for a firm, or why the consent that is named does not allow it."""
        left = check.deadline - asyncio.get_running_loop().time()
        fetch = accesses_pb2.SummaryFetch(
            request_id=self._ids.new("chk"),
            subject_id=check.subject_id,
            consent_id=check.consent_id,
            purpose=purpose,
            officer=types_pb2.Officer(name=check.officer, file_reference=check.file_reference),
            derived_use=consents_pb2.DerivedUse(
                score=True, automated_decision=check.automated_decision
            ),
        )
        if check.as_of is not None:
            fetch.as_of.FromDatetime(check.as_of)
        item = accesses_pb2.BatchFetchItem(
            identity=check.identity, fetch=fetch, traceparent=check.traceparent
        )
        item.deadline.FromDatetime(self._clock.now() + dt.timedelta(seconds=left))
        request = accesses_pb2.CheckFetchRequest(item=item)
        try:
            answer = await self._channel.unary(
                CHECK, request, accesses_pb2.CheckFetchResponse, timeout=left
            )
        except PuhuiError as error:
            error.fields = tuple(
                type(each)(_FIELDS.get(each.field, each.field.removeprefix("fetch.")), each.problem)
                for each in error.fields
            )
            return error
        begins = getattr(answer.period, "from")
        return Look(
            access_id=answer.access_id,
            as_of=answer.as_of.ToDatetime(tzinfo=dt.UTC),
            opens=dt.date(begins.year, begins.month, begins.day),
            types={each.record_type: _found(each) for each in answer.types},
        )


def _found(message: accesses_pb2.TypeFound) -> Found:
    state = summaries_pb2.CoverageState.Name(message.state).removeprefix(_STATE)
    return Found(Coverage(state), message.first_month)
