from pathlib import Path

import pytest

from services.embedded import Folder
from services.kit.config import ConfigError
from services.kit.files import write_secret


def test_a_folder_that_others_can_enter_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    Folder(folder).prepare()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    Folder(folder).prepare()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_is_used_for_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o755)
    (folder / "letter.txt").touch()
    with pytest.raises(ConfigError, match="others can enter it"):
        Folder(folder).prepare()
    assert folder.stat().st_mode & 0o777 == 0o755
    assert [each.name for each in folder.iterdir()] == ["letter.txt"]


def test_a_secret_does_not_follow_what_was_laid_in_its_way(tmp_path: Path) -> None:
    target = tmp_path / "readable"
    target.touch(mode=0o644)
    (tmp_path / ".key").symlink_to(target)
    write_secret(tmp_path / "key", "secret")
    assert target.read_text() == ""
    assert (tmp_path / "key").read_text() == "secret"
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert not (tmp_path / "key").is_symlink()
