"""RFC 8785 canonical JSON at serving speed.

Invariant: the bytes are those of `rfc8785`. orjson writes what RFC 8785 says but for whole floats,
which are made integers before; numbers whose exponent the two show otherwise, and keys that are not
ASCII, whose order may be another one by UTF-16 code units, go the slow way.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import orjson
import rfc8785

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

_MOST: Final = 2.0**53
_LEAST: Final = 1e-5
_UNLIKE: Final = 1e-6


class _UnlikeError(Exception):
    """Something that the two write differently."""


def canonical(document: Mapping[str, Json]) -> bytes:
    """Return a document as RFC 8785 canonical JSON.

    Raises:
        ValueError: a number is not finite, or an integer is beyond what a double holds.
    """
    try:
        return orjson.dumps(_plain(document), option=orjson.OPT_SORT_KEYS)
    except _UnlikeError:
        return rfc8785.dumps(document)


def _plain(value: Json) -> Json:
    """Return a value with the numbers as RFC 8785 writes them."""
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) >= _MOST:
            raise _UnlikeError
        return value
    if isinstance(value, Mapping):
        if not all(map(str.isascii, value)):
            raise _UnlikeError
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value]


def _number(value: float) -> float | int:
    if not math.isfinite(value):
        raise ValueError("a number that is not finite has no JSON: leave it out")
    if value.is_integer():
        if abs(value) >= _MOST:
            raise _UnlikeError
        return int(value)
    if _UNLIKE <= abs(value) < _LEAST:
        raise _UnlikeError
    return value
