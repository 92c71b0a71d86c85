from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson

from puhui.datashare.v1.payloads_pb2 import INVOICE_STATUS_VOID
from puhui.datashare.v1.records_pb2 import RECORD_STATUS_RETRACTED, Record
from puhui_client import records, values
from services.cli.rows import Row, SourceError, open_source

CHINA = timezone(timedelta(hours=8))
INVOICE = records.vat_invoice(
    record_id="out:1",
    uscc="91110000MA00000077",
    occurred=date(2024, 5, 3),
    obtained_at=datetime(2024, 5, 4, 10, tzinfo=CHINA),
    number="1",
    side="output",
    net="100.00",
    tax="13.00",
    gross="113.00",
    counterparty="甲公司",
)
HEADER = (
    "provider_record_id,subject.uscc,date,obtained_at,number,side,net,tax,gross,vat_invoice.status,"
    "counterparty"
)
LINE = (
    "out:1,91110000MA00000077,2024-05-03,2024-05-04T10:00:00+08:00,1,output,100.00,13 CNY,113.00,"
    "valid,甲公司"
)


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    return path


def read(path: Path, record_type: str) -> Iterator[Row]:
    return open_source(path, record_type, None).rows()


def csv_rows(tmp_path: Path, record_type: str, *lines: str) -> list[Row]:
    return list(read(write(tmp_path / "rows.csv", *lines), record_type))


@pytest.mark.parametrize("snake", [True, False])
def test_json_lines(tmp_path: Path, snake: bool) -> None:
    text = MessageToJson(INVOICE, indent=None, preserving_proto_field_name=snake)
    first, second = read(write(tmp_path / "rows.jsonl", text, "", text), "")
    assert (first.record, first.number, second.number) == (INVOICE, 1, 3)


def test_the_type_comes_from_the_payload_where_it_is_left_out(tmp_path: Path) -> None:
    untyped = Record()
    untyped.CopyFrom(INVOICE)
    untyped.record_type = ""
    (row,) = read(write(tmp_path / "rows.jsonl", MessageToJson(untyped, indent=None)), "")
    assert row.record == INVOICE


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "not a record"),
        ("[" * 100_000, "not JSON"),
        ('"many"', "not a record"),
        ("\udcff", "not JSON"),
        ('{"social_insurance": {"headcount": "many"}}', "not a record"),
        ('{"no_such": 1}', 'no field named "no_such"'),
    ],
)
def test_lines_that_cannot_be_read_are_reported_without_their_values(
    tmp_path: Path, line: str, problem: str
) -> None:
    good = MessageToJson(INVOICE, indent=None)
    bad, after = read(write(tmp_path / "rows.jsonl", line, good), "")
    assert problem in bad.problems[0].problem
    assert "many" not in bad.problems[0].problem
    assert after.record == INVOICE


def test_csv(tmp_path: Path) -> None:
    (row,) = csv_rows(tmp_path, "vat_invoice", HEADER, LINE)
    assert row == Row(2, row.size, INVOICE, (), 2**11 - 1)


def test_csv_of_a_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{LINE}\r\n".encode())
    (row,) = read(path, "vat_invoice")
    assert row.record == INVOICE


def test_columns_of_every_kind(tmp_path: Path) -> None:
    (filing,) = csv_rows(
        tmp_path,
        "tax_filing",
        "subject.subject_id,period,version,status,tax_filing.days_late,tax_filing.declared_tax",
        "sub_1,2024-02,2,retracted,0,-0.05 USD",
    )
    record = filing.record
    assert (record.subject.subject_id, record.version) == ("sub_1", 2)
    assert record.status == RECORD_STATUS_RETRACTED
    assert record.period == values.to_period(date(2024, 2, 1), date(2024, 2, 29))
    assert record.tax_filing.HasField("days_late")
    assert record.tax_filing.declared_tax == values.to_money("-0.05", "USD")


