"""Score products on the whole platform: what is missing, what is declared, what is replayed."""

import asyncio
import hashlib
import json
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from puhui.common.v1 import types_pb2
from puhui.datashare.v1.accesses_pb2 import Access
from puhui.scoring.v1 import products_pb2
from puhui_client import (
    Client,
    ConsentError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    score_order,
)
from services.cli.main import app
from tests.e2e.town import ASKED, TYPES, Town

PRODUCT = "tech_credit"
AMOUNT = 4823719.25  # nowhere else


def states(answer: products_pb2.CheckScoreResponse) -> dict[str, str]:
    name = products_pb2.TypeState.Name
    return {each.record_type: name(each.state).removeprefix("TYPE_STATE_") for each in answer.types}


async def of_firm(town: Town, access_id: str) -> Access:
    async with town.client("firm") as firm:
        return await anext(each async for each in firm.accesses() if each.access_id == access_id)


async def command(town: Town, *arguments: str, who: str = "bank") -> tuple[int, Any]:
    """Run `puhui --json` as somebody."""
    environ = {"PUHUI_GATEWAY": town.platform.gateway, "PUHUI_API_KEY": town.key(who)}
    result = await asyncio.to_thread(
        CliRunner(env=environ).invoke, app, ["--json", *arguments], catch_exceptions=False
    )
    return result.exit_code, json.loads(result.stdout)


async def test_what_is_missing_is_told_before_anyone_asks_the_firm(town: Town) -> None:
    async with town.client("bank") as bank:
        answer = await bank.check_score(town.subject_id, PRODUCT, **ASKED)
    assert not answer.ready
    found = states(answer)
    assert found["vat_invoice"] == "NOT_CONSENTED"
    # The firm has invoices and the platform nothing of utilities: only the latter is told.
    assert found["utility_bill"] == "NOT_SUPPLIED"
    assert not any(each.first_month for each in answer.types if each.record_type in TYPES)
    assert "vat_invoice" in answer.terms.record_types
    assert "utility_bill" not in answer.terms.record_types
    assert town.people["tax"].participant_id in answer.terms.provider_ids
    assert answer.types[0].suffices_zh
    assert answer.types[0].provider_kinds == ["tax"]
    # It opened nothing, and the firm sees that it was asked.
    access = await of_firm(town, answer.access_id)
    assert access.content_level == types_pb2.CONTENT_LEVEL_PROFILE
    assert (access.recipient_id, access.consent_id) == (town.people["bank"].participant_id, "")
    assert not set(access.record_types) & set(TYPES)


async def test_the_consent_that_a_product_drafts_makes_it_ready(town: Town) -> None:
    async with town.client("bank") as bank, town.client("firm") as firm:
        asked = await bank.request_consent_for(PRODUCT, subject_id=town.subject_id, **ASKED)
        await firm.grant_consent(asked)
        answer = await bank.check_score(town.subject_id, PRODUCT, asked.consent_id, **ASKED)
        assert answer.ready, answer
        assert states(answer)["vat_invoice"] == "SUPPLIED"
        assert answer.types[0].first_month >= 202301
        made = await bank.score(
            town.subject_id,
            asked.consent_id,
            product=PRODUCT,
            declared={"requested_amount": AMOUNT, "security": "pledge"},
            **ASKED,
        )
        assert made.product == PRODUCT
        assert {each.name for each in made.declared} == {"requested_amount", "security"}
        assert made.base + sum(each.points for each in made.points) == made.score
        assert all(each.title_zh and each.title_en for each in made.points)
        told = (await firm.get_decision(made.decision_id)).decision
        assert told.declared == made.declared
        assert told.outcome_sha256 == made.outcome_sha256
    async with town.client("other_bank") as other:
        with pytest.raises(NotFoundError):
            await other.get_decision(made.decision_id)
    access = await of_firm(town, made.access_id)
    assert access.product == PRODUCT
    for file in town.platform.data_dir.glob("*.log"):
        assert str(AMOUNT) not in file.read_text()


async def test_a_check_uses_none_of_a_consent_s_fetches(town: Town) -> None:
    consent = await town.consent(once=True)
    async with town.client("bank") as bank:
        for _ in range(2):
            answer = await bank.check_score(town.subject_id, PRODUCT, consent.consent_id, **ASKED)
            assert answer.ready
        await bank.score(town.subject_id, consent.consent_id, product=PRODUCT, **ASKED)
        over = await bank.check_score(town.subject_id, PRODUCT, consent.consent_id, **ASKED)
        assert not over.ready
        assert over.HasField("consent_refused")
        assert states(over)["vat_invoice"] == "NOT_CONSENTED"


