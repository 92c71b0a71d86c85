"""The connection to Redis, one for everything that replicas share.

A Redis that does not answer is UNAVAILABLE, within a second; what that means for a call is for its
user to say. Keys begin with the tenant, so that a sandbox and production never meet in one Redis.
"""

import contextlib
from collections.abc import Iterator

import redis.asyncio
from redis.exceptions import RedisError

from services.kit.errors import UnavailableError

_TIMEOUT_S = 1.0


class Redis:
    """A pool of connections.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py takes them.
        tenant: "sandbox" or "production".
    """

    def __init__(self, url: str, tenant: str) -> None:
        self._tenant = tenant
        self.client = redis.asyncio.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )

    def key(self, *parts: str) -> str:
        """Return the name under which something is kept."""
        return ":".join(("puhui", self._tenant, *parts))

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Ask Redis inside.

        Raises:
            UnavailableError: it does not answer.
        """
        try:
            yield
        except (RedisError, OSError):
            raise UnavailableError(
                "UNAVAILABLE", "the gateway's shared state does not answer: try again"
            ) from None

    async def close(self) -> None:
        """Let the connections go."""
        await self.client.aclose()
