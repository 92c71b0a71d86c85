import tomllib
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puhui.datashare.v1.records_pb2 import RECORD_STATUS_RETRACTED, Record
from puhui_client import values
from services.cli.fields import UNITS, text_of
from services.cli.mapping import (
    Converter,
    MappingError,
    Problem,
    parse_mapping,
    plain_mapping,
    read_mapping,
    record_types,
)
from services.cli.tables import EXCEL_DAYS, Cell

DAYS = st.dates(date(1900, 3, 1), date(2199, 12, 31))


def mapping(columns: str, record_type: str = "tax_filing", more: str = "") -> Converter:
    """A converter of a table that has the columns of the mapping, in their order."""
    text = f'record_type = "{record_type}"\n{more}\n[columns]\n{columns}'
    parsed = parse_mapping(tomllib.loads(text))
    return Converter(parsed, parsed.names)


def converted(columns: str, *cells: Cell, **more: Any) -> Record:
    record, problems, _ = mapping(columns, **more).convert(cells)
    assert problems == ()
    return record


def problem(columns: str, cell: Cell, **more: Any) -> str:
    _, problems, filled = mapping(columns, **more).convert([cell])
    (found,) = problems
    assert (found.column, filled) == ("a", 1)
    if isinstance(cell, str) and len(cell) > 3:
        assert cell not in found.problem
    return found.problem


@given(st.decimals(-(10**9), 10**9, places=4), st.sampled_from(list(UNITS)))
def test_amounts_are_exact_in_every_unit(amount: Decimal, unit: str) -> None:
    record = converted(f'a = {{ field = "paid", unit = "{unit}" }}', f"{amount:f}")
    assert values.from_money(record.tax_filing.paid) == amount * UNITS[unit]


@given(st.decimals(-(10**12), 10**12, places=2))
def test_amounts_with_other_signs(amount: Decimal) -> None:
    german = f"{amount:,.2f}".translate(str.maketrans(",.", ".,"))
    signs = 'a = { field = "paid", unit = "元", decimal = ",", thousands = "." }'
    assert values.from_money(converted(signs, german).tax_filing.paid) == amount
    plain = 'a = { field = "paid", unit = "元", thousands = "," }'
    assert values.from_money(converted(plain, f"{amount:,.2f}").tax_filing.paid) == amount


@given(st.integers(-(10**14), 10**14))
def test_amounts_that_excel_keeps_as_doubles_are_what_it_shows(fen: int) -> None:
    record = converted('a = { field = "paid", unit = "元" }', fen / 100)
    assert values.from_money(record.tax_filing.paid) == Decimal(fen) / 100


@given(st.decimals(-(10**9), 10**9, places=6))
def test_amounts_of_databases(amount: Decimal) -> None:
    record = converted('a = { field = "paid", unit = "万元" }', amount)
    assert values.from_money(record.tax_filing.paid) == amount * 10_000


@pytest.mark.parametrize(
    "text",
    [
        "1,234.50",
        "1e5",
        "NaN",
        "Infinity",
        "1_000",
        "１２",
        "12.",
        ".5",
        "1.2.3",
        "¥5",
        "--1",
        "0x1",
    ],
)
def test_what_is_no_amount(text: str) -> None:
    assert "not an amount" in problem('a = { field = "paid", unit = "元" }', text)


@pytest.mark.parametrize("text", ["1,23.4", "12,34", "1,2345", ",123", "1,,234"])
def test_groups_of_digits_have_three(text: str) -> None:
    said = problem('a = { field = "paid", unit = "元", thousands = "," }', text)
    assert said == "not an amount such as 1,234.50"


@pytest.mark.parametrize("cell", [True, date(2024, 5, 31)])
def test_a_cell_that_is_no_number_is_no_amount(cell: Cell) -> None:
    assert "make the cell a number" in problem('a = { field = "paid", unit = "元" }', cell)


def test_an_amount_finer_than_travels_is_a_problem() -> None:
    assert "more than nine decimals" in problem('a = { field = "paid", unit = "分" }', "0.00000001")


