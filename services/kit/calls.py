"""One pipeline for every RPC of every service, however it came in: gRPC, relayed, or HTTP.

In order: span and metrics; errors mapped and faults hidden; identity; role, from the access option
beside the RPC in the .proto; deadline; the message parsed; its rules (protovalidate); the servicer.
An RPC without the access option can be called by nobody.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import protovalidate
import structlog
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, Message

from buf.validate import validate_pb2
from puhui.common.v1 import access_pb2
from services.kit.config import check_least
from services.kit.errors import (
    DeadlineExceededError,
    FieldProblem,
    InternalError,
    InvalidArgumentError,
    PermissionDeniedError,
    PuhuiError,
    UnauthenticatedError,
)
from services.kit.identity import Caller, current_caller, set_caller
from services.kit.shape import sound
from services.kit.telemetry import Telemetry, current_trace_id

_log = structlog.get_logger()
_validator = protovalidate.Validator()
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("puhui_deadline")
_call: contextvars.ContextVar["Call"] = contextvars.ContextVar("puhui_call")


def current_deadline() -> float:
    """Return when the call being served must be done, by the event loop's clock, seconds."""
    return _deadline.get()


def shorten_deadline(seconds: float) -> None:
    """Let the call being served be done within so many seconds from now, if it had more."""
    _deadline.set(min(_deadline.get(), asyncio.get_running_loop().time() + seconds))


def current_call() -> "Call":
    """Return how the call being served came in."""
    return _call.get()


@dataclass(frozen=True)
class Endpoint:
    """One RPC.

    Args:
        method: full name, "/package.Service/Method".
        roles: who may call it.
        request_streaming: the client sends a stream.
        response_streaming: the server sends a stream.
        request_type: the message that is parsed and validated; None forwards bytes.
        behaviour: the servicer's method, `(request, context)`; takes and gives an async iterator
            where it streams. Of a forwarding endpoint messages are bytes.
    """

    method: str
    roles: frozenset[str]
    request_streaming: bool
    response_streaming: bool
    request_type: type[Message] | None
    behaviour: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Peer:
    """What TLS proved of the other side, by a certificate that chains to a trusted authority.

    Args:
        thumbprint: SHA-256 of the DER certificate, base64url without padding (RFC 8705 x5t#S256).
        names: its URI names, among them the SPIFFE id of a workload.
    """

    thumbprint: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call:
    """How an RPC came in.

    Args:
        metadata: names in lower case.
        timeout: seconds that the caller will wait; None is the default.
        context: gRPC's, where there is one.
        peer: who is at the other end of the connection; None where TLS proved nobody.
    """

    metadata: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    context: Any = None
    peer: Peer | None = None


@dataclass(frozen=True)
class Timeouts:
    """How long calls may take, in seconds.

    Args:
        default: of a call that names no deadline.
        longest: most that a call may name; more is cut to it.
        stream: most for a call that streams its response, and of one that names no deadline.
    """

    default: float = field(default=30.0, metadata={"help": "seconds, of a call without deadline"})
    longest: float = field(default=120.0, metadata={"help": "most seconds that a call may name"})
    stream: float = field(default=3600.0, metadata={"help": "most seconds of a stream"})

    def __post_init__(self) -> None:
        check_least(0.001, default=self.default, longest=self.longest, stream=self.stream)


class Authenticate(Protocol):
    """Tells who is calling."""

    def __call__(self, call: Call, /) -> Awaitable[Caller]:
        """Return the caller.

        Raises:
            UnauthenticatedError: it did not prove who it is.
        """
        ...


class Admits(Protocol):
    """Tells which of Puhui's own services may call a method, by `kit.workloads`."""

    def check(self, method: str, roles: frozenset[str], peer: Peer | None) -> None:
        """Admit a call.

        Raises:
            PermissionDeniedError: WORKLOAD_NOT_ALLOWED.
        """
        ...


class Gate(Protocol):
    """Lets a caller in who is who it says: policy, quotas, and how much may run at once."""

    def enter(
        self, endpoint: Endpoint, caller: Caller, call: Call
    ) -> contextlib.AbstractAsyncContextManager[None]:
        """Count the call while it runs; an exception that ends it goes through.

        Raises:
            PermissionDeniedError: the policy does not allow it.
            ResourceExhaustedError: OVERLOADED or QUOTA_EXHAUSTED, with a pause to make.
        """
        ...


class Refused(Protocol):
    """Is told of every call that was refused because of who made it."""

    def __call__(self, method: str, caller: Caller | None, error: PuhuiError) -> None:
        """Take note; `caller` is None when it did not prove who it is."""
        ...


