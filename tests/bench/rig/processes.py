"""Child processes of a benchmark: started, told what to do, watched, ended.

A program that measures says on stdout when its window begins and when it ends, one JSON object a
line, and its result in the last line. What the window cost each process is read from outside.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STOP_SECONDS = 40.0
_PROC = Path("/proc")


def say(text: str) -> None:
    """Tells who watches."""
    print(text, file=sys.stderr, flush=True)


def announce(event: str, **more: int) -> None:
    """Says in a measuring program that its window begins or ends, or how far it is."""
    print(json.dumps({"event": event, **more}), flush=True)


@contextmanager
def running(
    arguments: list[str], *, environ: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Runs a Python module beside this process; ends it by SIGTERM afterwards.

    Args:
        arguments: of the interpreter, such as ["-m", "services", "gateway"].
        environ: its environment; None is this process's.
        log: takes what it writes; None leaves stdin and stdout to the caller.
    """
    with (log or Path(os.devnull)).open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=None if environ is None else dict(environ),
            stdin=subprocess.DEVNULL if log else subprocess.PIPE,
            stdout=out if log else subprocess.PIPE,
            stderr=out if log else None,
            text=True,
            # An interrupt from the keyboard is the parent's to handle, which then ends the child.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()


@dataclass(frozen=True)
class Measured:
    """What a measuring program found.

    Args:
        result: its own result.
        cpu: CPU seconds that each watched process used in the window, and "client", itself.
        memory: at each step, how far the program said it was, and the memory of each process, MB.
        peak: the most memory that each process ever had, MB.
    """

    result: dict[str, Any]
    cpu: dict[str, float]
    memory: list[tuple[int, dict[str, float]]]
    peak: dict[str, float]


def measure(module: str, job: Mapping[str, Any], watched: Mapping[str, int]) -> Measured:
    """Runs a measuring program.

    Args:
        module: the program; it gets the job as JSON on stdin.
        job: what to measure.
        watched: process ids by name.

    Raises:
        RuntimeError: it failed.
    """
    with running(["-m", module]) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the program has no pipes")
        process.stdin.write(json.dumps(job))
        process.stdin.close()
        everybody = {**watched, "client": process.pid}
        before: dict[str, float] = {}
        after: dict[str, float] = {}
        last: dict[str, Any] = {}
        memory: list[tuple[int, dict[str, float]]] = []
        peak: dict[str, float] = {}
        for line in process.stdout:
            last = json.loads(line)
            if last.get("event") == "progress":
                now = {name: megabytes(pid, "VmRSS") for name, pid in everybody.items()}
                memory.append((last["rows"], now))
            if last.get("event") == "begin":
                before = {name: cpu_seconds(pid) for name, pid in everybody.items()}
            elif last.get("event") == "end":
                after = {name: cpu_seconds(pid) for name, pid in everybody.items()}
                peak = {name: megabytes(pid, "VmHWM") for name, pid in everybody.items()}
        if process.wait(STOP_SECONDS) != 0 or "event" in last:
            raise RuntimeError(f"{module} failed: its last words are above")
    used = {name: after[name] - before[name] for name in before}
    return Measured(last, used, memory, peak)


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process and its children; 0 where the system has no /proc."""
    return sum(_own_cpu_seconds(each) for each in (pid, *_children(pid)))


def megabytes(pid: int, what: str) -> float:
    """A process's memory; 0 where the system has no /proc.

    Args:
        pid: the process.
        what: "VmRSS", what it has now, or "VmHWM", the most that it ever had.
    """
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0.0
    found = (line.split() for line in lines if line.startswith(what))
    return next((int(fields[1]) / 1024 for fields in found), 0.0)


def _own_cpu_seconds(pid: int) -> float:
    # utime, stime, and those of children that ended: fields 14 to 17 of proc(5).
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _children(pid: int) -> list[int]:
    if not _PROC.is_dir():
        return []
    pids = (int(path.name) for path in _PROC.iterdir() if path.name.isdigit())
    return [each for each in pids if (fields := _stat(each)) and int(fields[1]) == pid]


def _stat(pid: int) -> list[str]:
    """What follows the command in /proc/PID/stat; nothing when the process is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()