@given(DAYS)
def test_days_in_every_form(day: date) -> None:
    def read(option: str, cell: Cell) -> date:
        record = converted(f'a = {{ field = "date"{option} }}', cell)
        return values.from_date(record.date)

    midnight = datetime.combine(day, datetime.min.time())
    assert read("", day.isoformat()) == day
    assert read("", f"{day} 00:00:00.000") == day
    assert read(', date = "%d.%m.%Y"', f"{day:%d.%m.%Y}") == day
    assert read(', date = "%Y年%m月%d日"', f"{day.year}年{day.month}月{day.day}日") == day
    assert read(', date = "%Y%m%d"', float(f"{day:%Y%m%d}")) == day
    assert read(', date = "excel"', float((day - EXCEL_DAYS).days)) == day
    for option in ("", ', date = "%Y年%m月%d日"', ', date = "excel"'):
        assert read(option, day) == read(option, midnight) == day


@pytest.mark.parametrize(
    ("option", "cell", "said"),
    [
        ("", "2024/05/31", "write 2024-05-31"),
        ("", "2024-W22-5", "write 2024-05-31"),
        ("", "2024-05-31 00:00:01", "write 2024-05-31"),
        ("", "2024-02-30", "no such day"),
        ("", 45443.0, "write 2024-05-31"),
        ("", datetime.fromisoformat("2024-05-31T08:00"), "a time of day"),
        (', date = "excel"', "2024-05-31", "as Excel counts it"),
        (', date = "excel"', 60.0, "before March 1900"),
        (', date = "excel"', 45443.5, "as Excel counts it"),
        (', date = "excel"', datetime.fromisoformat("2024-05-31T08:00"), "a time of day"),
    ],
)
def test_days_that_are_not_written_as_the_mapping_says(option: str, cell: Cell, said: str) -> None:
    assert said in problem(f'a = {{ field = "date"{option} }}', cell)


@given(DAYS, st.sampled_from([("month", 1), ("quarter", 3), ("year", 12)]))
def test_a_period_around_a_day(day: date, length: tuple[str, int]) -> None:
    name, months = length
    for cell in (day, day.isoformat(), datetime.combine(day, datetime.min.time())):
        period = converted(f'a = {{ field = "period", period = "{name}" }}', cell).period
        first, last = values.from_date(getattr(period, "from")), values.from_date(period.to)
        assert first <= day <= last
        assert (first.day, (last + timedelta(days=1)).day) == (1, 1)
        assert (last.year - first.year) * 12 + last.month - first.month + 1 == months
        assert (first.month - 1) % months == 0


@given(st.integers(1900, 2199), st.integers(1, 12))
def test_months_become_periods(year: int, month: int) -> None:
    expected = values.to_period(*values.month(year, month))
    columns = 'a = { field = "period", period = "%Y%m" }'
    assert converted(columns, f"{year}{month:02}").period == expected
    assert converted(columns, float(year * 100 + month)).period == expected
    assert converted('a = "period"', f"{year}-{month:02}").period == expected


def test_a_period_of_two_columns() -> None:
    columns = """
a = { field = "period.from", date = "%Y%m%d" }
b = { field = "period.to", date = "%Y%m%d" }
"""
    record = converted(columns, "20240401", "20240630")
    assert record.period == values.to_period(date(2024, 4, 1), date(2024, 6, 30))


MOMENT = datetime(2024, 5, 31, 18, 30, tzinfo=timezone(timedelta(hours=8)))


@pytest.mark.parametrize(
    ("options", "cell"),
    [
        ("", "2024-05-31T18:30:00+08:00"),
        (', zone = "+08:00"', "2024-05-31 18:30:00"),
        (', zone = "+00:00"', "2024-05-31T18:30:00+08:00"),
        (', zone = "+08:00"', datetime.fromisoformat("2024-05-31T18:30")),
        (', time = "%Y/%m/%d %H:%M", zone = "+08:00"', "2024/5/31 18:30"),
        ("", MOMENT.astimezone(UTC)),
    ],
)
def test_times(options: str, cell: Cell) -> None:
    record = converted(f'a = {{ field = "obtained_at"{options} }}', cell)
    assert values.from_timestamp(record.obtained_at) == MOMENT


