"""What of a request message makes its key."""

import hashlib

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


def fingerprint(request: Message) -> bytes:
    """Return the SHA-256 of a message and its type."""
    body = request.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\x00" + body).digest()