def test_a_name_of_record_and_payload_is_written_out(tmp_path: Path) -> None:
    header = "record.provider_record_id,record.status,vat_invoice.status,record.subject.uscc"
    (row,) = csv_rows(tmp_path, "vat_invoice", header, "o:1,retracted,void,91110000MA00000077")
    assert row.record.provider_record_id == "o:1"
    assert row.record.status == RECORD_STATUS_RETRACTED
    assert row.record.vat_invoice.status == INVOICE_STATUS_VOID
    assert row.record.subject.uscc == "91110000MA00000077"


def test_flags_lists_and_parts_of_a_period(tmp_path: Path) -> None:
    (right,) = csv_rows(tmp_path, "ip_right", "pledged,ip_class,period.from", "yes,2,2024-01-01")
    assert (right.record.ip_right.pledged, right.record.ip_right.ip_class) == (True, 2)
    (firm,) = csv_rows(tmp_path, "registration", "former_names,capital", "甲; 乙,")
    assert list(firm.record.registration.former_names) == ["甲", "乙"]
    assert not firm.record.registration.HasField("capital")
    (spanned,) = csv_rows(tmp_path, "grant", "period", "2024-01-01/2024-12-31")
    assert spanned.record.period.to == values.to_date(date(2024, 12, 31))


@pytest.mark.parametrize(
    ("column", "cell", "problem"),
    [
        ("date", "2024-13-01", "no such day"),
        ("period", "May", "not a period"),
        ("obtained_at", "yesterday", "not a time"),
        ("obtained_at", "2024-05-04T10:00:00", "zone"),
        ("net", "12,5", "not an amount"),
        ("side", "sideways", "not one of input, output"),
        ("version", "two", "not a whole number"),
        ("version", "-1", "range"),
    ],
)
def test_cells_that_cannot_be_read(tmp_path: Path, column: str, cell: str, problem: str) -> None:
    bad, good = csv_rows(tmp_path, "vat_invoice", f"number,{column}", f'1,"{cell}"', "2,", "")
    (found,) = bad.problems
    assert (bad.number, found.column) == (2, column)
    assert problem in found.problem
    assert cell not in found.problem.replace("2024-05-31", "")
    assert not good.problems


def test_a_row_with_too_many_cells(tmp_path: Path) -> None:
    bad, good = csv_rows(tmp_path, "vat_invoice", "number,code", "1,2,3", "1,2")
    assert bad.problems[0].problem == "3 cells where the header has 2"
    assert not good.problems


@pytest.mark.parametrize(
    ("record_type", "header", "message"),
    [
        ("", "number", "--type"),
        ("invoice", "number", "unknown record type invoice"),
        ("vat_invoice", "number,nett", "unknown field nett"),
        ("vat_invoice", "subject.uscc.x", "unknown field subject.uscc.x"),
        ("vat_invoice", "counterparty_token", "leave it out"),
        ("vat_invoice", "subject", "name the fields in it"),
        ("vat_invoice", "status", "write record.status or vat_invoice.status"),
        ("ip_right", "status", "write record.status or ip_right.status"),
        ("grant", "record", "unknown field record"),
        ("grant", "record.amount", "unknown field record.amount"),
    ],
)
def test_a_header_that_cannot_be_read(
    tmp_path: Path, record_type: str, header: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        csv_rows(tmp_path, record_type, header)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"number\n\xff\xff\n", "neither UTF-8"),
        (b"number\n" + b"1" * 200_000, "not CSV"),
    ],
)
def test_bytes_that_are_no_csv(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        list(read(tmp_path / "rows.csv", "vat_invoice"))


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").touch()
    with pytest.raises(SourceError, match="is empty"):
        list(read(tmp_path / "rows.csv", "grant"))


def test_a_line_without_end_is_refused_before_it_fills_memory(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    path.write_text("[" + '{"record_type": "vat_invoice"},\t' * 200_000, "utf-8")
    with pytest.raises(SourceError, match=r"line 1 of .*all.json has more than 4 MB"):
        list(open_source(path, "", None).rows())
