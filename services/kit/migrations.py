"""Migrations: one Alembic tree per service, in `services/<service>/migrations/`.

A tree holds `versions/` and an `env.py` of three lines:

    from services.kit.migrations import run_environment
    from services.x.schema import metadata  # with every module imported that adds tables to it
    run_environment(metadata)

Invariants: a migration happens whole or not at all, forward and back. In PostgreSQL each is a
transaction, and one that moves many rows (`services.kit.partitions`) prepares that before in steps
which can be taken again; in SQLite an upgrade is one transaction. Processes that migrate at the
same time take turns. A migration only adds, so that programs of the version before go on writing
meanwhile. One on whose way back something is lost refuses it in `check_downgrade(connection)`, and
every one on the way is asked before the first goes. Nothing here needs or disturbs a running event
loop: the work is done in a thread of its own.

To write the next migration of a tree from what its tables have become:

    python -m services.kit.migrations services/datashare/migrations "add grants"
"""

import argparse
import asyncio
import re
import secrets
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import sqlalchemy as sa
from alembic import command, context
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.autogenerate.api import AutogenContext
from alembic.config import Config
from alembic.operations.ops import DowngradeOps, UpgradeOps
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from services.kit.db import UtcTime, async_url, postgresql_engine, sqlite_engine
from services.kit.partitions import is_partition

T = TypeVar("T")

_LOCK_KEY: Final = 0x7075_6875_69  # "puhui", for pg_advisory_lock
# Alembic keeps the environment that runs in a module's global.
_one_at_a_time = threading.Lock()

_TEMPLATE: Final = '''"""{message}."""

import sqlalchemy as sa
from alembic import op
{imports}
revision = "{revision}"
down_revision = {down}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    {body}


def downgrade() -> None:
    """Take it away."""
    {back}
'''


def upgrade(url: str, tree: Path, revision: str = "head") -> None:
    """Bring a database to a newer version of its tables; nothing happens when it is there.

    Args:
        url: as for `Database.open`.
        tree: the folder of `env.py` and `versions/`.
        revision: the version; the newest by default.
    """
    _migrate(url, tree, command.upgrade, revision)


def downgrade(url: str, tree: Path, revision: str) -> None:
    """Bring a database back to an older version of its tables.

    Args:
        url: as for `Database.open`.
        tree: the folder of `env.py` and `versions/`.
        revision: the version.

    Raises:
        RuntimeError: it holds what the older version cannot; nothing was changed.
    """

    def go_back(config: Config, target: str) -> None:
        connection: sa.Connection = config.attributes["connection"]
        here = MigrationContext.configure(connection).get_current_revision()
        for step in ScriptDirectory.from_config(config).iterate_revisions(here, target):
            check = getattr(step.module, "check_downgrade", None)
            if check is not None:
                check(connection)
        if connection.dialect.name == "postgresql":
            connection.rollback()  # each migration is a transaction of its own
        command.downgrade(config, target)

    _migrate(url, tree, go_back, revision)


def _migrate(url: str, tree: Path, migrate: Callable[[Config, str], None], revision: str) -> None:
    def run(connection: sa.Connection) -> None:
        config = _config(tree)
        config.attributes["connection"] = connection
        migrate(config, revision)
        if connection.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise RuntimeError(f"a migration broke foreign keys of {broken[0][0]}")

    _with_connection(url, run)


def current(url: str) -> str | None:
    """Return the version that a database has; None when it has no tables of ours."""
    return _with_connection(
        url, lambda connection: MigrationContext.configure(connection).get_current_revision()
    )


def head(tree: Path) -> str | None:
    """Return the newest version of a tree; None when it is empty.

    Raises:
        alembic.util.CommandError: the tree has more than one head.
    """
    return ScriptDirectory.from_config(_config(tree)).get_current_head()


def differences(url: str, tree: Path) -> list[str]:
    """Return how a migrated database differs from the tables that the program declares."""
    return [repr(difference) for difference in _with_environment(url, tree, compare_metadata)]


