"""Posting over HTTP, with the address looked at first.

A host's name is resolved here, each of its addresses is checked, and the connection goes to one
of them: a name that leads elsewhere the next moment leads nowhere else. Redirects are not followed,
proxies of the environment are not asked, and nothing of the answer is read but its status. Names
are resolved in threads of their own: a name server that does not answer, which a receiver chooses,
holds up nothing else.
"""

import asyncio
import functools
import ipaddress
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import httpx2

from services.datashare.notices.webhooks import PostError, may_reach

TIMEOUT_S: Final = 10.0
_AGENT: Final = "puhui"
_RESOLVERS: Final = 32


class HttpPost:
    """Posts to addresses that participants chose.

    Args:
        private: whether private addresses are allowed, and loopback by http.
        tls: what certificates are checked by; None is by the authorities that httpx2 brings.
        timeout_s: for everything together.
    """

    def __init__(
        self, *, private: bool, tls: ssl.SSLContext | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._private = private
        self._timeout_s = timeout_s
        self._client = httpx2.AsyncClient(
            verify=tls or True, trust_env=False, follow_redirects=False, timeout=timeout_s
        )
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="webhook-names")

    async def __call__(self, url: str, headers: dict[str, str], body: bytes) -> None:
        """Post; returns when the receiver answered that it has taken it (2xx).

        Raises:
            PostError: it has not.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._status(url, headers, body)
        except TimeoutError:
            raise PostError(f"no answer within {self._timeout_s:g} s") from None
        except (httpx2.HTTPError, OSError) as error:
            # Its own words may hold the address.
            raise PostError(_WHY.get(type(error), "the connection failed")) from None
        if not httpx2.codes.is_success(status):
            raise PostError(f"answered with status {status}")

    async def close(self) -> None:
        """Close its connections."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        await self._client.aclose()

    async def _status(self, url: str, headers: dict[str, str], body: bytes) -> int:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = await self._resolve(host, port)
        if parts.scheme != "https" and not (self._private and address.is_loopback):
            raise PostError("http is only for receivers on a loopback address")
        at = f"[{address}]" if address.version == 6 else str(address)
        direct = urlunsplit((parts.scheme, f"{at}:{port}", parts.path or "/", parts.query, ""))
        request = self._client.build_request(
            "POST",
            direct,
            headers={**headers, "host": parts.netloc, "user-agent": _AGENT},
            content=body,
            extensions={"sni_hostname": host},
        )
        response = await self._client.send(request, stream=True)
        await response.aclose()
        return response.status_code

    async def _resolve(self, host: str, port: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        resolve = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._resolvers, resolve)
        except (OSError, UnicodeError):  # UnicodeError: it cannot be a name
            raise PostError("its host's name is not known") from None
        addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
        # All of them: a name with one that is private is not a public receiver's.
        if not all(may_reach(address, private=self._private) for address in addresses):
            raise PostError("its host is on a private address")
        return addresses[0]


_WHY: Final[dict[type[Exception], str]] = {
    httpx2.ConnectError: "it could not be connected to, or showed no valid certificate",
    httpx2.ConnectTimeout: "it could not be connected to in time",
    httpx2.ReadTimeout: "it did not answer in time",
    httpx2.RemoteProtocolError: "it answered something that is not HTTP",
}
