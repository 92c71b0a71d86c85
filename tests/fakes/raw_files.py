"""A database's files, read as whoever steals them would: byte by byte."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa

from services.kit.db import Database


class Files:
    """The files of one database.

    Args:
        url: of the database.
        path: of SQLite's; None is PostgreSQL.
    """

    def __init__(self, url: str, path: Path | None) -> None:
        self.url = url
        self.sqlite = path is not None
        self._path = path

    async def hold(self, *wanted: bytes, log: bool = True) -> set[bytes]:
        """Return those of some bytes that are in the files.

        Args:
            wanted: what to look for.
            log: in the write-ahead log too.
        """
        found: set[bytes] = set()
        for file in await self._files(log=log):
            try:
                content = await asyncio.to_thread(file.read_bytes)
            except FileNotFoundError:  # the server runs, and puts files in the place of others
                continue
            found |= {each for each in wanted if each in content}
        return found

    async def _files(self, *, log: bool) -> list[Path]:
        if self._path is not None:
            log_file = self._path.with_name(f"{self._path.name}-wal")
            return [self._path, *([log_file] if log and log_file.exists() else [])]
        database = Database.open(self.url)
        async with database.begin() as conn:
            data = Path(await conn.scalar(sa.text("SHOW data_directory")))
            oid = await conn.scalar(
                sa.text("SELECT oid FROM pg_database WHERE datname = current_database()")
            )
            await conn.execute(sa.text("CHECKPOINT"))
        await database.close()
        own = data / "base" / str(oid)
        # The server writes this file as it makes the database, of which no older log can be.
        born = (own / "PG_VERSION").stat().st_mtime_ns
        return [*_files_in(own), *(_written_since(born, data / "pg_wal") if log else [])]


def _files_in(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.is_file())


def _written_since(moment: int, folder: Path) -> Iterator[Path]:
    for file in _files_in(folder):
        with suppress(FileNotFoundError):  # as above
            if file.stat().st_mtime_ns >= moment:
                yield file
