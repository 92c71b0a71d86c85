"""What arrived records say, counted once each: volume, lateness, missing fields, and marks.

Tallies of parts add up to that of the whole, in any order. A mark stands for the newest version of
its record: of two with the same record, the greater version holds, whichever is stored first.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple


def _bounds() -> tuple[int, ...]:
    bounds = list(range(32))
    while bounds[-1] < 36_500:  # a century
        bounds.append(bounds[-1] * 6 // 5)
    return tuple(bounds)


LATENESS_BOUNDS: Final = _bounds()
"""Upper bounds of the buckets in which lateness is counted, in days: exact up to 31, then within a
fifth."""


@lru_cache(1 << 14)
def lateness_bucket(days: int) -> int:
    """Return the bucket of a lateness in days; one before the end of the occurrence counts as 0."""
    return min(bisect_left(LATENESS_BOUNDS, days), len(LATENESS_BOUNDS) - 1)


def percentile(histogram: Mapping[int, int], percent: int) -> int | None:
    """Return the bound of the bucket in which a percentile lies; None of nothing.

    Args:
        histogram: counts by bucket.
        percent: 1 to 100.
    """
    buckets = sorted(histogram)
    counts = list(accumulate(histogram[bucket] for bucket in buckets))
    if not counts or not counts[-1]:
        return None
    rank = -(-counts[-1] * percent // 100)
    return LATENESS_BOUNDS[buckets[bisect_left(counts, rank)]]


@dataclass
class DayTally:
    """What a provider's arrivals of one type and day say.

    Args:
        accepted: versions that were stored.
        corrections: of them, later versions that are not retractions.
        retractions: of them, retractions.
        described: of them, those with a payload, in which fields may be missing.
        last_arrival: the newest, microseconds since 1970-01-01 UTC.
        last_month: of the newest occurrence.
        lateness: counts of first versions by bucket, imports left out.
        missing: by field that may be left out, how many payloads leave it out.
    """

    accepted: int = 0
    corrections: int = 0
    retractions: int = 0
    described: int = 0
    last_arrival: int = 0
    last_month: int = 0
    lateness: dict[int, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)


class Place(NamedTuple):
    """Names a tally: whose arrivals of which type on which day, China Standard Time."""

    provider_id: str
    record_type: str
    day: int


class InvoiceMark(NamedTuple):
    """What is kept of an invoice to see it under another firm.

    Args:
        subject_id: whose.
        record: a keyed hash of provider and record id.
        version: of the record.
        provider_id: who supplied it.
        fingerprint: a keyed hash of code, number and side; None where these name no invoice, or
            the record was retracted.
        month: of its occurrence.
        hidden_on: the day from which no read shows it; None is never.
    """

    subject_id: str
    record: bytes
    version: int
    provider_id: str
    fingerprint: bytes | None
    month: int
    hidden_on: int | None


class GuaranteeMark(NamedTuple):
    """What is kept of a guarantee to see circles.

    Args:
        subject_id: whom the record is about.
        record: a keyed hash of provider and record id.
        version: of the record.
        provider_id: who supplied it.
        token: the other party's keyed token; None where the guarantee is not in force, or the
            record was retracted.
        given: the subject is the guarantor.
        amount: secured, fen.
        month: of its beginning.
        ends_on: its last day.
        hidden_on: the day from which no read shows it; None is never.
    """

    subject_id: str
    record: bytes
    version: int
    provider_id: str
    token: bytes | None
    given: bool
    amount: int
    month: int
    ends_on: int
    hidden_on: int | None


@dataclass
class Tally:
    """What a number of arrived records say.

    Args:
        days: by place.
        invoices: the newest version of each among them, but for first ones that name no invoice.
        guarantees: the newest version of each among them.
        subjects: whom they are about.
    """

    days: dict[Place, DayTally] = field(default_factory=dict)
    invoices: list[InvoiceMark] = field(default_factory=list)
    guarantees: list[GuaranteeMark] = field(default_factory=list)
    subjects: set[str] = field(default_factory=set)
