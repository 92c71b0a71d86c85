"""HTTP requests through the same pipeline as gRPC calls.

Nothing of a request is read before its caller is admitted. A method that streams its responses
gives server-sent events: each `data:` is a response, an `event: error` with a problem object ends
the stream where it failed. A client that goes away ends the call.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from http import HTTPStatus

import orjson
import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as HttpRoute
from starlette.types import Receive, Scope, Send

from services.gateway.http import docs, messages
from services.gateway.http.paths import Binding, Table
from services.gateway.http.problems import Problem
from services.gateway.limits import check_size
from services.gateway.routes import Route
from services.kit.calls import Call, Pipeline
from services.kit.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PuhuiError,
)
from services.kit.telemetry import TRACEPARENT_METADATA

_PASSED = ("authorization", TRACEPARENT_METADATA)
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
# ProtoJSON is slow in Python, and the loop serves everybody: from this size on, in a thread.
_LARGE = 64 * 1024
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

_log = structlog.get_logger()


def application(pipeline: Pipeline, routes: Iterable[Route]) -> Starlette:
    """Return the HTTP side of the gateway.

    Args:
        pipeline: the gateway's.
        routes: what participants may call.
    """
    return Starlette(
        routes=[
            HttpRoute("/openapi.json", docs.openapi),
            HttpRoute("/docs", docs.page),
            HttpRoute("/{path:path}", Transcoder(pipeline, routes)),
        ]
    )


class Transcoder:
    """Serves the RPCs that have an HTTP annotation.

    Args:
        pipeline: the gateway's.
        routes: what participants may call.
    """

    def __init__(self, pipeline: Pipeline, routes: Iterable[Route]) -> None:
        self._pipeline = pipeline
        self._endpoints = {route.method: route.endpoint for route in routes}
        self._table = Table(self._endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange = _Exchange(scope, receive, send)
        try:
            found = self._table.find(scope["raw_path"].decode("latin-1"))
            verb = "GET" if exchange.request.method == "HEAD" else exchange.request.method
            if verb in found:
                operation, values = found[verb]
                await self._serve(exchange, operation, values)
            else:
                await exchange.respond(_unknown(sorted(found)))
        except PuhuiError as error:
            await exchange.respond(Problem(error, exchange.status).response())
        except Exception as error:  # noqa: BLE001 - the edge: nothing internal gets past
            _log.error("fault", exc_info=(type(error), None, error.__traceback__))
            told = InternalError("INTERNAL", "a fault of ours: report the trace id")
            await exchange.respond(Problem(told).response())

    async def _serve(
        self, exchange: "_Exchange", operation: Binding, values: dict[str, str]
    ) -> None:
        endpoint = self._endpoints[operation.method]
        async with exchange.connected():
            if endpoint.response_streaming:
                requests = exchange.bodies(operation, values)
                responses = self._pipeline.stream(endpoint, exchange.call, requests)
                async with contextlib.aclosing(responses):
                    await exchange.stream(operation, responses)
            else:
                body = await self._pipeline.unary(
                    endpoint, exchange.call, lambda: exchange.body(operation, values)
                )
                text = await _json(operation, body)
                await exchange.respond(Response(text, 200, _HEADERS, "application/json"))


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request = Request(scope, receive)
        self._scope, self._receive, self._send = scope, receive, send
        self._read, self._begun = asyncio.Event(), False
        self.status: int | None = None
        headers = self.request.headers
        self.call = Call({name: headers[name] for name in _PASSED if name in headers})

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Run what is inside until the client goes away; then cancel it, quietly."""

        async def watch(scope: asyncio.Timeout) -> None:
            # Until the body is read, its reader notices.
            await self._read.wait()
            while (await self._receive())["type"] != "http.disconnect":
                pass
            scope.reschedule(asyncio.get_running_loop().time())

        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(None) as scope:
                watching = asyncio.create_task(watch(scope))
                try:
                    yield
                finally:
                    watching.cancel()

    async def body(self, operation: Binding, values: dict[str, str]) -> bytes:
        """Return the bytes of the message that the request says.

        Raises:
            InvalidArgumentError: it says none.
        """
        kind = operation.method.input_type
        content = await self._content()
        if operation.has_body:
            if content and not _JSON.fullmatch(self.request.headers.get("content-type", "")):
                self.status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
                raise InvalidArgumentError(
                    "MALFORMED_MESSAGE", "the body must come as 'content-type: application/json'"
                )
            if len(content) < _LARGE:
                message = messages.from_json(kind, content)
            else:
                message = await asyncio.to_thread(messages.from_json, kind, content)
        else:
            if content:
                raise InvalidArgumentError(
                    "MALFORMED_MESSAGE", "this operation takes no body: use the query"
                )
            message = messages.from_query(kind, self.request.query_params.multi_items())
        messages.put_path_values(message, values)
        return message.SerializeToString()

    async def bodies(self, operation: Binding, values: dict[str, str]) -> AsyncIterator[bytes]:
        """Yield the one message that the request says."""
        yield await self.body(operation, values)

    async def respond(self, response: Response) -> None:
        """Send a response, unless one has begun."""
        if not self._begun:
            await response(self._scope, self._receive, self._send)

    async def stream(self, operation: Binding, responses: AsyncGenerator[bytes]) -> None:
        """Send responses as server-sent events.

        Raises:
            PuhuiError: there is an error before the first response.
        """
        try:
            async for response in responses:
                await self._begin()
                await self._event(b"data: " + await _json(operation, response))
        except PuhuiError as error:
            if not self._begun:
                raise
            problem = orjson.dumps(Problem(error).details())
            await self._event(b"event: error\ndata: " + problem)
        await self._begin()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _content(self) -> bytes:
        content = bytearray()
        try:
            async for chunk in self.request.stream():
                content += chunk
                check_size(content)
        except ClientDisconnect:
            raise InvalidArgumentError("MALFORMED_MESSAGE", "the body broke off") from None
        finally:
            self._read.set()
        return bytes(content)

    async def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        headers = {**_HEADERS, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": raw})

    async def _event(self, event: bytes) -> None:
        await self._send({"type": "http.response.body", "body": event + b"\n\n", "more_body": True})


async def _json(operation: Binding, body: bytes) -> bytes:
    kind = operation.method.output_type
    if len(body) < _LARGE:
        return messages.to_json(kind, body)
    return await asyncio.to_thread(messages.to_json, kind, body)


def _unknown(verbs: list[str]) -> Response:
    error = NotFoundError("UNKNOWN_METHOD", "there is no such operation: see /docs")
    if not verbs:
        return Problem(error).response()
    return Problem(error, HTTPStatus.METHOD_NOT_ALLOWED).response({"allow": ", ".join(verbs)})
