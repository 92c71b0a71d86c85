"""HTTP requests through the same pipeline as gRPC calls.

Nothing of a request's body is read before its caller is admitted. An answer to a GET has a strong
ETag, computed after the whole call was served: a 304 saves bytes, never a check. A method that
streams its responses gives server-sent events: each `data:` is a response, with its cursor as `id:`
where it has one; comments show that the stream lives; `event: end` says that it is complete, an
`event: error` with a problem object that it failed there. A client that goes away ends the call.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson
import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.routing import Route as HttpRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.gate import PRODUCT_METADATA
from services.gateway.http import docs, encodings, headers, messages
from services.gateway.http.paths import Binding, Table
from services.gateway.http.problems import Problem
from services.gateway.http.server import peer_in
from services.gateway.limits import check_size
from services.gateway.routes import Route
from services.kit.calls import Call, Pipeline
from services.kit.client import MAX_MESSAGE_BYTES
from services.kit.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    PuhuiError,
)
from services.kit.telemetry import TRACEPARENT_METADATA

HEARTBEAT_SECONDS: Final = 15.0

_PASSED = ("authorization", TRACEPARENT_METADATA, PRODUCT_METADATA)
# ProtoJSON is slow in Python, and the loop serves everybody: from this size on, in a thread.
_LARGE = 64 * 1024
_NO_STORE = {"cache-control": "no-store"}
# Whoever keeps the answer asks again each time, so that what was withdrawn is not shown.
_REVALIDATED = {"cache-control": "private, no-cache", "vary": "authorization, accept-encoding"}
_HARDENING = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_HSTS = ("strict-transport-security", "max-age=31536000")
_UNKNOWN = NotFoundError("UNKNOWN_METHOD", "there is no such operation: see /docs")
_LINE_BREAK = re.compile(r"[\r\n\0]")

_log = structlog.get_logger()


def application(
    pipeline: Pipeline,
    routes: Iterable[Route],
    *,
    more: Collection[BaseRoute] = (),
) -> ASGIApp:
    """Return the HTTP side of the gateway.

    Args:
        pipeline: the gateway's.
        routes: what participants may call.
        more: what else is served, e.g. where tokens are given out.
    """
    documents = [HttpRoute("/openapi.json", docs.openapi), HttpRoute("/docs", docs.page)]
    app = Starlette(
        routes=[*documents, *more],
        exception_handlers={HTTPStatus.METHOD_NOT_ALLOWED: _wrong_verb},
    )
    app.router.redirect_slashes = False
    app.router.default = Transcoder(pipeline, routes)
    return _Hardened(app)


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
            verb = exchange.request.method
            if verb == "HEAD" and "GET" in found and not found["GET"][0].streams:
                verb = "GET"
            if verb in found:
                operation, values = found[verb]
                await self._serve(exchange, operation, values)
            elif verb == "OPTIONS" and found:
                await exchange.respond(Response(None, 204, {"allow": _allowed(found)}))
            else:
                await exchange.respond(_unknown(found))
        except PuhuiError as error:
            response = Problem(error, exchange.status).response(exchange.told)
            await exchange.respond(response)
        except Exception as error:  # noqa: BLE001 - the edge: nothing internal gets past
            _log.error("fault", exc_info=(type(error), None, error.__traceback__))
            told = InternalError("INTERNAL", "a fault of ours: report the trace id")
            await exchange.respond(Problem(told).response())

    async def _serve(
        self, exchange: "_Exchange", operation: Binding, values: dict[str, str]
    ) -> None:
        endpoint = self._endpoints[operation.method]
        exchange.negotiate(operation)
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
                answer = await _answer(operation, body)
                await exchange.respond(await exchange.response(operation, answer))


@dataclass(frozen=True)
class _Answer:
    """A response message, as it is told.

    Args:
        text: JSON.
        next_page_token: where a list goes on; empty: nowhere.
        cursor: where a stream goes on after it; empty: it does not say.
    """

    text: bytes
    next_page_token: str
    cursor: str


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.request = Request(scope, receive)
        self._scope, self._receive, self._send = scope, receive, send
        self._read, self._begun = asyncio.Event(), False
        self._sending = asyncio.Lock()
        self.status: int | None = None
        self.told: dict[str, str] = {}
        given = self.request.headers
        # Two of one name arrive as one, as everywhere in HTTP: two credentials are no credentials.
        passed = {name: ",".join(given.getlist(name)) for name in _PASSED if name in given}
        self.call = Call(passed, peer=peer_in(scope))

    def negotiate(self, operation: Binding) -> None:
        """Check that what is asked for can be given in the way that is asked for.

        Raises:
            InvalidArgumentError: MALFORMED_MESSAGE.
        """
        given = self.request.headers
        if not headers.accepts(",".join(given.getlist("accept")), operation.media_type):
            self.status = HTTPStatus.NOT_ACCEPTABLE
            raise InvalidArgumentError(
                "MALFORMED_MESSAGE", f"the answer comes as {operation.media_type}: accept that"
            )
        if operation.verb != "GET":
            headers.refuse_preconditions(given.keys())

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
            if content and not headers.is_json(self.request.headers.get("content-type", "")):
                self.status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
                self.told = {"accept": "application/json"}
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
        messages.put_values(message, values, "the path")
        if operation.request_id:
            keys = self.request.headers.getlist("idempotency-key")
            key = headers.idempotency_key(keys, operation.request_id)
            if key is not None:
                where = "the idempotency-key header"
                messages.put_values(message, {operation.request_id: key}, where)
        last = self.request.headers.get("last-event-id")
        if operation.resumes and last:
            # A browser asks for the same address again: what it saw last says more than that.
            message.ClearField("cursor")
            messages.put_values(message, {"cursor": last}, "the last-event-id header")
        return message.SerializeToString()

    async def bodies(self, operation: Binding, values: dict[str, str]) -> AsyncIterator[bytes]:
        """Yield the one message that the request says."""
        yield await self.body(operation, values)

    async def response(self, operation: Binding, answer: _Answer) -> Response:
        """Return the response that says an answer, or that the client has it already."""
        said = dict(_NO_STORE)
        zipped = headers.accepts_gzip(
            ",".join(self.request.headers.getlist("accept-encoding"))
        ) and (len(answer.text) >= encodings.LEAST)
        if operation.verb == "GET":
            tags = [headers.entity_tag(answer.text, encoding) for encoding in ("gzip", "")]
            seen = headers.matched(",".join(self.request.headers.getlist("if-none-match")), tags)
            said = {**_REVALIDATED, "etag": seen or tags[0 if zipped else 1]}
            if seen:
                return Response(None, HTTPStatus.NOT_MODIFIED, said)
            if operation.pages:
                query = self.request.query_params.multi_items()
                path = self._scope["raw_path"].decode("latin-1")
                said["link"] = headers.links(path, query, answer.next_page_token)
        text = answer.text
        if zipped:
            text = await encodings.compressed(text)
            said["content-encoding"] = "gzip"
        return Response(text, HTTPStatus.OK, said, "application/json")

    async def respond(self, response: Response) -> None:
        """Send a response, unless one has begun."""
        if not self._begun:
            await response(self._scope, self._receive, self._send)

    async def stream(self, operation: Binding, responses: AsyncGenerator[bytes]) -> None:
        """Send responses as server-sent events.

        Raises:
            PuhuiError: there is an error before the first response.
        """
        beating = asyncio.create_task(self._beat())
        last = b"event: end\ndata: {}"
        try:
            async for response in responses:
                answer = await _answer(operation, response)
                mark = _LINE_BREAK.sub("", answer.cursor) if operation.resumes else ""
                start = f"id: {mark}\ndata: ".encode() if mark else b"data: "
                await self._event(start + answer.text)
        except PuhuiError as error:
            if not self._begun:
                raise
            last = b"event: error\ndata: " + orjson.dumps(Problem(error).details())
        finally:
            beating.cancel()
        await self._event(last)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _content(self) -> bytes:
        encoding = self.request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            self.status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            self.told = {"accept-encoding": "gzip, identity"}
            raise InvalidArgumentError(
                "MALFORMED_MESSAGE", "the body must come plain or as 'content-encoding: gzip'"
            )
        self._check_length()
        zipped = encodings.Inflater() if encoding == "gzip" else None
        content = bytearray()
        try:
            async for chunk in self.request.stream():
                if zipped:
                    await zipped.feed(chunk)
                else:
                    content += chunk
                    check_size(content)
        except ClientDisconnect:
            raise InvalidArgumentError("MALFORMED_MESSAGE", "the body broke off") from None
        finally:
            self._read.set()
        return zipped.content() if zipped else bytes(content)

    def _check_length(self) -> None:
        announced = self.request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > MAX_MESSAGE_BYTES:
            raise InvalidArgumentError(
                "BATCH_TOO_LARGE",
                f"a body may have {MAX_MESSAGE_BYTES} bytes: send less at once",
            )

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self._event(b":")

    async def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        told = {**_NO_STORE, "content-type": "text/event-stream", "x-accel-buffering": "no"}
        raw = [(name.encode(), value.encode()) for name, value in told.items()]
        await self._send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": raw})

    async def _event(self, event: bytes) -> None:
        async with self._sending:
            await self._begin()
            message = {"type": "http.response.body", "body": event + b"\n\n", "more_body": True}
            await self._send(message)


class _Hardened:
    """Bounds the heads of requests, and puts on every response what browsers are to be told."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(raw=list(message["headers"]))
                for name, value in _HARDENING.items():
                    given.setdefault(name, value)
                if scope["scheme"] == "https":
                    given.setdefault(*_HSTS)
                message = {**message, "headers": given.raw}
            await send(message)

        refused = _too_long(scope)
        await (refused or self._app)(scope, receive, told)


