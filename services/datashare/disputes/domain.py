"""Disputes: their states, who may take which step, by when, and what readers are told meanwhile.

Invariants:

- A dispute is about a field of one record, or all of it, as the record stood when it was opened.
- `TRANSITIONS` is all that may happen; CORRECTED and CLOSED are final.
- CORRECTED says that something newer than the disputed version came in, with another value where
  that was said to be wrong, or that nobody reads the record any more; UPHELD names evidence.
- From the opening to the end readers are told of it wherever the record counts: while it is OPEN,
  when it ended UNVERIFIABLE, and when it was UPHELD and the subject's statement stands.
- Deadlines are the ends of days in China. The opening's day does not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from services.datashare.china import CHINA, china_date
from services.datashare.log.domain import Json, rfc3339
from services.kit.errors import FailedPreconditionError, NotFoundError, invalid_field


class DisputeState(StrEnum):
    """Where a dispute stands: names of `puhui.datashare.v1.DisputeState` without the prefix."""

    OPEN = "OPEN"
    CORRECTED = "CORRECTED"
    UPHELD = "UPHELD"
    UNVERIFIABLE = "UNVERIFIABLE"
    CLOSED = "CLOSED"


class DisputeReason(StrEnum):
    """What is wrong: names of `puhui.datashare.v1.DisputeReason` without the prefix."""

    WRONG_VALUE = "WRONG_VALUE"
    NOT_OURS = "NOT_OURS"
    OUTDATED = "OUTDATED"
    DUPLICATE = "DUPLICATE"
    SETTLED = "SETTLED"


class Step(StrEnum):
    """What happens to a dispute that is there."""

    CORRECT = "correct"
    UPHOLD = "uphold"
    LEAVE_UNVERIFIED = "leave unverified"
    CLOSE = "close"
    STATE = "set statement"


class Actor(StrEnum):
    """Who takes a step."""

    FIRM = "firm"
    PROVIDER = "provider"


ACTORS: Final[Mapping[Step, Actor]] = {
    Step.CORRECT: Actor.PROVIDER,
    Step.UPHOLD: Actor.PROVIDER,
    Step.LEAVE_UNVERIFIED: Actor.PROVIDER,
    Step.CLOSE: Actor.FIRM,
    Step.STATE: Actor.FIRM,
}

TRANSITIONS: Final[Mapping[tuple[DisputeState, Step], DisputeState]] = {
    (DisputeState.OPEN, Step.CORRECT): DisputeState.CORRECTED,
    (DisputeState.OPEN, Step.UPHOLD): DisputeState.UPHELD,
    (DisputeState.OPEN, Step.LEAVE_UNVERIFIED): DisputeState.UNVERIFIABLE,
    (DisputeState.OPEN, Step.CLOSE): DisputeState.CLOSED,
    (DisputeState.OPEN, Step.STATE): DisputeState.OPEN,
    # Proof may turn up later.
    (DisputeState.UNVERIFIABLE, Step.CORRECT): DisputeState.CORRECTED,
    (DisputeState.UNVERIFIABLE, Step.UPHOLD): DisputeState.UPHELD,
    (DisputeState.UNVERIFIABLE, Step.CLOSE): DisputeState.CLOSED,
    (DisputeState.UNVERIFIABLE, Step.STATE): DisputeState.UNVERIFIABLE,
    (DisputeState.UPHELD, Step.CORRECT): DisputeState.CORRECTED,
    (DisputeState.UPHELD, Step.STATE): DisputeState.UPHELD,
}

ANSWERS: Final[Mapping[DisputeState, Step]] = {
    DisputeState.CORRECTED: Step.CORRECT,
    DisputeState.UPHELD: Step.UPHOLD,
    DisputeState.UNVERIFIABLE: Step.LEAVE_UNVERIFIED,
}
"""The step that is meant by an answer."""


LATE_AFTER: Final = timedelta(minutes=3)
"""No release is still under way that had begun so long ago: the longest call takes two minutes."""

MOST_STANDING: Final = 50
"""Disputes about a firm of which readers are told at once: each answer about it carries them all,
and up to 64 answers are one message of at most 16 MB. A mark has up to 3 kB of words."""


class Stage(StrEnum):
    """What is told next of a dispute: the first of them always, the others if nobody answers."""

    # Who was released the record while the dispute was being opened, and did not see it.
    LATECOMERS = "LATECOMERS"
    REMINDER = "REMINDER"
    OVERDUE = "OVERDUE"
    CORRECTION_OVERDUE = "CORRECTION_OVERDUE"


class Calendar(Protocol):
    """Working days of a country."""

    def is_working(self, day: date) -> tuple[bool, bool]:
        """Tell whether people work on a day, and whether that is as published."""
        ...


@dataclass(frozen=True, slots=True)
class Profile:
    """How much time there is.

    Args:
        name: as it is configured.
        working: days are working days.
        answer: days until the provider must have answered.
        remind: days before that on which it is reminded.
        correct: days after that until a wrong record must be corrected; 0 sets no such day.
    """

    name: str
    working: bool
    answer: int
    remind: int
    correct: int = 0


PROFILES: Final[Mapping[str, Profile]] = {
    profile.name: profile
    for profile in (
        # 征信业管理条例 第二十五条: an answer in writing within 20 days.
        Profile("standard", working=False, answer=20, remind=5),
        # 台州: forwarded within 2 working days, answered within 5, corrected within 2. It is
        # forwarded by the notice in the transaction that opens it, so the 5 begin with that.
        Profile("strict", working=True, answer=5, remind=1, correct=2),
    )
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """By when things must have happened.

    Args:
        answer_due_at: the provider must have answered.
        remind_at: it is reminded.
        correction_due_at: a wrong record must be corrected; None sets no such time.
        provisional: reckoned with days whose public holidays are not published.
    """

    answer_due_at: datetime
    remind_at: datetime
    correction_due_at: datetime | None = None
    provisional: bool = False


def deadlines(profile: Profile, opened_at: datetime, calendar: Calendar) -> Deadlines:
    """Return the deadlines of a dispute opened at a time."""
    opened = china_date(opened_at)
    answer, guessed = _later(opened, profile.answer, profile, calendar)
    remind, _ = _later(opened, profile.answer - profile.remind, profile, calendar)
    correct = None
    if profile.correct:
        correct, guessed_too = _later(answer, profile.correct, profile, calendar)
        guessed = guessed or guessed_too
    return Deadlines(
        _end_of(answer), _end_of(remind), _end_of(correct) if correct else None, guessed
    )


def _later(day: date, count: int, profile: Profile, calendar: Calendar) -> tuple[date, bool]:
    """Return the day so many days later, and whether holidays had to be guessed."""
    if not profile.working:
        return day + timedelta(days=count), False
    guessed = False
    while count:
        day += timedelta(days=1)
        working, published = calendar.is_working(day)
        guessed = guessed or not published
        count -= working
    return day, guessed


def _end_of(day: date) -> datetime:
    return datetime.combine(day + timedelta(days=1), time(), CHINA).astimezone(UTC)


class Target(NamedTuple):
    """What is disputed.

    Args:
        provider_id: whose record.
        record_type: its type.
        provider_record_id: the provider's own id of it.
        field: of the payload; empty is all of it.
    """

    provider_id: str
    record_type: str
    provider_record_id: str
    field: str


class Newest(NamedTuple):
    """The newest version of a record.

    Args:
        version: its number.
        retracted: the provider took the record back.
        hidden_on: from this day on no read shows it; None is never.
    """

    version: int
    retracted: bool
    hidden_on: int | None

    def is_read(self, today: int) -> bool:
        """Tell whether somebody may read the record.

        Args:
            today: days since 1970-01-01 in China.
        """
        return not self.retracted and (self.hidden_on is None or today < self.hidden_on)


@dataclass(frozen=True, slots=True)
class Dispute:
    """A dispute.

    Args:
        dispute_id: opaque.
        subject_id: the firm.
        target: what is disputed.
        version: of the record, when it was opened.
        reason: what is wrong.
        statement: the subject's; may be empty later.
        state: where it stands.
        opened_at: when.
        deadlines: of the answer.
        answer: the provider's.
        evidence: what it relies on.
        closed_at: when it was answered or taken back.
        stage: what is told next; None is nothing.
        told: who was told in the transaction that opened it, and in one that ended it soon after.
    """

    dispute_id: str
    subject_id: str
    target: Target
    version: int
    reason: DisputeReason
    statement: str
    state: DisputeState
    opened_at: datetime
    deadlines: Deadlines
    answer: str = ""
    evidence: str = ""
    closed_at: datetime | None = None
    stage: Stage | None = Stage.LATECOMERS
    told: tuple[str, ...] = ()

    @property
    def marked(self) -> bool:
        """Whether readers of the record are told."""
        return self.state in (DisputeState.OPEN, DisputeState.UNVERIFIABLE) or (
            self.state is DisputeState.UPHELD and bool(self.statement)
        )

    @property
    def told_next_at(self) -> datetime | None:
        """When something is told next, if nothing happens until then."""
        due = self.deadlines
        match self.stage:
            case Stage.LATECOMERS:
                return self.opened_at + LATE_AFTER
            case Stage.REMINDER:
                return due.remind_at
            case Stage.OVERDUE:
                return due.answer_due_at
            case Stage.CORRECTION_OVERDUE:
                return due.correction_due_at
        return None

    def overdue(self, now: datetime) -> bool:
        """Tell whether the deadline passed without an answer."""
        return self.state is DisputeState.OPEN and self.deadlines.answer_due_at <= now


@dataclass(frozen=True, slots=True)
class Mark:
    """What a reader must know of a dispute about a record that counts in what it reads.

    Args:
        dispute_id: which.
        record_type: of the record.
        provider_id: whose record.
        month: yyyymm in whose summary it counts.
        field: of the payload; empty is all of it.
        state: where the dispute stands.
        statement: the subject's.
    """

    dispute_id: str
    record_type: str
    provider_id: str
    month: int
    field: str
    state: DisputeState
    statement: str


@dataclass(frozen=True, slots=True)
class VersionRead:
    """A version of a disputed record, as far as reads need it.

    Args:
        version: its number.
        month: yyyymm in whose summary it counts.
        known_at: since when it was known.
        retracted: it takes the record back.
        hidden_on: from this day on no read shows it; None is never.
    """

    version: int
    month: int
    known_at: datetime
    retracted: bool
    hidden_on: int | None


@dataclass(frozen=True, slots=True)
class Marked:
    """A dispute that readers are told of, with the versions of its record.

    Args:
        mark: without a month.
        versions: those that are stored.
    """

    mark: Mark
    versions: Sequence[VersionRead]

    def seen(self, as_of: datetime, today: int, first: int, last: int) -> Mark | None:
        """Return what a read is told, if the record counts in it.

        The dispute stands now, whatever the read's time: what is doubted today is doubtful in a
        summary of the past, too.

        Args:
            as_of: records known by then are read.
            today: those that are hidden on this day are not.
            first: month from which on is read, yyyymm.
            last: month, included.
        """
        known = [each for each in self.versions if each.known_at <= as_of]
        newest = max(known, key=lambda each: each.version, default=None)
        if newest is None or newest.retracted or not first <= newest.month <= last:
            return None
        if newest.hidden_on is not None and newest.hidden_on <= today:
            return None
        return replace(self.mark, month=newest.month)


def check_target(target: Target, newest: Newest | None, today: int, fields: frozenset[str]) -> int:
    """Return the version that is disputed.

    Args:
        target: what is disputed.
        newest: the record's newest version, if the caller's firm has such a record.
        today: days since 1970-01-01 in China.
        fields: of the payload.

    Raises:
        NotFoundError: NOT_FOUND, there is no such record, or no read shows it.
        InvalidArgumentError: FIELD_INVALID, the payload has no such field.
    """
    if newest is None or not newest.is_read(today):
        raise NotFoundError(
            "NOT_FOUND",
            "there is no such record of yours that anybody can read: check provider_id, "
            "record_type and provider_record_id against the page of facts",
        )
    if target.field and target.field not in fields:
        problem = (
            f"is no field of {target.record_type}: name one of {', '.join(sorted(fields))}, or "
            "leave it out for the whole record"
        )
        raise invalid_field("FIELD_INVALID", "field", problem)
    return newest.version


def advance(dispute: Dispute, step: Step, now: datetime) -> Dispute:
    """Return a dispute after a step, still with the words that it had.

    Raises:
        FailedPreconditionError: DISPUTE_STATE.
    """
    state = TRANSITIONS.get((dispute.state, step))
    if state is None:
        allowed = [str(each) for at, each in TRANSITIONS if at is dispute.state]
        remedy = f"what can be done is: {', '.join(allowed)}" if allowed else "open another one"
        raise FailedPreconditionError(
            "DISPUTE_STATE", f"the dispute is {dispute.state}, which this does not change: {remedy}"
        )
    if step is Step.STATE:
        return dispute
    # Whoever was kept from both by a release under way is still to be found.
    stage = Stage.LATECOMERS if dispute.stage is Stage.LATECOMERS else None
    return replace(dispute, state=state, closed_at=now, stage=stage)


def check_evidence(step: Step, evidence: str) -> None:
    """Refuse to stand by a record without saying why.

    Args:
        step: the answer.
        evidence: as the provider names it.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    if step is Step.UPHOLD and not evidence.strip():
        problem = "is needed with UPHELD: name what you rely on, e.g. a document's number and hash"
        raise invalid_field("FIELD_INVALID", "evidence", problem)


