"""The commands of docs/firm.md as they stand there, on a real platform.

Marks are those of `guides`. Beside what the page says there are the operator, who opens
two accounts and tells the code, the tax bureau, which supplied an invoice, and the bank.
"""

import asyncio
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from puhui_client import records
from services.datashare.mandates.proofs import sandbox_code
from services.datashare.subjects import uscc
from tests.e2e.guides import assert_shown, blocks, environment, missing, run, script, settled
from tests.e2e.town import Town

FIRM = uscc.make("91", "110108", "MA02GUDE")
MANDATE_OF = """
mandate_of() {
  puhui mandate list --json | python3 -c '
import json, sys
found = json.load(sys.stdin)["mandates"]
print(next(m["mandate_id"] for m in found if m["participant_id"] == sys.argv[1]))' "$1"
}
"""


async def prepared(town: Town) -> dict[str, str]:
    """Return what the words in capitals of the page stand for, and the account's key."""
    invoice = records.vat_invoice(
        record_id="guide",
        uscc=FIRM,
        occurred=date(2026, 1, 15),
        obtained_at=datetime(2026, 1, 16, tzinfo=UTC),
        number="00000001",
        side="output",
        net="1000.00",
        tax="130.00",
        gross="1130.00",
        counterparty="某某仪器有限公司",
    )
    async with town.client("tax") as tax:
        assert not (await tax.submit([invoice])).rejections
    async with town.client("operator") as operator:
        mine = await operator.register_participant("FIRM", "Li 李")
        key = (await operator.issue_key(mine.participant_id)).api_key
        other = await operator.register_participant("FIRM", "Zhang, accountant")
    async with town.client("bank") as bank:
        consent = await bank.request_consent(
            uscc=FIRM,
            purpose="credit_application",
            providers=[town.people["tax"].participant_id],
            record_types=["vat_invoice"],
            data_from=date(2023, 1, 1),
            data_to=date(2026, 12, 31),
            expires_at=datetime.now(UTC) + timedelta(days=30),
            officer="Wang 王",
            file_reference="A-17",
        )
    proof_key = (town.platform.data_dir / "keys" / "sandbox-proof.key").read_text().strip()
    return {
        "YOUR_USCC": FIRM,
        "YOUR_ACCOUNT": mine.participant_id,
        "OTHER_ACCOUNT": other.participant_id,
        "CONSENT": consent.consent_id,
        "--code CODE": f"--code {sandbox_code(bytes.fromhex(proof_key), FIRM)}",
        " end MANDATE": f' end "$(mandate_of {other.participant_id})"',
        "key": key,
    }


@pytest.mark.heavy
def test_what_the_page_for_firms_says_runs(town: Town, checkout: Path, tmp_path: Path) -> None:
    words = asyncio.run(prepared(town))
    key = words.pop("key")
    text, expected = script(blocks((checkout / "docs/firm.md").read_text("utf-8")))
    assert len(expected) >= 7
    granting = "puhui consent grant CONSENT --yes >granted\npuhui facts\n"
    text = MANDATE_OF + text.replace("puhui facts\n", granting, 1)
    for word, meant in words.items():
        text = text.replace(word, meant)
    environ = environment(
        PUHUI_GATEWAY=town.platform.gateway,
        PUHUI_API_KEY=key,
        COLUMNS="200",
        HOME=str(tmp_path),
    )
    printed = run(text, tmp_path, environ)
    for block, output in zip(expected, printed, strict=False):
        shown = block.content
        for word, meant in words.items():
            shown = shown.replace(word, meant)
        line = missing(settled(shown), settled(output))
        assert_shown(line, output)
    page = (tmp_path / "facts-of-my-firm" / "facts.html").read_text("utf-8")
    assert words["CONSENT"] in page
    assert "某某仪器有限公司" not in page
