"""IncidentService over gRPC."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from puhui.datashare.v1 import incidents_pb2 as pb
from puhui.datashare.v1 import incidents_pb2_grpc
from services.datashare.idempotency.servicer import key_of
from services.datashare.incidents.app import Register
from services.datashare.incidents.domain import Incident, Severity, State, Step
from services.datashare.times import stamp_of
from services.datashare.watch.domain import Rule
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_PAGE = 50
_LARGEST = 500


class IncidentServicer(incidents_pb2_grpc.IncidentServiceServicer):
    """Translates IncidentService.

    Args:
        register: the register of incidents.
        rules: of the watch.
    """

    def __init__(self, register: Register, rules: Sequence[Rule]) -> None:
        self._register = register
        self._rules = rules

    async def OpenIncident(
        self, request: pb.OpenIncidentRequest, context: Any
    ) -> pb.OpenIncidentResponse:
        incident = await self._register.open(
            key_of(current_caller(), request.request_id, request),
            severity=Severity(
                pb.IncidentSeverity.Name(request.severity)[len("INCIDENT_SEVERITY_") :]
            ),
            participant_id=request.participant_id,
            summary_zh=request.summary_zh,
            summary_en=request.summary_en,
            access_ids=request.access_ids,
        )
        return pb.OpenIncidentResponse(incident=message(incident))

    async def ListIncidents(
        self, request: pb.ListIncidentsRequest, context: Any
    ) -> pb.ListIncidentsResponse:
        caller = current_caller()
        bound_to = ("incidents", request.state, request.participant_id, caller.participant_id)
        place = decode_page_token(request.page_token, bound_to, (str,))
        incidents, behind = await self._register.list(
            caller,
            _state(request.state) if request.state else None,
            request.participant_id,
            str(place[0]) if place else "",
            page_size(request.page_size, default=_PAGE, largest=_LARGEST),
        )
        return pb.ListIncidentsResponse(
            incidents=map(message, incidents),
            next_page_token=encode_page_token((behind,), bound_to) if behind else "",
        )

    async def GetIncident(
        self, request: pb.GetIncidentRequest, context: Any
    ) -> pb.GetIncidentResponse:
        incident = await self._register.get(current_caller(), request.incident_id)
        return pb.GetIncidentResponse(incident=message(incident))

    async def HandleIncident(
        self, request: pb.HandleIncidentRequest, context: Any
    ) -> pb.HandleIncidentResponse:
        caller = current_caller()
        incident = await self._register.handle(
            key_of(caller, request.request_id, request),
            caller,
            request.incident_id,
            Step(
                datetime.min.replace(tzinfo=UTC),
                "",
                "",
                _state(request.state),
                request.note,
                request.reference,
            ),
            share=request.share,
        )
        return pb.HandleIncidentResponse(incident=message(incident))

    async def ListWatchRules(
        self, request: pb.ListWatchRulesRequest, context: Any
    ) -> pb.ListWatchRulesResponse:
        return pb.ListWatchRulesResponse(
            rules=[
                pb.WatchRule(
                    rule=rule.name,
                    severity=_severity(rule.severity),
                    zh=rule.zh,
                    en=rule.en,
                    threshold=rule.threshold,
                    window_seconds=int(rule.window.total_seconds()),
                )
                for rule in self._rules
            ]
        )


class IncidentCodec:
    """Incidents as bytes, for replays."""

    def encode(self, response: Incident) -> bytes:
        """Return the bytes of an incident."""
        return message(response).SerializeToString()

    def decode(self, stored: bytes) -> Incident:
        """Return the incident of its bytes."""
        return _incident(pb.Incident.FromString(stored))


def message(incident: Incident) -> pb.Incident:
    """Return the message of an incident."""
    begin, end = incident.window_begin, incident.window_end
    return pb.Incident(
        incident_id=incident.incident_id,
        rule=incident.rule,
        severity=_severity(incident.severity),
        state=pb.IncidentState.Value(f"INCIDENT_STATE_{incident.state}"),
        participant_id=incident.participant_id,
        opened_at=stamp_of(incident.opened_at),
        summary_zh=incident.summary_zh,
        summary_en=incident.summary_en,
        observed=incident.observed,
        threshold=incident.threshold,
        window_begin=stamp_of(begin) if begin else None,
        window_end=stamp_of(end) if end else None,
        access_ids=incident.access_ids,
        handling=[
            pb.HandlingStep(
                at=stamp_of(step.at),
                by_participant_id=step.by_participant_id,
                by_person_id=step.by_person_id,
                state=pb.IncidentState.Value(f"INCIDENT_STATE_{step.state}"),
                note=step.note,
                reference=step.reference,
            )
            for step in incident.handling
        ],
        shared=incident.shared_at is not None,
        repeats=incident.repeats,
    )


def _incident(said: pb.Incident) -> Incident:
    opened_at = said.opened_at.ToDatetime(tzinfo=UTC)
    return Incident(
        incident_id=said.incident_id,
        rule=said.rule,
        severity=Severity(pb.IncidentSeverity.Name(said.severity)[len("INCIDENT_SEVERITY_") :]),
        state=_state(said.state),
        participant_id=said.participant_id,
        opened_at=opened_at,
        summary_zh=said.summary_zh,
        summary_en=said.summary_en,
        observed=said.observed,
        threshold=said.threshold,
        window_begin=said.window_begin.ToDatetime(tzinfo=UTC)
        if said.HasField("window_begin")
        else None,
        window_end=said.window_end.ToDatetime(tzinfo=UTC) if said.HasField("window_end") else None,
        access_ids=tuple(said.access_ids),
        # When it was shared is not told, and what is told of a replay does not depend on it.
        shared_at=opened_at if said.shared else None,
        repeats=said.repeats,
        handling=tuple(
            Step(
                each.at.ToDatetime(tzinfo=UTC),
                each.by_participant_id,
                each.by_person_id,
                _state(each.state),
                each.note,
                each.reference,
            )
            for each in said.handling
        ),
    )


def _severity(severity: Severity) -> "pb.IncidentSeverity.ValueType":
    return pb.IncidentSeverity.Value(f"INCIDENT_SEVERITY_{severity}")


def _state(state: "pb.IncidentState.ValueType") -> State:
    return State(pb.IncidentState.Name(state)[len("INCIDENT_STATE_") :])
