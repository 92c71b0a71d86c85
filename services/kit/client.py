"""Calls to another service: with a deadline always, retried only when that is safe.

A call carries the trace of the call being served and the identity it is made under. Failures come
back as the errors of `kit.errors`. Only UNAVAILABLE is retried, only for calls that the caller
names idempotent, with growing jittered pauses inside the same deadline.

With TLS a call shows the certificate of its own service and goes to no other but one whose
certificate is for the host that is called, from an authority of ours. A renewed certificate makes a
new connection for later calls; those that run end on the old one.
"""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from services.kit.errors import UnavailableError
from services.kit.identity import IDENTITY_METADATA
from services.kit.status import error_from_rpc
from services.kit.telemetry import TRACEPARENT_METADATA, current_traceparent
from services.kit.tls import Certificates, Material

Response = TypeVar("Response", bound=Message)

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# What the services put around a message of that size when they pass it on to each other.
MAX_ENVELOPE_BYTES = MAX_MESSAGE_BYTES + 64 * 1024
_ATTEMPTS = 4
_FIRST_PAUSE = 0.05
_LOOK_EVERY = 1.0
_OPTIONS = [
    ("grpc.max_send_message_length", MAX_ENVELOPE_BYTES),
    ("grpc.max_receive_message_length", MAX_ENVELOPE_BYTES),
    # Every replica of a headless Service gets its share.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


class Channel:
    """A connection to a service.

    Args:
        address: "host:port".
        identity: gives the assertion under which calls are made.
        timeout: seconds for a call that names none.
        certificates: of TLS; None is plaintext.
    """

    def __init__(
        self,
        address: str,
        identity: Callable[[], str],
        *,
        timeout: float = 10.0,
        certificates: Certificates | None = None,
    ) -> None:
        self._address = address
        self._identity = identity
        self._timeout = timeout
        self._certificates = certificates
        material = certificates.current() if certificates else None
        self._connection = _Connection(address, material)
        self._closing: set[asyncio.Task[None]] = set()
        self._looked = 0.0

    async def unary(
        self,
        method: str,
        request: Message,
        response_type: type[Response],
        *,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Response:
        """Call a unary method.

        Args:
            method: full name, "/package.Service/Method".
            request: its request.
            response_type: the type of its response.
            timeout: seconds.
            idempotent: doing it twice is as good as once, so that it may be tried again.

        Raises:
            PuhuiError: what the service answered, UNAVAILABLE or DEADLINE_EXCEEDED.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout if timeout is None else timeout)
        body = request.SerializeToString()
        attempts = _ATTEMPTS if idempotent else 1
        for attempt in range(attempts):
            try:
                with self._connected() as connection:
                    call = connection.method(method)(
                        body, timeout=deadline - loop.time(), metadata=self.metadata()
                    )
                    return response_type.FromString(await call)
            except grpc.aio.AioRpcError as rpc_error:
                error = error_from_rpc(rpc_error)
                pause = _FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5)  # noqa: S311 - jitter
                last = attempt + 1 == attempts or loop.time() + pause >= deadline
                if last or not isinstance(error, UnavailableError):
                    raise error from None
                await asyncio.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def forward(
        self, method: str, body: bytes, metadata: Sequence[tuple[str, str]], timeout: float
    ) -> bytes:
        """Pass a unary call on, in bytes as they are.

        Raises:
            PuhuiError: what the service answered.
        """
        try:
            with self._connected() as connection:
                return await connection.method(method)(body, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as rpc_error:
            raise error_from_rpc(rpc_error) from None

    async def collect(
        self, method: str, request: Message, response_type: type[Response], *, timeout: float
    ) -> AsyncGenerator[Response]:
        """Call a method that streams its response.

        Raises:
            PuhuiError: what the service answered.
        """
        body = request.SerializeToString()
        with self._connected() as connection:
            method_call: Any = connection.channel.unary_stream(method)
            call = method_call(body, timeout=timeout, metadata=self.metadata())
            try:
                async for response in call:
                    yield response_type.FromString(response)
            except grpc.aio.AioRpcError as rpc_error:
                raise error_from_rpc(rpc_error) from None
            finally:
                call.cancel()

    async def stream(
        self,
        method: str,
        bodies: AsyncIterator[bytes],
        metadata: Sequence[tuple[str, str]],
        timeout: float,
    ) -> AsyncGenerator[bytes]:
        """Pass a call on that streams both ways or only its response, in bytes as they are.

        A request is taken from `bodies` only when the service has room for it, a response only
        when it is asked for; ending or closing this ends the call at the service too.

        Raises:
            PuhuiError: what the service answered, or what `bodies` raised.
        """
        with self._connected() as connection:
            method_call: Any = connection.channel.stream_stream(method)
            call = method_call(timeout=timeout, metadata=metadata)
            sending = asyncio.create_task(_send(call, bodies))
            try:
                while (response := await call.read()) is not grpc.aio.EOF:
                    yield response
            except grpc.aio.AioRpcError as rpc_error:
                raise error_from_rpc(rpc_error) from None
            except asyncio.CancelledError:
                if sending.done():
                    sending.result()
                raise
            finally:
                sending.cancel()
                call.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata that this channel's calls carry."""
        return (
            (IDENTITY_METADATA, self._identity()),
            (TRACEPARENT_METADATA, current_traceparent()),
        )

    async def ready(self, timeout: float) -> None:
        """Wait until the service can be reached.

        Raises:
            UnavailableError: it cannot within `timeout` seconds.
        """
        try:
            await asyncio.wait_for(self._connection.channel.channel_ready(), timeout)
        except TimeoutError:
            raise UnavailableError(
                "UNAVAILABLE", "a service that this one needs does not answer: start it"
            ) from None

    async def close(self) -> None:
        """Close the connection."""
        await asyncio.gather(self._connection.channel.close(), *self._closing)

    @contextmanager
    def _connected(self) -> "Iterator[_Connection]":
        """Give the connection for a call, and keep it until the call has ended."""
        connection = self._newest()
        connection.running += 1
        try:
            yield connection
        finally:
            connection.running -= 1
            self._release(connection)

    def _newest(self) -> "_Connection":
        now = asyncio.get_running_loop().time()
        if self._certificates is not None and now >= self._looked + _LOOK_EVERY:
            self._looked = now
            material, old = self._certificates.current(), self._connection
            if material is not old.material:
                self._connection = _Connection(self._address, material)
                self._release(old)
        return self._connection

    def _release(self, connection: "_Connection") -> None:
        if connection is not self._connection and not connection.running:
            closing = asyncio.create_task(connection.channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


class _Connection:
    """A channel of gRPC's under one certificate.

    Args:
        address: "host:port".
        material: own certificate, and whom to trust; None is plaintext.
    """

    def __init__(self, address: str, material: Material | None) -> None:
        self.material = material
        self.running = 0
        if material is None:
            self.channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(
                material.ca, material.key, material.certificate
            )
            self.channel = grpc.aio.secure_channel(address, credentials, options=_OPTIONS)
        self._methods: dict[str, Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]]] = {}

    def method(self, method: str) -> Callable[..., grpc.aio.UnaryUnaryCall[bytes, bytes]]:
        """Return what calls a unary method."""
        known = self._methods.get(method)
        if known is None:
            known = self._methods[method] = self.channel.unary_unary(method)
        return known


async def _send(call: Any, bodies: AsyncIterator[bytes]) -> None:
    """Send the requests; when there is an error in them, end the call and raise that error."""
    try:
        async for body in bodies:
            await call.write(body)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        # The service ended the call while there was more to send: who reads learns why.
        return
    except Exception:
        call.cancel()
        raise
