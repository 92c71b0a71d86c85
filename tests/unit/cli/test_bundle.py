import json
from pathlib import Path

import pytest

from puhui.datashare.v1.participants_pb2 import ListSigningKeysResponse, SigningKey
from puhui.gateway.v1.gateway_pb2 import WhoAmIResponse
from puhui_client.bundles import Bundle
from puhui_client.canonical import canonical_batch
from puhui_client.signing import PublicKey
from tests.fakes.platform import FakePlatform
from tests.unit.cli.conftest import Outcome, Run
from tests.unit.cli.test_push import beside, csv_row, table


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Path:
    """A bundle of 2,005 rows, and the provider's keys."""
    assert run("bundle", "key", "key.pem").code == 0
    table(tmp_path / "rows.csv", *(csv_row(n) for n in range(2005)))
    assert make(run).code == 0
    return tmp_path / "b.puhui"


def make(run: Run, *more: str) -> Outcome:
    arguments = ("--mapping", "m.toml", "--out", "b.puhui", "--sign-with", "key.pem")
    return run("bundle", "make", "rows.csv", *arguments, "--provider", "par_tax", *more)


@pytest.fixture
def known(platform: FakePlatform, made: Path) -> FakePlatform:
    """The platform knows the provider and its key."""
    platform.answer("WhoAmI", WhoAmIResponse(participant_id="par_tax"))
    public = PublicKey.read(Path("key.pem.pub.jwk"))
    key = SigningKey(key_id=public.key_id, public_jwk=public.jwk)
    platform.answer("ListSigningKeys", ListSigningKeysResponse(keys=[key]))
    return platform


def test_a_key_is_the_providers_alone(run: Run, tmp_path: Path) -> None:
    done = run("bundle", "key", "key.pem", "--json")
    assert Path("key.pem").stat().st_mode & 0o077 == 0
    public = PublicKey.read(Path(done.document["public_key"]))
    assert done.document["key_id"] == public.key_id
    assert "d" not in json.loads(public.jwk)
    before = Path("key.pem").read_text()
    assert run("bundle", "key", "key.pem").code == 2
    assert run("bundle", "key", "no/folder/key.pem").code == 2
    assert Path("key.pem").read_text() == before


def test_a_bundle_is_made_without_a_platform(run: Run, made: Path) -> None:
    shown = run("bundle", "verify", "b.puhui", "--public-key", "key.pem.pub.jwk", "--json").document
    assert (shown["valid"], shown["rows"], shown["batches"]) == (True, 2005, 3)
    assert shown["totals"] == [
        {"record_type": "social_insurance", "month": 202405, "rows": 2005, "sum": 2005 * 1_500_000}
    ]
    text = run("bundle", "verify", "b.puhui", "--public-key", "key.pem.pub.jwk").out
    assert "30,075,000.00" in text
    assert "par_tax" in text


def test_rows_that_fail_stay_out_of_the_bundle(run: Run, tmp_path: Path) -> None:
    run("bundle", "key", "key.pem")
    table(tmp_path / "rows.csv", csv_row(1), csv_row(2, "many"))
    done = make(run, "--json", "--historical")
    assert (done.code, done.document["rows"], done.document["not_in"]) == (1, 1, 1)
    assert done.document["historical"]
    assert len(Path("rows.rejects.csv").read_text("gb18030").splitlines()) == 2
    table(tmp_path / "rows.csv", csv_row(2, "many"))
    none = make(run)
    assert none.code == 2
    assert "mend them first" in none.err


def test_a_bundle_never_replaces_a_file(run: Run, made: Path) -> None:
    before = made.read_bytes()
    done = make(run)
    assert done.code == 2
    assert "is there already" in done.err
    assert made.read_bytes() == before


def test_a_changed_bundle_is_told(call: Run, known: FakePlatform, made: Path) -> None:
    content = bytearray(made.read_bytes())
    content[200] ^= 1
    made.write_bytes(content)
    done = call("bundle", "verify", "b.puhui", "--public-key", "key.pem.pub.jwk", "--json")
    assert (done.code, done.document["error"]["reason"]) == (1, "BUNDLE_INVALID")
    refused = call("bundle", "import", "b.puhui")
    assert refused.code == 1
    assert "NOT VALID: batches/00000001.pb" in refused.err
    assert not known.records.streams


def test_a_bundle_is_pushed_as_it_was_signed(call: Run, known: FakePlatform, made: Path) -> None:
    done = call("bundle", "import", "b.puhui", "--json")
    assert done.code == 0, done.err
    assert (done.document["accepted"], done.document["reconciliation"]["agrees"]) == (2005, True)
    with Bundle(made) as bundle:
        delivery_id = bundle.manifest.delivery_id
    public = PublicKey.read(Path("key.pem.pub.jwk"))
    for batch, jws in zip(known.records.requests[delivery_id], known.records.jws, strict=True):
        public.verify(jws, canonical_batch(delivery_id, batch.sequence, batch.records))
    (total,) = known.records.closes[delivery_id].totals
    assert (total.rows, total.sum) == (2005, 2005 * 1_500_000)
    again = call("bundle", "import", "b.puhui", "--json").document
    assert (again["skipped"], again["sent"]) == (2005, 0)


@pytest.mark.parametrize("unacked", [0, 1])
def test_an_import_that_broke_off_goes_on_by_itself(
    call: Run, known: FakePlatform, made: Path, tmp_path: Path, unacked: int
) -> None:
    known.records.refused = {"r5", "r1005", "r2001"}
    known.records.suspends_after = 1, unacked
    assert call("bundle", "import", "b.puhui").code == 1
    known.records.suspended, known.records.suspends_after = False, None
    made.chmod(0o600)
    done = call("bundle", "import", "b.puhui", "--json")
    assert (done.code, done.document["rejected"]) == (1, {"RECORD_CONFLICT": 3})
    assert [sequence for _, sequence, _ in known.records.batches] == [1, 2, 3]
    assert "" not in known.records.jws
    assert Path("b.rejects.jsonl").stat().st_mode & 0o077 == 0
    rejects = Path("b.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["puhui_row"] for line in rejects] == [6, 1006, 2002]
    assert json.loads(rejects[0])["provider_record_id"] == "r5"
    assert not [name for name in beside(tmp_path) if name.endswith("puhui-push")]


def test_whose_bundle_it_is(call: Run, known: FakePlatform) -> None:
    known.answer("WhoAmI", WhoAmIResponse(participant_id="par_other"))
    done = call("bundle", "import", "b.puhui")
    assert done.code == 2
    assert "the bundle is of par_tax" in done.err
    assert not known.records.streams


def test_a_key_that_the_platform_does_not_know(call: Run, known: FakePlatform) -> None:
    public = PublicKey.read(Path("key.pem.pub.jwk"))
    revoked = SigningKey(key_id=public.key_id, public_jwk=public.jwk)
    revoked.revoked_at.GetCurrentTime()
    known.answer("ListSigningKeys", ListSigningKeysResponse(keys=[revoked]))
    done = call("bundle", "import", "b.puhui")
    assert done.code == 2
    assert "knows no valid key" in done.err
    assert call("bundle", "import", "b.puhui", "--public-key", "key.pem.pub.jwk").code == 0
