"""Marks every answer over HTTP with the tenant that gave it."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.kit.tenant import TENANT_METADATA


class Marked:
    """An application whose every answer has the header `puhui-tenant`, errors and pages too.

    Args:
        application: what is served.
        tenant: which it is.
    """

    def __init__(self, application: ASGIApp, tenant: str) -> None:
        self._application = application
        self._mark = (TENANT_METADATA.encode(), tenant.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], self._mark]}
            await send(message)

        await self._application(scope, receive, marked)
