"""Files that hold secrets."""

import os
from pathlib import Path


def write_secret(path: Path, content: str) -> None:
    """Write a file that only its owner can read, whole or not at all, also after a power cut."""
    pending = path.with_name(f".{path.name}")
    pending.unlink(missing_ok=True)
    descriptor = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    pending.replace(path)
