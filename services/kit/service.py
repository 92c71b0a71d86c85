"""A service as a process sees it: what it serves, what runs beside, in which order it ends.

It is ready only once everything listens. At the end it first stops being ready, then finishes what
runs, then ends its background work, and closes what that used last.
"""

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from services.kit.health import HealthServer
from services.kit.server import Server, until_signal

_log = structlog.get_logger()

_PAUSE = 1.0
"""Seconds until background work that failed is begun again."""


class Runnable(Protocol):
    """Anything that starts and stops."""

    async def start(self) -> None:
        """Start; returns once it serves."""
        ...

    async def stop(self) -> None:
        """Stop; returns once what ran has finished."""
        ...


class Service:
    """One service.

    Args:
        server: its gRPC side.
        health: its probes and metrics.
        prepare: what is done before it listens, in this order.
        background: what runs for ever beside, begun at the start.
        close: what is closed at the end, in this order.
    """

    def __init__(
        self,
        server: Server,
        health: HealthServer,
        *,
        prepare: Sequence[Callable[[], Awaitable[None]]] = (),
        background: Sequence[Callable[[], Awaitable[None]]] = (),
        close: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._server = server
        self._health = health
        self._prepare = prepare
        self._background = background
        self._close = close
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """Where it serves gRPC; known once it started."""
        return self._server.port

    @property
    def health_port(self) -> int:
        """Where it serves probes and metrics; known once it started."""
        return self._health.port

    async def start(self) -> None:
        """Prepare, listen, begin the background work, be ready.

        Raises:
            ConfigError: preparing found that something is not configured right.
            RuntimeError: the gRPC address is taken.
            OSError: the health address is taken.
        """
        try:
            for prepare in self._prepare:
                await prepare()
        except BaseException:
            for close in self._close:
                await close()
            raise
        await self._health.start()
        await self._server.start()
        self._tasks = [asyncio.create_task(for_ever(work)) for work in self._background]
        self._health.ready = True

    async def stop(self) -> None:
        """Stop being ready, finish what runs, end."""
        self._health.ready = False
        await self._server.stop()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for close in self._close:
            await close()
        await self._health.stop()


def again_and_again(
    work: Callable[[], Awaitable[object]], pause: timedelta
) -> Callable[[], Awaitable[None]]:
    """Return background work that does something again and again.

    Args:
        work: what is done each time.
        pause: between one time and the next.
    """

    async def run() -> None:
        while True:
            await work()
            await asyncio.sleep(pause.total_seconds())

    return run


async def for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Run background work until cancelled; one that fails is logged and begun again."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - it must go on, whatever it was
            _log.exception("background work failed, begun again")
        await asyncio.sleep(_PAUSE)


async def run_until_signal(parts: Sequence[Runnable], started: Callable[[], None]) -> None:
    """Start the parts in order, wait for SIGTERM or SIGINT, stop them in reverse.

    Args:
        parts: what runs.
        started: called once all of them serve.
    """
    running: list[Runnable] = []
    try:
        for part in parts:
            await part.start()
            running.append(part)
        _collect_less()
        started()
        await until_signal()
    finally:
        for part in reversed(running):
            await part.stop()


def _collect_less() -> None:
    """Keep the garbage collector from what stays, and from looking at every 700 new objects.

    Reference counts free nearly everything; the collector alone took 10 to 15 % of the time of a
    call and of a row that comes in.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
