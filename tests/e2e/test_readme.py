"""The README's commands as they stand there, in their order, on a platform of their own.

Marks are those of `guides`. Of `output: example` and of the demo the key lines are compared,
whatever their figures: which firms do best, and why, may change with the model. `<!-- serve -->` is
the other terminal.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.sandbox.embedded import ANY_PORT
from tests.e2e.guides import (
    LEFT_OUT,
    assert_shown,
    blocks,
    environment,
    missing,
    run,
    script,
    settled,
)

NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?")
GRADE = re.compile(r"\b(A{1,3}|B{1,3}|C{1,3}|D)\b")
FIRM = re.compile(r"模拟\S+号\S*")
KEY = re.compile(
    r"A simulated city|\S+ records|\S+ consents|Model|rows|AUC|in service|Scores? |"
    r"(decision|subject|consent|access|data known by|model) |Reasons|本模型|Trained on|not for|"
    r"\S+ \S+ \S+, model|withdrawn:|Example Bank|score |Accesses|A new call|A replay|"
    r".*(released|refused: )|The platform has ended"
)


def key_lines(text: str) -> list[str]:
    """The lines that do not depend on the model, without their figures."""
    found = [line for line in settled(text) if KEY.match(line)]
    return [GRADE.sub("A", NUMBER.sub("0", FIRM.sub("FIRM", line))) for line in found]


@pytest.fixture
def checkout_copy(checkout: Path, tmp_path: Path) -> Path:
    """A folder that looks like a checkout after `make setup`."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "examples").symlink_to(checkout / "examples")
    return tmp_path


@contextmanager
def served(command: str, folder: Path, environ: dict[str, str]) -> Iterator[None]:
    with (folder / "serve.log").open("w") as log:
        process = subprocess.Popen(command.split(), cwd=folder, env=environ, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not (folder / ".puhui" / "endpoints.json").exists():
                assert process.poll() is None, (folder / "serve.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.heavy
def test_the_quick_start_runs_and_prints_what_the_readme_shows(
    checkout: Path, checkout_copy: Path
) -> None:
    found = blocks((checkout / "README.md").read_text("utf-8"))
    serve = next(block for block in found if block.mark == "serve").content.splitlines()[-1]
    # The page says itself where the commands are.
    path = os.environ["PATH"]
    environ = environment(PATH=path, COLUMNS="100", TZ="UTC", HOME=str(checkout_copy), **ANY_PORT)
    text, expected = script(found)
    assert len(expected) >= 8
    with served(serve, checkout_copy, environ):
        printed = run(text, checkout_copy, environ, timeout=400)
    for block, output in zip(expected, printed, strict=False):
        if "example" in block.mark:
            shown = [part for line in key_lines(block.content) for part in (LEFT_OUT, line)]
            line = missing(shown, key_lines(output))
        else:
            line = missing(settled(block.content), settled(output))
        assert_shown(line, output)


@pytest.mark.heavy
def test_the_demo_prints_what_the_readme_shows(checkout: Path) -> None:
    (block,) = (b for b in blocks((checkout / "README.md").read_text("utf-8")) if b.mark == "demo")
    shown = subprocess.run(
        [sys.executable, "-m", "services.cli", "demo"],
        cwd=checkout,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    wanted = key_lines(block.content)
    assert len(wanted) > 8
    printed = key_lines(shown.stdout)
    assert [line for line in wanted if line not in printed] == []
