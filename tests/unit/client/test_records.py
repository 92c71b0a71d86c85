import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import protovalidate
import pytest
from google.protobuf.json_format import ParseDict
from google.type import date_pb2, money_pb2

from puhui.datashare.v1 import payloads_pb2, records_pb2
from puhui_client import records, values
from puhui_client.values import from_money

OBTAINED = datetime(2024, 6, 1, tzinfo=UTC)
HEAD: dict[str, Any] = {
    "record_id": "r1",
    "uscc": "91110000MA00000077",
    "occurred": date(2024, 5, 3),
    "obtained_at": OBTAINED,
}
BUILT: dict[str, Callable[[], records_pb2.Record]] = {
    "registration": lambda: records.registration(
        name="北京甲科技有限公司",
        founded=date(2015, 3, 1),
        firm_kind="limited",
        industry="I65",
        district="110108",
        capital=10_000_000,
        former_names=["乙"],
        **HEAD,
    ),
    "vat_invoice": lambda: records.vat_invoice(
        number="1", side="input", net="-100", tax="-13", gross="-113", status="void", **HEAD
    ),
    "tax_filing": lambda: records.tax_filing(
        tax_kind="vat", declared_tax="10.50", days_late=0, grade="A", **HEAD
    ),
    "social_insurance": lambda: records.social_insurance(headcount=0, paid=0, **HEAD),
    "ip_right": lambda: records.ip_right(
        kind="invention", ip_class=1, status="granted", granted=date(2020, 1, 1), **HEAD
    ),
    "tech_status": lambda: records.tech_status(
        title="high_tech", valid_from=date(2023, 1, 1), valid_to=date(2025, 12, 31), **HEAD
    ),
    "court_case": lambda: records.court_case(
        case_number="(2024)京01民初1号",
        role="defendant",
        stage="filed",
        filed=date(2024, 5, 3),
        **HEAD,
    ),
    "credit_facility": lambda: records.credit_facility(
        facility_id="f", limit=100, balance="0.01", five_class="normal", **HEAD
    ),
    "grant": lambda: records.grant(programme="创新", amount=500_000, **HEAD),
}


GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "summaries.json").read_text("utf-8"))


def plain(message: Any) -> dict[str, Any]:
    """A payload as a caller of the client would write it."""
    values: dict[str, Any] = {}
    for field, value in message.ListFields():
        if isinstance(value, money_pb2.Money):
            values[field.name] = str(from_money(value))
        elif isinstance(value, date_pb2.Date):
            values[field.name] = date(value.year, value.month, value.day)
        elif field.enum_type is not None:
            prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
            name = field.enum_type.values_by_number[value].name
            values[field.name] = name.removeprefix(prefix).lower()
        elif field.message_type is not None:
            values[field.name] = [plain(part) for part in value]
        else:
            values[field.name] = list(value) if field.is_repeated else value
    return values


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["type"])
def test_every_type_is_built_from_plain_values(case: dict[str, Any]) -> None:
    for content in case["records"]:
        meant = getattr(ParseDict(content, records_pb2.Record()), case["type"])
        built = records.of_type(case["type"], plain(meant), **HEAD)
        assert built.WhichOneof("payload") == built.record_type == case["type"]
        assert getattr(built, case["type"]) == meant
        assert not protovalidate.collect_violations(built)


def test_every_payload_can_be_built() -> None:
    payloads = records_pb2.Record.DESCRIPTOR.oneofs_by_name["payload"].fields
    assert {field.name for field in payloads} == {case["type"] for case in GOLDEN}


@pytest.mark.parametrize(
    ("record_type", "payload", "says"),
    [
        ("horoscope", {}, "no record type horoscope"),
        ("provider_record_id", {}, "no record type"),
        ("grant", {"sum": 1}, "Grant has no field sum: it has programme, amount"),
        ("grant", {"amount": "lots"}, "not an amount"),
        ("vat_invoice", {"side": "sideways"}, "side: no such value of InvoiceSide"),
        ("declaration", {"fields": [{"key": "x"}]}, "DeclaredField has no field key"),
    ],
)
def test_what_no_type_has(record_type: str, payload: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        records.of_type(record_type, payload, **HEAD)


def test_none_is_unset() -> None:
    built = records.of_type("housing_fund", {"headcount": 0, "paid": None}, **HEAD)
    assert built.housing_fund.HasField("headcount")
    assert not built.housing_fund.HasField("paid")
    with pytest.raises(TypeError, match="float"):
        records.of_type("housing_fund", {"headcount": 0, "paid": 1.5}, **HEAD)


@pytest.mark.parametrize("record_type", BUILT)
def test_what_is_built_follows_the_rules_of_the_protocol(record_type: str) -> None:
    record = BUILT[record_type]()
    assert record.record_type == record.WhichOneof("payload") == record_type
    assert not protovalidate.collect_violations(record)
    assert record.subject.uscc == "91110000MA00000077"


def test_what_is_left_out_is_unset_and_zero_is_not() -> None:
    filing = records.tax_filing(tax_kind="vat", declared_tax=0, **HEAD).tax_filing
    assert not filing.HasField("days_late")
    assert not filing.HasField("arrears")
    assert filing.declared_tax.currency_code == "CNY"
    insured = BUILT["social_insurance"]().social_insurance
    assert insured.HasField("headcount")
    assert not insured.HasField("overdue")


def test_amounts_sides_and_currencies() -> None:
    invoice = records.vat_invoice(
        number="1", side="output", net="1.05", tax=0, gross="1.05", currency="USD", **HEAD
    ).vat_invoice
    assert invoice.side == payloads_pb2.INVOICE_SIDE_OUTPUT
    assert invoice.status == payloads_pb2.INVOICE_STATUS_VALID
    assert (invoice.net.currency_code, invoice.net.units, invoice.net.nanos) == (
        "USD",
        1,
        50_000_000,
    )


def test_a_period() -> None:
    head = {**HEAD, "occurred": values.month(2024, 2)}
    record = records.social_insurance(headcount=1, **head)
    assert record.WhichOneof("occurred") == "period"
    assert (getattr(record.period, "from").day, record.period.to.day) == (1, 29)


def test_a_retraction() -> None:
    record = records.retraction("grant", version=2, **HEAD)
    assert (record.version, record.status) == (2, records_pb2.RECORD_STATUS_RETRACTED)
    assert record.WhichOneof("payload") is None


@pytest.mark.parametrize(
    "wrong",
    [{"side": "sideways"}, {"net": "abc"}, {"obtained_at": datetime(2024, 1, 1)}],  # noqa: DTZ001 - a time without a zone is what is refused
)
def test_what_cannot_be_said(wrong: dict[str, Any]) -> None:
    arguments = {**HEAD, "number": "1", "side": "input", "net": 1, "tax": 0, "gross": 1, **wrong}
    with pytest.raises(ValueError):  # noqa: PT011 - each names its own problem
        records.vat_invoice(**arguments)
