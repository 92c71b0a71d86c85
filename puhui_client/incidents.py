"""Who used and contributed what, and incidents with their handling."""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Literal

from puhui.datashare.v1.incidents_pb2 import (
    GetIncidentRequest,
    HandleIncidentRequest,
    Incident,
    IncidentSeverity,
    IncidentState,
    ListIncidentsRequest,
    ListWatchRulesRequest,
    OpenIncidentRequest,
    WatchRule,
)
from puhui.datashare.v1.metering_pb2 import (
    Contribution,
    ListContributionsRequest,
    ListUsageRequest,
    Usage,
)
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.values import to_date

if TYPE_CHECKING:
    from puhui.datashare.v1.incidents_pb2_grpc import IncidentServiceAsyncStub
    from puhui.datashare.v1.metering_pb2_grpc import MeteringServiceAsyncStub

IncidentStateName = Literal["OPEN", "TAKEN", "CLOSED"]
"""Where the handling of an incident stands."""

SeverityName = Literal["NOTICE", "WARNING", "GRAVE"]
"""How grave an incident is."""


class IncidentMethods(Methods):
    """Methods about usage, contributions and incidents."""

    _metering: "MeteringServiceAsyncStub"
    _incidents: "IncidentServiceAsyncStub"

    async def usage(self, month: date, *, participant_id: str = "") -> AsyncIterator[Usage]:
        """Go through what was called in a month, by participant, product and method.

        Args:
            month: any day of it, China Standard Time.
            participant_id: only this one's; "" is all that the caller may see.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        request = ListUsageRequest(
            month=to_date(month), participant_id=participant_id, page_size=PAGE
        )
        async for page in self._pages(self._metering.ListUsage, request):
            for usage in page.usages:
                yield usage

    async def contributions(
        self, month: date, *, provider_id: str = ""
    ) -> AsyncIterator[Contribution]:
        """Go through what was contributed in a month, by provider and record type.

        Args:
            month: any day of it, China Standard Time.
            provider_id: only this one's; "" is all that the caller may see.

        Raises:
            PermissionDeniedError: NOT_YOURS.
        """
        request = ListContributionsRequest(
            month=to_date(month), provider_id=provider_id, page_size=PAGE
        )
        async for page in self._pages(self._metering.ListContributions, request):
            for contribution in page.contributions:
                yield contribution

    async def incidents(
        self, *, state: IncidentStateName | None = None, participant_id: str = ""
    ) -> AsyncIterator[Incident]:
        """Go through incidents, the latest first.

        Args:
            state: only these; None is any.
            participant_id: only those that concern it; "" is all that the caller sees.
        """
        request = ListIncidentsRequest(participant_id=participant_id, page_size=PAGE)
        if state is not None:
            request.state = IncidentState.Value(f"INCIDENT_STATE_{state}")
        async for page in self._pages(self._incidents.ListIncidents, request):
            for incident in page.incidents:
                yield incident

    async def incident(self, incident_id: str) -> Incident:
        """Return an incident with its handling.

        Raises:
            NotFoundError: there is none that the caller sees.
        """
        request = GetIncidentRequest(incident_id=incident_id)
        return (await self._transport.unary(self._incidents.GetIncident, request)).incident

    async def open_incident(
        self,
        severity: SeverityName,
        *,
        participant_id: str = "",
        summary_zh: str = "",
        summary_en: str = "",
        access_ids: Sequence[str] = (),
        request_id: str | None = None,
    ) -> Incident:
        """As the operator, enter an incident.

        Args:
            severity: how grave it is.
            participant_id: whom it concerns; "" is nobody that is known.
            summary_zh: what was seen, without registration numbers; this, or
            summary_en: the same in English, or both.
            access_ids: that show it, at most 100.
            request_id: the same one enters it once; None makes one.

        Raises:
            InvalidArgumentError: FIELD_INVALID.
            NotFoundError: there is no such participant.
        """
        request = OpenIncidentRequest(
            request_id=request_id or new_request_id(),
            severity=IncidentSeverity.Value(f"INCIDENT_SEVERITY_{severity}"),
            participant_id=participant_id,
            summary_zh=summary_zh,
            summary_en=summary_en,
            access_ids=access_ids,
        )
        return (await self._transport.unary(self._incidents.OpenIncident, request)).incident

    async def handle_incident(
        self,
        incident_id: str,
        note: str,
        *,
        state: IncidentStateName = "OPEN",
        reference: str = "",
        share: bool = False,
        request_id: str | None = None,
    ) -> Incident:
        """As the operator, add a step of the handling.

        Args:
            incident_id: of which incident.
            note: what was done.
            state: from now on; OPEN leaves it as it is.
            reference: who told it whom, e.g. the regulator's number of a report.
            share: let the participant see it from now on.
            request_id: the same one adds it once; None makes one.

        Raises:
            FailedPreconditionError: INCIDENT_STATE, it is closed.
            NotFoundError: there is no such incident.
        """
        request = HandleIncidentRequest(
            request_id=request_id or new_request_id(),
            incident_id=incident_id,
            state=IncidentState.Value(f"INCIDENT_STATE_{state}"),
            note=note,
            reference=reference,
            share=share,
        )
        return (await self._transport.unary(self._incidents.HandleIncident, request)).incident

    async def watch_rules(self) -> Sequence[WatchRule]:
        """Return the rules of the watch over accesses, with their thresholds now."""
        answer = await self._transport.unary(
            self._incidents.ListWatchRules, ListWatchRulesRequest()
        )
        return list(answer.rules)
