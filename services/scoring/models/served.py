"""The models that answer: a folder per version, and the registry that says which of them may.

Invariants:

- What serves is what the registry says, as this replica read it last, a fraction of a second ago.
- A version is loaded only when its folder is byte for byte what was registered, and its hashes,
  signature and golden rows hold. A folder that does not load is tried again once one of its files
  has changed, and harms no other version.
- Whoever was given a model keeps it: another champion touches no call that has begun.
- While a new champion does not load here, the one that it displaced goes on answering, by its own
  name; a version that was retired never does.
- Nothing is answered while the registry has not been read, nothing of what it has stopped, and
  nothing by what was read more than `STALE_S` ago: somebody may have stopped it since.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, Self, TypeVar

import structlog

from services.kit.errors import FailedPreconditionError, NotFoundError, UnavailableError
from services.scoring.models.domain import PARENT, ModelClass, ModelFolderError
from services.scoring.models.folder import MANIFEST, ModelFolder
from services.scoring.registry.app import Placed
from services.scoring.registry.domain import (
    ANSWERING,
    Entry,
    Folder,
    Registry,
    State,
    Stop,
)

STALE_S: Final = 1.0
"""Seconds after which an order has the registry read, and waits for it."""

_log = structlog.get_logger()


class Classed(Protocol):
    """Anything with a version, whose class the registry may raise."""

    @property
    def version(self) -> str:
        """Its version, which is its folder's name."""
        ...

    @property
    def model_class(self) -> str:
        """How much its PD may be believed."""
        ...

    def as_class(self, model_class: ModelClass) -> Self:
        """Return the same model with another class."""
        ...


Stamps = tuple[tuple[str, int], ...]
"""Names and times of change of a folder's files."""

Model = TypeVar("Model", bound=Classed)


