"""A whole platform as a process that can be killed and started again in the same place."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from json import loads
from pathlib import Path
from typing import Any

from puhui_client import Client
from services.kit.ports import free_port
from services.sandbox.embedded import ANY_PORT


@dataclass
class Process:
    """The platform as a process, on ports that stay the same over a restart.

    Args:
        folder: takes keys, logs and databases.
        environ: variables besides those of this process.
        module: what is run.
    """

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)
    module: str = "services"
    gateway: str = field(default_factory=lambda: f"127.0.0.1:{free_port('127.0.0.1')}")
    child: subprocess.Popen[bytes] | None = None

    def start(self, **environ: str) -> None:
        """Start it, with more variables, and wait until it serves."""
        endpoints = self.folder / "endpoints.json"
        endpoints.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", self.module, "all", "--data-dir", str(self.folder)],
                env=os.environ
                | ANY_PORT
                | {"PUHUI_GATEWAY_PLAIN_LISTEN": self.gateway}
                | dict(self.environ)
                | environ,
                stderr=log,
            )
        until = time.monotonic() + 60
        while not endpoints.exists():
            assert self.child.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < until, "the platform did not start"
            time.sleep(0.05)
        self.gateway = loads(endpoints.read_text())["gateway"]

    def end(self, number: signal.Signals) -> int:
        """Send it a signal and return how it ended."""
        assert self.child is not None
        self.child.send_signal(number)
        return self.child.wait(60)

    def ended_before(self, task: asyncio.Task[Any]) -> bool:
        """Wait for the process or for a task, and tell whether the process ended first."""
        assert self.child is not None
        while not task.done():
            if self.child.poll() is not None:
                return True
            time.sleep(0.01)
        return self.child.poll() is not None

    @asynccontextmanager
    async def provider(self) -> AsyncIterator[Client]:
        """Give the client of a new tax provider that is a historical source."""
        key = (self.folder / "operator.key").read_text().strip()
        async with Client(self.gateway, key) as operator:
            member = await operator.register_participant(
                "PROVIDER", "tax", provider_kind="tax", historical_source=True
            )
            issued = await operator.issue_key(member.participant_id)
        async with Client(self.gateway, issued.api_key) as client:
            yield client


@contextmanager
def started(process: Process, **environ: str) -> Iterator[Process]:
    """Start a platform, with more variables, and kill it in the end."""
    process.start(**environ)
    try:
        yield process
    finally:
        if process.child is not None and process.child.poll() is None:
            process.end(signal.SIGKILL)
