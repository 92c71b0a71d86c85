"""Model folders as they are served: one that is broken harms no other, and heals."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from puhui.scoring.v1 import models_pb2
from services.kit.errors import NotFoundError
from services.scoring.models.domain import ModelFolderError
from services.scoring.models.folder import MANIFEST, MODEL
from services.scoring.models.scorer import Scorer
from services.scoring.models.served import ServedModels, put_in_service
from services.scoring.models.servicer import ModelServicer
from tests.unit.scoring.conftest import Trained


@dataclass(frozen=True)
class Named:
    version: str


class Loader:
    """Loads what `manifest.json` says: its own name, or a problem."""

    def __init__(self) -> None:
        self.loads: list[str] = []

    def __call__(self, folder: Path) -> Named:
        self.loads.append(folder.name)
        said = (folder / MANIFEST).read_text()
        if said == "broken":
            raise ModelFolderError("it is broken")
        if said == "other":
            raise ValueError("it has other inputs")
        if said == "away":
            raise FileNotFoundError("its trees are away")
        return Named(folder.name)


def write(models_dir: Path, version: str, said: str = "fine", *, at: int = 0) -> None:
    path = models_dir / version / MANIFEST
    path.parent.mkdir(exist_ok=True)
    path.write_text(said)
    os.utime(path, (at, at))


@pytest.fixture
def load() -> Loader:
    return Loader()


@pytest.fixture
def models(tmp_path: Path, load: Loader) -> ServedModels[Named]:
    return ServedModels(tmp_path, load)


async def refusal(models: ServedModels[Named], version: str | None) -> NotFoundError:
    with pytest.raises(NotFoundError) as refused:
        await models.get(version)
    assert refused.value.reason == "MODEL_NOT_FOUND"
    return refused.value


async def test_without_a_model_in_service_none_answers(models: ServedModels[Named]) -> None:
    await models.refresh()
    assert "no model is in service" in (await refusal(models, None)).message


@pytest.mark.parametrize("said", ["broken", "other", "away"])
async def test_a_folder_that_does_not_load_is_no_model(
    models: ServedModels[Named], load: Loader, tmp_path: Path, said: str
) -> None:
    write(tmp_path, "bad", said)
    write(tmp_path, "good")
    assert "cannot be served" in (await refusal(models, "bad")).message
    assert (await models.get("good")).version == "good"
    await refusal(models, "bad")
    assert load.loads == ["bad", "good"]


async def test_a_folder_that_was_mended_is_tried_again(
    models: ServedModels[Named], tmp_path: Path
) -> None:
    write(tmp_path, "m", "broken", at=1)
    await refusal(models, "m")
    write(tmp_path, "m", at=2)
    assert (await models.get("m")).version == "m"


async def test_a_mended_folder_goes_into_service_without_being_named_again(
    models: ServedModels[Named], tmp_path: Path
) -> None:
    write(tmp_path, "old")
    write(tmp_path, "new", "broken", at=1)
    put_in_service(tmp_path, "old")
    await models.refresh()
    put_in_service(tmp_path, "new")
    await models.refresh()
    assert models.in_service == "old"
    write(tmp_path, "new", at=2)
    await models.refresh()
    assert models.in_service == "new"


async def test_a_folder_that_comes_after_its_name_goes_into_service(
    models: ServedModels[Named], tmp_path: Path
) -> None:
    put_in_service(tmp_path, "late")
    await models.refresh()
    write(tmp_path, "late")
    await models.refresh()
    assert models.in_service == "late"


async def test_what_was_loaded_keeps_answering_when_its_folder_is_gone(
    models: ServedModels[Named], tmp_path: Path
) -> None:
    write(tmp_path, "m")
    await models.get("m")
    (tmp_path / "m" / MANIFEST).unlink()
    assert (await models.get("m")).version == "m"


async def test_a_model_is_loaded_once_however_many_ask(
    models: ServedModels[Named], load: Loader, tmp_path: Path
) -> None:
    write(tmp_path, "m")
    await asyncio.gather(*(models.get("m") for _ in range(9)))
    assert load.loads == ["m"]


async def test_a_list_of_models_leaves_out_what_cannot_be_served(
    trained: Trained, tmp_path: Path
) -> None:
    for name in ("a-broken", trained.folder.name):
        (tmp_path / name).mkdir()
        for path in trained.folder.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "a-broken" / MODEL).write_text("")
    servicer = ModelServicer(ServedModels(tmp_path, Scorer.load))
    listed = await servicer.ListModels(models_pb2.ListModelsRequest(), SimpleNamespace())
    assert [model.ref.version for model in listed.models] == [trained.folder.name]
