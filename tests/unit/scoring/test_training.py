"""Training: measured by the book, the same every time, and refused where it must not succeed."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from services.scoring.models.domain import ModelFeature
from services.scoring.models.folder import CARD, MANIFEST, MODEL
from services.scoring.models.inputs import PLATFORM, Inputs
from services.scoring.training import metrics
from services.scoring.training.app import bins, train
from services.scoring.training.domain import Floats, Ints, Spec, TrainingError
from services.scoring.training.evaluation import cross_validate, fit, margins_of, stratified
from services.scoring.training.sweep import check_monotone, thresholds
from tests.unit.scoring.conftest import KEY, SPEC, TRAINED_AT, Trained

FAST = Spec(trees=20, repeats=1)


def table(rows: int = 120, seed: int = 5) -> tuple[Floats, Ints, tuple[ModelFeature, ...]]:
    """Two features: PD rises with the first and falls with the second."""
    chance = np.random.default_rng(seed)
    matrix = chance.normal(size=(rows, 2))
    odds = 1.5 * matrix[:, 0] - matrix[:, 1] - 0.7
    labels = (chance.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    return matrix, labels, (ModelFeature("up", "a", "x", 1), ModelFeature("down", "b", "x", -1))


def test_the_same_table_and_spec_give_the_same_folder_byte_by_byte(
    trained: Trained, tmp_path: Path
) -> None:
    again = tmp_path / trained.folder.name
    train(trained.matrix, trained.labels, SPEC, again, trained_at=TRAINED_AT, key=KEY)
    for name in (MODEL, MANIFEST, CARD):
        assert (again / name).read_bytes() == (trained.folder / name).read_bytes(), name


@pytest.mark.parametrize("folds", [2, 3, 5])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_folds_are_those_of_scikit_learn(folds: int, share: float) -> None:
    from sklearn.model_selection import StratifiedKFold

    for seed in range(5):
        labels = (np.random.default_rng(seed).random(101 + seed) < share).astype(np.int64)
        known = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
        expected = [(a.tolist(), b.tolist()) for a, b in known.split(labels, labels)]
        found = [(a.tolist(), b.tolist()) for a, b in stratified(labels, folds, seed)]
        assert found == expected


def test_the_manifest_says_what_the_model_is(trained: Trained) -> None:
    manifest = trained.manifest
    assert manifest.version == "made-up-1"
    assert manifest.features == PLATFORM.features
    assert manifest.data.rows == 300
    assert manifest.data.events == trained.labels.sum()
    assert manifest.data.trained_at == "2024-06-01T00:00:00+00:00"
    assert {"auc", "ks", "brier", "log_loss", "calibration_slope"} <= set(manifest.metrics)
    assert manifest.metrics["auc"].value > 0.8
    mean = trained.scorer.score(trained.matrix).feature_points.mean(axis=0)
    assert list(manifest.reference.points.values()) == pytest.approx(mean.tolist())
    loans = manifest.bins["credit_days_past_due"]
    assert loans.withheld == pytest.approx(34 / 300)
    assert sum(loans.shares) + loans.missing + loans.withheld == pytest.approx(1)
    assert manifest.bins["tax_grade"].missing == pytest.approx(43 / 300)


def test_the_card_says_that_data_were_simulated(trained: Trained) -> None:
    card = trained.scorer.card
    assert "simulated data: for trying out only" in card
    assert "measured on those firms are therefore optimistic" in card
    assert trained.manifest.outcome in card
    assert all(feature.name in card for feature in PLATFORM.features)


def test_progress_is_told_of_every_fold() -> None:
    matrix, labels, features = table()
    told: list[tuple[int, int]] = []
    spec = dataclasses.replace(FAST, repeats=2)
    cross_validate(matrix, labels, features, spec, lambda done, of: told.append((done, of)))
    assert told == [(done, 10) for done in range(1, 11)]


def test_noise_does_not_look_like_skill() -> None:
    """What is fitted outside its fold would show here first: 29 of 30 features are noise."""
    from sklearn.metrics import roc_auc_score

    chance = np.random.default_rng(0)
    features = tuple(ModelFeature(f"f{at}", "g", "x", 0) for at in range(30))
    for _ in range(3):
        matrix = chance.normal(size=(300, 30))
        labels = (chance.random(300) < 1 / (1 + np.exp(-matrix[:, 0]))).astype(np.int64)
        knowable = roc_auc_score(labels, matrix[:, 0])
        report = cross_validate(matrix, labels, features, FAST)
        out_of_fold = roc_auc_score(labels, report.margins[0])
        assert 0.5 < out_of_fold < knowable
        assert abs(report.metrics["auc"].value - out_of_fold) < 0.05
        seen = fit(matrix, labels, features, FAST, len(labels))
        assert roc_auc_score(labels, margins_of(seen, matrix)) > knowable + 0.05


def test_a_table_without_signal_gives_no_model(tmp_path: Path) -> None:
    matrix, labels, features = table()
    inputs = Inputs(features, 1, 1)
    with pytest.raises(TrainingError, match="nothing to learn"):
        train(-matrix, labels, FAST, tmp_path / "m", trained_at=TRAINED_AT, key=KEY, inputs=inputs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda m, y: (m[:, :1], y), "the matrix has the shape"),
        (lambda m, y: (m, y * 2), "neither 0 nor 1"),
        (lambda m, y: (np.where(m > 1, np.inf, m), y), "infinite"),
        (lambda m, y: (m, (np.arange(len(y)) < 6).astype(np.int64)), "too few"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_refused(break_it: object, problem: str) -> None:
    matrix, labels, features = table()
    assert callable(break_it)
    broken, outcome = break_it(matrix, labels)
    with pytest.raises(TrainingError, match=problem):
        cross_validate(broken, outcome, features, FAST)


def test_the_sweep_passes_what_the_trainer_makes(trained: Trained) -> None:
    booster = lightgbm.Booster(model_file=trained.folder / MODEL)
    check_monotone(booster, trained.matrix, PLATFORM.features, seed=1)


def test_the_sweep_catches_a_feature_that_moves_the_wrong_way() -> None:
    matrix, labels, features = table()
    free = tuple(dataclasses.replace(feature, monotone=0) for feature in features)
    booster = fit(matrix, labels, free, FAST, len(labels))
    with pytest.raises(TrainingError, match="up moves the margin"):
        check_monotone(
            booster, matrix, (dataclasses.replace(features[0], monotone=-1), free[1]), seed=1
        )


def test_the_sweep_knows_every_threshold(trained: Trained) -> None:
    text = (trained.folder / MODEL).read_text("utf-8")
    stated: set[tuple[int, float]] = set()
    for tree in text.split("Tree=")[1:]:
        lines = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
        features = [int(at) for at in lines["split_feature"].split()]
        stated |= set(zip(features, map(float, lines["threshold"].split()), strict=True))
    booster = lightgbm.Booster(model_file=trained.folder / MODEL)
    found = thresholds(booster)
    assert {(at, value) for at, values in found.items() for value in values} == stated


class TestMetrics:
    def test_they_are_the_usual_ones(self) -> None:
        from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

        chance = np.random.default_rng(2)
        labels = (chance.random(200) < 0.3).astype(np.int64)
        margins = np.round(labels + chance.normal(size=200), 1)  # with ties
        pds = 1 / (1 + np.exp(-margins))
        assert metrics.auc(labels, margins) == pytest.approx(roc_auc_score(labels, margins))
        wrong, right, _ = roc_curve(labels, margins)
        assert metrics.ks(labels, margins) == pytest.approx((right - wrong).max())
        assert metrics.brier(labels, pds) == pytest.approx(brier_score_loss(labels, pds))
        assert metrics.log_loss(labels, margins) == pytest.approx(log_loss(labels, pds))

    def test_the_logistic_fit_is_maximum_likelihood(self) -> None:
        from sklearn.linear_model import LogisticRegression

        chance = np.random.default_rng(3)
        x = chance.normal(2, 3, size=500)
        labels = (chance.random(500) < 1 / (1 + np.exp(1 - 0.5 * x))).astype(np.int64)
        slope, intercept = metrics.logistic(x, labels.astype(np.float64))
        other = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], labels)
        assert slope == pytest.approx(other.coef_[0, 0], rel=1e-4)
        assert intercept == pytest.approx(other.intercept_[0], rel=1e-4)

    def test_outcomes_that_a_threshold_separates_still_get_a_finite_calibrator(self) -> None:
        margins = np.linspace(-1, 1, 40)
        labels = (margins > 0).astype(np.int64)
        with pytest.raises(metrics.SeparatedError):
            metrics.logistic(margins, labels.astype(np.float64))
        calibration = metrics.platt(margins, labels)
        assert 0.5 < calibration.pd(1.0) < 1

    def test_margins_that_rank_the_wrong_way_are_refused(self) -> None:
        labels = np.tile([0, 0, 1], 20)
        with pytest.raises(TrainingError, match="nothing to learn"):
            metrics.platt(-labels + np.linspace(0, 3, 60), labels)


def test_bins_have_equal_shares_and_say_what_is_missing() -> None:
    values = np.concatenate([np.arange(90.0), [np.nan] * 5, [1e18] * 5])
    found = bins(values)
    assert len(found.edges) == 9
    assert found.shares == pytest.approx([0.09] * 10)
    assert found.missing == found.withheld == 0.05
    assert bins(np.array([np.nan, np.nan])).edges == ()
    assert bins(np.zeros(4)).shares == (0.0, 1.0)


def test_real_firms_are_told_apart(shared_data: Path, checkout: Path) -> None:
    """One repeat of what tests/bench/cumcm_auc.py measures with ten."""
    spec = importlib.util.spec_from_file_location(
        "cumcm_auc", checkout / "tests" / "bench" / "cumcm_auc.py"
    )
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = bench
    spec.loader.exec_module(bench)
    matrix, labels = bench.labelled(shared_data / "cumcm2020c")
    assert labels.sum() == 27
    report = cross_validate(matrix, labels, PLATFORM.features, Spec(repeats=1))
    assert report.metrics["auc"].value > 0.88
