"""What a bank does with data under consent: score, fetch, look up decisions."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from puhui.common.v1.types_pb2 import Officer
from puhui.datashare.v1.accesses_pb2 import (
    Access,
    FetchSummaryRequest,
    FetchSummaryResponse,
    ListAccessesRequest,
    SummaryFetch,
)
from puhui.datashare.v1.consents_pb2 import Consent, RequestConsentRequest
from puhui.datashare.v1.subjects_pb2 import ResolveSubjectRequest
from puhui.scoring.v1.decisions_pb2 import (
    DecisionUse,
    GetDecisionRequest,
    GetDecisionResponse,
    GetImprovementsRequest,
    GetImprovementsResponse,
    ListDecisionsRequest,
    ListReevaluationsRequest,
    Reevaluation,
    ReplayDecisionRequest,
    ReplayDecisionResponse,
)
from puhui.scoring.v1.models_pb2 import (
    GetModelRequest,
    ListModelsRequest,
    Model,
)
from puhui.scoring.v1.products_pb2 import (
    CheckScoreRequest,
    CheckScoreResponse,
    GetScoreProductRequest,
    GetScoreProductResponse,
    ListScoreProductsRequest,
    ScoreProduct,
)
from puhui.scoring.v1.scoring_pb2 import (
    BatchScoreRequest,
    Decision,
    DeclaredFeature,
    LinkedSubject,
    Referral,
    ScoreOrder,
    ScoreRequest,
    SubjectRelation,
)
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.errors import PuhuiError, ReferralError, error_of
from puhui_client.transport import pause_before
from puhui_client.values import subject_ref, to_period, to_timestamp

if TYPE_CHECKING:
    from puhui.datashare.v1.accesses_pb2_grpc import AccessServiceAsyncStub
    from puhui.datashare.v1.consents_pb2_grpc import ConsentServiceAsyncStub
    from puhui.datashare.v1.subjects_pb2_grpc import SubjectServiceAsyncStub
    from puhui.scoring.v1.decisions_pb2_grpc import DecisionServiceAsyncStub
    from puhui.scoring.v1.models_pb2_grpc import ModelServiceAsyncStub
    from puhui.scoring.v1.products_pb2_grpc import ProductServiceAsyncStub
    from puhui.scoring.v1.scoring_pb2_grpc import ScoringServiceAsyncStub

UseName = Literal["EXPLANATION", "DISPUTE", "SUPERVISION"]
"""What a stored decision is read for."""

Relation = Literal["OWNER", "GUARANTOR", "BUYER"]
"""What a linked subject is to the firm that is scored."""

Said = float | str
"""What a bank declares of a firm: a number, or a category."""

_NOTHING: Mapping[str, Said] = MappingProxyType({})
_PORTFOLIO = 10_000  # orders that one call takes
_BATCH_ATTEMPTS = 5


@dataclass(frozen=True)
class ScoreResult:
    """What became of one order of a portfolio; one of decision, error and referral is there.

    Args:
        index: of the order, from 0.
        order: the order.
        decision: the score.
        error: why there is none.
        referral: that a person decides, as scoring is stopped. A decision may have one of its own.
    """

    index: int
    order: ScoreOrder
    decision: Decision | None
    error: PuhuiError | None
    referral: Referral | None = None


def score_order(
    subject_id: str,
    consent_id: str = "",
    *,
    officer: str,
    file_reference: str,
    purpose: str = "credit_application",
    as_of: datetime | None = None,
    model_version: str = "",
    automated_decision: bool = False,
    linked: Sequence[tuple[Relation, str, str]] = (),
    product: str = "",
    declared: Mapping[str, Said] = _NOTHING,
    request_id: str | None = None,
) -> ScoreOrder:
    """Return an order for `batch_score`.

    Args:
        subject_id: the firm.
        consent_id: the consent it is scored under.
        officer: who at the bank asks, as the bank knows them; the firm sees it.
        file_reference: the bank's file that it is for, e.g. a loan application's number; likewise.
        purpose: code of the table of purposes; the consent's.
        as_of: data known by then, aware; None is now. Consent is always checked now.
        model_version: empty is the model in service.
        automated_decision: a machine alone will decide on the credit; the consent must allow it.
        linked: owners, guarantors and buyers whose data is to enter: relation, subject_id, and the
            consent_id of their own consent for this firm's score.
        product: code of the score product; its purpose, types and model hold.
        declared: what the bank itself says of the firm, by the product's names; numbers and
            categories.
        request_id: None makes one; sent again, the same id returns the same decision.
    """
    return ScoreOrder(
        request_id=request_id or new_request_id(),
        subject_id=subject_id,
        consent_id=consent_id,
        purpose=purpose,
        as_of=None if as_of is None else to_timestamp(as_of),
        model_version=model_version,
        automated_decision=automated_decision,
        officer=Officer(name=officer, file_reference=file_reference),
        linked=[
            LinkedSubject(
                relation=SubjectRelation.Value(f"SUBJECT_RELATION_{relation}"),
                subject_id=other_id,
                consent_id=own_consent_id,
            )
            for relation, other_id, own_consent_id in linked
        ],
        product=product,
        declared=[
            DeclaredFeature(name=name, category=value)
            if isinstance(value, str)
            else DeclaredFeature(name=name, number=value)
            for name, value in declared.items()
        ],
    )


class BankMethods(Methods):
    """Methods about scores, decisions, summaries and accesses."""

    _accesses: "AccessServiceAsyncStub"
    _consents: "ConsentServiceAsyncStub"
    _decisions: "DecisionServiceAsyncStub"
    _models: "ModelServiceAsyncStub"
    _products: "ProductServiceAsyncStub"
    _scoring: "ScoringServiceAsyncStub"
    _subjects: "SubjectServiceAsyncStub"

    async def resolve_subject(self, uscc: str) -> str:
        """Return the platform's id of the firm with a registration number.

        Raises:
            InvalidArgumentError: USCC_MALFORMED.
            NotFoundError: nobody has said anything about it.
        """
        request = ResolveSubjectRequest(uscc=uscc)
        return (await self._transport.unary(self._subjects.ResolveSubject, request)).subject_id

    async def score(
        self,
        subject_id: str,
        consent_id: str = "",
        *,
        officer: str,
        file_reference: str,
        purpose: str = "credit_application",
        as_of: datetime | None = None,
        model_version: str = "",
        automated_decision: bool = False,
        linked: Sequence[tuple[Relation, str, str]] = (),
        product: str = "",
        declared: Mapping[str, Said] = _NOTHING,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> Decision:
        """Score one firm under its consent.

        Args:
            subject_id: the firm.
            consent_id: the consent it is scored under.
            officer: who at the bank asks, as the bank knows them; the firm sees it.
            file_reference: the bank's file that it is for, e.g. a loan application's number.
            purpose: code of the table of purposes; the consent's.
            as_of: data known by then, aware; None is now. Consent is always checked now.
            model_version: empty is the model in service.
            automated_decision: a machine alone will decide; the consent must allow it.
            linked: owners, guarantors and buyers whose data is to enter: relation, subject_id, and
                the consent_id of their own consent for this firm's score.
            product: code of the score product; its purpose, types and model hold.
            declared: what the bank itself says of the firm, by the product's names; numbers and
                categories. Nobody is shown it but the bank, the firm and who supervises.
            request_id: None makes one; sent again, the same id returns the same decision.
            timeout: seconds; None is the client's.

        Returns:
            The decision; where it has a `referral`, a person must decide all the same.

        Raises:
            ReferralError: scoring is stopped; nothing was read, and a person decides.
            ConsentError: a consent does not allow it; `reason` says why, and `fields` whose it is
                where it is a linked one.
            InvalidArgumentError: OFFICER_REQUIRED, officer or file_reference is empty.
            FailedPreconditionError: DATA_INSUFFICIENT; `violations` says what would suffice.
        """
        order = score_order(
            subject_id,
            consent_id,
            officer=officer,
            file_reference=file_reference,
            purpose=purpose,
            as_of=as_of,
            model_version=model_version,
            automated_decision=automated_decision,
            linked=linked,
            product=product,
            declared=declared,
            request_id=request_id,
        )
        request = ScoreRequest(order=order)
        answer = await self._transport.unary(self._scoring.Score, request, timeout=timeout)
        if answer.WhichOneof("result") == "referral":
            told = answer.referral
            raise ReferralError("FAILED_PRECONDITION", told.code, told.text_en)
        return answer.decision

    async def score_products(self) -> AsyncIterator[ScoreProduct]:
        """Go through the score products."""
        request = ListScoreProductsRequest(page_size=PAGE)
        async for page in self._pages(self._products.ListScoreProducts, request):
            for product in page.products:
                yield product

    async def get_score_product(self, code: str) -> GetScoreProductResponse:
        """Return a score product, with the terms of the consent to ask a firm for.

        Raises:
            NotFoundError: there is none of this code.
        """
        request = GetScoreProductRequest(code=code)
        return await self._transport.unary(self._products.GetScoreProduct, request)

    async def check_score(
        self,
        subject_id: str,
        product: str,
        consent_id: str = "",
        *,
        officer: str,
        file_reference: str,
        as_of: datetime | None = None,
        automated_decision: bool = False,
    ) -> CheckScoreResponse:
        """Find out what is missing for a score, before anyone asks the firm.

        Args:
            subject_id: the firm.
            product: code of the score product.
            consent_id: empty looks for what is open by law alone.
            officer: who at the bank asks, as the bank knows them; the firm sees it.
            file_reference: the bank's file that it is for, e.g. a loan application's number.
            as_of: data known by then, aware; None is now.
            automated_decision: a machine alone will decide; the consent must allow it.

        Returns:
            How each type stands, what would suffice, and the terms of the consent that would do.

        Raises:
            NotFoundError: there is no such firm or product.
            InvalidArgumentError: OFFICER_REQUIRED, officer or file_reference is empty.
        """
        request = CheckScoreRequest(
            subject_id=subject_id,
            product=product,
            consent_id=consent_id,
            as_of=None if as_of is None else to_timestamp(as_of),
            officer=Officer(name=officer, file_reference=file_reference),
            automated_decision=automated_decision,
        )
        return await self._transport.unary(self._products.CheckScore, request)

    async def request_consent_for(
        self,
        product: str,
        *,
        uscc: str = "",
        subject_id: str = "",
        officer: str,
        file_reference: str,
        request_id: str | None = None,
    ) -> Consent:
        """Ask a firm for the consent that a score product needs, on the product's own terms.

        Args:
            product: code of the score product.
            uscc: the firm's registration number; or else `subject_id`.
            subject_id: the platform's id of the firm.
            officer: who asks, as the bank knows them.
            file_reference: the bank's file that it is for.
            request_id: None makes one.

        Raises:
            NotFoundError: there is none of this code.
            InvalidArgumentError: FIELD_INVALID, nobody supplies what the product needs.
        """
        drafted = await self.get_score_product(product)
        request = RequestConsentRequest(
            request_id=request_id or new_request_id(),
            subject=subject_ref(uscc=uscc, subject_id=subject_id),
            terms=drafted.terms,
            officer=Officer(name=officer, file_reference=file_reference),
        )
        return (await self._transport.unary(self._consents.RequestConsent, request)).consent

    async def batch_score(
        self, orders: Iterable[ScoreOrder], *, timeout: float | None = None
    ) -> AsyncIterator[ScoreResult]:
        """Score a portfolio; results come as they are ready, in any order.

        One firm's refusal does not touch the others. After a dropped connection only the orders
        without a result are sent again.

        Args:
            orders: any number; `score_order` makes one.
            timeout: seconds for each 10,000 orders; None is without end.

        Raises:
            PuhuiError: the whole call failed.
        """
        numbered = iter(enumerate(orders))
        while part := dict(islice(numbered, _PORTFOLIO)):
            attempt = 0
            while part:
                indices = list(part)
                request = BatchScoreRequest(orders=part.values())
                stream = self._transport.stream(self._scoring.BatchScore, request, timeout=timeout)
                try:
                    async for answer in stream:
                        attempt = 0
                        index = indices[answer.index]
                        order = part.pop(index)
                        match answer.WhichOneof("result"):
                            case "decision":
                                yield ScoreResult(index, order, answer.decision, None)
                            case "referral":
                                yield ScoreResult(index, order, None, None, answer.referral)
                            case _:
                                yield ScoreResult(index, order, None, error_of(answer.refused))
                    break
                except PuhuiError as error:
                    attempt += 1
                    pause = pause_before(attempt, error) if attempt < _BATCH_ATTEMPTS else None
                    if pause is None:
                        raise
                await asyncio.sleep(pause)

    async def reevaluations(self) -> AsyncIterator[Reevaluation]:
        """Go through one's scores to be made again, because what counted was corrected since.

        A newer score of the same firm takes them off.
        """
        request = ListReevaluationsRequest(page_size=PAGE)
        async for page in self._pages(self._decisions.ListReevaluations, request):
            for due in page.reevaluations:
                yield due

    async def get_decision(
        self, decision_id: str, *, use: UseName = "EXPLANATION"
    ) -> GetDecisionResponse:
        """Return a decision, computed again from its stored inputs and compared.

        Args:
            decision_id: of the decision.
            use: what it is read for.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        request = GetDecisionRequest(
            decision_id=decision_id, use=DecisionUse.Value(f"DECISION_USE_{use}")
        )
        return await self._transport.unary(self._decisions.GetDecision, request)

    async def replay_decision(
        self, decision_id: str, *, use: UseName = "EXPLANATION"
    ) -> ReplayDecisionResponse:
        """Return what a model said and what it says now of the same inputs, byte for byte.

        Args:
            decision_id: of the decision.
            use: what it is read for.

        Raises:
            NotFoundError: there is none, or it is another's.
        """
        request = ReplayDecisionRequest(
            decision_id=decision_id, use=DecisionUse.Value(f"DECISION_USE_{use}")
        )
        return await self._transport.unary(self._decisions.ReplayDecision, request)

    async def improvements(self, decision_id: str) -> GetImprovementsResponse:
        """Return the smallest changes that a firm can make to reach the next grade.

        Raises:
            NotFoundError: there is no such decision, or it is another's; or MODEL_NOT_FOUND.
        """
        request = GetImprovementsRequest(decision_id=decision_id)
        return await self._transport.unary(self._decisions.GetImprovements, request)

    async def decisions(self, *, subject_id: str = "") -> AsyncIterator[Decision]:
        """Go through one's decisions, newest first.

        Args:
            subject_id: only about this firm; a firm always gets its own.
        """
        request = ListDecisionsRequest(subject_id=subject_id, page_size=PAGE)
        pages = self._pages(self._decisions.ListDecisions, request)
        async for page in pages:
            for decision in page.decisions:
                yield decision

    async def fetch_summary(
        self,
        subject_id: str,
        consent_id: str = "",
        *,
        officer: str,
        file_reference: str,
        purpose: str,
        record_types: Sequence[str] = (),
        period: tuple[date, date] | None = None,
        as_of: datetime | None = None,
        for_subject_id: str = "",
        request_id: str | None = None,
    ) -> FetchSummaryResponse:
        """Fetch a firm's monthly aggregates under its consent.

        Args:
            subject_id: the firm.
            consent_id: may be left out for types that are open by law.
            officer: who at the bank asks, as the bank knows them; the firm sees it.
            file_reference: the bank's file that it is for, e.g. a loan application's number.
            purpose: code of the table of purposes; the consent's.
            record_types: empty is those of the consent and those open by law. One outside the
                consent is refused, never trimmed.
            period: first and last day; None is the consent's.
            as_of: data known by then, aware; None is now.
            for_subject_id: the other firm whose score it is for; needed for the purpose
                "related_party", and for it alone.
            request_id: None makes one.

        Raises:
            ConsentError: the consent does not allow it; `reason` says why.
            InvalidArgumentError: OFFICER_REQUIRED, officer or file_reference is empty.
        """
        fetch = SummaryFetch(
            request_id=request_id or new_request_id(),
            subject_id=subject_id,
            consent_id=consent_id,
            purpose=purpose,
            record_types=record_types,
            period=None if period is None else to_period(*period),
            as_of=None if as_of is None else to_timestamp(as_of),
            officer=Officer(name=officer, file_reference=file_reference),
            for_subject_id=for_subject_id,
        )
        request = FetchSummaryRequest(fetch=fetch)
        return await self._transport.unary(self._accesses.FetchSummary, request)

    async def accesses(self, *, subject_id: str = "") -> AsyncIterator[Access]:
        """Go through accesses, refusals included, newest first.

        A firm sees every access to its data, a bank its own.

        Args:
            subject_id: only to this firm's data; a firm always gets its own.
        """
        request = ListAccessesRequest(subject_id=subject_id, page_size=PAGE)
        pages = self._pages(self._accesses.ListAccesses, request)
        async for page in pages:
            for access in page.accesses:
                yield access

    async def models(self) -> AsyncIterator[Model]:
        """Go through the models that are loaded."""
        request = ListModelsRequest(page_size=PAGE)
        async for page in self._pages(self._models.ListModels, request):
            for model in page.models:
                yield model

    async def get_model(self, version: str) -> Model:
        """Return a model with its features, measurements and card.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        request = GetModelRequest(version=version)
        return (await self._transport.unary(self._models.GetModel, request)).model
