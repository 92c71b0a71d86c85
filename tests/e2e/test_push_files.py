"""A provider's files, database and bundles on their way into a real platform, by commands."""

import asyncio
import csv
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from puhui_client.canonical import canonical_batch
from puhui_client.signing import PublicKey
from services.cli.main import app
from services.datashare.subjects import uscc
from tests.conftest import CHECKOUT
from tests.e2e.town import Person, Town

# Of these tests alone: banks score the town's firm on what its own bureau supplied.
USCC = uscc.make("91", "110108", "MA03TE5T")
MAPPING = """
record_type = "vat_invoice"

[file]
null = ["", "-"]

[constants]
side = "output"
obtained_at = "2025-03-02T09:00:00+08:00"

[record_id]
columns = ["发票代码", "发票号码"]

[columns]
"销方税号" = "subject.uscc"
"发票代码" = "code"
"发票号码" = "number"
"开票日期" = { field = "date", date = "%Y年%m月%d日" }
"金额(万元)" = { field = "net", unit = "万元" }
"税额(元)" = { field = "tax", unit = "元", thousands = "," }
"价税合计(元)" = { field = "gross", unit = "元", thousands = "," }
"发票状态" = { field = "vat_invoice.status", codes = { "有效发票" = "VALID", "作废发票" = "VOID" } }
"购方" = "counterparty"
"""
HEADER = "销方税号,发票代码,发票号码,开票日期,金额(万元),税额(元),价税合计(元),发票状态,购方"
STAFF = """
record_type = "social_insurance"
[columns]
id = "provider_record_id"
uscc = "subject.uscc"
month = { field = "period", period = "%Y%m" }
changed_at = { field = "obtained_at", zone = "+08:00" }
headcount = "headcount"
paid = { field = "paid", unit = "元" }
"""


def invoice(code: str, number: int, net: str = "1.23", day: str = "2025年3月1日") -> str:
    return f'{USCC},{code},{number:08},{day},{net},"1,599.00","13,899.00",有效发票,甲公司'


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Puhui = Callable[..., Done]


