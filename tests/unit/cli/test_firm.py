"""`puhui mandate` and `puhui facts`."""

import csv
import json
import re
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date

from puhui.common.v1.types_pb2 import Officer
from puhui.datashare.v1 import (
    accesses_pb2,
    consents_pb2,
    disputes_pb2,
    facts_pb2,
    mandates_pb2,
    payloads_pb2,
    records_pb2,
)
from services.cli.facts_export import documents
from tests.fakes.platform import FakePlatform, refusal
from tests.unit.cli.conftest import Run

USCC = "91110000MA00000077"
WHEN = Timestamp(seconds=1717200000)
MANDATE = mandates_pb2.Mandate(
    mandate_id="man_1",
    subject_id="sub_1",
    participant_id="par_2",
    kind=mandates_pb2.MANDATE_KIND_DELEGATE,
    powers=[mandates_pb2.POWER_READ, mandates_pb2.POWER_DISPUTE],
    state=mandates_pb2.MANDATE_STATE_ACTIVE,
    appointed_by="par_1",
    since=WHEN,
)
DISPUTE = disputes_pb2.Dispute(
    dispute_id="dis_1",
    record_type="vat_invoice",
    provider_record_id="r-1",
    field="net",
    state=disputes_pb2.DISPUTE_STATE_OPEN,
    statement="<b>not ours</b>",
    opened_at=WHEN,
)
ACCESS = accesses_pb2.Access(
    access_id="acc_1",
    accessed_at=WHEN,
    recipient_id="par_bank",
    recipient_name="A bank",
    officer=Officer(name="=HYPERLINK(1)", file_reference="A-17"),
    purpose="credit_application",
    record_types=["vat_invoice"],
    consent_id="con_1",
    outcome=accesses_pb2.ACCESS_OUTCOME_REFUSED,
    refusal_reason="CONSENT_WITHDRAWN",
    derived_use=consents_pb2.DerivedUse(score=True, automated_decision=True),
)
FACTS = facts_pb2.GetFactsResponse(
    subject_id="sub_1",
    read_at=WHEN,
    holdings=[
        facts_pb2.Holding(
            record_type="vat_invoice",
            title_zh="增值税发票",
            title_en="VAT invoice",
            provider_id="par_tax",
            provider_name="Tax bureau",
            records=1200,
            first=Date(year=2023, month=1, day=5),
            last=Date(year=2024, month=5, day=31),
            last_received_at=WHEN,
            sharing="STANDING",
            legal_basis="some law",
        ),
        facts_pb2.Holding(
            record_type="field_visit",
            title_zh="实地走访",
            title_en="Field visit",
            provider_id="par_bank",
            provider_name="A bank",
            records=3,
            kept_because_zh="仅供其本身查阅。",
            kept_because_en="Shown to nobody else.",
        ),
    ],
    accesses=[ACCESS],
    releases=7,
    refusals=1,
    consents=[
        facts_pb2.StandingConsent(
            consent=consents_pb2.Consent(
                consent_id="con_1",
                recipient_id="par_bank",
                state=consents_pb2.CONSENT_STATE_ACTIVE,
                terms=consents_pb2.ConsentTerms(
                    purpose="credit_application", record_types=["vat_invoice"], expires_at=WHEN
                ),
            ),
            recipient_name="A bank",
            effect_zh="撤回立即生效。",
            effect_en="At once it reads nothing more.",
        )
    ],
    disputes=[DISPUTE],
    views=[
        facts_pb2.OwnView(
            viewed_at=WHEN, participant_id="par_clerk", principal_id="par_1", what="vat_invoice"
        )
    ],
)
HELD = facts_pb2.HeldRecord(
    provider_id="par_tax",
    recorded_at=WHEN,
    record=records_pb2.Record(
        provider_record_id="r-1",
        record_type="vat_invoice",
        date=Date(year=2024, month=5, day=31),
        obtained_at=WHEN,
        version=2,
        vat_invoice=payloads_pb2.VatInvoice(number="00000901"),
    ),
    disputes=[DISPUTE],
)


