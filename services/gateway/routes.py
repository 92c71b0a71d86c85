"""What can be called through the gateway, read from the .proto files.

A method is there when its access option names a role of participants; the bodies of its messages
are passed on as bytes, unread. What only Puhui's own services may call does not exist here, nor
does anything without the option.
"""

import asyncio
import contextlib
import importlib
import pkgutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor

from services.gateway.limits import check_size
from services.gateway.metering import count_request, count_response
from services.kit.calls import (
    Authenticate,
    Endpoint,
    current_call,
    current_deadline,
    roles_of,
)
from services.kit.client import Channel
from services.kit.identity import IDENTITY_METADATA, Caller, current_caller
from services.kit.relay import Relayer, RelayItem
from services.kit.telemetry import TRACEPARENT_METADATA, current_traceparent

DATASHARE = "puhui.datashare.v1"
SCORING = "puhui.scoring.v1"
GATEWAY = "puhui.gateway.v1"
PARTICIPANTS = frozenset({"PROVIDER", "FIRM", "BANK", "REGULATOR", "OPERATOR"})

Behaviour = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Backend:
    """A service behind the gateway.

    Args:
        channel: to it, for streams.
        relayer: over that channel, for unary calls.
    """

    channel: Channel
    relayer: Relayer


@dataclass(frozen=True)
class Route:
    """A method that participants may call.

    Args:
        method: its descriptor.
        endpoint: what serves it.
    """

    method: MethodDescriptor
    endpoint: Endpoint


def exposed(package: str) -> list[MethodDescriptor]:
    """Return the methods of a package that participants may call, in the order of their files."""
    return [method for method in _methods(package) if roles_of(method) & PARTICIPANTS]


def access() -> dict[str, frozenset[str]]:
    """Return which participants may call what by the .proto: roles by "package.Service/Method"."""
    return {
        full_name(method)[1:]: roles_of(method) & PARTICIPANTS
        for package in (GATEWAY, DATASHARE, SCORING)
        for method in exposed(package)
    }


def full_name(method: MethodDescriptor) -> str:
    """Return "/package.Service/Method"."""
    return f"/{method.containing_service.full_name}/{method.name}"


def forwarding(
    package: str,
    backend: Backend,
    sign: Callable[[Caller], str],
    authenticate: Authenticate,
) -> list[Route]:
    """Return routes that pass a package's methods on.

    Args:
        package: e.g. "puhui.scoring.v1".
        backend: the service that has them.
        sign: makes the assertion of who is calling, for that service.
        authenticate: tells who is calling; asked again for each message of a stream, which ends
            where a credential was revoked or its participant suspended meanwhile.
    """
    routes = []
    for method in exposed(package):
        name = full_name(method)
        behaviour: Behaviour
        if method.server_streaming:
            behaviour = _stream(name, method.client_streaming, backend.channel, sign, authenticate)
        else:
            behaviour = _unary(name, backend.relayer, sign)
        routes.append(_route(method, behaviour, forward=True))
    return routes


def answering(package: str, servicer: object) -> list[Route]:
    """Return routes to the gateway's own servicer."""
    return [
        _route(method, getattr(servicer, method.name), forward=False) for method in exposed(package)
    ]


def _route(method: MethodDescriptor, behaviour: Behaviour, *, forward: bool) -> Route:
    request_type = None if forward else message_factory.GetMessageClass(method.input_type)
    return Route(
        method,
        Endpoint(
            method=full_name(method),
            roles=roles_of(method) & PARTICIPANTS,
            request_streaming=method.client_streaming,
            response_streaming=method.server_streaming,
            request_type=request_type,
            behaviour=behaviour,
        ),
    )


def _methods(package: str) -> Iterator[MethodDescriptor]:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"{package}.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                yield from service.methods


def _unary(method: str, relayer: Relayer, sign: Callable[[Caller], str]) -> Behaviour:
    async def behaviour(body: bytes, context: object) -> bytes:
        check_size(body)
        count_request(body)
        caller = current_caller()
        response = await relayer.call(
            RelayItem(method, body, sign(caller), current_traceparent(), current_deadline())
        )
        count_response(response)
        return response

    return behaviour


def _stream(
    method: str,
    client_streaming: bool,
    channel: Channel,
    sign: Callable[[Caller], str],
    authenticate: Authenticate,
) -> Behaviour:
    async def behaviour(request: Any, context: object) -> AsyncGenerator[bytes]:
        caller = current_caller()
        proof = current_call()

        async def checked(bodies: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for body in bodies:
                check_size(body)
                count_request(body)
                await authenticate(proof)
                yield body

        metadata = (
            (IDENTITY_METADATA, sign(caller)),
            (TRACEPARENT_METADATA, current_traceparent()),
        )
        bodies = checked(request if client_streaming else _alone(request))
        timeout = current_deadline() - asyncio.get_running_loop().time()
        responses = channel.stream(method, bodies, metadata, timeout)
        async with contextlib.aclosing(responses):
            async for response in responses:
                await authenticate(proof)
                count_response(response)
                yield response

    return behaviour


async def _alone(body: bytes) -> AsyncIterator[bytes]:
    yield body
