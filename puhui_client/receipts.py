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
    check_leaf(
        receipt.leaf_hash,
        receipt.salt,
        receipt.content,
        fetched.access_id,
        fetched.summary.subject_id,
    )
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


def check_leaf(
    leaf_hash: bytes, salt: bytes, content: bytes, access_id: str, subject_id: str
) -> None:
    """Check that a leaf is that of an access.

    Raises:
        SigningError: its parts do not belong together, or it is another access's.
    """
    if hashlib.sha256(b"\x00" + salt + content).digest() != leaf_hash:
        raise SigningError("the leaf is not the hash of the receipt's salt and content")
    stated = _document(content, "the content")
    if (stated.get("access_id"), stated.get("subject_id")) != (access_id, subject_id):
        raise SigningError("the receipt is of another access")


def _document(content: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError:
        raise SigningError(f"{what} is not JSON") from None
    if not isinstance(document, dict):
        raise SigningError(f"{what} is not a JSON object")
    return document
