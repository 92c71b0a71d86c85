"""Keys of reports from their files."""

import json
import subprocess
from pathlib import Path

import pytest

from puhui_client.signing import PublicKey
from services.kit.config import ConfigError
from services.scoring.models.signing import PUBLIC, ModelKey
from services.scoring.reports.keys import read_report_keys


def written(folder: Path, name: str) -> tuple[ModelKey, Path]:
    key, path = ModelKey.new(), folder / name
    key.write(path)
    return key, path


def test_keys_that_signed_before_are_told_whatever_their_form(tmp_path: Path) -> None:
    key, path = written(tmp_path, "now.pem")
    first, first_path = written(tmp_path, "first.pem")
    second, second_path = written(tmp_path, "second.pem")
    pem = tmp_path / "second.pub.pem"
    subprocess.run(["openssl", "pkey", "-in", second_path, "-pubout", "-out", pem], check=True)
    found, former = read_report_keys(path, [f"{first_path}{PUBLIC}", str(pem)])
    assert found.key_id == key.key_id
    assert [key_id for key_id, _ in former] == [first.key_id, second.key_id]
    for key_id, jwk in former:
        assert PublicKey.parse(jwk).key_id == key_id
        assert "d" not in json.loads(jwk)


def test_a_group_may_read_the_key_and_nobody_else(tmp_path: Path) -> None:
    _, path = written(tmp_path, "now.pem")
    path.chmod(0o440)
    read_report_keys(path, [])
    path.chmod(0o444)
    with pytest.raises(ConfigError, match="others"):
        read_report_keys(path, [])


@pytest.mark.parametrize("content", [None, "", "not a key"])
def test_what_is_no_key_is_told(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "now.pem"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(ConfigError, match="report_key"):
        read_report_keys(path, [])
    _, good = written(tmp_path, "good.pem")
    with pytest.raises(ConfigError, match="retired_report_keys"):
        read_report_keys(good, [str(path)])
