"""The models that answer: one folder per version, and a file that names the one in service.

Invariants: a version is loaded only when its hashes and golden rows hold; the model in service
changes only to one that loaded; what was loaded stays, so that pinned versions and old decisions
keep answering. A folder that does not load is tried again once one of its files has changed, and
harms no other version.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from services.kit.errors import NotFoundError

IN_SERVICE = "in_service"
_log = structlog.get_logger()


class Versioned(Protocol):
    """Anything with a version."""

    @property
    def version(self) -> str:
        """Its version, which is its folder's name."""
        ...


Stamps = tuple[tuple[str, int], ...]
"""Names and times of change of a folder's files."""

Model = TypeVar("Model", bound=Versioned)


def put_in_service(models_dir: Path, version: str) -> None:
    """Name the version that answers when none is asked for; takes effect within a second."""
    pending = models_dir / f".{IN_SERVICE}"
    pending.write_text(f"{version}\n")
    pending.replace(models_dir / IN_SERVICE)


class ServedModels(Generic[Model]):
    """Models by version, from folders.

    Args:
        models_dir: where the folders and the file `in_service` are; may be empty at first.
        load: loads and verifies one folder.
    """

    def __init__(self, models_dir: Path, load: Callable[[Path], Model]) -> None:
        self._dir = models_dir
        self._load = load
        self._loaded: dict[str, Model] = {}
        self._in_service: str | None = None
        self._refused: dict[str, Stamps] = {}
        self._missed = ""
        self._loading: dict[str, asyncio.Lock] = {}

    @property
    def in_service(self) -> str | None:
        """The version that answers when none is asked for."""
        return self._in_service

    def versions(self) -> list[str]:
        """Return the versions in the folder, oldest name first."""
        return sorted(path.parent.name for path in self._dir.glob("*/manifest.json"))

    async def get(self, version: str | None) -> Model:
        """Return a model; None is the one in service.

        Raises:
            NotFoundError: MODEL_NOT_FOUND, also for a folder that must not be served.
        """
        name = version or self._in_service
        if name is None:
            raise NotFoundError(
                "MODEL_NOT_FOUND", "no model is in service: train one and put it in service"
            )
        known = self._loaded.get(name)
        if known is not None:
            return known
        if name not in self.versions():
            raise NotFoundError(
                "MODEL_NOT_FOUND", "no model of this version: ListModels names those there are"
            )
        async with self._loading.setdefault(name, asyncio.Lock()):
            if name not in self._loaded:
                await self._try(name)
        return self._loaded[name]

    async def _try(self, name: str) -> None:
        """Load a version, off the event loop: to replay golden rows takes long."""
        stamps = await asyncio.to_thread(_stamps, self._dir / name)
        if self._refused.get(name) != stamps:
            try:
                self._loaded[name] = await asyncio.to_thread(self._load, self._dir / name)
            except (OSError, ValueError) as error:
                self._refused[name] = stamps
                _log.error("model refused", version=name, problem=str(error))
            else:
                self._refused.pop(name, None)
                return
        raise NotFoundError(
            "MODEL_NOT_FOUND",
            "this version's folder cannot be served: scoring's log says why, ask the operator",
        )

    async def refresh(self) -> None:
        """Put the version in service that the file names, if it loads."""
        try:
            named = (self._dir / IN_SERVICE).read_text().strip()
        except (OSError, ValueError):
            return  # not there yet, or being written
        if not named or named == self._in_service:
            return
        try:
            model = await self.get(named)
        except NotFoundError as error:
            if named != self._missed:
                _log.error("model not put in service", version=named, problem=error.message)
            self._missed = named
            return
        self._in_service, self._missed = model.version, ""
        _log.info("model in service", version=model.version)

    async def watch(self, *, every: float = 0.5) -> None:
        """Refresh for ever.

        Args:
            every: seconds between looks at the file.
        """
        while True:
            await self.refresh()
            await asyncio.sleep(every)


def _stamps(folder: Path) -> Stamps:
    try:
        return tuple((path.name, path.stat().st_mtime_ns) for path in sorted(folder.iterdir()))
    except OSError:
        return ()  # loading says what is wrong
