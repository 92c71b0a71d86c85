"""What may no longer be kept, or shown.

Invariants:

- A record is hidden from every read from its day on, whatever the read's `as_of`; all versions of
  a record have the same day. Deleting it only makes that physical: no read can tell.
- What was withheld is remembered by month, without content, so that a summary goes on saying so.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHINA: Final = timedelta(hours=8)


class Reason(StrEnum):
    """Why a record is hidden, as `DueRecords.reason` names it."""

    EXPIRED = "expired"
    PUBLISHED_UNTIL = "published_until"
    REPAIRED = "repaired"
    ERASED = "erased"


def china_day(at: datetime) -> int:
    """Return the day in China Standard Time, in days since 1970-01-01."""
    return (at - _EPOCH + _CHINA).days
