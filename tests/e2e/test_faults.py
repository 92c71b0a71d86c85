"""The platform killed in the middle of a push, and ended while calls run."""

import asyncio
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, date, datetime, timedelta
from json import loads
from pathlib import Path

import grpc
import pytest

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import Client, records
from puhui_client.errors import PuhuiError
from tests.e2e.platforms import Process, started
from tests.e2e.town import USCC

ROWS, BATCH = 4_000, 80


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with started(Process(tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A platform that is left alone."""
    with started(Process(tmp_path_factory.mktemp("running"))) as made:
        yield made


def invoices() -> Iterator[Record]:
    for number in range(ROWS):
        yield records.vat_invoice(
            record_id=f"output:{number:08}",
            uscc=USCC,
            occurred=date(2024, 1, 1) + timedelta(days=number % 700),
            obtained_at=datetime(2026, 1, 1, tzinfo=UTC),
            number=f"{number:08}",
            side="output",
            net="100.00",
            tax="13.00",
            gross="113.00",
            counterparty=f"客户{number % 50}",
        )


def stored(folder: Path) -> tuple[int, int]:
    """Rows of records, and different ones among them."""
    with sqlite3.connect(folder / "datashare.db") as database:
        found: tuple[int, int] = database.execute(
            "SELECT count(*), count(DISTINCT provider_record_id) FROM record"
        ).fetchone()
    return found


async def test_a_kill_in_the_middle_of_a_push_loses_nothing_and_doubles_nothing(
    process: Process,
) -> None:
    acked = asyncio.Event()
    async with process.provider() as tax:
        pushing = asyncio.create_task(
            tax.push(
                invoices(),
                delivery_id="d-1",
                historical=True,
                batch_size=BATCH,
                on_ack=lambda ack: acked.set() if ack.sequence >= 5 else None,
            )
        )
        await acked.wait()
        await asyncio.to_thread(process.end, signal.SIGKILL)
        assert not pushing.done()
        kept, _ = stored(process.folder)
        await asyncio.to_thread(process.start)
        report = await pushing
        assert BATCH * 5 <= kept < ROWS
        assert (report.sent, report.accepted, report.duplicate) == (ROWS, ROWS, 0)
        assert report.reconnects >= 1
        again = await tax.push(invoices(), delivery_id="d-2", historical=True)
    assert (again.accepted, again.duplicate) == (0, ROWS)
    assert stored(process.folder) == (ROWS, ROWS)


async def test_a_new_push_of_the_same_rows_after_a_kill_finishes_the_job(process: Process) -> None:
    acked = asyncio.Event()
    async with process.provider() as tax:
        pushing = asyncio.create_task(
            tax.push(
                invoices(),
                historical=True,
                batch_size=BATCH,
                patience=0,
                on_ack=lambda ack: acked.set() if ack.sequence >= 3 else None,
            )
        )
        await acked.wait()
        await asyncio.to_thread(process.end, signal.SIGKILL)
        with pytest.raises(PuhuiError) as lost:
            await pushing
        assert lost.value.reason == "UNAVAILABLE"
        await asyncio.to_thread(process.start)
        report = await tax.push(invoices(), historical=True)
    assert report.accepted + report.duplicate == report.sent == ROWS
    assert report.duplicate >= BATCH * 3
    assert stored(process.folder) == (ROWS, ROWS)


async def test_sigterm_ends_with_0_and_new_calls_are_refused(process: Process) -> None:
    key = (process.folder / "operator.key").read_text().strip()
    async with Client(process.gateway, key) as operator:
        assert (await operator.whoami()).participant_id == "operator"
        assert await asyncio.to_thread(process.end, signal.SIGTERM) == 0
        assert not (process.folder / "endpoints.json").exists()
        async with grpc.aio.insecure_channel(process.gateway) as channel:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(channel.channel_ready(), 0.5)


async def test_only_its_owner_can_read_what_a_platform_writes(running: Process) -> None:
    async with running.provider():
        kept = [path for path in running.folder.rglob("*") if path.name != "log"]
    assert {path.name for path in kept} >= {"datashare.db", "scoring.db", "endpoints.json"}
    assert [path.name for path in kept if path.stat().st_mode & 0o077] == []


def test_a_platform_says_where_it_serves(running: Process) -> None:
    lines = [loads(line) for line in (running.folder / "log").read_text().splitlines()]
    (said,) = (line for line in lines if line["event"] == "serving")
    http = loads((running.folder / "endpoints.json").read_text())["http"]
    assert (said["gateway"], said["http"]) == (running.gateway, f"http://{http}")


def test_taken_addresses_are_named_and_another_platform_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text("another's")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PUHUI_")}
    with ExitStack() as held:
        for port in (7443, 7480):
            with suppress(OSError):  # taken by somebody else will do
                held.enter_context(socket.create_server(("127.0.0.1", port)))
        done = subprocess.run(
            [sys.executable, "-m", "services", "all", "--data-dir", str(tmp_path)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    for address, key in (("7443", "PLAIN_LISTEN"), ("7480", "PLAIN_HTTP_LISTEN")):
        assert f"127.0.0.1:{address} cannot be listened on" in done.stderr
        assert f"set PUHUI_GATEWAY_{key} to another address" in done.stderr
    assert (tmp_path / "endpoints.json").read_text() == "another's"
    assert not (tmp_path / "datashare.db").exists()
