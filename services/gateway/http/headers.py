"""What the headers of HTTP say, as plain values: RFC 9110, RFC 8288, and the idempotency key.

A header that cannot be read is taken for absent where it only states a wish, and refused where
ignoring it would do something else than was asked for.
"""

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from services.kit.errors import InvalidArgumentError, invalid_field

MAX_HEADER_BYTES: Final = 32 * 1024
MAX_TARGET_BYTES: Final = 8 * 1024

_RANGE = re.compile(r"([\w!#$&^.+*-]+)/([\w!#$&^.+*-]+)")
_QUALITY = re.compile(r";\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE = re.compile(r"[\x21\x23-\x7e]+")
_JSON = re.compile(r"application/json\s*(;.*)?", re.IGNORECASE)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([\w-]+)', re.IGNORECASE)
_PAGE_TOKEN = ("pageToken", "page_token")


def is_json(content_type: str) -> bool:
    """Return whether a `content-type` is that of JSON, which comes in UTF-8."""
    found = _JSON.fullmatch(content_type.strip())
    charset = _CHARSET.search(found[1]) if found and found[1] else None
    return bool(found) and (charset is None or charset[1].lower() == "utf-8")


def accepts(header: str, media_type: str) -> bool:
    """Return whether an `accept` takes a media type; an empty or unreadable one takes all."""
    main, _, sub = media_type.partition("/")
    said: dict[int, bool] = {}
    readable = False
    for part in header.split(","):
        found = _RANGE.match(part.strip())
        if not found:
            continue
        readable = True
        if found[1] in (main, "*") and found[2] in (sub, "*"):
            exactness = (found[1] != "*") + (found[2] != "*")
            said[exactness] = said.get(exactness, False) or _wanted(part)
    return said[max(said)] if said else not readable


def accepts_gzip(header: str) -> bool:
    """Return whether an `accept-encoding` asks for gzip."""
    wishes = {part.partition(";")[0].strip().lower(): _wanted(part) for part in header.split(",")}
    return wishes.get("gzip", wishes.get("*", False))


def _wanted(part: str) -> bool:
    quality = _QUALITY.search(part)
    return quality is None or float(quality[1]) > 0


def entity_tag(content: bytes, encoding: str = "") -> str:
    """Return the strong ETag of a content; each encoding has its own, as its bytes differ."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()[:18]).decode()
    return f'"{digest}-{encoding}"' if encoding else f'"{digest}"'


def matched(if_none_match: str, tags: Sequence[str]) -> str | None:
    """Return the one of `tags` that an `if-none-match` names, or None."""
    if if_none_match.strip() == "*":
        return tags[0]
    named = _TAG.findall(if_none_match)
    return next((tag for tag in tags if tag in named), None)


def idempotency_key(values: Collection[str], field: str) -> str | None:
    """Return the key that a request says, quoted or bare, or None.

    Args:
        values: of its headers of this name.
        field: the path of the request_id that it stands for.

    Raises:
        InvalidArgumentError: FIELD_INVALID: it says several, or none that can be read.
    """
    if not values:
        return None
    if len(set(values)) > 1:
        raise invalid_field("FIELD_INVALID", field, "has several idempotency-key headers: send one")
    [text] = set(values)
    if quoted := _QUOTED.fullmatch(text):
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    else:
        key = text if _BARE.fullmatch(text) else ""
    if not key:
        problem = 'has an idempotency-key header that is no text such as "7c1f-4a": correct it'
        raise invalid_field("FIELD_INVALID", field, problem)
    return key


def refuse_preconditions(names: Collection[str]) -> None:
    """Refuse a write under a condition that is not looked at.

    Raises:
        InvalidArgumentError: MALFORMED_MESSAGE.
    """
    for name in ("if-match", "if-unmodified-since"):
        if name in names:
            raise InvalidArgumentError(
                "MALFORMED_MESSAGE",
                f"a write knows no {name}: leave it out; a state that does not allow the write "
                "refuses it, and a request_id does it once",
            )


def links(raw_path: str, query: Sequence[tuple[str, str]], next_page_token: str) -> str:
    """Return the `link` header of a page of a list: first, and next where there is more.

    Args:
        raw_path: of the request, percent-encoded.
        query: its parameters.
        next_page_token: of the answer; empty on the last page.
    """
    path = quote(raw_path, safe="/%:@!$&'()*+,;=-._~")
    rest = [(name, value) for name, value in query if name not in _PAGE_TOKEN]

    def link(relation: str, parameters: Sequence[tuple[str, str]]) -> str:
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        return f'<{target}>; rel="{relation}"'

    found = [link("first", rest)]
    if next_page_token:
        found.insert(0, link("next", [*rest, (_PAGE_TOKEN[0], next_page_token)]))
    return ", ".join(found)
