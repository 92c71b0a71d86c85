"""Keys in files.

A key ring is a TOML file that names several key-encryption keys, one of which wraps:

    current = "2026-11"

    [keys]
    2025-11 = "32 bytes, in hexadecimal or base64url"
    2026-11 = "..."

A changed file is read again when a key is wrapped or unwrapped; one that is broken is not taken.
"""

import base64
import binascii
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from services.datashare.sealing.domain import (
    KEY_BYTES,
    Box,
    MissingKekError,
    Place,
    RandomBytes,
    Wrapped,
)
from services.kit.config import ConfigError

_log = structlog.get_logger()

_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HEX: Final = re.compile(rf"[0-9A-Fa-f]{{{2 * KEY_BYTES}}}")


class FileKeyRing:
    """Key-encryption keys in a file.

    Args:
        setting: of the configuration, such as "datashare.kek_file".
        path: the file.
        random_bytes: nonces.

    Raises:
        ConfigError: the file cannot be used.
    """

    def __init__(self, setting: str, path: Path, random_bytes: RandomBytes) -> None:
        self._setting = setting
        self._path = path
        self._random_bytes = random_bytes
        self._read_at = self._changed_at()
        self._current, self._boxes = self._read()

    @property
    def current(self) -> str:
        """Id of the key that wraps now."""
        self._refresh()
        return self._current

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the keys that are there."""
        self._refresh()
        return frozenset(self._boxes)

    async def wrap(self, key: bytes, owner: str) -> Wrapped:
        """Return a data key wrapped for its owner by the current key."""
        self._refresh()
        kek_id = self._current
        return Wrapped(kek_id, self._boxes[kek_id].seal(_place(kek_id, owner), key))

    async def unwrap(self, wrapped: Wrapped, owner: str) -> bytes:
        """Return a data key; see `KeyEncryption`."""
        self._refresh()
        box = self._boxes.get(wrapped.kek_id)
        if box is None:
            raise MissingKekError(wrapped.kek_id)
        return box.open(_place(wrapped.kek_id, owner), wrapped.content)

    def _refresh(self) -> None:
        """Read the file again when it changed; go on with what was read when it cannot be used."""
        changed_at = self._changed_at()
        if changed_at == self._read_at:
            return
        self._read_at = changed_at
        try:
            self._current, self._boxes = self._read()
        except ConfigError as error:
            _log.error("key ring not taken, the earlier one is used", problem=str(error))

    def _changed_at(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _read(self) -> tuple[str, dict[str, Box]]:
        try:
            content = tomllib.loads(read_secret(self._setting, self._path))
        except tomllib.TOMLDecodeError:
            # Its message quotes what it stumbles over, which may be a key.
            raise self._wrong('is not TOML: it should hold current = "ID" and [keys]') from None
        return self._ring(content)

    def _ring(self, content: Mapping[str, Any]) -> tuple[str, dict[str, Box]]:
        if unknown := content.keys() - {"current", "keys"}:
            raise self._wrong(f"has {min(unknown)}, which is unknown: current and [keys] are")
        keys, current = content.get("keys"), content.get("current")
        if not isinstance(keys, dict) or not keys:
            raise self._wrong('has no [keys]: give ID = "KEY" for each key')
        if not isinstance(current, str) or current not in keys:
            raise self._wrong("should name as current one of its [keys]")
        boxes = {}
        for kek_id, text in keys.items():
            if not _ID.fullmatch(kek_id):
                raise self._wrong("names a key otherwise than by 1 to 64 of A-Z a-z 0-9 _ . -")
            key = key_of(text)
            if key is None:
                raise self._wrong(
                    f'holds "{kek_id}", which is not {KEY_BYTES} bytes in hexadecimal or base64url'
                )
            boxes[kek_id] = Box(key, self._random_bytes)
        return current, boxes

    def _wrong(self, problem: str) -> ConfigError:
        return ConfigError([f"{self._setting}: {self._path} {problem}"])


def read_key(setting: str, path: Path) -> bytes:
    """Return the 32 bytes in a file, which holds them in hexadecimal or base64url.

    Raises:
        ConfigError: there is no such key, or others can read it.
    """
    key = key_of(read_secret(setting, path).strip())
    if key is None:
        problem = f"must hold {KEY_BYTES} bytes in hexadecimal or base64url"
        raise ConfigError([f"{setting}: {path} {problem}"])
    return key


def read_secret(setting: str, path: Path) -> str:
    """Return the text of a file that others can neither read nor change.

    Raises:
        ConfigError: it cannot be read, or others can.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror}), check it"
        raise ConfigError([f"{setting}: {problem}"]) from None
    except ValueError:
        raise ConfigError([f"{setting}: {path} is not text in UTF-8"]) from None
    # The group may read: a Secret is mounted in Kubernetes as root's, with the pod's group.
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        problem = "can be read or changed by others: chmod 600, or 440 with a group of its own"
        raise ConfigError([f"{setting}: {path} {problem}"])
    return text


def key_of(text: object) -> bytes | None:
    """Return the 32 bytes that a text says in hexadecimal or base64url; None when it does not."""
    if not isinstance(text, str):
        return None
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    try:
        key = base64.b64decode(text.rstrip("=") + "=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def _place(kek_id: str, owner: str) -> Place:
    return ("data key", owner, kek_id)
