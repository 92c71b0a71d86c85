"""The README's commands as they stand there, in their order, on a platform of their own.

A block after `<!-- run -->` is run in one shell with all the others; `run: refused` says that it
ends with exit code 1, `run: curl` that it needs curl. A block after `<!-- output -->` is what the
block before it prints, but for ids, times and hashes; a line of dots stands for lines left out. Of
`output: example` and of the demo the key lines are compared, whatever their figures: which firms do
best, and why, may change with the model. `<!-- serve -->` is the other terminal.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.sandbox.embedded import ANY_PORT

BLOCK = re.compile(r"^<!-- ([a-z: ]+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = "..."
END = "@@"
VARIES = (
    (re.compile(r"\b(par|sub|con|dec|acc|key|push)([_-])[0-9A-Za-z]{16,}\b"), r"\1\2ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32,}\b"), "HASH"),
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


@dataclass(frozen=True)
class Block:
    """A marked block of the README."""

    mark: str
    content: str


def blocks(readme: str) -> list[Block]:
    return [Block(mark, content) for mark, _, content in BLOCK.findall(readme)]


def settled(text: str) -> list[str]:
    """The lines without what differs from run to run, and without empty ones."""
    for pattern, instead in VARIES:
        text = pattern.sub(instead, text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line]


def key_lines(text: str) -> list[str]:
    """The lines that do not depend on the model, without their figures."""
    found = [line for line in settled(text) if KEY.match(line)]
    return [GRADE.sub("A", NUMBER.sub("0", FIRM.sub("FIRM", line))) for line in found]


def missing(shown: list[str], printed: list[str]) -> str:
    """The first shown line that was not printed where it stands; empty when all were."""
    at, anywhere = 0, False
    for line in shown:
        if line == LEFT_OUT:
            anywhere = True
            continue
        found = next((i for i in range(at, len(printed)) if printed[i] == line), None)
        if found is None or (not anywhere and found != at):
            return line
        at, anywhere = found + 1, False
    return ""


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


def script(found: list[Block]) -> tuple[str, list[Block]]:
    """The shell script of the blocks to run, and those blocks with what they must print."""
    parts, run = ["set -eu"], []
    for block, after in zip(found, [*found[1:], Block("", "")], strict=True):
        if not block.mark.startswith("run"):
            continue
        if block.mark == "run: curl" and shutil.which("curl") is None:
            continue
        if block.mark == "run: refused":
            parts.append(f"code=0\n{{ {block.content}}} || code=$?\n[ $code = 1 ]")
        else:
            parts.append(block.content)
        parts.append(f"echo; echo {END}")
        run.append(after if after.mark.startswith("output") else Block("", LEFT_OUT))
    return "\n".join(parts), run


@pytest.mark.heavy
def test_the_quick_start_runs_and_prints_what_the_readme_shows(
    checkout: Path, checkout_copy: Path
) -> None:
    found = blocks((checkout / "README.md").read_text("utf-8"))
    serve = next(block for block in found if block.mark == "serve").content.splitlines()[-1]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PUHUI_")}
    environ |= ANY_PORT | {"COLUMNS": "100", "TZ": "UTC", "HOME": str(checkout_copy)}
    text, expected = script(found)
    assert len(expected) >= 8
    with served(serve, checkout_copy, environ):
        shell = subprocess.run(
            ["bash", "-c", text],
            cwd=checkout_copy,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=400,
            check=False,
        )
    assert shell.returncode == 0, shell.stdout[-4000:]
    printed = shell.stdout.split(f"{END}\n")
    for block, output in zip(expected, printed, strict=False):
        if "example" in block.mark:
            shown = [part for line in key_lines(block.content) for part in (LEFT_OUT, line)]
            line = missing(shown, key_lines(output))
        else:
            line = missing(settled(block.content), settled(output))
        assert not line, f"{line!r} is not printed in its place; what was:\n{output}"


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
