"""Runs what a page says: its shell blocks in their order, and looks for what it shows of them.

A block after `<!-- run -->` is run in one shell with all the others; `run: refused` says that it
ends with exit code 1, `run: curl` that it needs curl. A block after `<!-- output -->` is what the
block before it prints, but for ids, times and hashes; a line of dots stands for lines left out.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^<!-- ([a-z: ]+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_OUT = "..."
END = "@@"
VARIES = (
    (re.compile(r"\b(par|sub|con|dec|acc|key|push)([_-])[0-9A-Za-z]{16,}\b"), r"\1\2ID"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32,}\b"), "HASH"),
)


@dataclass(frozen=True)
class Block:
    """A marked block of a page."""

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


def script(found: list[Block]) -> tuple[str, list[Block]]:
    """The shell script of the blocks to run, and those blocks with what they must print."""
    parts, expected = ["set -eu"], []
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
        expected.append(after if after.mark.startswith("output") else Block("", LEFT_OUT))
    return "\n".join(parts), expected


def environment(**more: str) -> dict[str, str]:
    """The environment of a reader who has installed the platform and set nothing of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PUHUI_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"} | more


def run(text: str, folder: Path, environ: Mapping[str, str], *, timeout: float = 120) -> list[str]:
    """What each block of a script printed.

    Args:
        text: made by `script`.
        folder: where it runs.
        environ: of the shell.
        timeout: seconds, for all.
    """
    shell = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )
    assert shell.returncode == 0, shell.stdout[-4000:]
    return shell.stdout.split(f"{END}\n")


def assert_shown(line: str, output: str) -> None:
    """Fail when a shown line is missing; "" is none."""
    assert not line, f"{line!r} is not printed in its place; what was:\n{output}"
