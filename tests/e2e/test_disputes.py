"""A dispute from its opening to the new score, over the gateway and by the command line."""

import asyncio
import json
import re
import shlex
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from puhui.datashare.v1 import disputes_pb2
from puhui.scoring.v1.scoring_pb2 import Decision
from puhui_client import Client, records
from puhui_client.errors import AlreadyExistsError, FailedPreconditionError, PermissionDeniedError
from puhui_client.values import month
from services.cli.main import app
from tests.e2e.town import ASKED, NOW, USCC, Town, running_town

RECORD = "disputed-2025-02"


def headcount(number: int, version: int = 1, **changes: Any) -> Any:
    values: dict[str, Any] = {"record_id": RECORD, "occurred": month(2025, 2)}
    return records.social_insurance(
        uscc=USCC, obtained_at=NOW, headcount=number, version=version, **(values | changes)
    )


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what follows the feed."""
    for _ in range(100):
        if await holds():
            return
        await asyncio.sleep(0.2)
    pytest.fail("it did not come about")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A town of its own: what is disputed shows in every score of its firm."""
    with running_town(tmp_path_factory.mktemp("disputes")) as made:
        yield made


@pytest.fixture
def puhui(town: Town) -> Any:
    """Runs a command as somebody."""

    async def run(who: str, *arguments: str, code: int = 0) -> Any:
        environ = {"PUHUI_GATEWAY": town.platform.gateway, "PUHUI_API_KEY": town.key(who)}
        environ |= {"COLUMNS": "200", "PUHUI_PROFILE": ""}
        command = [*arguments, "--json"]
        result = await asyncio.to_thread(CliRunner(env=environ).invoke, app, command)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    return run


async def test_a_dispute_is_seen_in_scores_until_it_is_corrected(town: Town, puhui: Any) -> None:
    consent = await town.consent()
    hr_id = town.people["hr"].participant_id

    async def scored(bank: Client) -> Decision:
        return await bank.score(town.subject_id, consent.consent_id, **ASKED)

    async def due() -> set[str]:
        listed = await puhui("bank", "reevaluations", "--limit", "1000")
        return {each["decision"]["decision_id"] for each in listed["reevaluations"]}

    async with town.client("bank") as bank, town.client("hr") as hr, town.client("firm") as firm:
        assert (await hr.submit([headcount(3)])).accepted == [0]
        before = await scored(bank)
        assert RECORD not in str(before)

        what = [hr_id, "social_insurance", RECORD, "--field", "headcount"]
        why = ["--reason", "wrong-value", "--statement", "我们有三十名职工。"]
        opened = (await puhui("firm", "dispute", "open", *what, *why))["dispute"]
        dispute_id = opened["dispute_id"]
        assert opened["state"] == "DISPUTE_STATE_OPEN"

        disputed = await scored(bank)
        (mark,) = [mark for mark in disputed.disputes if mark.dispute_id == dispute_id]
        assert (mark.record_type, mark.provider_id) == ("social_insurance", hr_id)
        assert (mark.month, mark.field) == (202502, "headcount")
        assert mark.state == disputes_pb2.DISPUTE_STATE_OPEN
        assert mark.statement == "我们有三十名职工。"
        (notice,) = [each for each in disputed.notices if each.code == "DISPUTED_DATA"]
        assert "dispute" in notice.text_en
        assert "异议" in notice.text_zh
        again = (await bank.get_decision(disputed.decision_id)).decision
        assert list(again.disputes) == list(disputed.disputes)

        # What was scored before says so, too, whoever reads it.
        async def since(reader: Client, decision_id: str) -> bool:
            told = (await reader.get_decision(decision_id)).decision.notices
            return "DISPUTED_SINCE" in {each.code for each in told}

        async def is_over() -> bool:
            return not await since(bank, before.decision_id)

        await eventually(lambda: since(bank, before.decision_id))
        assert await since(firm, before.decision_id)
        assert not await since(bank, disputed.decision_id)
        heads = {each.decision_id: each async for each in bank.decisions()}
        assert [mark.statement for mark in heads[disputed.decision_id].disputes] == [""]
        codes = [each.code for each in heads[before.decision_id].notices]
        assert codes.count("DISPUTED_SINCE") == 1
        with pytest.raises(AlreadyExistsError):
            await firm.open_dispute(
                hr_id,
                "social_insurance",
                RECORD,
                field="headcount",
                reason="WRONG_VALUE",
                statement="again",
            )

        # The provider is told, cannot call it corrected yet, corrects and answers.
        mine = await puhui("hr", "dispute", "list", "--state", "open")
        assert dispute_id in {each["dispute_id"] for each in mine["disputes"]}
        with pytest.raises(FailedPreconditionError) as refused:
            await hr.answer_dispute(dispute_id, "CORRECTED", "We did.")
        assert refused.value.reason == "DISPUTE_STATE"
        await puhui("firm", "dispute", "statement", dispute_id, "三十名。")
        assert (await hr.submit([headcount(30, version=2)])).accepted == [0]
        answer = ["--answer", "三十名, 已更正。"]
        answered = await puhui("hr", "dispute", "answer", dispute_id, "corrected", *answer)
        assert answered["dispute"]["state"] == "DISPUTE_STATE_CORRECTED"
        shown = (await puhui("firm", "dispute", "show", dispute_id))["dispute"]
        assert (shown["answer"], shown["statement"]) == ("三十名, 已更正。", "三十名。")

        # Both scores are to be made again, until one is.
        stale = {before.decision_id, disputed.decision_id}

        async def are_due() -> bool:
            return stale <= await due()

        await eventually(are_due)
        await eventually(is_over)
        listed = [each async for each in bank.reevaluations()]
        (found,) = [each for each in listed if each.decision.decision_id == disputed.decision_id]
        assert (found.cause, found.dispute_id) == ("RECORD_CORRECTED", dispute_id)
        fresh = await scored(bank)
        assert dispute_id not in {mark.dispute_id for mark in fresh.disputes}
        assert not stale & await due()


