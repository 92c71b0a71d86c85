"""The leaf of what an account supplied for a firm, in the transaction that took it in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.datashare.log.domain import Json, LeafKind, Leaves, Sealer, rfc3339
from services.datashare.mandates.domain import Mandate
from services.datashare.records.domain import Incoming


class Work(Protocol):
    """What logging needs in a transaction."""

    @property
    def leaves(self) -> Leaves:
        """The log."""
        ...


class LogSubmission:
    """Writes who supplied what for a firm.

    Args:
        sealer: makes leaves.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    async def __call__(
        self, work: Work, mandate: Mandate, rows: Sequence[Incoming], at: datetime
    ) -> None:
        """Add the leaf of rows that were taken in; of none there is no leaf.

        Args:
            work: their transaction.
            mandate: under which they were supplied.
            rows: that were accepted.
            at: when.
        """
        if not rows:
            return
        content: dict[str, Json] = {
            "action": "submitted",
            "at": rfc3339(at),
            "records": [
                {
                    "content_sha256": row.content_hash.hex(),
                    "provider_record_id": row.provider_record_id,
                    "record_type": row.record_type,
                    "version": row.version,
                }
                for row in rows
            ],
            "subject_id": mandate.subject_id,
            **mandate.names,
        }
        await work.leaves.append([self._sealer.seal(LeafKind.MANDATE, content, at)])
