"""The main job over real gRPC: push, grant, score, withdraw, list."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from google.protobuf.json_format import MessageToDict

from puhui.datashare.v1.accesses_pb2 import (
    ACCESS_OUTCOME_REFUSED,
    ACCESS_OUTCOME_RELEASED,
    COMPLETENESS_ABSENT,
    COMPLETENESS_COMPLETE,
    COMPLETENESS_NOT_CONSENTED,
    Access,
)
from puhui.datashare.v1.summaries_pb2 import CoverageState
from puhui.scoring.v1 import decisions_pb2
from puhui.scoring.v1.scoring_pb2 import MODEL_CLASS_SIMULATED
from puhui_client import Client, score_order
from puhui_client.bank import UseName
from puhui_client.errors import PuhuiError
from tests.e2e.town import ASKED, Town


async def accesses(town: Town, consent_id: str) -> list[Access]:
    async with town.client("firm") as firm:
        return [access async for access in firm.accesses() if access.consent_id == consent_id]


async def refused(
    client: Client, town: Town, consent_id: str, request_id: str | None = None
) -> str:
    with pytest.raises(PuhuiError) as refusal:
        await client.score(town.subject_id, consent_id, **ASKED, request_id=request_id)
    return refusal.value.reason


async def test_a_bank_scores_under_consent_with_reasons_in_both_languages(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank:
        decision = await bank.score(town.subject_id, consent.consent_id, **ASKED)
    assert 0 < decision.pd < 1
    assert decision.grade
    assert decision.model.version == "town-1"
    assert decision.model.model_class == MODEL_CLASS_SIMULATED
    assert [notice.code for notice in decision.notices] == ["MODEL_SIMULATED"]
    assert decision.reasons
    assert all(reason.text_zh and reason.text_en and reason.code for reason in decision.reasons)
    coverage = {c.record_type: CoverageState.Name(c.state) for c in decision.coverage}
    assert coverage["vat_invoice"] == "COVERAGE_STATE_SUPPLIED"
    assert coverage["tax_filing"] == "COVERAGE_STATE_NOT_SUPPLIED"
    assert coverage["credit_facility"] == "COVERAGE_STATE_NOT_CONSENTED"


async def test_after_withdrawal_the_next_call_and_a_replay_are_refused(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank, town.client("firm") as firm:
        first = await bank.score(town.subject_id, consent.consent_id, **ASKED, request_id="w-1")
        assert (
            await bank.score(town.subject_id, consent.consent_id, **ASKED, request_id="w-1")
        ).decision_id == first.decision_id
        await firm.withdraw_consent(consent.consent_id)
        assert await refused(bank, town, consent.consent_id) == "CONSENT_WITHDRAWN"
        assert await refused(bank, town, consent.consent_id, "w-1") == "CONSENT_WITHDRAWN"


async def test_the_firm_sees_every_access_refusals_included(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank, town.client("firm") as firm:
        await bank.score(town.subject_id, consent.consent_id, officer="王", file_reference="F-9")
        await bank.fetch_summary(
            town.subject_id, consent.consent_id, **ASKED, purpose="credit_application"
        )
        await firm.withdraw_consent(consent.consent_id)
        await refused(bank, town, consent.consent_id)
    seen = await accesses(town, consent.consent_id)
    assert [access.outcome for access in seen] == [
        ACCESS_OUTCOME_REFUSED,
        ACCESS_OUTCOME_RELEASED,
        ACCESS_OUTCOME_RELEASED,
    ]
    assert seen[0].refusal_reason == "CONSENT_WITHDRAWN"
    assert {access.recipient_id for access in seen} == {town.people["bank"].participant_id}
    assert (seen[2].officer.name, seen[2].officer.file_reference) == ("王", "F-9")
    assert [access.channel for access in seen] == ["scoring", "datashare", "scoring"]
    assert all(len(access.leaf_hash) == 32 for access in seen)


async def test_a_release_proves_itself_and_says_whether_all_is_there(town: Town) -> None:
    consent = await town.consent(fetches=(2, "DAY"))
    tax_id = town.people["tax"].participant_id
    async with town.client("bank") as bank:
        fetched = [
            await bank.fetch_summary(
                town.subject_id,
                consent.consent_id,
                **ASKED,
                purpose="credit_application",
                request_id=request_id,
            )
            for request_id in ("proof-1", "proof-1", "proof-2")
        ]
        before = datetime.now(UTC) + timedelta(hours=24)
        assert await bank.verify_receipt(fetched[0]) <= before
        # What is sent again is the same release, and no other use of the consent.
        assert fetched[0].receipt == fetched[1].receipt
        with pytest.raises(PuhuiError) as exhausted:
            await bank.score(town.subject_id, consent.consent_id, **ASKED)
    assert exhausted.value.reason == "QUOTA_EXHAUSTED"
    refused, second, first = await accesses(town, consent.consent_id)
    assert refused.refusal_reason == "QUOTA_EXHAUSTED"
    assert [second.leaf_hash, first.leaf_hash] == [
        fetched[2].receipt.leaf_hash,
        fetched[0].receipt.leaf_hash,
    ]
    manifest = {(e.record_type, e.provider_id): e.completeness for e in fetched[0].manifest}
    assert manifest["vat_invoice", tax_id] == COMPLETENESS_COMPLETE
    assert manifest["tax_filing", tax_id] == COMPLETENESS_ABSENT
    assert manifest["credit_facility", ""] == COMPLETENESS_NOT_CONSENTED


async def test_a_decision_reproduces_also_after_withdrawal(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank, town.client("firm") as firm:
        decision = await bank.score(town.subject_id, consent.consent_id, **ASKED)
        await firm.withdraw_consent(consent.consent_id)
        for reader in (bank, firm):
            answer = await reader.get_decision(decision.decision_id)
            assert answer.decision == decision
            assert answer.reproduced
            points = answer.base_points + sum(group.points for group in answer.groups)
            assert round(points) == decision.score
            assert isinstance(answer, decisions_pb2.GetDecisionResponse)
    async with town.client("other_bank") as other:
        with pytest.raises(PuhuiError) as refusal:
            await other.get_decision(decision.decision_id)
    assert refusal.value.reason == "NOT_FOUND"


async def over_http(town: Town, verb: str, path: str, body: dict[str, Any] | None = None) -> str:
    headers = {"authorization": f"Bearer {town.key('bank')}"}
    async with httpx2.AsyncClient(base_url=f"http://{town.platform.http}", timeout=20) as http:
        answer = await http.request(verb, path, json=body, headers=headers)
    assert answer.status_code == httpx2.codes.OK, answer.text
    return answer.text


async def test_every_answer_of_a_simulated_model_says_so(town: Town) -> None:
    consent = await town.consent()
    order = score_order(town.subject_id, consent.consent_id, **ASKED)
    async with town.client("bank") as bank:
        scored = await bank.score(town.subject_id, consent.consent_id, **ASKED)
        (result,) = [result async for result in bank.batch_score([order])]
        assert result.decision is not None
        read = await bank.get_decision(scored.decision_id)
        (listed, *_) = [decision async for decision in bank.decisions()]
    http = [
        json.loads(await over_http(town, "POST", "/v1/scores", {"order": MessageToDict(order)})),
        # One firm's decision is one server-sent event.
        json.loads(
            (await over_http(town, "POST", "/v1/scores:batch", {"orders": [MessageToDict(order)]}))
            .removeprefix("data: ")
            .partition("\n\n")[0]
        ),
        json.loads(
            await over_http(
                town, "GET", f"/v1/decisions/{scored.decision_id}?use=DECISION_USE_DISPUTE"
            )
        ),
    ]
    for decision in (scored, result.decision, read.decision, listed):
        assert decision.model.model_class == MODEL_CLASS_SIMULATED
        assert "MODEL_SIMULATED" in [notice.code for notice in decision.notices]
    for answer in http:
        assert answer["decision"]["model"]["modelClass"] == "MODEL_CLASS_SIMULATED"
        assert "MODEL_SIMULATED" in [notice["code"] for notice in answer["decision"]["notices"]]


async def test_a_regulator_reads_any_decision_for_supervision(town: Town) -> None:
    consent = await town.consent()
    async with town.client("operator") as operator:
        member = await operator.register_participant("REGULATOR", "test regulator")
        key = await operator.issue_key(member.participant_id)
    async with (
        town.client("bank") as bank,
        Client(town.platform.gateway, key.api_key, timeout=20) as regulator,
    ):
        decision = await bank.score(town.subject_id, consent.consent_id, **ASKED)
        answer = await regulator.get_decision(decision.decision_id, use="SUPERVISION")
        assert answer.decision == decision
        wrong: list[tuple[Client, UseName]] = [(regulator, "DISPUTE"), (bank, "SUPERVISION")]
        for reader, use in wrong:
            with pytest.raises(PuhuiError) as refusal:
                await reader.get_decision(decision.decision_id, use=use)
            assert refusal.value.reason == "ROLE_NOT_ALLOWED"


async def test_a_list_of_decisions_tells_no_inputs(town: Town) -> None:
    consent = await town.consent()
    async with town.client("bank") as bank:
        decision = await bank.score(town.subject_id, consent.consent_id, **ASKED)
        listed = await anext(bank.decisions())
    assert (listed.decision_id, listed.score) == (decision.decision_id, decision.score)
    assert decision.reasons
    assert not listed.reasons
    assert not listed.coverage
    assert listed.notices == decision.notices


async def test_a_portfolio_is_scored_with_a_result_per_firm(town: Town) -> None:
    good, gone = await town.consent(), await town.consent()
    async with town.client("bank") as bank, town.client("firm") as firm:
        await firm.withdraw_consent(gone.consent_id)
        orders = [
            score_order(town.subject_id, consent.consent_id, **ASKED)
            for consent in (good, gone, good)
        ]
        results = [result async for result in bank.batch_score(orders)]
    assert [result.index for result in results] == [0, 1, 2]
    assert [result.error.reason if result.error else "" for result in results] == [
        "",
        "CONSENT_WITHDRAWN",
        "",
    ]
