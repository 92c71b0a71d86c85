"""ReportService on the wire."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from puhui.scoring.v1 import reports_pb2 as pb
from puhui.scoring.v1 import reports_pb2_grpc
from services.scoring.decisions.domain import Decision, Referred
from services.scoring.decisions.referrals import STOPPED, referral
from services.scoring.decisions.servicer import call_of, decision_to_proto
from services.scoring.reports.app import MakeReport
from services.scoring.reports.domain import REPORT_VERSION, Format, Json, Language

CONTENT_TYPES: Final = {
    Format.JSON: "application/json",
    Format.HTML: "text/html; charset=utf-8",
    Format.PDF: "application/pdf",
}


class ReportServicer(reports_pb2_grpc.ReportServiceServicer):
    """Translates ReportService.

    Args:
        make: the use case.
        keys: thumbprint and JWK of the keys under which reports are and were signed.
    """

    def __init__(self, make: MakeReport, keys: Sequence[tuple[str, str]]) -> None:
        self._make = make
        self._keys = [pb.ReportKey(key_id=key_id, public_jwk=jwk) for key_id, jwk in keys]

    async def GetCreditReport(
        self, request: pb.GetCreditReportRequest, context: Any
    ) -> pb.GetCreditReportResponse:
        format_ = Format(pb.ReportFormat.Name(request.format).removeprefix("REPORT_FORMAT_"))
        english = request.language == pb.REPORT_LANGUAGE_EN
        made = await self._make(
            call_of(request.order), format_, Language.EN if english else Language.ZH
        )
        if isinstance(made, Referred):
            return pb.GetCreditReportResponse(referral=referral(STOPPED, made.since))
        return pb.GetCreditReportResponse(
            report=pb.CreditReport(
                decision_id=made.decision_id,
                access_id=made.access_id,
                report_version=REPORT_VERSION,
                content_type=CONTENT_TYPES[format_],
                content=made.content,
                content_jws=made.content_jws,
                document_sha256=made.document_sha256,
                document_jws=made.document_jws,
            )
        )

    async def ListReportKeys(
        self, request: pb.ListReportKeysRequest, context: Any
    ) -> pb.ListReportKeysResponse:
        return pb.ListReportKeysResponse(keys=self._keys)


def told(decision: Decision) -> Json:
    """Return a decision as it is answered to the bank, by the names of the .proto."""
    message: Json = MessageToDict(
        decision_to_proto(decision),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    # What is answered first has them in another order than what is read back.
    message["points"].sort(key=itemgetter("group"))
    for each in (message, *message["linked"]):
        each["coverage"].sort(key=itemgetter("record_type"))
        each["disputes"].sort(key=itemgetter("dispute_id"))
    return message
