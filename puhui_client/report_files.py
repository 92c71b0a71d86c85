"""What a filed credit report proves, without the platform.

Needs the extra `puhui[signing]`, and for PDF `pypdf`. Invariants: a file passes only when its
signature covers every byte of it and is by a key that the reader named; without the signature, what
the file carries is checked instead, and it is said that what it shows was not.
"""

import html
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

from puhui_client.receipts import check_leaf
from puhui_client.signing import PublicKey, SigningError, key_id_of

ATTACHED: Final = "report.json"
"""Name of the document in a PDF; its signature's has ".jws" behind."""
_OPENS: Final = b'<script type="application/json" id="puhui-document">'
_CLOSES: Final = b"</script>"
_JWS: Final = re.compile(rb'<meta name="puhui-document-jws" content="([^"]*)">')
# As the page hides them: an escaped backslash before is one of the document's own.
_HIDDEN: Final = re.compile(rb"\\u00(?:3c|3e|26)|\\.")


@dataclass(frozen=True)
class Filed:
    """A report that passed.

    Args:
        document: that it shows.
        key_id: thumbprint of the key that signed.
        whole: every byte of the file is as it was signed; else the document that it carries is, and
            what the file shows was not checked.
    """

    document: dict[str, Any]
    key_id: str
    whole: bool


def read_keys(text: str) -> dict[str, PublicKey]:
    """Return the keys of a JWK set, or of one JWK, by thumbprint.

    Raises:
        SigningError: it holds none.
    """
    try:
        stated = json.loads(text)
        found = [PublicKey.parse(json.dumps(each)) for each in stated.get("keys", [stated])]
    except (ValueError, AttributeError):
        raise SigningError("there are no keys of reports in it: `puhui report keys`") from None
    return {key.key_id: key for key in found}


def verify(content: bytes, content_jws: str, keys: Mapping[str, PublicKey]) -> Filed:
    """Check a report.

    Args:
        content: the file.
        content_jws: its signature; empty when it is lost.
        keys: that are believed, by thumbprint.

    Raises:
        SigningError: it is not as it was signed, or not by one of the keys.
    """
    # A file is looked into only once it is known to be ours, where that can be known.
    key_id = _check(content, content_jws, keys) if content_jws else ""
    document, document_jws = carried(content)
    if not key_id:
        if not document_jws:
            problem = "its signature is not there: name the file that was written beside it"
            raise SigningError(problem)
        key_id = _check(document, document_jws, keys)
    stated = json.loads(document)
    _check_receipt(stated)
    return Filed(stated, key_id, whole=bool(content_jws))


def carried(content: bytes) -> tuple[bytes, str]:
    """Return the document in a report, and its signature; empty of JSON, whose own it is.

    Raises:
        SigningError: it is no report.
    """
    if content.startswith(b"{"):
        return content, ""
    if content.startswith(b"%PDF"):
        return _of_pdf(content)
    start, named = content.find(_OPENS), _JWS.search(content)
    end = content.find(_CLOSES, start)
    if start < 0 or end < 0 or named is None:
        raise SigningError("this is no credit report: JSON, HTML or PDF, as it was written")
    held = content[start + len(_OPENS) : end]
    return _HIDDEN.sub(_shown, held), html.unescape(named.group(1).decode("ascii", "replace"))


def _shown(hidden: re.Match[bytes]) -> bytes:
    text = hidden.group()
    return text if len(text) == 2 else bytes([int(text[4:], 16)])


def _of_pdf(content: bytes) -> tuple[bytes, str]:
    try:
        from pypdf import PdfReader  # noqa: PLC0415 - an extra
        from pypdf.errors import PyPdfError  # noqa: PLC0415 - an extra
    except ImportError:
        raise SigningError("to look into a PDF, install pypdf") from None
    try:
        found = PdfReader(BytesIO(content)).attachments
        return found[ATTACHED][0], found[f"{ATTACHED}.jws"][0].decode()
    # pypdf trips over broken files in these ways, too.
    except (PyPdfError, LookupError, ValueError, TypeError, AttributeError, RecursionError):
        raise SigningError("this PDF does not carry a credit report") from None


def _check(content: bytes, jws: str, keys: Mapping[str, PublicKey]) -> str:
    key = keys.get(key_id_of(jws))
    if key is None:
        raise SigningError(
            f"it is signed by the key {key_id_of(jws) or '(none)'}, which is not among those "
            "named: get the platform's by `puhui report keys`"
        )
    key.verify(jws, content)
    return key.key_id


def _check_receipt(document: Mapping[str, Any]) -> None:
    """Check that the receipt is of the very access that the report is of.

    Raises:
        SigningError: it is not.
    """
    try:
        receipt, decision = document["receipt"], document["decision"]
        check_leaf(
            bytes.fromhex(receipt["leaf_hash"]),
            bytes.fromhex(receipt["salt"]),
            receipt["content"].encode(),
            decision["access_id"],
            decision["subject_id"],
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, SigningError):
            raise
        raise SigningError("the document holds no receipt of its access") from None
