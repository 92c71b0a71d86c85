"""Model folders: what is written comes back, what was changed is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.models.domain import ModelFolderError
from services.scoring.models.folder import (
    CARD,
    MANIFEST,
    MODEL,
    SIGNATURE,
    TRAINING,
    read_folder,
    sha256,
    write_folder,
)
from services.scoring.models.scorer import Scorer
from services.scoring.models.signing import ModelKey
from services.scoring.training import evidence
from tests.unit.scoring.conftest import KEY, Trained

FILES = [CARD, SIGNATURE, MANIFEST, MODEL, TRAINING]


@pytest.fixture
def folder(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.folder, tmp_path / trained.folder.name))


def sign(folder: Path, text: str) -> None:
    """Let the manifest be this text, under a good signature."""
    (folder / MANIFEST).write_bytes(text.encode())
    (folder / SIGNATURE).write_text(KEY.sign(text.encode()))


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    stated = json.loads((folder / MANIFEST).read_text("utf-8"))
    change(stated)
    sign(folder, json.dumps(stated))


def test_what_is_written_comes_back(trained: Trained) -> None:
    stored = read_folder(trained.folder)
    assert stored.manifest == trained.manifest
    assert stored.key_id == KEY.key_id
    assert evidence.load(stored.training).sampling.rows == len(trained.labels)
    assert sorted(path.name for path in trained.folder.iterdir()) == sorted(FILES)
    assert not list(trained.folder.parent.glob(".*"))


def test_a_version_is_written_once(trained: Trained) -> None:
    stored = read_folder(trained.folder)
    texts = {"model": stored.model, "card": stored.card, "training": stored.training}
    with pytest.raises(FileExistsError, match="never changes"):
        write_folder(trained.folder, stored.manifest, **texts, key=KEY)


@pytest.mark.parametrize("name", [MODEL, CARD, TRAINING])
def test_a_changed_file_is_refused(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelFolderError, match="not what its manifest was written for"):
        Scorer.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_an_absent_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match="cannot be read"):
        Scorer.load(folder)


@settings(max_examples=100)
@given(
    name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255)
)
def test_any_other_byte_in_any_file_is_refused(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory, name: str, place: float, flip: int
) -> None:
    folder = tmp_path_factory.mktemp("changed") / trained.folder.name
    shutil.copytree(trained.folder, folder)
    content = bytearray((folder / name).read_bytes())
    content[int(place * len(content))] ^= flip
    (folder / name).write_bytes(content)
    with pytest.raises(ModelFolderError):
        read_folder(folder)
    shutil.rmtree(folder)


def test_every_byte_of_the_signature_matters(folder: Path) -> None:
    path = folder / SIGNATURE
    signature = path.read_bytes()
    for at, byte in enumerate(signature):
        path.write_bytes(signature[:at] + bytes([byte ^ 1]) + signature[at + 1 :])
        with pytest.raises(ModelFolderError):
            read_folder(folder)
    for more in (signature + b"\n", signature + b"=", b" " + signature):
        path.write_bytes(more)
        with pytest.raises(ModelFolderError, match="not a detached JWS"):
            read_folder(folder)


def test_a_model_signed_by_another_key_is_whole_but_not_trusted(folder: Path) -> None:
    other = ModelKey.new()
    (folder / SIGNATURE).write_text(other.sign((folder / MANIFEST).read_bytes()))
    assert read_folder(folder).key_id == other.key_id
    assert read_folder(folder, frozenset({other.key_id, KEY.key_id})).key_id == other.key_id
    with pytest.raises(ModelFolderError, match=rf"{other.key_id}, which is not trusted here"):
        Scorer.load(folder, frozenset({KEY.key_id}))


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


def interval_without_bands(stated: dict[str, Any]) -> None:
    stated["interval"] = {"method": "a guess"}


def interval_without_steps(stated: dict[str, Any]) -> None:
    stated["interval"]["bands"][-1] |= {"margins": [], "low": [], "high": []}


def interval_without_ends(stated: dict[str, Any]) -> None:
    stated["interval"]["bands"][0]["high"].pop()


def interval_of_no_file(stated: dict[str, Any]) -> None:
    stated["interval"]["bands"].clear()


def long_grade(stated: dict[str, Any]) -> None:
    stated["grades"][0]["grade"] = "A" * 17


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
        (long_grade, "more than 16 characters"),
        (interval_without_bands, "fields of Interval differ"),
        (interval_without_steps, "bands of its interval"),
        (interval_without_ends, "bands of its interval"),
        (interval_of_no_file, "bands of its interval"),
    ],
)
def test_a_signed_manifest_that_does_not_fit_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None], problem: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ModelFolderError, match=problem):
        Scorer.load(folder)


def test_a_folder_of_an_earlier_release_says_what_to_do(folder: Path) -> None:
    (folder / SIGNATURE).unlink()
    (folder / MANIFEST).write_text('{\n "format": 1,\n "version": "old"\n}\n')
    with pytest.raises(ModelFolderError, match=r"of format 1.*train the model again"):
        read_folder(folder)


@pytest.mark.parametrize(
    "text", ["{", '{"format": 2, "format": 2}', '{"format": NaN}', "[]", "null", ""]
)
def test_a_signed_manifest_that_is_no_document_is_refused(folder: Path, text: str) -> None:
    sign(folder, text)
    with pytest.raises(ModelFolderError, match="is damaged"):
        Scorer.load(folder)
