"""The quality of what providers supply, and where sources contradict each other."""

from collections.abc import AsyncIterator
from datetime import date
from typing import TYPE_CHECKING

from puhui.datashare.v1.quality_pb2 import (
    Finding,
    GetQualityReportRequest,
    GetQualityReportResponse,
    ListFindingsRequest,
)
from puhui_client.base import PAGE, Methods
from puhui_client.values import to_date

if TYPE_CHECKING:
    from google.type.date_pb2 import Date

    from puhui.datashare.v1.quality_pb2_grpc import QualityServiceAsyncStub


class QualityMethods(Methods):
    """Methods about quality."""

    _quality: "QualityServiceAsyncStub"

    async def quality_report(
        self, provider_id: str = "", *, first: date | None = None, last: date | None = None
    ) -> GetQualityReportResponse:
        """Return volume, lateness, rejects, missing fields, freshness and findings.

        Args:
            provider_id: whose; "" is all that the caller may see. A provider sees itself.
            first: day on which records came in, China Standard Time; None is 30 days up to `last`.
            last: likewise, included; None is today.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            InvalidArgumentError: DATE_INVALID.
        """
        request = GetQualityReportRequest(provider_id=provider_id)
        ends: dict[str, date | None] = {"from": first, "to": last}
        for name, day in ends.items():
            if day is not None:
                message: Date = getattr(request, name)
                message.CopyFrom(to_date(day))
        return await self._transport.unary(self._quality.GetQualityReport, request)

    async def findings(
        self,
        *,
        rule: str = "",
        subject_id: str = "",
        provider_id: str = "",
        cleared: bool = False,
    ) -> AsyncIterator[Finding]:
        """Go through contradictions between sources, newest first.

        A provider sees those in which its records take part.

        Args:
            rule: only of this rule, e.g. "sales_gap"; "" is any.
            subject_id: only those in which this subject takes part; "" is any.
            provider_id: only those in which its records take part; "" is any.
            cleared: those that no longer hold, too.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            InvalidArgumentError: FIELD_INVALID, there is no such rule.
        """
        request = ListFindingsRequest(
            rule=rule,
            subject_id=subject_id,
            provider_id=provider_id,
            cleared=cleared,
            page_size=PAGE,
        )
        async for page in self._pages(self._quality.ListFindings, request):
            for finding in page.findings:
                yield finding
