"""The commands of docs/provider.md as they stand there, on a real platform.

Marks are those of `guides`. Beside what the page says there are the operator, who
registers the signing key once it is made, and a bureau's database.
"""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.guides import assert_shown, blocks, environment, missing, run, script, settled
from tests.e2e.town import Town

REGISTER = (
    "PUHUI_API_KEY=$OPERATOR_KEY puhui participant signing-key add YOUR_ID tax.pem.pub.jwk "
    ">/dev/null"
)
ROWS = """
CREATE TABLE invoices_to_share (
    "销方统一社会信用代码", "发票代码", "发票号码", "开票日期", "金额(万元)", "税额(元)",
    "价税合计(元)", "发票状态", "购方名称", changed_at
);
INSERT INTO invoices_to_share VALUES (
    '91110108MA9EXAM11A', '1100244130', '00000901', '2025年3月31日', 1.5, '1,950.00',
    '16,950.00', '有效发票', '某某仪器有限公司', '2025-04-01 18:00:00'
);
"""


@pytest.mark.heavy
def test_what_the_page_for_providers_says_runs(town: Town, checkout: Path, tmp_path: Path) -> None:
    async def register() -> tuple[str, str]:
        async with town.client("operator") as operator:
            tax = await operator.register_participant("PROVIDER", "a bureau", provider_kind="tax")
            return tax.participant_id, (await operator.issue_key(tax.participant_id)).api_key

    participant_id, api_key = asyncio.run(register())
    shutil.copytree(checkout / "examples", tmp_path / "examples")
    text, expected = script(blocks((checkout / "docs/provider.md").read_text("utf-8")))
    assert len(expected) >= 8
    prepared = text.replace("cd bureau\n", f"cd bureau\ncp {tmp_path}/bureau.* .\n", 1)
    made = prepared.replace("puhui bundle key tax.pem", f"puhui bundle key tax.pem && {REGISTER}")
    with closing(sqlite3.connect(tmp_path / "bureau.db")) as database:
        database.executescript(ROWS)
    (tmp_path / "bureau.url").write_text("sqlite:///bureau.db\n")
    (tmp_path / "bureau.url").chmod(0o600)
    environ = environment(
        PUHUI_GATEWAY=town.platform.gateway,
        PUHUI_API_KEY=api_key,
        OPERATOR_KEY=town.key("operator"),
        COLUMNS="150",
        HOME=str(tmp_path),
    )
    printed = run(made.replace("YOUR_ID", participant_id), tmp_path, environ)
    for block, output in zip(expected, printed, strict=False):
        line = missing(settled(block.content), settled(output))
        assert_shown(line, output)
