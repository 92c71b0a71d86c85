"""What fails before sending would be refused by the platform: nothing good is kept back."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.date_pb2 import Date
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puhui.datashare.v1.records_pb2 import (
    RECORD_STATUS_ACTIVE,
    RECORD_STATUS_RETRACTED,
    Record,
)
from puhui_client import records, values
from services.cli.checks import Finding, Rules
from services.cli.push import own_policies
from services.datashare.records.intake import Intake
from services.datashare.records.tokens import CounterpartyTokens
from tests.fakes.arbitrary import CATALOGUE, TYPES, copy_of, likely, wild
from tests.fakes.datashare_records import NOW

RULES = Rules(asyncio.run(own_policies()), NOW)
INTAKE = Intake(CATALOGUE, CounterpartyTokens(b"counterparty-key"))
QUICK = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


def refused(record: Record) -> bool:
    """Whether the platform's own intake refuses a row."""
    kind = min(CATALOGUE.types[record.record_type].provider_kinds)
    return bool(INTAKE.read([copy_of(record)], 0, kind, NOW)[1])


@pytest.mark.parametrize("record_type", TYPES)
@settings(max_examples=10, suppress_health_check=QUICK)
@given(data=st.data())
def test_what_fails_here_is_refused_there(record_type: str, data: st.DataObject) -> None:
    record = data.draw(st.one_of(likely(record_type), wild(record_type)))
    record.ClearField("hint")  # rows with a hint are decided on later
    if findings := list(RULES.findings(record)):
        assert refused(record), findings


def invoice() -> Record:
    return records.vat_invoice(
        record_id="1",
        uscc="91110000MA00000077",
        occurred=date(2024, 5, 3),
        obtained_at=datetime(2024, 5, 4, tzinfo=UTC),
        number="1",
        side="output",
        net="100.00",
        tax="13.00",
        gross="113.00",
    )


def found(record: Record) -> list[tuple[str, str]]:
    return [(finding.reason, finding.field) for finding in RULES.findings(record)]


def test_a_good_row() -> None:
    assert found(invoice()) == []


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("provider_record_id", "", "FIELD_INVALID"),
        ("record_type", "no_such", "TYPE_UNKNOWN"),
        ("record_type", "tax_filing", "TYPE_MISMATCH"),
        ("date", Date(year=2024, month=2, day=30), "DATE_INVALID"),
        ("date", Date(year=2024, month=6, day=16), "DATE_IN_FUTURE"),
        ("obtained_at", Timestamp(seconds=int(NOW.timestamp()) + 3600), "DATE_IN_FUTURE"),
        ("obtained_at", Timestamp(seconds=0), "DATE_INVALID"),
        ("obtained_at", Timestamp(seconds=2**60), "DATE_INVALID"),
        ("subject.uscc", "91110000MA00000078", "USCC_MALFORMED"),
        ("vat_invoice.net", values.to_money("1.001"), "AMOUNT_INVALID"),
        ("vat_invoice.net", values.to_money("1", "USD"), "CURRENCY_UNSUPPORTED"),
        ("vat_invoice.net", values.to_money("1", ""), "CURRENCY_MISSING"),
        ("vat_invoice.side", 0, "FIELD_INVALID"),
    ],
    ids=map(str, range(13)),
)
def test_what_is_wrong_is_named(path: str, value: object, reason: str) -> None:
    record = invoice()
    message = record
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    if isinstance(value, str | int):
        setattr(message, name, value)
    else:
        getattr(message, name).CopyFrom(value)
    said = [one for one, _ in found(record)]
    assert reason in said


def test_what_a_retraction_says_is_not_read() -> None:
    taken_back = invoice()
    taken_back.vat_invoice.net.currency_code = ""
    assert found(taken_back) == [("CURRENCY_MISSING", "vat_invoice.net")]
    taken_back.status = RECORD_STATUS_RETRACTED
    assert found(taken_back) == []
    assert not refused(taken_back)


def test_codes_of_the_catalogue() -> None:
    filing = records.tax_filing(
        record_id="1",
        uscc="91110000MA00000077",
        occurred=values.month(2024, 5),
        obtained_at=datetime(2024, 6, 1, tzinfo=UTC),
        tax_kind="stamp",
        declared_tax="1",
        grade="A",
    )
    (finding,) = RULES.findings(filing)
    assert (finding.reason, finding.field) == ("CODE_UNKNOWN", "tax_filing.tax_kind")
    assert "cit, vat" in finding.problem


def test_periods() -> None:
    filing = records.social_insurance(
        record_id="1",
        uscc="91110000MA00000077",
        occurred=(date(2024, 6, 1), date(2024, 6, 30)),
        obtained_at=NOW,
        headcount=1,
    )
    assert found(filing) == []  # the month that is running may be reported
    filing.period.to.month = 7
    assert found(filing) == [("DATE_IN_FUTURE", "period.to")]
    filing.period.CopyFrom(values.to_period(date(2024, 5, 2), date(2024, 5, 1)))
    assert found(filing) == [("DATE_INVALID", "period.to")]


def test_whom_a_row_is_about() -> None:
    nobody = invoice()
    nobody.ClearField("subject")
    assert found(nobody) == [("FIELD_INVALID", "subject")]
    nobody.hint.name = "某某科技"
    assert found(nobody) == []


@pytest.mark.parametrize("path", ["obtained_at", "provider_record_id"])
def test_what_is_missing_is_said_with_its_remedy(
    path: Literal["obtained_at", "provider_record_id"],
) -> None:
    record = invoice()
    record.ClearField(path)
    problem = "missing: fill it in, or map it"
    assert list(RULES.findings(record)) == [Finding("FIELD_INVALID", path, problem)]


def test_a_retraction_needs_no_payload() -> None:
    retraction = records.retraction(
        "vat_invoice",
        record_id="1",
        uscc="91110000MA00000077",
        occurred=date(2024, 5, 3),
        obtained_at=datetime(2024, 5, 4, tzinfo=UTC),
        version=2,
    )
    assert retraction.status == RECORD_STATUS_RETRACTED
    assert found(retraction) == []
    retraction.status = RECORD_STATUS_ACTIVE
    assert found(retraction) == [("TYPE_MISMATCH", "vat_invoice")]


def test_a_clock_may_be_a_little_fast() -> None:
    record = invoice()
    record.obtained_at.FromDatetime(NOW + timedelta(minutes=4))
    assert found(record) == []


def test_findings_never_hold_the_value() -> None:
    record = invoice()
    record.subject.uscc = "9111SECRET"
    assert all("SECRET" not in finding.problem for finding in RULES.findings(record))
    assert Finding("FIELD_INVALID", "subject.uscc", "x") != next(RULES.findings(record))
