"""Key files: what is taken, what is refused and how that is told."""

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.datashare.sealing.domain import MissingKekError
from services.datashare.sealing.keyring import FileKeyRing, key_of, read_key
from services.kit.config import ConfigError

ONE, TWO = "1f" * 32, "2e" * 32


def write(path: Path, current: str, keys: Mapping[str, str]) -> None:
    lines = [f'current = "{current}"', "[keys]", *(f'{k} = "{v}"' for k, v in keys.items())]
    pending = path.with_name("pending")
    pending.write_text("\n".join(lines))
    pending.chmod(0o600)
    pending.replace(path)


def ring(path: Path) -> FileKeyRing:
    return FileKeyRing("datashare.kek_file", path, secrets.token_bytes)


def test_a_key_is_hexadecimal_or_base64url() -> None:
    key = bytes(range(224, 256))
    assert key_of(key.hex()) == key_of(key.hex().upper()) == key
    text = base64.urlsafe_b64encode(key).decode()
    assert "-" in text or "_" in text
    assert key_of(text) == key_of(text.rstrip("=")) == key
    for wrong in ("", "ab", key.hex()[:-1], key.hex() + "00", "x" * 64, text[:-4], "é" * 43, 7):
        assert key_of(wrong) is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("current = ", "is not TOML"),
        ('current = "1"', r"has no \[keys\]"),
        ('current = "1"\n[keys]', r"has no \[keys\]"),
        (f'[keys]\n1 = "{ONE}"', "should name as current"),
        (f'current = "2"\n[keys]\n1 = "{ONE}"', "should name as current"),
        (f'current = "1"\nold = "2"\n[keys]\n1 = "{ONE}"', "has old, which is unknown"),
        ('current = "1"\n[keys]\n1 = "abc"', 'holds "1", which is not 32 bytes'),
        ('current = "1"\n[keys]\n1 = 17', 'holds "1", which is not 32 bytes'),
        (f'current = "a b"\n[keys]\n"a b" = "{ONE}"', "names a key otherwise"),
    ],
)
def test_a_ring_that_cannot_be_used_is_told(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "keks.toml"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=problem) as told:
        ring(path)
    assert "datashare.kek_file" in str(told.value)
    assert ONE not in str(told.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o601, 0o460])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token.key"
    path.write_text(ONE)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="by others: chmod 600"):
        read_key("datashare.subject_token_key", path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_a_file_of_its_owner_and_group_is_taken(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token.key"
    path.write_text(f"{ONE}\n")
    path.chmod(mode)
    assert read_key("datashare.subject_token_key", path) == bytes.fromhex(ONE)


async def test_keys_of_the_past_go_on_opening(tmp_path: Path) -> None:
    path = tmp_path / "keks.toml"
    write(path, "a", {"a": ONE})
    keys = ring(path)
    wrapped = await keys.wrap(b"d" * 32, "sub_1")
    assert wrapped.kek_id == keys.current == "a"
    write(path, "b", {"a": ONE, "b": TWO})
    assert (await keys.wrap(b"d" * 32, "sub_1")).kek_id == keys.current == "b"
    assert keys.ids == {"a", "b"}
    assert await keys.unwrap(wrapped, "sub_1") == b"d" * 32
    write(path, "b", {"b": TWO})
    with pytest.raises(MissingKekError, match='"a"') as missing:
        await keys.unwrap(wrapped, "sub_1")
    assert missing.value.kek_id == "a"


async def test_a_ring_that_broke_meanwhile_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "keks.toml"
    write(path, "a", {"a": ONE})
    keys = ring(path)
    wrapped = await keys.wrap(b"d" * 32, "sub_1")
    write(path, "b", {"a": TWO})
    assert await keys.unwrap(wrapped, "sub_1") == b"d" * 32
    path.unlink()
    assert await keys.unwrap(wrapped, "sub_1") == b"d" * 32
    assert keys.current == "a"


def test_a_ring_is_found_through_a_link(tmp_path: Path) -> None:
    """Kubernetes mounts a Secret so, and changes the link when the Secret changes."""
    for name, current in (("first", "a"), ("second", "b")):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "keks.toml", current, {"a": ONE, "b": TWO})
    (tmp_path / "data").symlink_to("first")
    keys = ring(tmp_path / "data" / "keks.toml")
    assert keys.current == "a"
    (tmp_path / "pending").symlink_to("second")
    os.replace(tmp_path / "pending", tmp_path / "data")  # noqa: PTH105 - it is the link that moves
    assert keys.current == "b"
