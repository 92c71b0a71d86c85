"""Receipts of releases: what a bank can check, and show to others, about what it was given.

The leaf's hash covers the salt and the content of the access; the promise is the platform's, over
that hash. So a receipt stands on its own, with one of the platform's public keys.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from puhui.datashare.v1.accesses_pb2 import FetchSummaryResponse
from puhui_client.signing import SigningError


@dataclass(frozen=True)
class Promise:
    """The platform's promise, whose signature is not checked yet.

    Args:
        jws: detached.
        payload: that it covers.
        included_by: when the leaf is in the log.
    """

    jws: str
    payload: bytes
    included_by: datetime


def read_promise(fetched: FetchSummaryResponse) -> Promise:
    """Return the promise of a release, once its receipt is about this very access.

    Args:
        fetched: as it was answered.

    Raises:
        SigningError: the receipt is about another access, or its parts do not belong together.
    """
    receipt = fetched.receipt
    if hashlib.sha256(b"\x00" + receipt.salt + receipt.content).digest() != receipt.leaf_hash:
        raise SigningError("the leaf is not the hash of the receipt's salt and content")
    content = _document(receipt.content, "the content")
    if (content.get("access_id"), content.get("subject_id")) != (
        fetched.access_id,
        fetched.summary.subject_id,
    ):
        raise SigningError("the receipt is of another access")
    parts = receipt.promise.split(".")
    try:
        header, body, signature = parts
        payload = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise SigningError("the promise is no compact JWS") from None
    promised = _document(payload, "the promise")
    if promised.get("leaf_hash") != receipt.leaf_hash.hex():
        raise SigningError("the promise is about another leaf")
    try:
        included_by = datetime.fromisoformat(str(promised.get("included_by")))
    except ValueError:
        raise SigningError("the promise names no time") from None
    return Promise(f"{header}..{signature}", payload, included_by)


def _document(content: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        raise SigningError(f"{what} is not JSON") from None
    if not isinstance(document, dict):
        raise SigningError(f"{what} is not a JSON object")
    return document
