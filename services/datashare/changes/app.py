"""Reading the feed of changes."""

from collections.abc import Sequence
from typing import Protocol

from services.datashare.changes.domain import Entry
from services.kit.errors import invalid_field
from services.kit.transactions import Snapshots

DEFAULT_PAGE = 100


class Changes(Protocol):
    """The outbox."""

    async def after(self, position: int, limit: int) -> Sequence[Entry]:
        """Return the first `limit` changes behind a position, in the order of commit."""
        ...


class Work(Protocol):
    """What the feed needs in a transaction."""

    @property
    def changes(self) -> Changes:
        """The outbox."""
        ...


class Feed:
    """The changes after a cursor.

    Args:
        transactions: opens snapshots.
    """

    def __init__(self, transactions: Snapshots[Work]) -> None:
        self._transactions = transactions

    async def list(self, cursor: str, page_size: int) -> tuple[Sequence[Entry], str]:
        """Return changes and the cursor behind them.

        Args:
            cursor: as this returned it; empty is the beginning.
            page_size: most changes; 0 is `DEFAULT_PAGE`.

        Raises:
            InvalidArgumentError: PAGE_TOKEN_INVALID.
        """
        position = _position(cursor)
        async with self._transactions.read() as work:
            entries = await work.changes.after(position, page_size or DEFAULT_PAGE)
        return entries, str(entries[-1].position) if entries else cursor


def _position(cursor: str) -> int:
    if not cursor:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        problem = "is no cursor of this feed: send next_cursor as it was given, or none"
        raise invalid_field("PAGE_TOKEN_INVALID", "cursor", problem, said="the cursor")
    return int(cursor)
