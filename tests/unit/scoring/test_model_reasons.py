"""Reasons: exact, ranked, and in words that follow from the numbers."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.scoring.features.domain import Coverage, FeatureVector, FirmSummary
from services.scoring.features.registry import BY_NAME, NAMES, compute, encode
from services.scoring.models.moves import steps
from services.scoring.models.reasons import Reason, Reasoner
from services.scoring.models.scorer import MIN_POINTS, ScoreBatch
from tests.unit.scoring.conftest import AS_OF, Trained
from tests.unit.scoring.firms import TYPES, withholding


def scored(trained: Trained, summary: FirmSummary) -> tuple[ScoreBatch, FeatureVector]:
    vector = compute(summary, AS_OF)
    return trained.scorer.score([encode(vector)]), vector


def reasons(trained: Trained, summary: FirmSummary, limit: int = 99) -> tuple[Reason, ...]:
    batch, vector = scored(trained, summary)
    return Reasoner(trained.manifest).reasons(batch, 0, vector, limit)


def test_points_are_the_groups_less_the_mean_and_strongest_come_first(trained: Trained) -> None:
    everyone = trained.scorer.score(trained.matrix).group_points.mean(axis=0)
    means = dict(zip(trained.manifest.groups, everyone.tolist(), strict=True))
    for summary in trained.firms[:20]:
        batch, _ = scored(trained, summary)
        points = dict(zip(trained.manifest.groups, batch.group_points[0].tolist(), strict=True))
        found = reasons(trained, summary)
        assert found == tuple(sorted(found, key=lambda reason: -abs(reason.points)))
        assert len({reason.group for reason in found}) == len(found)
        for reason in found:
            expected = points[reason.group] - means[reason.group]
            assert reason.points == pytest.approx(expected, abs=1e-3)
        # What is not told is less than a rounding.
        told = {reason.group for reason in found}
        for group in set(points) - told:
            assert abs(points[group] - means[group]) < MIN_POINTS + 1e-3


def test_no_more_reasons_than_asked_for(trained: Trained) -> None:
    every = reasons(trained, trained.firms[1])
    assert reasons(trained, trained.firms[1], limit=3) == every[:3]


def test_words_agree_with_the_direction(trained: Trained) -> None:
    for summary in trained.firms[:50]:
        for reason in reasons(trained, summary):
            kind = reason.code.removeprefix(f"{reason.group.upper()}_")
            assert kind in {"UP", "DOWN", "WITHHELD", "NOT_SUPPLIED"}
            if kind in {"UP", "DOWN"}:
                assert (reason.points > 0) == (kind == "UP")
                assert "()" not in reason.en
                assert not reason.zh.endswith("：")
            assert (reason.points > 0) == (reason.direction == "RAISES_SCORE")
            assert bool(reason.improve_zh) == bool(reason.improve_en)
            assert not (reason.points > 0 and reason.improve_en)


def test_what_is_suggested_lowers_this_score_and_never_lowers_it_when_followed(
    trained: Trained,
) -> None:
    checked = 0
    for summary in trained.firms[:60]:
        batch, vector = scored(trained, summary)
        row = dict(zip(NAMES, encode(vector), strict=True))
        for reason in reasons(trained, summary):
            for name in reason.suggested:
                at = NAMES.index(name)
                assert batch.feature_points[0, at] < trained.manifest.reference.points[name]
                better = {**row, name: row[name] - BY_NAME[name].monotone * 0.1}
                for changed in [better, *({**row, **step} for step in steps(name, row))]:
                    moved = trained.scorer.score([[changed[each] for each in NAMES]])
                    assert moved.totals[0] >= batch.totals[0] - 1e-6
                    checked += 1
    assert checked > 1000


def test_nothing_is_suggested_that_is_at_its_best_or_cannot_be_moved(trained: Trained) -> None:
    def improve(strengths: Mapping[str, float], **values: float) -> str:
        [reason] = worded(trained, strengths, **values)
        return reason.improve_en

    assert improve({"tax_grade": -9.0}, tax_grade=4.0).startswith("Raise the tax-credit level")
    assert improve({"tax_grade": -9.0}, tax_grade=5.0) == ""
    assert improve({"tax_grade": 9.0}, tax_grade=4.0) == ""
    assert improve({"firm_age": -9.0}, firm_age=1.0) == ""
    assert improve({"ip_class2": -9.0}, ip_class2=4.0) == ""
    assert improve({"tax_late_share": -9.0, "tax_days_late": -3.0}, tax_late_share=0.5) == (
        "File taxes on time"
    )


def worded(trained: Trained, strengths: Mapping[str, float], **values: float) -> list[Reason]:
    """Reasons when features move the score by so many points, and the rest by none."""
    batch, _ = scored(trained, trained.firms[0])
    means = [trained.manifest.reference.points[name] for name in NAMES]
    batch.feature_points[0] = [
        strengths.get(name, 0.0) + mean for name, mean in zip(NAMES, means, strict=True)
    ]
    vector = FeatureVector(
        tuple(values.get(name, 0.0) for name in NAMES), tuple(None for _ in NAMES)
    )
    return list(Reasoner(trained.manifest).reasons(batch, 0, vector, 99))


def test_a_group_led_by_an_unconstrained_feature_is_called_neither_good_nor_bad(
    trained: Trained,
) -> None:
    [reason] = worded(trained, {"ip_class2": -20.0, "tech_titles": -3.0}, ip_class2=14.0)
    assert reason.code == "TECHNOLOGY_DOWN"
    assert reason.en == (
        "In this model the data on technology speak against the firm "
        "(class II intellectual property rights: 14; valid technology titles: 0)"
    )
    assert reason.zh.startswith("在本模型中，科技实力数据对企业不利：II类知识产权数 14")
    [reason] = worded(trained, {"sales_tax_rate": 9.0}, sales_tax_rate=0.06)
    assert reason.en.startswith("In this model the data on tax rates and margin speak for the firm")


def test_an_unconstrained_feature_is_no_fact_of_a_good_or_bad_group(trained: Trained) -> None:
    [reason] = worded(trained, {"tech_titles": -20.0, "ip_class2": -3.0}, ip_class2=14.0)
    assert reason.en == "Technology is weak (valid technology titles: 0)"


def test_what_was_withheld_is_named_as_such(trained: Trained) -> None:
    shown = next(it for it in trained.firms if it.coverage["credit_facility"] == "SUPPLIED")
    [reason] = [
        reason
        for reason in reasons(trained, withholding(shown, "credit_facility"))
        if reason.group == "credit"
    ]
    assert reason.code == "CREDIT_WITHHELD"
    assert reason.points < 0
    assert "未授权" in reason.zh
    assert "did not consent" in reason.en


def test_what_is_not_supplied_is_named_as_such(trained: Trained) -> None:
    nothing = FirmSummary((), dict.fromkeys(TYPES, Coverage.NOT_SUPPLIED))
    found = {reason.group: reason.code for reason in reasons(trained, nothing)}
    assert found["tax"] == "TAX_NOT_SUPPLIED"


def test_a_model_with_other_inputs_has_no_words(trained: Trained) -> None:
    known = trained.manifest.features
    renamed = dataclasses.replace(known[0], name="shoe_size")
    for features in ((renamed, *known[1:]), (known[1], known[0], *known[2:]), (*known, known[0])):
        with pytest.raises(ValueError, match="not the registry's"):
            Reasoner(dataclasses.replace(trained.manifest, features=features))


def golden_vector() -> FeatureVector:
    """A firm of each unit and each kind of missing, by hand."""
    values = {
        "sales_amount_12m": math.log1p(38_464),
        "sales_amount_36m": math.log1p(123_456_789),
        "sales_growth_12m": -0.666,
        "sales_months_since_last": 1.0,
        "sales_longest_gap_24m": 4.0,
        "sales_counterparties": math.log1p(1234),
        "purchases_amount_12m": math.log1p(2.5e9),
        "purchases_growth_12m": 10.0,
        "tax_days_late": 1.0,
        "tax_grade": 4.0,
        "headcount": math.log1p(17),
        "ip_class1": 3.0,
        "defendant_24m": 2.0,
        "withheld_credit_facility": 1.0,
        "firm_age": 12.34,
    }
    missing: dict[str, Coverage | None] = {
        "sales_growth_6m": Coverage.NONE_EXISTS,
        "rd_staff_share": Coverage.NOT_SUPPLIED,
    }
    missing |= {
        name: Coverage.NOT_CONSENTED
        for name in NAMES
        if name.startswith("credit_")
    }  # fmt: skip  # a table, line by line
    return FeatureVector(
        tuple(math.nan if missing.get(name) else values.get(name, 0.0) for name in NAMES),
        tuple(missing.get(name) for name in NAMES),
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_words_are_these(trained: Trained, checkout: Path, sign: int) -> None:
    """All that a reason can say, reviewed as text: tests/golden/reasons.json."""
    vector = golden_vector()
    spoken = [name for name in NAMES if vector.values[NAMES.index(name)] != 0]
    strengths = [sign * (9.0 - at / 100) * (name in spoken) for at, name in enumerate(NAMES)]
    batch, _ = scored(trained, trained.firms[0])
    means = [trained.manifest.reference.points[name] for name in NAMES]
    batch.feature_points[0] = [a + b for a, b in zip(strengths, means, strict=True)]
    found = Reasoner(trained.manifest).reasons(batch, 0, vector, 99)
    said = {
        reason.code: {"zh": reason.zh, "en": reason.en}
        | ({"improve": [reason.improve_zh, reason.improve_en]} if reason.improve_en else {})
        for reason in found
    }
    golden = json.loads((checkout / "tests/golden/reasons.json").read_text("utf-8"))
    assert said == golden["raising" if sign > 0 else "lowering"]
