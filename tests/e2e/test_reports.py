"""Credit reports over a real platform: one access, one decision, signed, limited to the consent."""

import asyncio
import json
import re
import uuid
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from pypdf import PdfReader

from puhui_client import ConsentError, ReferralError, score_order
from puhui_client.report_files import read_keys, verify
from puhui_client.reports import FormatName
from services.cli.main import main
from tests.e2e.town import ASKED, USCC, Town


async def keys_of(town: Town) -> str:
    async with town.client("bank") as bank:
        found = await bank.report_keys()
    return json.dumps({"keys": [json.loads(jwk) for jwk in found.values()]})


async def test_score_and_report_are_one_access_and_one_decision(town: Town) -> None:
    consent = await town.consent()
    order = score_order(town.subject_id, consent.consent_id, **ASKED, request_id=uuid.uuid4().hex)
    async with town.client("bank") as bank:
        before = [access.access_id async for access in bank.accesses(subject_id=town.subject_id)]
        reports = [
            await bank.credit_report(order, format_=kind)
            for kind in ("JSON", "HTML", "PDF", "JSON")
        ]
        scored = await bank.score(
            town.subject_id, consent.consent_id, **ASKED, request_id=order.request_id
        )
        after = [access.access_id async for access in bank.accesses(subject_id=town.subject_id)]
        stored = await bank.get_decision(scored.decision_id)
    assert {report.decision_id for report in reports} == {scored.decision_id}
    assert {report.access_id for report in reports} == {scored.access_id}
    assert set(after) - set(before) == {scored.access_id}
    assert stored.decision.score == scored.score
    # The same decision gives the same bytes, and every format shows the same document.
    assert reports[0].content == reports[3].content
    assert len({report.document_sha256 for report in reports}) == 1
    document = json.loads(reports[0].content)
    assert document["decision"]["score"] == scored.score
    assert document["decision"]["access_id"] == scored.access_id
    keys = read_keys(await keys_of(town))
    for report in reports:
        filed = verify(report.content, report.content_jws, keys)
        assert filed.whole
        assert filed.document == document


async def test_a_report_says_what_the_consent_opens_and_nothing_else(town: Town) -> None:
    consent = await town.consent(record_types=("vat_invoice",))
    async with town.client("bank") as bank:
        order = score_order(town.subject_id, consent.consent_id, **ASKED)
        report = await bank.credit_report(order, format_="JSON")
    document = json.loads(report.content)
    states = {each["record_type"]: each["state"] for each in document["completeness"]}
    assert states["vat_invoice"] == "SUPPLIED"
    assert states["social_insurance"] == "NOT_CONSENTED"
    assert {each["record_type"] for each in document["sources"]} == {"vat_invoice"}
    facts = {
        (fact["record_type"], fact["of"]): fact
        for section in document["sections"]
        for fact in section["facts"]
    }
    assert facts["social_insurance", "missed"]["value"] is None
    assert facts["social_insurance", "missed"]["missing"] == "NOT_CONSENTED"
    assert USCC not in report.content.decode()
    tax, bank_id = (town.people[each].participant_id for each in ("tax", "bank"))
    assert document["names"] == {tax: "test tax", bank_id: "test bank"}


async def test_a_withdrawn_consent_gives_no_report_again(town: Town) -> None:
    consent = await town.consent()
    order = score_order(town.subject_id, consent.consent_id, **ASKED)
    async with town.client("bank") as bank, town.client("firm") as firm:
        await bank.credit_report(order, format_="HTML")
        await firm.withdraw_consent(consent.consent_id)
        with pytest.raises(ConsentError) as refused:
            await bank.credit_report(order, format_="HTML")
    assert refused.value.reason == "CONSENT_WITHDRAWN"


async def test_no_report_while_scoring_is_stopped(town: Town) -> None:
    consent = await town.consent()
    order = score_order(town.subject_id, consent.consent_id, **ASKED)
    async with (
        town.client("bank") as bank,
        town.client("operator") as operator,
        town.client("second_operator") as second,
    ):
        await operator.stop_scoring(officer="Wang", reason="a drill")
        try:
            with pytest.raises(ReferralError):
                await bank.credit_report(order, format_="JSON")
            taken = [
                access
                async for access in bank.accesses(subject_id=town.subject_id)
                if access.consent_id == consent.consent_id
            ]
        finally:
            proposal = await operator.propose_resumption(officer="Wang", reason="the drill is over")
            await second.approve_proposal(proposal.proposal_id, officer="Li")
    assert taken == []


@pytest.mark.parametrize("kind", ["JSON", "HTML", "PDF"])
async def test_a_report_over_http(town: Town, kind: FormatName) -> None:
    consent = await town.consent()
    order = {
        "request_id": uuid.uuid4().hex,
        "subject_id": town.subject_id,
        "consent_id": consent.consent_id,
        "purpose": "credit_application",
        "officer": {"name": "王", "file_reference": "F-1"},
    }
    async with httpx2.AsyncClient(base_url=f"http://{town.platform.http}") as http:
        answer = await http.post(
            "/v1/reports",
            json={"order": order, "format": f"REPORT_FORMAT_{kind}"},
            headers={"authorization": f"Bearer {town.key('bank')}"},
            timeout=20,
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["report"]["decisionId"].startswith("dec_")


async def test_the_officer_files_a_report_and_an_auditor_checks_it(
    town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    consent = await town.consent()
    (tmp_path / "bank.key").write_text(town.key("bank"))
    (tmp_path / "bank.key").chmod(0o600)
    common = ["--gateway", town.platform.gateway, "--key-file", str(tmp_path / "bank.key")]
    filed, keys = tmp_path / "A-17.pdf", tmp_path / "keys.json"

    def run(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["puhui", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    asked = ["--consent", consent.consent_id, "--officer", "Wang", "--file-ref", "A-17"]
    assert await asyncio.to_thread(run, "report", USCC, *asked, "--out", str(filed), *common) == 0
    assert await asyncio.to_thread(run, "report", "keys", "--out", str(keys), *common) == 0
    text = "".join(page.extract_text() for page in PdfReader(BytesIO(filed.read_bytes())).pages)
    assert "企业信用报告" in text
    assert re.search(r"签名与查询凭证", text)
    assert filed.stat().st_mode & 0o077 == 0
    check = ["report", "verify", str(filed), "--keys", str(keys)]
    assert await asyncio.to_thread(run, *check) == 0
    assert "Genuine" in capsys.readouterr().out
    filed.write_bytes(filed.read_bytes().replace(b"/Title", b"/Tit1e", 1))
    assert await asyncio.to_thread(run, *check) == 1
    assert "Not genuine" in capsys.readouterr().out