@pytest.fixture
def puhui(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Puhui:
    """Runs a command in an empty folder, as somebody."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PUHUI_GATEWAY", town.platform.gateway)
    monkeypatch.setenv("COLUMNS", "200")

    def run(api_key: str, *arguments: str) -> Done:
        result = CliRunner(env={"PUHUI_API_KEY": api_key}).invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return run


def new_provider(town: Town, kind: str) -> Person:
    """A provider that no other test knows of."""

    async def register() -> Person:
        async with town.client("operator") as operator:
            member = await operator.register_participant("PROVIDER", "a test's", provider_kind=kind)
            key = await operator.issue_key(member.participant_id)
            return Person(member.participant_id, "", key.api_key)

    return asyncio.run(register())


def test_a_file_of_a_tax_bureau_is_mended_until_all_is_in(town: Town, puhui: Puhui) -> None:
    tax = new_provider(town, "tax")
    Path("m.toml").write_text(MAPPING, "utf-8")
    rows = [invoice("011", number) for number in range(1, 6)]
    rows[1] = invoice("011", 2, "1.23万")
    rows[2] = invoice("011", 3, day="2025年2月30日")
    Path("发票.csv").write_text("\n".join([HEADER, *rows]) + "\n", "gb18030")
    push = ("push", "发票.csv", "--mapping", "m.toml")

    shown = puhui(tax.api_key, *push, "--preview", "1", "--json").document
    assert shown["read_as"] == "CSV, GB18030, as detected"
    assert shown["rows"][0]["values"]["vat_invoice.net"] == "12300 CNY"
    checked = puhui(tax.api_key, *push, "--check", "--json")
    assert (checked.code, checked.document["check"]["failed"]) == (1, 2)

    first = puhui(tax.api_key, *push, "--json")
    assert first.code == 1
    assert (first.document["accepted"], first.document["not_sent"]) == (3, 2)
    reconciliation = first.document["reconciliation"]
    assert (reconciliation["agrees"], reconciliation["rows_received"]) == (True, "3")
    (total,) = reconciliation["totals"]
    assert (total["month"], total["sum_sent"], total["sum_received"]) == (
        202503,
        "4169700",
        "4169700",
    )

    rejects = Path("发票.rejects.csv")
    text = rejects.read_text("gb18030")
    assert "MALFORMED_MESSAGE" in text
    mended = text.replace("1.23万", "1.23").replace("2月30日", "2月28日")
    rejects.write_text(mended, "gb18030")
    last = puhui(tax.api_key, "push", "发票.rejects.csv", "--mapping", "m.toml", "--json")
    assert (last.code, last.document["accepted"]) == (0, 2)
    whole = puhui(tax.api_key, *push, "--json").document
    assert (whole["accepted"], whole["duplicate"]) == (0, 3)


def test_what_only_the_platform_knows_comes_back_to_be_mended(town: Town, puhui: Puhui) -> None:
    tax = new_provider(town, "tax")
    Path("m.toml").write_text(MAPPING, "utf-8")
    Path("a.csv").write_text(f"{HEADER}\n{invoice('022', 1)}\n", "utf-8")
    assert puhui(tax.api_key, "push", "a.csv", "--mapping", "m.toml").code == 0
    # The same id with other content, which a correction would say to be a new version.
    Path("b.csv").write_text(f"{HEADER}\n{invoice('022', 1, '2')}\n{invoice('022', 2)}\n", "utf-8")
    refused = puhui(tax.api_key, "push", "b.csv", "--mapping", "m.toml", "--json")
    assert (refused.code, refused.document["rejected"]) == (1, {"RECORD_CONFLICT": 1})
    corrected = MAPPING.replace("[constants]", "[constants]\nversion = 2")
    Path("m2.toml").write_text(corrected, "utf-8")
    mended = puhui(tax.api_key, "push", "b.rejects.csv", "--mapping", "m2.toml", "--json")
    assert (mended.code, mended.document["accepted"]) == (0, 1)


@pytest.mark.parametrize("rows", [[], ["坏"]], ids=["none", "none good"])
def test_a_file_without_rows_to_send(town: Town, puhui: Puhui, rows: list[str]) -> None:
    tax = new_provider(town, "tax")
    Path("m.toml").write_text(MAPPING, "utf-8")
    Path("a.csv").write_text("\n".join([HEADER, *rows]) + "\n", "utf-8")
    done = puhui(tax.api_key, "push", "a.csv", "--mapping", "m.toml", "--json")
    assert (done.code, done.document["sent"]) == (len(rows), 0)
    assert done.document["reconciliation"]["agrees"]


def test_a_push_that_is_killed_goes_on_where_it_was(town: Town, puhui: Puhui) -> None:
    tax = new_provider(town, "tax")
    Path("m.toml").write_text(MAPPING, "utf-8")
    rows = [invoice("055", number) for number in range(1, 9001)]
    rows[4] = invoice(
        "055", 5, day="2099年1月1日"
    )  # refused by the platform: it was not checked here
    Path("a.csv").write_text("\n".join([HEADER, *rows]) + "\n", "gb18030")
    push = ("push", "a.csv", "--mapping", "m.toml", "--no-check", "--json")
    environ = os.environ | {"PUHUI_API_KEY": tax.api_key, "PYTHONPATH": str(CHECKOUT)}
    journal = Path("a.csv.puhui-push")
    with subprocess.Popen(
        [sys.executable, "-m", "services.cli", *push], env=environ, stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not (journal.exists() and len(journal.read_text().splitlines()) > 2):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    done = puhui(tax.api_key, *push)
    assert (done.code, done.document["skipped"] >= 2000) == (1, True)
    reconciliation = done.document["reconciliation"]
    assert reconciliation["agrees"]
    assert (reconciliation["rows_received"], reconciliation["accepted"]) == ("9000", "8999")
    (reject,) = csv.DictReader(Path("a.rejects.csv").read_text("gb18030").splitlines())
    assert (reject["puhui_row"], reject["puhui_reason"]) == ("6", "DATE_IN_FUTURE")
    assert not journal.exists()


def test_rows_that_only_hint_at_a_firm_wait_for_a_review(town: Town, puhui: Puhui) -> None:
    insurance = new_provider(town, "social_insurance")
    Path("m.toml").write_text(STAFF.replace('uscc = "subject.uscc"', 'firm = "hint.name"'), "utf-8")
    Path("a.csv").write_text(
        "id,firm,month,changed_at,headcount,paid\n"
        "1,无此企业有限公司,202501,2025-02-05 08:00:00,9,99.5\n"
    )
    done = puhui(insurance.api_key, "push", "a.csv", "--mapping", "m.toml", "--json")
    assert (done.code, done.document["held"], done.document["accepted"]) == (0, 1, 0)
    (review,) = done.document["reviews"]
    assert (review["row"], review["record_id"]) == (2, "1")
    assert review["review_id"]
    assert done.document["reconciliation"]["held"] == "1"


def test_what_is_new_in_a_database(
    town: Town, puhui: Puhui, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insurance = new_provider(town, "social_insurance")
    monkeypatch.setenv("SOURCE_DB", f"sqlite:///{tmp_path}/bureau.db")
    Path("m.toml").write_text(STAFF, "utf-8")
    source = ("--from-db", "env:SOURCE_DB", "--view", "to_share", "--watermark", "changed_at")
    push = ("push", *source, "--mapping", "m.toml", "--json")
    with closing(sqlite3.connect(tmp_path / "bureau.db")) as database:
        database.executescript("""
CREATE TABLE staff (id, uscc, month, changed_at, headcount, paid);
CREATE VIEW to_share AS SELECT * FROM staff;
""")
        for month in range(1, 4):
            row = (f"{month}", USCC, f"20250{month}", f"2025-0{month + 1}-05 08:00:00", 9, 99.5)
            with database:
                database.execute("INSERT INTO staff VALUES (?, ?, ?, ?, ?, ?)", row)
            done = puhui(insurance.api_key, *push)
            assert done.code == 0, done.err
            assert done.document["accepted"] == 1
            assert done.document["reconciliation"]["agrees"]
    assert puhui(insurance.api_key, *push).document["accepted"] == 0


def test_a_bundle_crosses_to_the_platform(town: Town, puhui: Puhui, tmp_path: Path) -> None:
    tax = new_provider(town, "tax")
    Path("m.toml").write_text(MAPPING, "utf-8")
    rows = [invoice("033", number) for number in range(1, 1006)]
    Path("a.csv").write_text("\n".join([HEADER, *rows]) + "\n", "utf-8")
    assert puhui("", "bundle", "key", "tax.pem").code == 0
    public = PublicKey.read(Path("tax.pem.pub.jwk"))

    async def register() -> None:
        async with town.client("operator") as operator:
            await operator.register_signing_key(tax.participant_id, public.jwk)

    asyncio.run(register())
    unsigned = puhui(tax.api_key, "push", "a.csv", "--mapping", "m.toml", "--json")
    assert (unsigned.code, unsigned.document["error"]["reason"]) == (1, "SIGNATURE_MISSING")

    make = ("--mapping", "m.toml", "--out", "a.puhui", "--sign-with", "tax.pem")
    made = puhui("", "bundle", "make", "a.csv", *make, "--provider", tax.participant_id, "--json")
    assert (made.code, made.document["rows"]) == (0, 1005)
    verify = ("bundle", "verify", "a.puhui", "--public-key", "tax.pem.pub.jwk")
    assert puhui("", *verify).code == 0
    other = puhui(town.key("tax"), "bundle", "import", "a.puhui")
    assert other.code == 2
    done = puhui(tax.api_key, "bundle", "import", "a.puhui", "--json")
    assert done.code == 0, done.err
    assert (done.document["accepted"], done.document["reconciliation"]["agrees"]) == (1005, True)
    again = puhui(tax.api_key, "bundle", "import", "a.puhui", "--json")
    assert (again.code, again.document["skipped"]) == (0, 1005)

    async def evidence(sequence: int) -> tuple[str, bytes]:
        async with town.client("operator") as operator:
            kept = await operator.evidence(
                tax.participant_id, made.document["delivery_id"], sequence
            )
            return kept.jws, kept.canonical

    for sequence in (1, 2):
        jws, canonical = asyncio.run(evidence(sequence))
        public.verify(jws, canonical)
        assert canonical.startswith(canonical_batch(made.document["delivery_id"], sequence, []))

    signed = puhui(
        tax.api_key, "push", "a.csv", "--mapping", "m.toml", "--sign-with", "tax.pem", "--json"
    )
    assert (signed.code, signed.document["duplicate"]) == (0, 1005)


def test_a_key_of_openssl_signs(town: Town, puhui: Puhui) -> None:
    """As docs/provider.md says."""
    tax = new_provider(town, "tax")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", "tax.pem"], check=True)
    Path("tax.pem").chmod(0o600)
    subprocess.run(["openssl", "pkey", "-in", "tax.pem", "-pubout", "-out", "pub.pem"], check=True)
    Path("m.toml").write_text(MAPPING, "utf-8")
    Path("a.csv").write_text(f"{HEADER}\n{invoice('044', 1)}\n", "utf-8")

    async def register() -> None:
        async with town.client("operator") as operator:
            jwk = PublicKey.read(Path("pub.pem")).jwk
            await operator.register_signing_key(tax.participant_id, jwk)

    asyncio.run(register())
    push = ("push", "a.csv", "--mapping", "m.toml", "--sign-with", "tax.pem", "--json")
    assert puhui(tax.api_key, *push).document["accepted"] == 1
