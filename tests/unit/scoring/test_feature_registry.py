"""The registry's own rules: what is missing, what is withheld, and nothing ever raises."""

import dataclasses
import datetime as dt
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.features.firm import OPTIONAL
from services.scoring.features.registry import (
    FEATURES,
    NAMES,
    REQUIRED,
    WITHHELD,
    as_opened,
    compute,
    encode,
    insufficient,
)
from tests.unit.scoring.firms import TYPES, city, firm, series, withholding

AS_OF = dt.date(2024, 5, 31)
UNITS = {"log_cny", "log_count", "ratio", "probability", "count"}
UNITS |= {"months", "years", "days", "level", "flag", "absence"}

MEASURES = sorted(
    {
        (each.record_type, name)
        for summary, _ in city(1, 202405)
        for each in summary.series
        for name in each.columns
    }
    | {("credit_facility", "days_past_due"), ("tax_filing", "grade")}
)
VALUES = st.one_of(
    st.sampled_from([0, 0, 1, 5, -1]), st.integers(min_value=-(2**63), max_value=2**63 - 1)
)


@st.composite
def summaries(draw: st.DrawFn) -> FirmSummary:
    parts = []
    for record_type in TYPES:
        names = [name for each, name in MEASURES if each == record_type]
        for provider in range(draw(st.integers(0, 2))):
            ordinals = draw(st.lists(st.integers(2019 * 12, 2025 * 12), unique=True, max_size=9))
            months = tuple(at // 12 * 100 + at % 12 + 1 for at in sorted(ordinals))
            kept = draw(st.lists(st.sampled_from(names), unique=True))
            columns = {
                name: draw(st.lists(VALUES, min_size=len(months), max_size=len(months)))
                for name in kept
            }
            parts.append(SubjectSeries(record_type, f"p{provider}", months, columns))
    coverage = draw(st.dictionaries(st.sampled_from(TYPES), st.sampled_from(list(Coverage))))
    return FirmSummary(tuple(parts), coverage)


@settings(max_examples=150)
@given(summaries(), st.dates(dt.date(2018, 1, 1), dt.date(2026, 1, 1)))
def test_features_never_raise_and_are_finite_or_missing_for_a_reason(
    summary: FirmSummary, as_of: dt.date
) -> None:
    vector = compute(summary, as_of)
    for value, reason in zip(vector.values, vector.missing, strict=True):
        assert math.isnan(value) == (reason is not None)
        assert not math.isinf(value)
        assert reason is not Coverage.SUPPLIED
    assert not any(math.isinf(value) for value in encode(vector))
    assert repr(compute(summary, as_of)) == repr(vector)


def test_the_registry_is_well_formed() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for feature in FEATURES:
        assert feature.unit in UNITS, feature.name
        assert feature.monotone in (-1, 0, 1), feature.name
        assert set(feature.needs) <= set(TYPES), feature.name
        assert feature.zh != feature.en, feature.name


def test_every_feature_of_an_optional_source_is_constrained() -> None:
    for feature in FEATURES:
        if set(feature.needs) & set(OPTIONAL) or feature.relation:
            assert feature.monotone != 0, feature.name


def test_industry_and_district_are_no_inputs() -> None:
    assert not [name for name in NAMES if "industry" in name or "district" in name]


def values_of(summary: FirmSummary) -> dict[str, float]:
    return dict(zip(NAMES, compute(summary, AS_OF).values, strict=True))


def missing_of(summary: FirmSummary) -> dict[str, Coverage | None]:
    return dict(zip(NAMES, compute(summary, AS_OF).missing, strict=True))


def test_the_three_kinds_of_missing_are_different_inputs() -> None:
    def inputs(kind: Coverage) -> list[float]:
        summary = firm(coverage={"credit_facility": kind})
        encoded = dict(zip(NAMES, encode(compute(summary, AS_OF)), strict=True))
        return [
            encoded["credit_days_past_due"],
            encoded["withheld_credit_facility"],
            encoded["unsupplied_credit_facility"],
        ]

    assert inputs(Coverage.NONE_EXISTS) == [0, 0, 0]
    assert inputs(Coverage.NOT_CONSENTED) == [WITHHELD, 1, WITHHELD]
    not_supplied, *flags = inputs(Coverage.NOT_SUPPLIED)
    assert math.isnan(not_supplied)
    assert flags == [0, 1]


@pytest.mark.parametrize("record_type", OPTIONAL)
def test_no_two_kinds_of_missing_look_alike(record_type: str) -> None:
    kinds = [firm(coverage={record_type: kind}) for kind in Coverage if kind != "SUPPLIED"]
    assert len({repr(encode(compute(summary, AS_OF))) for summary in kinds}) == len(kinds)


def test_a_firm_that_a_complete_register_does_not_know_has_none() -> None:
    summary = firm(
        series("vat_invoice", 202405, output_net=[100]),
        coverage=dict.fromkeys(
            ("ip_right", "tech_status", "court_case", "grant"), Coverage.NONE_EXISTS
        ),
    )
    values = values_of(summary)
    for name in ("ip_class1", "tech_titles", "defendant_24m", "defendant_amount_to_sales",
                 "grants_24m", "rd_intensity"):  # fmt: skip  # a table, line by line
        assert values[name] == 0, name


def test_a_quantity_that_does_not_exist_in_what_is_there_says_so() -> None:
    missing = missing_of(firm(series("vat_invoice", 202405, output_net=[100])))
    assert missing["sales_growth_12m"] is Coverage.NONE_EXISTS
    assert missing["sales_amount_12m"] is None


def test_a_feature_of_two_types_says_what_was_withheld_first() -> None:
    summary = firm(
        coverage={
            "tech_status": Coverage.NOT_SUPPLIED,
            "social_insurance": Coverage.NOT_CONSENTED,
        }
    )
    assert missing_of(summary)["rd_staff_share"] is Coverage.NOT_CONSENTED


@pytest.mark.parametrize("record_type", OPTIONAL)
def test_what_is_withheld_stands_at_the_adverse_end(record_type: str) -> None:
    for summary, _ in city(5, 202405):
        shown = encode(compute(summary, AS_OF))
        hidden = encode(compute(withholding(summary, record_type), AS_OF))
        for feature, before, after in zip(FEATURES, shown, hidden, strict=True):
            unchanged = before == after or (math.isnan(before) and math.isnan(after))
            if record_type in feature.needs or feature.name == f"withheld_{record_type}":
                assert after * feature.monotone > 0, feature.name
            else:
                assert unchanged, feature.name


@pytest.mark.parametrize(
    ("first", "last", "as_of", "withheld"),
    [
        (dt.date(2021, 6, 1), dt.date(2024, 5, 31), dt.date(2024, 5, 31), False),
        (dt.date(2021, 6, 1), dt.date(2024, 5, 31), dt.date(2024, 6, 29), False),
        (dt.date(2021, 6, 2), dt.date(2024, 5, 31), dt.date(2024, 5, 31), True),
        (dt.date(2021, 6, 1), dt.date(2024, 5, 30), dt.date(2024, 5, 31), True),
        (dt.date(2021, 6, 1), dt.date(2024, 5, 30), dt.date(2024, 5, 30), True),
        (dt.date(2021, 5, 1), dt.date(2024, 4, 30), dt.date(2024, 5, 30), False),
        (dt.date(2021, 6, 1), dt.date(2024, 5, 31), dt.date(2024, 6, 30), True),
    ],
)
def test_optional_sources_count_as_withheld_unless_the_whole_look_back_was_opened(
    first: dt.date, last: dt.date, as_of: dt.date, withheld: bool
) -> None:
    [(summary, _)] = city(1, 202404)
    seen = as_opened(dataclasses.replace(summary, period=(first, last)), as_of)
    for name in ("tax_filing", "social_insurance"):
        assert (seen.coverage_of(name) is Coverage.NOT_CONSENTED) == withheld
    assert seen.coverage_of("vat_invoice") is Coverage.SUPPLIED


def test_an_optional_source_without_records_counts_as_withheld_in_a_short_period() -> None:
    day = dt.date(2024, 5, 31)
    summary = dataclasses.replace(firm(), period=(day, day))
    assert as_opened(summary, day).coverage_of("credit_facility") is Coverage.NOT_CONSENTED


def test_a_type_that_is_not_consented_is_withheld_even_if_a_series_came() -> None:
    [(summary, _)] = city(1, 202405)
    shown = dataclasses.replace(
        summary, coverage={**summary.coverage, "social_insurance": Coverage.NOT_CONSENTED}
    )
    for feature, reason in zip(FEATURES, compute(shown, AS_OF).missing, strict=True):
        if "social_insurance" in feature.needs:
            assert reason is Coverage.NOT_CONSENTED, feature.name


def test_nothing_is_scored_without_what_is_required() -> None:
    assert insufficient(firm()) == REQUIRED
    assert insufficient(firm(series("vat_invoice", 202405, output_net=[1]))) == ()