def test_a_claim_by_code_or_by_a_statement(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    claimed = mandates_pb2.ClaimFirmResponse(mandate=MANDATE)
    platform.answer("ClaimFirm", claimed, claimed, claimed)
    (tmp_path / "licence.jws").write_text("a.b.c\n")
    assert call("mandate", "claim", USCC, "--code", "abcd-efgh").code == 0
    assert call("mandate", "claim", USCC, "--proof", "licence.jws").code == 0
    assert call("mandate", "claim", USCC, "--proof", "-", input="d.e.f\n").code == 0
    proofs = [request.proof for request in platform.requests("ClaimFirm")]
    assert proofs == ["abcd-efgh", "a.b.c", "d.e.f"]


def test_a_file_that_is_no_statement_is_named(call: Run, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    done = call("mandate", "claim", USCC, "--proof", "photo.jpg")
    assert done.code == 2
    assert "photo.jpg is no statement" in " ".join(done.err.split())


@pytest.mark.parametrize("more", [[], ["--code", "x", "--proof", "licence.jws"]])
def test_a_claim_has_one_proof(call: Run, more: list[str]) -> None:
    done = call("mandate", "claim", USCC, *more)
    assert done.code == 2
    assert "one of the two" in " ".join(done.err.split())


def test_a_refused_proof_is_told(call: Run, platform: FakePlatform) -> None:
    platform.answer("ClaimFirm", refusal("PERMISSION_DENIED", "PROOF_INVALID"))
    done = call("mandate", "claim", USCC, "--code", "x")
    assert done.code == 1
    assert "PROOF_INVALID" in done.err


def test_an_appointment_names_powers_and_end(call: Run, platform: FakePlatform) -> None:
    platform.answer("AppointDelegate", mandates_pb2.AppointDelegateResponse(mandate=MANDATE))
    options = ["--power", "read", "--power", "dispute", "--power", "read", "--until", "2027-06-30"]
    done = call("mandate", "appoint", "par_2", *options)
    assert done.code == 0
    assert "read, dispute" in done.out
    (request,) = platform.requests("AppointDelegate")
    assert list(request.powers) == [mandates_pb2.POWER_READ, mandates_pb2.POWER_DISPUTE]
    assert request.until.seconds == 1814371199  # the end of that day in China


def test_an_unknown_power_is_wrong_use(call: Run) -> None:
    done = call("mandate", "appoint", "par_2", "--power", "rule", "--json")
    assert done.code == 2
    assert "one of read, grant" in done.document["error"]["message"]


def test_an_end_and_a_rule(call: Run, platform: FakePlatform) -> None:
    platform.answer("EndMandate", mandates_pb2.EndMandateResponse(mandate=MANDATE))
    assert call("mandate", "end", "man_1").code == 0
    assert platform.requests("EndMandate")[0].mandate_id == "man_1"
    rule = mandates_pb2.SigningRule(signer_ids=["par_1", "par_2"], required=2)
    platform.answer("SetSigningRule", mandates_pb2.SetSigningRuleResponse(rule=rule))
    done = call("mandate", "rule", "par_1", "par_2", "--required", "2")
    assert "needs 2 of: par_1, par_2" in done.out
    assert platform.requests("SetSigningRule")[0].rule == rule


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (mandates_pb2.SigningRule(signer_ids=["par_1"], required=1), "needs 1 of: par_1"),
        (mandates_pb2.SigningRule(required=1), "one account that may grant"),
        (None, "no longer speaks"),
    ],
)
def test_the_list_says_who_must_sign(
    call: Run, platform: FakePlatform, rule: mandates_pb2.SigningRule | None, told: str
) -> None:
    listed = mandates_pb2.ListMandatesResponse(mandates=[MANDATE], rule=rule)
    platform.answer("ListMandates", listed, listed, listed, listed)
    done = call("mandate", "list")
    assert "man_1" in done.out
    assert told in done.out
    document = call("mandate", "list", "--json").document
    assert [mandate["mandate_id"] for mandate in document["mandates"]] == ["man_1"]


