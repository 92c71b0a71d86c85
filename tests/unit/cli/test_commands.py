import hashlib
import json
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from typer.main import get_command

from puhui.common.v1 import access_pb2, types_pb2
from puhui.datashare.v1 import (
    accesses_pb2,
    catalogue_pb2,
    consents_pb2,
    participants_pb2,
    receipts_pb2,
    subjects_pb2,
    summaries_pb2,
)
from puhui.gateway.v1 import gateway_pb2
from puhui.scoring.v1 import decisions_pb2, models_pb2, registry_pb2, scoring_pb2
from puhui_client.signing import new_key
from services.cli.main import app
from services.scoring.features.firm import WINDOW
from tests.fakes.platform import UNAVAILABLE, FakePlatform, refusal
from tests.unit.cli.conftest import Outcome, Run

WHEN = Timestamp(seconds=1717200000)
USCC = "91110000MA00000077"
CONSENT = consents_pb2.Consent(
    consent_id="con_1",
    subject_id="sub_1",
    recipient_id="par_bank",
    state=consents_pb2.CONSENT_STATE_REQUESTED,
    revision=1,
    canonical=b"{}",
    canonical_sha256=b"\x01" * 32,
    terms=consents_pb2.ConsentTerms(
        purpose="credit_application",
        provider_ids=["par_tax"],
        record_types=["vat_invoice"],
        content_level=types_pb2.CONTENT_LEVEL_SUMMARY,
        data_period=types_pb2.DatePeriod(
            **{"from": Date(year=2021, month=6, day=1), "to": Date(year=2024, month=5, day=31)}
        ),
        expires_at=WHEN,
    ),
)
DECISION = scoring_pb2.Decision(
    decision_id="dec_1",
    subject_id="sub_1",
    decided_at=WHEN,
    access_id="acc_1",
    consent_id="con_1",
    purpose="credit_application",
    as_of=WHEN,
    model=scoring_pb2.ModelRef(version="m1", model_class=scoring_pb2.MODEL_CLASS_SIMULATED),
    pd=0.0312,
    score=642,
    grade="BBB",
    reasons=[
        scoring_pb2.Reason(
            code="sales_growth", points=-12.3, text_zh="销售下降", text_en="Sales shrink"
        )
    ],
    coverage=[
        summaries_pb2.Coverage(
            record_type="court_case", state=summaries_pb2.COVERAGE_STATE_NONE_EXISTS
        )
    ],
    notices=[scoring_pb2.Notice(code="SIMULATED", text_zh="模拟", text_en="Simulated model")],
)
PARTICIPANT = participants_pb2.Participant(
    participant_id="par_1",
    role=access_pb2.ROLE_PROVIDER,
    name="Tax",
    provider_kind="tax",
    standing=participants_pb2.STANDING_ACTIVE,
)


def refused(outcome: Outcome, code: int, *parts: str) -> None:
    assert outcome.code == code
    assert outcome.out == ""
    for part in parts:
        assert part in " ".join(outcome.err.split())


# Options, errors and exit codes.


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from services.cli.main import app\n"
        "heavy = {'grpc', 'google.protobuf', 'numpy', 'rich', 'sqlalchemy', 'lightgbm'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    started = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-m", "services.cli", "--help"], capture_output=True, check=True
    )
    assert time.perf_counter() - started < 5  # 0.25 s on a quiet machine
    assert b"sandbox" in shown.stdout


def test_the_version(run: Run) -> None:
    assert run("--version").out.startswith("puhui 0.")


def commands(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        return [(path, command)]
    return [
        found for name, part in command.commands.items() for found in commands(part, (*path, name))
    ]


COMMANDS = commands(get_command(app))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(c[0]) for c in COMMANDS])
def test_every_command_has_help_and_an_example(path: tuple[str, ...], command: Any) -> None:
    assert command.help
    assert f"puhui {' '.join(path)}" in command.epilog
    silent = [
        p.name for p in command.params if not getattr(p, "help", "") and p.name != "log_level"
    ]
    assert silent == []


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(c[0]) for c in COMMANDS])
def test_every_example_is_whole(path: tuple[str, ...], command: Any) -> None:
    words = shlex.split(command.epilog.removeprefix("Example: [bold]").removesuffix("[/]"))
    try:
        command.make_context("", words[1 + len(path) :])
    except typer.BadParameter as error:
        # Files of an example are not here.
        if "does not exist" not in error.message:
            pytest.fail(error.format_message())


def test_json_before_or_after_the_command(call: Run, platform: FakePlatform) -> None:
    platform.answer("WhoAmI", gateway_pb2.WhoAmIResponse(participant_id="par_1"))
    before = call("--json", "participant", "whoami")
    after = call("participant", "whoami", "--json")
    assert before.document == after.document
    assert before.document["participant_id"] == "par_1"


