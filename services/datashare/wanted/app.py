"""Telling a provider what is due from it, for as long as it listens.

A stream goes on from a cursor, in the order of commit; it looks anew every second and checks each
time that the provider is in good standing. Items are read a page at a time, and the next page only
once the last one was taken.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from services.datashare.participants.domain import Participant, require_good_standing
from services.datashare.wanted.domain import Entry, Item
from services.kit.clock import Clock
from services.kit.transactions import Snapshots

PAGE: Final = 200
"""Items that are told at a time."""
POLL_S: Final = 1.0
"""How long a stream waits before it looks anew, seconds."""
SIGN_OF_LIFE: Final = 15
"""Looks that find nothing before the stream tells so: what lies between notices who is gone, and
asks again whether the caller's key still holds."""


class Participants(Protocol):
    """The directory of participants."""

    async def get(self, participant_id: str) -> Participant | None:
        """Return a participant."""
        ...


class WantedItems(Protocol):
    """What providers are told to supply."""

    async def after(self, provider_id: str, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` items of a provider behind a position, in their order."""
        ...


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def usccs(self, subject_ids: Iterable[str]) -> Mapping[str, str]:
        """Return the registration numbers of subjects, but for those that were erased."""
        ...


class Work(Protocol):
    """What telling needs in a transaction."""

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...

    @property
    def wanted(self) -> WantedItems:
        """What providers are told to supply."""
        ...

    @property
    def subjects(self) -> Subjects:
        """The mapping of registration numbers."""
        ...


class Told(NamedTuple):
    """An item, and the registration number by which the provider finds the firm in its books."""

    item: Item
    uscc: str


class Page(NamedTuple):
    """Items, and the position behind them; without items only a sign of life."""

    items: Sequence[Told]
    position: int


class TellWanted:
    """What is due from a provider.

    Args:
        transactions: opens snapshots.
        clock: the time.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        transactions: Snapshots[Work],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._transactions = transactions
        self._clock = clock
        self._sleep = sleep

    async def __call__(
        self, provider_id: str, position: int, *, follow: bool
    ) -> AsyncIterator[Page]:
        """Yield what is behind a position.

        Args:
            provider_id: from whom it is due.
            position: of the last item that was dealt with; 0 is from the beginning.
            follow: go on when everything up to now has been told.

        Raises:
            PermissionDeniedError: PARTICIPANT_SUSPENDED, also in the midst of it.
        """
        idle = 0
        while True:
            told, behind, more = await self._look(provider_id, position)
            idle += 1
            if behind > position or (follow and idle == SIGN_OF_LIFE):
                position, idle = behind, 0
                yield Page(told, position)
            if more:
                continue
            if not follow:
                return
            await self._sleep(POLL_S)

    async def _look(self, provider_id: str, position: int) -> tuple[list[Told], int, bool]:
        """Return items worth telling, the position behind them, and whether more follow."""
        async with self._transactions.read() as work:
            provider = await work.participants.get(provider_id)
            require_good_standing(provider.standing if provider else None)
            entries = await work.wanted.after(provider_id, position, PAGE)
            now = self._clock.now()
            items = [entry.item for entry in entries if entry.worth_telling(now)]
            usccs: Mapping[str, str] = {}
            if items:
                usccs = await work.subjects.usccs({item.subject_id for item in items})
        # A firm that was erased meanwhile is nobody whom a provider could find in its books.
        told = [Told(item, usccs[item.subject_id]) for item in items if item.subject_id in usccs]
        return told, entries[-1].position if entries else position, len(entries) == PAGE
