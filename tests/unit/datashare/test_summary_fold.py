"""What records of each type add up to, and that the order in which they come does not matter."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puhui.datashare.v1 import summaries_pb2
from services.datashare.catalogue.domain import Fold
from services.datashare.catalogue.loader import load
from services.datashare.records.intake import Intake
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.summaries.codec import clip, decode, encode
from services.datashare.summaries.domain import (
    Fact,
    Layout,
    SeriesKey,
    Table,
    Trade,
    fold,
    layouts_of,
    merge,
    months_to_refold,
    replace_months,
    trades_of,
)
from tests.fakes.datashare_records import from_json

CATALOGUE = load()
LAYOUTS = layouts_of(CATALOGUE)
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "summaries.json").read_text("utf-8"))
KEY = SeriesKey("sub_1", "", "par_1")


def facts_of(case: dict[str, Any]) -> list[Fact]:
    intake = Intake(CATALOGUE, CounterpartyTokens(b"counterparty-key"))
    rows, rejections = intake.read(
        [from_json(content) for content in case["records"]],
        0,
        case["provider_kind"],
        datetime(2024, 6, 15, tzinfo=UTC),
    )
    assert not rejections
    return [row.fact for row in rows if row.fact]


@pytest.mark.parametrize("case", GOLDEN, ids=[case["type"] for case in GOLDEN])
def test_golden(case: dict[str, Any]) -> None:
    layout = LAYOUTS[case["type"]]
    content = encode(KEY, layout, fold(layout, facts_of(case)), {})
    series = summaries_pb2.Series.FromString(content)
    assert list(series.months) == case["months"]
    assert list(series.record_counts) == case["record_counts"]
    assert {column.name: list(column.values) for column in series.columns} == case["columns"]
    assert {item.name: item.value for item in series.attributes} == case["attributes"]


def test_every_type_has_a_golden() -> None:
    assert sorted(case["type"] for case in GOLDEN) == sorted(CATALOGUE.types)


_months = st.sampled_from([202301, 202302, 202303])


@cache
def _facts(name: str) -> st.SearchStrategy[list[Fact]]:
    layout = LAYOUTS[name]
    values = st.lists(
        st.tuples(st.integers(0, len(layout.names) - 1), st.integers(-5, 50)),
        max_size=4,
        unique_by=lambda pair: pair[0],
    ).map(tuple)
    attributes = st.lists(
        st.tuples(st.sampled_from(layout.attributes or ("",)), st.sampled_from("xyz")),
        max_size=2 if layout.attributes else 0,
        unique_by=lambda pair: pair[0],
    ).map(tuple)
    fact = st.builds(
        Fact,
        month=_months,
        order=st.tuples(st.integers(0, 3), st.integers(0, 3), st.uuids().map(str)),
        values=values,
        attributes=attributes,
    )
    return st.lists(fact, max_size=12, unique_by=lambda fact: fact.order[2])


def _update(
    layout: Layout, table: Table, known: list[Fact], added: list[Fact], removed: Sequence[Fact]
) -> None:
    for fact in removed:
        known.remove(fact)
    known += added
    months = months_to_refold(layout, added, removed)
    if months is None or months:
        facts = [fact for fact in known if months is None or fact.month in months]
        replace_months(table, months, fold(layout, facts))
    else:
        merge(table, layout, added, removed)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
@settings(max_examples=20)
@given(data=st.data())
def test_keeping_up_to_date_equals_folding_everything(name: str, data: st.DataObject) -> None:
    layout = LAYOUTS[name]
    table, known = Table(), list[Fact]()
    arriving = data.draw(_facts(name))
    while arriving:
        size = data.draw(st.integers(1, len(arriving)))
        batch, arriving = arriving[:size], arriving[size:]
        gone = data.draw(st.lists(st.sampled_from(known), unique_by=id)) if known else []
        _update(layout, table, known, batch, gone)
        assert table == fold(layout, known)
    assert fold(layout, data.draw(st.permutations(known))) == table
    # What is stored is what was meant.
    key = KEY._replace(record_type=name)
    assert decode(layout, encode(key, layout, table, {})) == table


def test_invoices_never_need_raw_records_again() -> None:
    fact = Fact(202301, (0, 0, "a"), ())
    assert months_to_refold(LAYOUTS["vat_invoice"], [fact], [fact]) == set()
    assert months_to_refold(LAYOUTS["social_insurance"], [fact], []) == set()
    assert months_to_refold(LAYOUTS["social_insurance"], [], [fact]) == {202301}
    assert months_to_refold(LAYOUTS["tax_filing"], [fact], []) == {202301}
    assert months_to_refold(LAYOUTS["registration"], [fact], []) is None


def test_trades_cancel_out() -> None:
    sold = Fact(202301, (0, 0, "a"), (), (), Trade(2, b"x", 100))
    less = sold._replace(trade=Trade(2, b"x", 70))
    assert trades_of([sold]) == {(2, 202301, b"x"): [1, 100]}
    assert trades_of([less], [sold]) == {(2, 202301, b"x"): [0, -30]}
    assert trades_of([sold], [sold]) == {(2, 202301, b"x"): [0, 0]}
    assert trades_of([sold._replace(trade=None)]) == {}


def test_a_measure_that_is_newer_than_the_bytes_is_nought() -> None:
    old = Layout("t", ("a",), (Fold.SUM,), (), (), bounded=True)
    new = Layout("t", ("a", "b"), (Fold.SUM, Fold.SUM), (), (), bounded=True)
    content = encode(KEY, old, Table({202301: [1, 5]}), {})
    assert decode(new, content) == Table({202301: [1, 5, 0]})


def test_clipping() -> None:
    layout = LAYOUTS["grant"]
    table = Table({202301: [1, 1, 10], 202303: [2, 2, 30], 202305: [1, 1, 50]})
    content = encode(KEY, layout, table, {})
    assert clip(content, 202301, 202305) == content
    assert clip(content, 202302, 202304) == encode(KEY, layout, Table({202303: [2, 2, 30]}), {})
    assert clip(content, 202302, 202302) is None
    assert clip(content, 202306, 202301) is None
    assert clip(b"", 202301, 202312) is None
