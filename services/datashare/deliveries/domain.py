"""Deliveries: where each is, and whether both ends counted the same.

Invariants:

- The batches of a delivery take effect once each, in sequence; the last one sent again is the same,
  byte for byte. `chain_sha256` stands for all of them, in their order.
- Every row that takes effect is counted once, by type and month, in the transaction that it takes
  effect in: received = accepted + duplicates + held + rejected.
- A closed delivery takes no more rows, and what was said of it at its close stays.
- Single submissions of a day are counted together, under an id that no delivery may have; there the
  call itself is the sender's count.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from services.datashare.china import CHINA, china_date
from services.datashare.records.domain import Ack
from services.datashare.records.forbidden import NAMES_SOMEBODY, names_somebody
from services.kit.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    OutOfRangeError,
    invalid_field,
)

SHOWN_DIFFERENCES: Final = 100
"""Most differing totals of each delivery in a list; one delivery alone has them all."""

_SUBMITTED: Final = "submitted-"
_IS_SUBMITTED: Final = re.compile(r"submitted-(\d{4}-\d{2}-\d{2})")
_SHA256: Final = 32
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True)
class Delivery:
    """How far a delivery has come.

    Args:
        provider_id: whose.
        delivery_id: the provider's name for it.
        historical: its records count as known when the provider obtained them.
        last_ack: of the last batch that took effect; None before the first.
        last_sha256: of that batch's content; empty before the first.
        chain_sha256: SHA-256 over that of the batches before and `last_sha256`; empty before the
            first batch, and where the previous version of the program took in some of them.
        opened_at: when its first batch came in; None where the previous version opened it.
        closed_at: None while it is open.
        rows_sent: as the provider said at the close.
        agrees: whether both ends counted the same; None while it is open.
    """

    provider_id: str
    delivery_id: str
    historical: bool
    last_ack: Ack | None = None
    last_sha256: bytes = b""
    chain_sha256: bytes = b""
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    rows_sent: int = 0
    agrees: bool | None = None

    @property
    def last_sequence(self) -> int:
        """The last batch that took effect; 0 before the first."""
        return self.last_ack.sequence if self.last_ack else 0

    def earlier(self, sequence: int, sha256: bytes) -> Ack | None:
        """Return the ack of a batch that is the last one sent again; None is the next one.

        Args:
            sequence: of the batch.
            sha256: of its content.

        Raises:
            AlreadyExistsError: DELIVERY_MISMATCH.
            FailedPreconditionError: DELIVERY_CLOSED.
            OutOfRangeError: OUT_OF_SEQUENCE.
        """
        if self.last_ack and sequence == self.last_ack.sequence:
            if sha256 != self.last_sha256:
                raise AlreadyExistsError(
                    "DELIVERY_MISMATCH",
                    f"batch {sequence} of this delivery came with other rows before: push these "
                    "under another delivery_id; rows that are in come back as duplicates",
                )
            return self.last_ack
        if self.closed_at is not None:
            raise FailedPreconditionError(
                "DELIVERY_CLOSED",
                f"this delivery was closed after batch {self.last_sequence}: push later rows under "
                "another delivery_id",
            )
        if sequence != self.last_sequence + 1:
            raise OutOfRangeError(
                "OUT_OF_SEQUENCE",
                f"the next batch of this delivery is {self.last_sequence + 1}: open the delivery "
                "again and go on from there",
            )
        return None

    def advanced(self, ack: Ack, sha256: bytes) -> "Delivery":
        """Return the delivery after its next batch.

        Args:
            ack: of the batch.
            sha256: of its content.
        """
        chain = b""
        if self.chain_sha256 or self.last_ack is None:
            chain = chained(self.chain_sha256, sha256)
        return replace(self, last_ack=ack, last_sha256=sha256, chain_sha256=chain)


def chained(before: bytes, sha256: bytes) -> bytes:
    """Return what stands for the batches of a delivery up to one.

    Args:
        before: the same of the batches before; empty of the first.
        sha256: of the batch's content.
    """
    return hashlib.sha256(before + sha256).digest()


def check_opened(delivery_id: str) -> None:
    """Refuse a name that says whom the rows are about, is a day's, or would not fit a line.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    if not delivery_id.isprintable():
        problem = "has control characters, but is a line of what is signed: leave them out"
        raise invalid_field("FIELD_INVALID", "header.delivery_id", problem, said="delivery_id")
    if names_somebody(delivery_id):
        raise invalid_field(
            "FIELD_INVALID", "header.delivery_id", NAMES_SOMEBODY, said="delivery_id"
        )
    if submitted_on(delivery_id):
        problem = "is the name under which a day's single submissions are counted: use another one"
        raise invalid_field("FIELD_INVALID", "header.delivery_id", problem, said="delivery_id")


