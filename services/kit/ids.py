"""Opaque ids: a prefix that says what it names, then 26 characters that sort by time of making.

The body is a ULID (48 bits of milliseconds, 80 random bits, Crockford base 32), so that rows
written together lie together in an index. An id never contains data about what it names.
"""

import itertools
import secrets
from collections.abc import Callable
from typing import Protocol

from services.kit.clock import Clock

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]


class Ids(Protocol):
    """Makes ids."""

    def new(self, prefix: str) -> str:
        """Return a new id, `<prefix>_<26 characters>`."""
        ...


def encode(milliseconds: int, entropy: int) -> str:
    """Return the 26 characters of a ULID.

    Args:
        milliseconds: since 1970-01-01, below 2**48.
        entropy: below 2**80.
    """
    value = (milliseconds << 80) | entropy
    return "".join(_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10))


class RandomIds:
    """Ids from a clock and random bits.

    Args:
        clock: where the milliseconds come from.
        random_bits: returns a non-negative integer of that many random bits.
    """

    def __init__(self, clock: Clock, random_bits: Callable[[int], int] = secrets.randbits) -> None:
        self._clock = clock
        self._random_bits = random_bits

    def new(self, prefix: str) -> str:
        """Return a new id."""
        milliseconds = int(self._clock.now().timestamp() * 1000)
        return f"{prefix}_{encode(milliseconds, self._random_bits(80))}"


class SequentialIds:
    """Ids that count 1, 2, 3: for tests and golden files."""

    def __init__(self) -> None:
        self._count = itertools.count(1)

    def new(self, prefix: str) -> str:
        """Return the next id."""
        return f"{prefix}_{encode(0, next(self._count))}"
