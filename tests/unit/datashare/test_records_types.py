"""What each type's reader refuses that no rule of the .proto can say, and how it names it."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.type import date_pb2

from puhui.common.v1 import errors_pb2
from puhui.datashare.v1 import payloads_pb2, records_pb2
from services.datashare.catalogue.loader import load
from services.datashare.records.domain import Incoming, Rejection
from services.datashare.records.intake import Intake
from services.datashare.records.tokens import CounterpartyTokens
from tests.fakes.datashare_records import NOW, day, from_json, invoice, money

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "summaries.json").read_text("utf-8"))
EXAMPLES = {case["type"]: case["records"][0] for case in GOLDEN}
KINDS = {case["type"]: case["provider_kind"] for case in GOLDEN}
TOKENS = CounterpartyTokens(b"counterparty-key")
INTAKE = Intake(load(), TOKENS)
TOMORROW = day((NOW + timedelta(days=1)).date().isoformat())
LONG_AGO = day("2001-01-01")


def read(record_type: str, change: Callable[[Any], object]) -> Incoming | Rejection:
    row = from_json(EXAMPLES[record_type])
    change(getattr(row, record_type))
    accepted, rejected = INTAKE.read([row], 0, KINDS[record_type], NOW)
    assert len(accepted) + len(rejected) == 1
    return accepted[0] if accepted else rejected[0]


def put(**values: Any) -> Callable[[Any], None]:
    """Return what sets fields; None clears one."""

    def change(payload: Any) -> None:
        for name, value in values.items():
            payload.ClearField(name)
            if value is not None:
                payload.MergeFrom(type(payload)(**{name: value}))

    return change


BAD: list[tuple[str, Callable[[Any], None], str, str]] = [
    ("shareholding", put(holder=None), "FIELD_INVALID", "holder"),
    ("shareholding", put(holder_kind="ghost"), "CODE_UNKNOWN", "holder_kind"),
    ("shareholding", put(role="guest"), "CODE_UNKNOWN", "role"),
    ("shareholding", put(share_ppm=1_000_001), "NUMBER_OUT_OF_RANGE", "share_ppm"),
    ("shareholding", put(subscribed=money(-1)), "NUMBER_OUT_OF_RANGE", "subscribed"),
    ("shareholding", put(until=LONG_AGO), "DATE_INVALID", "until"),
    ("shareholding", put(since=None, until=TOMORROW), "DATE_IN_FUTURE", "until"),
    ("shareholding", put(since=TOMORROW), "DATE_IN_FUTURE", "since"),
    ("annual_report", put(assets=money(-1)), "NUMBER_OUT_OF_RANGE", "assets"),
    ("annual_report", put(insured_headcount=-1), "NUMBER_OUT_OF_RANGE", "insured_headcount"),
    ("financial_statement", put(kind="decade"), "CODE_UNKNOWN", "kind"),
    ("financial_statement", put(audited=False), "FIELD_INVALID", "audit_opinion"),
    ("financial_statement", put(audit_opinion="fine"), "CODE_UNKNOWN", "audit_opinion"),
    ("financial_statement", put(borrowings=money(-1)), "NUMBER_OUT_OF_RANGE", "borrowings"),
    ("financial_statement", put(net_margin_ppm=10**13), "NUMBER_OUT_OF_RANGE", "net_margin_ppm"),
    ("housing_fund", put(headcount=None), "FIELD_INVALID", "headcount"),
    ("housing_fund", put(overdue=money(-1)), "NUMBER_OUT_OF_RANGE", "overdue"),
    ("utility_bill", put(kind="steam"), "CODE_UNKNOWN", "kind"),
    ("utility_bill", put(usage=-1), "NUMBER_OUT_OF_RANGE", "usage"),
    ("utility_bill", put(overdue=money(-1)), "NUMBER_OUT_OF_RANGE", "overdue"),
    ("customs_declaration", put(direction="transit"), "CODE_UNKNOWN", "direction"),
    ("customs_declaration", put(aeo_grade="AAA"), "CODE_UNKNOWN", "aeo_grade"),
    ("customs_declaration", put(amount=money(-1)), "NUMBER_OUT_OF_RANGE", "amount"),
    ("customs_declaration", put(released=TOMORROW), "DATE_IN_FUTURE", "released"),
    ("customs_declaration", put(chapter="8x"), "FIELD_INVALID", "chapter"),
    ("enforcement", put(outcome="lost"), "CODE_UNKNOWN", "outcome"),
    ("enforcement", put(outcome="pending"), "FIELD_INVALID", "closed"),
    ("enforcement", put(closed=LONG_AGO), "DATE_INVALID", "closed"),
    ("enforcement", put(fulfilled=money(-1)), "NUMBER_OUT_OF_RANGE", "fulfilled"),
    ("penalty", put(kind="scolding"), "CODE_UNKNOWN", "kind"),
    ("penalty", put(severity="grave"), "CODE_UNKNOWN", "severity"),
    ("penalty", put(severity=None), "FIELD_INVALID", "severity"),
    ("penalty", put(decided=TOMORROW), "DATE_IN_FUTURE", "decided"),
    ("penalty", put(publish_until=LONG_AGO), "DATE_INVALID", "publish_until"),
    ("penalty", put(repaired_at=LONG_AGO), "DATE_INVALID", "repaired_at"),
    ("penalty", put(repaired_at=TOMORROW), "DATE_IN_FUTURE", "repaired_at"),
    ("abnormal_operation", put(reason="odd"), "CODE_UNKNOWN", "reason"),
    ("abnormal_operation", put(left=LONG_AGO), "DATE_INVALID", "left"),
    ("abnormal_operation", put(left=TOMORROW), "DATE_IN_FUTURE", "left"),
    ("guarantee", put(other_party=None), "FIELD_INVALID", "other_party"),
    ("guarantee", put(role="friend"), "CODE_UNKNOWN", "role"),
    ("guarantee", put(kind="word"), "CODE_UNKNOWN", "kind"),
    ("guarantee", put(status="gone"), "CODE_UNKNOWN", "status"),
    ("guarantee", put(valid_to=LONG_AGO), "DATE_INVALID", "valid_to"),
    ("guarantee", put(amount=money(-1)), "NUMBER_OUT_OF_RANGE", "amount"),
    ("receivable", put(buyer=None), "FIELD_INVALID", "buyer"),
    ("receivable", put(amount=money(-1)), "NUMBER_OUT_OF_RANGE", "amount"),
    ("receivable", put(due=date_pb2.Date(year=2024)), "DATE_INVALID", "due"),
    ("receivable", put(confirmed_at=TOMORROW), "DATE_IN_FUTURE", "confirmed_at"),
    ("receivable", put(settled_at=TOMORROW), "DATE_IN_FUTURE", "settled_at"),
    ("officer_change", put(role="cook"), "CODE_UNKNOWN", "role"),
    ("officer_change", put(former=None, successor=None), "FIELD_INVALID", "successor"),
    ("officer_change", put(changed_at=TOMORROW), "DATE_IN_FUTURE", "changed_at"),
    ("equity_financing", put(round="series_z"), "CODE_UNKNOWN", "round"),
    ("equity_financing", put(closed_at=TOMORROW), "DATE_IN_FUTURE", "closed_at"),
    ("equity_financing", put(valuation=money(-1)), "NUMBER_OUT_OF_RANGE", "valuation"),
    ("technology_contract", put(kind="gift"), "CODE_UNKNOWN", "kind"),
    ("technology_contract", put(role="broker"), "CODE_UNKNOWN", "role"),
    (
        "technology_contract",
        put(technology_amount=money(10**10)),
        "NUMBER_OUT_OF_RANGE",
        "technology_amount",
    ),
    ("technology_contract", put(registered_at=TOMORROW), "DATE_IN_FUTURE", "registered_at"),
    ("pledge", put(kind="soul"), "CODE_UNKNOWN", "kind"),
    ("pledge", put(registered_at=TOMORROW), "DATE_IN_FUTURE", "registered_at"),
    ("pledge", put(expires_at=LONG_AGO), "DATE_INVALID", "expires_at"),
    ("pledge", put(discharged_at=LONG_AGO), "DATE_INVALID", "discharged_at"),
    ("bank_flow", put(account=None), "FIELD_INVALID", "account"),
    ("bank_flow", put(inflow=money(-1)), "NUMBER_OUT_OF_RANGE", "inflow"),
    ("bank_flow", put(outflow=money(-1)), "NUMBER_OUT_OF_RANGE", "outflow"),
    ("field_visit", put(findings=["operating", "haunted"]), "CODE_UNKNOWN", "findings[1]"),
    ("field_visit", put(findings=None), "FIELD_INVALID", "findings"),
    ("field_visit", put(findings=["operating"] * 2), "FIELD_INVALID", "findings"),
    ("field_visit", put(conclusion="maybe"), "CODE_UNKNOWN", "conclusion"),
    ("field_visit", put(visited_at=TOMORROW), "DATE_IN_FUTURE", "visited_at"),
    ("enquiry", put(enquired_at=TOMORROW), "DATE_IN_FUTURE", "enquired_at"),
    ("declaration", put(fields=None), "FIELD_INVALID", "fields"),
    (
        "declaration",
        put(fields=[payloads_pb2.DeclaredField(name="a")] * 2),
        "FIELD_INVALID",
        "fields[1].name",
    ),
    ("declaration", put(pledge=None), "FIELD_INVALID", "pledge"),
    ("declaration", put(pledged_at=TOMORROW), "DATE_IN_FUTURE", "pledged_at"),
    ("registration", put(registration_number="110-1"), "FIELD_INVALID", "registration_number"),
]


@pytest.mark.parametrize(
    ("record_type", "change", "reason", "field"),
    BAD,
    ids=[f"{number}-{row[0]}-{row[3]}" for number, row in enumerate(BAD)],
)
def test_what_is_wrong_is_named(
    record_type: str, change: Callable[[Any], None], reason: str, field: str
) -> None:
    result = read(record_type, change)
    assert isinstance(result, Rejection), result
    assert (result.reason, result.field) == (reason, f"{record_type}.{field}")
    assert result.message
    assert f"ERROR_REASON_{reason}" in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name


GOOD: list[tuple[str, Callable[[Any], None]]] = [
    ("annual_report", put(equity=money(-1))),
    ("bank_flow", put(balance=money(-1))),
    ("enforcement", put(outcome="pending", closed=None)),
    ("financial_statement", put(net_profit=money(-1))),
    ("guarantee", put(valid_to=day("2040-01-01"))),
    ("officer_change", put(former=None)),
    ("penalty", put(publish_until=TOMORROW)),
    ("pledge", put(expires_at=TOMORROW)),
    ("receivable", put(due=TOMORROW, settled_at=None)),
    ("registration", put(registration_number="12345678-9")),
    ("utility_bill", put(amount=money(-1))),
]


@pytest.mark.parametrize(
    ("record_type", "change"), GOOD, ids=[record_type for record_type, _ in GOOD]
)
def test_what_only_looks_wrong_is_taken_in(record_type: str, change: Callable[[Any], None]) -> None:
    assert isinstance(read(record_type, change), Incoming)


def payload(result: Incoming | Rejection, kind: type[Any]) -> Any:
    assert isinstance(result, Incoming), result
    return kind.FromString(result.payload)


def test_the_same_party_has_the_same_token_in_every_type() -> None:
    buyer = "91110108MA01ABCD5X"
    token = TOKENS.of(buyer)
    owed = payload(read("receivable", put(buyer=buyer)), payloads_pb2.Receivable)
    given = payload(read("guarantee", put(other_party=buyer)), payloads_pb2.Guarantee)
    assert owed.buyer_token == given.other_party_token == token
    assert given.creditor_token not in (b"", token)
    assert not owed.buyer
    assert not given.other_party
    assert not given.creditor
    rows, _ = INTAKE.read([invoice("a", counterparty=buyer)], 0, "tax", NOW)
    assert payloads_pb2.VatInvoice.FromString(rows[0].payload).counterparty_token == token


def test_a_token_that_was_sent_is_dropped() -> None:
    change = put(legal_representative_token=b"x" * 16)
    stored = payload(read("registration", change), payloads_pb2.Registration)
    assert not stored.legal_representative_token
    forged = put(successor=None, former=None, successor_token=b"x" * 16)
    result = read("officer_change", forged)
    assert isinstance(result, Rejection)
    assert result.field == "officer_change.successor"


def test_nobody_is_named_with_a_nul() -> None:
    result = read("pledge", put(creditor="bank\0"))
    assert isinstance(result, Rejection)
    assert (result.reason, result.field) == ("FIELD_INVALID", "pledge.creditor")


def test_what_the_platform_the_firm_and_the_bank_supply_is_not_a_providers() -> None:
    for record_type, kind in (
        ("enquiry", "lender"),
        ("field_visit", "tax"),
        ("declaration", "tax"),
    ):
        row = from_json(EXAMPLES[record_type])
        _, (rejection,) = INTAKE.read([row], 0, kind, NOW)
        assert rejection.reason == "TYPE_NOT_YOURS"
    row = records_pb2.Record(record_type="horoscope")
    _, (rejection,) = INTAKE.read([row], 0, "platform", NOW)
    assert rejection.reason == "TYPE_UNKNOWN"
