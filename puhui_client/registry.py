"""The registry of models: what serves, and what an operator does to it."""

from collections.abc import AsyncIterator
from datetime import date
from typing import TYPE_CHECKING, Literal

from google.type.date_pb2 import Date

from puhui.scoring.v1.registry_pb2 import (
    ApproveProposalRequest,
    DeclineProposalRequest,
    DemoteModelRequest,
    GetServingRequest,
    GetServingResponse,
    GetShadowReportRequest,
    GetShadowReportResponse,
    ListModelEventsRequest,
    ListModelProposalsRequest,
    ModelEvent,
    ModelProposal,
    ModelState,
    ProposePromotionRequest,
    ProposeResumptionRequest,
    RegisterModelRequest,
    RollBackModelRequest,
    StopScoringRequest,
    ValidationStatement,
)
from puhui_client.base import PAGE, Methods, new_request_id

if TYPE_CHECKING:
    from puhui.scoring.v1.registry_pb2_grpc import RegistryServiceAsyncStub

PromotedTo = Literal["VALIDATED", "SHADOW", "CHAMPION"]
"""States that somebody proposes and another approves."""
DemotedTo = Literal["DRAFT", "VALIDATED", "RETIRED"]
"""States to which one person may put a version that does not serve."""


class RegistryMethods(Methods):
    """Methods about the registry of models."""

    _registry: "RegistryServiceAsyncStub"

    async def serving(self) -> GetServingResponse:
        """Return which version answers, which are registered, and what is stopped."""
        return await self._transport.unary(self._registry.GetServing, GetServingRequest())

    async def register_model(
        self,
        version: str,
        *,
        officer: str,
        reason: str = "",
        parent: str = "",
        request_id: str | None = None,
    ) -> ModelEvent:
        """As an operator, enter a folder that lies in scoring's models_dir as a draft.

        Args:
            version: name of the folder.
            officer: who asks.
            reason: why.
            parent: the version that it was made from, where the folder does not say so.
            request_id: None makes one.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, no such folder.
            FailedPreconditionError: MODEL_FOLDER_REFUSED, MODEL_STATE.
        """
        request = RegisterModelRequest(
            request_id=request_id or new_request_id(),
            version=version,
            officer=officer,
            reason=reason,
            parent=parent,
        )
        return (await self._transport.unary(self._registry.RegisterModel, request)).event

    async def propose_model(
        self,
        version: str,
        to: PromotedTo,
        *,
        officer: str,
        reason: str,
        validator: str = "",
        document: str = "",
        request_id: str | None = None,
    ) -> ModelEvent:
        """As an operator, propose another state of a version, for somebody else to approve.

        Args:
            version: of which model.
            to: the state.
            officer: who asks.
            reason: why.
            validator: who validated it; needed for VALIDATED, with the document.
            document: reference of the validation report.
            request_id: None makes one.

        Raises:
            FailedPreconditionError: MODEL_STATE, there is no way there from its state.
        """
        stated = ValidationStatement(validator=validator, document=document)
        request = ProposePromotionRequest(
            request_id=request_id or new_request_id(),
            version=version,
            to=ModelState.Value(f"MODEL_STATE_{to}"),
            officer=officer,
            reason=reason,
            validation=stated if validator or document else None,
        )
        return (await self._transport.unary(self._registry.ProposePromotion, request)).event

    async def propose_resumption(
        self, version: str = "", *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, propose to end a stop, for somebody else to approve.

        Args:
            version: of which model; empty is the stop of all scoring.
            officer: who asks.
            reason: why.
            request_id: None makes one.
        """
        request = ProposeResumptionRequest(
            request_id=request_id or new_request_id(),
            version=version,
            officer=officer,
            reason=reason,
        )
        return (await self._transport.unary(self._registry.ProposeResumption, request)).event

    async def approve_proposal(
        self, proposal_id: str, *, officer: str, reason: str = "", request_id: str | None = None
    ) -> ModelEvent:
        """As another operator than who proposed, have it done.

        Raises:
            PermissionDeniedError: SECOND_PERSON_REQUIRED.
            FailedPreconditionError: PROPOSAL_CLOSED, MODEL_FOLDER_REFUSED.
        """
        request = ApproveProposalRequest(
            request_id=request_id or new_request_id(),
            proposal_id=proposal_id,
            officer=officer,
            reason=reason,
        )
        return (await self._transport.unary(self._registry.ApproveProposal, request)).event

    async def decline_proposal(
        self, proposal_id: str, *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, reject a proposal, or withdraw one's own."""
        request = DeclineProposalRequest(
            request_id=request_id or new_request_id(),
            proposal_id=proposal_id,
            officer=officer,
            reason=reason,
        )
        return (await self._transport.unary(self._registry.DeclineProposal, request)).event

    async def roll_back_model(
        self, version: str = "", *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, put the champion's predecessor back at once; the champion is retired.

        Args:
            version: the champion that is to go; empty is whichever it is.
            officer: who asks.
            reason: why.
            request_id: None makes one.
        """
        request = RollBackModelRequest(
            request_id=request_id or new_request_id(),
            version=version,
            officer=officer,
            reason=reason,
        )
        return (await self._transport.unary(self._registry.RollBackModel, request)).event

    async def demote_model(
        self,
        version: str,
        to: DemotedTo,
        *,
        officer: str,
        reason: str,
        request_id: str | None = None,
    ) -> ModelEvent:
        """As an operator, end a shadow, or retire a version that does not serve."""
        request = DemoteModelRequest(
            request_id=request_id or new_request_id(),
            version=version,
            to=ModelState.Value(f"MODEL_STATE_{to}"),
            officer=officer,
            reason=reason,
        )
        return (await self._transport.unary(self._registry.DemoteModel, request)).event

    async def stop_scoring(
        self, version: str = "", *, officer: str, reason: str, request_id: str | None = None
    ) -> ModelEvent:
        """As an operator, make scores referrals at once: nothing is fetched, a person decides.

        Args:
            version: only of this model; empty is all scoring.
            officer: who asks.
            reason: why.
            request_id: None makes one.
        """
        request = StopScoringRequest(
            request_id=request_id or new_request_id(),
            version=version,
            officer=officer,
            reason=reason,
        )
        return (await self._transport.unary(self._registry.StopScoring, request)).event

    async def model_proposals(self) -> AsyncIterator[ModelProposal]:
        """Go through the proposals that wait for a second person, oldest first."""
        request = ListModelProposalsRequest(page_size=PAGE)
        async for page in self._pages(self._registry.ListModelProposals, request):
            for proposal in page.proposals:
                yield proposal

    async def model_events(self, version: str = "") -> AsyncIterator[ModelEvent]:
        """Go through what was done to the registry, newest first.

        Args:
            version: only to this version.
        """
        request = ListModelEventsRequest(version=version, page_size=PAGE)
        async for page in self._pages(self._registry.ListModelEvents, request):
            for event in page.events:
                yield event

    async def shadow_report(
        self, version: str, *, against: str = "", since: date | None = None
    ) -> GetShadowReportResponse:
        """Return what a challenger would have said, beside what was answered.

        Args:
            version: the challenger.
            against: beside the answers of this version; empty is the champion.
            since: first day; None is all that is kept.
        """
        first = Date(year=since.year, month=since.month, day=since.day) if since else None
        request = GetShadowReportRequest(version=version, against=against, since=first)
        return await self._transport.unary(self._registry.GetShadowReport, request)
