"""The operator's commands and the start of the service, as a process sees them."""

import asyncio
import re
import secrets
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from services.__main__ import main
from services.datashare.main import MIGRATIONS, DatashareConfig, build, migrate
from services.embedded import Folder
from services.kit.clock import SystemClock
from services.kit.config import ConfigError
from services.kit.health import HealthConfig
from services.kit.identity import new_key_pair
from services.kit.ids import RandomIds
from services.kit.migrations import upgrade
from services.kit.server import ServerConfig
from tests.contract.datashare import previous_version
from tests.fakes.sealing import key_files


def ring(path: Path, current: str, **keys: str) -> None:
    lines = [f'current = "{current}"', "[keys]", *(f'{k} = "{v}"' for k, v in keys.items())]
    path.write_text("\n".join(lines))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatashareConfig:
    """The configuration of datashare, also in the environment, with five firms from before."""
    for name in ("gateway", "scoring"):
        (tmp_path / name).write_text(new_key_pair()[1])
    (tmp_path / "counterparty").write_text("0f" * 32)
    path = tmp_path / "datashare.db"
    files: dict[str, Any] = {
        "identity_gateway_public_key": tmp_path / "gateway",
        "identity_scoring_public_key": tmp_path / "scoring",
        "counterparty_key": tmp_path / "counterparty",
        **key_files(tmp_path),
    }
    for setting, value in {**files, "database_url": f"sqlite:///{path}"}.items():
        monkeypatch.setenv(f"PUHUI_DATASHARE_{setting}".upper(), str(value))
    made = DatashareConfig(
        **files,
        database_url=f"sqlite:///{path}",
        server=ServerConfig(listen="127.0.0.1:0"),
        health=HealthConfig(listen="127.0.0.1:0"),
    )
    upgrade(made.database_url, MIGRATIONS, previous_version.INITIAL)
    previous_version.populate_sqlite(str(path), firms=5)
    migrate(made)
    return made


def numbers(config: DatashareConfig) -> list[str | None]:
    connection = sqlite3.connect(config.database_url.removeprefix("sqlite:///"))
    with connection:
        found = [row[0] for row in connection.execute("SELECT uscc FROM subject")]
    connection.close()
    return found


async def start(config: DatashareConfig) -> None:
    clock = SystemClock()
    service = build(config, clock, RandomIds(clock))
    await service.start()
    await service.stop()


def test_an_embedded_database_is_sealed_at_the_first_start(config: DatashareConfig) -> None:
    path = Path(config.database_url.removeprefix("sqlite:///"))
    plain = [previous_version.code(firm).encode() for firm in range(5)]
    assert all(number in path.read_bytes() for number in plain)
    asyncio.run(start(config))
    assert numbers(config) == [None] * 5
    assert not any(
        number in file.read_bytes()
        for number in plain
        for file in path.parent.glob("datashare.db*")
    )
    asyncio.run(start(config))


def test_nothing_is_done_before_it_is_told(
    config: DatashareConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datashare", "seal"]) == 0
    told = capsys.readouterr().out
    assert "in plain text: 5 registration numbers, 0 summaries, 0 records" in told
    assert "Do it with --apply" in told
    assert None not in numbers(config)
    assert main(["datashare", "seal", "--apply"]) == 0
    done = capsys.readouterr().out
    assert "5 of 5 registration numbers" in done
    assert "sealed: 5 registration numbers" in done
    assert numbers(config) == [None] * 5
    assert main(["datashare", "shred", "--apply"]) == 0
    assert main(["datashare", "unseal", "--apply"]) == 0
    assert "still sealed: 0 registration numbers" in capsys.readouterr().out
    assert None not in numbers(config)


def test_keys_are_rotated_and_the_old_one_leaves(
    config: DatashareConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["datashare", "seal", "--apply"]) == 0
    (old,) = re.findall(r'1 = "(\w+)"', config.kek_file.read_text())
    new = secrets.token_hex(32)
    ring(config.kek_file, "b", **{"1": old, "b": new})
    capsys.readouterr()
    assert main(["datashare", "rotate-keys"]) == 0
    told = capsys.readouterr().out
    assert '5 data keys wrapped by "1"' in told
    assert '5 left to wrap by the current one, "b"' in told
    assert main(["datashare", "rotate-keys", "--apply"]) == 0
    assert 'every other key than "b" can leave the key ring' in capsys.readouterr().out
    ring(config.kek_file, "b", b=new)
    asyncio.run(start(config))


@pytest.mark.parametrize(
    ("setting", "content", "problem"),
    [
        ("kek_file", 'current = "b"\n[keys]\nb = "{key}"\n', 'it has no key "1", which wraps'),
        ("kek_file", 'current = "1"\n[keys]\n1 = "{key}"\n', "is not the one that had this id"),
        ("subject_token_key", "{key}", "not the key by which the subjects"),
    ],
)
def test_keys_of_another_database_are_told(
    config: DatashareConfig,
    capsys: pytest.CaptureFixture[str],
    setting: str,
    content: str,
    problem: str,
) -> None:
    assert main(["datashare", "seal", "--apply"]) == 0
    getattr(config, setting).write_text(content.replace("{key}", secrets.token_hex(32)))
    with pytest.raises(ConfigError, match=problem):
        asyncio.run(start(config))
    capsys.readouterr()
    assert main(["datashare", "rotate-keys", "--apply"]) == 2
    told = capsys.readouterr().err
    assert f"datashare.{setting}" in told
    assert problem in told


def test_the_key_of_counterparties_is_rotated_and_the_old_file_refused(
    config: DatashareConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(start(config))
    old = config.counterparty_key.read_text()
    assert main(["datashare", "rotate-counterparty-key"]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert config.counterparty_key.read_text() == old
    assert main(["datashare", "rotate-counterparty-key", "--apply"]) == 0
    told = capsys.readouterr()
    new = config.counterparty_key.read_text()
    assert old in new.splitlines()
    assert not any(key in told.out + told.err for key in new.splitlines()[1:])
    asyncio.run(start(config))
    config.counterparty_key.write_text(old)
    with pytest.raises(ConfigError, match=r"counterparty_key: .* does not hold the keys"):
        asyncio.run(start(config))
    assert main(["datashare", "rotate-counterparty-key", "--apply"]) == 2
    assert "with 2 keys" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["datashare", "serve"], ["datashare", "migrate"]])
def test_what_changes_nothing_by_default_is_applied_alone(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*arguments, "--apply"])
    assert "takes no --apply" in capsys.readouterr().err


def test_the_platform_of_a_folder_is_maintained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Folder(tmp_path / "platform")
    assert main(["all", "rotate-keys", "--data-dir", str(folder.path)]) == 2
    assert "no platform has been started here" in capsys.readouterr().err
    folder.prepare()
    upgrade(folder.database("datashare"), MIGRATIONS)
    assert main(["all", "rotate-keys", "--apply", "--data-dir", str(folder.path)]) == 0
    assert 'every other key than "1"' in capsys.readouterr().out
