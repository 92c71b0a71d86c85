"""What a data provider is told: what is due, what waits for it, how what it supplied was used."""

from collections.abc import AsyncIterator
from datetime import date
from typing import TYPE_CHECKING, Literal, NamedTuple

from puhui.datashare.v1.accesses_pb2 import ListUsesRequest, Use
from puhui.datashare.v1.reviews_pb2 import (
    DecideReviewRequest,
    DecideReviewResponse,
    ListReviewsRequest,
    Review,
    ReviewState,
)
from puhui.datashare.v1.wanted_pb2 import StreamWantedRequest, Wanted
from puhui_client.base import PAGE, Methods, new_request_id
from puhui_client.values import subject_ref, to_date

if TYPE_CHECKING:
    from puhui.datashare.v1.accesses_pb2_grpc import AccessServiceAsyncStub
    from puhui.datashare.v1.reviews_pb2_grpc import ReviewServiceAsyncStub
    from puhui.datashare.v1.wanted_pb2_grpc import WantedServiceAsyncStub

ReviewStateName = Literal["WAITING", "MATCHED", "DISMISSED"]
"""Where a review stands."""


class WantedItem(NamedTuple):
    """Something that is due from the caller, or no longer is.

    Args:
        wanted: what, about whom, and since when.
        cursor: goes on behind this item once it and those before it were dealt with. It may lie a
            few items back, which are told again then.
    """

    wanted: Wanted
    cursor: str


class SupplyMethods(Methods):
    """Methods about what is due, what waits and what was used."""

    _accesses: "AccessServiceAsyncStub"
    _reviews: "ReviewServiceAsyncStub"
    _wanted: "WantedServiceAsyncStub"

    async def wanted(self, cursor: str = "", *, follow: bool = False) -> AsyncIterator[WantedItem]:
        """Go through what consents make due from the caller, in the order in which it became so.

        A dropped connection is opened again behind the last item. What ENDED must no longer be
        supplied: such rows are refused.

        Args:
            cursor: of the last item that was dealt with; "" is from the beginning.
            follow: wait for what comes; the iterator has no end then.

        Raises:
            PermissionDeniedError: PARTICIPANT_SUSPENDED, also while following.
            InvalidArgumentError: PAGE_TOKEN_INVALID, the cursor is another's.
            PuhuiError: the platform does not answer any more.
        """
        request = StreamWantedRequest(cursor=cursor, follow=follow)
        found = self._resumed(self._wanted.StreamWanted, request, lambda page: page.items)
        async for item, behind in found:
            yield WantedItem(item, behind)

    async def uses(
        self, provider_id: str, *, first: date | None = None, last: date | None = None
    ) -> AsyncIterator[Use]:
        """Go through the uses of what a provider supplied, by day, type and purpose; newest first.

        Args:
            provider_id: the caller itself; the operator names any.
            first: first day of release, China Standard Time; None is any.
            last: last day; None is any.

        Raises:
            PermissionDeniedError: NOT_YOURS.
            NotFoundError: there is no such provider.
        """
        request = ListUsesRequest(provider_id=provider_id, page_size=PAGE)
        if first is not None:
            getattr(request, "from").CopyFrom(to_date(first))
        if last is not None:
            request.to.CopyFrom(to_date(last))
        async for page in self._pages(self._accesses.ListUses, request):
            for use in page.uses:
                yield use

    async def reviews(self, *, state: ReviewStateName = "WAITING") -> AsyncIterator[Review]:
        """Go through rows that wait until somebody says whom they are about; oldest first.

        A provider sees its own, the operator all.

        Args:
            state: those that wait, or that were matched or dismissed.
        """
        request = ListReviewsRequest(
            state=ReviewState.Value(f"REVIEW_STATE_{state}"), page_size=PAGE
        )
        async for page in self._pages(self._reviews.ListReviews, request):
            for review in page.reviews:
                yield review

    async def match_review(
        self,
        review_id: str,
        *,
        subject_id: str = "",
        uscc: str = "",
        request_id: str | None = None,
    ) -> DecideReviewResponse:
        """Say whom a row is about; it is taken in as if it had come with its subject.

        Args:
            review_id: of the row's review.
            subject_id: the firm, one of the candidates or another; or
            uscc: its registration number.
            request_id: the same one says it once.

        Returns:
            The review, and what became of the row. Where the row was refused, the ack says why,
            and the review waits on.

        Raises:
            NotFoundError: there is no such review for the caller, or no such firm.
            InvalidArgumentError: FIELD_INVALID, it was decided otherwise before.
        """
        request = DecideReviewRequest(
            request_id=request_id or new_request_id(),
            review_id=review_id,
            subject=subject_ref(uscc=uscc, subject_id=subject_id),
        )
        return await self._transport.unary(self._reviews.DecideReview, request)

    async def dismiss_review(
        self, review_id: str, why: str, *, request_id: str | None = None
    ) -> Review:
        """Say that a row is about nobody here; sent again it is refused.

        Args:
            review_id: of the row's review.
            why: in a few words.
            request_id: the same one says it once.

        Raises:
            NotFoundError: there is no such review for the caller.
            InvalidArgumentError: FIELD_INVALID, it was decided otherwise before.
        """
        request = DecideReviewRequest(
            request_id=request_id or new_request_id(), review_id=review_id, dismiss=why
        )
        return (await self._transport.unary(self._reviews.DecideReview, request)).review
