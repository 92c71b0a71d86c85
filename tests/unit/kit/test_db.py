import pytest

from services.kit.db import async_url, is_conflict


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sqlite:///a/b.db", "sqlite+aiosqlite:///a/b.db"),
        ("sqlite+aiosqlite:////abs.db", "sqlite+aiosqlite:////abs.db"),
        ("postgresql://u:p@h/n", "postgresql+asyncpg://u:p@h/n"),
        ("postgresql+asyncpg://u:p@h:5/n", "postgresql+asyncpg://u:p@h:5/n"),
    ],
)
def test_urls_name_the_asynchronous_driver(given: str, used: str) -> None:
    assert async_url(given).render_as_string(hide_password=False) == used


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://u:hidden@h/n", "u:hidden@h", "sqlite://", "sqlite:///:memory:"]
)
def test_other_urls_are_refused_without_quoting_them(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///|needs a file") as caught:
        async_url(url)
    assert "hidden" not in str(caught.value)


def test_other_exceptions_are_no_lost_race() -> None:
    assert not is_conflict(ValueError("x"))
