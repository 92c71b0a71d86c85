"""Enquiries: how often banks asked about a firm for an application of its own. No I/O.

Invariants: an application counts once per bank and product in 30 days, however often the bank looks
meanwhile; what a firm reads about itself, a portfolio's review and a training never count. They are
counted from the accesses themselves, so that none can be missing or be there twice; one at the time
of reading itself is not among them, nor is one that was kept as long as its type may be.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.datashare.china import china_day, month_of_day

ENQUIRY: Final = "enquiry"
PLATFORM: Final = "platform"
"""Stands for the provider: the platform knows who asked it."""
PURPOSE: Final = "credit_application"
ONCE_IN: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Enquiry:
    """A release to a bank for an application for credit.

    Args:
        recipient_id: the bank.
        product: what it was for, as the bank named it; may be empty.
        at: when.
    """

    recipient_id: str
    product: str
    at: datetime


@dataclass(slots=True)
class Asked:
    """What happened in a month.

    Args:
        enquiries: all of them.
        applications: those that count.
    """

    enquiries: int = 0
    applications: int = 0


def by_month(
    enquiries: Iterable[Enquiry], first: int, last: int, since: int
) -> Mapping[int, Asked]:
    """Count them by month, ascending; months are those of China.

    Args:
        enquiries: of one subject, also those `ONCE_IN` before what is counted.
        first: yyyymm.
        last: yyyymm, included.
        since: first day that is told, days since 1970-01-01.
    """
    counted: dict[tuple[str, str], datetime] = {}
    months: dict[int, Asked] = {}
    for each in sorted(enquiries, key=lambda enquiry: enquiry.at):
        before = counted.get((each.recipient_id, each.product))
        counts = before is None or each.at - before >= ONCE_IN
        if counts:
            counted[each.recipient_id, each.product] = each.at
        day = china_day(each.at)
        month = month_of_day(day)
        if day >= since and first <= month <= last:
            asked = months.setdefault(month, Asked())
            asked.enquiries += 1
            asked.applications += counts
    return months
