"""Rotations whose process is killed at a point.

Each line of stdin is one as JSON, [URL, KEYFILE, KEY, POINT]: it runs in a process forked from this
one, which has imported everything, and a line of stdout tells how that one ended.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from services.datashare.counterparties.keyfile import KeyFile
from services.datashare.records.tokens import CounterpartyTokens
from services.kit.db import Database
from tests.fakes.named import Named, rotation

POINTS = (
    "before the new file",
    "after the new file",
    "records",
    "names of firms",
    "after the commit",
    "after the new file's turn",
)


class DyingFile(KeyFile):
    """The keys' file, beside which the process dies."""

    point = ""

    def write_next(self, tokens: CounterpartyTokens) -> None:
        die_at("before the new file", self.point)
        super().write_next(tokens)
        die_at("after the new file", self.point)

    def put_in_place(self) -> None:
        die_at("after the commit", self.point)
        super().put_in_place()
        die_at("after the new file's turn", self.point)


def die_at(here: str, point: str) -> None:
    """End as a power cut would, where it is the point."""
    if here == point:
        os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, path: str, key: str, point: str) -> None:
    """Rotate until the point."""
    files = DyingFile(Path(path))
    files.point = point
    database = Database.open(url)
    datashare = Named(database, *files.read().keys, again=True)
    work = rotation(datashare, url, files, bytes.fromhex(key), lambda what, *_: die_at(what, point))
    await work.rotate(await work.amount())


def forked(arguments: list[str]) -> int:
    """Run in a process of its own and return how that ended."""
    child = os.fork()
    if child == 0:
        asyncio.run(main(*arguments))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(f"{forked(json.loads(line))}\n")
        sys.stdout.flush()
