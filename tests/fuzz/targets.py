"""What parses the bytes of strangers: each takes any bytes, and raises what it documents."""

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

from google.protobuf.message import DecodeError

from puhui.common.v1 import relay_pb2
from puhui.datashare.v1 import records_pb2
from puhui.scoring.v1 import scoring_pb2
from services.gateway import claims, jws
from services.gateway.http import messages
from services.gateway.jws import RefusedTokenError
from services.kit.clock import SystemClock
from services.kit.errors import InvalidArgumentError, UnauthenticatedError
from services.kit.identity import DATASHARE, GATEWAY, IdentityVerifier, new_key_pair

_HEAD: Final = "eyJhbGciOiJFZERTQSJ9."
_NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)
_VERIFIER: Final = IdentityVerifier({GATEWAY: new_key_pair()[1]}, DATASHARE, SystemClock())
_ORDER: Final = scoring_pb2.ScoreRequest.DESCRIPTOR
_RECORDS: Final = records_pb2.PushRecordsRequest.DESCRIPTOR


def token(data: bytes) -> None:
    """Read a token and its claims."""
    with suppress(RefusedTokenError):
        read = jws.read(data.decode("utf-8", "replace"))
        claims.text(read.claims, "sub", 64)
        claims.bound_to(read.claims)
        claims.expiry(read.claims, _NOW, timedelta(seconds=60))


def members(data: bytes) -> None:
    """Judge claims that stand in JSON."""
    with suppress(RefusedTokenError):
        read = jws.read(_HEAD + base64.urlsafe_b64encode(data).rstrip(b"=").decode() + ".AA").claims
        claims.bound_to(read)
        claims.expiry(read, _NOW, timedelta(seconds=60))


def key(data: bytes) -> None:
    """Make a key of a JWK."""
    with suppress(ValueError, RecursionError):
        jwk = json.loads(data)
        if isinstance(jwk, dict):
            jws.verifying_key(jwk)


def relayed(data: bytes) -> None:
    """Read an envelope."""
    with suppress(DecodeError):
        for call in relay_pb2.RelayRequest.FromString(data).calls:
            with suppress(UnauthenticatedError):
                _VERIFIER.verify(call.identity)


def assertion(data: bytes) -> None:
    """Verify an identity assertion."""
    with suppress(UnauthenticatedError):
        _VERIFIER.verify(data.decode("utf-8", "replace"))


def body(data: bytes) -> None:
    """Make messages of JSON."""
    for kind in (_ORDER, _RECORDS):
        with suppress(InvalidArgumentError):
            messages.to_json(messages.from_json(kind, data))


def query(data: bytes) -> None:
    """Make a message of a query."""
    text = data.decode("utf-8", "replace")
    with suppress(InvalidArgumentError):
        messages.from_query(_ORDER, parse_qsl(text, keep_blank_values=True))


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    made.__name__: made for made in (token, members, key, relayed, assertion, body, query)
}
