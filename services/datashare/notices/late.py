"""Telling those who read records while these were changed.

A fetch reads a snapshot. One that begins before a correction is committed reads what was there, and
may commit its access after the correction looked for recipients, and so was not seen by it. The two
do not wait for each other, as then every fetch of a firm would wait for its providers. Instead the
feed of changes is gone through once more when such a fetch has ended: who was released such records
around a change, and was not told of it with the others, is told then.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final, Protocol

from services.datashare.changes.domain import Change, Entry
from services.datashare.notices import writing
from services.datashare.notices.domain import Notice
from services.datashare.notices.writing import about_of, is_of_records, to_recipients
from services.kit.clock import Clock
from services.kit.transactions import Transactions

BEFORE: Final = timedelta(seconds=120)
"""How long before a change a fetch may have begun that ends after it: no call lasts longer."""
AFTER: Final = timedelta(seconds=10)
"""How long after a change's time a fetch may still have read what was before: the change has to
commit, and replicas' clocks differ. Who read what is new in that time is told in vain."""
LOOK_EVERY: Final = timedelta(seconds=15)
_CHANGES: Final = 500


class Notices(writing.Notices, Protocol):
    """What parties are told."""

    async def of(self, party_id: str, at: datetime) -> Sequence[Notice]:
        """Return what a party was told of a moment."""
        ...

    async def alone(self) -> bool:
        """Tell whether nobody else looks for late readers until the end of this transaction."""
        ...

    async def looked_at(self) -> int:
        """Return the position of the last change for which late readers were looked for."""
        ...

    async def look_on(self, position: int) -> None:
        """Say up to which change late readers were looked for."""
        ...


class Changes(Protocol):
    """The feed of changes."""

    async def after(self, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` changes behind a position, in the order of commit."""
        ...


class Work(Protocol):
    """What looking for late readers needs in a transaction."""

    @property
    def notices(self) -> Notices:
        """What parties are told."""
        ...

    @property
    def recipients(self) -> writing.Recipients:
        """Who was released which records."""
        ...

    @property
    def changes(self) -> Changes:
        """The feed of changes."""
        ...


class TellLate:
    """Tells those who read while something changed.

    Args:
        transactions: opens transactions.
        clock: the time.
    """

    def __init__(self, transactions: Transactions[Work], clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    async def __call__(self) -> None:
        """Go through the changes whose time is over."""
        while await self._step():
            pass

    async def _step(self) -> bool:
        async with self._transactions.read() as work:
            if not await self._settled(work):
                return False
        async with self._transactions.begin() as work:
            if not await work.notices.alone():
                return False
            entries = await self._settled(work)
            changes = [entry.change for entry in entries if is_of_records(entry.change)]
            # A batch of records has one time.
            for _, batch in groupby(changes, key=lambda change: change.changed_at):
                await self._tell(work, list(batch))
            if entries:
                await work.notices.look_on(entries[-1].position)
        return bool(entries)

    async def _settled(self, work: Work) -> Sequence[Entry]:
        """Return changes around which every fetch has ended.

        One of a time that is not yet was dated by a clock that was set back since: nobody waits
        until that time comes.
        """
        entries = await work.changes.after(await work.notices.looked_at(), _CHANGES)
        now = self._clock.now()
        since, until = now - BEFORE - AFTER, now + AFTER
        young = (n for n, entry in enumerate(entries) if since < entry.change.changed_at <= until)
        return entries[: next(young, len(entries))]

    async def _tell(self, work: Work, changes: Sequence[Change]) -> None:
        at = changes[0].changed_at
        asked = set(map(about_of, changes))
        found = await work.recipients.since(at - BEFORE, asked, until=at + AFTER)
        due = [
            notice
            for change in changes
            for notice in to_recipients(change, found.get(about_of(change), ()))
        ]
        told = {
            notice
            for party_id in sorted({notice.party_id for notice in due})
            for notice in await work.notices.of(party_id, at)
        }
        await work.notices.append([notice for notice in due if notice not in told])
