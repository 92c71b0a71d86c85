"""`puhui model report`, and the key that signs a model."""

import json
import os
import shutil
from pathlib import Path

import pytest

from services.cli.model_key import signer
from services.scoring.models.folder import MANIFEST, TRAINING
from services.scoring.models.signing import PUBLIC, ModelKey, key_at, platform_key
from tests.fakes.models import small_model
from tests.unit.cli.conftest import Run

KEY = ModelKey.new()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "made-up-1"
    small_model(folder, KEY)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "models" / made.name))


def test_a_report_is_written_and_names_the_key(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("model", "report", str(folder), "--lang", "zh", "--json")
    assert done.code == 0, done.err
    assert done.document["signed_by"] == KEY.key_id
    assert done.document["report"] == "made-up-1.html"
    page = (tmp_path / "made-up-1.html").read_text("utf-8")
    assert "首先应看" in page
    assert KEY.key_id in page
    assert "逾期天数" in page
    first = page
    assert run("model", "report", str(folder), "--lang", "zh", "--out", "again.html").code == 0
    assert (tmp_path / "again.html").read_text("utf-8") == first
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["card.md", "manifest.json", "manifest.jws", "model.txt", "training.json"]
    )


def test_a_folder_that_was_changed_has_no_report(run: Run, folder: Path) -> None:
    stated = json.loads((folder / MANIFEST).read_text("utf-8"))
    stated["model_class"] = "VALIDATED"
    (folder / MANIFEST).write_text(json.dumps(stated), "utf-8")
    done = run("model", "report", str(folder))
    assert done.code == 2
    assert "does not sign" in " ".join(done.err.split())
    shutil.rmtree(folder)
    assert run("model", "report", str(folder)).code == 2


def test_evidence_that_was_changed_has_no_report(run: Run, folder: Path) -> None:
    path = folder / TRAINING
    path.write_text(path.read_text("utf-8").replace('"rows": 240', '"rows": 2400', 1), "utf-8")
    done = run("model", "report", str(folder), "--json")
    assert done.code == 2
    assert "not what its manifest was written for" in done.document["error"]["message"]


def test_a_page_that_cannot_be_written_is_told(run: Run, folder: Path) -> None:
    done = run("model", "report", str(folder), "--out", "absent/page.html")
    assert done.code == 2
    assert "name another file by --out" in " ".join(done.err.split())


def test_show_names_the_key(run: Run, folder: Path) -> None:
    assert run("model", "show", str(folder), "--json").document["signed_by"] == KEY.key_id


class TestKeyOfModels:
    """Where the key that signs a model comes from."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        return tmp_path / "home"

    def test_the_key_that_is_named_signs(self, tmp_path: Path, home: Path) -> None:
        key = key_at(tmp_path / "mine.pem")
        found = signer(tmp_path / "mine.pem", tmp_path / "m" / "a", {"HOME": str(home)})
        assert (found.key.key_id, found.made) == (key.key_id, False)
        assert not home.exists()

    def test_a_model_of_an_embedded_platform_is_signed_by_its_key(
        self, tmp_path: Path, home: Path
    ) -> None:
        key = key_at(platform_key(tmp_path / ".puhui"))
        found = signer(None, tmp_path / ".puhui" / "models" / "a", {"HOME": str(home)})
        assert found.key.key_id == key.key_id
        assert not home.exists()

    def test_ones_own_key_is_made_once(self, tmp_path: Path, home: Path) -> None:
        environ = {"HOME": str(home)}
        first = signer(None, tmp_path / "models" / "a", environ)
        again = signer(None, tmp_path / "elsewhere" / "b", environ)
        assert first.made
        assert "made now: keep it safe" in first.words
        assert not again.made
        assert first.key.key_id == again.key.key_id
        assert first.path == home / ".config" / "puhui" / "model-key.pem"
        assert first.path.with_name(first.path.name + PUBLIC).is_file()

    def test_without_a_home_the_key_is_beside_the_models(self, tmp_path: Path) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("not a folder")
        found = signer(None, tmp_path / "models" / "a", {"HOME": str(blocked)})
        assert found.path == tmp_path / "models" / "model-key.pem"
        assert found.made
        assert not signer(None, tmp_path / "models" / "b", {"HOME": str(blocked)}).made

    @pytest.mark.parametrize("mode", [0o644, 0o640])
    def test_a_key_that_others_can_read_is_refused(
        self, run: Run, tmp_path: Path, mode: int
    ) -> None:
        path = tmp_path / "mine.pem"
        ModelKey.new().write(path)
        path.chmod(mode)
        rows = "".join(f"{at},{at % 7},{int(at % 3 == 0)}\n" for at in range(90))
        (tmp_path / "t.csv").write_text(f"a,c,b\n{rows}")
        done = run(
            *("model", "train", "t.csv", "--label", "b", "--out", "m/a", "--sign-with", "mine.pem"),
            "--json",
        )
        assert done.code == 2
        assert "chmod 600" in done.document["error"]["message"]
        assert not os.path.lexists(tmp_path / "m")
