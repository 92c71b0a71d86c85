"""A repair and an erasure, from the push to the database's file, through the gateway."""

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from puhui.datashare.v1.records_pb2 import Record
from puhui.datashare.v1.summaries_pb2 import SubjectSummary
from puhui_client import Client
from puhui_client.errors import PuhuiError
from services.cli.main import app
from services.datashare.china import china_date
from tests.e2e.platforms import Process, started
from tests.e2e.town import USCC

DOCUMENT = "京市监罚字〔2026〕第0815号"
TODAY = china_date(datetime.now(UTC))


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    with started(Process(tmp_path)) as made:
        yield made


@asynccontextmanager
async def members(process: Process) -> AsyncIterator[tuple[Client, Client, Client]]:
    """Give operator, department and bank."""
    key = (process.folder / "operator.key").read_text().strip()
    async with Client(process.gateway, key) as operator:
        department = await operator.register_participant(
            "PROVIDER", "Department", provider_kind="department"
        )
        bank = await operator.register_participant("BANK", "Bank")
        keys = [
            (await operator.issue_key(member.participant_id)).api_key
            for member in (department, bank)
        ]
        async with Client(process.gateway, keys[0]) as one, Client(process.gateway, keys[1]) as two:
            yield operator, one, two


def penalty(version: int = 1, repaired: date | None = None) -> Record:
    row = Record(provider_record_id="p1", record_type="penalty", version=version)
    row.subject.uscc = USCC
    decided = TODAY - timedelta(days=40)
    for message in (row.date, row.penalty.decided):
        message.year, message.month, message.day = decided.timetuple()[:3]
    row.obtained_at.FromDatetime(datetime.now(UTC))
    row.penalty.document_number = DOCUMENT
    row.penalty.kind, row.penalty.severity = "fine", "serious"
    if repaired is not None:
        at = row.penalty.repaired_at
        at.year, at.month, at.day = repaired.timetuple()[:3]
    return row


async def fetched(bank: Client, subject_id: str, as_of: datetime | None = None) -> SubjectSummary:
    answer = await bank.fetch_summary(
        subject_id,
        officer="王",
        file_reference="F-1",
        purpose="credit_application",
        record_types=["penalty"],
        as_of=as_of,
    )
    return answer.summary


def counted(summary: SubjectSummary) -> int:
    return sum(sum(series.record_counts) for series in summary.series)


def puhui(process: Process, *arguments: str) -> dict[str, Any]:
    command = [*arguments, "--json", "--data-dir", str(process.folder)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def holds(folder: Path, text: str) -> bool:
    files = folder.glob("datashare.db*")
    return any(text.encode() in file.read_bytes() for file in files)


async def test_what_was_repaired_is_gone_at_once_and_then_from_the_file(process: Process) -> None:
    async with members(process) as (_, department, bank):
        assert (await department.submit([penalty()])).accepted == [0]
        subject_id = await bank.resolve_subject(USCC)
        seen = await fetched(bank, subject_id)
        assert (counted(seen), seen.withheld) == (1, False)
        before = seen.as_of.ToDatetime(UTC)

        await department.submit([penalty(2, repaired=TODAY)])
        for as_of in (None, before):
            after = await fetched(bank, subject_id, as_of)
            assert (counted(after), after.withheld) == (0, True)
        assert holds(process.folder, DOCUMENT)

        plan = await asyncio.to_thread(puhui, process, "retention", "plan")
        (due,) = plan["due"]
        assert (due["record_type"], due["reason"], due["versions"]) == ("penalty", "repaired", "2")
        run = await asyncio.to_thread(
            puhui, process, "retention", "run", str(plan["plan_id"]), "--yes"
        )
        assert run["deleted"] == plan["due"]

        assert not holds(process.folder, DOCUMENT)
        for as_of in (None, before):
            after = await fetched(bank, subject_id, as_of)
            assert (counted(after), after.withheld) == (0, True)
        listed = await asyncio.to_thread(puhui, process, "retention", "runs")
        assert listed["runs"] == [run]

        command = [sys.executable, "-m", "services", "all", "rebuild-summaries", "--apply"]
        done = await asyncio.create_subprocess_exec(
            *command, "--data-dir", str(process.folder), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await done.communicate()
        assert "1 series folded anew" in said.decode()
        assert counted(await fetched(bank, subject_id)) == 0
    with sqlite3.connect(process.folder / "datashare.db") as database:
        leaves = database.execute("SELECT count(*) FROM leaf WHERE kind = 'retention'").fetchone()
    assert leaves == (1,)


async def test_nothing_of_an_erased_firm_is_left_in_the_file(process: Process) -> None:
    async with members(process) as (operator, department, bank):
        await department.submit([penalty()])
        subject_id = await bank.resolve_subject(USCC)
        before = (await fetched(bank, subject_id)).as_of.ToDatetime(UTC)
        planned = await operator.erase_subject(subject_id, "asked for")
        assert not planned.HasField("run")
        assert [(due.reason, due.records) for due in planned.due] == [("erased", 1)]
        done = await operator.erase_subject(subject_id, "asked for", confirm=True)
        assert done.run.subject_id == subject_id
        for as_of in (None, before):
            with pytest.raises(PuhuiError) as refused:
                await fetched(bank, subject_id, as_of)
            assert refused.value.reason == "SUBJECT_ERASED"
        assert not holds(process.folder, DOCUMENT)
        assert not holds(process.folder, USCC)
        accesses = [access.refusal_reason async for access in bank.accesses(subject_id=subject_id)]
        assert accesses == ["SUBJECT_ERASED", "SUBJECT_ERASED", ""]

        await department.submit([penalty()])
        anew = await bank.resolve_subject(USCC)
        assert anew != subject_id
        assert counted(await fetched(bank, anew)) == 1
