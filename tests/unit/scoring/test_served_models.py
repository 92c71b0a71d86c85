"""Models as they are served: by the registry, from folders that stay what was registered."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from puhui.scoring.v1 import models_pb2, registry_pb2
from services.kit.errors import PuhuiError, UnavailableError
from services.scoring.decisions.model import ServedModel
from services.scoring.models import served as served_module
from services.scoring.models.domain import ModelClass, ModelFolderError
from services.scoring.models.folder import MANIFEST, MODEL, read_folder
from services.scoring.models.served import Found, ServedModels, found
from services.scoring.models.servicer import ModelServicer
from services.scoring.registry.app import Placed
from services.scoring.registry.domain import (
    EVERYTHING,
    Act,
    Event,
    Folder,
    Person,
    State,
    Stop,
    Validation,
)
from tests.unit.scoring.conftest import Trained

NOW = datetime(2026, 11, 23, tzinfo=UTC)
LI = Person("par_1", "Li")


@dataclass(frozen=True)
class Named:
    version: str
    model_class: str = ModelClass.UNVALIDATED

    def as_class(self, model_class: ModelClass) -> "Named":
        return replace(self, model_class=model_class)


class Loader:
    """Loads what `manifest.json` says: its own name, or a problem."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.wait = asyncio.Event()

    def __call__(self, folder: Path) -> Found[Named]:
        said = (folder / MANIFEST).read_text()
        return Found(facts(folder), lambda: self.load(folder.name, said))

    def load(self, version: str, said: str) -> Named:
        self.loads.append(version)
        if said == "broken":
            raise ModelFolderError("it is broken")
        if said == "other":
            raise ValueError("it has other inputs")
        if said == "unforeseen":
            raise KeyError("a fault of ours")
        if said == "away":
            raise FileNotFoundError("its trees are away")
        return Named(version)


def facts(folder: Path) -> Folder:
    stated = (folder / MANIFEST).read_bytes()
    simulated = b"simulated" in stated
    return Folder(
        hashlib.sha256(stated).hexdigest(),
        "a-key",
        ModelClass.SIMULATED if simulated else ModelClass.UNVALIDATED,
    )


def write(models_dir: Path, version: str, said: str = "fine", *, at: int = 0) -> None:
    path = models_dir / version / MANIFEST
    path.parent.mkdir(exist_ok=True)
    path.write_text(said)
    os.utime(path, (at, at))


@dataclass
class History:
    """The registry's events, as tests write them."""

    models_dir: Path
    events: list[Event] = field(default_factory=list)
    away: bool = False

    async def after(self, position: int) -> Sequence[Placed]:
        if self.away:
            raise UnavailableError("UNAVAILABLE", "it is away")
        return [Placed(at, e) for at, e in enumerate(self.events, 1) if at > position]

    def add(self, act: Act, version: str, target: State | None = None, **more: Any) -> None:
        event_id = f"mev_{len(self.events)}"
        self.events.append(
            replace(Event(event_id, NOW, act, version, LI, "why", target=target), **more)
        )

    def register(self, version: str, said: str = "fine", *, at: int = 0) -> None:
        write(self.models_dir, version, said, at=at)
        self.add(Act.REGISTER, version, State.DRAFT, folder=facts(self.models_dir / version))

    def promote(self, version: str, to: State, other: str = "") -> None:
        statement = Validation("Sun", "MRV-1") if to is State.VALIDATED else None
        self.add(Act.PROMOTE, version, to, validation=statement, other=other)

    def validated(self, version: str, said: str = "fine") -> None:
        self.register(version, said)
        self.promote(version, State.VALIDATED)

    def champion(self, version: str, before: str = "") -> None:
        self.promote(version, State.CHAMPION, before)
        if before:
            self.add(Act.DISPLACE, before, State.VALIDATED, other=version)


@pytest.fixture
def load() -> Loader:
    return Loader()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


@pytest.fixture
def models(tmp_path: Path, load: Loader, history: History) -> ServedModels[Named]:
    return ServedModels(tmp_path, load, history, lambda stops: None, production=False)


@pytest.fixture
def strict(tmp_path: Path, load: Loader, history: History) -> ServedModels[Named]:
    return ServedModels(tmp_path, load, history, lambda stops: None, production=True)


async def refusal(models: ServedModels[Named], version: str | None) -> PuhuiError:
    with pytest.raises(PuhuiError) as refused:
        await models.get(version)
    assert refused.value.reason == "MODEL_NOT_FOUND"
    return refused.value


async def served(models: ServedModels[Named], version: str | None = None) -> str:
    found = await models.get(version)
    assert isinstance(found, Named)
    return found.version


async def test_before_the_registry_was_read_nothing_is_answered(
    models: ServedModels[Named], history: History
) -> None:
    history.away = True
    await models.prepare()
    with pytest.raises(UnavailableError):
        await models.get(None)
    history.away = False
    await models.prepare()
    assert "no model is in service" in (await refusal(models, None)).message