def test_a_day_is_a_time_where_the_mapping_says_the_zone() -> None:
    columns = 'a = { field = "obtained_at", zone = "+08:00" }'
    expected = datetime(2024, 5, 30, 16, tzinfo=UTC)
    for cell in ("2024-05-31", date(2024, 5, 31)):
        assert values.from_timestamp(converted(columns, cell).obtained_at) == expected
    assert "without a zone is a guess" in problem('a = "obtained_at"', "2024-05-31 18:30:00")


def test_codes() -> None:
    columns = """
a = { field = "vat_invoice.status", codes = { "有效发票" = "VALID", "作废发票" = "VOID" } }
b = { field = "side", codes = { "进" = "input", "销" = "OUTPUT" } }
"""
    invoice = converted(columns, "作废发票", " 销 ", record_type="vat_invoice").vat_invoice
    assert (invoice.status, invoice.side) == (2, 2)
    said = problem(columns.splitlines()[1], "VALID", record_type="vat_invoice")
    assert "not among the codes of the mapping" in said


def test_codes_of_flags_numbers_and_lists() -> None:
    columns = """
a = { field = "pledged", codes = { "是" = "true", "否" = "false" } }
b = { field = "ip_class", codes = { "I类" = "1", "II类" = "2" } }
"""
    right = converted(columns, "是", "II类", record_type="ip_right").ip_right
    assert (right.pledged, right.ip_class) == (True, 2)
    names = converted(
        'a = { field = "former_names", split = "、" }', "甲、 乙", record_type="registration"
    )
    assert list(names.registration.former_names) == ["甲", "乙"]


@given(st.integers(-(10**6), 10**6))
def test_shares_in_percent(hundredths: int) -> None:
    columns = 'a = { field = "share_ppm", unit = "%" }'
    for cell in (f"{hundredths / 100:.2f}%", f"{hundredths / 100:.2f}", hundredths / 100):
        record = converted(columns, cell, record_type="shareholding")
        assert record.shareholding.share_ppm == hundredths * 100


@pytest.mark.parametrize(
    ("cell", "said"), [("12,5%", "not a share"), ("1/3", "not a share"), ("0.00001", "millionth")]
)
def test_what_is_no_share(cell: str, said: str) -> None:
    columns = 'a = { field = "share_ppm", unit = "%" }'
    assert said in problem(columns, cell, record_type="shareholding")


def test_what_means_nothing() -> None:
    columns = """
a = { field = "arrears", unit = "元" }
b = { field = "paid", unit = "元", null = ["无"] }
c = "days_late"
"""
    made = mapping(columns, more='[file]\nnull = ["", "-", "--"]')
    record, problems, filled = made.convert([" -- ", "无", "-"])
    assert (problems, filled) == ((), 0)
    assert record == Record(record_type="tax_filing")
    # What one column calls nothing is something in another.
    _, (found,), filled = made.convert(["0", "-", "0"])
    assert (found.column, filled) == ("b", 0b111)


def test_absent_is_not_zero() -> None:
    record = converted('a = "days_late"', "0")
    assert record.tax_filing.HasField("days_late")
    assert not converted('a = "days_late"', "").tax_filing.HasField("days_late")


def test_ids_of_several_columns() -> None:
    more = '[record_id]\ncolumns = ["a", "b"]\njoin = "-"\nprefix = "i:"'
    columns = 'a = "code"\nb = "number"'
    made = mapping(columns, "vat_invoice", more)
    record, problems, _ = made.convert([" 0011", 24111.0])
    assert (record.provider_record_id, problems) == ("i:0011-24111", ())
    wrong: list[tuple[Cell, str]] = [("", "empty"), ("0-1", "has - in it"), (2e15, "15 digits")]
    for cell, said in wrong:
        _, (*_, found), _ = made.convert([cell, "1"])
        assert found.field == "provider_record_id"
        assert said in found.problem


def test_hints_are_for_rows_that_name_no_subject() -> None:
    columns = 'a = "subject.uscc"\nb = "hint.name"'
    assert converted(columns, "", "某某科技").hint.name == "某某科技"
    named = converted(columns, "91110000MA00000077", "某某科技")
    assert (named.subject.uscc, named.HasField("hint")) == ("91110000MA00000077", False)


