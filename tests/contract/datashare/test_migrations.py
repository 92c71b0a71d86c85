"""The migrations make the tables that the stores declare, in both databases."""

from pathlib import Path

import pytest

from services.datashare.main import MIGRATIONS
from services.kit.migrations import current, differences, head, upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'datashare.db'}"
    fresh: str = request.getfixturevalue("fresh_postgres_url")
    return fresh


def test_a_migrated_database_is_as_declared(url: str) -> None:
    upgrade(url, MIGRATIONS)
    assert differences(url, MIGRATIONS) == []
    assert current(url) == head(MIGRATIONS)


def test_migrating_again_changes_nothing(url: str) -> None:
    upgrade(url, MIGRATIONS)
    upgrade(url, MIGRATIONS)
    assert differences(url, MIGRATIONS) == []
