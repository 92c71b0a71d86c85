import tomllib
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from services.cli.mapping import record_types
from tests.unit.cli.conftest import Run

HEADER = (
    "统一社会信用代码,发票代码,发票号码,开票日期,金额(万元),税额（元）,价税合计,发票状态,进销项,"
    "录入人"
)
INVOICES = f"""{HEADER}
91110105XN27234414,011,0001,2024/5/3,1.23,"1,599.00","13,899.00",有效,销项,甲
91110105XN27234414,011,0002,2024/5/4,-,"1,599.00","13,899.00",作废,进项,乙
91110105XN27234414,011,0003,2024/5/5,1.23,"1,599.00","13,899.00",红冲,进项,乙
"""


def drafted(run: Run, *arguments: str) -> tuple[str, dict[str, Any]]:
    done = run("mapping", "init", *arguments, "--out", "m.toml")
    assert done.code == 0, done.err
    text = Path("m.toml").read_text("utf-8")
    return text, tomllib.loads(text)


def test_a_draft_guesses_and_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "发票.csv").write_text(INVOICES, "gb18030")
    text, found = drafted(run, "发票.csv", "--type", "vat_invoice")
    assert found["draft"] is True
    assert found["file"] == {"null": ["", "-"]}
    assert found["record_id"]["columns"] == ["发票代码", "发票号码"]
    assert found["columns"] == {
        "统一社会信用代码": "subject.uscc",
        "发票代码": "code",
        "发票号码": "number",
        "开票日期": {"field": "date", "date": "%Y/%m/%d"},
        "金额(万元)": {"field": "net", "unit": "万元"},
        "税额（元）": {"field": "tax", "unit": "元", "thousands": ","},
        "价税合计": {"field": "gross", "unit": "元", "thousands": ","},
        "发票状态": {
            "field": "vat_invoice.status",
            "codes": {"有效": "VALID", "作废": "VOID"},
        },
        "进销项": {"field": "side", "codes": {"销项": "OUTPUT", "进项": "INPUT"}},
    }
    for said in (
        "CSV, GB18030",
        "the name says no unit: is it 元?",
        'what is "红冲"?',
        '# "录入人" = ""',
        '# obtained_at = "',
        "a record needs it: obtained_at",
    ):
        assert said in text


def test_a_draft_is_not_used_before_it_is_confirmed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "发票.csv").write_text(INVOICES, "gb18030")
    text, _ = drafted(run, "发票.csv", "--type", "vat_invoice")
    preview = ("push", "发票.csv", "--mapping", "m.toml", "--preview", "2", "--json")
    refused = run(*preview)
    assert refused.code == 2
    assert "delete the line `draft`" in refused.document["error"]["message"]
    Path("m.toml").write_text(text.replace("draft = true\n", ""), "utf-8")
    shown = run(*preview).document["rows"]
    assert shown[0]["values"]["vat_invoice.net"] == "12300 CNY"
    assert shown[1]["values"]["provider_record_id"] == "011:0002"


def test_a_draft_for_a_table_that_is_named_as_the_protocol_is(run: Run, tmp_path: Path) -> None:
    names = "uscc,date,obtained_at,provider_record_id,net,number"
    (tmp_path / "t.csv").write_text(f"{names}\n", "utf-8")
    text, found = drafted(run, "t.csv", "--type", "vat_invoice")
    assert {column: one if isinstance(one, str) else one["field"]
            for column, one in found["columns"].items()} == {
        "uscc": "subject.uscc",
        "date": "date",
        "obtained_at": "obtained_at",
        "provider_record_id": "provider_record_id",
        "net": "net",
        "number": "number",
    }  # fmt: skip  # a table, line by line
    assert "Missing, and a record needs it: side" in text


