"""The server of every service: grpc.aio behind one pipeline, health, reflection, graceful end.

It may listen at several addresses, with TLS or without. Where TLS asks for the client's certificate
every call says whose it is. Messages may come compressed (gzip, deflate).

On SIGTERM it stops being ready, finishes what runs within the grace time, and the process exits 0.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from puhui.common.v1 import relay_pb2_grpc
from services.kit.calls import (
    Admits,
    Authenticate,
    Call,
    Endpoint,
    Gate,
    Peer,
    Pipeline,
    Refused,
    Timeouts,
    roles_of,
)
from services.kit.client import MAX_ENVELOPE_BYTES, MAX_MESSAGE_BYTES
from services.kit.clock import Clock
from services.kit.config import check_least, check_listen
from services.kit.errors import PuhuiError, UnimplementedError
from services.kit.identity import IDENTITY_METADATA, Caller, IdentityVerifier
from services.kit.peers import peer_of
from services.kit.relay import RelayServicer
from services.kit.status import DETAILS_METADATA, GRPC_CODES, status_of
from services.kit.telemetry import Telemetry
from services.kit.tenant import TENANT_METADATA
from services.kit.tls import Certificates, TlsConfig

# Of one connection; more wait at the client. Of a burst of some thousand calls gRPC itself drops
# calls, whosever they are.
_MOST_STREAMS = 512

_log = structlog.get_logger()
# gRPC's "low": gzip for who takes it. It costs more than it saves below the size.
_COMPRESSION_LEVEL = 1
_LEAST_COMPRESSED = 16 * 1024


@dataclass(frozen=True)
class ServerConfig:
    """Where and how a service listens.

    Args:
        listen: "host:port"; port 0 lets the system choose.
        reflection: lets tools such as grpcurl ask for the schema.
        grace: seconds that running calls get at the end.
        drain: seconds between not being ready and refusing new calls, for load balancers to notice.
        max_connection_age: seconds after which a client is asked to connect anew, so that new
            replicas get their share; 0 is never.
        tls: certificate and key that it shows, and whose clients it trusts.
    """

    listen: str = field(default="127.0.0.1:0", metadata={"help": "host:port; port 0: any free"})
    reflection: bool = field(default=True, metadata={"help": "serve gRPC reflection"})
    grace: float = field(default=20.0, metadata={"help": "seconds for running calls at the end"})
    drain: float = field(default=0.0, metadata={"help": "seconds of not ready before the end"})
    max_connection_age: float = field(
        default=0.0, metadata={"help": "seconds until clients reconnect; 0: never"}
    )
    tls: TlsConfig = field(default_factory=TlsConfig)

    def __post_init__(self) -> None:
        check_listen("listen", self.listen)
        check_least(
            0, grace=self.grace, drain=self.drain, max_connection_age=self.max_connection_age
        )


def by_assertion(verifier: IdentityVerifier) -> Authenticate:
    """Return how a service behind the gateway tells who is calling: by the signed assertion."""

    async def authenticate(call: Call) -> Caller:
        return verifier.verify(call.metadata.get(IDENTITY_METADATA, ""))

    return authenticate


@dataclass
class Listener:
    """An address at which a server listens.

    Args:
        address: "host:port"; port 0 lets the system choose.
        certificates: of TLS; None is plaintext.
        clients: a client must have a certificate of one of the authorities.
        port: known once the server started.
    """

    address: str
    certificates: Certificates | None = None
    clients: bool = False
    port: int = 0


class Server:
    """A gRPC server.

    Args:
        config: where and how it listens.
        authenticate: tells who is calling.
        telemetry: spans and metrics.
        clock: the time.
        internal: it serves Puhui's own services, which relay calls; the entrance does not.
        timeouts: how long calls may take.
        refused: is told of refusals.
        gate: lets callers in whose role may call.
        certificates: of TLS at its address, where a client must have a certificate, too; None is
            plaintext.
        workloads: of an internal service with TLS, which of the others may call what.
        tenant: with which every answer is marked, in its initial metadata; None: with none.
    """

    def __init__(
        self,
        config: ServerConfig,
        authenticate: Authenticate,
        telemetry: Telemetry,
        clock: Clock,
        *,
        internal: bool = True,
        timeouts: Timeouts | None = None,
        refused: Refused | None = None,
        gate: Gate | None = None,
        certificates: Certificates | None = None,
        workloads: Admits | None = None,
        tenant: str | None = None,
    ) -> None:
        self._config = config
        self._marks = ((TENANT_METADATA, tenant),) if tenant else ()
        self._clock = clock
        self.pipeline = Pipeline(authenticate, telemetry, timeouts, refused, gate, workloads)
        self.endpoints: dict[str, Endpoint] = {}
        self._listeners = [Listener(config.listen, certificates, clients=True)]
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=[
                (
                    "grpc.max_receive_message_length",
                    # A participant whose message is too large is told so by a reason of ours; only
                    # a far larger one is cut off by gRPC.
                    MAX_ENVELOPE_BYTES if internal else 2 * MAX_MESSAGE_BYTES,
                ),
                ("grpc.max_send_message_length", MAX_ENVELOPE_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                *([] if internal else [("grpc.default_compression_level", _COMPRESSION_LEVEL)]),
                *([] if internal else [("grpc.max_concurrent_streams", _MOST_STREAMS)]),
                *(
                    [("grpc.max_connection_age_ms", int(config.max_connection_age * 1000))]
                    if config.max_connection_age
                    else []
                ),
            ]
        )
        if internal:
            relay = RelayServicer(self.pipeline, self.endpoints, clock)
            self.add(relay_pb2_grpc.add_RelayServiceServicer_to_server, relay)

    @property
    def port(self) -> int:
        """Where it listens first; known once it started."""
        return self._listeners[0].port

    def listen(self, listener: Listener) -> Listener:
        """Listen at one more address; returns what was given."""
        self._listeners.append(listener)
        return listener

    def add(self, register: Callable[[Any, Any], None], servicer: object) -> None:
        """Serve a generated service: `add(add_XServicer_to_server, servicer)`."""
        register(servicer, _Registrar(self.add_endpoint))

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Serve one method."""
        self.endpoints[endpoint.method] = endpoint

    async def start(self, *, ready: bool = True) -> None:
        """Listen.

        Args:
            ready: calls are welcome already; else once `set_ready` says so.

        Raises:
            RuntimeError: the address is taken.
        """
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = {method.split("/")[1] for method in self.endpoints}
        if self._config.reflection:
            reflection.enable_server_reflection(
                [*services, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
            )
        known = any(listener.clients and listener.certificates for listener in self._listeners)
        arrive = _Arrivals(self._clock if known else None, self._marks)
        handlers = _Handlers(self.pipeline, self.endpoints, arrive)
        self._server.add_generic_rpc_handlers((handlers,))
        for listener in self._listeners:
            if listener.certificates is None:
                listener.port = self._server.add_insecure_port(listener.address)
            else:
                credentials = listener.certificates.grpc_server(clients=listener.clients)
                listener.port = self._server.add_secure_port(listener.address, credentials)
        await self.set_ready(ready=ready)
        await self._server.start()

    async def set_ready(self, *, ready: bool) -> None:
        """Say by grpc.health.v1 whether calls are welcome."""
        serving = health_pb2.HealthCheckResponse
        await self._health.set("", serving.SERVING if ready else serving.NOT_SERVING)

    async def stop(self) -> None:
        """Stop being ready, let clients notice, finish what runs, end."""
        await self.set_ready(ready=False)
        await asyncio.sleep(self._config.drain)
        await self._server.stop(self._config.grace)


async def until_signal() -> None:
    """Return when the process is asked to end, by SIGTERM or SIGINT."""
    loop, asked = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


class _Registrar:
    """Takes what a generated `add_XServicer_to_server` registers and makes endpoints of it."""

    def __init__(self, add: Callable[[Endpoint], None]) -> None:
        self._add = add

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Ignored: the registered handlers are the same methods."""

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        """Make an endpoint of each method."""
        descriptor = descriptor_pool.Default().FindServiceByName(service)
        for name, handler in handlers.items():
            method = descriptor.methods_by_name[name]
            behaviour: Any = (
                handler.unary_unary
                or handler.unary_stream
                or handler.stream_stream
                or handler.stream_unary
            )
            self._add(
                Endpoint(
                    method=f"/{service}/{name}",
                    roles=roles_of(method),
                    request_streaming=bool(handler.request_streaming),
                    response_streaming=bool(handler.response_streaming),
                    request_type=message_factory.GetMessageClass(method.input_type),
                    behaviour=behaviour,
                )
            )


class _Handlers(grpc.GenericRpcHandler):
    """Hands gRPC's calls to the pipeline as bytes."""

    def __init__(
        self, pipeline: Pipeline, endpoints: Mapping[str, Endpoint], arrive: "_Arrivals"
    ) -> None:
        self._unknown = _unknown(arrive)
        self._handlers = {
            method: _stream(pipeline, endpoint, arrive)
            if endpoint.response_streaming
            else _unary(pipeline, endpoint, arrive)
            for method, endpoint in endpoints.items()
        }

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        handler: grpc.RpcMethodHandler[Any, Any] = self._handlers.get(details.method, self._unknown)
        return handler


class _Arrivals:
    """Tells how calls came in, and marks their answers before there are any.

    Args:
        clock: the time, by which certificates are valid; None where no client shows one.
        marks: initial metadata of every answer.
    """

    def __init__(self, clock: Clock | None, marks: tuple[tuple[str, str], ...]) -> None:
        self._clock = clock
        self._marks = marks

    async def __call__(self, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Call:
        if self._marks:
            await context.send_initial_metadata(self._marks)
        received = context.invocation_metadata() or ()
        metadata: dict[str, str] = {}
        for key, value in received:
            if isinstance(value, str):
                # Two of one name arrive as one, as in HTTP: two credentials are no credentials.
                metadata[key] = f"{metadata[key]},{value}" if key in metadata else value
        return Call(metadata, context.time_remaining(), context, self._peer(context))

    def _peer(self, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Peer | None:
        if self._clock is None:
            return None
        for certificate in context.auth_context().get("x509_pem_cert", ()):
            return peer_of(certificate, self._clock.now())
        return None


def _compress(context: "grpc.aio.ServicerContext[bytes, bytes]", body: bytes) -> None:
    if len(body) < _LEAST_COMPRESSED:
        context.disable_next_message_compression()


async def _abort(context: "grpc.aio.ServicerContext[bytes, bytes]", error: PuhuiError) -> None:
    status = status_of(error)
    await context.abort(
        GRPC_CODES[status.code],
        status.message,
        ((DETAILS_METADATA, status.SerializeToString()),),
    )


def _unary(
    pipeline: Pipeline, endpoint: Endpoint, arrive: _Arrivals
) -> "grpc.RpcMethodHandler[Any, Any]":
    async def handle(body: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Any:
        try:
            answer = await pipeline.unary(endpoint, await arrive(context), body)
            _compress(context, answer)
            return answer
        except PuhuiError as error:
            await _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(handle)


def _stream(
    pipeline: Pipeline, endpoint: Endpoint, arrive: _Arrivals
) -> "grpc.RpcMethodHandler[Any, Any]":
    async def handle(
        bodies: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        responses = pipeline.stream(endpoint, await arrive(context), bodies)
        try:
            async with contextlib.aclosing(responses):
                async for response in responses:
                    _compress(context, response)
                    yield response
        except PuhuiError as error:
            await _abort(context, error)

    # Taking every request as a stream lets one handler serve both kinds.
    return grpc.stream_stream_rpc_method_handler(handle)


def _unknown(arrive: _Arrivals) -> "grpc.RpcMethodHandler[Any, Any]":
    async def handle(
        bodies: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> None:
        await arrive(context)
        error = UnimplementedError("UNKNOWN_METHOD", "there is no such method: check its full name")
        await _abort(context, error)

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(handle)
    return handler