def test_constants_and_retractions() -> None:
    more = '[constants]\n"record.status" = "retracted"\nversion = 2\n"subject.subject_id" = "sub_1"'
    record = converted('a = "provider_record_id"', "1", more=more)
    assert (record.status, record.version) == (RECORD_STATUS_RETRACTED, 2)
    assert record.subject.subject_id == "sub_1"
    assert record.WhichOneof("payload") is None


def test_a_column_may_fill_two_fields() -> None:
    columns = 'a = ["date", { field = "obtained_at", zone = "+08:00" }]'
    record = converted(columns, "2024-05-31")
    assert record.HasField("date")
    assert record.HasField("obtained_at")


def test_all_that_is_wrong_with_a_row_is_told() -> None:
    made = mapping('a = "date"\nb = "days_late"\nc = "grade"')
    record, problems, filled = made.convert(["May", "many", "A"])
    assert problems == (
        Problem("a", "date", "not a day: write 2024-05-31"),
        Problem("b", "tax_filing.days_late", "not a whole number"),
    )
    assert (filled, record.tax_filing.grade) == (0b111, "A")


CELLS = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.decimals(),
    st.binary(max_size=3),
)
EVERYTHING = {
    "social_insurance": """
a = { field = "period", period = "%Y年%m月" }
b = { field = "headcount", thousands = "," }
c = { field = "paid", unit = "万元", thousands = "," }
d = { field = "obtained_at", zone = "+08:00" }
e = "subject.uscc"
""",
    "vat_invoice": """
a = { field = "date", date = "excel" }
b = { field = "vat_invoice.status", codes = { "有效" = "VALID" } }
c = { field = "net", unit = "分", decimal = "," }
d = "number"
e = "version"
""",
}


@given(st.sampled_from(list(EVERYTHING)), st.lists(CELLS, min_size=5, max_size=5))
def test_any_cells_make_a_record_or_problems(record_type: str, cells: list[Cell]) -> None:
    made = mapping(EVERYTHING[record_type], record_type)
    record, problems, filled = made.convert(cells)
    assert record.record_type == record_type
    assert all(found.problem and found.column for found in problems)
    assert 0 <= filled < 2**5
    # The same again, whatever was converted before.
    assert made.convert(cells)[1:] == (problems, filled)
    Record.FromString(record.SerializeToString())


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_as_text(number: float) -> None:
    try:
        text = text_of(number)
    except ValueError:
        assert abs(number) >= 10**15
        return
    assert "e" not in text.lower()
    assert float(text) == pytest.approx(number, rel=1e-14, abs=0)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_what_is_no_number(number: float) -> None:
    with pytest.raises(ValueError, match="number"):
        text_of(number)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "record_type: name one of"),
        ('record_type = "invoice"', "record_type: name one of"),
        ('record_type = "grant"', r"\[columns\] is missing"),
        ('record_type = "grant"\ncolumns = 1', r"write \[columns\]"),
        (
            'record_type = "grant"\n[colums]',
            "unknown key colums in the mapping: did you mean columns",
        ),
        ('record_type = "grant"\ndraft = true\n[columns]', "delete the line `draft`"),
        ("[file]\nencodng = 1", r"unknown key encodng in \[file\]: did you mean encoding"),
        ('[file]\nencoding = "big5"', "there are utf-8, "),
        ('[file]\ndelimiter = ";;"', "one character"),
        ("[file]\nheader = 0", "from 1"),
        ('[file]\nheader = "2"', "should be of type int"),
        ("[file]\nnull = [1]", "list of texts"),
        ("[constants]\nversion = 1.5", "should be a text"),
        ('[constants]\ndate = "May"', r"date in \[constants\]: not a day"),
        ('[constants]\nday = "2024-05-31"', "unknown field day"),
        ("[record_id]\ncolumns = []", "a list of columns"),
        ('[record_id]\ncolumns = ["a", "b"]\njoin = ""', "two rows could have one id"),
        ('[record_id]\ncolumns = ["a"]\njoin = 1', "should be a text"),
        ('[record_id]\ncolums = ["a"]', "did you mean columns"),
    ],
)
def test_mappings_that_are_wrong(text: str, said: str) -> None:
    if "record_type" not in text and text:
        text = f'record_type = "grant"\n{text}\n[columns]\na = "programme"'
    with pytest.raises(MappingError, match=said):
        parse_mapping(tomllib.loads(text))


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("a = 1", "column a: write a field"),
        ('a = { unit = "元" }', "`field` is missing"),
        ('a = "paid"', "say what it is written in, by `unit`: 分, 元, 千元, 万元, 亿元"),
        ('a = { field = "paid", unit = "USD" }', "by `unit`"),
        ('a = { field = "paid", unt = "元" }', "unknown key unt in column a: did you mean unit"),
        ('a = { field = "date", unit = "元" }', "`unit` does not fit date, which is a date"),
        ('a = { field = "grade", date = "%Y" }', "does not fit tax_filing.grade, which is a text"),
        ('a = { field = "date", date = "%Y" }', "no form of a day"),
        ('a = { field = "date", date = 1 }', "`date` should be a text"),
        ('a = { field = "date", codes = { x = "2024-01-01" } }', "`codes` does not fit date"),
        ('a = { field = "grade", codes = {} }', "`codes` should be a table"),
        ('a = { field = "grade", codes = { A = 1 } }', "`codes` should be a table"),
        ('a = { field = "record.status", codes = { x = "gone" } }', "the code gone is not one of"),
        ('a = { field = "grade", null = "x" }', "null in column a should be a list"),
        ('a = { field = "obtained_at", zone = "CST" }', "write it as .08:00"),
        ('a = { field = "obtained_at", zone = "+25:00" }', "write it as .08:00"),
        ('a = { field = "paid", unit = "元", decimal = ",", thousands = "," }', "two signs"),
        ('a = { field = "paid", unit = "元", decimal = "-" }', "two signs"),
        ('a = { field = "paid", unit = "元", decimal = "" }', "two signs"),
        ('a = "no_such"', "unknown field no_such"),
        ('a = "tax_filing"', "no single value"),
        ('a = "record_type"', "is the mapping's to fill"),
        ('a = "known_at"', "is the platform's to fill"),
        ('a = "grade"\nb = "tax_filing.grade"', "two things fill tax_filing.grade"),
        ('a = "period"\nb = "period.to"', "both period and period.to are filled"),
    ],
)
def test_columns_that_are_wrong(column: str, said: str) -> None:
    with pytest.raises(MappingError, match=said):
        mapping(column)


