"""What payloads say to inspection."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.type import date_pb2, money_pb2
from hypothesis import given
from hypothesis import strategies as st

from puhui.datashare.v1 import payloads_pb2
from services.datashare.quality.app import Arrived, Statement
from services.datashare.quality.domain import Summary
from services.datashare.quality.examine import PayloadExaminer
from services.datashare.quality.tally import LATENESS_BOUNDS, Place, Tally
from services.datashare.records.tokens import CounterpartyTokens

KEY = b"counterparty-key"
AT = datetime(2024, 6, 15, 15, 59, 59, tzinfo=UTC)  # the last second of the 15th in China
TODAY = 19_889


def examiner(key: bytes = KEY) -> PayloadExaminer:
    return PayloadExaminer(CounterpartyTokens(key), 20)


def arrived(record_type: str = "grant", payload: Any = None, **fields: Any) -> Arrived:
    values: dict[str, Any] = {
        "subject_id": "sub_1",
        "provider_id": "par_1",
        "recorded_at": AT,
        "provider_record_id": "a",
        "version": 1,
        "month": 202406,
        "occurred_to": TODAY,
        "retracted": False,
        "hidden_on": None,
        "imported": False,
        "payload": payload.SerializeToString() if payload is not None else b"",
    }
    return Arrived(record_type=record_type, **(values | fields))


def vat_invoice(**fields: Any) -> payloads_pb2.VatInvoice:
    return payloads_pb2.VatInvoice(side=payloads_pb2.INVOICE_SIDE_OUTPUT, **fields)


class TestMissing:
    def missing(self, record_type: str, *payloads: Any) -> dict[str, int]:
        rows = [
            arrived(record_type, payload, provider_record_id=str(number))
            for number, payload in enumerate(payloads)
        ]
        ((_, tally),) = examiner().tally(rows).days.items()
        assert tally.described == len(payloads)
        return tally.missing

    def test_texts_amounts_numbers_and_days(self) -> None:
        full = payloads_pb2.TaxFiling(
            declared_sales=money_pb2.Money(),
            paid=money_pb2.Money(),
            arrears=money_pb2.Money(),
            days_late=0,
            grade="A",
        )
        found = self.missing("tax_filing", full, payloads_pb2.TaxFiling(days_late=0))
        assert found == {"declared_sales": 1, "paid": 1, "arrears": 1, "days_late": 0, "grade": 1}

    def test_what_is_needed_is_not_counted(self) -> None:
        found = self.missing("registration", payloads_pb2.Registration())
        assert {"name", "founded", "status"}.isdisjoint(found)
        # Nor a list, of which nobody can tell that it was left out.
        assert "former_names" not in found
        assert found["capital"] == 1

    def test_what_is_kept_as_a_token_is_there(self) -> None:
        found = self.missing("vat_invoice", vat_invoice(counterparty_token=b"t"), vat_invoice())
        assert found == {"code": 2, "counterparty": 1}
        until = date_pb2.Date(year=2030, month=1, day=1)
        guarantee = payloads_pb2.Guarantee(other_party_token=b"t", valid_to=until)
        assert self.missing("guarantee", guarantee) == {"creditor": 1, "status": 1}


class TestDays:
    @pytest.mark.parametrize(("seconds", "day"), [(0, TODAY), (1, TODAY + 1)])
    def test_a_day_ends_at_midnight_in_china(self, seconds: int, day: int) -> None:
        row = arrived(recorded_at=AT + timedelta(seconds=seconds))
        assert list(examiner().tally([row]).days) == [Place("par_1", "grant", day)]

    def test_lateness_is_of_first_versions(self) -> None:
        rows = [
            arrived(occurred_to=TODAY - 3),
            arrived(occurred_to=TODAY - 400, version=2),
            arrived(occurred_to=TODAY - 400, version=3, retracted=True),
            arrived(occurred_to=TODAY + 15),  # a period that is running
            arrived(occurred_to=TODAY - 400, imported=True),
        ]
        ((_, tally),) = examiner().tally(rows).days.items()
        assert {LATENESS_BOUNDS[bucket]: n for bucket, n in tally.lateness.items()} == {3: 1, 0: 1}
        assert (tally.accepted, tally.corrections, tally.retractions) == (5, 1, 1)
        assert tally.described == 4

    def test_what_cannot_be_read_any_more_is_counted_all_the_same(self) -> None:
        rows = [arrived(name)._replace(payload=None) for name in ("vat_invoice", "guarantee")]
        tally = examiner().tally(rows)
        assert sum(day.accepted for day in tally.days.values()) == 2
        assert sum(day.described for day in tally.days.values()) == 0
        assert [mark.token for mark in tally.guarantees] == [None]


class TestFingerprints:
    def mark(self, key: bytes = KEY, **fields: Any) -> bytes | None:
        row = arrived("vat_invoice", vat_invoice(**fields), version=2)
        (mark,) = examiner(key).tally([row]).invoices
        return mark.fingerprint

    def test_spaces_and_letters_do_not_matter_but_all_else_does(self) -> None:
        same = {self.mark(code=" 11a", number="7 "), self.mark(code="11A", number="7")}
        assert len(same) == 1
        others = {
            *same,
            self.mark(code="11A7", number=""),
            self.mark(code="1", number="1A7"),
            self.mark(code="11A", number="8"),
            self.mark(b"another key, also 16", code="11A", number="7"),
            self.mark(code="", number="1" * 20),
        }
        assert len(others) == 6
        assert None not in others
        assert self.mark(code="", number="1" * 19) is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.integers(0, 3), st.integers(1, 3), st.booleans(), st.booleans()
        ),
        unique_by=lambda row: row[:3],
        max_size=20,
    ),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_parts_in_any_order_add_up_to_the_whole(
    drawn: list[tuple[int, int, int, bool, bool]], parts: int, shuffled: random.Random
) -> None:
    rows = [
        arrived(
            "vat_invoice",
            vat_invoice(code="1" if coded else "", number=f"{number}"),
            subject_id=f"sub_{firm}",
            provider_record_id=str(number),
            version=version,
            retracted=retracted,
            occurred_to=TODAY - number,
        )
        for firm, number, version, retracted, coded in drawn
    ]
    whole = merged([examiner().tally(rows)])
    shuffled.shuffle(rows)
    assert merged([examiner().tally(rows[part::parts]) for part in range(parts)]) == whole


def merged(tallies: list[Tally]) -> Any:
    """As the store adds them up: counts are summed, of marks the newest version holds."""
    counts: Counter[Any] = Counter()
    marks: dict[Any, Any] = {}
    for tally in tallies:
        for place, day in tally.days.items():
            counts[place, "accepted"] += day.accepted
            counts[place, "corrections"] += day.corrections
            counts[place, "retractions"] += day.retractions
            for bucket, records in day.lateness.items():
                counts[place, "late", bucket] += records
            for field, records in day.missing.items():
                counts[place, "missing", field] += records
        for mark in tally.invoices:
            key = mark.subject_id, mark.record
            marks[key] = max(marks.get(key, mark), mark, key=lambda each: each.version)
    return +counts, marks, set().union(*(tally.subjects for tally in tallies))


def test_a_view_says_until_when_it_holds() -> None:
    def statement(hidden_on: int | None) -> Statement:
        payload = payloads_pb2.Registration(
            founded=date_pb2.Date(year=2015, month=3, day=1), status="active"
        )
        return Statement(
            "sub_1",
            "registration",
            "par_1",
            TODAY,
            TODAY,
            AT,
            hidden_on,
            payload.SerializeToString(),
        )

    def until(*hidden_on: int | None, series: int | None = None) -> int | None:
        summaries = {"sub_1": [Summary("vat_invoice", "par_1", {}, series)]}
        (view,) = examiner().views(["sub_1"], summaries, [statement(day) for day in hidden_on])
        return view.hidden_on

    assert until() is None
    assert until(None, None) is None
    assert until(9, None, 7) == 7
    assert until(9, series=5) == 5
