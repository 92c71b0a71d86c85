"""How long notices are kept."""

from datetime import UTC, datetime

import pytest

from services.datashare.china import china_day
from services.datashare.notices.keeping import Keeping, KeepingError, load

NOW = datetime(2026, 5, 1, 8, 30, tzinfo=UTC)


def test_it_ends_with_a_day_in_china() -> None:
    ends = Keeping(1, 10).ends(china_day(NOW))
    assert ends == (datetime(2026, 4, 29, 16, tzinfo=UTC), datetime(2026, 4, 20, 16, tzinfo=UTC))


def test_the_rule_that_comes_with_it() -> None:
    keeping = load()
    assert 0 < keeping.dealt_with < keeping.longest


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dealt_with = 1 = 2", "keeping.toml: "),
        ("dealt_with = 1", "`longest` is missing"),
        ("dealt_with = 1\nlongest = 2\nmore = 3", "`more` is missing or unknown"),
        ("dealt_with = 0\nlongest = 2", "`dealt_with` should be a number of days"),
        ("dealt_with = 1\nlongest = true", "`longest` should be a number of days"),
        ("dealt_with = 3\nlongest = 2", "not be longer"),
    ],
)
def test_a_wrong_file_stops_the_service(text: str, problem: str) -> None:
    with pytest.raises(KeepingError, match=problem):
        load(text)
