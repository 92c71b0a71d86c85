"""RegistryService on the wire."""

import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from puhui.scoring.v1 import registry_pb2 as pb
from puhui.scoring.v1 import registry_pb2_grpc, scoring_pb2
from services.kit.errors import NotFoundError, invalid_field
from services.kit.identity import current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size
from services.scoring.models.domain import ModelClass
from services.scoring.registry.app import ChangeRegistry, Key, Leaf, TellRegistry
from services.scoring.registry.domain import (
    Event,
    Person,
    Proposal,
    Registry,
    State,
    Validation,
    content_of,
)
from services.scoring.shadow.app import TellShadow
from services.scoring.shadow.domain import Figures

_PROPOSALS: Final = ("model_proposals",)


class Serving(Protocol):
    """What serves in this replica."""

    @property
    def registry(self) -> Registry:
        """What stands."""
        ...

    @property
    def trials(self) -> bool:
        """Whether models may be tried that nobody validated."""
        ...


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Translates RegistryService.

    Args:
        change: the ways to change the registry.
        tell: the ways to read it.
        serving: what serves in this replica.
        shadow: the use case of reporting on a challenger.
    """

    def __init__(
        self, change: ChangeRegistry, tell: TellRegistry, serving: Serving, shadow: TellShadow
    ) -> None:
        self._change = change
        self._tell = tell
        self._serving = serving
        self._shadow = shadow

    async def RegisterModel(
        self, request: pb.RegisterModelRequest, context: Any
    ) -> pb.RegisterModelResponse:
        event = await self._change.register(
            *_who(request), request.reason, request.version, request.parent
        )
        return pb.RegisterModelResponse(event=_event(event))

    async def ProposePromotion(
        self, request: pb.ProposePromotionRequest, context: Any
    ) -> pb.ProposePromotionResponse:
        stated = request.validation
        event = await self._change.propose(
            *_who(request),
            request.reason,
            request.version,
            _state(request.to),
            Validation(stated.validator, stated.document)
            if request.HasField("validation")
            else None,
        )
        return pb.ProposePromotionResponse(event=_event(event))

    async def ProposeResumption(
        self, request: pb.ProposeResumptionRequest, context: Any
    ) -> pb.ProposeResumptionResponse:
        event = await self._change.propose_resumption(
            *_who(request), request.reason, request.version
        )
        return pb.ProposeResumptionResponse(event=_event(event))

    async def ApproveProposal(
        self, request: pb.ApproveProposalRequest, context: Any
    ) -> pb.ApproveProposalResponse:
        event = await self._change.approve(*_who(request), request.reason, request.proposal_id)
        return pb.ApproveProposalResponse(event=_event(event))

    async def DeclineProposal(
        self, request: pb.DeclineProposalRequest, context: Any
    ) -> pb.DeclineProposalResponse:
        event = await self._change.decline(*_who(request), request.reason, request.proposal_id)
        return pb.DeclineProposalResponse(event=_event(event))

    async def RollBackModel(
        self, request: pb.RollBackModelRequest, context: Any
    ) -> pb.RollBackModelResponse:
        event = await self._change.roll_back(*_who(request), request.reason, request.version)
        return pb.RollBackModelResponse(event=_event(event))

    async def DemoteModel(
        self, request: pb.DemoteModelRequest, context: Any
    ) -> pb.DemoteModelResponse:
        event = await self._change.demote(
            *_who(request), request.reason, request.version, _state(request.to)
        )
        return pb.DemoteModelResponse(event=_event(event))

    async def StopScoring(
        self, request: pb.StopScoringRequest, context: Any
    ) -> pb.StopScoringResponse:
        event = await self._change.stop(*_who(request), request.reason, request.version)
        return pb.StopScoringResponse(event=_event(event))

    async def GetServing(
        self, request: pb.GetServingRequest, context: Any
    ) -> pb.GetServingResponse:
        registry = self._serving.registry
        return pb.GetServingResponse(
            champion=registry.champion,
            predecessor=registry.predecessor(trials=self._serving.trials),
            stops=[
                pb.ScoringStop(version=each.version, since=_stamp(each.since), reason=each.reason)
                for each in registry.stops.values()
            ],
            models=[
                pb.RegisteredModel(
                    ref=scoring_pb2.ModelRef(
                        version=each.version, model_class=_class(each.said_class)
                    ),
                    state=_state_message(each.state),
                    validation=_validation(each.validation),
                    registered_at=_stamp(each.registered_at),
                    manifest_sha256=each.folder.manifest_sha256,
                    signer=each.folder.signer,
                    parent=each.folder.parent,
                )
                for each in registry.models.values()
            ],
        )

    async def ListModelProposals(
        self, request: pb.ListModelProposalsRequest, context: Any
    ) -> pb.ListModelProposalsResponse:
        limit = page_size(request.page_size)
        after = decode_page_token(request.page_token, _PROPOSALS, (str,))
        found = [
            each
            for each in await self._tell.waiting()
            if after is None or each.proposal_id > str(after[0])
        ]
        more = len(found) > limit
        return pb.ListModelProposalsResponse(
            proposals=map(_proposal, found[:limit]),
            next_page_token=encode_page_token((found[limit - 1].proposal_id,), _PROPOSALS)
            if more
            else "",
        )

    async def ListModelEvents(
        self, request: pb.ListModelEventsRequest, context: Any
    ) -> pb.ListModelEventsResponse:
        limit, bound = page_size(request.page_size), ("model_events", request.version)
        before = decode_page_token(request.page_token, bound, (int,))
        page = await self._tell.page(request.version, int(before[0]) if before else None, limit + 1)
        return pb.ListModelEventsResponse(
            events=[_event(told.event, told.leaf) for told in page[:limit]],
            next_page_token=encode_page_token((page[limit - 1].position,), bound)
            if len(page) > limit
            else "",
        )

    async def GetShadowReport(
        self, request: pb.GetShadowReportRequest, context: Any
    ) -> pb.GetShadowReportResponse:
        registry = self._serving.registry
        registry.get(request.version)
        against = request.against or registry.champion
        if not against:
            raise NotFoundError(
                "MODEL_NOT_FOUND", "there is no champion: name the version to compare with"
            )
        report = await self._shadow(
            request.version, against, _day(request.since) if request.HasField("since") else None
        )
        return pb.GetShadowReportResponse(
            version=request.version,
            against=against,
            all=_figures(report.all),
            days=[
                pb.ShadowDay(
                    day=Date(year=day.year, month=day.month, day=day.day), figures=_figures(figures)
                )
                for day, figures in report.days.items()
            ],
            grades=[
                pb.GradeMove(answered=answered, challenger=challenger, firms=firms)
                for (answered, challenger), firms in report.grades.items()
            ],
        )


def _who(request: Any) -> tuple[Key, Person]:
    """Return what names a write and who asks for it."""
    caller = current_caller()
    key = Key(caller.participant_id, request.request_id, _fingerprint(request))
    return key, Person(caller.participant_id, request.officer, caller.person_id)


def _fingerprint(request: Message) -> bytes:
    body = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\x00" + body).digest()


def _event(event: Event, leaf: Leaf | None = None) -> pb.ModelEvent:
    message = pb.ModelEvent(
        event_id=event.event_id,
        at=_stamp(event.at),
        act=pb.ModelAct.Value(f"MODEL_ACT_{event.act}"),
        version=event.version,
        to=_state_message(event.target),
        participant_id=event.by.participant_id,
        officer=event.by.officer,
        reason=event.reason,
        proposal_id=event.proposal_id,
        validation=_validation(event.validation),
        other_version=event.other if event.target else "",
        content=content_of(event),
    )
    setattr(message, "from", _state_message(event.source))
    if event.expires_at:
        message.expires_at.CopyFrom(_stamp(event.expires_at))
    if event.folder:
        message.manifest_sha256 = event.folder.manifest_sha256
        message.signer = event.folder.signer
        message.model_class = _class(event.folder.model_class)
        message.parent = event.folder.parent
    if leaf:
        message.leaf.CopyFrom(pb.EventLeaf(leaf_id=leaf.leaf_id, salt=leaf.salt, hash=leaf.hash))
    return message


def _proposal(proposal: Proposal) -> pb.ModelProposal:
    return pb.ModelProposal(
        proposal_id=proposal.proposal_id,
        version=proposal.version,
        to=_state_message(proposal.target),
        resumes=proposal.target is None,
        participant_id=proposal.by.participant_id,
        officer=proposal.by.officer,
        reason=proposal.reason,
        validation=_validation(proposal.validation),
        proposed_at=_stamp(proposal.proposed_at),
        expires_at=_stamp(proposal.expires_at),
    )


def _figures(figures: Figures) -> pb.ShadowFigures:
    message = pb.ShadowFigures(
        scored=figures.scored,
        dropped=figures.loss.dropped,
        failed=figures.loss.failed,
        mean=figures.mean,
        agreement=figures.agreement,
        mean_pd_difference=figures.pd_difference,
    )
    for share, value in figures.quantiles.items():
        setattr(message, _QUANTILES[share], value)
    return message


_QUANTILES: Final[Mapping[float, str]] = {
    0.05: "p05",
    0.25: "p25",
    0.5: "p50",
    0.75: "p75",
    0.95: "p95",
}


def _validation(validation: Validation | None) -> pb.ValidationStatement | None:
    if validation is None:
        return None
    return pb.ValidationStatement(validator=validation.validator, document=validation.document)


def _state(state: "pb.ModelState.ValueType") -> State:
    return State(pb.ModelState.Name(state).removeprefix("MODEL_STATE_"))


def _state_message(state: State | None) -> "pb.ModelState.ValueType":
    return pb.ModelState.Value(f"MODEL_STATE_{state or 'UNSPECIFIED'}")


def _class(model_class: ModelClass) -> "scoring_pb2.ModelClass.ValueType":
    return scoring_pb2.ModelClass.Value(f"MODEL_CLASS_{model_class}")


def _stamp(at: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _day(said: Date) -> date:
    try:
        return date(said.year, said.month, said.day)
    except ValueError:
        raise invalid_field("DATE_INVALID", "since", "is no date: name a day") from None
