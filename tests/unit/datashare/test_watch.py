"""The rules of the watch: properties that hold for all accesses, and a file that is checked."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.china import CHINA
from services.datashare.watch.domain import (
    Key,
    Name,
    Notes,
    Seen,
    is_dummy,
    judge,
    note,
    runs,
    usual,
)
from services.datashare.watch.loader import WatchError, load

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
RULES = load()


class EveryDay:
    def is_working(self, day: date) -> tuple[bool, bool]:
        return True, True


_SEEN = st.builds(
    Seen,
    access_id=st.uuids().map(str),
    at=st.integers(0, 10 * 86_400).map(lambda seconds: BEGIN + timedelta(seconds=seconds)),
    recipient_id=st.sampled_from(["par_a", "par_b"]),
    subject_id=st.sampled_from(["", "sub_1", "sub_2", "sub_3"]),
    purpose=st.sampled_from(["credit_application", "portfolio_review"]),
    refusal_reason=st.sampled_from(["", "NOT_FOUND", "CONSENT_EXPIRED"]),
    officer=st.sampled_from(["", "Wang", "Li"]),
    file_reference=st.sampled_from(["", "test", "A-1", "A-2"]),
)


def together(parts: list[Notes]) -> tuple[dict[Key, int], dict[Key, set[str]]]:
    counts: dict[Key, int] = {}
    seen: dict[Key, set[str]] = {}
    for part in parts:
        for key, number in part.counts.items():
            counts[key] = counts.get(key, 0) + number
        for key, firms in part.seen.items():
            seen.setdefault(key, set()).update(firms)
    return counts, seen


@given(st.lists(_SEEN, max_size=40), st.integers(1, 7))
def test_counts_do_not_depend_on_how_accesses_are_cut(accesses: list[Seen], size: int) -> None:
    whole = note(accesses, RULES, EveryDay())
    parts = [
        note(accesses[at : at + size], RULES, EveryDay()) for at in range(0, len(accesses), size)
    ]
    assert together(parts) == (whole.counts, whole.seen)


@given(st.lists(_SEEN, max_size=40), st.integers(1, 7))
def test_runs_do_not_depend_on_how_accesses_are_cut(accesses: list[Seen], size: int) -> None:
    rule = load(text=_text("threshold = 20\n", "threshold = 3\n"))[Name.REFUSED_RUN]
    mine = [seen._replace(recipient_id="par_a") for seen in accesses]
    length, found = runs(0, mine, rule)
    so_far, raised = 0, dict[Key, float]()
    for at in range(0, len(mine), size):
        so_far, more = runs(so_far, mine[at : at + size], rule)
        for key, finding in more.items():
            raised[key] = max(finding.observed, raised.get(key, 0))
    assert so_far == length
    assert raised == {key: finding.observed for key, finding in found.items()}


@given(st.lists(_SEEN, max_size=40))
def test_nothing_that_is_counted_names_an_officer_a_file_or_a_firm(accesses: list[Seen]) -> None:
    notes = note(accesses, RULES, EveryDay())
    said = f"{list(notes.counts)} {notes.seen}"
    assert not any(name in said for name in ("Wang", "A-1", "A-2", "sub_"))


@given(st.sampled_from(list(Name)), st.integers(1_577_836_800, 2_208_988_800))
def test_a_window_holds_its_times_and_begins_in_step_with_china(name: Name, seconds: int) -> None:
    rule, at = RULES[name], datetime.fromtimestamp(seconds, UTC)
    begin, end = rule.span(rule.since(at))
    assert begin <= at < end
    there = begin.astimezone(CHINA)
    midnight = there.replace(hour=0, minute=0, second=0, microsecond=0)
    assert (there - midnight) % rule.window == timedelta()


@pytest.mark.parametrize("name", [name for name in Name if name is not Name.VOLUME_PAST])
@given(st.integers(0, 50_000))
def test_a_rule_begins_at_its_threshold(name: Name, number: int) -> None:
    rule = RULES[name]
    found = judge(rule, Key(name, "par_a", 0), number, {})
    assert (found is not None) == (number >= rule.threshold)


@given(
    st.dictionaries(st.integers(0, 27), st.integers(1, 10_000), max_size=28), st.integers(0, 99_999)
)
def test_volume_is_held_against_the_mean_of_busiest_hours(
    days: dict[int, int], number: int
) -> None:
    rule = RULES[Name.VOLUME_PAST]
    busy = {day * 86_400: most for day, most in days.items()}
    busy |= {day * 86_400 + 3_600: 1 for day in days}
    found = judge(rule, Key(rule.name, "par_a", 28 * 86_400), number, busy)
    if len(days) < 5:
        assert usual(busy) is None
        assert found is None
    else:
        mean = sum(days.values()) / len(days)
        assert (found is not None) == (number >= max(rule.least, rule.threshold * mean))


@pytest.mark.parametrize(
    ("reference", "dummy"),
    [
        ("", True),
        ("  ", True),
        ("-", True),
        ("0000", True),
        ("x x x", True),
        ("Test", True),
        ("N/A", True),
        ("无", True),
        ("暂 无", True),
        ("A1", False),
        ("LOAN-2026-7", False),
        ("贷2026", False),
    ],
)
def test_references_that_say_nothing(reference: str, *, dummy: bool) -> None:
    assert is_dummy(reference, RULES[Name.NO_FILE].dummies) is dummy


def _text(old: str = "", new: str = "") -> str:
    from importlib import resources

    text = resources.files("services.datashare.watch").joinpath("watch.toml").read_text("utf-8")
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[officer_sweep]", "[officer_swep]", "officer_swep"),
        ("threshold = 60", "threshold = 0", "officer_sweep.threshold"),
        ("threshold = 60", "", "officer_sweep"),
        ("window = 3600", "window = 3601", "window"),
        ('begins = "07:30"', 'begins = "25:30"', "outside_hours.begins"),
        ('severity = "GRAVE"', 'severity = "BAD"', "severity"),
        ('"NOT_YOURS"', '"NOT_FOUND"', "probing.calls"),
        ("days = 28", "days = 0", "volume_past.days"),
        ("days = 28", "days = ", "watch.toml"),
    ],
)
def test_a_wrong_file_is_refused_by_name(old: str, new: str, named: str) -> None:
    with pytest.raises(WatchError, match=named):
        load(text=_text(old, new))


def test_a_rule_that_is_left_out_is_off() -> None:
    text = _text()
    assert set(load(text=text[: text.index("[officer_sweep]")])) == set(Name) - {
        Name.OFFICER_SWEEP,
        Name.PROBING,
    }
