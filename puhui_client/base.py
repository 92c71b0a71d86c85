"""What the groups of methods share."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from grpc import aio

from puhui_client.errors import DeadlineExceededError, PuhuiError
from puhui_client.transport import Request, Transport, pause_before

if TYPE_CHECKING:
    from puhui.datashare.v1.notices_pb2 import StreamNoticesRequest
    from puhui.datashare.v1.wanted_pb2 import StreamWantedRequest

PAGE = 200
"""Rows asked for at a time where a method pages through a list."""
_ATTEMPTS: Final = 8
"""Openings of a stream, one after the other, that give nothing."""


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


class _Part(Protocol):
    @property
    def cursor(self) -> str: ...


Page = TypeVar("Page", bound=_Page)
Part = TypeVar("Part", bound=_Part)
Item = TypeVar("Item")
Follow = TypeVar("Follow", "StreamNoticesRequest", "StreamWantedRequest")


def new_request_id() -> str:
    """Return an id for a write: sent again, the same id does it once."""
    return secrets.token_hex(16)


class Methods:
    """A group of methods over one connection."""

    _transport: Transport

    async def _pages(
        self, method: "aio.UnaryUnaryMultiCallable[Request, Page]", request: Request
    ) -> AsyncIterator[Page]:
        while True:
            page = await self._transport.unary(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token  # type: ignore[attr-defined]  # all lists'

    async def _resumed(
        self,
        method: "aio.UnaryStreamMultiCallable[Follow, Part]",
        request: Follow,
        items: Callable[[Part], Sequence[Item]],
    ) -> AsyncIterator[tuple[Item, str]]:
        """Go through a stream's items, each with the cursor that goes on behind it.

        A dropped connection is opened again behind the last part. Inside a part the cursor is the
        one before it: those of its items that were dealt with are given again.

        Raises:
            PuhuiError: what the platform answered, or that it does not answer any more.
        """
        attempt = 0
        while True:
            try:
                async for part in self._transport.stream(method, request):
                    attempt = 0
                    found = items(part)
                    last = len(found) - 1
                    for index, item in enumerate(found):
                        yield item, part.cursor if index == last else request.cursor
                    request.cursor = part.cursor
                if not request.follow:
                    return
            except DeadlineExceededError:
                if not request.follow:
                    raise
            except PuhuiError as error:
                attempt += 1
                pause = pause_before(attempt, error) if attempt < _ATTEMPTS else None
                if pause is None:
                    raise
                await asyncio.sleep(pause)
