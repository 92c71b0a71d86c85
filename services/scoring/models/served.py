"""The models that answer: one folder per version, and a file that names the one in service.

Invariants: a version is loaded only when its hashes and golden rows hold; the model in service
changes only to one that loaded; what was loaded stays, so that pinned versions and old decisions
keep answering.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from services.kit.errors import NotFoundError, PuhuiError

IN_SERVICE = "in_service"
_log = structlog.get_logger()


class Versioned(Protocol):
    """Anything with a version."""

    @property
    def version(self) -> str:
        """Its version, which is its folder's name."""
        ...


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
        self._refused: str | None = None

    @property
    def in_service(self) -> str | None:
        """The version that answers when none is asked for."""
        return self._in_service

    def versions(self) -> list[str]:
        """Return the versions in the folder, oldest name first."""
        return sorted(path.parent.name for path in self._dir.glob("*/manifest.json"))

    def get(self, version: str | None) -> Model:
        """Return a model; None is the one in service.

        Raises:
            NotFoundError: MODEL_NOT_FOUND.
        """
        name = version or self._in_service
        if name is None:
            raise NotFoundError(
                "MODEL_NOT_FOUND", "no model is in service: train one and put it in service"
            )
        if name not in self._loaded:
            if name not in self.versions():
                raise NotFoundError(
                    "MODEL_NOT_FOUND", "no model of this version: ListModels names those there are"
                )
            self._loaded[name] = self._load(self._dir / name)
        return self._loaded[name]

    async def refresh(self) -> None:
        """Put the version in service that the file names, if it loads."""
        try:
            named = (self._dir / IN_SERVICE).read_text().strip()
        except FileNotFoundError:
            return
        if named in (self._in_service, self._refused):
            return
        try:
            model = await asyncio.to_thread(self.get, named)
        except (PuhuiError, OSError, ValueError) as error:
            self._refused = named
            _log.error("model refused", version=named, problem=str(error))
            return
        self._in_service, self._refused = model.version, None
        _log.info("model in service", version=model.version)

    async def watch(self, *, every: float = 0.5) -> None:
        """Refresh for ever.

        Args:
            every: seconds between looks at the file.
        """
        while True:
            await self.refresh()
            await asyncio.sleep(every)
