"""Rotating the key of counterparties, on SQLite and PostgreSQL alike."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.datashare.counterparties.check import check
from services.datashare.counterparties.commands import rotate_counterparty_key
from services.datashare.counterparties.keyfile import KeyFile
from services.datashare.counterparties.store import Chains, chain
from services.datashare.main import MIGRATIONS
from services.datashare.records.tokens import TOKEN_BYTES, CounterpartyTokens
from services.datashare.schema import metadata
from services.kit.config import ConfigError
from services.kit.db import Database
from services.kit.errors import UnavailableError
from services.kit.migrations import downgrade, upgrade
from tests.conftest import CHECKOUT
from tests.contract.datashare.engines import Open, opener
from tests.fakes.dying_rotation import POINTS
from tests.fakes.named import (
    FIRMS,
    MATCHED,
    NAME,
    PARTIES,
    TAX,
    WAITING,
    Named,
    guarantees,
    hinted,
    invoices,
    rotation,
)

OLD, NEW, NEWER = (bytes([number]) * 32 for number in (0x0F, 0xA1, 0xB2))


class World:
    """A datashare with data, its key file, and where it is."""

    def __init__(self, url: str, database: Database, path: Path) -> None:
        self.url = url
        self.files = KeyFile(path)
        self.database = database
        self.named = Named(self.database, OLD)
        self.lines: list[str] = []

    async def rotate(self, key: bytes = NEW) -> bool:
        work = rotation(self.named, self.url, self.files, key)
        return await work.rotate(await work.amount())

    async def command(self, key: bytes = NEW, *, apply: bool = True) -> str:
        """Give the command; return what it says."""
        del self.lines[:]
        work = rotation(self.named, self.url, self.files, key)
        tell = self.lines.append
        await rotate_counterparty_key(work, self.files, tell, lambda: None, apply=apply)
        return "\n".join(self.lines)

    async def check(self) -> None:
        """What a start does."""
        tokens, clock = self.files.read(), self.named.clock
        await check(self.database, self.named.vault, self.files, tokens, clock)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest) -> tuple[str, Database]:
    """An empty database, and where it is."""
    if request.param == "sqlite":
        path, _ = request.getfixturevalue("shared_sqlite")
        return f"sqlite:///{path}", request.getfixturevalue("sqlite")
    return request.getfixturevalue("migrated_postgres_url"), request.getfixturevalue("postgres")


@pytest.fixture(params=["sqlite", "postgresql"])
def own_store(
    request: pytest.FixtureRequest, migrated_sqlite: Path, tmp_path: Path
) -> tuple[str, Database]:
    """One whose tables may be made other ones."""
    if request.param == "sqlite":
        path = tmp_path / "datashare.db"
        shutil.copy(migrated_sqlite, path)
        url = f"sqlite:///{path}"
    else:
        url = request.getfixturevalue("migrated_copy")(MIGRATIONS)
    return url, Database.open(url)


ON_POSTGRES = pytest.mark.parametrize("store", ["postgresql"], indirect=True)
"""Where SQLite's write lock would keep whoever starts waiting, for ten seconds."""


@asynccontextmanager
async def world_in(store: tuple[str, Database], folder: Path) -> AsyncIterator[World]:
    url, database = store
    key_path = folder / "keys" / "counterparty.key"
    key_path.parent.mkdir()
    key_path.write_text(OLD.hex())
    key_path.chmod(0o600)
    made = World(url, database, key_path)
    await made.check()
    yield made
    await made.database.close()


