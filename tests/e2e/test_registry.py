"""The registry of models through the gateway: two people, the kill switch, shadows, hot swap."""

import asyncio
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from puhui.scoring.v1.registry_pb2 import (
    MODEL_STATE_CHAMPION,
    MODEL_STATE_RETIRED,
    MODEL_STATE_VALIDATED,
)
from puhui.scoring.v1.scoring_pb2 import MODEL_CLASS_SIMULATED
from puhui_client import Client, PuhuiError, ReferralError, score_order
from services.cli.main import app
from tests.e2e.town import ASKED, MODEL, Town, a_model, running_town

SECOND, THIRD = "town-2", "town-3"
LI, ZHAO = "Li 李", "Zhao 赵"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("registry")) as made:
        for version, by in ((SECOND, "guarantor_pd"), (THIRD, "owner_pd")):
            a_model(made.platform.models_dir / version, by=by)
        yield made


class Command:
    """`puhui model` as one of two operators."""

    def __init__(self, town: Town, folder: Path, who: str, officer: str) -> None:
        key = folder / f"{who}.key"
        key.write_text(town.key(who))
        key.chmod(0o600)
        self._common = ["--gateway", town.platform.gateway, "--key-file", str(key), "--json"]
        self._officer = ["--officer", officer]

    def __call__(self, *arguments: str, refused: str = "", asks: bool = True) -> dict[str, Any]:
        command = ["model", *arguments, *(self._officer if asks else []), *self._common]
        result = CliRunner().invoke(app, command)
        document: dict[str, Any] = json.loads(result.stdout)
        if refused:
            assert document["error"]["reason"] == refused, document
            assert result.exit_code == 1
        else:
            assert result.exit_code == 0, result.output
        return document


async def serving(town: Town, who: str = "bank") -> Any:
    async with town.client(who) as client:
        return await client.serving()


def states(found: Any) -> dict[str, int]:
    return {each.ref.version: each.state for each in found.models}


async def validate(first: Client, second: Client, version: str) -> None:
    proposed = await first.propose_model(
        version,
        "VALIDATED",
        officer=LI,
        reason="as reported",
        validator="Sun 孙",
        document="MRV-2026-11",
    )
    await second.approve_proposal(proposed.proposal_id, officer=ZHAO)


async def make_champion(first: Client, second: Client, version: str) -> None:
    proposed = await first.propose_model(version, "CHAMPION", officer=LI, reason="next")
    await second.approve_proposal(proposed.proposal_id, officer=ZHAO)


async def test_from_the_command_line_two_people_promote_and_one_rolls_back(
    town: Town, tmp_path: Path
) -> None:
    li = Command(town, tmp_path, "operator", LI)
    zhao = Command(town, tmp_path, "second_operator", ZHAO)

    def run() -> None:
        event = li("register", SECOND, "--reason", "more trees")["event"]
        assert len(event["manifest_sha256"]) == 64
        assert event["signer"]
        li("register", SECOND, refused="MODEL_STATE")
        li("register", "nowhere", refused="MODEL_NOT_FOUND")
        more = "--reason", "as reported", "--validator", "Sun", "--document", "MRV-1"
        proposal = li("propose", SECOND, "validated", *more)["event"]["proposal_id"]
        li("approve", proposal, refused="SECOND_PERSON_REQUIRED")
        waiting = zhao("proposals", asks=False)["proposals"]
        assert [each["proposal_id"] for each in waiting] == [proposal]
        zhao("approve", proposal)
        declined = li("propose", SECOND, "shadow", "--reason", "why not")["event"]["proposal_id"]
        zhao("decline", declined, "--reason", "no time")
        li("approve", declined, refused="PROPOSAL_CLOSED")
        proposal = li("propose", SECOND, "champion", "--reason", "next")["event"]["proposal_id"]
        zhao("approve", proposal)

    await asyncio.to_thread(run)
    found = await serving(town)
    assert (found.champion, found.predecessor) == (SECOND, MODEL)
    consent = await town.consent()
    async with town.client("bank") as bank:
        decision = await bank.score(town.subject_id, consent.consent_id, **ASKED)
        assert decision.model.version == SECOND
        assert decision.model.model_class == MODEL_CLASS_SIMULATED
        await asyncio.to_thread(zhao, "rollback", "--reason", "too many refused")
        again = await bank.score(town.subject_id, consent.consent_id, **ASKED)
        assert again.model.version == MODEL
        with pytest.raises(PuhuiError) as refused:
            await bank.score(town.subject_id, consent.consent_id, **ASKED, model_version=SECOND)
        assert refused.value.reason == "MODEL_NOT_FOUND"
        told = await bank.get_decision(decision.decision_id)
        assert told.reproduced
    found = await serving(town)
    assert states(found) == {MODEL: MODEL_STATE_CHAMPION, SECOND: MODEL_STATE_RETIRED}
    await asyncio.to_thread(zhao, "rollback", "--reason", "more", refused="MODEL_STATE")


