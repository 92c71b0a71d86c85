"""The event loop's own threads, all of which are busy."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager


@asynccontextmanager
async def busy_threads() -> AsyncIterator[None]:
    """Leave the running loop no thread: who needs one of its own waits until the end."""
    over = threading.Event()
    threads = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(threads)
    busy = loop.run_in_executor(None, over.wait)
    try:
        yield
    finally:
        over.set()
        await busy
