"""Emptying a sandbox: its databases, its models, the messages that it wrote. Its keys stay.

Invariants: nothing is touched unless every database says that it is of the sandbox, and nobody is
at work on it; only tables of ours are dropped. Keys and the operator's API key stay, so that the
next start is the same platform, empty.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from services.datashare import schema as datashare
from services.embedded import ENDPOINTS, RUNNING, Embedded, Folder
from services.kit.db import Database, async_url
from services.kit.tenant import SANDBOX
from services.scoring import schema as scoring

_SIDES: Final = ("", "-wal", "-shm")
_OTHERS: Final = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


class ResetError(Exception):
    """It was not reset, and nothing was touched; the message says why."""


@dataclass(frozen=True)
class Part:
    """A database of the sandbox.

    Args:
        service: whose.
        url: where it is.
        metadata: its tables.
    """

    service: str
    url: str
    metadata: sa.MetaData

    @property
    def file(self) -> Path | None:
        """The file of a SQLite database; None of another."""
        url = async_url(self.url)
        return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def reset(folder: Folder, platform: Embedded) -> None:
    """Empty the sandbox of a folder.

    Args:
        folder: of `puhui serve all`.
        platform: configured as it is served.

    Raises:
        ResetError: it is none, is of production, or is running.
        ConfigError: it is not configured right.
    """
    if not (folder.path / "keys").is_dir():
        raise ResetError(f"there is no sandbox in {folder.path}: name its folder by --data-dir")
    with _alone(folder.path):
        data_url, score_url = platform.databases()
        parts = (
            Part("datashare", data_url, datashare.metadata),
            Part("scoring", score_url, scoring.metadata),
        )
        asyncio.run(_empty(parts))
        for name in ("models", "messages"):
            shutil.rmtree(folder.path / name, ignore_errors=True)
        (folder.path / ENDPOINTS).unlink(missing_ok=True)


async def _empty(parts: Sequence[Part]) -> None:
    there = [part for part in parts if part.file is None or part.file.exists()]
    for part in there:
        await _check(part)
    for part in there:
        if part.file is None:
            await _drop(part)
        else:
            for side in _SIDES:
                part.file.with_name(part.file.name + side).unlink(missing_ok=True)


async def _check(part: Part) -> None:
    database = Database.open(part.url, pool_size=1)
    try:
        async with database.read() as conn:
            tables = await conn.run_sync(lambda sync: set(sa.inspect(sync).get_table_names()))
            if not tables & set(part.metadata.tables):
                return
            mark = part.metadata.tables["tenant"]
            found = None
            if mark.name in tables:
                found = await conn.scalar(sa.select(mark.c.name))
            if found is None:
                raise ResetError(
                    f"the database of {part.service} does not say that it is a sandbox's: start "
                    "the sandbox once by `puhui serve all`"
                )
            if found != SANDBOX:
                raise ResetError(
                    f"the database of {part.service} is of {found}: nothing of it is deleted"
                )
            if database.dialect == "postgresql" and await conn.scalar(_OTHERS):
                raise ResetError(
                    f"others are connected to the database of {part.service}: stop the services"
                )
    finally:
        await database.close()


async def _drop(part: Part) -> None:
    database = Database.open(part.url, pool_size=1)
    try:
        async with database.begin() as conn:
            for name in (*part.metadata.tables, "alembic_version"):
                await conn.execute(sa.text(f'DROP TABLE IF EXISTS "{name}" CASCADE'))
    finally:
        await database.close()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a platform from starting here meanwhile.

    Raises:
        ResetError: one runs.
    """
    handle = os.open(folder / RUNNING, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResetError(f"the sandbox in {folder} is running: stop it first") from None
        yield
    finally:
        os.close(handle)
