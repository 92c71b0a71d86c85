"""MeteringService over gRPC."""

from typing import Any

from google.type.date_pb2 import Date

from puhui.datashare.v1 import metering_pb2 as pb
from puhui.datashare.v1 import metering_pb2_grpc
from services.datashare.china import date_of_day, day_number
from services.datashare.metering.app import RecordUsage, TellFigures
from services.datashare.metering.domain import (
    Contribution,
    Counts,
    Refused,
    Supply,
    Usage,
    UsageKey,
)
from services.datashare.times import date_of, time_of
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_PAGE = 200
_LARGEST = 1_000


class MeteringServicer(metering_pb2_grpc.MeteringServiceServicer):
    """Translates MeteringService.

    Args:
        record: takes in what gateways counted.
        tell: tells figures.
    """

    def __init__(self, record: RecordUsage, tell: TellFigures) -> None:
        self._record = record
        self._tell = tell

    async def RecordUsage(
        self, request: pb.RecordUsageRequest, context: Any
    ) -> pb.RecordUsageResponse:
        usages = [
            Usage(
                UsageKey(each.participant_id, each.product, each.method),
                day_number(date_of(each.day, f"usages[{index}].day")),
                Counts(*(getattr(each, name) for name in Counts._fields)),
            )
            for index, each in enumerate(request.usages)
        ]
        refusals = [
            Refused(
                each.participant_id,
                each.reason,
                each.count,
                each.in_a_row,
                time_of(each.last_at, f"refusals[{index}].last_at"),
            )
            for index, each in enumerate(request.refusals)
        ]
        await self._record(request.report_id, usages, refusals)
        return pb.RecordUsageResponse()

    async def ListUsage(self, request: pb.ListUsageRequest, context: Any) -> pb.ListUsageResponse:
        day = date_of(request.month, "month")
        caller = current_caller()
        bound_to = ("usage", day.year, day.month, request.participant_id, caller.participant_id)
        place = decode_page_token(request.page_token, bound_to, (str, str, str))
        usages, behind = await self._tell.usage(
            caller,
            day,
            request.participant_id,
            UsageKey(*map(str, place)) if place else None,
            page_size(request.page_size, default=_PAGE, largest=_LARGEST),
        )
        return pb.ListUsageResponse(
            usages=map(_usage, usages),
            next_page_token=encode_page_token(behind, bound_to) if behind else "",
        )

    async def ListContributions(
        self, request: pb.ListContributionsRequest, context: Any
    ) -> pb.ListContributionsResponse:
        day = date_of(request.month, "month")
        caller = current_caller()
        bound_to = (
            "contributions",
            day.year,
            day.month,
            request.provider_id,
            caller.participant_id,
        )
        place = decode_page_token(request.page_token, bound_to, (str, str))
        found, behind = await self._tell.contributions(
            caller,
            day,
            request.provider_id,
            Supply(*map(str, place)) if place else None,
            page_size(request.page_size, default=_PAGE, largest=_LARGEST),
        )
        return pb.ListContributionsResponse(
            contributions=map(_contribution, found),
            next_page_token=encode_page_token(behind, bound_to) if behind else "",
        )


def _usage(usage: Usage) -> pb.Usage:
    day = date_of_day(usage.day)
    return pb.Usage(
        **usage.key._asdict(),
        day=Date(year=day.year, month=day.month, day=day.day),
        **usage.counts._asdict(),
    )


def _contribution(contribution: Contribution) -> pb.Contribution:
    return pb.Contribution(
        **contribution.supply._asdict(),
        accepted=contribution.accepted,
        subjects=contribution.subjects,
        uses=contribution.uses,
        recipients=contribution.recipients,
    )
