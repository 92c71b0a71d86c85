"""Limits by calendar periods in China, and which releases are beyond them."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.datashare.china import CHINA, date_of_day
from services.datashare.quota.domain import LIFE, ONE_TIME, Limit, Unit, Wish, beyond, wanted

NOW = datetime(2026, 12, 31, 15, 59, 59, tzinfo=UTC)  # the last second of the year in China
UNITS = [Unit.DAY, Unit.MONTH, Unit.YEAR]


@pytest.mark.parametrize(
    ("unit", "now", "begins", "following"),
    [
        (Unit.DAY, NOW, date(2026, 12, 31), date(2027, 1, 1)),
        (Unit.DAY, NOW + timedelta(seconds=1), date(2027, 1, 1), date(2027, 1, 2)),
        (Unit.MONTH, NOW, date(2026, 12, 1), date(2027, 1, 1)),
        (Unit.MONTH, datetime(2024, 1, 31, 16, tzinfo=UTC), date(2024, 2, 1), date(2024, 3, 1)),
        (Unit.YEAR, NOW, date(2026, 1, 1), date(2027, 1, 1)),
        (Unit.YEAR, NOW + timedelta(seconds=1), date(2027, 1, 1), date(2028, 1, 1)),
    ],
)
def test_periods_are_those_of_the_calendar_in_china(
    unit: Unit, now: datetime, begins: date, following: date
) -> None:
    limit = Limit(3, unit)
    assert date_of_day(limit.period(now)) == begins
    assert limit.next_begins(now) == datetime(*following.timetuple()[:3], tzinfo=CHINA)


@given(
    st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC)),
    st.sampled_from(UNITS),
)
def test_the_next_period_begins_when_the_running_one_ends(now: datetime, unit: Unit) -> None:
    limit = Limit(1, unit)
    following = limit.next_begins(now)
    assert following is not None
    assert following > now
    assert limit.period(following) > limit.period(now)
    assert limit.period(following - timedelta(microseconds=1)) == limit.period(now)


def test_once_is_once_for_ever() -> None:
    assert ONE_TIME.period(NOW) == LIFE
    assert ONE_TIME.next_begins(NOW) is None


def test_of_many_at_once_the_last_ones_are_beyond() -> None:
    daily, once = Wish("s", "b", Limit(3, Unit.DAY)), Wish("s", "a", ONE_TIME)
    wishes = [daily, once, daily, daily, once]
    today = Limit(3, Unit.DAY).period(NOW)
    counts = wanted(wishes, NOW)
    assert counts == [(("s", "a", LIFE), 2), (("s", "b", today), 3)]
    first = dict(counts)
    assert beyond(wishes, first, NOW) == [False, False, False, False, True]
    later = {key: count + 2 for key, count in counts}
    assert beyond(wishes, later, NOW) == [False, True, True, True, True]


@given(st.integers(1, 5), st.lists(st.integers(1, 4), max_size=8))
def test_no_more_than_the_limit_and_no_fewer_are_within(times: int, batches: list[int]) -> None:
    wish = Wish("s", "c", Limit(times, Unit.MONTH))
    key, used, within = wish.key(NOW), 0, 0
    for size in batches:
        refused = beyond([wish] * size, {key: used + size}, NOW)
        assert refused == sorted(refused)
        used += size - sum(refused)
        within += size - sum(refused)
    assert within == min(times, sum(batches))
