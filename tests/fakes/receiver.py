"""A receiver of webhooks on loopback: a real HTTP server that answers as it is told."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Receiver:
    """What came, and how the next requests are answered."""

    port: int = 0
    scheme: str = "http"
    status: int = 204
    headers: str = ""
    # Answers nothing to these many requests, but takes them.
    silent: int = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook?token=hidden"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first = (await reader.readline()).decode().split()
                if not first:
                    return
                headers: dict[str, str] = {}
                while line := (await reader.readline()).decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((headers, body))
                self.paths.append(first[1])
                self.came.set()
                if self.silent:
                    self.silent -= 1
                    await asyncio.sleep(60)
                answer = f"HTTP/1.1 {self.status} X\r\n{self.headers}content-length: 0\r\n\r\n"
                writer.write(answer.encode())
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiving(
    receiver: Receiver | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Give a receiver that listens; on the port that it had before, if it had one."""
    receiver = receiver or Receiver()
    if tls:
        receiver.scheme = "https"
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", receiver.port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