def test_the_code_of_a_sandbox(run: Run, tmp_path: Path) -> None:
    key = tmp_path / "keys" / "sandbox-proof.key"
    key.parent.mkdir()
    key.touch(0o600)
    key.write_text("07" * 32)
    number = "91110108MA01234537"
    done = run("mandate", "code", number, "--data-dir", ".")
    assert done.code == 0
    assert run("mandate", "code", number, "--proof-key", str(key)).out == done.out
    assert run("mandate", "code", number, "--data-dir", ".", "--json").document == {
        "uscc": number,
        "code": done.out.strip(),
    }
    assert run("mandate", "code", number, "--data-dir", "nowhere").code == 2
    assert run("mandate", "code", number[::-1], "--data-dir", ".").code == 2


def test_facts_are_told_in_tables(call: Run, platform: FakePlatform) -> None:
    platform.answer("GetFacts", FACTS, FACTS)
    done = call("facts")
    told = " ".join(done.out.split())
    for part in (
        "Held 持有: 1,203 records",
        "Tax bureau",
        "Field visit 由 A bank 留存 kept by its supplier",
        "仅供其本身查阅。",
        "Shown to nobody else.",
        "Who looked 查询记录: 7 releases, 1 refusal",
        "A-17",
        "machine",
        "CONSENT_WITHDRAWN",
        "Consents in force 有效授权: 1",
        "puhui consent withdraw con_1",
        "撤回立即生效。",
        "At once it reads nothing more.",
        "Open disputes 未决异议: 1",
        "本人查询",
        "par_clerk",
    ):
        assert part in told
    assert call("facts", "--json").document["holdings"][0]["records"] == "1200"


def test_records_are_told_with_their_disputes(call: Run, platform: FakePlatform) -> None:
    page = facts_pb2.ListHeldRecordsResponse(records=[HELD, HELD])
    platform.answer("ListHeldRecords", page, page)
    done = call("facts", "--records", "vat_invoice", "--limit", "1")
    assert "00000901" in done.out
    assert "dis_1" in done.out
    assert "1 record" in done.out
    assert call("facts", "--records", "all", "--json").document["records"]
    asked = [request.record_type for request in platform.requests("ListHeldRecords")]
    assert asked == ["vat_invoice", ""]


def test_an_export_has_everything_and_is_the_owners(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("GetFacts", FACTS)
    platform.answer("ListHeldRecords", facts_pb2.ListHeldRecordsResponse(records=[HELD]))
    platform.answer("ListAccesses", accesses_pb2.ListAccessesResponse(accesses=[ACCESS, ACCESS]))
    done = call("facts", "--export", "mine", "--json")
    assert done.code == 0
    folder = tmp_path / "mine"
    assert sorted(done.document["files"]) == sorted(path.name for path in folder.iterdir())
    assert folder.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    whole = json.loads((folder / "facts.json").read_text())
    assert (len(whole["accesses"]), len(whole["records"])) == (2, 1)
    with (folder / "accesses.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["accessed_at"] == "2024-06-01T08:00:00+08:00"
    # Not a formula in a spreadsheet.
    assert rows[0]["officer"] == "'=HYPERLINK(1)"
    assert rows[0]["made_of_it"] == "score, decision by machine"
    with (folder / "holdings.csv").open(encoding="utf-8-sig", newline="") as file:
        kept = [row["kept_because_en"] for row in csv.DictReader(file)]
    assert kept == ["", "Shown to nobody else."]
    with (folder / "own_views.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["participant_id"] for row in csv.DictReader(file)] == ["par_clerk"]
    page = (folder / "facts.html").read_text()
    assert "<b>not ours</b>" not in page
    assert "&lt;b&gt;not ours&lt;/b&gt;" in page
    assert "src=" not in page
    assert "<script" not in page
    for table in folder.glob("*.csv"):
        names, *lines = csv.reader(table.read_text("utf-8-sig").splitlines())
        assert lines, table
        for name in names:
            assert re.search(rf"<th>[\u4e00-\u9fff（）]+ {name.replace('_', ' ')}</th>", page), name
    refused = call("facts", "--export", "mine")
    assert refused.code == 2
    assert "not an empty folder" in " ".join(refused.err.split())


def test_an_export_is_the_same_in_every_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    made = []
    for zone in ("UTC", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        made.append(documents(FACTS, [HELD], [ACCESS]))
    monkeypatch.undo()
    time.tzset()
    assert made[0] == made[1]


def test_an_export_takes_no_filter(call: Run) -> None:
    assert call("facts", "--export", "mine", "--records", "all").code == 2
