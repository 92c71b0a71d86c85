import csv
import zipfile
from contextlib import closing
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.cli.tables import (
    ADDED,
    Cell,
    Layout,
    Table,
    TableError,
    detect_encoding,
    open_table,
)

REJECTED = (7, "FIELD_INVALID", "date", "not a day: write 2024-05-31")
IN_FOLDER = settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    max_examples=60,
)
# What a cell of CSV may be: no carriage return of its own, which CSV's readers take for a line end.
TEXTS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=12
)


def excel(
    path: Path, *rows: list[Any], sheets: tuple[str, ...] = ("明细",), first: int = 0
) -> Path:
    book = xlsxwriter.Workbook(path)
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    for name in sheets:
        sheet = book.add_worksheet(name)
        for r, row in enumerate(rows, first):
            for c, cell in enumerate(row):
                if isinstance(cell, date):
                    sheet.write_datetime(r, c, cell, day)
                elif isinstance(cell, str):
                    sheet.write_string(r, c, cell)
                elif cell is not None:
                    sheet.write(r, c, cell)
    book.close()
    return path


def cells(table: Table) -> list[tuple[int, list[Cell]]]:
    return [(row.number, list(row.cells)) for row in table.rows()]


def opened(path: Path, **layout: Any) -> Table:
    return open_table(path, Layout(**layout))


@pytest.mark.parametrize("rows", [2, 20_000])
def test_an_open_quotation_mark_does_not_swallow_rows(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,x\n2,"y\n' + "3,z ordinary\n" * rows)
    with pytest.raises(TableError, match=r"from row 3 on: .* look for a quotation mark"):
        cells(opened(path))


def test_excel_with_a_cell_far_outside_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    path = tmp_path / "far.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write(1_048_575, 16_383, "stray")
    with pytest.raises(TableError, match="far outside of its table"):
        opened(path)


def test_excel_whose_far_cells_are_empty_is_read(tmp_path: Path) -> None:
    path = tmp_path / "formatted.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["a", "b"])
        sheet.write_row(1, 0, ["1", "2"])
        sheet.write_blank(1_048_575, 16_383, None, book.add_format({"bold": True}))
    assert cells(opened(path)) == [(2, ["1", "2"])]


def test_excel_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.xlsx"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/sharedStrings.xml", b"")
    content = bytearray(path.read_bytes())
    size_at = content.rindex(b"PK\x01\x02") + 24  # what the member says it unpacks to
    content[size_at : size_at + 4] = (0xFFFF_FFF0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(TableError, match="too large for Excel"):
        opened(path)


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8 with BOM"),
        ("utf-16", "UTF-16"),
        ("gb18030", "GB18030"),
        ("gbk", "GB18030"),
        ("gb2312", "GB18030"),
    ],
)
def test_the_encoding_is_detected_and_told(tmp_path: Path, encoding: str, told: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("企业名称,号\n北京某某科技有限公司,1\n", encoding)
    table = opened(path)
    assert table.told == f"CSV, {told}, as detected"
    assert table.columns == ("企业名称", "号")
    assert cells(table) == [(2, ["北京某某科技有限公司", "1"])]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
@IN_FOLDER
@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=8))
@example(rows=[("龘𠮷㐀", 'a"b,c', "line\nend"), ("\u2028", "\x85", " ")])
def test_csv_is_read_as_it_was_written_and_rejects_are_like_it(
    tmp_path: Path, encoding: str, rows: list[tuple[str, str, str]]
) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([("甲列", "b", "c"), *rows])
    table = opened(path, encoding="" if encoding != "gb18030" else encoding)
    found = cells(table)
    assert [tuple(row) for _, row in found] == rows
    assert sum(row.size for row in table.rows()) <= table.size
    with closing(table.writer(tmp_path / "r.csv")) as writer:
        for _, row in found:
            writer.write(row, REJECTED)
    again = opened(tmp_path / "r.csv", encoding="" if encoding != "gb18030" else encoding)
    assert again.columns == table.columns
    assert [row for _, row in cells(again)] == [row for _, row in found]
    head = (tmp_path / "r.csv").read_text(encoding).splitlines()[0]
    assert head == ",".join(["甲列", "b", "c", *ADDED])


