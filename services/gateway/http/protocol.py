"""A connection of HTTP/1.1.

What is no request gets a problem, and what does not come is not waited for.
"""

import asyncio
import sys
from http import HTTPStatus
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.gateway.http.headers import MAX_HEADER_BYTES
from services.gateway.http.problems import Problem
from services.kit.errors import InvalidArgumentError

HEADER_SECONDS: Final = 10.0
# A close while more comes resets the connection, and the client may never read why.
_LINGER_SECONDS: Final = 1.0


class Protocol(H11Protocol):
    """Bounds the head of a request in size and time; of its body, the deadline of the call does."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = h11.Connection(h11.SERVER, MAX_HEADER_BYTES)
        self._slow: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the class above
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take some of a request; its head has so long from its first byte to its last."""
        if self._refused:
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._wait()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, if nothing has been answered yet, and close."""
        raised = sys.exc_info()[1]
        hint = raised.error_status_hint if isinstance(raised, h11.RemoteProtocolError) else 400
        self._refused = True
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        self._refuse(HTTPStatus(hint))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _refuse(self, status: HTTPStatus) -> None:
        too_large = status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        message = (
            f"the head of the request is over {MAX_HEADER_BYTES} bytes: send less"
            if too_large
            else "this is no HTTP/1.1 request: check what was sent"
        )
        error = InvalidArgumentError("MALFORMED_MESSAGE", message)
        response = Problem(error, status).response({"connection": "close"})
        start = h11.Response(
            status_code=status, headers=response.raw_headers, reason=status.phrase.encode()
        )
        for event in (start, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _wait(self) -> None:
        if self._slow is None:
            self._slow = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
