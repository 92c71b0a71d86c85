"""ReviewService over gRPC."""

from typing import Protocol

import grpc

from puhui.datashare.v1 import records_pb2, reviews_pb2, reviews_pb2_grpc
from services.datashare.idempotency.domain import RequestKey
from services.datashare.idempotency.servicer import key_of
from services.datashare.participants.domain import SubjectName
from services.datashare.records.domain import Ack
from services.datashare.records.wire import ack_message, ack_of
from services.datashare.reviews.app import ListReviews
from services.datashare.reviews.domain import Review, ReviewState
from services.datashare.times import stamp_of
from services.kit.errors import invalid_field
from services.kit.identity import Caller, current_caller
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]


class AckCodec:
    """Acks as stored responses."""

    def encode(self, response: Ack) -> bytes:
        """Return the bytes of an ack."""
        return ack_message(response).SerializeToString()

    def decode(self, stored: bytes) -> Ack:
        """Return the ack of its bytes."""
        return ack_of(stored)


class Decides(Protocol):
    """The use case of deciding, whatever its transactions hold."""

    async def __call__(
        self,
        caller: Caller,
        key: RequestKey,
        review_id: str,
        subject: SubjectName | None,
        dismiss: str,
    ) -> tuple[Review, Ack]:
        """Decide; return the review, and what became of its row."""
        ...


class ReviewServicer(reviews_pb2_grpc.ReviewServiceServicer):
    """Translates ReviewService.

    Args:
        list_reviews: the use case of listing.
        decide: the use case of deciding.
    """

    def __init__(self, list_reviews: ListReviews, decide: Decides) -> None:
        self._list = list_reviews
        self._decide = decide

    async def ListReviews(
        self, request: reviews_pb2.ListReviewsRequest, context: _Context
    ) -> reviews_pb2.ListReviewsResponse:
        caller = current_caller()
        state = ReviewState.WAITING
        if request.state:
            name = reviews_pb2.ReviewState.Name(request.state)
            state = ReviewState(name.removeprefix("REVIEW_STATE_"))
        bound_to = ("reviews", caller.participant_id, state)
        position = decode_page_token(request.page_token, bound_to, (str,))
        after = str(position[0]) if position else ""
        reviews, behind = await self._list(caller, state, after, page_size(request.page_size))
        return reviews_pb2.ListReviewsResponse(
            reviews=map(_message, reviews),
            next_page_token=encode_page_token((behind,), bound_to) if behind else "",
        )

    async def DecideReview(
        self, request: reviews_pb2.DecideReviewRequest, context: _Context
    ) -> reviews_pb2.DecideReviewResponse:
        caller = current_caller()
        subject = None
        if request.WhichOneof("decision") == "subject":
            subject = SubjectName(request.subject.subject_id, request.subject.uscc)
            if not subject.subject_id and not subject.uscc:
                problem = "is empty: name the firm by its registration number or its id"
                raise invalid_field("FIELD_INVALID", "subject", problem)
        key = key_of(caller, request.request_id, request)
        review, ack = await self._decide(caller, key, request.review_id, subject, request.dismiss)
        matched = review.state is ReviewState.MATCHED or ack.rejections
        return reviews_pb2.DecideReviewResponse(
            review=_message(review), ack=ack_message(ack) if matched else None
        )


def _message(review: Review) -> reviews_pb2.Review:
    message = reviews_pb2.Review(
        review_id=review.review_id,
        provider_id=review.provider_id,
        record_type=review.record_type,
        provider_record_id=review.provider_record_id,
        hint=records_pb2.SubjectHint(**review.hint._asdict()),
        candidates=[
            reviews_pb2.Candidate(
                subject_id=candidate.subject_id,
                name=candidate.name,
                district=candidate.district,
                confidence=candidate.confidence,
                evidence=candidate.evidence,
            )
            for candidate in review.candidates
        ],
        held_at=stamp_of(review.held_at),
        state=reviews_pb2.ReviewState.Value(f"REVIEW_STATE_{review.state}"),
        decided_by=review.decided_by,
    )
    if review.decided_at is not None:
        message.decided_at.CopyFrom(stamp_of(review.decided_at))
    return message
