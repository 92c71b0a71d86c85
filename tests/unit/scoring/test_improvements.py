"""Counterfactuals: verified by the model, minimal, and only of what a firm can move."""

import itertools
import math
import re

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.scoring.features.domain import Coverage, FirmSummary
from services.scoring.features.registry import BY_NAME, NAMES, compute, encode
from services.scoring.models.domain import GradeCut, InputSource, ModelFeature
from services.scoring.models.improvements import (
    ALTERNATIVES,
    BEST,
    MAX_CHANGES,
    NONE,
    Change,
    Improver,
)
from services.scoring.models.moves import MOVES, By, improvable, shown, steps
from services.scoring.models.reasons import Reasoner
from services.scoring.models.scorer import Scorer
from tests.unit.scoring.conftest import AS_OF, Trained
from tests.unit.scoring.firms import withholding
from tests.unit.scoring.models_of import model_of

FINE = tuple(GradeCut(f"G{at}", at / 20) for at in range(20))


def random_model(
    seed: int, grades: tuple[GradeCut, ...] = FINE
) -> tuple[Scorer, npt.NDArray[np.float64]]:
    """A model of a made-up table of five columns, some constrained, and its rows."""
    chance = np.random.default_rng(seed)
    monotone = chance.integers(-1, 2, size=5)
    matrix = np.round(chance.normal(size=(200, 5)) * 10, 1)
    risk = matrix @ (monotone + chance.normal(size=5) / 3) / 10
    labels = (risk + chance.normal(size=200) > 1).astype(np.int64)
    labels[:5] = 1
    matrix[chance.random(matrix.shape) < 0.1] = np.nan
    features = [
        ModelFeature(f"column {at}", f"column {at}", "", int(sign), InputSource.TABLE)
        for at, sign in enumerate(monotone)
    ]
    return model_of(matrix, labels, features, trees=15, depth=2, grades=grades), matrix


def applied(
    row: npt.NDArray[np.float64], names: list[str], changes: tuple[Change, ...]
) -> npt.NDArray[np.float64]:
    moved = row.copy()
    for change in changes:
        for shift in (change.shift, *change.along):
            assert moved[names.index(shift.feature)] == shift.before
            moved[names.index(shift.feature)] = shift.after
    return moved


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 5), st.integers(0, 199))
def test_a_counterfactual_reaches_its_grade_and_needs_each_change(seed: int, at: int) -> None:
    scorer, matrix = random_model(seed)
    names = [feature.name for feature in scorer.manifest.features]
    order = [cut.grade for cut in FINE]
    before = scorer.score(matrix[at : at + 1])
    found = Improver(scorer, names).of_row(matrix[at].tolist())
    assert len(found.counterfactuals) <= ALTERNATIVES
    assert (found.remark is None) == bool(found.counterfactuals)
    ranks = [(len(each.changes), each.size) for each in found.counterfactuals]
    assert ranks == sorted(ranks)
    for each in found.counterfactuals:
        moved = applied(matrix[at], names, each.changes)
        after = scorer.score([moved])
        assert (after.grades[0], after.scores[0]) == (each.grade, each.score)
        assert order.index(each.grade) < order.index(before.grades[0])
        assert after.totals[0] >= before.totals[0]
        for change in each.changes:
            less = moved.copy()
            place = names.index(change.shift.feature)
            assert scorer.manifest.features[place].monotone != 0
            less[place] = matrix[at][place]
            lost = scorer.score([less]).grades[0]
            assert order.index(lost) >= order.index(before.grades[0])


