"""Disputes: transitions, deadlines over China's holidays, and what readers are told."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.china import CHINA, china_day
from services.datashare.disputes.domain import (
    ACTORS,
    ANSWERS,
    PROFILES,
    TRANSITIONS,
    Dispute,
    DisputeReason,
    DisputeState,
    Mark,
    Marked,
    Newest,
    Stage,
    Step,
    Target,
    VersionRead,
    advance,
    after_telling,
    check_corrected,
    deadlines,
)
from services.datashare.disputes.working_days import ChinaCalendar
from services.kit.errors import FailedPreconditionError

CALENDAR = ChinaCalendar()
NOW = datetime(2026, 5, 1, 3, tzinfo=UTC)
FINAL = {DisputeState.CORRECTED, DisputeState.CLOSED}


def opened(at: datetime = NOW, profile: str = "standard") -> Dispute:
    return Dispute(
        dispute_id="dis_1",
        subject_id="sub_1",
        target=Target("par_court", "court_case", "2024-17", "amount"),
        version=2,
        reason=DisputeReason.WRONG_VALUE,
        statement="Wrong.",
        state=DisputeState.OPEN,
        opened_at=at,
        deadlines=deadlines(PROFILES[profile], at, CALENDAR),
    )


def noon(day: str) -> datetime:
    return datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=CHINA)


def last_day(due: datetime | None) -> str:
    """The day at whose end something is due."""
    assert due is not None
    assert due.utcoffset() == timedelta()
    there = due.astimezone(CHINA)
    assert (there.hour, there.minute, there.second, there.microsecond) == (0, 0, 0, 0)
    return (there.date() - timedelta(days=1)).isoformat()


@pytest.mark.parametrize(
    ("day", "working"),
    [
        ("2026-02-13", True),
        ("2026-02-14", True),  # a Saturday, worked for the Spring Festival
        *((f"2026-02-{day}", False) for day in range(15, 24)),
        ("2026-02-24", True),
        ("2026-02-28", True),  # a Saturday, worked
        ("2026-03-07", False),  # a Saturday as any other
        ("2026-10-01", False),
        ("2026-10-10", True),  # a Saturday, worked for the National Day
    ],
)
def test_working_days_as_the_state_council_published_them(day: str, working: bool) -> None:
    assert CALENDAR.is_working(date.fromisoformat(day)) == (working, True)


def test_past_the_last_published_year_weekdays_are_a_guess() -> None:
    assert CALENDAR.is_working(date(2099, 1, 5)) == (True, False)
    assert CALENDAR.is_working(date(2099, 1, 4)) == (False, False)


def test_twenty_days_are_twenty_days_of_the_calendar() -> None:
    due = deadlines(PROFILES["standard"], noon("2026-02-10"), CALENDAR)
    assert last_day(due.answer_due_at) == "2026-03-02"
    assert last_day(due.remind_at) == "2026-02-25"
    assert due.correction_due_at is None
    assert not due.provisional


@pytest.mark.parametrize(
    ("opens", "remind", "answer", "correct"),
    [
        # Over the Spring Festival, with both Saturdays worked for it.
        ("2026-02-12", "2026-02-25", "2026-02-26", "2026-02-28"),
        ("2026-02-17", "2026-02-27", "2026-02-28", "2026-03-03"),  # opened in the holidays
        ("2026-03-02", "2026-03-06", "2026-03-09", "2026-03-11"),  # an ordinary week
        ("2026-09-29", "2026-10-10", "2026-10-12", "2026-10-14"),
    ],
)
def test_strict_deadlines_count_working_days(
    opens: str, remind: str, answer: str, correct: str
) -> None:
    due = deadlines(PROFILES["strict"], noon(opens), CALENDAR)
    assert last_day(due.remind_at) == remind
    assert last_day(due.answer_due_at) == answer
    assert last_day(due.correction_due_at) == correct
    assert not due.provisional


def test_a_deadline_in_a_year_that_is_not_published_is_provisional() -> None:
    assert deadlines(PROFILES["strict"], noon("2098-12-30"), CALENDAR).provisional
    assert not deadlines(PROFILES["standard"], noon("2098-12-30"), CALENDAR).provisional


def test_the_day_of_opening_is_china_s() -> None:
    late = datetime(2026, 3, 2, 16, 30, tzinfo=UTC)  # the third, in Beijing
    due = deadlines(PROFILES["strict"], late, CALENDAR)
    assert last_day(due.answer_due_at) == "2026-03-10"


@given(st.lists(st.sampled_from(Step), max_size=12), st.text(max_size=3))
def test_any_steps_follow_the_table(steps: list[Step], statement: str) -> None:
    """Against a reference that knows the rules in words, not the table."""
    dispute = replace(opened(), statement=statement)
    now = NOW
    for step in steps:
        now += timedelta(hours=1)
        allowed = {
            DisputeState.OPEN: set(Step),
            DisputeState.UNVERIFIABLE: set(Step) - {Step.LEAVE_UNVERIFIED},
            DisputeState.UPHELD: {Step.STATE, Step.CORRECT},
        }.get(dispute.state, set())
        if step not in allowed:
            with pytest.raises(FailedPreconditionError) as refused:
                advance(dispute, step, now)
            assert refused.value.reason == "DISPUTE_STATE"
            continue
        after = advance(dispute, step, now)
        if step is Step.STATE:
            assert after == dispute
        else:
            assert (after.closed_at, after.stage) == (now, Stage.LATECOMERS)
            assert advance(after_telling(dispute), step, now).told_next_at is None
            assert after_telling(after).told_next_at is None
            assert after.state in set(DisputeState) - {DisputeState.OPEN}
        assert after.marked == (
            after.state in {DisputeState.OPEN, DisputeState.UNVERIFIABLE}
            or (after.state is DisputeState.UPHELD and statement != "")
        )
        dispute = after


def test_the_table_is_whole() -> None:
    assert {state for state, _ in TRANSITIONS} == set(DisputeState) - FINAL
    assert set(ACTORS) == {step for _, step in TRANSITIONS} == set(Step)
    for state, step in ANSWERS.items():
        assert TRANSITIONS[DisputeState.OPEN, step] is state


@pytest.mark.parametrize(
    ("version", "repeats", "reason", "fine"),
    [
        (2, True, DisputeReason.WRONG_VALUE, False),
        (2, False, DisputeReason.OUTDATED, False),
        (3, False, DisputeReason.WRONG_VALUE, True),
        (3, True, DisputeReason.WRONG_VALUE, False),
        # What was settled since may say so in another field.
        (3, True, DisputeReason.SETTLED, True),
    ],
)
def test_corrected_needs_something_newer_that_is_not_the_same(
    version: int, repeats: bool, reason: DisputeReason, fine: bool
) -> None:
    dispute = replace(opened(), reason=reason)
    newest = Newest(version, retracted=False, hidden_on=None)
    if fine:
        check_corrected(dispute, newest, repeats=repeats)
        return
    with pytest.raises(FailedPreconditionError, match="push the corrected version"):
        check_corrected(dispute, newest, repeats=repeats)


def test_what_was_taken_back_or_is_hidden_is_read_by_nobody() -> None:
    assert Newest(2, retracted=False, hidden_on=None).is_read(100)
    assert Newest(2, retracted=False, hidden_on=101).is_read(100)
    assert not Newest(2, retracted=False, hidden_on=100).is_read(100)
    assert not Newest(2, retracted=True, hidden_on=None).is_read(100)


def test_stages_are_told_in_their_order_and_end() -> None:
    for profile, stages in (
        ("standard", [Stage.LATECOMERS, Stage.REMINDER, Stage.OVERDUE]),
        ("strict", [Stage.LATECOMERS, Stage.REMINDER, Stage.OVERDUE, Stage.CORRECTION_OVERDUE]),
    ):
        dispute, told, times = opened(profile=profile), [], []
        while dispute.stage is not None:
            assert dispute.told_next_at is not None
            told.append(dispute.stage)
            times.append(dispute.told_next_at)
            dispute = after_telling(dispute)
        assert told == stages
        assert times == sorted(times)
        assert dispute.told_next_at is None


VERSIONS = st.lists(
    st.builds(
        VersionRead,
        version=st.integers(1, 5),
        month=st.integers(202401, 202406),
        known_at=st.integers(0, 5).map(lambda days: NOW + timedelta(days=days)),
        retracted=st.booleans(),
        hidden_on=st.sampled_from([None, china_day(NOW), china_day(NOW) + 9]),
    ),
    max_size=5,
    unique_by=lambda each: each.version,
)


@given(VERSIONS, st.integers(-1, 6), st.integers(202401, 202406), st.integers(0, 9))
def test_a_mark_is_seen_where_the_record_counts(
    versions: list[VersionRead], days: int, first: int, later: int
) -> None:
    as_of, today = NOW + timedelta(days=days), china_day(NOW) + later
    mark = Mark("dis_1", "court_case", "par_court", 0, "", DisputeState.OPEN, "")
    seen = Marked(mark, versions).seen(as_of, today, first, 202405)
    known = {each.version: each for each in versions if each.known_at <= as_of}
    counts = known[max(known)] if known else None
    if (
        counts is None
        or counts.retracted
        or not first <= counts.month <= 202405
        or (counts.hidden_on is not None and counts.hidden_on <= today)
    ):
        assert seen is None
    else:
        assert seen == replace(mark, month=counts.month)
