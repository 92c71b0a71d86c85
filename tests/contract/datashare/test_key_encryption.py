"""What every `KeyEncryption` does: the key ring in a file, and a key management service."""

import asyncio
import secrets
from pathlib import Path
from typing import Protocol

import pytest

from services.datashare.sealing import app
from services.datashare.sealing.app import KEPT_FOR, KeyEncryption, Vault
from services.datashare.sealing.domain import (
    MissingKekError,
    SealBrokenError,
    SubjectTokens,
    Wrapped,
)
from services.datashare.sealing.keyring import FileKeyRing
from services.kit.clock import FixedClock
from services.kit.errors import UnavailableError
from tests.fakes.datashare_records import NOW
from tests.fakes.sealing import FakeKms

KEY = bytes(range(32))


class Keys(Protocol):
    """An implementation, and what its owner does to it."""

    @property
    def encryption(self) -> KeyEncryption:
        """The implementation."""

    def rotate(self) -> None:
        """Let another key wrap from now on."""

    def drop_old(self) -> None:
        """Keep the current key alone."""


class FileKeys:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "keks.toml"
        self._keys = {"k1": secrets.token_hex(32)}
        self._write()
        self.encryption = FileKeyRing("kek_file", self._path, secrets.token_bytes)

    def rotate(self) -> None:
        self._keys["k2"] = secrets.token_hex(32)
        self._write()

    def drop_old(self) -> None:
        del self._keys["k1"]
        self._write()

    def _write(self) -> None:
        lines = [f'current = "{max(self._keys)}"', "[keys]"]
        lines += [f'{kek_id} = "{key}"' for kek_id, key in self._keys.items()]
        pending = self._path.with_name("pending")
        pending.write_text("\n".join(lines))
        pending.chmod(0o600)
        pending.replace(self._path)


class KmsKeys:
    def __init__(self) -> None:
        self.encryption = FakeKms("k1")

    def rotate(self) -> None:
        self.encryption.add("k2")
        self.encryption.current = "k2"

    def drop_old(self) -> None:
        self.encryption.remove("k1")


@pytest.fixture(params=["file", "kms"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    return FileKeys(tmp_path) if request.param == "file" else KmsKeys()


def vault(encryption: KeyEncryption, clock: FixedClock) -> Vault:
    tokens = SubjectTokens(KEY)
    return Vault(encryption, tokens, frozenset(), clock, secrets.token_bytes)


async def test_what_is_wrapped_is_unwrapped(keys: Keys) -> None:
    wrapped = await keys.encryption.wrap(KEY, "sub_1")
    assert wrapped.kek_id == keys.encryption.current
    assert KEY not in wrapped.content
    assert await keys.encryption.unwrap(wrapped, "sub_1") == KEY


async def test_the_same_key_is_wrapped_differently_each_time(keys: Keys) -> None:
    assert len({await keys.encryption.wrap(KEY, "sub_1") for _ in range(5)}) == 5


async def test_it_is_wrapped_for_its_owner(keys: Keys) -> None:
    wrapped = await keys.encryption.wrap(KEY, "sub_1")
    with pytest.raises(SealBrokenError):
        await keys.encryption.unwrap(wrapped, "sub_2")


async def test_an_altered_one_is_refused(keys: Keys) -> None:
    wrapped = await keys.encryption.wrap(KEY, "sub_1")
    altered = wrapped.content[:-1] + bytes((wrapped.content[-1] ^ 1,))
    with pytest.raises(SealBrokenError):
        await keys.encryption.unwrap(Wrapped(wrapped.kek_id, altered), "sub_1")


async def test_another_key_wraps_and_the_old_one_still_unwraps(keys: Keys) -> None:
    old = await keys.encryption.wrap(KEY, "sub_1")
    keys.rotate()
    new = await keys.encryption.wrap(KEY, "sub_1")
    assert old.kek_id != new.kek_id == keys.encryption.current
    assert await keys.encryption.unwrap(old, "sub_1") == KEY
    keys.drop_old()
    assert await keys.encryption.unwrap(new, "sub_1") == KEY
    with pytest.raises(MissingKekError, match=f'"{old.kek_id}"') as missing:
        await keys.encryption.unwrap(old, "sub_1")
    assert missing.value.kek_id == old.kek_id
    with pytest.raises(MissingKekError):
        await keys.encryption.unwrap(Wrapped(new.kek_id + "x", new.content), "sub_1")


async def test_a_vault_opens_what_it_made(keys: Keys) -> None:
    made = vault(keys.encryption, FixedClock(NOW))
    wrapped = await made.make(f"sub_{number}" for number in range(100))
    sealed = (await made.open(wrapped))["sub_7"].seal(("x",), b"content")
    again = vault(keys.encryption, FixedClock(NOW))
    opened = await again.open(wrapped)
    assert opened["sub_7"].open(("x",), sealed) == b"content"
    with pytest.raises(SealBrokenError):
        opened["sub_8"].open(("x",), sealed)


async def test_keys_are_forgotten_in_time() -> None:
    kms, clock = FakeKms(), FixedClock(NOW)
    made = vault(kms, clock)
    wrapped = await made.make(["sub_1"])
    assert kms.calls == 1
    await made.open(wrapped)
    assert kms.calls == 1
    clock.advance(KEPT_FOR)
    await made.open(wrapped)
    assert kms.calls == 2


async def test_only_so_many_keys_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_MOST_KEPT", 3)
    kms = FakeKms()
    made = vault(kms, FixedClock(NOW))
    wrapped = await made.make(f"sub_{number}" for number in range(5))
    await made.open({owner: wrapped[owner] for owner in ("sub_2", "sub_3", "sub_4")})
    assert kms.calls == 5
    await made.open(wrapped)
    assert kms.calls == 7


async def test_a_remembered_key_serves_the_bytes_that_it_was_read_from() -> None:
    kms, clock = FakeKms(), FixedClock(NOW)
    made = vault(kms, clock)
    wrapped = (await made.make(["sub_1"]))["sub_1"]
    altered = wrapped.content[:-1] + bytes((wrapped.content[-1] ^ 1,))
    forged = Wrapped(wrapped.kek_id, altered)
    with pytest.raises(SealBrokenError):
        await made.open({"sub_1": forged})
    with pytest.raises(SealBrokenError):
        await made.open({"sub_2": wrapped})


async def test_many_keys_are_asked_for_at_once() -> None:
    class Slow(FakeKms):
        async def wrap(self, key: bytes, owner: str) -> Wrapped:
            await asyncio.sleep(0.05)
            return await super().wrap(key, owner)

    made = vault(Slow(), FixedClock(NOW))
    wrapping = made.make(f"sub_{number}" for number in range(64))
    assert len(await asyncio.wait_for(wrapping, 1)) == 64


async def test_a_service_that_does_not_answer_is_told() -> None:
    kms = FakeKms()
    made = vault(kms, FixedClock(NOW))
    kms.down = True
    with pytest.raises(UnavailableError):
        await made.make(["sub_1"])
