"""One process at a time: pushing a file, or what is new in a database."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class BusyError(Exception):
    """Another process does the same; the message says what to do."""


@contextmanager
def locked(beside: Path) -> Iterator[None]:
    """Keep other processes from doing the same until the end.

    The lock is the kernel's, so that none is left by a process that died.

    Args:
        beside: the file that is worked on; the lock stands beside it.

    Raises:
        BusyError: another process has the lock.
    """
    path = beside.with_name(f"{beside.name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(beside) from None
        # Who had the lock may have deleted the file while this process waited for it.
        if not path.exists() or path.stat().st_ino != os.fstat(handle).st_ino:
            raise _busy(beside)
        try:
            yield
        finally:
            path.unlink()
    finally:
        os.close(handle)


def _busy(beside: Path) -> BusyError:
    return BusyError(f"another process is at work on {beside}: wait until it has ended")
