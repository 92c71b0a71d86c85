"""Migrations leave the same tables in SQLite and PostgreSQL, and the tables that are declared."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.kit import migrations
from services.kit.db import Database

ENV = """
import sqlalchemy as sa
from services.kit.db import UtcTime, money_columns
from services.kit.migrations import run_environment

names = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
}
metadata = sa.MetaData(naming_convention=names)
sa.Table(
    "things",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Column("number", sa.Integer, nullable=False, server_default="0"),
    sa.Column("body", sa.LargeBinary),
    sa.Column("big", sa.BigInteger().with_variant(sa.Integer, "sqlite"), unique=True),
    *money_columns("price"),
)
sa.Table(
    "parts",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("thing", sa.ForeignKey("things.id"), nullable=False),
)
MORE
run_environment(metadata)
"""
CHANGED = """
metadata.tables["things"].append_column(sa.Column("note", sa.String))
metadata.tables["things"].c.number.type = sa.BigInteger()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with its first migration, written by `revise`."""
    folder = tmp_path / "100% tree"
    folder.mkdir()
    (folder / "env.py").write_text(ENV.replace("MORE", ""))
    migrations.revise(folder, "Create the tables")
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'migrated.db'}"
    create: Callable[[], str] = request.getfixturevalue("new_postgres_url")
    return create()


async def test_an_upgrade_leaves_the_declared_tables(url: str, tree: Path) -> None:
    assert migrations.current(url) is None
    assert migrations.differences(url, tree) != []
    migrations.upgrade(url, tree)  # although an event loop is running
    assert migrations.current(url) == migrations.head(tree)
    assert migrations.differences(url, tree) == []
    migrations.upgrade(url, tree)


async def test_a_later_migration_keeps_rows(url: str, tree: Path) -> None:
    migrations.upgrade(url, tree)
    db = Database.open(url)
    async with db.begin() as conn:
        at = "0" if db.dialect == "sqlite" else "now()"
        await conn.execute(
            sa.text(
                "INSERT INTO things (id, at, price_minor, price_currency) "
                f"VALUES ('a', {at}, 1, 'CNY')"
            )
        )
        await conn.execute(sa.text("INSERT INTO parts VALUES ('p', 'a')"))
    await db.close()
    (tree / "env.py").write_text(ENV.replace("MORE", CHANGED))
    assert migrations.differences(url, tree) != []
    migrations.revise(tree, "Change things")
    migrations.upgrade(url, tree)
    assert migrations.differences(url, tree) == []
    async with db.read() as conn:
        row = (await conn.execute(sa.text("SELECT number, note FROM things"))).one()
        assert tuple(row) == (0, None)
        assert await conn.scalar(sa.text("SELECT count(*) FROM parts")) == 1
    await db.close()


async def test_a_failing_upgrade_leaves_nothing(url: str, tree: Path) -> None:
    (path,) = (tree / "versions").glob("*.py")
    text = path.read_text()
    nonsense = '    op.execute("SELECT nonsense FROM nowhere")\n'
    path.write_text(text.replace("\n\ndef downgrade", f"{nonsense}\n\ndef downgrade"))
    with pytest.raises(sa.exc.DBAPIError):
        migrations.upgrade(url, tree)
    assert migrations.current(url) is None
    path.write_text(text)
    migrations.upgrade(url, tree)
    assert migrations.differences(url, tree) == []


async def test_a_downgrade_takes_back_what_the_migration_added(url: str, tree: Path) -> None:
    migrations.upgrade(url, tree)
    first = migrations.head(tree)
    assert first
    (tree / "env.py").write_text(ENV.replace("MORE", CHANGED))
    migrations.revise(tree, "Change things")
    migrations.upgrade(url, tree)
    migrations.downgrade(url, tree, first)
    (tree / "env.py").write_text(ENV.replace("MORE", ""))
    assert migrations.current(url) == first
    assert migrations.differences(url, tree) == []


def test_upgrades_at_the_same_time_take_turns(url: str, tree: Path) -> None:
    start = threading.Barrier(3)

    def run() -> None:
        start.wait()
        migrations.upgrade(url, tree)

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(run) for _ in range(3)]:
            done.result()
    assert migrations.differences(url, tree) == []


def test_nothing_to_revise_is_said(tree: Path) -> None:
    with pytest.raises(ValueError, match="as the newest migration leaves them"):
        migrations.revise(tree, "nothing")
