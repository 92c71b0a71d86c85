"""What may no longer be kept, or shown.

Invariants:

- A record is hidden from every read from its day on, whatever the read's `as_of`; all versions of
  a record have the same day. Deleting it only makes that physical: no read can tell.
- What was withheld is remembered by month, without content, so that a summary goes on saying so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha256

from services.datashare.idempotency.domain import RequestKey
from services.datashare.log.domain import Json, rfc3339


class Reason(StrEnum):
    """Why a record is hidden, as `DueRecords.reason` names it."""

    EXPIRED = "expired"
    PUBLISHED_UNTIL = "published_until"
    REPAIRED = "repaired"
    ERASED = "erased"


@dataclass(frozen=True, order=True)
class Due:
    """Records of a type and provider that are hidden for one reason.

    Args:
        record_type: theirs.
        provider_id: theirs.
        reason: why.
        records: how many.
        versions: of these records.
        subjects: whom they are about.
    """

    record_type: str
    provider_id: str
    reason: Reason
    records: int
    versions: int
    subjects: int


def old_notices(notices: int) -> Due:
    """Return that so many notices are due, whosever they are."""
    return Due("notice", "", Reason.EXPIRED, notices, notices, 0)


def total(found: Iterable[Due]) -> tuple[Due, ...]:
    """Return one for each type, provider and reason; no subject may be in two of a kind."""
    sums: dict[tuple[str, str, Reason], tuple[int, int, int]] = {}
    for due in found:
        kind = due.record_type, due.provider_id, due.reason
        records, versions, subjects = sums.get(kind, (0, 0, 0))
        sums[kind] = (records + due.records, versions + due.versions, subjects + due.subjects)
    return tuple(Due(*kind, *counts) for kind, counts in sorted(sums.items()))


@dataclass(frozen=True)
class DueSeries:
    """What is hidden of one series and not deleted yet.

    Args:
        due: by reason; each about one subject.
        newest: when the last of it was recorded, microseconds since 1970-01-01 UTC.
    """

    due: tuple[Due, ...]
    newest: int


@dataclass(frozen=True)
class Run:
    """A run of the job, or an erasure.

    Args:
        run_id: opaque, ascending with time.
        plan_id: what was to be deleted; empty of an erasure.
        request: as the operator named it.
        ran_at: when it began.
        day: what was hidden on it went; days since 1970-01-01 in China.
        subject_id: of an erasure, else empty.
        note: the reason that was given for an erasure.
        deleted: what went so far.
        finished_at: None while it is not.
        leaf_hash: of its leaf in the log; empty while it is not finished.
    """

    run_id: str
    plan_id: str
    request: RequestKey
    ran_at: datetime
    day: int
    subject_id: str = ""
    note: str = ""
    deleted: tuple[Due, ...] = ()
    finished_at: datetime | None = None
    leaf_hash: bytes = b""

    def content(self) -> dict[str, Json]:
        """Return what its leaf attests."""
        return {
            "run_id": self.run_id,
            "plan_id": self.plan_id,
            "operator_id": self.request.caller_id,
            "ran_at": rfc3339(self.ran_at),
            "day": self.day,
            "subject_id": self.subject_id,
            "note": self.note,
            "deleted": [asdict(due) for due in self.deleted],
        }


class PlanHash:
    """Names what is due, so that a run deletes that and nothing else."""

    def __init__(self) -> None:
        self._hash = sha256()

    def add(self, key: Sequence[str], found: DueSeries) -> None:
        """Add what is due of a series, in the order of the keys."""
        counts = [(due.reason.value, due.records, due.versions) for due in found.due]
        self._hash.update(repr((tuple(key), counts, found.newest)).encode())

    def __str__(self) -> str:
        return f"plan_{self._hash.hexdigest()[:40]}"
