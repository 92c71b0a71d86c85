"""Keyed names of counterparties.

A registration number can be enumerated, so a plain hash of it hides nothing: the token is an HMAC
under a key that only datashare has. The same counterparty has the same token everywhere, so that
dealings can be added up; tokens never leave datashare except in records that a consent opens.
"""

import hmac
from functools import lru_cache
from typing import Final

TOKEN_BYTES: Final = 16
# A few hundred firms' counterparties; a row then costs a look-up instead of an HMAC.
_CACHED: Final = 1 << 16


class CounterpartyTokens:
    """Makes tokens.

    Args:
        key: at least 16 bytes.

    Raises:
        ValueError: the key is too short.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < TOKEN_BYTES:
            raise ValueError(f"the counterparty key should have at least {TOKEN_BYTES} bytes")

        @lru_cache(_CACHED)
        def token(name: str) -> bytes:
            return hmac.digest(key, name.strip().upper().encode(), "sha256")[:TOKEN_BYTES]

        self.of = token
        """Returns the token of a registration number or name, as the provider wrote it."""
