"""What of a request message makes its key."""

import hashlib
import hmac

from google.protobuf.message import Message

from services.datashare.idempotency.domain import RequestKey
from services.kit.identity import Caller


def key_of(caller: Caller, request_id: str, request: Message) -> RequestKey:
    """Return the key of a write.

    Args:
        caller: who sent it.
        request_id: as the caller named it.
        request: the whole message.
    """
    return RequestKey(caller.participant_id, request_id, fingerprint(request))


def secret_key_of(caller: Caller, request_id: str, request: Message, secret: bytes) -> RequestKey:
    """Return the key of a write whose message could be guessed from a plain hash of it.

    Args:
        caller: who sent it.
        request_id: as the caller named it.
        request: the whole message.
        secret: bytes; with others the same message is another one.
    """
    digest = hmac.digest(secret, b"puhui requests" + fingerprint(request), "sha256")
    return RequestKey(caller.participant_id, request_id, digest)


def fingerprint(request: Message) -> bytes:
    """Return the SHA-256 of a message and its type."""
    body = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\x00" + body).digest()
