"""Uses of what providers supplied: counts by day, record type and purpose.

Invariants:

- A release counts once for each provider and record type of which something was in it. A refusal
  counts nothing, and neither does a replay, which is no new access.
- What a provider is told of a use names neither who asked nor about whom: counts alone. By whom is
  kept only so that different recipients can be counted.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from services.datashare.china import china_day


class Use(NamedTuple):
    """How often something was used.

    Args:
        day: of the releases, days since 1970-01-01 in China Standard Time.
        record_type: what was used.
        purpose: what for.
        releases: how many.
    """

    day: int
    record_type: str
    purpose: str
    releases: int


class Counted(NamedTuple):
    """What was used of one provider by one recipient in one transaction."""

    provider_id: str
    use: Use
    recipient_id: str


Opened = tuple[str, str, str, str]
"""A provider's series in a release: who supplied it, its type, the release's purpose, recipient."""


def counted(opened: Iterable[Opened], at: datetime) -> list[Counted]:
    """Return the uses that releases are.

    Args:
        opened: of each release, each series once.
        at: when they happened.
    """
    day = china_day(at)
    counts = Counter(opened)
    return [
        Counted(provider_id, Use(day, record_type, purpose, count), recipient_id)
        for (provider_id, record_type, purpose, recipient_id), count in sorted(counts.items())
    ]
