from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.datashare.subjects import uscc
from services.sandbox import cumcm2020c

NAMES = (
    "企业代号",
    "发票号码",
    "开票日期",
    "单位代号",
    "金额",
    "税额",
    "价税合计",
    "发票状态",
)


def write(folder: Path, name: str, rows: list[tuple[object, ...]]) -> None:
    columns = zip(*rows, strict=True)
    table = pa.table({n: pa.array(c) for n, c in zip(NAMES, columns, strict=True)})
    pq.write_table(table, folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "attach1_enterprises.csv").write_text(
        "企业代号,企业名称,信誉评级,是否违约\nE1,***公司,A,否\nE2,***店 ,D,是\n", encoding="utf-8"
    )
    (tmp_path / "attach2_enterprises.csv").write_text(
        "企业代号,企业名称\nE124,个体经营E124 \n", encoding="utf-8"
    )
    valid, void = "有效发票", "作废发票"
    row = ("E1", 3390939, date(2017, 7, 18), "A00297", -943.4, -56.6, -1000.0, valid)
    write(tmp_path, "attach1_input_invoices.parquet", [row])
    other = ("E2", 11459356, date(2019, 12, 31), "B1", 0.29, 0.01, 0.3, void)
    write(tmp_path, "attach1_output_invoices.parquet", [other, other])
    write(tmp_path, "attach2_input_invoices.parquet", [("E124", *row[1:])])
    write(tmp_path, "attach2_output_invoices.parquet", [("E124", *row[1:])])
    return tmp_path


def test_firms_get_numbers_that_pass_the_check(folder: Path) -> None:
    firms = cumcm2020c.enterprises(folder)
    assert [(f.code, f.name, f.defaulted) for f in firms] == [
        ("E1", "***公司", False),
        ("E2", "***店", True),
        ("E124", "个体经营E124", None),
    ]
    for firm in firms:
        assert uscc.check(firm.uscc) == firm.uscc == cumcm2020c.uscc_of(firm.code)
    assert len({f.uscc for f in firms}) == 3


def test_an_invoice_keeps_its_amounts_and_its_day(folder: Path) -> None:
    red, void, repeat = (record for d in cumcm2020c.deliveries(folder)[:2] for record in d)
    assert red.provider_record_id == "input:E1:3390939"
    assert red.subject.uscc == cumcm2020c.uscc_of("E1")
    assert (red.date.year, red.date.month, red.date.day) == (2017, 7, 18)
    assert red.obtained_at.ToDatetime().isoformat() == "2017-07-18T15:59:59"
    assert red.vat_invoice.counterparty == "A00297"
    assert (red.vat_invoice.net.units, red.vat_invoice.net.nanos) == (-943, -400_000_000)
    assert (red.vat_invoice.gross.units, red.vat_invoice.gross.nanos) == (-1000, 0)
    assert void.vat_invoice.net.nanos == 290_000_000
    assert (red.vat_invoice.side, void.vat_invoice.side) == (1, 2)
    assert (red.vat_invoice.status, void.vat_invoice.status) == (1, 2)
    assert repeat == void


def test_every_row_is_delivered_in_the_order_of_the_set(folder: Path) -> None:
    deliveries = cumcm2020c.deliveries(folder)
    assert [len(d) for d in deliveries] == [1, 2, 1, 1]
    assert [sum(1 for _ in d) for d in deliveries] == [1, 2, 1, 1]
    assert {d.provider for d in deliveries} == {cumcm2020c.TAX}


def test_another_file_is_refused(folder: Path) -> None:
    (folder / "attach1_enterprises.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(cumcm2020c.DataSetError, match=r"attach1_enterprises\.csv"):
        cumcm2020c.enterprises(folder)
    pq.write_table(pa.table({"a": [1]}), folder / "attach1_input_invoices.parquet")
    with pytest.raises(cumcm2020c.DataSetError, match="8 columns"):
        cumcm2020c.deliveries(folder)


def test_what_the_rows_of_the_real_set_are(shared_data: Path) -> None:
    folder = shared_data / "cumcm2020c"
    firms = cumcm2020c.enterprises(folder)
    labels = Counter(f.defaulted for f in firms)
    assert labels == {False: 96, True: 27, None: 302}
    assert len({f.uscc for f in firms}) == 425
    assert sum(len(d) for d in cumcm2020c.deliveries(folder)) == 1_099_441

    kinds: Counter[str] = Counter()
    for part in (1, 2):
        for side in ("input", "output"):
            kinds += repeats(pq.read_table(folder / f"attach{part}_{side}_invoices.parquet"))
    assert kinds == {"exact": 11_665, "two codes": 2_031, "valid and void": 5, "other invoice": 65}


def repeats(table: pa.Table) -> Counter[str]:
    """Of what kind the rows are that have the firm and number of an earlier row."""
    firm = table.column(0).combine_chunks().indices.to_numpy().astype(np.int64)
    key = firm * 10**9 + table.column(1).to_numpy()
    _, inverse, sizes = np.unique(key, return_inverse=True, return_counts=True)
    several = table.take(np.flatnonzero(sizes[inverse] > 1))
    kinds: Counter[str] = Counter()
    first: dict[tuple[str, int], list[object]] = {}
    for code, number, *content in zip(*(c.to_pylist() for c in several.columns), strict=True):
        if (code, number) not in first:
            first[code, number] = content
            continue
        was = first[code, number]
        same = [a == b for a, b in zip(was, content, strict=True)]
        day, party, *amounts, _status = same
        if all(same):
            kinds["exact"] += 1
        elif not day:
            kinds["other invoice"] += 1
        else:
            assert all(amounts)
            kinds["valid and void" if party else "two codes"] += 1
    return kinds