@IN_FOLDER
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1))
def test_utf8_is_never_taken_for_something_else(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    assert detect_encoding(path) in {"utf-8", "utf-8-sig"}


def test_an_encoding_that_is_named_is_not_detected(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("名\n中文\n", "utf-8")
    assert opened(path, encoding="utf-8").told == "CSV, UTF-8"
    with pytest.raises(TableError, match="name its `encoding`"):
        cells(opened(path, encoding="utf-16"))


def test_rows_are_numbered_by_their_first_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,"two\nlines"\n\n3,4\n', "utf-8")
    assert [number for number, _ in cells(opened(path))] == [2, 5]


def test_titles_above_the_header_stay_in_rejects(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("某某税务局\n2024年5月\na;b\n1;2\n", "utf-8")
    table = opened(path, header=3, delimiter=";")
    assert (table.columns, cells(table)) == (("a", "b"), [(4, ["1", "2"])])
    with closing(table.writer(tmp_path / "r.csv")) as writer:
        writer.write(["1", "2"], REJECTED)
    again = opened(tmp_path / "r.csv", header=3, delimiter=";")
    assert cells(again) == [(4, ["1", "2"])]


def test_rows_of_another_width_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2,3\n1\n1,2\n", "utf-8")
    assert [row.problem for row in opened(path).rows()] == [
        "3 cells where the header has 2",
        "1 cells where the header has 2",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "layout", "problem"),
    [
        ("", {}, "is empty"),
        ("a\n", {"header": 2}, "is empty"),
        ("a,b,a\n", {}, "two columns named a: rename one"),
        (",,\n1,2,3\n", {}, "names no columns in row 1"),
    ],
)
def test_headers_that_are_none(
    tmp_path: Path, text: str, layout: dict[str, Any], problem: str
) -> None:
    (tmp_path / "t.csv").write_text(text, "utf-8")
    with pytest.raises(TableError, match=problem):
        opened(tmp_path / "t.csv", **layout)


def test_other_suffixes_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"not one of \.csv, \.xlsx"):
        opened(tmp_path / "t.pdf")


ROWS: list[list[Any]] = [
    ["编号", "号码", "日期", "金额", "是"],
    ["00041", 24111, date(2024, 5, 31), 100.25, True],
    [None, None, None, None, None],
    ["x", 1, date(1999, 12, 31), -0.1, False],
]


@pytest.mark.parametrize("first", [0, 3])
def test_excel(tmp_path: Path, first: int) -> None:
    table = opened(excel(tmp_path / "t.xlsx", *ROWS, first=first), header=first + 1)
    assert (table.told, table.unit) == ("Excel, sheet 明细", "rows")
    assert table.columns == ("编号", "号码", "日期", "金额", "是")
    assert cells(table) == [(first + 2, ROWS[1]), (first + 4, ROWS[3])]
    assert table.size == 3


def test_rejects_of_excel_are_excel(tmp_path: Path) -> None:
    table = opened(excel(tmp_path / "t.xlsx", *ROWS))
    with closing(table.writer(tmp_path / "r.xlsx")) as writer:
        for row in table.rows():
            writer.write(row.cells, REJECTED)
    again = opened(tmp_path / "r.xlsx")
    assert again.told == "Excel, sheet 明细"
    assert again.columns == table.columns
    assert [row for _, row in cells(again)] == [ROWS[1], ROWS[3]]


def test_excel_writes_every_kind_of_cell(tmp_path: Path) -> None:
    table = opened(excel(tmp_path / "t.xlsx", ["a", "b", "c", "d", "e"], ["=1+1"]))
    row: list[Cell] = [
        "=1+1",
        datetime.fromisoformat("2024-05-31T12:30"),
        time(8, 30),
        Decimal("1.5"),
        2,
    ]
    with closing(table.writer(tmp_path / "r.xlsx")) as writer:
        writer.write(row, REJECTED)
    assert cells(opened(tmp_path / "r.xlsx")) == [(2, row)]


def test_sheets_are_named_where_there_are_several(tmp_path: Path) -> None:
    path = excel(tmp_path / "t.xlsx", *ROWS, sheets=("一月", "二月"))
    with pytest.raises(TableError, match="has the sheets 一月, 二月: name one by `sheet`"):
        opened(path)
    assert opened(path, sheet="二月").told == "Excel, sheet 二月"
    with pytest.raises(TableError, match="name one"):
        opened(path, sheet="三月")


def test_cells_beside_the_named_columns_are_told(tmp_path: Path) -> None:
    table = opened(excel(tmp_path / "t.xlsx", ["a", "b"], ["1", "2", "3"], ["1", "2"]))
    problems = [row.problem for row in table.rows()]
    assert problems == ["cells to the right of the 2 named columns", ""]


def test_what_is_no_excel(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_text("a,b\n", "utf-8")
    with pytest.raises(TableError, match="is not Excel"):
        opened(tmp_path / "t.xlsx")
    with pytest.raises(TableError, match="nothing on sheet"):
        opened(excel(tmp_path / "empty.xlsx"))


COLUMNS: dict[str, list[Any]] = {
    "编号": ["1", None, "3"],
    "金额": [Decimal("1.10"), Decimal("-2.00"), None],
    "日期": [date(2024, 5, 31), None, date(2024, 6, 1)],
    "时间": [datetime.fromisoformat("2024-05-31T08:30"), None, None],
    "人数": [1, 2, None],
}


def parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path


def test_parquet_and_its_rejects(tmp_path: Path) -> None:
    source = pa.table(COLUMNS)
    table = opened(parquet(tmp_path / "t.parquet", source))
    assert (table.told, table.size) == ("Parquet", 3)
    expected = [list(row) for row in zip(*COLUMNS.values(), strict=True)]
    assert cells(table) == list(enumerate(expected, 1))
    with closing(table.writer(tmp_path / "r.parquet")) as writer:
        for _, row in cells(table):
            writer.write(row, REJECTED)
    again = pq.read_table(tmp_path / "r.parquet")
    assert again.select(source.column_names).equals(source)
    assert again.column("puhui_row").to_pylist() == [7] * 3
    assert opened(tmp_path / "r.parquet").columns == table.columns


def test_large_parquet_goes_in_parts(tmp_path: Path) -> None:
    source = pa.table({"a": list(range(2500))})
    table = opened(parquet(tmp_path / "t.parquet", source))
    with closing(table.writer(tmp_path / "r.parquet")) as writer:
        for _, row in cells(table):
            writer.write(row, REJECTED)
    assert pq.read_table(tmp_path / "r.parquet").column("a").to_pylist() == list(range(2500))


def test_times_finer_than_pythons_are_cut(tmp_path: Path) -> None:
    moments = pa.array([1_717_113_600_123_456_789], pa.timestamp("ns"))
    table = opened(parquet(tmp_path / "t.parquet", pa.table({"t": moments})))
    assert cells(table) == [(1, [datetime.fromisoformat("2024-05-31T00:00:00.123456")])]


def test_what_is_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_text("a,b\n", "utf-8")
    with pytest.raises(TableError, match="is not Parquet"):
        opened(tmp_path / "t.parquet")