def test_a_draft_for_excel(run: Run, tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(tmp_path / "t.xlsx")
    book.add_worksheet("说明")
    sheet = book.add_worksheet("明细")
    sheet.write_row(0, 0, ["某某区社会保险"])
    sheet.write_row(1, 0, ["单位名称", "费款所属期", "参保人数", "实缴金额(元)", "入库时间"])
    sheet.write_row(2, 0, ["某某科技", 202405, 12, 1234.5, "2024-06-01 08:00:00"])
    sheet.write_row(3, 0, ["某某软件", "202405", 5, 99, "2024-06-01 08:00:00"])
    book.close()
    arguments = ("t.xlsx", "--type", "social_insurance", "--sheet", "明细", "--header", "2")
    text, found = drafted(run, *arguments)
    assert found["file"] == {"sheet": "明细", "header": 2}
    assert found["columns"] == {
        "单位名称": "hint.name",
        "费款所属期": {"field": "period", "period": "%Y%m"},
        "参保人数": "headcount",
        "实缴金额(元)": {"field": "paid", "unit": "元"},
        "入库时间": {"field": "obtained_at", "zone": "+08:00"},
    }
    Path("m.toml").write_text(text.replace("draft = true\n", ""), "utf-8")
    shown = run("push", "t.xlsx", "--mapping", "m.toml", "--preview", "2", "--json").document
    assert [row["values"]["hint.name"] for row in shown["rows"]] == ["某某科技", "某某软件"]


@pytest.mark.parametrize(
    ("cells", "form"),
    [
        (["20240531", "20240601"], "%Y%m%d"),
        (["2024年5月31日", "坏", "2024年6月1日"], "%Y年%m月%d日"),
        (["2024-05-31"], None),
        (["31/05/24"], None),
    ],
)
def test_forms_of_days(run: Run, tmp_path: Path, cells: list[str], form: str | None) -> None:
    rows = "\n".join(["日期,补助金额", *(f"{cell},1" for cell in cells)])
    (tmp_path / "t.csv").write_text(rows, "utf-8")
    text, found = drafted(run, "t.csv", "--type", "grant")
    entry = found["columns"]["日期"]
    assert entry == ("date" if form is None else {"field": "date", "date": form})
    assert ("no form fits" in text) == (cells == ["31/05/24"])


def test_excels_days_as_numbers(run: Run, tmp_path: Path) -> None:
    book = xlsxwriter.Workbook(tmp_path / "t.xlsx")
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["立案日期"])
    sheet.write_row(1, 0, [45443])
    book.close()
    _, found = drafted(run, "t.xlsx", "--type", "court_case")
    assert found["columns"]["立案日期"] == {"field": "filed", "date": "excel"}


@pytest.mark.parametrize("record_type", sorted(record_types()))
def test_a_draft_for_every_type_reads_back(run: Run, tmp_path: Path, record_type: str) -> None:
    """Drafts from the catalogue's own titles name fields that there are."""
    import asyncio

    from services.cli.push import own_policies

    policies = {policy.record_type: policy for policy in asyncio.run(own_policies())}
    names = list(dict.fromkeys(f.title.zh.partition(" (")[0] for f in policies[record_type].fields))
    (tmp_path / "t.csv").write_text(",".join(["统一社会信用代码", *names]) + "\n", "utf-8")
    text, found = drafted(run, "t.csv", "--type", record_type)
    wanted = [f for f in policies[record_type].fields if f.unit not in {"token", "list"}]
    assert len(found["columns"]) == len({f.title.zh for f in wanted}) + 1
    Path("m.toml").write_text(
        text.replace("draft = true\n", "").replace(
            "columns = []", 'columns = ["统一社会信用代码"]'
        ),
        "utf-8",
    )
    done = run("push", "t.csv", "--mapping", "m.toml", "--preview", "1", "--json")
    assert done.code == 0, done.out


def test_wrong_use(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n", "utf-8")
    assert run("mapping", "init", "t.csv", "--type", "no_such").code == 2
    assert run("mapping", "init", "t.csv", "--type", "grant", "--header", "5").code == 2
    (tmp_path / "t.jsonl").write_text("{}\n")
    assert run("mapping", "init", "t.jsonl", "--type", "grant").code == 2
    assert run("mapping", "init", "t.csv", "--type", "grant").code == 0
    again = run("mapping", "init", "t.csv", "--type", "grant")
    assert again.code == 2
    assert "is there already" in again.err