def check_corrected(dispute: Dispute, newest: Newest, *, repeats: bool) -> None:
    """Refuse to call corrected what is not.

    Args:
        dispute: about a record that is read.
        newest: the record's newest version.
        repeats: it says the same in the disputed field as the version that is disputed.

    Raises:
        FailedPreconditionError: DISPUTE_STATE.
    """
    problem = ""
    if newest.version <= dispute.version:
        problem = f"the record is still at version {dispute.version}, which is disputed"
    elif repeats and dispute.reason is DisputeReason.WRONG_VALUE:
        field = dispute.target.field
        problem = f"version {newest.version} says the same in {field}, which is disputed"
    if problem:
        raise FailedPreconditionError(
            "DISPUTE_STATE",
            f"{problem}: push the corrected version or the retraction first, then answer",
        )


def check_room(standing: int) -> None:
    """Refuse that readers are told of still another dispute.

    Args:
        standing: of how many about the firm they are told.

    Raises:
        FailedPreconditionError: DISPUTE_STATE.
    """
    if standing >= MOST_STANDING:
        raise FailedPreconditionError(
            "DISPUTE_STATE",
            f"readers are told of {standing} disputes of yours, which is the most: dispute whole "
            "records, take some back, or take away the statements of some that were upheld",
        )


def after_telling(dispute: Dispute) -> Dispute:
    """Return a dispute of which its stage was told."""
    stage = None
    if dispute.state is not DisputeState.OPEN:
        return replace(dispute, stage=None)
    if dispute.stage is Stage.LATECOMERS:
        stage = Stage.REMINDER
    elif dispute.stage is Stage.REMINDER:
        stage = Stage.OVERDUE
    elif dispute.stage is Stage.OVERDUE and dispute.deadlines.correction_due_at:
        stage = Stage.CORRECTION_OVERDUE
    return replace(dispute, stage=stage)