@pytest.mark.parametrize("seed", range(4))
def test_there_is_no_smaller_counterfactual(seed: int) -> None:
    """Against all values of up to two features, at the same rounded thresholds."""
    scorer, matrix = random_model(seed)
    names = [feature.name for feature in scorer.manifest.features]
    order = [cut.grade for cut in FINE]
    improver = Improver(scorer, names)
    compared = 0
    for row in matrix[:12]:
        found = improver.of_row(row.tolist()).counterfactuals
        if not found:
            continue
        levers = improver._levers(row)
        goal = order.index(scorer.score([row]).grades[0])
        sizes: dict[int, float] = {}
        for count in (1, 2):
            for chosen in itertools.combinations(levers, count):
                for taken in itertools.product(*(range(len(each.values)) for each in chosen)):
                    tried = row.copy()
                    for lever, step in zip(chosen, taken, strict=True):
                        tried[list(lever.places)] = lever.values[step]
                    if order.index(scorer.score([tried]).grades[0]) < goal:
                        size = sum(
                            lever.sizes[step] for lever, step in zip(chosen, taken, strict=True)
                        )
                        sizes[count] = min(size, sizes.get(count, math.inf))
            if count in sizes:
                break
        compared += 1
        least = min(sizes, default=3)
        assert len(found[0].changes) == least
        if least in sizes:
            assert found[0].size == pytest.approx(sizes[least])
    assert compared > 1


def firms(trained: Trained) -> list[FirmSummary]:
    return [
        *trained.firms[:80],
        *(withholding(each, "tax_filing") for each in trained.firms[80:100]),
    ]


def test_only_what_a_firm_can_move_moves_and_never_the_withheld_or_missing(
    trained: Trained,
) -> None:
    improver = Improver(trained.scorer)
    changed = 0
    for summary in firms(trained):
        vector = compute(summary, AS_OF)
        row = dict(zip(NAMES, encode(vector), strict=True))
        for each in improver.of_firm(vector).counterfactuals:
            assert 1 <= len(each.changes) <= MAX_CHANGES
            for change in each.changes:
                changed += 1
                assert MOVES[change.shift.feature].by is not None
                assert change.zh
                assert change.en
                assert change.months >= 1
                for shift in (change.shift, *change.along):
                    feature = BY_NAME[shift.feature]
                    assert shift.before == row[shift.feature]
                    assert shown(shift.before)
                    assert shown(shift.after)
                    assert (shift.before - shift.after) * feature.monotone > 0
                    if feature.unit == "ratio" and "growth" not in feature.name:
                        assert 0 <= shift.after <= max(1, shift.before)
    assert changed > 20


@pytest.mark.parametrize("seed", range(5))
def test_no_suggestion_lowers_a_score_whatever_a_model_learned(trained: Trained, seed: int) -> None:
    """Models of outcomes that were drawn by chance, under the registry's constraints."""
    chance = np.random.default_rng(seed)
    labels = (chance.random(len(trained.matrix)) < 0.3).astype(np.int64)
    scorer = model_of(trained.matrix, labels, trained.manifest.features, seed=seed)
    reasoner, improver = Reasoner(scorer.manifest), Improver(scorer)
    suggested = 0
    for at in chance.integers(0, len(trained.firms), 8).tolist():
        vector = compute(trained.firms[at], AS_OF)
        row = dict(zip(NAMES, encode(vector), strict=True))
        batch = scorer.score([list(row.values())])
        for reason in reasoner.reasons(batch, 0, vector, 99):
            for name in reason.suggested:
                far = row[name] - BY_NAME[name].monotone * chance.exponential(10.0)
                changes = [{name: far}, *steps(name, row)]
                rows = [[{**row, **each}[name] for name in NAMES] for each in changes]
                assert (scorer.score(rows).totals >= batch.totals[0]).all()
                suggested += 1
        for found in improver.of_firm(vector).counterfactuals:
            assert found.score >= batch.scores[0]
    assert suggested > 5


def test_one_that_cannot_do_better_is_told_so() -> None:
    scorer, matrix = random_model(1)
    order = np.argsort(scorer.score(matrix).totals)
    names = [feature.name for feature in scorer.manifest.features]
    improver = Improver(scorer, names)
    assert None in {improver.of_row(matrix[at].tolist()).remark for at in order[::9]}
    easy, _ = random_model(1, (GradeCut("A", 0.0), GradeCut("B", 0.9)))
    assert Improver(easy, names).of_row(matrix[order[-1]].tolist()).remark == BEST
    assert Improver(scorer, []).of_row(matrix[order[0]].tolist()).remark == NONE