def test_the_connection_before_or_after_the_command(
    run: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("WhoAmI", gateway_pb2.WhoAmIResponse(participant_id="par_1"))
    key = tmp_path / "a.key"
    key.touch(0o600)
    key.write_text("key_9.secret")
    options = ["--gateway", platform.address, "--key-file", str(key)]
    assert run(*options, "participant", "whoami").code == 0
    assert run("participant", "whoami", *options).code == 0
    assert platform.calls[-1].metadata["authorization"] == "Bearer key_9.secret"


def test_without_settings(run: Run) -> None:
    refused(run("participant", "whoami"), 2, "no gateway: set PUHUI_GATEWAY")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json", "consent", "list", "--state", "lost"],
        ["score", "--json"],
        ["score", "--json", "--no-such"],
        ["--json", "no-such"],
        ["--json"],
        ["consent", "request", "--json"],
        ["--json", "--timeout", "soon", "participant", "whoami"],
        ["model", "train", "--labels", "missing.csv", "--out", "m", "--json"],
    ],
)
def test_wrong_use_is_a_document_too(call: Run, arguments: list[str]) -> None:
    done = call(*arguments)
    assert (done.code, done.err) == (2, "")
    assert done.document["error"]["reason"] == "WRONG_USE"
    assert done.document["error"]["message"]


def test_no_model_in_service(call: Run, platform: FakePlatform) -> None:
    platform.answer("ListModels", models_pb2.ListModelsResponse())
    done = call("model", "show", "--json")
    assert done.code == 2
    assert done.document["error"]["message"].startswith("no model is in service")
    refused(call("model", "show"), 2, "no model is in service")


def test_a_file_that_cannot_be_written(call: Run, platform: FakePlatform) -> None:
    platform.answer("IssueKey", participants_pb2.IssueKeyResponse(key_id="key_1", api_key="k.s"))
    refused(call("key", "issue", "par_1", "--out", "no/where.key"), 2, "no/where.key")


def test_no_option_takes_a_secret() -> None:
    named = {opt for _, command in COMMANDS for p in command.params for opt in p.opts}
    assert not named & {"--key", "--api-key", "--secret", "--password", "--token"}


def test_a_refusal_names_reason_field_and_remedy(call: Run, platform: FakePlatform) -> None:
    status = refusal(
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
        "fields break their rules, correct them",
        fields=[("terms.purpose", "value is required")],
    )
    platform.answer("Score", status)
    refused(
        call("score", "--file-ref", "A-17", "sub_1"),
        1,
        "FIELD_INVALID fields break their rules, correct them",
        "terms.purpose: value is required",
        "trace ",
    )
    error = call("score", "--file-ref", "A-17", "sub_1", "--json")
    assert error.code == 1
    told = error.document["error"]
    assert len(told.pop("trace_id")) == 32
    assert told == {
        "code": "INVALID_ARGUMENT",
        "reason": "FIELD_INVALID",
        "message": "fields break their rules, correct them",
        "fields": [{"field": "terms.purpose", "problem": "value is required"}],
    }


def test_an_overload_says_when_to_try_again(call: Run, platform: FakePlatform) -> None:
    platform.answer(
        "Score", refusal("RESOURCE_EXHAUSTED", "OVERLOADED", retry_after=timedelta(minutes=2))
    )
    refused(call("score", "--file-ref", "A-17", "sub_1"), 1, "OVERLOADED", "try again in 120 s")
    assert (
        call("score", "--file-ref", "A-17", "sub_1", "--json").document["error"][
            "retry_after_seconds"
        ]
        == 120
    )


def test_nobody_answers(call: Run, platform: FakePlatform) -> None:
    platform.answer("WhoAmI", UNAVAILABLE)
    refused(call("--timeout", "1", "participant", "whoami"), 1, "UNAVAILABLE")


# Consents.


def test_consent_request(call: Run, platform: FakePlatform) -> None:
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    before = datetime.now(UTC)
    done = call(
        *("consent", "request", USCC, "--provider", "par_tax", "--type", "vat_invoice"),
        *("--type", "tax_filing", "--days", "30", "--from", "2022-01-01", "--level", "profile"),
        *("--file-ref", "A-17"),
    )
    assert done.code == 0
    assert "Consent con_1: requested" in done.out
    (request,) = platform.requests("RequestConsent")
    terms = request.terms
    assert request.subject.uscc == USCC
    assert list(terms.record_types) == ["vat_invoice", "tax_filing"]
    assert terms.content_level == types_pb2.CONTENT_LEVEL_PROFILE
    assert getattr(terms.data_period, "from") == Date(year=2022, month=1, day=1)
    expires = terms.expires_at.ToDatetime(UTC)
    assert timedelta(days=30) <= expires - before < timedelta(days=30, minutes=1)


def test_consent_request_by_id_until_a_day(call: Run, platform: FakePlatform) -> None:
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    call(
        *("consent", "request", "sub_1", "--provider", "par_p", "--type", "grant"),
        *("--expires", "2030-01-31", "--file-ref", "A-17"),
    )
    (request,) = platform.requests("RequestConsent")
    assert request.subject.subject_id == "sub_1"
    # The end of the day in China.
    assert request.terms.expires_at.ToDatetime().isoformat() == "2030-01-31T15:59:59.999999"


@pytest.mark.parametrize(
    ("last", "first"),
    [("2026-11-23", (2023, 11)), ("2024-12-31", (2021, 12)), ("2024-02-29", (2021, 2))],
)
def test_a_consent_covers_36_whole_months_by_default(
    call: Run, platform: FakePlatform, last: str, first: tuple[int, int]
) -> None:
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    ask = ("consent", "request", "sub_1", "--provider", "par_p", "--type", "grant")
    call(*ask, "--to", last, "--file-ref", "A-17")
    call(*ask, "--file-ref", "A-17")
    given, today = (r.terms.data_period for r in platform.requests("RequestConsent"))
    start = getattr(given, "from")
    assert (start.year, start.month, start.day) == (*first, 1)
    begun = getattr(today, "from")
    assert (today.to.year - begun.year) * 12 + today.to.month - begun.month == WINDOW
    assert begun.day == 1


