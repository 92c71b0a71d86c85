"""Telling the operator how many webhooks and contacts are parked, whoever parked them and when."""

from datetime import timedelta
from typing import Final, Protocol

from services.kit.transactions import Snapshots

REPORT_EVERY: Final = timedelta(minutes=1)


class Counted(Protocol):
    """What may be parked."""

    async def parked(self) -> int:
        """Return how many are."""
        ...


class Work(Protocol):
    """What counting needs of a snapshot."""

    @property
    def webhooks(self) -> Counted:
        """Where notices are posted."""
        ...

    @property
    def contacts(self) -> Counted:
        """Where firms are told."""
        ...


class Report(Protocol):
    """Tells the operator."""

    def parked_now(self, webhooks: int, contacts: int) -> None:
        """So many are parked now."""
        ...


class CountParked:
    """Counts what is parked, again and again.

    Args:
        transactions: opens snapshots.
        report: tells the operator.
    """

    def __init__(self, transactions: Snapshots[Work], report: Report) -> None:
        self._transactions = transactions
        self._report = report

    async def __call__(self) -> None:
        """Count."""
        async with self._transactions.read() as work:
            self._report.parked_now(await work.webhooks.parked(), await work.contacts.parked())
