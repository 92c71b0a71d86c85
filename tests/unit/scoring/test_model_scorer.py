"""Scores: exact, additive, independent of their neighbours, and never better for withholding."""

import dataclasses
import datetime as dt
import math
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.features.domain import FirmSummary
from services.scoring.features.firm import OPTIONAL
from services.scoring.features.registry import NAMES, compute, encode
from services.scoring.models.domain import Band, Calibration, GradeCut, Interval, Scaling, problems
from services.scoring.models.folder import MODEL
from services.scoring.models.intervals import missing_share
from services.scoring.models.kernel import REASONS
from services.scoring.models.scorer import MIN_POINTS, Scorer
from tests.unit.scoring.bounds import Bounds
from tests.unit.scoring.conftest import AS_OF, Trained
from tests.unit.scoring.firms import (
    leaving_out,
    month_before,
    opened,
    risky_firm,
    withholding,
)


def test_contributions_sum_to_the_margin_that_the_trees_give(trained: Trained) -> None:
    batch = trained.scorer.score(trained.matrix)
    booster = lightgbm.Booster(model_file=trained.folder / MODEL)
    raw = np.asarray(booster.predict(trained.matrix, raw_score=True))
    assert np.abs(batch.contributions.sum(axis=1) - raw).max() < 1e-9
    assert np.abs(batch.margins - raw).max() < 1e-9


def test_base_and_groups_add_up_to_the_score_exactly_in_any_order(trained: Trained) -> None:
    batch = trained.scorer.score(trained.matrix)
    chance = random.Random(3)
    for row in range(len(batch.totals)):
        parts = [batch.base_points, *batch.group_points[row].tolist()]
        chance.shuffle(parts)
        assert sum(parts) == batch.totals[row]
        assert batch.scores[row] == math.floor(batch.totals[row] + 0.5)


def test_pds_and_grades_are_those_of_the_manifest_to_the_last_bit(trained: Trained) -> None:
    rows = np.concatenate(
        [trained.matrix, np.random.default_rng(5).normal(size=(20_000, len(NAMES)))]
    )
    batch = trained.scorer.score(rows)
    pds = [trained.manifest.calibration.pd(margin) for margin in batch.margins.tolist()]
    assert batch.pds.tolist() == pds
    assert batch.grades == tuple(trained.manifest.grade(pd) for pd in pds)


def test_points_are_affine_in_log_odds_and_grades_follow_pd(trained: Trained) -> None:
    batch, scaling = trained.scorer.score(trained.matrix), trained.manifest.scaling
    for pd, total, grade in zip(batch.pds, batch.totals, batch.grades, strict=True):
        log_odds = math.log(pd / (1 - pd))
        assert total == pytest.approx(scaling.offset - scaling.factor * log_odds, abs=1e-5)
        assert grade == trained.manifest.grade(pd)


def test_group_points_are_the_sums_of_their_features(trained: Trained) -> None:
    batch = trained.scorer.score(trained.matrix)
    for at, group in enumerate(trained.manifest.groups):
        members = [i for i, f in enumerate(trained.manifest.features) if f.group == group]
        sums = batch.feature_points[:, members].sum(axis=1)
        assert np.abs(sums - batch.group_points[:, at]).max() < 1e-4


def test_a_row_alone_has_the_same_result_to_the_last_bit(trained: Trained) -> None:
    batch = trained.scorer.score(trained.matrix)
    for row in range(40):
        alone = trained.scorer.score(trained.matrix[row : row + 1])
        assert alone.pds[0] == batch.pds[row]
        assert alone.totals[0] == batch.totals[row]
        assert (alone.group_points[0] == batch.group_points[row]).all()


def test_a_table_is_scored_in_parts_to_the_last_bit(trained: Trained) -> None:
    batch = trained.scorer.score(trained.matrix)
    for at_once in (1, 7, 64, 65, 1000):
        starts = range(0, len(trained.matrix), at_once)
        parts = [trained.scorer.score(trained.matrix[at : at + at_once]) for at in starts]
        assert np.concatenate([part.values for part in parts]).tobytes() == batch.values.tobytes()
        assert sum((part.grades for part in parts), ()) == batch.grades


def test_a_matrix_may_be_of_any_layout_and_is_not_written(trained: Trained) -> None:
    expected = trained.scorer.score(trained.matrix).values.tobytes()
    locked = trained.matrix.copy()
    locked.flags.writeable = False
    backwards = np.asfortranarray(trained.matrix[::-1])[::-1]
    for matrix in (locked, backwards, trained.matrix.tolist()):
        assert trained.scorer.score(matrix).values.tobytes() == expected
    singles = trained.matrix.astype(np.float32)
    booster = lightgbm.Booster(model_file=trained.folder / MODEL)
    said = np.asarray(booster.predict(singles, pred_contrib=True))
    assert np.abs(trained.scorer.score(singles).contributions - said).max() < 1e-9


