"""Credit reports on the command line: what is written where, and what is refused before a call."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rfc8785 import dumps

from puhui.scoring.v1 import reports_pb2, scoring_pb2
from puhui_client.values import to_timestamp
from services.scoring.models.signing import ModelKey
from services.scoring.reports.content import CONTENT
from services.scoring.reports.domain import document
from tests.fakes.platform import FakePlatform
from tests.fakes.reports import basis
from tests.unit.cli.conftest import Run
from tests.unit.cli.test_commands import refused

KEY = ModelKey.new()
RAW = dumps(document(basis(), CONTENT))
REPORT = reports_pb2.CreditReport(
    decision_id="dec_1",
    access_id="acc_1",
    report_version=1,
    content_type="application/json",
    content=RAW,
    content_jws=KEY.sign(RAW),
    document_sha256=hashlib.sha256(RAW).digest(),
    document_jws=KEY.sign(RAW),
)
ASKED = ("--consent", "con_1", "--officer", "Wang", "--file-ref", "A-17")


def answered(platform: FakePlatform) -> None:
    platform.answer("GetCreditReport", reports_pb2.GetCreditReportResponse(report=REPORT))


def test_a_report_is_written_with_its_signature_for_its_owner_alone(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    answered(platform)
    made = call("report", "sub_1", *ASKED, "--lang", "en", "--out", "A-17.json", "--json")
    assert made.document["file"] == "A-17.json"
    for name, content in (("A-17.json", RAW), ("A-17.json.jws", REPORT.content_jws.encode())):
        assert (tmp_path / name).read_bytes() == content
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    (request,) = platform.requests("GetCreditReport")
    assert request.format == reports_pb2.REPORT_FORMAT_JSON
    assert request.language == reports_pb2.REPORT_LANGUAGE_EN
    assert (request.order.subject_id, request.order.consent_id) == ("sub_1", "con_1")
    assert request.order.officer.file_reference == "A-17"


def test_a_report_is_a_pdf_named_by_its_decision_unless_asked_otherwise(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    answered(platform)
    assert call("report", "make", "sub_1", *ASKED).code == 0
    assert (tmp_path / "dec_1.pdf.jws").is_file()
    (request,) = platform.requests("GetCreditReport")
    assert request.format == reports_pb2.REPORT_FORMAT_PDF


def test_no_file_is_overwritten_and_nothing_is_asked_for_it(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    (tmp_path / "A-17.html.jws").touch()
    told = call("report", "sub_1", *ASKED, "--out", "A-17.html")
    refused(told, 2, "A-17.html.jws is there already")
    assert platform.requests("GetCreditReport") == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("sub_1", *ASKED, "--out", "A-17.doc"), "name the --format"),
        (("sub_1", *ASKED, "--out", "no/where.pdf"), "there is no folder"),
        (("sub_1", "--consent", "con_1"), "--officer"),
        (("Acme", *ASKED), "this is neither"),
    ],
)
def test_what_is_called_wrongly(run: Run, arguments: tuple[str, ...], told: str) -> None:
    refused(run("report", *arguments), 2, told)


def test_while_scoring_is_stopped_no_file_is_written(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    stopped = scoring_pb2.Referral(
        code="SCORING_STOPPED",
        text_en="Scoring is stopped: a person decides.",
        since=to_timestamp(datetime(2026, 5, 1, tzinfo=UTC)),
    )
    platform.answer("GetCreditReport", reports_pb2.GetCreditReportResponse(referral=stopped))
    refused(call("report", "sub_1", *ASKED), 1, "Scoring is stopped")
    assert list(tmp_path.glob("*.pdf*")) == []


def test_keys_are_kept_and_a_filed_report_is_checked_without_the_platform(
    call: Run, run: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    key = reports_pb2.ReportKey(key_id=KEY.key_id, public_jwk=KEY.jwk)
    platform.answer("ListReportKeys", reports_pb2.ListReportKeysResponse(keys=[key]))
    assert call("report", "keys", "--out", "keys.json").code == 0
    (tmp_path / "a.json").write_bytes(RAW)
    (tmp_path / "a.json.jws").write_text(KEY.sign(RAW) + "\n")
    passed = run("report", "verify", "a.json", "--keys", "keys.json", "--json")
    assert (passed.code, passed.document["genuine"], passed.document["whole_file"]) == (
        0,
        True,
        True,
    )
    (tmp_path / "a.json").write_bytes(RAW.replace(b'"score":690', b'"score":790'))
    failed = run("report", "verify", "a.json", "--keys", "keys.json", "--json")
    assert (failed.code, failed.document["genuine"]) == (1, False)
    (tmp_path / "other.json").write_text(json.dumps({"keys": [json.loads(ModelKey.new().jwk)]}))
    strange = run("report", "verify", "a.json", "--keys", "other.json")
    assert strange.code == 1
    assert "not among those named" in strange.out