def revise(tree: Path, message: str) -> Path:
    """Write the migration from a tree's head to the tables that the program declares.

    Args:
        tree: the folder of `env.py` and `versions/`.
        message: what changes, in a few words.

    Returns:
        The new file, to be read and corrected before it is committed.

    Raises:
        ValueError: nothing has changed.
    """
    imports: set[str] = set()

    def render_item(kind: str, item: object, _autogen: AutogenContext) -> str | Literal[False]:
        if kind != "type" or not isinstance(item, UtcTime):
            return False
        imports.add("from services.kit.db import UtcTime")
        return "UtcTime()"

    def code_of(operations: UpgradeOps | DowngradeOps) -> str:
        code = render_python_code(operations, render_as_batch=True, render_item=render_item)
        return "\n".join(line for line in code.splitlines() if "###" not in line).strip()

    def render(migration: MigrationContext, metadata: sa.MetaData) -> tuple[str, str] | None:
        script = produce_migrations(migration, metadata)
        forward, back = script.upgrade_ops, script.downgrade_ops
        if forward is None or back is None or forward.is_empty():
            return None
        return code_of(forward), code_of(back)

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/revise.db"
        upgrade(url, tree)
        bodies = _with_environment(url, tree, render)
    if bodies is None:
        raise ValueError("the tables are as the newest migration leaves them")
    now = datetime.now(UTC)
    slug = re.sub(r"\W+", "_", message.lower()).strip("_")
    path = tree / "versions" / f"{now:%Y%m%d_%H%M}_{slug}.py"
    path.parent.mkdir(exist_ok=True)
    previous = head(tree)
    path.write_text(
        _TEMPLATE.format(
            message=message[:1].upper() + message[1:].rstrip("."),
            imports="".join(f"\n{line}\n" for line in imports),
            revision=secrets.token_hex(6),
            down="None" if previous is None else f'"{previous}"',
            body=bodies[0],
            back=bodies[1],
        ),
        encoding="utf-8",
    )
    return path


def run_environment(metadata: sa.MetaData) -> None:
    """Do what was asked of a tree; the last line of its `env.py`.

    Args:
        metadata: every table of the service.
    """
    connection: sa.Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transactional_ddl=True,
        transaction_per_migration=connection.dialect.name == "postgresql",
        include_object=_ours,
        render_as_batch=True,  # SQLite alters a table by making it anew
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _ours(thing: object, name: str | None, kind: str, reflected: bool, _compared: object) -> bool:
    """Leave partitions out of comparisons: their parent stands for them."""
    connection: sa.Connection = context.config.attributes["connection"]
    return not (kind == "table" and reflected and name and is_partition(connection, name))


def _config(tree: Path) -> Config:
    config = Config()
    config.set_main_option("script_location", str(tree).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _with_environment(
    url: str, tree: Path, action: Callable[[MigrationContext, sa.MetaData], T]
) -> T:
    """Return what `action` makes of a database and the tables that `env.py` declares."""

    def run(connection: sa.Connection) -> T:
        config = _config(tree)
        config.attributes["connection"] = connection
        results: list[T] = []

        def step(_revision: Any, migration: MigrationContext) -> list[Any]:
            results.append(action(migration, migration.opts["target_metadata"]))
            return []

        script = ScriptDirectory.from_config(config)
        with EnvironmentContext(config, script, fn=step, dont_mutate=True):
            script.run_env()
        return results[0]

    return _with_connection(url, run)


def _with_connection(url: str, action: Callable[[sa.Connection], T]) -> T:
    parsed = async_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"

    async def run() -> T:
        engine = sqlite_engine(parsed, "migration", 1) if sqlite else postgresql_engine(parsed, 1)
        try:
            if sqlite:
                async with engine.begin() as connection:
                    return await connection.run_sync(action)
            async with engine.connect() as connection:
                # Of the session: it outlasts the transactions of the migrations.
                await connection.execute(sa.select(sa.func.pg_advisory_lock(_LOCK_KEY)))
                await connection.commit()
                return await connection.run_sync(action)
        finally:
            await engine.dispose()

    with _one_at_a_time, ThreadPoolExecutor(1, thread_name_prefix="migrations") as thread:
        return thread.submit(lambda: asyncio.run(run())).result()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.kit.migrations")
    parser.add_argument("tree", type=Path, help="such as services/datashare/migrations")
    parser.add_argument("message", help="what changes, in a few words")
    arguments = parser.parse_args()
    print(revise(arguments.tree, arguments.message))  # noqa: T201 - a developer's command


if __name__ == "__main__":
    _main()
