"""Credit reports: what a bank files of a score."""

from typing import TYPE_CHECKING, Literal

from puhui.scoring.v1.reports_pb2 import (
    CreditReport,
    GetCreditReportRequest,
    ListReportKeysRequest,
    ReportFormat,
    ReportLanguage,
)
from puhui.scoring.v1.scoring_pb2 import ScoreOrder
from puhui_client.base import Methods
from puhui_client.errors import ReferralError

if TYPE_CHECKING:
    from puhui.scoring.v1.reports_pb2_grpc import ReportServiceAsyncStub

FormatName = Literal["JSON", "HTML", "PDF"]
LanguageName = Literal["ZH", "EN"]


class ReportMethods(Methods):
    """Methods about credit reports."""

    _reports: "ReportServiceAsyncStub"

    async def credit_report(
        self,
        order: ScoreOrder,
        *,
        format_: FormatName = "PDF",
        language: LanguageName = "ZH",
        timeout: float | None = None,
    ) -> CreditReport:
        """Score one firm and get a report of it; both are one access under the consent.

        Keep `content` as a file and `content_jws` beside it: `puhui_client.report_files` checks
        both without the platform.

        Args:
            order: what is asked, by `score_order`; its request_id, sent again, gives the same
                decision, also where it was scored before.
            format_: JSON has both languages.
            language: of HTML and PDF.
            timeout: seconds; None is the client's.

        Raises:
            ConsentError: a consent does not allow it; `reason` says why.
            FailedPreconditionError: DATA_INSUFFICIENT; or REPORT_FONT_MISSING, of a PDF.
            ReferralError: scoring is stopped; nothing was read, and a person decides.
        """
        request = GetCreditReportRequest(
            order=order,
            format=ReportFormat.Value(f"REPORT_FORMAT_{format_}"),
            language=ReportLanguage.Value(f"REPORT_LANGUAGE_{language}"),
        )
        answer = await self._transport.unary(
            self._reports.GetCreditReport, request, timeout=timeout
        )
        if answer.HasField("referral"):
            told = answer.referral
            raise ReferralError("FAILED_PRECONDITION", told.code, told.text_en)
        return answer.report

    async def report_keys(self) -> dict[str, str]:
        """Return the public keys of reports, JWK by thumbprint; keep them to check reports."""
        answer = await self._transport.unary(self._reports.ListReportKeys, ListReportKeysRequest())
        return {key.key_id: key.public_jwk for key in answer.keys}