async def test_every_event_comes_to_the_log_of_datashare(town: Town, tmp_path: Path) -> None:
    zhao = Command(town, tmp_path, "second_operator", ZHAO)
    listed = await asyncio.to_thread(zhao, "events", asks=False)
    for _ in range(50):
        if all("leaf" in each for each in listed["events"]):
            break
        await asyncio.sleep(0.1)
        listed = await asyncio.to_thread(zhao, "events", asks=False)
    assert listed["not_attested"] == []
    events = listed["events"]
    with sqlite3.connect(town.platform.data_dir / "datashare.db") as database:
        rows = database.execute("SELECT leaf_id, salt, hash FROM leaf WHERE kind = 'model'")
        leaves = {leaf_id: (salt, stored) for leaf_id, salt, stored in rows}
    assert {each["leaf"]["leaf_id"] for each in events} == set(leaves)
    for each in events:
        salt, stored = leaves[each["leaf"]["leaf_id"]]
        made = hashlib.sha256(b"\x00" + salt + each["content"].encode()).digest()
        assert made == stored


async def test_only_operators_change_and_everybody_concerned_sees(town: Town) -> None:
    for who in ("bank", "firm", "tax"):
        async with town.client(who) as client:
            with pytest.raises(PuhuiError) as refused:
                await client.stop_scoring(officer=LI, reason="why")
            assert refused.value.reason == "ROLE_NOT_ALLOWED"
    assert (await serving(town, "bank")).champion
    assert (await serving(town, "operator")).champion
    async with town.client("firm") as firm:
        with pytest.raises(PuhuiError):
            await firm.serving()


async def test_over_http_it_is_the_same(town: Town) -> None:
    operator = {"authorization": f"Bearer {town.key('operator')}"}
    async with httpx2.AsyncClient(base_url=f"http://{town.platform.http}", timeout=20) as http:
        served = await http.get("/v1/serving", headers=operator)
        assert served.json()["champion"]
        events = await http.get("/v1/model-events?page_size=1", headers=operator)
        assert len(events.json()["events"]) == 1
        body = {"requestId": "http-1", "officer": LI, "reason": "why", "version": "nobody"}
        refused = await http.post("/v1/models:rollBack", headers=operator, json=body)
        assert refused.status_code == httpx2.codes.BAD_REQUEST
        assert "MODEL_STATE" in refused.text
        proposal = body | {"to": "MODEL_STATE_SHADOW"}
        refused = await http.post("/v1/models/nobody:propose", headers=operator, json=proposal)
        assert refused.status_code == httpx2.codes.NOT_FOUND
        waiting = await http.get("/v1/model-proposals", headers=operator)
        assert waiting.json() == {"proposals": [], "nextPageToken": ""}


async def test_while_scoring_is_stopped_nothing_is_fetched_and_a_person_decides(
    town: Town, tmp_path: Path
) -> None:
    li = Command(town, tmp_path, "operator", LI)
    zhao = Command(town, tmp_path, "second_operator", ZHAO)
    consent = await town.consent()
    await asyncio.to_thread(li, "stop", "--reason", "wrong tax data")
    order = score_order(town.subject_id, consent.consent_id, **ASKED)
    async with town.client("bank") as bank, town.client("firm") as firm:
        with pytest.raises(ReferralError) as referred:
            await bank.score(town.subject_id, consent.consent_id, **ASKED)
        assert referred.value.reason == "SCORING_STOPPED"
        [result] = [each async for each in bank.batch_score([order])]
        assert result.referral is not None
        assert result.referral.code == "SCORING_STOPPED"
        accesses = [each async for each in firm.accesses()]
        assert consent.consent_id not in {each.consent_id for each in accesses}
        [stop] = (await bank.serving()).stops
        assert (stop.version, stop.reason) == ("", "wrong tax data")
        assert all([model.stopped async for model in bank.models()])

        resumed = await asyncio.to_thread(li, "resume", "--reason", "right again")
        proposal = resumed["event"]["proposal_id"]
        await asyncio.to_thread(li, "approve", proposal, refused="SECOND_PERSON_REQUIRED")
        with pytest.raises(ReferralError):
            await bank.score(town.subject_id, consent.consent_id, **ASKED)
        await asyncio.to_thread(zhao, "approve", proposal)
        # The same order, sent again: it was not done before.
        [result] = [each async for each in bank.batch_score([order])]
        assert result.decision is not None
        assert not (await bank.serving()).stops