def roles_of(method: MethodDescriptor) -> frozenset[str]:
    """Return the names of the roles that may call `method`, by the option in its .proto."""
    rule = method.GetOptions().Extensions[access_pb2.access]
    prefix = len("ROLE_")
    return frozenset(access_pb2.Role.Name(role)[prefix:] for role in rule.roles)


def validate(message: Message) -> None:
    """Check the rules of the message's .proto.

    Raises:
        InvalidArgumentError: FIELD_INVALID, naming every field at fault.
    """
    if sound(message.DESCRIPTOR)(message):
        return
    violations = _validator.collect_violations(message)
    if violations:
        fields = tuple(FieldProblem(field_path(v.proto), v.proto.message) for v in violations)
        names = ", ".join(problem.field or "message" for problem in fields)
        raise InvalidArgumentError(
            "FIELD_INVALID", f"fields break their rules, correct them: {names}", fields=fields
        )


def field_path(violation: Any) -> str:
    """Return the path of a protovalidate violation's field, e.g. `terms.record_types[2]`."""
    path = ""
    for element in violation.field.elements if violation.field else ():
        path += f".{element.field_name}" if path else element.field_name
        if element.subscript and element.subscript.field == "index":
            path += f"[{element.subscript.value}]"
    return path


def parse(request_type: type[Message], body: bytes) -> Message:
    """Return the message in `body`, valid by the rules of its .proto.

    Raises:
        InvalidArgumentError: MALFORMED_MESSAGE or FIELD_INVALID.
    """
    try:
        message = request_type.FromString(body)
    except DecodeError:
        raise InvalidArgumentError(
            "MALFORMED_MESSAGE",
            f"the bytes are not a {request_type.DESCRIPTOR.full_name}: check the method and schema",
        ) from None
    validate(message)
    # Few messages have such a byte, so that few are walked through.
    if 0 in body:
        _refuse_nul(message)
    return message


def _refuse_nul(message: Message) -> None:
    # PostgreSQL cannot store U+0000, and SQLite's functions take it for the end of a text.
    problem = "has the character U+0000: remove it"
    fields = tuple(FieldProblem(path, problem) for path in _fields_with_nul(message, ""))
    if fields:
        names = ", ".join(field.field for field in fields)
        raise InvalidArgumentError(
            "FIELD_INVALID",
            f"texts have the character U+0000, remove it from: {names}",
            fields=fields,
        )


def _fields_with_nul(message: Message, prefix: str) -> Iterator[str]:
    for field_, value in message.ListFields():
        rules = field_.GetOptions().Extensions[validate_pb2.field]
        if (
            field_.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
            or rules.ignore == validate_pb2.IGNORE_ALWAYS
        ):
            continue
        path = f"{prefix}{field_.name}"
        repeated = field_.is_repeated
        for index, each in enumerate(value if repeated else (value,)):
            where = f"{path}[{index}]" if repeated else path
            if isinstance(each, Message):
                yield from _fields_with_nul(each, f"{where}.")
            elif "\0" in each:
                yield where


def _bytes(endpoint: Endpoint, response: Any) -> bytes:
    body: bytes = response if endpoint.request_type is None else response.SerializeToString()
    return body


async def _only(bodies: AsyncIterator[bytes]) -> bytes:
    async for body in bodies:
        return body
    raise InvalidArgumentError("MALFORMED_MESSAGE", "the request has no message: send one")