@pytest.fixture
async def world(store: tuple[str, Database], tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(store, tmp_path) as made:
        yield made


@pytest.fixture
async def own_world(own_store: tuple[str, Database], tmp_path: Path) -> AsyncIterator[World]:
    async with world_in(own_store, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def other_sqlite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Open]:
    """Where a second datashare may be, and what opens it."""
    path = tmp_path_factory.mktemp("other") / "datashare.db"
    return path, opener(f"sqlite:///{path}")


@pytest.fixture
async def other(other_sqlite: tuple[Path, Open], migrated_sqlite: Path) -> AsyncIterator[Database]:
    """A second database, empty."""
    path, open_other = other_sqlite
    for left in path.parent.iterdir():
        left.unlink()
    shutil.copy(migrated_sqlite, path)
    database = open_other()
    yield database
    await database.close()


async def under(keys: tuple[bytes, ...], database: Database, seed: int = 1) -> Named:
    """Return a datashare that had these keys from the start."""
    made = Named(database, *keys)
    await made.supply(seed)
    return made


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_all_is_as_if_the_keys_had_always_been_these(
    world: World, other: Database, seed: int
) -> None:
    await world.named.supply(seed)
    before, summaries = await world.named.stored(), await world.named.summaries()
    assert {row[2] for row in before["finding"]} == {"guarantee_circle", "invoice_under_two_firms"}
    assert len(before["waiting"]) == 1
    assert await world.rotate()
    assert await world.rotate(NEWER)
    assert world.files.read().keys == (OLD, NEW, NEWER)
    after = await world.named.stored()
    expected = await (await under((OLD, NEW, NEWER), other, seed)).stored()
    assert after == expected
    assert after["finding"] == before["finding"]
    assert await world.named.summaries() == summaries
    for name in ("record", "summary_counterparty", "quality_invoice", "quality_guarantee"):
        assert len(after[name]) == len(before[name])
        assert after[name] != before[name]


async def test_a_rebuild_and_another_look_change_nothing(world: World) -> None:
    await world.named.supply()
    await world.named.rebuild(lambda _: None)  # leaves no sums of nothing
    await world.rotate()
    rotated = Named(world.database, OLD, NEW, again=True)
    rotated.clock.advance(world.named.clock.now() - rotated.clock.now())
    stored, summaries = await rotated.stored(), await rotated.summaries()
    await rotated.looked_at_again()
    assert (await rotated.stored())["finding"] == stored["finding"]
    await rotated.rebuild(lambda _: None)
    assert await rotated.stored() == stored
    assert await rotated.summaries() == summaries


async def test_what_comes_in_later_is_about_the_same_parties(world: World) -> None:
    await world.named.supply()
    await world.rotate()
    rotated = Named(world.database, OLD, NEW, again=True)
    before = await rotated.stored()
    again = await rotated.submit(TAX, *invoices(1)[2:])
    assert (len(again.duplicates), len(again.accepted)) == (58, 0)
    assert len((await rotated.submit("par_lender", *guarantees())).duplicates) == 3
    held = await rotated.submit(TAX, hinted(MATCHED), hinted(WAITING))
    assert list(held.duplicates) == [0]
    assert [each.row for each in held.held] == [1]
    assert (await rotated.stored())["review"] == before["review"]
    await rotated.match(WAITING)
    parties = {row[4] for row in before["summary_counterparty"]}
    assert {row[4] for row in (await rotated.stored())["summary_counterparty"]} == parties


async def test_nothing_is_done_before_it_is_told(world: World) -> None:
    await world.named.supply()
    before = await world.named.stored()
    told = await world.command(apply=False)
    assert "1 key in use" in told
    assert "66 records, 1 rows that wait" in told
    assert "Do it with --apply" in told
    assert await world.named.stored() == before
    assert world.files.path.read_text() == OLD.hex()
    assert not world.files.next_path.exists()
    assert "the new keys are in" in await world.command()
    assert "2 keys in use" in await world.command(apply=False)


async def test_it_says_no_key_and_nobody(
    world: World, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    await world.named.supply()
    seen: list[str] = []
    work = rotation(world.named, world.url, world.files, NEW, lambda *said: seen.append(repr(said)))
    await rotate_counterparty_key(work, world.files, seen.append, lambda: None, apply=True)
    world.files.path.write_text(NEWER.hex())
    with pytest.raises(ConfigError) as refused:
        await world.check()
    told = "".join(seen) + str(refused.value) + "".join(capfd.readouterr()) + caplog.text
    assert "records" in told
    for secret in (*PARTIES, *FIRMS, NAME, OLD.hex(), NEW.hex(), NEWER.hex()):
        assert secret not in told
    for token in re.findall(r"[0-9a-f]{32}", told):
        pytest.fail(f"{token} looks like a key or a token")


class TestWhoElseIsThere:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Looks for others as often as ever, but not for two seconds."""
        monkeypatch.setattr("services.datashare.counterparties.rotation._LOOK_S", 0.01)

    async def test_datashare_that_runs_is_seen(self, world: World) -> None:
        await world.named.supply()
        before = await world.named.stored()
        running = Database.open(world.url)
        async with running.read() as conn:
            await conn.execute(sa.text("SELECT count(*) FROM record"))
        with pytest.raises(UnavailableError, match="datashare still runs on this database"):
            await world.rotate()
        await running.close()
        assert await world.named.stored() == before
        assert not world.files.next_path.exists()
        assert await world.rotate()

    @ON_POSTGRES
    async def test_datashare_does_not_start_beside_a_rotation(self, world: World) -> None:
        async with world.database.begin() as conn:
            assert await Chains(conn).alone(rotating=True)
            other = Database.open(world.url)
            with pytest.raises(ConfigError, match="is being rotated: start again once"):
                tokens, clock = CounterpartyTokens(OLD), world.named.clock
                await check(other, world.named.vault, world.files, tokens, clock)
            await other.close()

    @ON_POSTGRES
    async def test_one_that_came_meanwhile_ends_it(self, world: World) -> None:
        await world.named.supply()
        before = await world.named.stored()
        connected, ended = threading.Event(), threading.Event()

        async def run() -> None:
            other = Database.open(world.url)
            async with other.read() as conn:
                await conn.execute(sa.text("SELECT 1"))
                connected.set()
                await asyncio.to_thread(ended.wait)
            await other.close()

        running = threading.Thread(target=lambda: asyncio.run(run()))

        def progress(what: str, *_: int) -> None:
            if what == "names of firms":
                running.start()
                connected.wait()

        work = rotation(world.named, world.url, world.files, NEW, progress)
        with pytest.raises(UnavailableError, match="nothing was changed"):
            await work.rotate(await work.amount())
        ended.set()
        await asyncio.to_thread(running.join)
        assert await world.named.stored() == before
        await world.check()


class TestStart:
    async def test_an_empty_database_takes_the_files_keys(self, world: World) -> None:
        await world.check()
        world.files.path.write_text(NEW.hex())
        with pytest.raises(
            ConfigError, match=r"datashare.counterparty_key: .*does not hold .* with one key"
        ):
            await world.check()

    async def test_a_database_of_the_version_before_is_tried_first(self, world: World) -> None:
        await world.named.supply()
        async with world.database.begin() as conn:
            await conn.execute(sa.delete(chain))
        with pytest.raises(ConfigError, match="start datashare on it once"):
            await world.command()
        world.files.path.write_text(NEW.hex())
        with pytest.raises(ConfigError, match="does not hold the key that"):
            await world.check()
        world.files.path.write_text(OLD.hex())
        await world.check()
        await world.check()

    async def test_the_keys_are_compared_in_their_order(self, world: World) -> None:
        await world.rotate()
        await world.check()
        rotated = world.files.path.read_text()
        for content in (OLD.hex(), f"# keys\n{NEW.hex()}\n{OLD.hex()}\n"):
            world.files.path.write_text(content)
            with pytest.raises(ConfigError, match=r"does not hold .* with 2 keys"):
                await world.check()
            with pytest.raises(ConfigError, match="does not hold"):
                await world.command()
        world.files.path.write_text(rotated)
        await world.check()

    async def test_going_back_is_refused_once_there_are_two_keys(self, own_world: World) -> None:
        await own_world.rotate()
        await own_world.database.close()
        with pytest.raises(RuntimeError, match="restore the backup from before the rotation"):
            await asyncio.to_thread(downgrade, own_world.url, MIGRATIONS, "a50be41d8265")

    async def test_going_back_with_one_key(self, own_world: World) -> None:
        await own_world.database.close()
        await asyncio.to_thread(downgrade, own_world.url, MIGRATIONS, "a50be41d8265")
        await asyncio.to_thread(upgrade, own_world.url, MIGRATIONS)
        await own_world.check()


class TestFiles:
    async def test_a_key_that_an_operator_made_is_used(self, world: World) -> None:
        await world.named.supply()
        world.files.next_path.write_text(f"# oldest first\n{OLD.hex()}\n{NEWER.hex()}\n")
        assert await world.rotate(NEW)
        assert world.files.read().keys == (OLD, NEWER)

    async def test_one_that_is_of_other_keys_is_replaced(self, world: World) -> None:
        world.files.next_path.write_text(f"# oldest first\n{NEW.hex()}\n{NEWER.hex()}\n")
        assert await world.rotate(NEW)
        assert world.files.read().keys == (OLD, NEW)

    async def test_a_folder_that_cannot_be_written_needs_the_operator(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        # As in a pod, where the tests' user may be one whom nothing stops.
        monkeypatch.setattr(os, "replace", refused)
        monkeypatch.setattr(Path, "replace", refused)
        await world.named.supply()
        before = await world.named.stored()
        with pytest.raises(ConfigError, match=r"cannot be written .*: put it there yourself"):
            await world.command()
        assert await world.named.stored() == before
        content = f"# oldest first\n{OLD.hex()}\n{NEW.hex()}\n"
        world.files.next_path.write_text(content)
        assert "cannot be replaced here: put counterparty.key.next" in await world.command()
        assert await world.named.stored() != before
        with pytest.raises(ConfigError, match=r"were rotated, .* `mv .*next .*key`, or put it in"):
            await world.check()
        world.files.path.write_text(content)
        await world.check()


@dataclass(frozen=True)
class Dying:
    """Rotates in processes that are killed."""

    parent: subprocess.Popen[str]

    def rotate(self, world: World, key: bytes, point: str) -> None:
        """Rotate in a process that is killed at a point."""
        wanted = [world.url, str(world.files.path), key.hex(), point]
        assert self.parent.stdin is not None
        assert self.parent.stdout is not None
        self.parent.stdin.write(json.dumps(wanted) + "\n")
        self.parent.stdin.flush()
        # What the killed process says would stand before this.
        assert self.parent.stdout.readline() == f"{-signal.SIGKILL}\n", point


@pytest.fixture(scope="module")
def dying() -> Iterator[Dying]:
    command = [sys.executable, "-m", "tests.fakes.dying_rotation"]
    with subprocess.Popen(
        command,
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as parent:
        yield Dying(parent)
        told, _ = parent.communicate(timeout=60)
    assert (told, parent.returncode) == ("", 0)


async def test_killed_at_any_point_it_leaves_one_state(
    world: World, other: Database, dying: Dying
) -> None:
    await world.named.supply()
    old = await world.named.stored()
    new = await (await under((OLD, NEW), other)).stored()
    await world.database.close()
    stored = old
    for point in POINTS[:-1]:
        await asyncio.to_thread(dying.rotate, world, NEW, point)
        stored = await world.named.stored()
        if point != "after the commit":
            assert stored == old, point
            await world.check()
        await world.database.close()
    assert stored == new
    with pytest.raises(ConfigError, match=re.escape(f"`mv {world.files.next_path} ")):
        await world.check()
    assert "finish it with --apply" in await world.command(apply=False)
    assert "of before is finished" in await world.command()
    await world.check()
    assert await world.named.stored() == new
    assert world.files.read().keys == (OLD, NEW)
    assert not world.files.next_path.exists()
    await world.database.close()
    await asyncio.to_thread(dying.rotate, world, NEWER, POINTS[-1])
    await world.check()
    assert world.files.read().keys == (OLD, NEW, NEWER)


def test_it_is_known_of_every_column_that_may_hold_tokens() -> None:
    """A new one is to be carried by the rotation, or named here with the reason why not."""
    found = {
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, sa.LargeBinary)
        and (column.type.length == TOKEN_BYTES or re.search("token|payload|row", column.name))
    }
    carried = {
        *("record.payload", "review.content_token", "summary_counterparty.token"),
        *("quality_token.token", "quality_guarantee.token", "quality_guarantee.record"),
        *("quality_invoice.record", "quality_invoice.fingerprint"),
    }
    assert carried <= found
    others = {
        "subject.uscc_token",  # under a key of its own
        "leaf.salt",  # random
        "counterparty_chain.check_value",  # what the rotation changes at its end
    }
    assert found - carried == others