async def test_what_was_read_stays_while_the_registry_is_away(
    models: ServedModels[Named], history: History
) -> None:
    history.validated("a")
    history.champion("a")
    await models.prepare()
    history.away = True
    await models.prepare()
    assert await served(models) == "a"


async def test_what_was_read_too_long_ago_answers_nobody(
    models: ServedModels[Named], history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    history.validated("a")
    history.champion("a")
    await models.prepare()
    monkeypatch.setattr(served_module, "STALE_S", -1.0)
    history.away = True
    with pytest.raises(UnavailableError):
        await models.get(None)
    history.away = False
    assert await served(models) == "a"
    history.add(Act.STOP, EVERYTHING)
    assert isinstance(await models.get(None), Stop)
    history.away = True
    assert isinstance(await models.get(None), Stop)


@pytest.mark.parametrize("said", ["broken", "other", "away", "unforeseen"])
async def test_a_folder_that_does_not_load_is_no_model(
    models: ServedModels[Named], history: History, load: Loader, said: str
) -> None:
    history.validated("bad", said)
    history.validated("good")
    await models.refresh()
    assert "cannot be served" in (await refusal(models, "bad")).message
    assert await served(models, "good") == "good"
    await refusal(models, "bad")
    assert load.loads == ["bad", "good"]


async def test_a_folder_that_is_not_what_was_registered_is_refused_until_it_is_restored(
    models: ServedModels[Named], history: History, load: Loader, tmp_path: Path
) -> None:
    history.validated("m")
    write(tmp_path, "m", "altered", at=1)
    await models.refresh()
    assert "cannot be served" in (await refusal(models, "m")).message
    with pytest.raises(PuhuiError, match="changed since") as refused:
        await models.inspect("m")
    assert refused.value.reason == "MODEL_FOLDER_REFUSED"
    assert load.loads == []
    write(tmp_path, "m", at=2)
    assert await served(models, "m") == "m"


async def test_states_say_whom_a_version_answers(
    models: ServedModels[Named], history: History
) -> None:
    history.register("draft")
    for version in ("validated", "shadow", "champion", "retired"):
        history.validated(version)
    history.promote("shadow", State.SHADOW)
    history.champion("champion")
    history.add(Act.DEMOTE, "retired", State.RETIRED)
    await models.refresh()
    assert await served(models) == "champion"
    for version in ("validated", "shadow", "champion"):
        assert await served(models, version) == version
    assert "draft" in (await refusal(models, "draft")).message
    assert "retired" in (await refusal(models, "retired")).message
    for version in ("draft", "retired"):
        assert (await models.recall(version)).version == version
    await models.make_ready()
    assert [each.version for each in models.challengers()] == ["shadow"]


async def test_answers_say_validated_once_the_registry_does(
    models: ServedModels[Named], history: History
) -> None:
    history.register("m")
    await models.refresh()
    assert (await models.recall("m")).model_class == ModelClass.UNVALIDATED
    history.promote("m", State.VALIDATED)
    await models.refresh()
    first = await models.get("m")
    assert isinstance(first, Named)
    assert first.model_class == ModelClass.VALIDATED
    assert await models.get("m") is first


async def test_the_champion_of_before_answers_until_the_next_one_is_ready(
    models: ServedModels[Named], history: History, tmp_path: Path
) -> None:
    history.validated("old")
    history.champion("old")
    history.validated("new", "broken")
    history.champion("new", "old")
    await models.prepare()
    with pytest.raises(PuhuiError):
        await models.get("new")
    history.events[:] = [e for e in history.events if e.version == "old"][:3]
    again: ServedModels[Named] = ServedModels(
        tmp_path, Loader(), history, lambda stops: None, production=False
    )
    await again.prepare()
    assert await served(again) == "old"
    history.validated("new", "broken")
    history.champion("new", "old")
    await again.act_at_once()
    assert again.registry.champion == "new"
    assert await served(again) == "old"
    history.add(Act.DEMOTE, "old", State.RETIRED)
    await again.refresh()
    await refusal(again, None)


async def test_a_rollback_serves_the_predecessor_without_loading_it_anew(
    models: ServedModels[Named], history: History, load: Loader
) -> None:
    history.validated("old")
    history.champion("old")
    history.validated("new")
    history.champion("new", "old")
    await models.prepare()
    assert sorted(load.loads) == ["new", "old"]
    assert await served(models) == "new"
    history.add(Act.ROLL_BACK, "new", State.RETIRED, other="old")
    history.add(Act.RESTORE, "old", State.CHAMPION, other="new")
    await models.refresh()
    assert await served(models) == "old"
    assert len(load.loads) == 2


@pytest.mark.parametrize("scope", [EVERYTHING, "m"])
async def test_what_is_stopped_answers_with_the_stop(
    models: ServedModels[Named], history: History, scope: str
) -> None:
    history.validated("m")
    history.champion("m")
    history.validated("other")
    history.add(Act.STOP, scope)
    await models.refresh()
    for version in (None, "m"):
        assert isinstance(await models.get(version), Stop)
    assert isinstance(await models.get("other"), Stop) == (scope == EVERYTHING)
    assert (await models.answering(None)).version == "m"
    history.add(Act.RESUME, scope)
    await models.refresh()
    assert await served(models) == "m"


async def test_a_stop_is_obeyed_while_a_champion_is_being_loaded(
    tmp_path: Path, history: History
) -> None:
    history.validated("slow")
    history.champion("slow")
    loading, go = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(folder: Path) -> Found[Named]:
        loop.call_soon_threadsafe(loading.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result(10)
        return Found(facts(folder), lambda: Named(folder.name))

    models = ServedModels(tmp_path, slowly, history, lambda stops: None, production=False)
    await models.refresh()
    tasks = [asyncio.create_task(work(every=0.01)) for work in (models.watch, models.keep_ready)]
    await asyncio.wait_for(loading.wait(), 5)
    history.add(Act.STOP, EVERYTHING)
    for _ in range(500):
        if await models.stopped(None):
            break
        await asyncio.sleep(0.01)
    assert isinstance(await models.get(None), Stop)
    go.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_in_production_neither_simulated_nor_unvalidated_models_serve(
    strict: ServedModels[Named], models: ServedModels[Named], history: History
) -> None:
    history.register("tried")
    history.promote("tried", State.CHAMPION)
    history.validated("toy", "simulated")
    history.validated("good")
    for each in (strict, models):
        await each.refresh()
    for version in (None, "toy"):
        assert "production" in (await refusal(strict, version)).message
        await served(models, version)
    assert await served(strict, "good") == "good"
    write(history.models_dir, "toy-2", "simulated")
    with pytest.raises(PuhuiError, match="simulated") as refused:
        await strict.inspect("toy-2")
    assert refused.value.reason == "MODEL_FOLDER_REFUSED"
    assert (await models.inspect("toy-2")).model_class is ModelClass.SIMULATED


async def test_only_a_folder_that_lies_there_can_be_looked_at(
    models: ServedModels[Named], tmp_path: Path
) -> None:
    write(tmp_path, "there", "broken")
    for name, reason in (
        ("../there", "MODEL_NOT_FOUND"),
        ("absent", "MODEL_NOT_FOUND"),
        ("there", "MODEL_FOLDER_REFUSED"),
    ):
        with pytest.raises(PuhuiError) as refused:
            await models.inspect(name)
        assert refused.value.reason == reason
        assert str(tmp_path) not in refused.value.message


async def test_what_was_loaded_keeps_answering_when_its_folder_is_gone(
    models: ServedModels[Named], history: History, tmp_path: Path
) -> None:
    history.validated("m")
    await models.refresh()
    await models.get("m")
    (tmp_path / "m" / MANIFEST).unlink()
    assert await served(models, "m") == "m"


async def test_a_model_is_loaded_once_however_many_ask(
    models: ServedModels[Named], history: History, load: Loader
) -> None:
    history.validated("m")
    await models.refresh()
    await asyncio.gather(*(models.get("m") for _ in range(9)))
    assert load.loads == ["m"]


def read(path: Path) -> Found[ServedModel]:
    return found(read_folder(path), ServedModel.of)


async def test_a_folder_that_is_swapped_while_it_is_read_loads_as_what_was_registered(
    trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / trained.folder.name
    shutil.copytree(trained.folder, folder)
    seen = read(folder)
    shutil.rmtree(folder)
    assert seen.folder.manifest_sha256 == read(trained.folder).folder.manifest_sha256
    assert seen.load().version == trained.folder.name


async def test_a_list_of_models_has_their_states_and_leaves_out_what_cannot_be_served(
    trained: Trained, history: History, tmp_path: Path
) -> None:
    good = trained.folder.name
    for name in ("a-broken", good):
        (tmp_path / name).mkdir()
        for path in trained.folder.iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    history.add(Act.REGISTER, "a-broken", State.DRAFT, folder=facts(tmp_path / "a-broken"))
    history.add(Act.REGISTER, good, State.DRAFT, folder=read(tmp_path / good).folder)
    history.promote(good, State.VALIDATED)
    history.add(Act.STOP, good)
    (tmp_path / "a-broken" / MODEL).write_text("")
    served_models = ServedModels(tmp_path, read, history, lambda stops: None, production=False)
    await served_models.refresh()
    servicer = ModelServicer(served_models)
    listed = await servicer.ListModels(models_pb2.ListModelsRequest(), SimpleNamespace())
    [model] = listed.models
    assert model.ref.version == good
    assert model.state == registry_pb2.MODEL_STATE_VALIDATED
    assert (model.stopped, model.in_service) == (True, False)
