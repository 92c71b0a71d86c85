"""The platform as one child process, for the demo and for runs on public data.

What passes between the two is in the data folder: the child writes `operator.key`, the operator's
API key, and as soon as it serves `endpoints.json`, {"gateway": "host:port", "http": "host:port"}.
Its log is `platform.log`, its models are in `models/`. Leaving the context ends the child with
SIGTERM and waits until it has finished what runs.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ANY_PORT = {
    f"PUHUI_GATEWAY_{listener}": "127.0.0.1:0"
    for listener in (
        *("PLAIN_LISTEN", "PLAIN_HTTP_LISTEN"),
        *("SERVER_LISTEN", "PEOPLE_LISTEN", "HTTP_LISTEN"),
    )
}
"""Environment of a platform that takes any free ports, to run beside others."""
START_SECONDS = 60.0
STOP_SECONDS = 40.0
_POLL_SECONDS = 0.05
_LOG_LINES = 60


class EmbeddedError(Exception):
    """The platform did not start, or did not end as it should. The message holds its last words."""


@dataclass(frozen=True)
class Embedded:
    """A platform that runs.

    Args:
        data_dir: holds everything that it writes.
        gateway: address of the gRPC entrance, "host:port".
        http: address of the HTTP entrance, "host:port".
        operator_key: API key of the operator.
        pid: of the process.
    """

    data_dir: Path
    gateway: str
    http: str
    operator_key: str
    pid: int

    @property
    def models_dir(self) -> Path:
        """Where scoring looks for models."""
        return self.data_dir / "models"


@contextmanager
def embedded(data_dir: Path) -> Iterator[Embedded]:
    """Starts the three services in one process and ends them afterwards.

    Args:
        data_dir: an existing folder of their own.

    Raises:
        EmbeddedError: they did not start, or did not end cleanly.
    """
    endpoints = data_dir / "endpoints.json"
    endpoints.unlink(missing_ok=True)
    log = data_dir / "platform.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "services", "all", "--data-dir", str(data_dir)],
            env=ANY_PORT | os.environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            # An interrupt from the keyboard is the parent's to handle, which then ends the child.
            start_new_session=True,
        )
    try:
        _wait(process, endpoints, log)
        addresses = json.loads(endpoints.read_text("utf-8"))
        yield Embedded(
            data_dir=data_dir,
            gateway=addresses["gateway"],
            http=addresses["http"],
            operator_key=(data_dir / "operator.key").read_text("utf-8").strip(),
            pid=process.pid,
        )
    except BaseException:
        _stop(process)
        raise
    code = _stop(process)
    if code != 0:
        raise EmbeddedError(f"the platform ended with {code}; its last words:\n{_tail(log)}")


def end_on_sigterm() -> None:
    """Makes SIGTERM leave contexts like any other end, so that it ends the child, too."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)


def peak_memory_mb() -> float:
    """The largest resident set of this process plus that of its largest ended child, in MiB.

    Linux and macOS keep both; ask after the child has ended.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(who).ru_maxrss for who in both) * unit / 2**20


def _wait(process: subprocess.Popen[bytes], endpoints: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not endpoints.exists():
        if process.poll() is not None:
            raise EmbeddedError(f"the platform did not start; its last words:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise EmbeddedError(
                f"the platform did not serve within {START_SECONDS:.0f} s; its last words:\n"
                f"{_tail(log)}"
            )
        time.sleep(_POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:])
