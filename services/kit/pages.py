"""Pages of a list: how large, and where the next one begins.

A page token is opaque and holds the last row's position and a hash of the list and filter that it
belongs to. It gives no right: each page is authorised anew. It is not signed, since a forged
position shows only rows that the same caller could have listed; so what a caller may see must never
follow from a position.
"""

import base64
import binascii
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from typing import Final

from services.kit.errors import InvalidArgumentError, invalid_field

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1_000

Part = str | int
"""What a position is made of: the columns by which a list is ordered.

A number has 64 bits, a text no control characters: a database may not take others.
"""

_HASH_BYTES: Final = 12


def page_size(asked: int, *, default: int = DEFAULT_PAGE_SIZE, largest: int = MAX_PAGE_SIZE) -> int:
    """Return how many rows a page has.

    Args:
        asked: what the request says; 0 is unset.
        default: what unset means.
        largest: more than this is cut to it.

    Raises:
        InvalidArgumentError: FIELD_INVALID, it is negative.
    """
    if asked < 0:
        problem = "must not be negative: leave it out for the default"
        raise invalid_field("FIELD_INVALID", "page_size", problem)
    return min(asked or default, largest)


def encode_page_token(position: Sequence[Part], bound_to: Sequence[Part | None]) -> str:
    """Return the token of the page after a position.

    Args:
        position: the last row's values of the columns that order the list.
        bound_to: the list: its name, and every value that filters it.
    """
    payload = json.dumps(list(position), separators=(",", ":"), ensure_ascii=False).encode()
    token = base64.urlsafe_b64encode(_hash(bound_to) + payload)
    return token.decode().rstrip("=")


def decode_page_token(
    token: str, bound_to: Sequence[Part | None], shape: Sequence[type[Part]]
) -> tuple[Part, ...] | None:
    """Return the position after which a page begins; None is the first page.

    Args:
        token: what the request says; empty is the first page.
        bound_to: as given to `encode_page_token`.
        shape: the types of the position's parts.

    Raises:
        InvalidArgumentError: PAGE_TOKEN_INVALID, it is damaged or of another list or filter.
    """
    if not token:
        return None
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        position = json.loads(raw[_HASH_BYTES:])
    except (binascii.Error, ValueError, RecursionError):
        raise _invalid() from None
    bound = raw[:_HASH_BYTES] == _hash(bound_to)
    if not bound or not isinstance(position, list) or [type(p) for p in position] != list(shape):
        raise _invalid()
    if any(map(_unstorable, position)):
        raise _invalid()
    return tuple(position)


def _unstorable(part: Part) -> bool:
    if isinstance(part, int):
        return not -(2**63) <= part < 2**63
    # Control characters and surrogates.
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in part)


def _hash(bound_to: Sequence[Part | None]) -> bytes:
    text = json.dumps(list(bound_to), separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()[:_HASH_BYTES]


def _invalid() -> InvalidArgumentError:
    problem = "is not one that this list gave for this filter: begin again without it"
    return invalid_field("PAGE_TOKEN_INVALID", "page_token", problem)
