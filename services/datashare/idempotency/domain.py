"""Request ids: a write happens once for each id that a caller uses.

A request_id belongs to its caller. Sent again with the same method and body it gets the stored
response; with another it is refused.
"""

from dataclasses import dataclass

from services.kit.errors import AlreadyExistsError


@dataclass(frozen=True, slots=True)
class RequestKey:
    """One write as its caller named it.

    Args:
        caller_id: the participant that asks.
        request_id: unique for this caller.
        fingerprint: SHA-256 of the method and the body, 32 bytes.
    """

    caller_id: str
    request_id: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """What is kept of a write that happened.

    Args:
        fingerprint: of its method and body.
        response: its response, serialised.
    """

    fingerprint: bytes
    response: bytes


def require_same(key: RequestKey, fingerprint: bytes) -> None:
    """Refuse a request_id that stands for something else.

    Raises:
        AlreadyExistsError: REQUEST_ID_REUSED.
    """
    if key.fingerprint != fingerprint:
        raise AlreadyExistsError(
            "REQUEST_ID_REUSED",
            "this request_id was used for another call: use a new one for each new call",
        )