def test_margins_alone_are_those_of_scores(trained: Trained) -> None:
    expected = trained.scorer.score(trained.matrix).margins
    assert (trained.scorer.margins(trained.matrix) == expected).all()
    assert trained.scorer.margins(np.zeros((0, len(NAMES)))).shape == (0,)


def test_splits_are_where_the_trees_split(trained: Trained) -> None:
    booster = lightgbm.Booster(model_file=trained.folder / MODEL)
    expected: dict[int, set[float]] = {}
    waiting = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "threshold" in node:
            expected.setdefault(node["split_feature"], set()).add(node["threshold"])
            waiting += [node["left_child"], node["right_child"]]
    found = {at: set(values.tolist()) for at, values in trained.scorer.splits().items()}
    assert found == expected


def test_reasons_are_the_strongest_groups_against_the_population(trained: Trained) -> None:
    batch = trained.scorer.score(trained.matrix)
    points, groups = trained.manifest.reference.points, trained.manifest.groups
    means = [
        sum(points[f.name] for f in trained.manifest.features if f.group == group)
        for group in groups
    ]
    assert np.abs(batch.strengths - (batch.group_points - means)).max() < 1e-9
    for row, strengths in enumerate(batch.strengths.tolist()):
        order = sorted(range(len(groups)), key=lambda at: -abs(strengths[at]))
        expected = [
            f"{groups[at].upper()}_{'UP' if strengths[at] > 0 else 'DOWN'}"
            for at in order
            if abs(strengths[at]) >= MIN_POINTS
        ]
        assert trained.scorer.reason_codes(batch, row) == expected[:4]
        assert trained.scorer.reason_codes(batch, row, 9) == expected[:REASONS]


INTERVAL = Interval(
    "made up",
    (
        Band(0.25, (-9.0, -1.0), (0.0, 0.2), (0.1, 0.3)),
        Band(1.0, (-9.0, -2.0, 0.0), (0.01, 0.1, 0.3), (0.9, 0.95, 1.0)),
    ),
    3.0,
)


def test_intervals_hold_their_pd_and_refer_thin_files(trained: Trained) -> None:
    manifest = dataclasses.replace(trained.manifest, interval=INTERVAL)
    scorer = Scorer(manifest, (trained.folder / MODEL).read_text())
    rows = trained.matrix.copy()
    rows[::3, :60] = math.nan
    rows[1::3, ::2] = 1e18
    batch = scorer.score(rows)
    assert (batch.missing == missing_share(rows)).all()
    assert (batch.lows <= batch.pds).all()
    assert (batch.pds <= batch.highs).all()
    assert (batch.missing[::3] > 0.25).all()
    assert batch.refer[::3].all()
    assert batch.refer[1::3].all()
    thick = batch.missing <= 0.25
    assert thick.any()
    assert not batch.refer[thick].all()
    bounds, asked = Bounds(INTERVAL), (batch.margins, batch.pds, batch.missing)
    expected = list(map(bounds.of, *(each.tolist() for each in asked)))
    assert batch.ends == expected
    for row in range(0, len(rows), 7):
        assert scorer.score(rows[row : row + 1]).ends == [expected[row]]


def test_a_model_without_intervals_has_none(trained: Trained) -> None:
    manifest = dataclasses.replace(trained.manifest, interval=None)
    batch = Scorer(manifest, (trained.folder / MODEL).read_text()).score(trained.matrix)
    assert batch.ends is None
    assert np.isnan(batch.lows).all()
    assert np.isnan(batch.highs).all()
    assert not batch.refer.any()


