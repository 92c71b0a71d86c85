"""`puhui reconcile`, `puhui delivery` and `puhui participant signing-key`."""

import hashlib
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson

from puhui.datashare.v1 import deliveries_pb2, participants_pb2
from puhui.datashare.v1.records_pb2 import Reconciliation, Record, TotalsOfBothEnds
from puhui.gateway.v1 import gateway_pb2
from puhui_client.canonical import canonical_batch
from puhui_client.signing import SigningKey, new_key
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Run

WHEN = datetime(2026, 11, 22, 4, tzinfo=UTC)
ROWS = [Record(provider_record_id=name, record_type="grant") for name in "ab"]


def reconciliation(
    delivery_id: str, *, agrees: bool = False, closed: bool = True
) -> Reconciliation:
    found = Reconciliation(
        delivery_id=delivery_id,
        provider_id="par_1",
        rows_sent=1234 if closed else 0,
        rows_received=1233,
        accepted=1230,
        rejected=3,
        agrees=agrees,
    )
    found.opened_at.FromDatetime(WHEN)
    if closed:
        found.closed_at.FromDatetime(WHEN + timedelta(hours=1))
        total = TotalsOfBothEnds(
            record_type="vat_invoice",
            month=202610,
            rows_sent=2,
            rows_received=1,
            sum_sent=123456_05,
            sum_received=-5,
        )
        found.totals.append(total)
    return found


def listed(platform: FakePlatform, *found: Reconciliation) -> None:
    platform.answer(
        "ListReconciliations", deliveries_pb2.ListReconciliationsResponse(reconciliations=found)
    )


class TestReconcile:
    def test_a_day_on_which_all_agree(self, call: Run, platform: FakePlatform) -> None:
        listed(platform, reconciliation("d1", agrees=True))
        done = call("reconcile", "--day", "2026-11-22", "--provider", "par_1")
        assert done.code == 0
        assert "1 delivery of 2026-11-22" in done.out
        assert "What differs" not in done.out
        (request,) = platform.requests("ListReconciliations")
        assert (request.day.year, request.day.month, request.day.day) == (2026, 11, 22)
        assert request.provider_id == "par_1"

    def test_what_differs(self, call: Run, platform: FakePlatform) -> None:
        listed(platform, reconciliation("d1"), reconciliation("d2", agrees=True))
        done = call("reconcile")
        assert done.code == 1
        (line,) = (line for line in done.out.splitlines() if "2026-10" in line)
        assert line.split() == ["d1", "vat_invoice", "2026-10", "2", "1", "123,456.05", "-0.05"]
        (request,) = platform.requests("ListReconciliations")
        assert not request.HasField("day")

    @pytest.mark.parametrize(("day", "code"), [("2026-11-21", 1), ("", 0)])
    def test_a_delivery_is_open_for_the_rest_of_its_day(
        self, call: Run, platform: FakePlatform, day: str, code: int
    ) -> None:
        listed(platform, reconciliation("d1", closed=False))
        done = call("reconcile", "--json", *(["--day", day] if day else []))
        assert done.code == code
        assert done.document["agrees"] == (code == 0)
        assert done.document["reconciliations"][0]["state"] == "open"

    def test_no_day(self, call: Run) -> None:
        done = call("reconcile", "--day", "yesterday")
        assert done.code == 2
        assert "write it as 2024-05-31" in done.err

    def test_one_delivery(self, call: Run, platform: FakePlatform) -> None:
        platform.answer("WhoAmI", gateway_pb2.WhoAmIResponse(participant_id="par_1"))
        platform.answer(
            "GetReconciliation",
            deliveries_pb2.GetReconciliationResponse(reconciliation=reconciliation("d1")),
        )
        done = call("delivery", "show", "d1")
        assert done.code == 1
        assert "123,456.05" in done.out
        call("delivery", "show", "d1", "--provider", "par_2")
        asked = [request.provider_id for request in platform.requests("GetReconciliation")]
        assert asked == ["par_1", "par_2"]


def kept(platform: FakePlatform, key: SigningKey, content: bytes, jws: str = "") -> None:
    """Have the platform keep evidence."""
    platform.answer(
        "GetEvidence",
        deliveries_pb2.GetEvidenceResponse(jws=jws or key.sign(content), canonical=content),
    )
    registered = participants_pb2.SigningKey(key_id=key.key_id, public_jwk=key.public.jwk)
    platform.answer("ListSigningKeys", participants_pb2.ListSigningKeysResponse(keys=[registered]))
    platform.answer("WhoAmI", gateway_pb2.WhoAmIResponse(participant_id="par_1"))


