"""Checking a notice that the platform posted, as Standard Webhooks says.

Use it before anything of the body is believed, on the body's bytes as they came:

Example:
    >>> from puhui_client import webhooks
    >>>
    >>> def receive(headers: dict[str, str], body: bytes, secret: str, seen: set[str]) -> int:
    ...     try:
    ...         notice = webhooks.verify(secret, headers, body)
    ...     except webhooks.NotVerifiedError:
    ...         return 400
    ...     if notice.notice_id not in seen:  # it may come more than once
    ...         ...  # keep it, then
    ...         seen.add(notice.notice_id)
    ...     return 204
"""

import base64
import binascii
import hmac
import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from google.protobuf.json_format import ParseDict, ParseError

from puhui.datashare.v1.notices_pb2 import Notice

TOLERANCE: Final = timedelta(minutes=5)
"""How far the time in a notice may be from one's own. What is older was perhaps caught on its way
and posted again; within that time the receiver tells it by its id."""

_PREFIX: Final = "whsec_"


class NotVerifiedError(Exception):
    """A notice was not posted by the platform, or not now."""


def verify(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance: timedelta = TOLERANCE,
    now: Callable[[], float] = time.time,
) -> Notice:
    """Return the notice in a request that the platform posted just now.

    Args:
        secret: as `set_webhook` gave it.
        headers: of the request; case does not matter.
        body: of the request, unchanged.
        tolerance: how far its time may be from now.
        now: seconds since 1970.

    Raises:
        NotVerifiedError: it says why; answer with a status of 400.
        ValueError: the secret is none.
    """
    key = _key(secret)
    lower = {name.lower(): value for name, value in headers.items()}
    notice_id, stamp, signatures = (
        lower.get(name, "") for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
    )
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        raise NotVerifiedError("webhook-timestamp is missing or no time")
    if abs(now() - int(stamp)) > tolerance.total_seconds():
        raise NotVerifiedError("webhook-timestamp is too far from now: check this machine's clock")
    signed = f"{notice_id}.{stamp}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, "sha256"))
    # Several stand there while a secret is replaced; each is compared in constant time.
    given = [each.encode()[3:] for each in signatures.split() if each.startswith("v1,")]
    if not any(hmac.compare_digest(expected, each) for each in given):
        raise NotVerifiedError("webhook-signature is not by this secret")
    try:
        notice: Notice = ParseDict(json.loads(body)["data"], Notice(), ignore_unknown_fields=True)
    except (ValueError, KeyError, TypeError, ParseError):
        raise NotVerifiedError("the body is no notice") from None
    if notice.notice_id != notice_id:
        raise NotVerifiedError("webhook-id is not the notice's")
    return notice


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_PREFIX) or not key:
        raise ValueError(f"no secret of a webhook, which begins with {_PREFIX}")
    return key
