from collections import Counter
from datetime import UTC, date, datetime
from decimal import ROUND_DOWN, Decimal

from google.type.date_pb2 import Date
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st

from puhui.datashare.v1.records_pb2 import Record
from puhui_client import records, values
from puhui_client.totals import Totals, fen_of, month_of

OBTAINED = datetime(2024, 6, 1, tzinfo=UTC)


def invoice(gross: str, day: date = date(2024, 5, 3)) -> Record:
    return records.vat_invoice(
        record_id="1",
        uscc="91110000MA00000077",
        occurred=day,
        obtained_at=OBTAINED,
        number="1",
        side="output",
        net="1",
        tax="1",
        gross=gross,
    )


def headcount(month: int) -> Record:
    return records.social_insurance(
        record_id="1",
        uscc="91110000MA00000077",
        occurred=values.month(2024, month),
        obtained_at=OBTAINED,
        headcount=1,
    )


def test_rows_and_sums_by_type_and_month() -> None:
    totals = Totals({"vat_invoice": "gross"})
    totals.add([invoice("100.25"), headcount(4), invoice("-0.30", date(2024, 5, 31))])
    totals.add([invoice("7", date(2024, 6, 1))])
    close = totals.close()
    assert close.rows == 4
    assert [(t.record_type, t.month, t.rows, t.sum) for t in close.totals] == [
        ("social_insurance", 202404, 1, 0),
        ("vat_invoice", 202405, 2, 9995),
        ("vat_invoice", 202406, 1, 700),
    ]


def test_a_period_counts_in_the_month_of_its_end() -> None:
    spanning = headcount(1)
    spanning.period.CopyFrom(values.to_period(date(2023, 12, 15), date(2024, 1, 14)))
    assert month_of(spanning) == 202401


def test_rows_without_a_month_or_with_another_payload_count_too() -> None:
    totals = Totals({"vat_invoice": "gross"})
    impossible = Record(record_type="vat_invoice", date=Date(year=2024, month=13, day=1))
    wrong = headcount(4)
    wrong.record_type = "vat_invoice"
    totals.add([Record(), impossible, wrong])
    assert [(t.record_type, t.month, t.rows, t.sum) for t in totals.close().totals] == [
        ("", 0, 1, 0),
        ("vat_invoice", 0, 1, 0),
        ("vat_invoice", 202404, 1, 0),
    ]


def test_a_type_that_the_protocol_does_not_have_counts_under_none() -> None:
    totals = Totals({"vat_invoice": "gross"})
    totals.add([Record(record_type="tax bureau's own"), Record(record_type="x" * 100)])
    assert [(t.record_type, t.month, t.rows) for t in totals.close().totals] == [("", 0, 2)]


def test_what_is_no_amount_of_yuan_adds_nothing() -> None:
    assert fen_of(Money(units=1)) == 0
    assert fen_of(Money(currency_code="USD", units=1)) == 0
    assert fen_of(Money(currency_code="CNY", units=10**11)) == 10**13
    assert fen_of(Money(currency_code="CNY", units=10**11 + 1)) == 0
    assert fen_of(Money(currency_code="CNY", units=-(10**11) - 1)) == 0


@given(st.decimals(min_value=-(10**11), max_value=10**11, places=9))
def test_fen_are_exact_and_cut_off(amount: Decimal) -> None:
    cut = (amount * 100).to_integral_value(rounding=ROUND_DOWN)
    assert fen_of(values.to_money(amount)) == cut


def test_mixed_signs_are_added_up() -> None:
    assert fen_of(Money(currency_code="CNY", units=1, nanos=-10_000_000)) == 99


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(1, 12)), max_size=30))
def test_groups_add_up_to_the_whole(rows: list[tuple[int, int]]) -> None:
    totals = Totals({"vat_invoice": "gross"})
    expected: Counter[int] = Counter()
    for fen, month in rows:
        totals.add([invoice(str(Decimal(fen) / 100), date(2024, month, 1))])
        expected[202400 + month] += fen
    close = totals.close()
    assert close.rows == len(rows) == sum(t.rows for t in close.totals)
    assert {t.month: t.sum for t in close.totals} == dict(expected)