def test_a_share_says_percent_or_nothing() -> None:
    with pytest.raises(MappingError, match="is in ppm"):
        mapping('a = { field = "share_ppm", unit = "元" }', "shareholding")


def test_what_a_mapping_and_a_header_differ_in() -> None:
    parsed = parse_mapping(
        tomllib.loads('record_type = "grant"\n[columns]\n"金额(元)" = "programme"')
    )
    with pytest.raises(MappingError, match=r"has no column 金额\(元\): is it 金额（元）\?"):
        Converter(parsed, ["金额（元）", "备注"])
    with pytest.raises(MappingError, match="there are 备注"):
        Converter(parsed, ["备注"])
    assert Converter(parsed, ["x", "", "金额(元)"]).unmapped == ("x",)


def test_files_of_mappings(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_bytes("\ufeff".encode() + b'record_type = "grant"\n[columns]\na = "programme"')
    assert read_mapping(path).names == ("a",)
    for content in (b"=", "列 = 1".encode("gbk")):
        path.write_bytes(content)
        with pytest.raises(MappingError, match=r"m\.toml is not TOML in UTF-8"):
            read_mapping(path)


@pytest.mark.parametrize("record_type", sorted(record_types()))
def test_every_type_can_be_mapped_by_the_names_of_its_fields(record_type: str) -> None:
    payload = Record.DESCRIPTOR.fields_by_name[record_type].message_type
    assert payload is not None
    names = [
        f"{record_type}.{field.name}"
        for field in payload.fields
        if field.type != field.TYPE_BYTES
        and not (field.is_repeated and field.message_type is not None)
    ]
    made = Converter(plain_mapping(names, record_type), names)
    record, problems, filled = made.convert([""] * len(names))
    assert (record, problems, filled) == (Record(record_type=record_type), (), 0)
