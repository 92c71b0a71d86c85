"""Gzip, both ways: answers where that saves something, requests up to a bound."""

import asyncio
import gzip
import zlib
from typing import Final

from services.gateway.limits import check_size
from services.kit.client import MAX_MESSAGE_BYTES
from services.kit.errors import InvalidArgumentError

LEAST: Final = 1024
_LARGE: Final = 64 * 1024
# Of what comes out at once: the loop serves others in between.
_STEP: Final = 1024 * 1024
_GZIP: Final = 16 + zlib.MAX_WBITS


async def compressed(content: bytes) -> bytes:
    """Return the content in gzip, always the same bytes for the same content."""
    if len(content) < _LARGE:
        return gzip.compress(content, 5, mtime=0)
    return await asyncio.to_thread(gzip.compress, content, 5, mtime=0)


class Inflater:
    """Undoes gzip as it comes; what comes out is never more than a message may have."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(_GZIP)
        self._content = bytearray()

    async def feed(self, chunk: bytes) -> None:
        """Take more.

        Raises:
            InvalidArgumentError: MALFORMED_MESSAGE: it is no gzip; BATCH_TOO_LARGE.
        """
        while chunk and not self._stream.eof:
            room = MAX_MESSAGE_BYTES + 1 - len(self._content)
            try:
                self._content += self._stream.decompress(chunk, min(_STEP, room))
            except zlib.error:
                raise _broken() from None
            check_size(self._content)
            chunk = self._stream.unconsumed_tail
            await asyncio.sleep(0)
        if chunk or self._stream.unused_data:
            raise _broken()

    def content(self) -> bytes:
        """Return all that came out.

        Raises:
            InvalidArgumentError: MALFORMED_MESSAGE: there should be more.
        """
        # A stream may hold back what it has not been asked for, within one window.
        self._content += self._stream.flush()
        check_size(self._content)
        if not self._stream.eof:
            raise _broken()
        return bytes(self._content)


def _broken() -> InvalidArgumentError:
    return InvalidArgumentError(
        "MALFORMED_MESSAGE", "the body is not one whole gzip stream: compress it again"
    )
