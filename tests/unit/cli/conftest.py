"""The platform's side, and the command line in the same process.

The platform runs on a loop in a thread of its own, because a command runs a loop itself.
"""

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from services.cli.main import app
from tests.fakes.platform import FakePlatform, serving

# The runner makes all commands anew at each run: that takes longer than what most of them do.
built = functools.cache(get_command)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def platform() -> Iterator[FakePlatform]:
    started, finish = threading.Event(), threading.Event()
    found: list[FakePlatform] = []

    async def serve() -> None:
        async with serving() as platform:
            found.append(platform)
            started.set()
            await asyncio.to_thread(finish.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    yield found[0]
    finish.set()
    thread.join(10)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder, without settings of the machine's."""
    monkeypatch.chdir(tmp_path)
    for name in ("PUHUI_GATEWAY", "PUHUI_API_KEY", "PUHUI_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("typer.testing._get_command", built)

    def invoke(*arguments: str, input: str | None = None) -> Outcome:
        result = CliRunner().invoke(app, list(arguments), input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def call(run: Run, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command that knows the platform and has a key."""
    monkeypatch.setenv("PUHUI_GATEWAY", platform.address)
    monkeypatch.setenv("PUHUI_API_KEY", "key_1.secret")
    monkeypatch.setenv("PUHUI_OFFICER", "Wang 王")
    return run