def test_consent_request_called_wrongly(call: Run) -> None:
    refused(call("consent", "request", USCC, "--type", "grant"), 2, "--provider")
    wrong = ["consent", "request", USCC, "--type", "g", "--provider", "par_p", "--from", "May"]
    refused(call(*wrong), 2, "write it as 2024-05-31")
    unnamed = ("consent", "request", USCC, "--type", "g", "--provider", "par_p")
    refused(call(*unnamed), 2, "give --file-ref")


def test_consent_grant_shows_the_terms_and_asks(call: Run, platform: FakePlatform) -> None:
    platform.answer("GetConsent", consents_pb2.GetConsentResponse(consent=CONSENT))
    platform.answer("GrantConsent", consents_pb2.GrantConsentResponse(consent=CONSENT))
    declined = call("consent", "grant", "con_1", input="n\n")
    assert declined.code == 1
    assert "vat_invoice" in declined.err
    assert "Grant exactly this?" in declined.err
    assert platform.requests("GrantConsent") == []
    assert call("consent", "grant", "con_1", input="y\n").code == 0
    assert call("consent", "grant", "con_1", "--yes", "--json").code == 0
    assert len(platform.requests("GrantConsent")) == 2
    unread = call("consent", "grant", "con_1", "--json")
    assert unread.code == 2
    assert "--yes" in unread.document["error"]["message"]


def directory(**names: str) -> participants_pb2.ListParticipantsResponse:
    return participants_pb2.ListParticipantsResponse(
        participants=[
            participants_pb2.Participant(participant_id=key, name=name)
            for key, name in names.items()
        ]
    )


def test_the_terms_to_grant_name_the_parties(call: Run, platform: FakePlatform) -> None:
    platform.answer("GetConsent", consents_pb2.GetConsentResponse(consent=CONSENT))
    platform.answer("ListParticipants", directory(par_bank="Bank of Trial"))
    asked = call("consent", "grant", "con_1", input="n\n").err
    assert "par_bank Bank of Trial" in asked
    assert "par_tax" in asked


def test_a_provider_by_name(call: Run, platform: FakePlatform) -> None:
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    platform.answer("ListParticipants", directory(par_1="Tax", par_2="Court", par_3="Court"))
    ask = ("consent", "request", "sub_1", "--type", "grant", "--file-ref", "A-17", "--json")
    assert call(*ask, "--provider", "Tax", "--provider", "par_2").code == 0
    (request,) = platform.requests("RequestConsent")
    assert list(request.terms.provider_ids) == ["par_1", "par_2"]
    assert platform.requests("ListParticipants")[0].role == access_pb2.ROLE_PROVIDER
    for name, told in (("Court", "par_2, par_3: name one by its id"), ("tax", "no provider is")):
        wrong = call(*ask, "--provider", name)
        assert wrong.code == 2
        assert told in wrong.document["error"]["message"]
    assert len(platform.requests("RequestConsent")) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("score", "{}", "--file-ref", "A-17"),
        ("consent", "request", "{}", "--type", "grant", "--provider", "par_1"),
        ("participant", "register", "firm", "Firm", "--subject", "{}"),
    ],
)
@pytest.mark.parametrize("subject", ["9111", USCC.lower(), "con_1", "Firm"])
def test_a_firm_that_is_named_by_neither(
    call: Run, platform: FakePlatform, command: tuple[str, ...], subject: str
) -> None:
    refused(call(*(part.format(subject) for part in command)), 2, "sub_...: this is neither")
    assert platform.calls == []


@pytest.mark.parametrize("verb", ["reject", "withdraw", "revoke"])
def test_consents_end(call: Run, platform: FakePlatform, verb: str) -> None:
    method = f"{verb.capitalize()}Consent"
    platform.answer(method, getattr(consents_pb2, f"{method}Response")(consent=CONSENT))
    done = call("consent", verb, "con_1", "--note", "why", "--json")
    assert done.document["consent"]["consent_id"] == "con_1"
    (request,) = platform.requests(method)
    assert (request.consent_id, request.note) == ("con_1", "why")


TERMS_FILE = """\
purpose = "portfolio_review"
provider = ["par_tax"]
type = ["vat_invoice", "tax_filing"]
level = "summary"
data_from = 2023-01-01
data_to = 2024-12-31
expires = "2024-12-31"
not_before = 2024-06-01T00:00:00
fetches = "4/month"
store_days = 180
score = false
automated_decision = true
onward = ["par_other"]
language = "en"
supersedes = "con_0"
for_subject = "sub_9"

[fields]
vat_invoice = ["output_net", "output_valid"]
"""


