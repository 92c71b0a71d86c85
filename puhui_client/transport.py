"""How calls are made: with a deadline always, repeated only when that is safe.

Safe are reads, and writes that carry a `request_id`: the same id goes out again, so the platform
does it once. What is repeated is UNAVAILABLE, and an overload that names its pause, with growing
jittered pauses inside the one deadline.
"""

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

from puhui_client.credentials import ApiKey, Credentials
from puhui_client.errors import (
    PuhuiError,
    ResourceExhaustedError,
    UnavailableError,
    error_of_call,
)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response")

_ATTEMPTS = 5
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
# The token is not good any more, or never was; another one may be.
_STALE = frozenset({"TOKEN_INVALID"})
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_OPTIONS = [
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # Every address that the name resolves to gets its share.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]


@dataclass(frozen=True)
class Tls:
    """How the connection is protected. All are PEM.

    Args:
        ca: certificates that sign the gateway's; None trusts the system's.
        certificate: the caller's own, for mutual TLS.
        key: its private key.
    """

    ca: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None

    @classmethod
    def read(
        cls, certificate: Path | None = None, key: Path | None = None, *, ca: Path | None = None
    ) -> "Tls":
        """Return what files hold.

        Raises:
            OSError: one cannot be read.
        """
        read = [path.read_bytes() if path else None for path in (ca, certificate, key)]
        return cls(*read)


def pause_before(attempt: int, error: PuhuiError) -> float | None:
    """Return how long to wait before trying again, seconds; None if that is not worth it.

    Args:
        attempt: attempts so far that got nowhere, from 1.
        error: why the last one failed.
    """
    if isinstance(error, ResourceExhaustedError) and error.retry_after is not None:
        return error.retry_after.total_seconds()
    if not isinstance(error, UnavailableError):
        return None
    longest = min(_FIRST_PAUSE * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, nothing secret


class Transport:
    """A connection to the gateway. Make it inside the event loop that uses it.

    Args:
        address: "host:port".
        credentials: what calls prove who makes them with; a text is an API key of the sandbox.
        timeout: seconds for a call that names none.
        tls: None is plaintext: for a sandbox on the same machine only.
    """

    def __init__(
        self, address: str, credentials: str | Credentials, *, timeout: float, tls: Tls | None
    ) -> None:
        if tls is None:
            self.channel = aio.insecure_channel(address, options=_OPTIONS)
        else:
            secured = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
            self.channel = aio.secure_channel(address, secured, options=_OPTIONS)
        self._credentials = ApiKey(credentials) if isinstance(credentials, str) else credentials
        self._timeout = timeout

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()

    async def ready(self, timeout: float) -> None:
        """Wait until the gateway can be reached.

        Raises:
            UnavailableError: it cannot within `timeout` seconds.
        """
        try:
            await asyncio.wait_for(self.channel.channel_ready(), timeout)
        except TimeoutError:
            raise UnavailableError(
                "UNAVAILABLE", "UNAVAILABLE", "nobody answers at this address: check it"
            ) from None

    async def metadata(self) -> tuple[str, aio.Metadata]:
        """Return a new trace's id and the metadata that a call carries.

        Raises:
            UnauthenticatedError: there is no token to be had.
            UnavailableError: whoever gives tokens does not answer.
        """
        trace_id = secrets.token_hex(16)
        metadata = aio.Metadata(
            ("authorization", await self._credentials.authorization()),
            ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01"),
        )
        return trace_id, metadata

    def renewed(self, error: PuhuiError, metadata: aio.Metadata) -> bool:
        """Tell whether a call that failed can be made again with another token."""
        return error.reason in _STALE and self._credentials.rejected(str(metadata["authorization"]))

    def told(self, failure: aio.AioRpcError, metadata: aio.Metadata) -> PuhuiError:
        """Return why a stream ended; by a token whose time was over, it can be opened again."""
        error = error_of_call(failure)
        if self.renewed(error, metadata):
            return UnavailableError("UNAVAILABLE", error.reason, "the token's time was over")
        return error

    async def unary(
        self,
        method: "aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout: float | None = None,
        repeat: bool = True,
    ) -> Response:
        """Call a unary method.

        Args:
            method: of a generated stub.
            request: its request.
            timeout: seconds, over all attempts.
            repeat: doing it twice is as good as once.

        Raises:
            PuhuiError: what the platform answered, or that it did not.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._timeout if timeout is None else timeout)
        attempt, renewed = 0, False
        while True:
            error: PuhuiError
            try:
                trace_id, metadata = await self.metadata()
            except UnavailableError as failure:
                error = failure
            else:
                try:
                    return await method(request, timeout=deadline - loop.time(), metadata=metadata)
                except aio.AioRpcError as failure:
                    error = error_of_call(failure)
                error.trace_id = trace_id
                # Where the token was refused, nothing was done yet.
                if not renewed and self.renewed(error, metadata):
                    renewed = True
                    continue
            attempt += 1
            pause = pause_before(attempt, error) if repeat and attempt < _ATTEMPTS else None
            if pause is None or loop.time() + pause >= deadline:
                raise error
            await asyncio.sleep(pause)

    async def stream(
        self,
        method: "aio.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[Response]:
        """Call a method that streams its response, once.

        Raises:
            PuhuiError: what the platform answered; responses given before stand.
        """
        trace_id, metadata = await self.metadata()
        call = method(request, timeout=timeout, metadata=metadata)
        try:
            async for response in call:
                yield response
        except aio.AioRpcError as failure:
            error = self.told(failure, metadata)
            error.trace_id = trace_id
            raise error from None
        finally:
            call.cancel()