def test_a_consent_is_an_option_and_no_promise(trained: Trained) -> None:
    shown_all = next(it for it in trained.firms if it.coverage["tax_filing"] == "SUPPLIED")
    vector = compute(withholding(shown_all, "tax_filing"), AS_OF)
    found = Improver(trained.scorer).of_firm(vector)
    said = [words.en for words in found.consents]
    assert "Consent to data on tax: then what they show counts; the effect depends on them" in said
    names = {change.shift.feature for each in found.counterfactuals for change in each.changes}
    missing = {n for n, why in zip(NAMES, vector.missing, strict=True) if why is not None}
    assert not names & missing
    assert Coverage.NOT_CONSENTED in vector.missing


VALUES = {
    "log_cny": st.floats(0, 25),
    "log_count": st.integers(0, 5000).map(math.log1p),
    "ratio": st.floats(0, 1),
    "count": st.integers(0, 9).map(float),
    "level": st.integers(1, 5).map(float),
    "months": st.integers(0, 36).map(float),
    "days": st.integers(0, 700).map(float),
}


@given(st.data())
def test_steps_only_better_within_limits_and_without_contradiction(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name, move in MOVES.items() if move.by]))
    move = MOVES[name]
    row = {each: data.draw(VALUES[BY_NAME[each].unit]) for each in (name, *move.along)}
    for rule in move.along.values():
        _, _, part = rule.partition(" of ")
        if part and part not in row:
            row[part] = data.draw(VALUES[BY_NAME[part].unit])
    taken = list(steps(name, row))
    if not improvable(move, BY_NAME[name].monotone, row[name]):
        assert not taken
    last = row[name]
    for step in taken:
        assert next(iter(step)) == name
        for each, value in step.items():
            assert (row[each] - value) * BY_NAME[each].monotone > 0
            if BY_NAME[each].unit in {"count", "level"}:
                assert value == round(value)
        assert (last - step[name]) * BY_NAME[name].monotone >= 0
        last = step[name]
        if move.limit is not None:
            assert (step[name] - move.limit) * BY_NAME[name].monotone >= -1e-9
        if "sales_amount_36m" in step:
            grown = math.expm1(step[name]) - math.expm1(row[name])
            added = math.expm1(step["sales_amount_36m"]) - math.expm1(row["sales_amount_36m"])
            assert added == pytest.approx(grown, rel=1e-6, abs=1e-3)


def test_changes_are_said_to_the_firm(trained: Trained) -> None:
    changes = {
        change.shift.feature: change
        for summary in firms(trained)
        for each in Improver(trained.scorer).of_firm(compute(summary, AS_OF)).counterfactuals
        for change in each.changes
    }
    assert changes
    for name, change in changes.items():
        move, feature = MOVES[name], BY_NAME[name]
        assert change.zh.startswith(f"{move.zh}：{feature.zh}由")
        assert change.zh.endswith(f"（约需{move.months}个月）")
        assert f"{feature.en} from " in change.en
        rises = change.shift.after > change.shift.before
        assert ("升至" in change.zh) == rises
        said = re.search(r"from (.*) to (.*) \(about", change.en)
        assert said is not None
        assert said[1] != said[2]


def test_a_column_of_a_table_is_said_by_its_name_and_number() -> None:
    scorer, matrix = random_model(0)
    names = [feature.name for feature in scorer.manifest.features]
    said = [
        change.en
        for row in matrix[:30]
        for each in Improver(scorer, names).of_row(row.tolist()).counterfactuals
        for change in each.changes
    ]
    assert said
    assert all(re.fullmatch(r"column \d from -?[\d.]+ to -?[\d.]+", words) for words in said)


def test_the_past_is_not_moved() -> None:
    for name in ("firm_age", "sales_history", "owner_pd", "purchases_history"):
        assert name not in MOVES
    for name in (
        "defendant_24m",
        "credit_days_past_due",
        "credit_five_class",
        "tax_days_late",
        "social_missed_24m",
        "credit_applications_3m",
        "sales_churn",
        "serious_penalties",
    ):
        assert MOVES[name].by is None
    assert MOVES["sales_amount_12m"].by is By.FACTOR


def test_a_step_from_what_is_missing_or_withheld_is_none() -> None:
    for value in (math.nan, 1e18, -1e18):
        assert not list(steps("tax_grade", {"tax_grade": value}))
        [*_, last] = steps(
            "sales_top1", {"sales_top1": 0.5, "sales_top5": value, "sales_hhi": value}
        )
        assert list(last) == ["sales_top1"]
