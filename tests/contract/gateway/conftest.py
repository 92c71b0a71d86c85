"""A Redis of this worker's own, where the machine has the server."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.gateway.state.redis import Redis

_SERVER = shutil.which("redis-server")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Redis server; a test that asks for it is skipped where there is none."""
    if _SERVER is None:
        pytest.skip("needs redis-server on PATH: on Debian, 'apt-get install redis-server'")
    # A socket's path may have 107 characters, which pytest's own temporary folders can exceed.
    with tempfile.TemporaryDirectory(prefix="puhui-redis-") as folder:
        socket = Path(folder) / "socket"
        command = [_SERVER, "--port", "0", "--unixsocket", str(socket), "--save", ""]
        server = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 20
            while not socket.exists():
                assert server.poll() is None, "redis-server ended at once"
                assert time.monotonic() < until, "redis-server did not start"
                time.sleep(0.02)
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """An empty Redis."""
    made = Redis(redis_url, "sandbox")
    await made.client.flushall()
    yield made
    await made.close()
