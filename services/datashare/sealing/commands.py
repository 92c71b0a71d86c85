"""The operator's commands as they are seen: what they would do, how far they are, what is left."""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

from services.datashare.sealing.maintenance import Amount, Maintenance
from services.datashare.sealing.shred import shred

_WIDTH: Final = 30
_QUIET_S: Final = 10.0


class Bar:
    """A progress bar on a terminal; elsewhere a line now and then.

    Args:
        tell: takes a line of text.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = -_QUIET_S
        self._open = False

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show how much is done."""
        text = f"{done:,} of {total:,} {what}"
        if sys.stderr.isatty():
            full = _WIDTH * done // max(total, 1)
            sys.stderr.write(f"\r[{'#' * full}{'.' * (_WIDTH - full)}] {text}\x1b[K")
            sys.stderr.flush()
            self._open = True
        elif time.monotonic() >= self._told + _QUIET_S or done == total:
            self._told = time.monotonic()
            self._tell(text)

    def end(self) -> None:
        """Leave the bar's line."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False


class Commands:
    """What `python -m services datashare COMMAND` does.

    Args:
        maintenance: the work.
        database_url: of the database that it is done on.
        tell: takes a line of text.
        end_bar: leaves the progress bar's line.
    """

    def __init__(
        self,
        maintenance: Maintenance,
        database_url: str,
        tell: Callable[[str], None],
        end_bar: Callable[[], None],
    ) -> None:
        self._maintenance = maintenance
        self._database_url = database_url
        self._tell = tell
        self._end_bar = end_bar

    async def seal(self, *, apply: bool) -> None:
        """Seal an existing database."""
        plain = await self._maintenance.plain()
        self._tell(f"in plain text: {_said(plain)}")
        if await self._applied(
            self._maintenance.seal,
            apply=apply,
            before="programs of the version before can take in no new firm afterwards",
        ):
            self._tell(f"sealed: {_said(await self._maintenance.sealed())}")
            self._tell("what was in plain text is in the files until `shred --apply`")

    async def unseal(self, *, apply: bool) -> None:
        """Write everything back in plain text."""
        sealed = await self._maintenance.sealed()
        self._tell(f"sealed: {_said(sealed)}")
        if await self._applied(
            self._maintenance.unseal,
            apply=apply,
            before="stop datashare first: it goes on sealing what comes in",
        ):
            left = await self._maintenance.sealed()
            self._tell(f"still sealed: {_said(left)}")

    async def rotate_keys(self, *, apply: bool) -> None:
        """Wrap all data keys by the current key-encryption key."""
        await self._tell_rotation()
        if await self._applied(
            self._maintenance.rotate,
            apply=apply,
            before="no data is written anew, only the keys of the data",
        ):
            await self._tell_rotation()

    async def shred(self, *, apply: bool) -> None:
        """Take what was deleted out of the database's files."""

        async def work() -> None:
            for place in await shred(self._database_url):
                self._tell(f"may still be {place}")

        await self._applied(
            work,
            apply=apply,
            before="the tables subject and subject_key are locked while they are written anew, "
            "a few seconds for a million firms",
        )

    async def _applied(
        self, work: Callable[[], Awaitable[None]], *, apply: bool, before: str
    ) -> bool:
        if not apply:
            self._tell(f"nothing was changed; {before}. Do it with --apply")
            return False
        try:
            await work()
        finally:
            self._end_bar()
        return True

    async def _tell_rotation(self) -> None:
        rotation = await self._maintenance.rotation()
        for kek_id, count in rotation.counts.items():
            self._tell(f'{count:,} data keys wrapped by "{kek_id}"')
        if rotation.left:
            self._tell(f'{rotation.left:,} left to wrap by the current one, "{rotation.current}"')
        else:
            self._tell(f'every other key than "{rotation.current}" can leave the key ring')


def _said(amount: Amount) -> str:
    return (
        f"{amount.subjects:,} registration numbers, {amount.series:,} summaries, "
        f"{amount.records:,} records"
    )