def test_terms_come_from_a_file_and_options_win(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("RequestConsent", consents_pb2.RequestConsentResponse(consent=CONSENT))
    file = tmp_path / "terms.toml"
    file.write_text(TERMS_FILE)
    officer = ("--officer", "Wang", "--file-ref", "A-17")
    asked = ("consent", "request", "sub_1", "--terms", str(file), *officer, "--json")
    assert call(*asked).code == 0
    (request,) = platform.requests("RequestConsent")
    terms = request.terms
    assert (terms.purpose, list(terms.record_types)) == (
        "portfolio_review",
        ["vat_invoice", "tax_filing"],
    )
    assert terms.mode == consents_pb2.CONSENT_MODE_STORE
    assert terms.data_life_days == 180
    assert (terms.fetch_limit.periodic.times, terms.fetch_limit.periodic.unit) == (
        4,
        consents_pb2.FREQUENCY_UNIT_MONTH,
    )
    assert (terms.derived_use.score, terms.derived_use.automated_decision) == (False, True)
    assert list(terms.onward_recipient_ids) == ["par_other"]
    assert terms.notice_language == "en"
    assert [(part.record_type, list(part.names)) for part in terms.fields] == [
        ("vat_invoice", ["output_net", "output_valid"])
    ]
    assert terms.not_before.ToJsonString() == "2024-05-31T16:00:00Z"
    assert request.supersedes_consent_id == "con_0"
    assert terms.for_subject_id == "sub_9"
    assert (request.officer.name, request.officer.file_reference) == ("Wang", "A-17")
    changed = ("--once", "--level", "profile", "--type", "grant", "--field", "grant.amount")
    platform.answer("ResolveSubject", subjects_pb2.ResolveSubjectResponse(subject_id="sub_10"))
    assert call(*asked, *changed, "--score", "--for", USCC).code == 0
    terms = platform.requests("RequestConsent")[1].terms
    assert terms.for_subject_id == "sub_10"
    assert terms.fetch_limit.WhichOneof("limit") == "one_time"
    assert terms.content_level == types_pb2.CONTENT_LEVEL_PROFILE
    assert terms.derived_use.score
    assert [part.record_type for part in terms.fields] == ["grant"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("purposes = 1", "there is no `purposes`: its keys are purpose,"),
        ("days = '9'", "`days` should be a whole number"),
        ("days = true", "`days` should be a whole number"),
        ("type = []", "`type` should be a list of texts"),
        ("fields = {a = 'b'}", "`fields` should be a table of lists of texts"),
        ("level = 'all'", "`level` should be profile, summary, transactions"),
        ("data_from = 'May'", "write it as 2024-05-31"),
        ("= 1", "is not TOML"),
        ("language = 'fr'", "zh or en"),
        ("fetches = '4 a month'", "4/month"),
        ("once = true\nfetches = '4/month'", "exclude each other"),
    ],
)
def test_a_file_of_terms_that_is_wrong(
    call: Run, platform: FakePlatform, tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "terms.toml"
    file.write_text(content)
    wrong = call(
        *("consent", "request", "sub_1", "--terms", str(file), "--provider", "par_1"),
        *(() if content.startswith("type") else ("--type", "grant")),
    )
    refused(wrong, 2, told)
    assert platform.calls == []


def test_pausing_and_resuming(call: Run, platform: FakePlatform) -> None:
    platform.answer("PauseConsent", consents_pb2.PauseConsentResponse(consent=CONSENT))
    platform.answer("ResumeConsent", consents_pb2.ResumeConsentResponse(consent=CONSENT))
    assert call("consent", "pause", "con_1", "--note", "audit").code == 0
    assert call("consent", "resume", "con_1").code == 0
    (paused,) = platform.requests("PauseConsent")
    assert (paused.consent_id, paused.note) == ("con_1", "audit")


def test_what_is_to_be_erased(call: Run, platform: FakePlatform) -> None:
    duty = consents_pb2.ErasureDuty(
        consent_id="con_1", recipient_id="par_bank", statement="deleted"
    )
    duty.due_at.FromJsonString("2024-08-31T00:00:00Z")
    platform.answer("ListErasureDuties", consents_pb2.ListErasureDutiesResponse(duties=[duty]))
    platform.answer("ListParticipants", directory(par_bank="Bank of Trial"))
    platform.answer("AttestErasure", consents_pb2.AttestErasureResponse(duty=duty))
    listed = call("consent", "duties", "--overdue")
    assert "par_bank Bank of Trial" in listed.out
    assert "1 duty\n" in listed.out
    assert platform.requests("ListErasureDuties")[0].overdue
    attest = ("consent", "attest", "con_1", "--statement", "deleted")
    assert call(*attest).code == 2
    done = call(*attest, "--officer", "Wang", "--file-ref", "A-17", "--json")
    assert done.document["duty"]["consent_id"] == "con_1"
    (request,) = platform.requests("AttestErasure")
    assert (request.officer.name, request.statement) == ("Wang", "deleted")


def test_a_consent_is_verified(call: Run, platform: FakePlatform) -> None:
    key, notice = new_key(), "告知书\n"
    core = {
        "consent_id": "con_1",
        "notice": {"sha256": hashlib.sha256(notice.encode()).hexdigest()},
    }
    canonical = json.dumps(core).encode()
    receipt = {
        "canonical_sha256": hashlib.sha256(canonical).hexdigest(),
        "ended_at": "2026-05-01T08:30:00Z",
        "ended_by": "par_accountant",
        "principal_id": "par_owner",
        "delegate_id": "par_accountant",
    }
    end = json.dumps(receipt).encode()
    consent = consents_pb2.Consent(
        consent_id="con_1", canonical=canonical, platform_jws=key.sign(canonical), notice=notice
    )
    consent.termination.canonical, consent.termination.jws = end, key.sign(end)
    known = receipts_pb2.PlatformKey(key_id=key.key_id, public_jwk=key.public.jwk, suite="EdDSA")
    platform.answer("ListPlatformKeys", receipts_pb2.ListPlatformKeysResponse(keys=[known]))
    platform.answer("GetConsent", consents_pb2.GetConsentResponse(consent=consent))
    good = call("consent", "verify", "con_1")
    assert good.code == 0
    assert f"signed by EdDSA with {key.key_id}" in good.out
    assert "2026-05-01" in good.out
    assert "par_accountant for par_owner" in good.out
    assert "par_accountant" in call("consent", "show", "con_1").out
    consent.notice = "another"
    consent.termination.canonical = end + b" "
    platform.answer("GetConsent", consents_pb2.GetConsentResponse(consent=consent))
    bad = call("consent", "verify", "con_1", "--json")
    assert bad.code == 1
    assert not bad.document["valid"]
    assert bad.document["checks"]["consent"].startswith("signed by")
    assert bad.document["checks"]["end"].startswith("NOT VALID")
    assert bad.document["checks"]["notice"].startswith("NOT VALID")
    # What the platform signed, of another consent.
    consent.termination.canonical, consent.termination.jws = b"{}", key.sign(b"{}")
    platform.answer("GetConsent", consents_pb2.GetConsentResponse(consent=consent))
    other = call("consent", "verify", "con_2", "--json").document["checks"]
    assert other["consent"] == other["end"] == "NOT VALID: of another consent"


def test_a_grant_is_signed(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    key, file = new_key(), tmp_path / "firm.pem"
    file.write_text(key.pem)
    file.chmod(0o600)
    platform.answer("GetConsent", consents_pb2.GetConsentResponse(consent=CONSENT))
    platform.answer("GrantConsent", consents_pb2.GrantConsentResponse(consent=CONSENT))
    assert call("consent", "grant", "con_1", "--yes", "--signing-key", str(file)).code == 0
    (request,) = platform.requests("GrantConsent")
    (signature,) = request.signatures
    key.public.verify(signature.jws, CONSENT.canonical)
    refused(
        call("consent", "grant", "con_1", "--yes", "--signing-key", "none"), 2, "cannot be read"
    )


def test_consents_are_shown_and_listed(call: Run, platform: FakePlatform) -> None:
    platform.answer("GetConsent", consents_pb2.GetConsentResponse(consent=CONSENT))
    platform.answer("ListConsents", consents_pb2.ListConsentsResponse(consents=[CONSENT]))
    platform.answer("ListParticipants", directory(par_bank="Bank of Trial", par_tax="Tax"))
    shown = call("consent", "show", "con_1")
    assert "2021-06-01 to 2024-05-31" in shown.out
    listed = call("consent", "list", "--state", "active")
    assert "con_1" in listed.out
    assert platform.requests("ListConsents")[0].state == consents_pb2.CONSENT_STATE_ACTIVE
    for named in (shown, listed):
        assert "par_bank Bank of Trial" in named.out
    assert "par_tax Tax" in shown.out
    assert "1 consent\n" in listed.out
    document = call("consent", "list", "--json").document
    assert document["consents"][0]["terms"]["record_types"] == ["vat_invoice"]
    assert document["consents"][0]["state"] == "CONSENT_STATE_REQUESTED"
    two = consents_pb2.ListConsentsResponse(consents=[CONSENT] * 2, next_page_token="more")
    platform.answer("ListConsents", two)
    assert len(call("consent", "list", "--limit", "2", "--json").document["consents"]) == 2


# Scores, decisions, accesses.


def test_score(call: Run, platform: FakePlatform) -> None:
    platform.answer("Score", scoring_pb2.ScoreResponse(decision=DECISION))
    shown = call(
        "score",
        "--file-ref",
        "A-17",
        "sub_1",
        "--consent",
        "con_1",
        "--as-of",
        "2024-05-31T18:00:00+08:00",
    )
    assert shown.code == 0
    for part in ("Score 642", "Grade BBB", "PD 3.12%", "-12.3", "销售下降", "Sales shrink"):
        assert part in shown.out
    assert "none exists: court case" in shown.out
    assert "Simulated model" in shown.out
    order = platform.requests("Score")[0].order
    assert (order.subject_id, order.consent_id) == ("sub_1", "con_1")
    assert order.as_of.ToDatetime().isoformat() == "2024-05-31T10:00:00"


def test_score_as_json(call: Run, platform: FakePlatform) -> None:
    platform.answer("Score", scoring_pb2.ScoreResponse(decision=DECISION))
    assert call(
        "score", "--file-ref", "A-17", "sub_1", "--consent", "con_1", "--json"
    ).document == {
        "decision": {
            "decision_id": "dec_1",
            "subject_id": "sub_1",
            "decided_at": "2024-06-01T00:00:00Z",
            "access_id": "acc_1",
            "consent_id": "con_1",
            "purpose": "credit_application",
            "as_of": "2024-06-01T00:00:00Z",
            "model": {"version": "m1", "model_class": "MODEL_CLASS_SIMULATED"},
            "pd": 0.0312,
            "score": 642,
            "grade": "BBB",
            "reasons": [
                {
                    "code": "sales_growth",
                    "points": -12.3,
                    "text_zh": "销售下降",
                    "text_en": "Sales shrink",
                    "features": [],
                    "direction": "REASON_DIRECTION_UNSPECIFIED",
                    "improve_zh": "",
                    "improve_en": "",
                }
            ],
            "coverage": [{"record_type": "court_case", "state": "COVERAGE_STATE_NONE_EXISTS"}],
            "notices": [{"code": "SIMULATED", "text_zh": "模拟", "text_en": "Simulated model"}],
            "disputes": [],
            "linked": [],
            "product": "",
            "declared": [],
            "base": 0,
            "points": [],
            "outcome_sha256": "",
        }
    }


def test_score_by_registration_number(call: Run, platform: FakePlatform) -> None:
    platform.answer("ResolveSubject", subjects_pb2.ResolveSubjectResponse(subject_id="sub_7"))
    platform.answer("Score", scoring_pb2.ScoreResponse(decision=DECISION))
    assert call("score", "--file-ref", "A-17", USCC, "--consent", "con_1").code == 0
    assert platform.requests("ResolveSubject")[0].uscc == USCC
    assert platform.requests("Score")[0].order.subject_id == "sub_7"


LINKED = scoring_pb2.LinkedAccess(
    relation=scoring_pb2.SUBJECT_RELATION_GUARANTOR,
    subject_id="sub_2",
    access_id="acc_2",
    consent_id="con_2",
    pd=0.0625,
    coverage=[
        summaries_pb2.Coverage(
            record_type="vat_invoice", state=summaries_pb2.COVERAGE_STATE_SUPPLIED
        )
    ],
    disputes=[summaries_pb2.DisputeMark(dispute_id="dis_9", record_type="vat_invoice")],
)


def test_score_beside_linked_subjects(call: Run, platform: FakePlatform) -> None:
    decision = scoring_pb2.Decision()
    decision.CopyFrom(DECISION)
    decision.linked.append(LINKED)
    platform.answer("ResolveSubject", subjects_pb2.ResolveSubjectResponse(subject_id="sub_7"))
    platform.answer("Score", scoring_pb2.ScoreResponse(decision=decision))
    shown = call(
        *("score", "--file-ref", "A-17", "sub_1", "--consent", "con_1"),
        *("--linked", "guarantor:sub_2:con_2", "--linked", f"buyer:{USCC}:con_3"),
    )
    assert shown.code == 0
    order = platform.requests("Score")[0].order
    assert [(each.relation, each.subject_id, each.consent_id) for each in order.linked] == [
        (scoring_pb2.SUBJECT_RELATION_GUARANTOR, "sub_2", "con_2"),
        (scoring_pb2.SUBJECT_RELATION_BUYER, "sub_7", "con_3"),
    ]
    for part in ("Linked", "guarantor", "sub_2", "6.25%", "supplied: vat invoice", "dis_9"):
        assert part in shown.out


@pytest.mark.parametrize(
    "text", ["sub_2:con_2", "friend:sub_2:con_2", "guarantor:sub_2:", "guarantor:sub_2:con:2", ""]
)
def test_what_names_no_linked_subject(call: Run, platform: FakePlatform, text: str) -> None:
    wrong = call("score", "--file-ref", "A-17", "sub_1", "--linked", text)
    refused(wrong, 2, "owner, guarantor or buyer")
    assert platform.calls == []


def test_a_portfolio_names_linked_subjects_by_row(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer("BatchScore", portfolio)
    table = "subject_id,consent_id,linked\nsub_1,con_1,guarantor:sub_2:con_2 owner:sub_3:con_3\n"
    (tmp_path / "p.csv").write_text(f"{table}sub_4,con_4,\n")
    asked = ("score", "--file-ref", "A-17", "--batch", "p.csv")
    assert call(*asked, "--json").code == 0
    one, two = platform.requests("BatchScore")[0].orders
    assert [each.subject_id for each in one.linked] == ["sub_2", "sub_3"]
    assert not two.linked
    refused(call(*asked, "--linked", "guarantor:sub_2:con_2"), 2, "column `linked`")
    (tmp_path / "p.csv").write_text(table.replace("owner", "wife"))
    refused(call(*asked), 2, "line 2: wife:sub_3:con_3 is no linked subject")


def portfolio(request: scoring_pb2.BatchScoreRequest) -> list[scoring_pb2.BatchScoreResponse]:
    return [
        scoring_pb2.BatchScoreResponse(
            index=1, refused=refusal("FAILED_PRECONDITION", "CONSENT_EXPIRED")
        ),
        scoring_pb2.BatchScoreResponse(index=0, decision=DECISION),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.csv", "subject_id,consent_id,as_of\nsub_1,con_1,\nsub_2,con_2,2024-05-31\n"),
        (
            "p.jsonl",
            '{"subject_id": "sub_1", "consent_id": "con_1"}\n\n'
            '{"subject_id": "sub_2", "consent_id": "con_2", "as_of": "2024-05-31"}\n',
        ),
    ],
)
def test_score_a_portfolio(
    call: Run, platform: FakePlatform, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    platform.answer("BatchScore", portfolio)
    document = call(
        "score", "--file-ref", "A-17", "--batch", name, "--purpose", "portfolio_review", "--json"
    ).document
    assert (document["scored"], document["refused"]) == (1, 1)
    first, second = document["results"]
    assert (first["index"], first["decision"]["score"]) == (0, 642)
    assert (second["subject_id"], second["error"]["reason"]) == ("sub_2", "CONSENT_EXPIRED")
    one, two = platform.requests("BatchScore")[0].orders
    assert one.purpose == two.purpose == "portfolio_review"
    assert one.request_id != two.request_id
    assert not one.HasField("as_of")
    assert two.HasField("as_of")
    assert "CONSENT_EXPIRED" in call("score", "--file-ref", "A-17", "--batch", name).out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "subject_id,consent\nsub_1,con_1\n", "line 2: unknown column consent"),
        ("p.csv", "subject_id,consent_id\n,con_1\n", "line 2: subject_id is missing"),
        ("p.csv", "subject_id\nsub_1,x\n", "line 2: more cells"),
        ("p.csv", "subject_id,as_of\nsub_1,May\n", "line 2: as_of: not a time"),
        ("p.CSV", "subject_id,as_of\nsub_1,May\n", "line 2: as_of: not a time"),
        ("p.csv", "subject_id,consent_id\nsub_1,\udcd6\udcd0\n", "p.csv is not UTF-8: convert it"),
        ("p.jsonl", '{"subject_id": 5}\n', "line 1: subject_id is not a text"),
        ("p.jsonl", '{"subject_id": "s", "as_of": 2024}\n', "line 1: as_of is not a text"),
        ("p.jsonl", '{"subject_id": "s", "officer": {"a": 1}}\n', "line 1: officer is not a text"),
        ("p.jsonl", "{\n", "line 1: not JSON"),
        ("p.jsonl", "[]\n", "line 1: not a JSON object"),
    ],
)
def test_a_portfolio_that_cannot_be_read(
    call: Run, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(call("score", "--file-ref", "A-17", "--batch", name), 2, message)


def test_who_asks_and_for_which_file_is_needed(
    call: Run, platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.answer("Score", scoring_pb2.ScoreResponse(decision=DECISION))
    refused(call("score", "sub_1"), 2, "give --file-ref")
    assert call("score", "sub_1", "--file-ref", "A-17", "--automated-decision").code == 0
    assert platform.requests("Score")[0].order.automated_decision
    officer = platform.requests("Score")[0].order.officer
    assert (officer.name, officer.file_reference) == ("Wang 王", "A-17")
    monkeypatch.delenv("PUHUI_OFFICER")
    refused(call("score", "sub_1"), 2, "give --officer or PUHUI_OFFICER and --file-ref")
    (tmp_path / "p.csv").write_text("subject_id,officer,file_reference\nsub_1,Li,A\nsub_2,Li,\n")
    refused(call("score", "--batch", "p.csv"), 2, "p.csv, line 3: the firm is told")
    train = ("model", "train", "--labels", "p.csv", "--out", "m")
    refused(call(*train, "--officer", "Li"), 2, "give --file-ref")


def test_score_needs_one_or_many(call: Run) -> None:
    refused(call("score"), 2, "name a subject, or give --batch FILE")


def test_decisions(call: Run, platform: FakePlatform) -> None:
    answer = decisions_pb2.GetDecisionResponse(
        decision=DECISION,
        features=[
            scoring_pb2.FeatureValue(name="sales_growth", value=-0.25, unit="ratio"),
            scoring_pb2.FeatureValue(
                name="arrears", missing=summaries_pb2.COVERAGE_STATE_NOT_CONSENTED
            ),
        ],
        groups=[decisions_pb2.GroupPoints(group="sales", points=-12.3)],
        base_points=600,
        reproduced=True,
    )
    platform.answer("GetDecision", answer)
    platform.answer("ListDecisions", decisions_pb2.ListDecisionsResponse(decisions=[DECISION]))
    shown = call("decision", "show", "dec_1", "--use", "dispute")
    for part in ("-0.25", "not consented", "-12.30", "Reproduced"):
        assert part in shown.out
    assert platform.requests("GetDecision")[0].use == decisions_pb2.DECISION_USE_DISPUTE
    assert call("decision", "show", "dec_1", "--json").document["reproduced"] is True
    assert "dec_1" in call("decision", "list").out


def test_a_narrow_terminal_shows_rows_as_blocks(
    call: Run, platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = participants_pb2.Participant()
    listed.CopyFrom(PARTICIPANT)
    listed.participant_id = "par_01JDE0000000000000000000AA"
    listed.subject_id = "sub_01JDE0000000000000000000BB"
    listed.registered_at.CopyFrom(WHEN)
    answer = participants_pb2.ListParticipantsResponse(participants=[listed])
    platform.answer("ListParticipants", answer)
    wide = call("participant", "list").out
    assert [line for line in wide.splitlines() if "provider" in line and "active" in line]
    monkeypatch.setenv("COLUMNS", "80")
    lines = [" ".join(line.split()) for line in call("participant", "list").out.splitlines()]
    assert listed.participant_id in lines
    assert f"subject {listed.subject_id}" in lines
    assert "name Tax" in lines
    assert max(map(len, lines)) <= 80


def test_accesses(call: Run, platform: FakePlatform) -> None:
    found = [
        accesses_pb2.Access(
            access_id=f"acc_{n}",
            accessed_at=WHEN,
            recipient_name="Bank of Trial",
            purpose="credit_application",
            outcome=accesses_pb2.ACCESS_OUTCOME_REFUSED,
            refusal_reason="CONSENT_WITHDRAWN",
        )
        for n in range(3)
    ]
    platform.answer("ListAccesses", accesses_pb2.ListAccessesResponse(accesses=found))
    some = call("accesses", "--limit", "2")
    assert "2 accesses" in some.out
    assert "CONSENT_WITHDRAWN" in some.out
    assert "there are more than 2: see more of them by --limit" in some.err
    assert "more than" not in call("accesses", "--limit", "3").err
    assert len(call("accesses", "--json").document["accesses"]) == 3


# The catalogue, participants, keys.


def test_catalogue(call: Run, platform: FakePlatform) -> None:
    policy = catalogue_pb2.RecordTypePolicy(
        record_type="vat_invoice",
        title=catalogue_pb2.Text(zh="增值税发票", en="VAT invoice"),
        sharing_mode=catalogue_pb2.SHARING_MODE_STANDING,
        provider_kinds=["tax"],
        measures=[catalogue_pb2.Measure(name="output_net", unit="fen")],
        code_lists=[
            catalogue_pb2.CodeList(field="x", codes=[catalogue_pb2.Code(code="y", adverse=True)])
        ],
        fields=[catalogue_pb2.Field(name="gross", unit="CNY", required=True)],
        control_field="gross",
        kept_to_provider=True,
        retention=catalogue_pb2.Retention(
            days=1095,
            from_field="decided",
            days_by_severity={"serious": 1095, "minor": 90},
            until_field="publish_until",
            repaired_field="repaired_at",
        ),
    )
    purpose = catalogue_pb2.Purpose(code="credit_application", max_days=365, max_content_level=3)
    platform.answer("ListRecordTypes", catalogue_pb2.ListRecordTypesResponse(types=[policy]))
    platform.answer("ListPurposes", catalogue_pb2.ListPurposesResponse(purposes=[purpose]))
    platform.answer("GetRecordType", catalogue_pb2.GetRecordTypeResponse(type=policy))
    listed = call("catalogue", "list").out
    for part in ("增值税发票 VAT invoice", "standing", "credit_application", "transactions"):
        assert part in listed
    shown = call("catalogue", "show", "vat_invoice").out
    assert "output_net" in shown
    assert "Codes of x" in shown
    assert "(adverse)" in shown
    assert "sum of gross" in shown
    assert "by its supplier alone" in shown
    kept = (
        "1095 days from decided; by severity: minor 90, serious 1095; not beyond publish_until; "
        "hidden from repaired_at on"
    )
    assert kept in " ".join(shown.split())
    assert call("catalogue", "list", "--json").document["purposes"][0]["max_days"] == 365


def test_participants(call: Run, platform: FakePlatform) -> None:
    answer = participants_pb2.RegisterParticipantResponse(participant=PARTICIPANT)
    platform.answer("RegisterParticipant", answer)
    platform.answer("SetStanding", participants_pb2.SetStandingResponse(participant=PARTICIPANT))
    platform.answer(
        "ListParticipants", participants_pb2.ListParticipantsResponse(participants=[PARTICIPANT])
    )
    said = ("Tax", "--kind", "tax", "--historical", "--simulated")
    made = call("participant", "register", "provider", *said)
    assert "par_1" in made.out
    call("participant", "register", "firm", "Firm", "--subject", USCC)
    provider, firm = platform.requests("RegisterParticipant")
    assert provider.role == access_pb2.ROLE_PROVIDER
    assert provider.historical_source
    assert provider.simulated_source
    assert not firm.simulated_source
    assert firm.subject.uscc == USCC
    assert "tax" in call("participant", "list", "--role", "provider").out
    call("participant", "suspend", "par_1", "--note", "an incident")
    assert platform.requests("SetStanding")[0].note == "an incident"
    call("participant", "reinstate", "par_1")
    assert [r.standing for r in platform.requests("SetStanding")] == [
        participants_pb2.STANDING_SUSPENDED,
        participants_pb2.STANDING_ACTIVE,
    ]


def test_keys(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    issued = participants_pb2.IssueKeyResponse(key_id="key_2", api_key="key_2.topsecret")
    platform.answer("IssueKey", issued)
    platform.answer("RevokeKey", participants_pb2.RevokeKeyResponse(revoked_at=WHEN))
    assert call("key", "issue", "par_1", "--json").document["api_key"] == "key_2.topsecret"
    written = call("key", "issue", "par_1", "--out", "bank.key")
    assert "topsecret" not in written.out + written.err
    path = tmp_path / "bank.key"
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("key_2.topsecret\n", 0o600)
    refused(call("key", "issue", "par_1", "--out", "bank.key"), 2, "is there already")
    assert len(platform.requests("IssueKey")) == 2
    assert call("key", "revoke", "key_2", "--json").document == {
        "key_id": "key_2",
        "revoked_at": "2024-06-01T00:00:00+00:00",
    }
    refused(call("key", "revoke", "key_2.topsecret"), 2, "never the secret")


def test_models_that_are_served(call: Run, platform: FakePlatform) -> None:
    model = models_pb2.Model(
        ref=scoring_pb2.ModelRef(version="m1", model_class=scoring_pb2.MODEL_CLASS_SIMULATED),
        in_service=True,
        state=registry_pb2.MODEL_STATE_CHAMPION,
        stopped=True,
        metrics=[models_pb2.Metric(name="auc", value=0.91234)],
        card="# Model m1\n\nFor **trying out** only.",
    )
    platform.answer("ListModels", models_pb2.ListModelsResponse(models=[model]))
    platform.answer("GetModel", models_pb2.GetModelResponse(model=model))
    listed = call("model", "list").out
    assert "0.912" in listed
    assert "champion, stopped" in " ".join(listed.split())
    assert "trying out" in call("model", "show").out
    assert platform.requests("GetModel")[0].version == "m1"
    assert call("model", "show", "m1", "--json").document["model"]["in_service"] is True
    platform.answer("ListModels", models_pb2.ListModelsResponse())
    refused(call("model", "show"), 2, "no model is in service")
