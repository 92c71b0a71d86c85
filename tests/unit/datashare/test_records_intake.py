"""Every way in which a row can be wrong has its reason and its field."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet
from google.type import date_pb2, money_pb2

from puhui.common.v1 import errors_pb2, types_pb2
from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.catalogue.loader import load
from services.datashare.records.domain import Incoming, Rejection
from services.datashare.records.intake import Intake
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.summaries.domain import Trade
from tests.fakes.datashare_records import (
    NOW,
    USCC,
    day,
    filing,
    invoice,
    money,
    record,
    retraction,
)

KINDS = {
    "registration": "market_regulator",
    "vat_invoice": "tax",
    "tax_filing": "tax",
    "social_insurance": "social_insurance",
    "ip_right": "ip_office",
    "tech_status": "science",
    "court_case": "court",
    "credit_facility": "lender",
    "grant": "science",
}
INTAKE = Intake(load(), CounterpartyTokens(b"counterparty-key"))


def read(row: records_pb2.Record, kind: str = "") -> Incoming | Rejection:
    accepted, rejected = INTAKE.read([row], 7, kind or KINDS.get(row.record_type, "tax"), NOW)
    assert len(accepted) + len(rejected) == 1
    result = accepted[0] if accepted else rejected[0]
    assert result.row == 7
    return result


def insured(**fields: Any) -> records_pb2.Record:
    payload = payloads_pb2.SocialInsurance(**{"headcount": 5, **fields})
    return record("s", record_type="social_insurance", social_insurance=payload)


def case(**fields: Any) -> records_pb2.Record:
    values = {"case_number": "1", "role": "defendant", "stage": "filed", "filed": day("2024-01-01")}
    payload = payloads_pb2.CourtCase(**{**values, **fields})
    return record("c", record_type="court_case", court_case=payload)


def registered(**fields: Any) -> records_pb2.Record:
    values = {"name": "A", "status": "active", "founded": day("2015-03-01")}
    payload = payloads_pb2.Registration(**{**values, **fields})
    return record("r", record_type="registration", registration=payload)


def right(**fields: Any) -> records_pb2.Record:
    payload = payloads_pb2.IpRight(
        **{"kind": "invention", "ip_class": 1, "status": "granted", **fields}
    )
    return record("p", record_type="ip_right", ip_right=payload)


def titled(**fields: Any) -> records_pb2.Record:
    values = {
        "title": "high_tech",
        "valid_from": day("2023-01-01"),
        "valid_to": day("2025-12-31"),
    }
    payload = payloads_pb2.TechStatus(**{**values, **fields})
    return record("t", record_type="tech_status", tech_status=payload)


def facility(**fields: Any) -> records_pb2.Record:
    values = {"facility_id": "f", "limit": money(100), "balance": money(50)}
    payload = payloads_pb2.CreditFacility(**{**values, **fields})
    return record("f", record_type="credit_facility", credit_facility=payload)


def granted(**fields: Any) -> records_pb2.Record:
    payload = payloads_pb2.Grant(**{"programme": "x", "amount": money(100), **fields})
    return record("g", record_type="grant", grant=payload)


def with_period(begins: str, ends: str) -> records_pb2.Record:
    row = filing("f")
    period = {"from": day(begins), "to": day(ends)}
    row.period.CopyFrom(types_pb2.DatePeriod(**period))
    return row


def changed(
    row: records_pb2.Record, change: Callable[[records_pb2.Record], object]
) -> records_pb2.Record:
    change(row)
    return row


def cash(**fields: Any) -> money_pb2.Money:
    return money_pb2.Money(**{"currency_code": "CNY", **fields})


@pytest.mark.parametrize(
    "row",
    [
        invoice("a"),
        filing("b", "M"),
        insured(headcount=0),
        case(),
        registered(capital=money(1)),
        right(),
        titled(),
        facility(five_class="loss"),
        granted(),
        with_period("2024-06-01", "2024-06-30"),
    ],
    ids=lambda row: f"{row.record_type}-{row.WhichOneof('occurred')}",
)
def test_good_rows_pass(row: records_pb2.Record) -> None:
    result = read(row)
    assert isinstance(result, Incoming), result
    assert result.fact
    assert result.uscc == USCC


BAD = {
    "malformed uscc": (
        changed(invoice("a"), lambda r: setattr(r.subject, "uscc", "91110108MA01ABCD5X")),
        "USCC_MALFORMED",
        "subject.uscc",
    ),
    "endless uscc": (
        changed(invoice("a"), lambda r: setattr(r.subject, "uscc", "9" * 40)),
        "USCC_MALFORMED",
        "subject.uscc",
    ),
    "no subject": (
        changed(invoice("a"), lambda r: r.ClearField("subject")),
        "FIELD_INVALID",
        "subject",
    ),
    "no id": (invoice(""), "FIELD_INVALID", "provider_record_id"),
    "unknown type": (record("a", record_type="horoscope"), "TYPE_UNKNOWN", "record_type"),
    "no type": (record("a"), "TYPE_UNKNOWN", "record_type"),
    "another payload": (
        changed(insured(), lambda r: r.grant.CopyFrom(granted().grant)),
        "TYPE_MISMATCH",
        "grant",
    ),
    "no payload": (record("a", record_type="grant"), "TYPE_MISMATCH", "payload"),
    "no occurrence": (
        changed(invoice("a"), lambda r: r.ClearField("date")),
        "FIELD_INVALID",
        "occurred",
    ),
    "no such day": (
        changed(invoice("a"), lambda r: setattr(r.date, "day", 32)),
        "DATE_INVALID",
        "date",
    ),
    "only a year": (
        changed(invoice("a"), lambda r: r.date.CopyFrom(date_pb2.Date(year=2024))),
        "DATE_INVALID",
        "date",
    ),
    "long ago": (invoice("a", on="1899-12-31"), "DATE_INVALID", "date"),
    "tomorrow": (invoice("a", on="2024-06-16"), "DATE_IN_FUTURE", "date"),
    "period upside down": (
        with_period("2024-03-31", "2024-03-01"),
        "DATE_INVALID",
        "period.to",
    ),
    "period to come": (
        with_period("2024-07-01", "2024-07-31"),
        "DATE_IN_FUTURE",
        "period.from",
    ),
    "period to the next month": (
        with_period("2024-06-01", "2024-07-01"),
        "DATE_IN_FUTURE",
        "period.to",
    ),
    "not obtained": (
        changed(invoice("a"), lambda r: r.ClearField("obtained_at")),
        "FIELD_INVALID",
        "obtained_at",
    ),
    "obtained later": (
        changed(invoice("a"), lambda r: r.obtained_at.FromSeconds(int(NOW.timestamp()) + 301)),
        "DATE_IN_FUTURE",
        "obtained_at",
    ),
    "obtained before": (
        changed(invoice("a"), lambda r: r.obtained_at.FromSeconds(1_600_000_000)),
        "DATE_INVALID",
        "obtained_at",
    ),
    "broken time": (
        changed(invoice("a"), lambda r: setattr(r.obtained_at, "nanos", -1)),
        "DATE_INVALID",
        "obtained_at",
    ),
    "huge version": (invoice("a", version=2_000_000), "NUMBER_OUT_OF_RANGE", "version"),
    "newer schema": (invoice("a", schema_version=2), "FIELD_INVALID", "schema_version"),
    "negative headcount": (
        insured(headcount=-1),
        "NUMBER_OUT_OF_RANGE",
        "social_insurance.headcount",
    ),
    "no headcount": (
        changed(insured(), lambda r: r.social_insurance.ClearField("headcount")),
        "FIELD_INVALID",
        "social_insurance.headcount",
    ),
    "no side": (invoice("a", side=0), "FIELD_INVALID", "vat_invoice.side"),
    "no amount": (
        changed(invoice("a"), lambda r: r.vat_invoice.ClearField("net")),
        "FIELD_INVALID",
        "vat_invoice.net",
    ),
    "no currency": (
        changed(invoice("a"), lambda r: r.vat_invoice.tax.ClearField("currency_code")),
        "CURRENCY_MISSING",
        "vat_invoice.tax.currency_code",
    ),
    "dollars": (
        granted(amount=money_pb2.Money(currency_code="USD", units=1)),
        "CURRENCY_UNSUPPORTED",
        "grant.amount.currency_code",
    ),
    "a tenth of a fen": (
        granted(amount=cash(nanos=1_000_000)),
        "AMOUNT_INVALID",
        "grant.amount.nanos",
    ),
    "two billion nanos": (
        granted(amount=cash(nanos=2_000_000_000)),
        "AMOUNT_INVALID",
        "grant.amount.nanos",
    ),
    "mixed signs": (
        granted(amount=cash(units=1, nanos=-10_000_000)),
        "AMOUNT_INVALID",
        "grant.amount",
    ),
    "beyond all money": (
        granted(amount=cash(units=100_000_000_001)),
        "NUMBER_OUT_OF_RANGE",
        "grant.amount.units",
    ),
    "negative grant": (granted(amount=money(-1)), "NUMBER_OUT_OF_RANGE", "grant.amount"),
    "negative arrears": (
        changed(filing("f"), lambda r: r.tax_filing.arrears.CopyFrom(money(-5))),
        "NUMBER_OUT_OF_RANGE",
        "tax_filing.arrears",
    ),
    "negative overdue": (
        insured(overdue=money(-5)),
        "NUMBER_OUT_OF_RANGE",
        "social_insurance.overdue",
    ),
    "unknown tax": (
        changed(filing("f"), lambda r: setattr(r.tax_filing, "tax_kind", "salt")),
        "CODE_UNKNOWN",
        "tax_filing.tax_kind",
    ),
    "unknown grade": (filing("f", "E"), "CODE_UNKNOWN", "tax_filing.grade"),
    "unknown role": (case(role="witness"), "CODE_UNKNOWN", "court_case.role"),
    "unknown stage": (case(stage="appeal"), "CODE_UNKNOWN", "court_case.stage"),
    "filed tomorrow": (case(filed=day("2024-06-16")), "DATE_IN_FUTURE", "court_case.filed"),
    "closed never": (
        case(closed=date_pb2.Date(year=2023, month=2, day=29)),
        "DATE_INVALID",
        "court_case.closed",
    ),
    "unknown kind of firm": (
        registered(firm_kind="guild"),
        "CODE_UNKNOWN",
        "registration.firm_kind",
    ),
    "unknown status": (registered(status="asleep"), "CODE_UNKNOWN", "registration.status"),
    "odd district": (registered(district="11"), "FIELD_INVALID", "registration.district"),
    "odd industry": (registered(industry="Z1"), "FIELD_INVALID", "registration.industry"),
    "founded tomorrow": (
        registered(founded=day("2024-06-16")),
        "DATE_IN_FUTURE",
        "registration.founded",
    ),
    "unknown right": (right(kind="trademark"), "CODE_UNKNOWN", "ip_right.kind"),
    "class of three": (right(ip_class=3), "NUMBER_OUT_OF_RANGE", "ip_right.ip_class"),
    "unknown title": (titled(title="unicorn"), "CODE_UNKNOWN", "tech_status.title"),
    "title ends early": (
        titled(valid_to=day("2022-12-31")),
        "DATE_INVALID",
        "tech_status.valid_to",
    ),
    "unknown class": (facility(five_class="fine"), "CODE_UNKNOWN", "credit_facility.five_class"),
    "U+0000 in the id": (invoice("a\0b"), "FIELD_INVALID", "provider_record_id"),
    "U+0000 in the uscc": (
        changed(invoice("a"), lambda r: setattr(r.subject, "uscc", USCC[:-1] + "\0")),
        "USCC_MALFORMED",
        "subject.uscc",
    ),
    "U+0000 after the uscc": (
        changed(invoice("a"), lambda r: setattr(r.subject, "uscc", USCC + "\0")),
        "USCC_MALFORMED",
        "subject.uscc",
    ),
    "U+0000 in the subject": (
        changed(invoice("a"), lambda r: setattr(r.subject, "subject_id", "sub\0")),
        "FIELD_INVALID",
        "subject.subject_id",
    ),
    "U+0000 in the type": (
        record("a", record_type="grant\0"),
        "TYPE_UNKNOWN",
        "record_type",
    ),
    "U+0000 in a text": (granted(programme="x\0"), "FIELD_INVALID", "grant.programme"),
    "U+0000 in a repeated text": (
        registered(former_names=["A", "B\0"]),
        "FIELD_INVALID",
        "registration.former_names",
    ),
    "U+0000 in a counterparty": (
        invoice("a", counterparty="Acme\0"),
        "FIELD_INVALID",
        "vat_invoice.counterparty",
    ),
    "U+0000 in a currency": (
        granted(amount=money_pb2.Money(currency_code="CN\0", units=1)),
        "CURRENCY_UNSUPPORTED",
        "grant.amount.currency_code",
    ),
    "late by a century": (
        facility(days_past_due=36_501),
        "NUMBER_OUT_OF_RANGE",
        "credit_facility.days_past_due",
    ),
}


@pytest.mark.parametrize(("row", "reason", "field"), BAD.values(), ids=BAD)
def test_bad_rows_say_why(row: records_pb2.Record, reason: str, field: str) -> None:
    sent = records_pb2.Record()
    sent.CopyFrom(row)
    rejection = read(sent)
    assert isinstance(rejection, Rejection), rejection
    assert (rejection.reason, rejection.field) == (reason, field)
    assert rejection.message
    assert f"ERROR_REASON_{reason}" in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name


def test_a_provider_of_another_kind_is_refused() -> None:
    rejection = read(invoice("a"), kind="court")
    assert isinstance(rejection, Rejection)
    assert rejection.reason == "TYPE_NOT_YOURS"


def test_a_bad_row_does_not_touch_its_neighbours() -> None:
    rows = [invoice("a"), record("b", record_type="grant"), invoice("c")]
    accepted, rejected = INTAKE.read(rows, 0, "tax", NOW)
    assert [row.row for row in accepted] == [0, 2]
    assert [row.row for row in rejected] == [1]


def test_the_day_begins_in_china() -> None:
    # 16:30 UTC is half past midnight of the next day.
    evening = NOW.replace(hour=16, minute=30)
    rows = [invoice("a", on="2024-06-16")]
    rows[0].obtained_at.FromDatetime(evening)
    accepted, _ = INTAKE.read(rows, 0, "tax", evening)
    assert len(accepted) == 1


def test_counterparties_leave_only_a_token() -> None:
    first, same, other = (
        read(invoice("a", counterparty=name)) for name in ("Acme Ltd", " acme ltd ", "Other")
    )
    assert isinstance(first, Incoming)
    assert isinstance(same, Incoming)
    assert isinstance(other, Incoming)
    assert first.content_hash == same.content_hash != other.content_hash
    assert b"Acme" not in first.payload
    stored = payloads_pb2.VatInvoice.FromString(first.payload)
    assert not stored.counterparty
    assert first.fact
    assert first.fact.trade == Trade(2, stored.counterparty_token, 100_00)
    assert len(stored.counterparty_token) == 16


def test_a_token_that_was_sent_is_dropped() -> None:
    row = invoice("a", counterparty="")
    row.vat_invoice.counterparty_token = b"x" * 16
    result = read(row)
    assert isinstance(result, Incoming)
    assert result.fact
    assert result.fact.trade is None
    assert b"x" * 16 not in result.payload


def test_unknown_fields_are_dropped() -> None:
    row = granted()
    # Field 99, a string: something that no .proto here asks for.
    row.grant.MergeFromString(b"\x9a\x06\x08religion")
    assert len(UnknownFieldSet(row.grant)) == 1
    result = read(row)
    assert isinstance(result, Incoming)
    assert b"religion" not in result.payload


def test_the_hash_covers_content_and_not_when_it_was_obtained() -> None:
    base = invoice("a")
    hashes = set()
    for change in (
        lambda r: None,
        lambda r: r.date.CopyFrom(day("2024-01-16")),
        lambda r: r.vat_invoice.net.CopyFrom(money(1)),
        lambda r: setattr(r, "status", records_pb2.RECORD_STATUS_RETRACTED),
    ):
        row = records_pb2.Record()
        row.CopyFrom(base)
        change(row)
        result = read(row)
        assert isinstance(result, Incoming)
        hashes.add(result.content_hash)
    assert len(hashes) == 4
    base.obtained_at.seconds += 60
    later = read(base)
    assert isinstance(later, Incoming)
    assert later.content_hash in hashes


def test_a_retraction_needs_no_payload() -> None:
    result = read(retraction(invoice("a"), 2))
    assert isinstance(result, Incoming)
    assert result.retracted
    assert result.fact is None
    assert result.payload == b""


def test_short_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        CounterpartyTokens(b"short")