class Source(Protocol):
    """The registry's events."""

    async def after(self, position: int) -> Sequence[Placed]:
        """Return the events behind a position, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Found(Generic[Model]):
    """A folder as it was read, once: what is held fast is of the very bytes that are loaded.

    Args:
        folder: what of it is held fast.
        load: loads the model and verifies it.
    """

    folder: Folder
    load: Callable[[], Model]


def found(stored: ModelFolder, load: Callable[[ModelFolder], Model]) -> Found[Model]:
    """Return what was read of a folder, to be loaded."""
    parent = str(stored.manifest.parameters.get(PARENT, ""))
    folder = Folder(stored.sha256, stored.key_id, stored.manifest.model_class, parent)
    return Found(folder, lambda: load(stored))


class ServedModels(Generic[Model]):
    """Models by version, from folders.

    Args:
        models_dir: where the folders are; may be empty at first.
        read: reads one folder, and verifies its signature and its hashes.
        source: the registry.
        stops: is told how many stops stand.
        production: models serve that were validated and are not simulated, and no others.
    """

    def __init__(
        self,
        models_dir: Path,
        read: Callable[[Path], Found[Model]],
        source: Source,
        stops: Callable[[int], None],
        *,
        production: bool,
    ) -> None:
        self._dir = models_dir
        self._read = read
        self._source = source
        self._stops = stops
        self._production = production
        self._registry: Registry | None = None
        self._position = 0
        self._read_at = 0.0
        self._reading = asyncio.Lock()
        self._loaded: dict[str, Model] = {}
        self._said: dict[str, Model] = {}
        self._served = ""
        self._refused: dict[str, Stamps] = {}
        self._loading: dict[str, asyncio.Lock] = {}
        self._unread = False

    @property
    def registry(self) -> Registry:
        """What stands, as far as it was read.

        Raises:
            UnavailableError: it could not be read yet.
        """
        if self._registry is None:
            raise UnavailableError(
                "UNAVAILABLE", "the registry of models could not be read yet: try again"
            )
        return self._registry

    @property
    def trials(self) -> bool:
        """Whether models may be tried that nobody validated."""
        return not self._production

    def versions(self) -> list[str]:
        """Return the versions that are registered, oldest name first."""
        return sorted(self.registry.models)

    async def stopped(self, version: str | None) -> Stop | None:
        """Return what makes the answer to an order a referral.

        Args:
            version: that the order names; None is the champion.

        Raises:
            UnavailableError: the registry cannot be read.
        """
        found = self._stop_of(version)
        if found is None and time.monotonic() - self._read_at > STALE_S:
            await self.refresh()
            found = self._stop_of(version)
        return found

    def _stop_of(self, version: str | None) -> Stop | None:
        return self.registry.stop_of(version or self.registry.champion)

    async def get(self, version: str | None) -> Model | Stop:
        """Return the model that answers an order, or the stop that makes its answer a referral.

        Args:
            version: that the order names; None is the champion.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, also for a version that answers nobody.
            UnavailableError: the registry could not be read yet.
        """
        return await self.stopped(version) or await self.answering(version)

    async def answering(self, version: str | None) -> Model:
        """Return the model that answers an order once nothing is stopped.

        Args:
            version: that the order names; None is the champion.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, also for a version that answers nobody.
            UnavailableError: the registry could not be read yet.
        """
        registry = self.registry
        name = version or registry.champion
        if not name:
            raise NotFoundError(
                "MODEL_NOT_FOUND", "no model is in service: train one and have it promoted"
            )
        entry = self._entry(registry, name)
        if entry.state not in ANSWERING:
            raise NotFoundError("MODEL_NOT_FOUND", _SILENT[entry.state])
        if not self._may_serve(entry):
            raise NotFoundError(
                "MODEL_NOT_FOUND",
                "this version may not serve in production: it is simulated, or nobody validated it",
            )
        before = registry.models.get(self._served)
        if not version and name not in self._loaded and before and self._stands_in(before):
            return self._dressed(before)  # for as long as the champion does not load here
        return await self._ready(entry)

    def _stands_in(self, before: Entry) -> bool:
        """Tell whether the champion of before may answer in place of one that is not loaded."""
        stopped = self.registry.stop_of(before.version)
        return before.state is not State.RETIRED and self._may_serve(before) and not stopped

    async def recall(self, version: str) -> Model:
        """Return a model to tell about it, or to give again what it said: in any state.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, also where its folder cannot be served.
            UnavailableError: the registry could not be read yet.
        """
        return await self._ready(self._entry(self.registry, version))

    def challengers(self) -> Iterator[Model]:
        """Yield the loaded models that score along in the shadow."""
        for entry in self.registry.models.values():
            shadows = entry.state is State.SHADOW and entry.version in self._loaded
            if shadows and self._may_serve(entry) and not self.registry.stop_of(entry.version):
                yield self._dressed(entry)

    async def inspect(self, version: str) -> Folder:
        """Load a folder and return what of it is held fast.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, there is none.
            FailedPreconditionError: MODEL_FOLDER_REFUSED, it must not serve.
        """
        if version not in await asyncio.to_thread(self._lying):
            raise NotFoundError(
                "MODEL_NOT_FOUND", "no folder of this name lies in scoring's models_dir"
            )
        known = self._registry.models.get(version) if self._registry else None
        try:
            return await asyncio.to_thread(self._inspect, version, known)
        except (OSError, ValueError) as error:
            why = str(error).replace(f"{self._dir}/", "")
            raise FailedPreconditionError("MODEL_FOLDER_REFUSED", why) from error

    def _inspect(self, version: str, known: Entry | None) -> Folder:
        read = self._same(version, known)
        if version not in self._loaded:
            model = read.load()
            if known is not None:
                self._loaded[version] = model
        folder = read.folder
        if self._production and folder.model_class is ModelClass.SIMULATED:
            raise ModelFolderError(
                "the model was trained on simulated data: in production such a model never serves"
            )
        return folder

    def _lying(self) -> list[str]:
        return [path.parent.name for path in self._dir.glob(f"*/{MANIFEST}")]

    def _entry(self, registry: Registry, version: str) -> Entry:
        entry = registry.models.get(version)
        if entry is None:
            raise NotFoundError(
                "MODEL_NOT_FOUND", "no model of this version: ListModels names those there are"
            )
        return entry

    def _may_serve(self, entry: Entry) -> bool:
        if not self._production:
            return True
        simulated = entry.folder.model_class is ModelClass.SIMULATED
        return entry.validation is not None and not simulated

    async def _ready(self, entry: Entry) -> Model:
        """Return a version's model with the class that the registry gives it."""
        if entry.version not in self._loaded:
            async with self._loading.setdefault(entry.version, asyncio.Lock()):
                if entry.version not in self._loaded:
                    await self._try(entry)
        return self._dressed(entry)

    def _dressed(self, entry: Entry) -> Model:
        model = self._said.get(entry.version)
        if model is None or model.model_class != entry.said_class:
            model = self._loaded[entry.version].as_class(entry.said_class)
            self._said[entry.version] = model
        return model

    async def _try(self, entry: Entry) -> None:
        """Load a version, off the event loop: to replay golden rows takes long."""
        name = entry.version
        stamps = await asyncio.to_thread(_stamps, self._dir / name)
        if self._refused.get(name) != stamps:
            try:
                self._loaded[name] = await asyncio.to_thread(self._load_same, entry)
            except Exception as error:  # noqa: BLE001 - whatever it was, other versions serve
                self._refused[name] = stamps
                _log.error("model refused", version=name, problem=str(error))
            else:
                self._refused.pop(name, None)
                return
        raise NotFoundError(
            "MODEL_NOT_FOUND",
            "this version's folder cannot be served: scoring's log says why, ask the operator",
        )

    def _load_same(self, entry: Entry) -> Model:
        return self._same(entry.version, entry).load()

    def _same(self, version: str, known: Entry | None) -> Found[Model]:
        """Read a folder, which has to be what was registered where it was."""
        path = self._dir / version
        found = self._read(path)
        if known is not None and found.folder.manifest_sha256 != known.folder.manifest_sha256:
            raise ModelFolderError(
                f"{path} was changed since it was registered: restore the folder"
            )
        return found

    async def refresh(self) -> None:
        """Read what was done to the registry since.

        Raises:
            UnavailableError: it cannot be read.
        """
        async with self._reading:
            began = time.monotonic()
            found = await self._source.after(self._position)
            before = self._registry
            if found or before is None:
                self._registry = (before or Registry()).after(each.event for each in found)
            if found:
                self._position = found[-1].position
            self._read_at = began
        self._stops(len(self.registry.stops))
        champion = self.registry.champion
        if champion != (before.champion if before else ""):
            _log.info("another model is champion", version=champion)

    async def make_ready(self) -> None:
        """Load the champion, what a rollback would put in its place, and what scores along."""
        registry = self.registry
        wanted = [registry.champion, registry.predecessor(trials=self.trials)]
        wanted += [each.version for each in registry.models.values() if each.state is State.SHADOW]
        for name in wanted:
            if name and self._may_serve(registry.models[name]):
                with contextlib.suppress(NotFoundError):  # the log says why
                    await self._ready(registry.models[name])
        if registry.champion in self._loaded:
            self._served = registry.champion

    async def act_at_once(self) -> None:
        """Act by what was just done to the registry, not only when it is looked at next."""
        await self.refresh()
        await self.make_ready()

    async def prepare(self) -> None:
        """Read the registry before the first call, if it can be had, and load the champion."""
        if await self._look():
            await self.make_ready()

    async def watch(self, *, every: float = 0.25) -> None:
        """Read the registry for ever.

        Args:
            every: seconds between looks at it.
        """
        while True:
            await asyncio.sleep(every)
            await self._look()

    async def keep_ready(self, *, every: float = 0.25) -> None:
        """Load what serves for ever; apart from `watch`, as a stop must not wait for a model.

        Args:
            every: seconds between looks at what stands.
        """
        while True:
            if self._registry is not None:
                await self.make_ready()
            await asyncio.sleep(every)

    async def _look(self) -> bool:
        try:
            await self.refresh()
        except UnavailableError as error:
            if not self._unread:
                _log.error("the registry of models cannot be read", problem=error.message)
            self._unread = True
        else:
            self._unread = False
        return not self._unread


_SILENT = {
    State.DRAFT: "this version is a draft, which answers nobody: name another",
    State.RETIRED: "this version is retired and only gives again what it said: name another",
}


def _stamps(folder: Path) -> Stamps:
    try:
        return tuple((path.name, path.stat().st_mtime_ns) for path in sorted(folder.iterdir()))
    except OSError:
        return ()  # loading says what is wrong