async def test_who_may_do_what(town: Town, puhui: Any) -> None:
    hr_id = town.people["hr"].participant_id
    async with town.client("hr") as hr, town.client("bank") as bank:
        await hr.submit([headcount(3), headcount(30, version=2)])
        what = [hr_id, "social_insurance", RECORD, "--reason", "outdated", "--statement", "旧。"]
        refused = await puhui("other_firm", "dispute", "open", *what, code=1)
        assert refused["error"]["reason"] == "NOT_FOUND"
        dispute = (await puhui("firm", "dispute", "open", *what))["dispute"]
        with pytest.raises(PermissionDeniedError):
            await bank.close_dispute(dispute["dispute_id"])
        assert [each async for each in bank.disputes()] == []
        closed = await puhui("firm", "dispute", "close", dispute["dispute_id"])
        assert closed["dispute"]["state"] == "DISPUTE_STATE_CLOSED"
        every = await puhui("operator", "dispute", "list", "--state", "closed")
        assert dispute["dispute_id"] in {each["dispute_id"] for each in every["disputes"]}


async def test_what_the_page_says_runs(town: Town, puhui: Any, checkout: Path) -> None:
    """Every command of docs/disputes.md, as whom it is meant for, about a record of the town."""
    page = (checkout / "docs/disputes.md").read_text("utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line)[1:] for line in lines]
    assert len(commands) >= 9
    place = {"par_...": town.people["hr"].participant_id, "court_case": "social_insurance"}
    place |= {"2024-17": "page-2025-03", "amount": "headcount"}
    months: dict[str, Any] = {"occurred": month(2025, 3), "record_id": "page-2025-03"}
    version = 1
    async with town.client("hr") as hr:
        await hr.submit([headcount(5, **months)])
        dispute_id = ""
        for command in commands:
            named = [place.get(word, word) for word in command]
            if "answer" in command:  # each answers another dispute
                given = [place.get(word, word) for word in commands[0]]
                dispute_id = (await puhui("firm", *given))["dispute"]["dispute_id"]
            if "corrected" in command:
                version += 1
                await hr.submit([headcount(5 + version, version=version, **months)])
            who = "bank" if "reevaluations" in command else "firm"
            who = "hr" if "answer" in command else who
            named = [dispute_id if word == "dis_..." else word for word in named]
            answer = await puhui(who, *named)
            dispute_id = answer.get("dispute", {}).get("dispute_id", dispute_id)
