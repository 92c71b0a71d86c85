"""The file of the counterparties' keys, and how it is replaced.

It holds one key in hexadecimal; or, once that was rotated, a line that begins with `#`, then one
key a line, oldest first. Without such a line the whole file is one key, whatever its lines: so it
was before there were several. A program of that version refuses a file with such a line, where it
would take several keys for one long key.

Invariants: `NAME.next` beside the file is written whole or not at all, and is on the disk before
the database rests on it; it takes the file's place in one step. So at every moment one of the two
has the keys that the database says.
"""

import os
from pathlib import Path
from typing import Final

from services.datashare.records.tokens import TOKEN_BYTES, CounterpartyTokens
from services.kit.config import ConfigError

SETTING: Final = "datashare.counterparty_key"

_COMMENT: Final = "#"
_HEADER: Final = "# Keys of counterparties, oldest first: all of them make a name's token."


class KeyFile:
    """The file.

    Args:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next_path = path.with_name(f"{path.name}.next")

    def read(self) -> CounterpartyTokens:
        """Return what makes tokens by the keys in the file.

        Raises:
            ConfigError: it cannot be used.
        """
        return _read(self.path)

    def read_next(self) -> CounterpartyTokens | None:
        """Return the same of what is to take the file's place; None where there is nothing.

        Raises:
            ConfigError: it cannot be used.
        """
        return _read(self.next_path) if self.next_path.exists() else None

    def write_next(self, tokens: CounterpartyTokens) -> None:
        """Write what is to take the file's place, for those who may read the file.

        Raises:
            OSError: it cannot be written.
        """
        content = "\n".join([_HEADER, *(key.hex() for key in tokens.keys), ""])
        pending = self.path.with_name(f".{self.next_path.name}")
        pending.unlink(missing_ok=True)
        like = self.path.stat()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(pending, flags, 0o600), "w") as file:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
            os.fchmod(file.fileno(), like.st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        pending.replace(self.next_path)
        self._sync()

    def put_in_place(self) -> None:
        """Let what was written take the file's place.

        Raises:
            OSError: it cannot.
        """
        self.next_path.replace(self.path)
        self._sync()

    def _sync(self) -> None:
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> CounterpartyTokens:
    try:
        return CounterpartyTokens(*_keys(path.read_text(encoding="utf-8")))
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror}), check it"
    except ValueError:
        problem = (
            f"{path} must hold {TOKEN_BYTES} or more bytes in hexadecimal; several such keys, no "
            f"two alike, one a line below a first line that begins with {_COMMENT}"
        )
    raise ConfigError([f"{SETTING}: {problem}"])


def _keys(text: str) -> list[bytes]:
    if not text.startswith(_COMMENT):
        return [bytes.fromhex(text)]
    lines = [line.strip() for line in text.splitlines()]
    keys = [bytes.fromhex(line) for line in lines if line and not line.startswith(_COMMENT)]
    return keys or [b""]
