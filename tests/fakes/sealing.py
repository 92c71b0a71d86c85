"""Keys for tests: known ones, and a key management service that is far away and may fail."""

import asyncio
import hashlib
import secrets
from pathlib import Path
from typing import Any

from services.datashare.catalogue.domain import Catalogue
from services.datashare.receipts.domain import Suite
from services.datashare.receipts.keyfile import new_key
from services.datashare.sealing.app import Vault
from services.datashare.sealing.domain import (
    SEALED_FROM,
    Box,
    MissingKekError,
    SubjectTokens,
    Wrapped,
)
from services.kit.clock import Clock
from services.kit.errors import UnavailableError

TOKEN_KEY = b"subject token key of the tests.."


class FakeKms:
    """A key management service: answers later, or not at all.

    Args:
        current: id of the key that wraps.

    Attributes:
        down: it does not answer.
        fail_after: it answers so many calls and no more.
    """

    def __init__(self, current: str = "kms-1") -> None:
        self.current = current
        self.down = False
        self.fail_after: int | None = None
        self.calls = 0
        self._boxes: dict[str, Box] = {}
        self.add(current)

    def add(self, kek_id: str) -> None:
        """Make a key that can wrap; of the same name it is the same in every service."""
        key = hashlib.sha256(kek_id.encode()).digest()
        self._boxes[kek_id] = Box(key, secrets.token_bytes)

    def remove(self, kek_id: str) -> None:
        """Lose a key."""
        del self._boxes[kek_id]

    def rename(self, kek_id: str, other: str) -> None:
        """Give a key another name, and let it wrap."""
        self._boxes[other] = self._boxes.pop(kek_id)
        self.current = other

    async def wrap(self, key: bytes, owner: str) -> Wrapped:
        await self._answer()
        return Wrapped(self.current, self._boxes[self.current].seal(("k", owner), key))

    async def unwrap(self, wrapped: Wrapped, owner: str) -> bytes:
        await self._answer()
        box = self._boxes.get(wrapped.kek_id)
        if box is None:
            raise MissingKekError(wrapped.kek_id)
        return box.open(("k", owner), wrapped.content)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        self.calls += 1
        spent = self.fail_after is not None and self.calls > self.fail_after
        if self.down or spent:
            raise UnavailableError("UNAVAILABLE", "the key management service does not answer")


def vault(
    catalogue: Catalogue,
    clock: Clock,
    encryption: FakeKms | None = None,
    sealed_types: frozenset[str] | None = None,
) -> Vault:
    """Return a vault; by default with a KMS of its own, and the catalogue's sealed types."""
    if sealed_types is None:
        sealed_types = frozenset(
            name for name, type_ in catalogue.types.items() if type_.sensitivity >= SEALED_FROM
        )
    return Vault(
        encryption or FakeKms(),
        SubjectTokens(TOKEN_KEY),
        sealed_types,
        clock,
        secrets.token_bytes,
    )


def key_files(folder: Path) -> dict[str, Any]:
    """Write the key files that datashare's configuration names; returns them by setting."""
    files = {
        "kek_file": folder / "keks.toml",
        "subject_token_key": folder / "subject-token.key",
        "signing_key": folder / "signing.pem",
    }
    files["kek_file"].write_text(f'current = "1"\n[keys]\n1 = "{secrets.token_hex(32)}"\n')
    files["subject_token_key"].write_text(secrets.token_hex(32))
    files["signing_key"].write_text(new_key(Suite.EDDSA))
    for path in files.values():
        path.chmod(0o600)
    return files