def _too_long(scope: Scope) -> Response | None:
    error = InvalidArgumentError(
        "MALFORMED_MESSAGE",
        f"the address may have {headers.MAX_TARGET_BYTES} bytes and the head of a request "
        f"{headers.MAX_HEADER_BYTES}: send less",
    )
    if len(scope["raw_path"]) + len(scope["query_string"]) > headers.MAX_TARGET_BYTES:
        return Problem(error, HTTPStatus.REQUEST_URI_TOO_LONG).response()
    size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if size > headers.MAX_HEADER_BYTES:
        return Problem(error, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).response()
    return None


async def _answer(operation: Binding, body: bytes) -> _Answer:
    if len(body) < _LARGE:
        return _told(operation, body)
    return await asyncio.to_thread(_told, operation, body)


def _told(operation: Binding, body: bytes) -> _Answer:
    message = messages.from_bytes(operation.method.output_type, body)
    return _Answer(
        messages.to_json(message),
        message.next_page_token if operation.pages else "",  # type: ignore[attr-defined]  # pages says that it is there
        message.cursor if operation.resumes else "",  # type: ignore[attr-defined]  # resumes says that it is there
    )


async def _wrong_verb(request: Request, error: Exception) -> Response:
    """Return the problem of a document that is asked for by another verb than GET."""
    allow = error.headers if isinstance(error, HTTPException) else None
    return Problem(_UNKNOWN, HTTPStatus.METHOD_NOT_ALLOWED).response(dict(allow or {}))


def _allowed(found: dict[str, tuple[Binding, dict[str, str]]]) -> str:
    verbs = {"OPTIONS", *found}
    if "GET" in found and not found["GET"][0].streams:
        verbs.add("HEAD")
    return ", ".join(sorted(verbs))


def _unknown(found: dict[str, tuple[Binding, dict[str, str]]]) -> Response:
    if not found:
        return Problem(_UNKNOWN).response()
    return Problem(_UNKNOWN, HTTPStatus.METHOD_NOT_ALLOWED).response({"allow": _allowed(found)})
