"""Model folders: what is written comes back, what was changed is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.scoring.models.domain import ModelFolderError
from services.scoring.models.folder import CARD, MANIFEST, MODEL, read_folder, sha256, write_folder
from services.scoring.models.scorer import Scorer
from tests.unit.scoring.conftest import Trained


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder, tmp_path / trained.folder.name))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / MANIFEST
    stated = json.loads(path.read_text("utf-8"))
    change(stated)
    path.write_text(json.dumps(stated), "utf-8")


def test_what_is_written_comes_back(trained: Trained) -> None:
    stored = read_folder(trained.folder)
    assert stored.manifest == trained.manifest
    assert sorted(path.name for path in trained.folder.iterdir()) == [CARD, MANIFEST, MODEL]
    assert not list(trained.folder.parent.glob(".*"))


def test_a_version_is_written_once(trained: Trained) -> None:
    stored = read_folder(trained.folder)
    with pytest.raises(FileExistsError, match="never changes"):
        write_folder(trained.folder, stored.manifest, stored.model, stored.card)


@pytest.mark.parametrize("name", [MODEL, CARD])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelFolderError, match="not what its manifest was written for"):
        Scorer.load(folder)


@pytest.mark.parametrize("name", [MODEL, CARD, MANIFEST])
def test_an_absent_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match="cannot be read"):
        Scorer.load(folder)


def test_other_trees_under_a_matching_hash_fail_the_golden_rows(folder: Path) -> None:
    trees = (folder / MODEL).read_text("utf-8")
    at = trees.index("leaf_value=") + len("leaf_value=")
    first = trees[at:].split(" ", 1)[0]
    # LightGBM keeps the length of each tree: another value, as long as the old one.
    other = first.translate(str.maketrans("123456789", "987654321"))
    changed = trees[:at] + other + trees[at + len(first) :]
    (folder / MODEL).write_bytes(changed.encode())
    rewrite(folder, lambda stated: stated["files"].update({MODEL: sha256(changed)}))
    with pytest.raises(ModelFolderError, match=r"golden row \d+ of made-up-1"):
        Scorer.load(folder)


def test_trees_that_cannot_be_parsed_are_refused(folder: Path) -> None:
    (folder / MODEL).write_bytes(b"tree\nnothing")
    rewrite(folder, lambda stated: stated["files"].update({MODEL: sha256("tree\nnothing")}))
    with pytest.raises(ModelFolderError, match="cannot be read"):
        Scorer.load(folder)


def worse_calibration(stated: dict[str, Any]) -> None:
    stated["calibration"]["a"] *= 1.01


def other_grade(stated: dict[str, Any]) -> None:
    stated["golden"][0]["grade"] = "ZZ"


def other_order(stated: dict[str, Any]) -> None:
    stated["features"].reverse()


def other_version(stated: dict[str, Any]) -> None:
    stated["version"] = "another"


def more_fields(stated: dict[str, Any]) -> None:
    stated["extra"] = 1


def unknown_class(stated: dict[str, Any]) -> None:
    stated["model_class"] = "PERFECT"


def monotone_in_words(stated: dict[str, Any]) -> None:
    stated["features"][0]["monotone"] = "down"


def monotone_as_truth(stated: dict[str, Any]) -> None:
    stated["features"][0]["monotone"] = True


def no_grades(stated: dict[str, Any]) -> None:
    stated["grades"] = []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (worse_calibration, "golden"),
        (other_grade, "golden"),
        (other_order, "other inputs"),
        (other_version, "not of its folder"),
        (more_fields, "fields of Manifest differ"),
        (unknown_class, "PERFECT"),
        (monotone_in_words, "is not int"),
        (monotone_as_truth, "is not int"),
        (no_grades, "grade cuts"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ModelFolderError, match=problem):
        Scorer.load(folder)


def test_a_damaged_manifest_is_refused(folder: Path) -> None:
    (folder / MANIFEST).write_text("{", "utf-8")
    with pytest.raises(ModelFolderError, match="is damaged"):
        Scorer.load(folder)