def test_a_score_needs_no_lightgbm(trained: Trained) -> None:
    """Nor what it brings along; else a service would take 100 MB and a second more to start."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import services.scoring.main\n"
        "from services.scoring.decisions.model import ServedModel\n"
        f"ServedModel.load(Path({str(trained.folder)!r}))\n"
        "print({'lightgbm', 'scipy', 'sklearn', 'pandas', 'numba'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_golden_rows_are_what_lightgbm_says(trained: Trained) -> None:
    booster = lightgbm.Booster(model_file=trained.folder / MODEL)
    fills = [trained.manifest.fills.get(name, math.nan) for name in NAMES]
    rows = [
        [fill if x is None else x for x, fill in zip(row.inputs, fills, strict=True)]
        for row in trained.manifest.golden
    ]
    said = np.asarray(booster.predict(np.array(rows), pred_contrib=True))
    assert [row.contributions for row in trained.manifest.golden] == [tuple(each) for each in said]


def test_threads_get_what_one_thread_gets(trained: Trained) -> None:
    expected = trained.scorer.score(trained.matrix).totals
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: trained.scorer.score(trained.matrix).totals, range(8)):
            assert (found == expected).all()


def test_no_rows_have_no_scores(trained: Trained) -> None:
    batch = trained.scorer.score(np.zeros((0, len(NAMES))))
    assert batch.scores.shape == (0,)
    assert batch.grades == ()


def test_a_matrix_of_another_width_is_refused(trained: Trained) -> None:
    with pytest.raises(ValueError, match="give rows x"):
        trained.scorer.score([[1.0, 2.0]])


def test_a_missing_value_that_training_never_saw_reads_as_the_median(trained: Trained) -> None:
    at = NAMES.index("headcount")
    assert not np.isnan(trained.matrix[:, at]).any()
    row, filled = trained.matrix[:1].copy(), trained.matrix[:1].copy()
    row[0, at] = math.nan
    filled[0, at] = np.median(trained.matrix[:, at])
    assert trained.scorer.score(row).totals[0] == trained.scorer.score(filled).totals[0]


def test_a_worse_firm_scores_lower(trained: Trained) -> None:
    batch = trained.scorer.score(trained.matrix)
    assert batch.pds[trained.labels == 1].mean() > 2 * batch.pds[trained.labels == 0].mean()


@pytest.mark.parametrize("record_type", OPTIONAL)
def test_the_model_learned_from_every_optional_source(trained: Trained, record_type: str) -> None:
    """Otherwise the next test could not fail."""
    shown = trained.scorer.score(trained.matrix).pds
    hidden = [encode(compute(withholding(it, record_type), AS_OF)) for it in trained.firms]
    assert (trained.scorer.score(hidden).pds > shown).mean() > 0.1


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(OPTIONAL), unique=True, min_size=1))
def test_withholding_never_improves_a_score(
    trained: Trained, seed: int, withheld: list[str]
) -> None:
    summary, _ = risky_firm(random.Random(seed), 202405)
    hidden = summary
    for record_type in withheld:
        hidden = withholding(hidden, record_type)
    assert not improves(trained, summary, hidden)


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(OPTIONAL), st.integers(0, 1))
def test_leaving_out_a_provider_never_improves_a_score(
    trained: Trained, seed: int, record_type: str, left_out: int
) -> None:
    chance = random.Random(seed)
    summary, _ = risky_firm(chance, 202405)
    other, _ = risky_firm(chance, 202405)
    second = [
        dataclasses.replace(each, provider_id="q")
        for each in other.series
        if each.record_type == record_type
    ]
    whole = dataclasses.replace(summary, series=(*summary.series, *second))
    part = leaving_out(whole, record_type, "pq"[left_out])
    assert len(part.series) == len(whole.series) - 1
    assert not improves(trained, whole, part)


@settings(max_examples=100)
@given(
    st.integers(0, 2**32),
    st.integers(0, 45),
    st.tuples(
        st.one_of(st.just(dt.date(2021, 6, 1)), st.dates(dt.date(2020, 6, 1), AS_OF)),
        st.one_of(st.just(AS_OF), st.dates(dt.date(2020, 6, 1), AS_OF)),
    ),
)
def test_a_shorter_period_of_optional_sources_never_improves_a_score(
    trained: Trained, seed: int, earlier: int, days: tuple[dt.date, dt.date]
) -> None:
    """Also where loans have a history before the months that features look back on."""
    chance = random.Random(seed)
    summary, _ = risky_firm(chance, 202405)
    old, _ = risky_firm(chance, 202405)
    moved = [
        dataclasses.replace(
            each, provider_id="q", months=tuple(month_before(at, earlier) for at in each.months)
        )
        for each in old.series
        if each.record_type in OPTIONAL
    ]
    whole = dataclasses.replace(summary, series=(*summary.series, *moved))
    assert not improves(trained, whole, opened(whole, OPTIONAL, min(days), max(days)))


def improves(trained: Trained, shown: FirmSummary, hidden: FirmSummary) -> bool:
    batch = trained.scorer.score([encode(compute(it, AS_OF)) for it in (shown, hidden)])
    return bool(
        batch.totals[1] > batch.totals[0]
        or batch.pds[1] < batch.pds[0]
        or batch.scores[1] > batch.scores[0]
    )


def test_a_calibrator_and_a_scaling_by_hand() -> None:
    assert Calibration(2.0, 1.0).pd(-0.5) == 0.5
    assert Calibration(1.0, 0.0).pd(-800.0) == 0
    assert Calibration(1.0, 0.0).pd(800.0) == 1
    scaling = Scaling(base=600, odds=20, pdo=50)
    assert scaling.points(-math.log(20)) == pytest.approx(600)
    assert scaling.points(-math.log(40)) == pytest.approx(650)


def test_a_manifest_that_contradicts_itself_is_found_out(trained: Trained) -> None:
    manifest = trained.manifest
    assert problems(manifest) == []
    for broken, problem in (
        ({"format": 1}, "format"),
        ({"calibration": Calibration(-1.0, 0.0)}, "calibration"),
        ({"scaling": Scaling(pdo=-1)}, "scaling"),
        ({"grades": (GradeCut("A", 0.1),)}, "grade cuts"),
        ({"features": manifest.features * 2}, "twice"),
        ({"features": manifest.features[1:]}, "reference population"),
        ({"golden": ()}, "golden"),
    ):
        found = problems(dataclasses.replace(manifest, **broken))
        assert any(problem in each for each in found), (problem, found)
