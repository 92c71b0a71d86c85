"""Who may sign in at the sandbox: names with passwords, of which only scrypt hashes are kept."""

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from services.kit.config import ConfigError

NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,31}")
# OWASP Password Storage Cheat Sheet: N 2^17, r 8, p 1; 128 MiB and a quarter of a second.
_SCRYPT: Final = {"n": 2**17, "r": 8, "p": 1, "maxmem": 2**28, "dklen": 32}
_SALT_BYTES: Final = 16


def hashed(password: str, salt: bytes) -> bytes:
    """Return what is kept of a password, 32 bytes."""
    return hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT)


def entry(password: str, random_bytes: Callable[[int], bytes]) -> dict[str, str]:
    """Return what the file has for an account."""
    salt = random_bytes(_SALT_BYTES)
    return {"salt": salt.hex(), "scrypt": hashed(password, salt).hex()}


def read(file: Path) -> dict[str, dict[str, str]]:
    """Return the accounts by name; none where there is no file yet.

    Raises:
        ConfigError: the file holds something else.
    """
    try:
        found = json.loads(file.read_text("utf-8"))
        for kept in found.values():
            bytes.fromhex(kept["salt"] + kept["scrypt"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError([f"{file} holds no accounts of the sandbox: remove it"]) from None
    return dict(found)


def right(accounts: dict[str, dict[str, str]], name: str, password: str) -> bool:
    """Tell whether it is the password of an account; takes as long where there is none."""
    kept = accounts.get(name, {"salt": "00" * _SALT_BYTES, "scrypt": ""})
    given = hashed(password, bytes.fromhex(kept["salt"]))
    return hmac.compare_digest(given, bytes.fromhex(kept["scrypt"]))
