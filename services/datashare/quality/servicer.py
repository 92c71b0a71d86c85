"""QualityService over gRPC."""

from typing import Final

import grpc

from puhui.datashare.v1 import quality_pb2 as pb
from puhui.datashare.v1 import quality_pb2_grpc
from services.datashare.quality.domain import Finding
from services.datashare.quality.report import (
    MAX_FINDINGS,
    ListFindings,
    ReportQuality,
    TypeQuality,
)
from services.datashare.times import date_message, date_of, stamp_of
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]

_FROM: Final = "from"


class QualityServicer(quality_pb2_grpc.QualityServiceServicer):
    """Translates QualityService.

    Args:
        report: the use case of reports.
        list_findings: the use case of findings.
    """

    def __init__(self, report: ReportQuality, list_findings: ListFindings) -> None:
        self._report = report
        self._list = list_findings

    async def GetQualityReport(
        self, request: pb.GetQualityReportRequest, context: _Context
    ) -> pb.GetQualityReportResponse:
        report = await self._report(
            current_caller(),
            request.provider_id,
            date_of(getattr(request, _FROM), _FROM) if request.HasField(_FROM) else None,
            date_of(request.to, "to") if request.HasField("to") else None,
        )
        ends = {_FROM: date_message(report.first), "to": date_message(report.last)}
        until = report.inspected_until
        return pb.GetQualityReportResponse(
            **ends,
            types=[_type_message(item) for item in report.types],
            inspected_until=stamp_of(until) if until else None,
        )

    async def ListFindings(
        self, request: pb.ListFindingsRequest, context: _Context
    ) -> pb.ListFindingsResponse:
        caller = current_caller()
        bound_to = (
            "findings",
            caller.participant_id,
            request.rule,
            request.subject_id,
            request.provider_id,
            int(request.cleared),
        )
        position = decode_page_token(request.page_token, bound_to, (str,))
        findings, next_before = await self._list(
            caller,
            rule=request.rule,
            subject_id=request.subject_id,
            provider_id=request.provider_id,
            cleared=request.cleared,
            before=str(position[0]) if position else "",
            page_size=page_size(request.page_size, largest=MAX_FINDINGS),
        )
        return pb.ListFindingsResponse(
            findings=[finding_message(item) for item in findings],
            next_page_token=encode_page_token((next_before,), bound_to) if next_before else "",
        )


def _type_message(item: TypeQuality) -> pb.TypeQuality:
    counts, observed = item.counts, item.observed
    message = pb.TypeQuality(
        provider_id=item.place.provider_id,
        record_type=item.place.record_type,
        received=counts.received,
        accepted=counts.accepted,
        duplicates=counts.duplicates,
        held=counts.held,
        rejects=[
            pb.RejectCount(reason=reason, rows=rows)
            for reason, rows in sorted(item.rejects.items())
        ],
        findings=[
            pb.FindingCount(rule=rule, findings=count)
            for rule, count in sorted(item.findings.items())
        ],
    )
    if item.lateness:
        message.lateness_p50_days, message.lateness_p95_days = item.lateness
    if observed:
        message.corrections = observed.corrections
        message.retractions = observed.retractions
        message.last_arrival.CopyFrom(stamp_of(observed.last_arrival))
        message.last_month = observed.last_month
        message.missing.extend(
            pb.MissingField(field=field, missing=count, records=observed.described)
            for field, count in sorted(item.missing.items())
        )
    return message


def finding_message(item: Finding) -> pb.Finding:
    """Return the message of a finding."""
    held = item.contradiction
    return pb.Finding(
        finding_id=item.finding_id,
        rule=held.rule,
        subject_id=held.subject_id,
        other_subject_ids=held.others,
        provider_ids=held.provider_ids,
        record_types=held.record_types,
        first_month=held.first_month,
        last_month=held.last_month,
        figures=dict(held.figures),
        found_at=stamp_of(item.found_at),
        cleared_at=stamp_of(item.cleared_at) if item.cleared_at else None,
    )