class TestEvidence:
    def test_a_batch_is_proved_without_the_platform(
        self, call: Run, run: Run, platform: FakePlatform, tmp_path: Path
    ) -> None:
        key = new_key()
        kept(platform, key, canonical_batch("d", 3, ROWS))
        fetched = call("delivery", "evidence", "d", "--sequence", "3", "--out", "e.json")
        assert fetched.code == 0
        assert "is the provider's" in fetched.out

        Path("key.json").write_text(key.public.jwk)
        lines = [MessageToJson(row, indent=None) for row in (ROWS[1], ROWS[0])]
        Path("rows.jsonl").write_text("\n".join(lines))
        calls = len(platform.calls)
        proved = run("delivery", "prove", "e.json", "--public-key", "key.json", "--json")
        assert proved.code == 0
        assert proved.document["valid"]
        proved = run(
            *("delivery", "prove", "e.json", "--public-key", "key.json"),
            *("--records", "rows.jsonl", "--json"),
        )
        assert proved.code == 0
        assert [row["row"] for row in proved.document["records"]] == [1, 0]
        assert len(platform.calls) == calls

    def test_a_record_that_was_not_sent_is_not_proved(
        self, call: Run, run: Run, platform: FakePlatform
    ) -> None:
        key = new_key()
        kept(platform, key, canonical_batch("d", 3, ROWS))
        call("delivery", "evidence", "d", "--sequence", "3", "--out", "e.json")
        Path("key.json").write_text(key.public.jwk)
        other = Record(provider_record_id="a", record_type="grant", version=2)
        Path("rows.jsonl").write_text(MessageToJson(other, indent=None))
        proved = run(
            *("delivery", "prove", "e.json", "--public-key", "key.json", "--records", "rows.jsonl")
        )
        assert proved.code == 1
        assert "1 record not covered" in proved.out
        assert "not in it" in proved.out

    def test_a_single_submission(self, call: Run, platform: FakePlatform) -> None:
        key = new_key()
        content = canonical_batch("", 0, ROWS)
        kept(platform, key, content)
        name = hashlib.sha256(content).hexdigest()
        assert call("delivery", "evidence", name, "--sequence", "0").code == 0
        other = hashlib.sha256(b"other").hexdigest()
        assert call("delivery", "evidence", other, "--sequence", "0").code == 1

    @pytest.mark.parametrize(
        ("delivery_id", "sequence", "problem"),
        [("e", 3, "not of this delivery"), ("d", 4, "not of this delivery"), ("d", 3, "not by")],
    )
    def test_what_does_not_prove_it(
        self, call: Run, platform: FakePlatform, delivery_id: str, sequence: int, problem: str
    ) -> None:
        key = new_key()
        content = canonical_batch("d", 3, ROWS)
        kept(platform, key, content, "" if "delivery" in problem else key.sign(content + b"x"))
        done = call(
            *("delivery", "evidence", delivery_id, "--sequence", str(sequence)),
            *("--out", "e.json", "--json"),
        )
        assert done.code == 1
        assert not done.document["valid"]
        assert problem in done.document["problem"]
        assert not Path("e.json").exists()

    def test_the_key_may_be_the_providers_own_word(self, call: Run, platform: FakePlatform) -> None:
        key = new_key()
        kept(platform, key, canonical_batch("d", 3, ROWS))
        Path("key.json").write_text(new_key().public.jwk)
        command = ("delivery", "evidence", "d", "--sequence", "3", "--public-key", "key.json")
        assert call(*command).code == 1
        Path("key.json").write_text(key.public.jwk)
        assert call(*command).code == 0
        assert not platform.requests("ListSigningKeys")

    def test_files_that_are_something_else(self, run: Run) -> None:
        Path("e.json").write_text("[]")
        Path("key.json").write_text(new_key().public.jwk)
        done = run("delivery", "prove", "e.json", "--public-key", "key.json")
        assert done.code == 2
        assert "is no evidence" in done.err


class TestSigningKeys:
    @pytest.mark.parametrize("mark", [[], ["--"]], ids=["plain", "begins with a dash"])
    def test_a_key_is_added_listed_and_revoked(
        self, call: Run, platform: FakePlatform, mark: list[str]
    ) -> None:
        made = (new_key() for _ in itertools.count())
        key = next(key for key in made if key.key_id.startswith("-") == bool(mark))
        registered = participants_pb2.SigningKey(
            key_id=key.key_id, participant_id="par_1", public_jwk=key.public.jwk
        )
        registered.registered_at.FromDatetime(WHEN)
        platform.answer(
            "RegisterSigningKey", participants_pb2.RegisterSigningKeyResponse(key=registered)
        )
        Path("key.json").write_text(key.public.jwk)
        added = call("participant", "signing-key", "add", "par_1", "key.json", "--json")
        assert added.document["key"]["public_jwk"] == json.loads(key.public.jwk)
        (request,) = platform.requests("RegisterSigningKey")
        assert json.loads(request.public_jwk) == json.loads(key.public.jwk)

        revoked = participants_pb2.SigningKey()
        revoked.CopyFrom(registered)
        revoked.revoked_at.FromDatetime(WHEN)
        answer = participants_pb2.RevokeSigningKeyResponse(key=revoked)
        platform.answer("RevokeSigningKey", answer)
        done = call("participant", "signing-key", "revoke", *mark, "par_1", key.key_id)
        assert "revoked" in done.out
        (revocation,) = platform.requests("RevokeSigningKey")
        assert (revocation.participant_id, revocation.key_id) == ("par_1", key.key_id)

        answers = participants_pb2.ListSigningKeysResponse(keys=[registered, revoked])
        platform.answer("ListSigningKeys", answers)
        shown = call("participant", "signing-key", "list", "par_1")
        assert "2 signing keys" in shown.out
        assert "Ed25519" in shown.out

    def test_a_private_key_does_not_leave_the_machine(
        self, call: Run, platform: FakePlatform
    ) -> None:
        Path("key.pem").write_text(new_key().pem)
        done = call("participant", "signing-key", "add", "par_1", "key.pem")
        assert done.code == 2
        assert "openssl pkey -in FILE -pubout" in done.err
        assert not platform.calls

    def test_something_else_than_a_key(self, call: Run, platform: FakePlatform) -> None:
        Path("key.pem").write_text("no key")
        done = call("participant", "signing-key", "add", "par_1", "key.pem")
        assert done.code == 2
        assert "no Ed25519 or P-256 key" in done.err
        assert not platform.calls