def check_reopened(delivery: Delivery, *, historical: bool) -> None:
    """Check that a delivery is opened again as it was.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    if delivery.historical != historical:
        problem = "differs from when this delivery was opened first: use another delivery_id"
        raise invalid_field("FIELD_INVALID", "header.historical", problem, said="historical")


def submissions(at: datetime) -> str:
    """Return the delivery_id under which the single submissions of a day are counted."""
    return f"{_SUBMITTED}{china_date(at)}"


def begins(day: date) -> datetime:
    """Return when a day of China Standard Time begins."""
    return datetime.combine(day, time(), CHINA)


def day_end(day: date) -> datetime:
    """Return when a day of China Standard Time ends."""
    return begins(day) + timedelta(days=1)


def submitted_on(delivery_id: str) -> date | None:
    """Return the day whose single submissions an id stands for; None is a delivery's own name."""
    found = _IS_SUBMITTED.fullmatch(delivery_id)
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


class Place(NamedTuple):
    """Names a delivery."""

    provider_id: str
    delivery_id: str


class Group(NamedTuple):
    """What is counted together.

    Args:
        record_type: a payload's name; empty of rows that name none.
        month: of the occurrence, yyyymm; 0 where the row says none.
    """

    record_type: str
    month: int


class Sum(NamedTuple):
    """Of a group.

    Args:
        rows: how many.
        amount: sum of the type's control field, fen.
    """

    rows: int
    amount: int


@dataclass(frozen=True)
class Controls:
    """The rows of a batch as they were sent.

    Args:
        groups: of each row, in order.
        sums: of each group.
    """

    groups: Sequence[Group] = ()
    sums: Mapping[Group, Sum] = field(default_factory=dict)


class Tally(NamedTuple):
    """What became of the rows of a group.

    Args:
        rows: received, all of them.
        accepted: that are new and in.
        duplicates: that were in already.
        held: that wait for a review.
        rejected: that were refused.
        amount: sum of the type's control field over all of them, fen.
    """

    rows: int
    accepted: int
    duplicates: int
    held: int
    rejected: int
    amount: int


def tallied(controls: Controls, ack: Ack) -> dict[Group, Tally]:
    """Return what became of the rows of a batch, by group.

    Args:
        controls: of the batch.
        ack: of the same batch.
    """
    groups = controls.groups
    # Most batches are accepted whole, so the others are counted and taken away.
    duplicates = Counter([groups[row] for row in ack.duplicates])
    rejected = Counter([groups[rejection.row] for rejection in ack.rejections])
    held = Counter([groups[held.row] for held in ack.held])
    return {
        group: Tally(
            rows=sent.rows,
            accepted=sent.rows - duplicates[group] - held[group] - rejected[group],
            duplicates=duplicates[group],
            held=held[group],
            rejected=rejected[group],
            amount=sent.amount,
        )
        for group, sent in controls.sums.items()
    }


def refusals(controls: Controls, ack: Ack) -> dict[tuple[str, str], int]:
    """Return how many rows of a batch were refused, by record type and reason."""
    return Counter(
        (controls.groups[rejection.row].record_type, rejection.reason)
        for rejection in ack.rejections
    )


@dataclass(frozen=True)
class Claim:
    """What a provider says at the close of a delivery that it sent.

    Args:
        rows: all of them.
        sums: of each group.
    """

    rows: int
    sums: Mapping[Group, Sum]


