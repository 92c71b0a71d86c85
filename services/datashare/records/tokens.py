"""Keyed names of counterparties.

A registration number can be enumerated, so a plain hash of it hides nothing: the token is an HMAC
under a key that only datashare has. The same counterparty has the same token everywhere, so that
dealings can be added up; tokens never leave datashare except in records that a consent opens.

Names are not kept, so a new key takes nothing's place: it is one more link of a chain. A token is
`HMAC(k_n, ... HMAC(k_2, HMAC(k_1, name)))`, each cut to 16 bytes, so whatever is stored is carried
to the next key by one more HMAC of it, and is then what the chain makes of the name.

A link may map two tokens to one, which stay one. Each is as good as a random function on 2^128
values, so among N names n links do so with a probability of at most n N^2 / 2^129: 2e-19 for a
thousand million names and a hundred links.
"""

import hmac
from functools import lru_cache
from typing import Final

TOKEN_BYTES: Final = 16
# A few hundred firms' counterparties; a row then costs a look-up instead of an HMAC.
_CACHED: Final = 1 << 16
# No name has the character U+0000, nor a letter in lower case.
_CHECKED: Final = b"\0puhui counterparty key"


class CounterpartyTokens:
    """Makes tokens.

    Args:
        key: the first, at least 16 bytes.
        newer: those that came after it, oldest first; as long, and no two alike.

    Raises:
        ValueError: a key is too short, or there twice.
    """

    def __init__(self, key: bytes, *newer: bytes) -> None:
        self._keys = (key, *newer)
        if any(len(each) < TOKEN_BYTES for each in self._keys):
            raise ValueError(f"a counterparty key should have at least {TOKEN_BYTES} bytes")
        if len(set(self._keys)) < len(self._keys):
            raise ValueError("a counterparty key is there twice")

        @lru_cache(_CACHED)
        def token(name: str) -> bytes:
            return chained(self._keys, name.strip().upper().encode())

        self.of = token
        """Returns the token of a registration number or name, as the provider wrote it."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The chain, oldest first."""
        return self._keys

    @property
    def check_value(self) -> bytes:
        """What tells one chain from another and betrays no key, as no name has it as its token."""
        return chained(self._keys, _CHECKED)


def chained(keys: tuple[bytes, ...], content: bytes) -> bytes:
    """Return the token that links make of a name, or of the token that earlier links made."""
    for key in keys:
        content = hmac.digest(key, content, "sha256")[:TOKEN_BYTES]
    return content