async def test_below_the_minimum_it_says_what_would_suffice(town: Town) -> None:
    consent = await town.consent(record_types=["tax_filing"])
    async with town.client("bank") as bank:
        answer = await bank.check_score(town.subject_id, PRODUCT, consent.consent_id, **ASKED)
        assert states(answer)["vat_invoice"] == "NOT_CONSENTED"
        with pytest.raises(FailedPreconditionError) as refused:
            await bank.score(town.subject_id, consent.consent_id, product=PRODUCT, **ASKED)
        order = score_order(town.subject_id, consent.consent_id, product=PRODUCT, **ASKED)
        [result] = [each async for each in bank.batch_score([order])]
    assert result.error is not None
    for error in (refused.value, result.error):
        assert error.reason == "DATA_INSUFFICIENT"
        (violation,) = error.violations
        assert (violation.type, violation.subject) == ("NOT_CONSENTED", "vat_invoice")
        assert "consent" in violation.description


async def test_what_is_declared_wrongly_is_told_by_field(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank:
        with pytest.raises(InvalidArgumentError) as refused:
            await bank.score(
                town.subject_id,
                consent.consent_id,
                product=PRODUCT,
                declared={"requested_months": 0.5, "years": 3.0, "security": "gold"},
                **ASKED,
            )
    assert [each.field for each in refused.value.fields] == [
        "order.declared[0].number",
        "order.declared[1].name",
        "order.declared[2].category",
    ]


async def test_a_decision_replays_to_the_byte_also_after_withdrawal(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank, town.client("firm") as firm:
        made = await bank.score(town.subject_id, consent.consent_id, product=PRODUCT, **ASKED)
        await firm.withdraw_consent(consent.consent_id)
        with pytest.raises(ConsentError):
            await bank.score(town.subject_id, consent.consent_id, product=PRODUCT, **ASKED)
        for client in (bank, firm):
            replay = await client.replay_decision(made.decision_id, use="DISPUTE")
            assert replay.same, replay.remark
            assert hashlib.sha256(replay.again).digest() == made.outcome_sha256
        checked = await bank.check_score(town.subject_id, PRODUCT, consent.consent_id, **ASKED)
        assert "CONSENT_WITHDRAWN" in str(checked.consent_refused)
        found = await firm.improvements(made.decision_id)
        assert found.counterfactuals or found.remark
        for each in found.counterfactuals:
            assert each.score > made.score
    code, document = await command(town, "decision", "replay", made.decision_id)
    assert (code, document["same"]) == (0, True)
    assert document["stored_sha256"] == document["again_sha256"] == made.outcome_sha256.hex()
    code, document = await command(town, "decision", "replay", made.decision_id, who="other_bank")
    assert (code, document["error"]["reason"]) == (1, "NOT_FOUND")


async def test_the_command_line_and_http_speak_of_products(town: Town) -> None:
    asked = ("--officer", "王", "--file-ref", "F-1")
    code, document = await command(town, "product", "list")
    assert {each["code"] for each in document["products"]} == {PRODUCT, "loan_review"}
    code, document = await command(town, "product", "check", PRODUCT, town.subject_id, *asked)
    assert (code, document["ready"]) == (1, False)
    code, document = await command(
        town, "consent", "request", town.subject_id, "--product", PRODUCT, *asked
    )
    assert code == 0
    assert document["consent"]["terms"]["derived_use"]["score"]
    consent_id = document["consent"]["consent_id"]
    async with town.client("firm") as firm:
        await firm.grant_consent(await firm.get_consent(consent_id))
    code, document = await command(
        town, "score", town.subject_id, "--consent", consent_id, "--product", PRODUCT, *asked
    )
    assert (code, document["decision"]["product"]) == (0, PRODUCT)
    async with httpx2.AsyncClient(
        base_url=f"http://{town.platform.http}",
        headers={"authorization": f"Bearer {town.key('bank')}"},
    ) as web:
        products = (await web.get("/v1/score-products")).json()
        assert len(products["products"]) == 2
        one = (await web.get(f"/v1/score-products/{PRODUCT}")).json()
        assert one["terms"]["purpose"] == "credit_application"
        answer = await web.post(
            "/v1/scores:check",
            json={
                "subject_id": town.subject_id,
                "product": PRODUCT,
                "consent_id": consent_id,
                "officer": {"name": "王", "file_reference": "F-1"},
            },
        )
        assert answer.json()["ready"] is True
        decision_id = document["decision"]["decision_id"]
        replay = await web.get(
            f"/v1/decisions/{decision_id}:replay", params={"use": "DECISION_USE_EXPLANATION"}
        )
        assert replay.json()["same"] is True


async def test_a_check_needs_an_officer_and_a_firm(town: Town) -> None:
    async with town.client("bank") as bank:
        with pytest.raises(InvalidArgumentError) as refused:
            await bank.check_score(town.subject_id, PRODUCT, officer="", file_reference="F-1")
        assert refused.value.reason == "OFFICER_REQUIRED"
        assert [each.field for each in refused.value.fields] == ["officer.name"]
        for subject_id, product in (("sub_none", PRODUCT), (town.subject_id, "none")):
            with pytest.raises(NotFoundError):
                await bank.check_score(subject_id, product, **ASKED)
    async with Client(town.platform.gateway, town.key("firm")) as firm:
        assert [each.code async for each in firm.score_products()] == ["loan_review", PRODUCT]
