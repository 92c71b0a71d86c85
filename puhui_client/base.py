"""What the groups of methods share."""

import secrets
from collections.abc import AsyncIterator
from typing import Protocol, TypeVar

from grpc import aio

from puhui_client.transport import Request, Transport

PAGE = 200
"""Rows asked for at a time where a method pages through a list."""


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


Page = TypeVar("Page", bound=_Page)


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
