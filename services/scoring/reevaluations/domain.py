"""Which decisions are to be made again.

Invariants:

- A decision is due when a record of a type and provider that counted in it was corrected, taken
  back or repaired after its data was read: the firm's, or that of a linked subject.
- It is due until its bank has made a newer decision about the subject on what is known since.
- A decision was disputed since when readers of records that counted in it are told of a dispute of
  which the decision does not tell.
- Times of records and of what was read come from one clock, datashare's; so no decision falls
  between what it read and what was corrected.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.scoring.decisions.domain import Decision
from services.scoring.features.domain import Coverage


class Cause(StrEnum):
    """What happened to a record: names of `puhui.datashare.v1.ChangeKind` without the prefix."""

    RECORD_CORRECTED = "RECORD_CORRECTED"
    RECORD_RETRACTED = "RECORD_RETRACTED"
    RECORD_REPAIRED = "RECORD_REPAIRED"


@dataclass(frozen=True, slots=True)
class Correction:
    """That records of a subject were corrected.

    Args:
        subject_id: whose.
        record_type: of which type.
        provider_id: from whom.
        changed_at: when they came in.
        cause: what happened to them.
    """

    subject_id: str
    record_type: str
    provider_id: str
    changed_at: datetime
    cause: Cause


@dataclass(frozen=True, slots=True)
class Standing:
    """That readers of a subject's records are told of a dispute, or no longer are.

    Args:
        dispute_id: which dispute; "" is any of the subject, which was erased.
        subject_id: whose.
        record_type: of the record.
        provider_id: whose record.
        stands: they are told.
    """

    dispute_id: str
    subject_id: str
    record_type: str
    provider_id: str
    stands: bool = True


@dataclass(frozen=True, slots=True)
class Reevaluation:
    """A decision to be made again.

    Args:
        decision: which.
        cause: why.
        due_since: when that was.
        dispute_id: the dispute of which the decision said that it was open; else empty.
    """

    decision: Decision
    cause: Cause
    due_since: datetime
    dispute_id: str = ""


def counted(decision: Decision, correction: Correction | Standing) -> bool:
    """Tell whether records of that subject, type and provider counted in a decision."""
    place = correction.record_type, correction.provider_id
    if correction.subject_id != decision.order.subject_id:
        return any(
            place in entered.sources
            for entered in decision.linked
            if entered.linked.subject_id == correction.subject_id
        )
    if decision.sources is None:  # made by a version that kept types alone
        return decision.coverage.get(correction.record_type) is Coverage.SUPPLIED
    return place in decision.sources


def due(decision: Decision, corrections: Sequence[Correction]) -> Reevaluation | None:
    """Return why a decision is to be made again, by the first of the corrections since.

    Args:
        decision: that no newer one has followed.
        corrections: of its subject and its linked ones after their data was read, in any order.
    """
    mine = [each for each in corrections if counted(decision, each)]
    if not mine:
        return None
    first = min(mine, key=lambda each: each.changed_at)
    places = {(each.subject_id, each.record_type, each.provider_id) for each in mine}
    marks = [(decision.order.subject_id, mark) for mark in decision.disputes]
    marks += [(each.linked.subject_id, mark) for each in decision.linked for mark in each.disputes]
    disputes = (
        mark.dispute_id
        for subject_id, mark in marks
        if (subject_id, mark.record_type, mark.provider_id) in places
    )
    return Reevaluation(decision, first.cause, first.changed_at, next(disputes, ""))


def disputed_since(decision: Decision, standing: Iterable[Standing]) -> bool:
    """Tell whether a record that may count in a decision is in dispute, unknown to the decision.

    Args:
        decision: as it was made.
        standing: disputes that stand.
    """
    known = {mark.dispute_id for mark in decision.disputes}
    known |= {mark.dispute_id for each in decision.linked for mark in each.disputes}
    return any(each.dispute_id not in known and counted(decision, each) for each in standing)