class Pipeline:
    """Serves endpoints.

    Args:
        authenticate: tells who is calling.
        telemetry: spans and metrics.
        timeouts: how long calls may take.
        refused: is told of refusals.
        gate: lets callers in whose role may call.
        workloads: of a service behind the gateway, which of the others may call what; asked first.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        telemetry: Telemetry,
        timeouts: Timeouts | None = None,
        refused: Refused | None = None,
        gate: Gate | None = None,
        workloads: Admits | None = None,
    ) -> None:
        self._authenticate = authenticate
        self._workloads = workloads
        self._gate = gate
        self._telemetry = telemetry
        self._timeouts = timeouts or Timeouts()
        self._refused = refused

    async def unary(
        self, endpoint: Endpoint, call: Call, body: bytes | Callable[[], Awaitable[bytes]]
    ) -> bytes:
        """Serve one request with one response.

        Args:
            endpoint: what is called.
            call: how it came in.
            body: the request's bytes, or what reads them once the caller is admitted.

        Raises:
            PuhuiError: what the caller is told.
        """
        with self._telemetry.serve(endpoint.method, call.metadata) as served:
            try:
                await self._admit(endpoint, call)
                async with self._entered(endpoint, call), asyncio.timeout_at(current_deadline()):
                    read = body if isinstance(body, bytes) else await body()
                    request = parse(endpoint.request_type, read) if endpoint.request_type else read
                    response = await endpoint.behaviour(request, call.context)
                return _bytes(endpoint, response)
            except Exception as error:  # noqa: BLE001 - the edge: nothing internal gets past
                told = self._told(endpoint, error)
                served.fail(told.code, told.reason)
                raise told from None

    async def stream(
        self, endpoint: Endpoint, call: Call, bodies: AsyncIterator[bytes]
    ) -> AsyncGenerator[bytes]:
        """Serve a method that streams its response, and perhaps its request too.

        Raises:
            PuhuiError: what the caller is told; responses given before stand.
        """
        with self._telemetry.serve(endpoint.method, call.metadata) as served:
            try:
                await self._admit(endpoint, call)
                async with self._entered(endpoint, call):
                    responses = self._responses(endpoint, call, bodies, current_deadline())
                    async with contextlib.aclosing(responses):
                        async for response in responses:
                            yield response
            except Exception as error:  # noqa: BLE001 - the edge: nothing internal gets past
                told = self._told(endpoint, error)
                served.fail(told.code, told.reason)
                raise told from None

    async def _responses(
        self, endpoint: Endpoint, call: Call, bodies: AsyncIterator[bytes], end: float
    ) -> AsyncGenerator[bytes]:
        request: Any
        if endpoint.request_streaming:
            request = self._parsed(endpoint, bodies)
        else:
            async with asyncio.timeout_at(end):
                body = await _only(bodies)
            request = parse(endpoint.request_type, body) if endpoint.request_type else body
        responses = endpoint.behaviour(request, call.context)
        async with contextlib.aclosing(responses):
            # Each step by itself: a timeout around a yield would run in its taker's task.
            while True:
                async with asyncio.timeout_at(end):
                    response = await anext(responses, None)
                if response is None:
                    break
                yield _bytes(endpoint, response)

    def _entered(
        self, endpoint: Endpoint, call: Call
    ) -> contextlib.AbstractAsyncContextManager[None]:
        if self._gate is None:
            return contextlib.nullcontext()
        return self._gate.enter(endpoint, current_caller(), call)

    async def _parsed(
        self, endpoint: Endpoint, bodies: AsyncIterator[bytes]
    ) -> AsyncIterator[Message | bytes]:
        async for body in bodies:
            yield parse(endpoint.request_type, body) if endpoint.request_type else body

    async def _admit(self, endpoint: Endpoint, call: Call) -> None:
        caller = await self._authorise(endpoint, call)
        timeout = self._timeout(endpoint, call.timeout)
        if timeout <= 0:
            raise TimeoutError
        set_caller(caller)
        _call.set(call)
        _deadline.set(asyncio.get_running_loop().time() + timeout)

    async def _authorise(self, endpoint: Endpoint, call: Call) -> Caller:
        caller = None
        try:
            if self._workloads:
                self._workloads.check(endpoint.method, endpoint.roles, call.peer)
            caller = await self._authenticate(call)
            if caller.role not in endpoint.roles:
                raise PermissionDeniedError(
                    "ROLE_NOT_ALLOWED",
                    f"the role {caller.role} may not call {endpoint.method}: "
                    "WhoAmI lists what it may",
                )
        except (UnauthenticatedError, PermissionDeniedError) as error:
            if self._refused:
                self._refused(endpoint.method, caller, error)
            raise
        return caller

    def _timeout(self, endpoint: Endpoint, named: float | None) -> float:
        longest = self._timeouts.stream if endpoint.response_streaming else self._timeouts.longest
        if named is None:
            return longest if endpoint.response_streaming else self._timeouts.default
        return min(named, longest)

    def _told(self, endpoint: Endpoint, error: Exception) -> PuhuiError:
        told = self._as_told(endpoint, error)
        told.trace_id = current_trace_id()
        return told

    def _as_told(self, endpoint: Endpoint, error: Exception) -> PuhuiError:
        if isinstance(error, PuhuiError):
            return error
        if isinstance(error, TimeoutError):
            return DeadlineExceededError(
                "DEADLINE_EXCEEDED", "the deadline passed: allow more time or ask for less"
            )
        _log.error("fault", method=endpoint.method, exc_info=error)
        return InternalError("INTERNAL", "a fault of ours: report the trace id")
