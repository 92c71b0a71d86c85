"""RFC 8785 canonical JSON at serving speed.

Invariant: the bytes are those of `rfc8785`. orjson writes what RFC 8785 says but for whole floats,
which `plain` makes integers, and for numbers whose exponent the two show otherwise, which go the
slow way; its order of keys is that of RFC 8785 where they are ASCII.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import orjson
import rfc8785

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Build: TypeAlias = "Callable[[Callable[[float], float]], Mapping[str, Json]]"
"""Makes a document of ASCII keys, each float of it as the function that is given returns it."""

_MOST: Final = 2.0**53
_LEAST: Final = 1e-5
_UNLIKE: Final = 1e-6


class _UnlikeError(Exception):
    """A number that the two write differently."""


def canonical(build: Build) -> bytes:
    """Return a document as RFC 8785 canonical JSON.

    Raises:
        ValueError: a number is not finite.
    """
    try:
        return orjson.dumps(build(_plain), option=orjson.OPT_SORT_KEYS)
    except _UnlikeError:
        return rfc8785.dumps(dict(build(float)))


def _plain(value: float) -> float:
    """Return a number as orjson writes what RFC 8785 says of it."""
    if value.is_integer():
        if -_MOST < value < _MOST:
            return int(value)
        raise _UnlikeError
    if not math.isfinite(value):
        raise ValueError("a number that is not finite has no JSON: leave it out")
    if _UNLIKE <= abs(value) < _LEAST:
        raise _UnlikeError
    return value
