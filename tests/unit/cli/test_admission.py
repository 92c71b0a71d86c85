"""`puhui participant advance` and so on, and `puhui credential`."""

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from joserfc.jwk import RSAKey

from puhui.common.v1 import access_pb2
from puhui.datashare.v1 import credentials_pb2, participants_pb2
from tests.fakes.certificates import certificate
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run

DAY = Date(year=2026, month=5, day=4)
BANK = participants_pb2.Participant(
    participant_id="par_1",
    role=access_pb2.ROLE_BANK,
    name="A bank",
    standing=participants_pb2.STANDING_LICENCE_CHECKED,
    products=["credit_reporting"],
    licence_ends=Date(year=2027, month=5, day=4),
)
DOCUMENT = ("--kind", "licence", "--reference", "7/2026", "--dated", "2026-05-04")
KEY = credentials_pb2.Credential(
    credential_id="crd_1", participant_id="par_1", certificate_sha256="abc", label="2027"
)
PERSON = credentials_pb2.Credential(
    credential_id="crd_2",
    participant_id="par_1",
    person=credentials_pb2.PersonAccount(issuer="https://id.example", subject="li"),
    revoked_at=Timestamp(seconds=1_780_000_000),
)


def test_steps_are_taken_with_their_documents(
    call: Run, platform: FakePlatform, tmp_path: Path
) -> None:
    platform.answer(
        "AdvanceParticipant", participants_pb2.AdvanceParticipantResponse(participant=BANK)
    )
    paper = tmp_path / "licence.pdf"
    paper.write_bytes(b"paper")
    more = ("--ends", "2027-05-04", "--file", str(paper), "--product", "credit_reporting")
    made = call("participant", "advance", "par_1", "licence-checked", *DOCUMENT, *more)
    assert "licence_checked" in made.out.replace("-", "_")
    assert "2027-05-04" in made.out
    call("participant", "approve", "par_1", *DOCUMENT, "--note", "unanimous")
    call("participant", "advance", "par_1", "activated")
    call("participant", "exit", "par_1", *DOCUMENT)
    checked, approved, activated, left = platform.requests("AdvanceParticipant")
    assert checked.step == participants_pb2.PARTICIPANT_STEP_LICENCE_CHECKED
    assert checked.evidence == participants_pb2.Evidence(
        kind="licence",
        reference="7/2026",
        sha256=hashlib.sha256(b"paper").digest(),
        dated=DAY,
        ends=Date(year=2027, month=5, day=4),
    )
    assert list(checked.products) == ["credit_reporting"]
    assert (approved.step, approved.note) == (
        participants_pb2.PARTICIPANT_STEP_APPROVED,
        "unanimous",
    )
    assert activated.step == participants_pb2.PARTICIPANT_STEP_ACTIVATED
    assert not activated.HasField("evidence")
    assert left.step == participants_pb2.PARTICIPANT_STEP_EXITED


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("needs --kind, --reference and --dated", ("--kind", "licence")),
        ("not a day", (*DOCUMENT[:-1], "yesterday")),
    ],
)
def test_half_a_document_is_none(call: Run, problem: str, said: tuple[str, ...]) -> None:
    refused = call("participant", "advance", "par_1", "conformant", *said)
    assert refused.code == 2
    assert problem in refused.err


def test_a_participant_is_shown_with_what_happened_to_it(call: Run, platform: FakePlatform) -> None:
    event = participants_pb2.ParticipantEvent(
        step=participants_pb2.PARTICIPANT_STEP_LICENCE_CHECKED,
        at=Timestamp(seconds=1_780_000_000),
        by_participant_id="operator",
        by_person_id="per_1",
        evidence=participants_pb2.Evidence(kind="licence", reference="7/2026", dated=DAY),
        products=["credit_reporting"],
        note="checked",
    )
    answer = participants_pb2.GetParticipantResponse(participant=BANK, events=[event])
    platform.answer("GetParticipant", answer)
    shown = call("participant", "show", "par_1")
    for words in ("A bank", "licence 7/2026", "per_1", "2026-05-04", "checked"):
        assert words in shown.out
    document = call("participant", "show", "par_1", "--json").document
    assert document["events"][0]["note"] == "checked"
    assert document["participant"]["products"] == ["credit_reporting"]


def test_an_institution_applies(call: Run, platform: FakePlatform) -> None:
    platform.answer(
        "RegisterParticipant", participants_pb2.RegisterParticipantResponse(participant=BANK)
    )
    call("participant", "apply", "bank", "A bank")
    (request,) = platform.requests("RegisterParticipant")
    assert request.role == access_pb2.ROLE_BANK


def pem_of(key: Ed25519PrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_credentials(call: Run, platform: FakePlatform, tmp_path: Path) -> None:
    platform.answer(
        "RegisterCredential", credentials_pb2.RegisterCredentialResponse(credential=KEY)
    )
    platform.answer("RevokeCredential", credentials_pb2.RevokeCredentialResponse(credential=KEY))
    platform.answer(
        "ListCredentials", credentials_pb2.ListCredentialsResponse(credentials=[KEY, PERSON])
    )
    pem, rsa = tmp_path / "bank.crt", tmp_path / "rsa.jwk"
    pem.write_text(certificate())
    rsa.write_text(json.dumps(RSAKey.generate_key(2048).as_dict(private=False)))
    ed25519 = tmp_path / "bank.pem"
    ed25519.write_text(pem_of(Ed25519PrivateKey.generate()))
    made = call("credential", "add-certificate", "par_1", str(pem), "--label", "2027")
    assert "crd_1" in made.out
    call("credential", "add-key", "par_1", str(rsa))
    call("credential", "add-key", "par_1", str(ed25519))
    call("credential", "add-person", "par_1", "https://id.example", "li")
    certified, by_jwk, by_pem, person = platform.requests("RegisterCredential")
    assert (certified.certificate_pem, certified.label) == (pem.read_text(), "2027")
    assert json.loads(by_jwk.public_jwk)["kty"] == "RSA"
    assert json.loads(by_pem.public_jwk)["crv"] == "Ed25519"
    assert (person.person.issuer, person.person.subject) == ("https://id.example", "li")
    call("credential", "revoke", "par_1", "crd_1")
    assert platform.requests("RevokeCredential")[0].credential_id == "crd_1"
    listed = call("credential", "list", "par_1")
    for words in ("2 credentials", "certificate", "person", "https://id.example li"):
        assert words in listed.out
    document = call("credential", "list", "par_1", "--json").document
    assert [each["credential_id"] for each in document["credentials"]] == ["crd_1", "crd_2"]


@pytest.mark.parametrize("command", ["add-certificate", "add-key"])
def test_private_keys_stay_where_they_are(
    call: Run, platform: FakePlatform, tmp_path: Path, command: str
) -> None:
    file = tmp_path / "key"
    for text in ('{"d": "secret"}', "-----BEGIN PRIVATE KEY-----"):
        file.write_text(text)
        refused = call("credential", command, "par_1", str(file))
        assert refused.code == 2
        assert "private key" in refused.err
    assert platform.requests("RegisterCredential") == []