def claim(rows: int, totals: Sequence[tuple[Group, Sum]]) -> Claim:
    """Return what a provider says it sent.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    sums: dict[Group, Sum] = {}
    if rows > _LARGEST:
        raise _unclaimable("close.rows", "is more than any delivery has: check the count")
    for index, (group, said) in enumerate(totals):
        path = f"close.totals[{index}]"
        if group in sums:
            raise _unclaimable(path, "is of a type and month that came before: add them up")
        if said.rows > _LARGEST:
            raise _unclaimable(f"{path}.rows", "is more than any delivery has: check the count")
        if not group.record_type.isprintable():
            raise _unclaimable(f"{path}.record_type", "is no record type: see the catalogue")
        sums[group] = said
    return Claim(rows, sums)


class Total(NamedTuple):
    """Both ends' count of a group.

    Args:
        group: the group.
        sent: as the provider said.
        received: as it was counted here.
    """

    group: Group
    sent: Sum
    received: Sum

    @property
    def agrees(self) -> bool:
        """Whether both ends counted the same."""
        return self.sent == self.received


NOTHING: Final = Sum(0, 0)


def both_ends(sent: Mapping[Group, Sum], received: Mapping[Group, Sum]) -> list[Total]:
    """Return the groups as both ends counted them."""
    return [
        Total(group, sent.get(group, NOTHING), received.get(group, NOTHING))
        for group in sent.keys() | received.keys()
    ]


@dataclass(frozen=True)
class Reconciliation:
    """A delivery as counted at both ends.

    Args:
        delivery: where it is.
        counted: what became of its rows, all groups together.
        totals: by group, those that differ first; a list of deliveries has only some of these.
    """

    delivery: Delivery
    counted: Tally
    totals: Sequence[Total]


@dataclass(frozen=True)
class Evidence:
    """The signature of a batch, and what it covers.

    Args:
        provider_id: who signed.
        delivery_id: of the batch; of a single submission SHA-256 of its canonical bytes, in
            hexadecimal.
        sequence: of the batch; 0 of a single submission.
        key_id: thumbprint of the key.
        jws: detached, as it was sent.
        record_sha256s: of every record, 32 bytes each, one after the other.
        recorded_at: when the batch took effect.
    """

    provider_id: str
    delivery_id: str
    sequence: int
    key_id: str
    jws: str
    record_sha256s: bytes
    recorded_at: datetime

    @property
    def canonical(self) -> bytes:
        """What the signature covers."""
        delivery_id = self.delivery_id if self.sequence else ""
        return canonical(delivery_id, self.sequence, self.record_sha256s)


def evidence_place(delivery: Delivery, sequence: int, record_sha256s: bytes) -> Place:
    """Return where the evidence of a batch is kept.

    Args:
        delivery: that it is counted in.
        sequence: of the batch; 0 of a single submission.
        record_sha256s: of every record, one after the other.
    """
    if sequence:
        return Place(delivery.provider_id, delivery.delivery_id)
    covered = hashlib.sha256(canonical("", 0, record_sha256s))
    return Place(delivery.provider_id, covered.hexdigest())


def canonical(delivery_id: str, sequence: int, record_sha256s: bytes) -> bytes:
    r"""Return what the signature of a batch covers, as `PushBatch.jws` documents it.

    Args:
        delivery_id: of the batch; empty of a single submission.
        sequence: of the batch; 0 of a single submission.
        record_sha256s: of every record, 32 bytes each, one after the other.

    >>> canonical("d", 1, b"")
    b'puhui batch v1\nd\n1\n'
    """
    digests = record_sha256s.hex("\n", -_SHA256).encode() if record_sha256s else b""
    head = f"puhui batch v1\n{delivery_id}\n{sequence}\n".encode()
    return head + digests + b"\n" * bool(digests)


def _unclaimable(path: str, problem: str) -> InvalidArgumentError:
    return invalid_field("FIELD_INVALID", path, problem)
