"""Replicas of scoring on one database: what one does the others serve within a second."""

import asyncio
import hashlib
import inspect
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.kit.clock import FixedClock
from services.kit.db import Database, Transactions
from services.kit.errors import NotFoundError
from services.kit.ids import SequentialIds
from services.kit.migrations import upgrade
from services.scoring.models.domain import ModelClass
from services.scoring.models.folder import MANIFEST
from services.scoring.models.served import Found, ServedModels
from services.scoring.registry.app import ChangeRegistry, Key, TellRegistry
from services.scoring.registry.domain import EVERYTHING, Folder, State, Stop, Validation
from services.scoring.registry.store import EventStore
from tests.contract.scoring.test_registry import LI, NOW, TREE, ZHAO

WITHIN_S = 4.0
"""Far more than the time between two looks at the registry, as others may load the machine."""
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Named:
    version: str
    model_class: str = ModelClass.UNVALIDATED

    def as_class(self, model_class: ModelClass) -> "Named":
        return replace(self, model_class=model_class)


def facts(folder: Path) -> Folder:
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    return Folder(digest, "a-key", ModelClass.UNVALIDATED)


class Replica:
    """One replica, with connections of its own.

    Args:
        url: of the database that all share.
        models_dir: likewise.
    """

    def __init__(self, url: str, models_dir: Path, ids: SequentialIds) -> None:
        self._database = Database.open(url, pool_size=2)
        work, clock = Transactions(self._database, EventStore), FixedClock(NOW)
        self.models: ServedModels[Named] = ServedModels(
            models_dir,
            lambda folder: Found(facts(folder), lambda: Named(folder.name)),
            TellRegistry(work, clock),
            lambda stops: None,
            production=True,
        )
        self.change = ChangeRegistry(
            work,
            self.models,
            self.models.act_at_once,
            clock,
            ids,
            lasts=NOW - NOW.replace(year=2025),
            trials=False,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.models.prepare()
        tasks = [asyncio.create_task(w()) for w in (self.models.watch, self.models.keep_ready)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._database.close()

    async def champion(self, version: str) -> None:
        """Register a version and have it promoted."""
        await self.change.register(key("par_1"), LI, "", version, "")
        for target in (State.VALIDATED, State.CHAMPION):
            statement = Validation("Sun", "MRV-1") if target is State.VALIDATED else None
            event = await self.change.propose(key("par_1"), LI, "w", version, target, statement)
            await self.change.approve(key("par_2"), ZHAO, "", event.proposal_id)

    async def serves(self) -> str:
        try:
            found = await self.models.get(None)
        except NotFoundError:
            return "nothing"
        return "stopped" if isinstance(found, Stop) else found.version


def key(participant_id: str) -> Key:
    return Key(participant_id, f"r{next(NUMBERS)}", b"")


async def within(expected: str, look: Callable[[], Awaitable[str]]) -> None:
    started = time.monotonic()
    while await look() != expected:
        assert time.monotonic() - started < WITHIN_S, f"{expected} is not served yet"
        await asyncio.sleep(0.02)


def test_the_registry_is_looked_at_several_times_a_second() -> None:
    assert inspect.signature(ServedModels.watch).parameters["every"].default <= 0.3


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
async def test_a_promotion_a_rollback_and_a_stop_reach_other_replicas(
    engine: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = (
        f"sqlite:///{tmp_path}/scoring.db"
        if engine == "sqlite"
        else request.getfixturevalue("migrated_copy")(TREE)
    )
    upgrade(url, TREE)
    for version in ("a", "b"):
        (tmp_path / "models" / version).mkdir(parents=True)
        (tmp_path / "models" / version / MANIFEST).write_text(version)
    ids = SequentialIds()
    one, other = (Replica(url, tmp_path / "models", ids) for _ in range(2))
    async with one.running(), other.running():
        for version in ("a", "b"):
            await one.champion(version)
            assert await one.serves() == version
            await within(version, other.serves)
        await other.change.roll_back(key("par_2"), ZHAO, "why", "")
        assert await other.serves() == "a"
        await within("a", one.serves)
        await one.change.stop(key("par_1"), LI, "why", EVERYTHING)
        assert await one.serves() == "stopped"
        await within("stopped", other.serves)
