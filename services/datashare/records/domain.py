"""Admitting records: what is new, what is there already and what is refused.

Invariants:

- A record is named by subject, type, provider and the provider's own id; its versions are 1, 2, 3
  without a gap, and no version ever changes.
- The same content comes in once: sent again, under the same version or as a copy of the latest, it
  is a duplicate. Other content under a version that exists is a conflict.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from services.datashare.participants.domain import Participant, require_good_standing
from services.datashare.reviews.domain import Hint
from services.datashare.summaries.domain import Fact
from services.kit.errors import (
    PermissionDeniedError,
    invalid_field,
)

MAX_BATCH_ROWS = 1_000


class RowProblem(Exception):  # noqa: N818 - it is an answer about a row, not a failure
    """Why a row is refused.

    Args:
        reason: name of the `ErrorReason` without its prefix.
        field: path of the field in the record.
        message: what is wrong and the remedy, without the value.
    """

    def __init__(self, reason: str, field: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.message = message


class Rejection(NamedTuple):
    """A row that was not stored.

    Args:
        row: its index in the batch.
        reason: as in `RowProblem`.
        field: as in `RowProblem`.
        message: as in `RowProblem`.
    """

    row: int
    reason: str
    field: str
    message: str


class Held(NamedTuple):
    """A row that waits until somebody says whom it is about.

    Args:
        row: its index in the batch.
        review_id: what it waits for.
    """

    row: int
    review_id: str


class Incoming(NamedTuple):
    """A row that is well formed and that its provider may supply.

    A named tuple and not a dataclass: a million of them are made in a back-fill.

    Args:
        row: its index in the batch.
        uscc: the subject's checked registration number, or empty.
        subject_id: the subject's id, or empty; one of the two is set, or there is a hint.
        record_type: a type of the catalogue.
        provider_record_id: the provider's own id.
        version: from 1.
        retracted: the provider takes the record back.
        occurred_from: days since 1970-01-01.
        occurred_to: likewise, included.
        month: yyyymm in whose summary it counts.
        obtained_at: microseconds since 1970-01-01 UTC, by the provider's clock.
        schema_version: that the payload follows.
        content_hash: SHA-256 over status, occurrence and payload.
        payload: serialised, with the counterparty's token in the place of its name.
        fact: what it adds to the summary; None of a retraction.
        hidden_on: from this day on no read shows the record, days since 1970-01-01 in China; None
            is never. A retraction says nothing of it.
        repaired: that day is the one of its repair.
        hint: what is known of whom it is about, where it names no subject.
    """

    row: int
    uscc: str
    subject_id: str
    record_type: str
    provider_record_id: str
    version: int
    retracted: bool
    occurred_from: int
    occurred_to: int
    month: int
    obtained_at: int
    schema_version: int
    content_hash: bytes
    payload: bytes
    fact: Fact | None
    hidden_on: int | None = None
    repaired: bool = False
    hint: Hint | None = None


class RecordKey(NamedTuple):
    """Names a record of one provider."""

    subject_id: str
    record_type: str
    provider_record_id: str


@dataclass
class History:
    """The versions of a record.

    Args:
        hashes: content hash by version.
        latest: the greatest version.
        retracted: whether that one is a retraction.
        hidden_on: from this day on no read shows the record; None is never.
    """

    hashes: dict[int, bytes] = field(default_factory=dict)
    latest: int = 0
    retracted: bool = False
    hidden_on: int | None = None

    def add(
        self,
        version: int,
        content_hash: bytes,
        *,
        retracted: bool,
        hidden_on: int | None = None,
    ) -> None:
        """Add a version."""
        self.hashes[version] = content_hash
        if version > self.latest:
            self.latest = version
            self.retracted = retracted
            self.hidden_on = hidden_on


class Accepted(NamedTuple):
    """The row is stored.

    Args:
        corrects: the version that no longer counts; 0 when none did.
    """

    corrects: int


class Duplicate(NamedTuple):
    """The row is there already."""


Verdict = Accepted | Duplicate | Rejection

NEW = Accepted(0)
DUPLICATE = Duplicate()


def is_first(incoming: Incoming) -> bool:
    """Tell whether a row claims to be the first version of its record."""
    return incoming.version == 1 and not incoming.retracted


def admit(incoming: Incoming, history: History | None) -> Verdict:
    """Decide about a row.

    Args:
        incoming: the row.
        history: the versions that are there; None is a record never seen.
    """
    if history is None:
        if is_first(incoming):
            return NEW
        return Rejection(
            incoming.row,
            "VERSION_OUT_OF_ORDER",
            "version",
            "the record has no version yet: a first one is 1 and not a retraction",
        )
    content_hash = incoming.content_hash
    if content_hash in (history.hashes.get(incoming.version), history.hashes[history.latest]):
        return DUPLICATE
    if incoming.version <= history.latest:
        return Rejection(
            incoming.row,
            "RECORD_CONFLICT",
            "provider_record_id",
            "the record exists with other content: a correction says the latest version plus one",
        )
    if incoming.version > history.latest + 1:
        return Rejection(
            incoming.row,
            "VERSION_OUT_OF_ORDER",
            "version",
            "the version is not the latest one plus one: send the ones between first",
        )
    return Accepted(0 if history.retracted else history.latest)


def check_supplier(participant: Participant | None, *, historical: bool) -> Participant:
    """Return a participant that may supply records now: a provider, a firm or a bank.

    Args:
        participant: as registered, if it is.
        historical: it says that the records are an import or a back-fill.

    Raises:
        PermissionDeniedError: NOT_YOURS, PARTICIPANT_SUSPENDED, PARTICIPANT_NOT_ACTIVE or
            BACKFILL_NOT_ALLOWED.
    """
    if participant is None or not participant.supplies_as:
        raise PermissionDeniedError(
            "NOT_YOURS",
            "only a registered provider, firm or bank supplies records: ask the operator",
        )
    require_good_standing(participant.standing)
    if historical and not participant.historical_source:
        raise PermissionDeniedError(
            "BACKFILL_NOT_ALLOWED",
            "the provider is not registered as a historical source: push without `historical`",
        )
    return participant


@dataclass(frozen=True)
class Ack:
    """What became of the rows of a batch; every row is in exactly one of the four.

    Args:
        sequence: the batch's.
        accepted: indices of rows.
        duplicates: indices of rows.
        rejections: those that were refused.
        held: those that wait for a review.
    """

    sequence: int
    accepted: tuple[int, ...] = ()
    duplicates: tuple[int, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    held: tuple[Held, ...] = ()


def check_size(rows: int) -> None:
    """Check the number of rows in a batch.

    Raises:
        InvalidArgumentError: BATCH_TOO_LARGE.
    """
    if rows > MAX_BATCH_ROWS:
        problem = f"has more than {MAX_BATCH_ROWS} rows: send several batches"
        raise invalid_field("BATCH_TOO_LARGE", "records", problem, said="the batch")
