"""Resolving registration numbers."""

from collections.abc import Iterable
from typing import Protocol

from services.datashare.subjects.uscc import UsccError, check
from services.kit.errors import FieldProblem, InvalidArgumentError, NotFoundError
from services.kit.transactions import Snapshots


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve(self, uscc: str) -> str | None:
        """Return the subject_id of a checked code."""
        ...

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> dict[str, str]:
        """Return the subject_id of every checked code, made now where there was none."""
        ...


class Work(Protocol):
    """What resolving needs in a transaction."""

    @property
    def subjects(self) -> Subjects:
        """The mapping."""
        ...


class ResolveSubject:
    """The subject_id of a registration number.

    Args:
        transactions: opens snapshots.
    """

    def __init__(self, transactions: Snapshots[Work]) -> None:
        self._transactions = transactions

    async def __call__(self, uscc: str) -> str:
        """Return the subject_id.

        Raises:
            InvalidArgumentError: USCC_MALFORMED.
            NotFoundError: NOT_FOUND.
        """
        try:
            code = check(uscc)
        except UsccError as error:
            raise InvalidArgumentError(
                "USCC_MALFORMED", str(error), fields=(FieldProblem("uscc", str(error)),)
            ) from error
        async with self._transactions.read() as work:
            subject_id = await work.subjects.resolve(code)
        if subject_id is None:
            raise NotFoundError("NOT_FOUND", "no subject has this registration number here")
        return subject_id
