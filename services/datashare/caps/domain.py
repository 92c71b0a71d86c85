"""How much the sandbox holds, and that it is full.

Invariant: what is there is counted; the count is taken anew before anything is refused, and now and
then, since several replicas fill the same sandbox. In between each lets in no more than was left
when it counted, so that the caps are kept but for what replicas let in at the same time, and for
the rest of a batch.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.kit.config import check_least
from services.kit.errors import FailedPreconditionError, PuhuiError, ResourceExhaustedError

COUNTED_FOR = timedelta(minutes=5)
"""How long a count is believed, while less was let in since than was left then."""
FULL_FOR = timedelta(seconds=1)
"""How long a count is believed by which nothing is left."""


@dataclass(frozen=True)
class SandboxCaps:
    """The most that a sandbox holds, section `datashare.caps`.

    Args:
        participants: accounts.
        firms: subjects of records and accounts.
        records: versions of records.
        accesses_a_day: releases of summaries from midnight to midnight, UTC.
    """

    participants: int = field(default=20_000, metadata={"help": "accounts of a sandbox at most"})
    firms: int = field(default=100_000, metadata={"help": "firms of a sandbox at most"})
    records: int = field(default=10_000_000, metadata={"help": "records of a sandbox at most"})
    accesses_a_day: int = field(
        default=2_000_000, metadata={"help": "accesses a day of a sandbox at most"}
    )

    def __post_init__(self) -> None:
        check_least(
            1,
            participants=self.participants,
            firms=self.firms,
            records=self.records,
            accesses_a_day=self.accesses_a_day,
        )


@dataclass
class Room:
    """What is left of one cap, as far as it was counted.

    Args:
        what: is capped, in the plural.
        cap: the most.
        left: after what was let in since the count.
        counted_at: when; None: never.
    """

    what: str
    cap: int
    left: int = 0
    counted_at: datetime | None = None

    def stale(self, wanted: int, now: datetime) -> bool:
        """Tell whether it has to be counted before so much is let in."""
        if self.counted_at is None:
            return True
        believed = COUNTED_FOR if wanted <= self.left else FULL_FOR
        # A day that has passed makes room of its own.
        return now - self.counted_at >= believed or now.date() != self.counted_at.date()

    def count(self, found: int, now: datetime) -> None:
        """Take what was counted."""
        self.left, self.counted_at = self.cap - found, now

    def take(self, wanted: int) -> bool:
        """Let in as much as is wanted, where there is any room; tell whether there was."""
        if self.left <= 0:
            return False
        self.left -= wanted
        return True


def full(room: Room) -> PuhuiError:
    """Return the refusal of what is capped for good."""
    return FailedPreconditionError(
        "SANDBOX_FULL",
        f"the sandbox holds {room.cap:,} {room.what} at most: reset it by `puhui sandbox reset`, "
        "or let its operator raise the cap",
    )


def full_today(room: Room, now: datetime) -> PuhuiError:
    """Return the refusal of what is capped by the day."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return ResourceExhaustedError(
        "SANDBOX_FULL",
        f"the sandbox takes {room.cap:,} {room.what} a day at most: try again tomorrow, or let its "
        "operator raise the cap",
        retry_after=midnight - now,
    )
