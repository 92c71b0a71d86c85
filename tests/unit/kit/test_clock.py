from datetime import UTC, datetime, timedelta

from services.kit.clock import FixedClock, SystemClock


def test_the_machines_time_is_aware_and_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def test_a_fixed_clock_moves_only_when_it_is_moved() -> None:
    clock = FixedClock(datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC))
    assert clock.now() == clock.now()
    clock.advance(timedelta(seconds=1))
    assert clock.now() == datetime(2026, 3, 1, tzinfo=UTC)