def rescheduled(dispute: Dispute, due: Deadlines, now: datetime) -> Dispute:
    """Return a dispute with other deadlines; what was told of an earlier one is told again.

    Args:
        dispute: that nobody answered.
        due: the other deadlines.
        now: the time.
    """
    moved = replace(dispute, deadlines=due)
    stages = list(Stage)
    told = stages[: stages.index(dispute.stage)] if dispute.stage else stages
    for stage in told:
        again = replace(moved, stage=stage)
        if again.told_next_at is not None and again.told_next_at > now:
            return again
    return moved


def content(dispute: Dispute, step: str, at: datetime, by: Mapping[str, str]) -> dict[str, Json]:
    """Return what the leaf of a step attests.

    Args:
        dispute: as it is after the step.
        step: what happened.
        at: when.
        by: who did it, as field names and ids.
    """
    return {
        **by,
        "answer": dispute.answer,
        "answer_due_at": rfc3339(dispute.deadlines.answer_due_at),
        "at": rfc3339(at),
        "dispute_id": dispute.dispute_id,
        "evidence": dispute.evidence,
        "field": dispute.target.field,
        "provider_id": dispute.target.provider_id,
        "provider_record_id": dispute.target.provider_record_id,
        "reason": dispute.reason,
        "record_type": dispute.target.record_type,
        "state": dispute.state,
        "statement": dispute.statement,
        "step": step,
        "subject_id": dispute.subject_id,
        "version": dispute.version,
    }


def no_dispute() -> NotFoundError:
    """Return the error of a dispute that is not there, or not the caller's."""
    return NotFoundError(
        "NOT_FOUND", "there is no such dispute of yours: `ListDisputes` names those that there are"
    )
