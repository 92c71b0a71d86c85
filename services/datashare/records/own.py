"""Whom a supplier may supply records about: a firm itself alone, everybody else any subject.

Which firm an account supplies for, its mandate says, not what it was registered with.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from services.datashare.mandates.domain import Mandate, Power, require_power
from services.datashare.participants.domain import Participant, Role
from services.datashare.records.domain import Incoming, Rejection


class Subjects(Protocol):
    """The mapping of registration numbers to opaque ids."""

    async def resolve(self, uscc: str) -> str | None:
        """Return the subject_id of a checked code, if it has one."""
        ...


def speaking(supplier: Participant, mandate: Mandate | None, now: datetime) -> Participant:
    """Return a supplier; a firm's account as one of the firm for which it may submit.

    Args:
        supplier: that may supply records.
        mandate: of a firm's account.
        now: the time.

    Raises:
        PermissionDeniedError: MANDATE_REQUIRED.
    """
    if supplier.role is not Role.FIRM:
        return supplier
    return replace(supplier, subject_id=require_power(mandate, Power.SUBMIT, now).subject_id)


async def own_rows(
    subjects: Subjects, supplier: Participant, rows: Sequence[Incoming]
) -> tuple[Sequence[Incoming], list[Rejection]]:
    """Return the rows that a supplier may supply by whom they are about, and why not the others.

    Before subjects are made of registration numbers: a firm makes none.

    Args:
        subjects: in the transaction of the rows.
        supplier: whose rows they are.
        rows: well-formed ones.
    """
    if supplier.role is not Role.FIRM:
        return rows, []
    mine = {
        code
        for code in {row.uscc for row in rows if row.uscc}
        if await subjects.resolve(code) == supplier.subject_id
    }
    own, rejections = [], []
    for row in rows:
        if row.uscc in mine or (not row.uscc and row.subject_id == supplier.subject_id):
            own.append(row)
        else:
            problem = "is not you: a firm supplies records about itself alone"
            rejections.append(Rejection(row.row, "NOT_YOURS", "subject", problem))
    return own, rejections
