"""Telling providers how what they supplied is used."""

from collections.abc import Sequence
from datetime import date
from typing import Protocol

from services.datashare.china import day_number
from services.datashare.participants.domain import Participant, Role
from services.datashare.uses.domain import Use
from services.kit.errors import NotFoundError, PermissionDeniedError, invalid_field
from services.kit.identity import Caller
from services.kit.transactions import Snapshots

Place = tuple[int, str, str]
"""Day, record type and purpose of a use in a list."""


class Uses(Protocol):
    """Counts of uses."""

    async def page(
        self,
        provider_id: str,
        *,
        first: int | None,
        last: int | None,
        after: Place | None,
        limit: int,
    ) -> Sequence[Use]:
        """Return uses of what a provider supplied, newest first.

        Args:
            provider_id: whose.
            first: first day, days since 1970-01-01; None is any.
            last: last day; None is any.
            after: the use behind which the page begins; None is the first page.
            limit: most uses.
        """
        ...


class Participants(Protocol):
    """The directory of participants."""

    async def get(self, participant_id: str) -> Participant | None:
        """Return a participant."""
        ...


class Work(Protocol):
    """What listing needs in a transaction."""

    @property
    def uses(self) -> Uses:
        """Counts of uses."""
        ...

    @property
    def participants(self) -> Participants:
        """The directory of participants."""
        ...


class ListUses:
    """How often what a provider supplied was used.

    Args:
        transactions: opens snapshots.
    """

    def __init__(self, transactions: Snapshots[Work]) -> None:
        self._transactions = transactions

    async def __call__(
        self,
        caller: Caller,
        provider_id: str,
        first: date | None,
        last: date | None,
        after: Place | None,
        page_size: int,
    ) -> tuple[Sequence[Use], Place | None]:
        """Return a page of uses, newest first, and the use behind which the next one begins.

        Args:
            caller: a provider asks about itself, the operator about any.
            provider_id: whose records.
            first: first day of release; None is any.
            last: last day; None is any.
            after: the use behind which the page begins; None is the first page.
            page_size: most uses.

        Raises:
            PermissionDeniedError: NOT_YOURS, a provider asks about another.
            NotFoundError: NOT_FOUND, there is no such provider.
            InvalidArgumentError: DATE_INVALID, the last day is before the first.
        """
        if caller.role != Role.OPERATOR and provider_id != caller.participant_id:
            raise PermissionDeniedError(
                "NOT_YOURS", "a provider sees the uses of its own records: name yourself"
            )
        if first is not None and last is not None and last < first:
            raise invalid_field("DATE_INVALID", "to", "is before `from`: exchange the two")
        async with self._transactions.read() as work:
            provider = await work.participants.get(provider_id)
            if provider is None or provider.role is not Role.PROVIDER:
                raise NotFoundError(
                    "NOT_FOUND", "there is no such provider: ListParticipants names them"
                )
            found = await work.uses.page(
                provider_id,
                first=None if first is None else day_number(first),
                last=None if last is None else day_number(last),
                after=after,
                limit=page_size + 1,
            )
        page = found[:page_size]
        return page, page[-1][:3] if len(found) > page_size else None
