"""What a data provider is told: what is due from it, and how what it supplied was used."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import TYPE_CHECKING, Final, NamedTuple

from puhui.datashare.v1.accesses_pb2 import ListUsesRequest, Use
from puhui.datashare.v1.wanted_pb2 import StreamWantedRequest, Wanted
from puhui_client.base import PAGE, Methods
from puhui_client.errors import DeadlineExceededError, PuhuiError
from puhui_client.transport import pause_before
from puhui_client.values import to_date

if TYPE_CHECKING:
    from puhui.datashare.v1.accesses_pb2_grpc import AccessServiceAsyncStub
    from puhui.datashare.v1.wanted_pb2_grpc import WantedServiceAsyncStub

_ATTEMPTS: Final = 8
"""Openings of a stream, one after the other, that give nothing."""


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
    """Methods about what is due and what was used."""

    _accesses: "AccessServiceAsyncStub"
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
        attempt = 0
        while True:
            request = StreamWantedRequest(cursor=cursor, follow=follow)
            try:
                async for page in self._transport.stream(self._wanted.StreamWanted, request):
                    attempt = 0
                    last = len(page.items) - 1
                    for index, item in enumerate(page.items):
                        yield WantedItem(item, page.cursor if index == last else cursor)
                    cursor = page.cursor
                if not follow:
                    return
            except DeadlineExceededError:
                if not follow:
                    raise
            except PuhuiError as error:
                attempt += 1
                pause = pause_before(attempt, error) if attempt < _ATTEMPTS else None
                if pause is None:
                    raise
                await asyncio.sleep(pause)

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