async def test_another_champion_under_load_fails_no_call(town: Town) -> None:
    pins = (*[""] * 6, SECOND, SECOND)
    # One of each caller's own: so many scores as are asked for here are beyond a day's of one.
    consents = [await town.consent() for _ in pins]
    answers: list[tuple[str, str]] = []
    async with (
        town.client("operator") as first,
        town.client("second_operator") as second,
        town.client("bank") as bank,
    ):
        await first.register_model(THIRD, officer=LI)
        for version in (SECOND, THIRD):  # SECOND was retired by the rollback
            await validate(first, second, version)
        swapping = True

        async def ask(pinned: str, consent_id: str) -> None:
            while swapping:
                decision = await bank.score(
                    town.subject_id, consent_id, **ASKED, model_version=pinned
                )
                answers.append((pinned, decision.model.version))

        callers = [
            asyncio.create_task(ask(pinned, consent.consent_id))
            for pinned, consent in zip(pins, consents, strict=True)
        ]
        for _ in range(6):
            for version in (SECOND, THIRD):
                await make_champion(first, second, version)
                await asyncio.sleep(0.05)
        await first.roll_back_model(officer=LI, reason="to show it")
        champion = (await bank.serving()).champion
        swapping = False
        await asyncio.gather(*callers)  # raises what any call failed with
        assert champion == SECOND
        last = await bank.score(town.subject_id, consents[0].consent_id, **ASKED)
        assert last.model.version == SECOND
    counted = Counter(answers)
    assert {version for pinned, version in counted if not pinned} >= {SECOND, THIRD}
    assert all(version == pinned for pinned, version in counted if pinned)
    assert counted.total() > len(pins)


async def test_a_shadow_scores_along_and_its_report_names_nobody(
    town: Town, tmp_path: Path
) -> None:
    li = Command(town, tmp_path, "operator", LI)
    async with (
        town.client("operator") as first,
        town.client("second_operator") as second,
        town.client("bank") as bank,
    ):
        await validate(first, second, THIRD)
        proposed = await first.propose_model(THIRD, "SHADOW", officer=LI, reason="to compare")
        await second.approve_proposal(proposed.proposal_id, officer=ZHAO)
        consent = await town.consent()
        scores = [await bank.score(town.subject_id, consent.consent_id, **ASKED) for _ in range(5)]
        shown = await bank.score(town.subject_id, consent.consent_id, **ASKED, model_version=THIRD)
    assert shown.model.version == THIRD
    report = await asyncio.to_thread(li, "shadow", THIRD, asks=False)
    for _ in range(50):
        if int(report["all"].get("scored", 0)) >= len(scores):
            break
        await asyncio.sleep(0.1)
        report = await asyncio.to_thread(li, "shadow", THIRD, asks=False)
    figures = report["all"]
    assert (int(figures["scored"]), report["against"]) == (5, SECOND)
    difference = shown.score - scores[0].score
    assert figures["mean"] == figures["p50"] == difference
    assert [int(each["firms"]) for each in report["grades"]] == [5]
    assert len(report["days"]) == 1
    said = json.dumps(report, ensure_ascii=False)
    for named in (town.subject_id, scores[0].decision_id, consent.consent_id, "bank"):
        assert named not in said
    async with town.client("bank") as bank:
        with pytest.raises(PuhuiError):
            await bank.shadow_report(THIRD)


async def test_a_model_that_was_validated_answers_who_names_it(town: Town) -> None:
    found = await serving(town)
    validated = [name for name, state in states(found).items() if state == MODEL_STATE_VALIDATED]
    assert MODEL not in validated  # nobody ever validated it
    async with town.client("bank") as bank:
        consent = await town.consent()
        with pytest.raises(PuhuiError) as refused:
            await bank.score(town.subject_id, consent.consent_id, **ASKED, model_version=MODEL)
        assert refused.value.reason == "MODEL_NOT_FOUND"
        assert "draft" in refused.value.message
