"""Training: measured by the book, the same every time, and refused where it must not succeed."""

import dataclasses
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from services.scoring.models.domain import InputSource, ModelClass, ModelFeature
from services.scoring.models.folder import CARD, MANIFEST, MODEL, TRAINING
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.scorer import Scorer
from services.scoring.training import evidence, sweep
from services.scoring.training.app import bins, models_to_train, train
from services.scoring.training.baselines import PLAIN, SCORECARD
from services.scoring.training.domain import (
    GROUPED,
    OUT_OF_TIME,
    STRATIFIED,
    Floats,
    Parameters,
    Settings,
    Split,
    TrainingError,
    TrainingTable,
)
from services.scoring.training.evaluation import (
    cross_validate,
    fit,
    inner_splits,
    plan,
    sample_of,
    stratified,
)
from services.scoring.training.metrics import auc
from services.scoring.training.sweep import check_monotone, thresholds
from services.scoring.training.tuning import grow, margins_of, mean_of, train_calibrated, workers
from tests.unit.scoring.conftest import KEY, SETTINGS, TRAINED_AT, Trained, made_up

SMALL = Parameters(40, 3, 0.1, 0.7, 0.5, 1.0, 10)
FAST = Settings(tried=(SMALL,), members=1, repeats=1, baselines=False, resamples=100)
UP = ModelFeature("up", "a", "x", 1)
DOWN = ModelFeature("down", "b", "x", -1)


def table(rows: int = 120, seed: int = 5) -> TrainingTable:
    """Two features: PD rises with the first and falls with the second."""
    chance = np.random.default_rng(seed)
    matrix = chance.normal(size=(rows, 2))
    odds = 1.5 * matrix[:, 0] - matrix[:, 1] - 0.7
    labels = (chance.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    return TrainingTable(matrix, (UP, DOWN), labels)


def measured_of(made: TrainingTable, settings: Settings) -> Floats:
    """Log-odds out of fold, repeats x rows."""
    sample = sample_of(made)
    planned = plan(sample, made, settings)
    return cross_validate(sample, made.features, planned, settings, {}).log_odds


def test_the_same_table_and_settings_give_the_same_folder_byte_by_byte(
    trained: Trained, tmp_path: Path
) -> None:
    again = tmp_path / trained.folder.name
    settings = dataclasses.replace(SETTINGS, threads=1)
    train(made_up(trained.matrix, trained.labels), settings, again, trained_at=TRAINED_AT, key=KEY)
    for name in (MODEL, MANIFEST, CARD, TRAINING):
        assert (again / name).read_bytes() == (trained.folder / name).read_bytes(), name


def test_the_manifest_says_what_the_model_is(trained: Trained) -> None:
    manifest = trained.manifest
    assert manifest.version == "made-up-1"
    assert manifest.model_class is ModelClass.SIMULATED
    assert manifest.features == PLATFORM.features
    assert manifest.data.rows == 300
    assert manifest.data.events == trained.labels.sum()
    assert manifest.data.trained_at == "2024-06-01T00:00:00+00:00"
    assert {"auc", "gini", "ks", "brier", "log_loss", "calibration_slope", "ece"} <= set(
        manifest.metrics
    )
    assert manifest.metrics["auc"].value > 0.8
    mean = trained.scorer.score(trained.matrix).feature_points.mean(axis=0)
    assert list(manifest.reference.points.values()) == pytest.approx(mean.tolist())
    loans = manifest.bins["credit_days_past_due"]
    assert loans.withheld == pytest.approx(34 / 300)
    assert sum(loans.shares) + loans.missing + loans.withheld == pytest.approx(1)
    assert manifest.bins["tax_grade"].missing == pytest.approx(43 / 300)
    assert manifest.interval is not None


def test_the_card_says_that_data_were_simulated(trained: Trained) -> None:
    card = trained.scorer.card
    assert "simulated data: for trying out only" in card
    assert trained.manifest.outcome in card
    assert all(feature.name in card for feature in PLATFORM.features)


class TestFolds:
    @pytest.mark.parametrize("folds", [2, 3, 5])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_they_are_those_of_scikit_learn(self, folds: int, share: float) -> None:
        from sklearn.model_selection import StratifiedKFold

        for seed in range(5):
            labels = (np.random.default_rng(seed).random(101 + seed) < share).astype(np.int64)
            known = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
            expected = [(a.tolist(), b.tolist()) for a, b in known.split(labels, labels)]
            found = [(a.tolist(), b.tolist()) for a, b in stratified(labels, folds, seed)]
            assert found == expected

    def test_a_firm_is_in_one_fold_inside_as_outside(self) -> None:
        groups = np.random.default_rng(1).integers(0, 40, 200)
        made = dataclasses.replace(table(200), groups=groups * 7)
        sample = sample_of(made)
        planned = plan(sample, made, FAST)
        assert planned.kind == GROUPED
        for split in planned.repeats[0]:
            assert not set(groups[split.seen]) & set(groups[split.unseen])
            seen = sample.rows(split.seen)
            for inner in inner_splits(seen, planned.kind, planned.inner, 1):
                assert not set(seen.groups[inner.seen]) & set(seen.groups[inner.unseen])
        asked = plan(sample, made, dataclasses.replace(FAST, kind=STRATIFIED))
        assert (asked.kind, asked.words[0][:10]) == (GROUPED, "firms were")
        held = np.sort(np.concatenate([split.unseen for split in planned.repeats[0]]))
        assert held.tolist() == list(range(200))
        shares = [made.labels[split.unseen].mean() for split in planned.repeats[0]]
        assert max(shares) - min(shares) < 0.15

    @pytest.mark.parametrize("cutoff", [None, 700])
    def test_out_of_time_nothing_is_measured_before_what_was_trained_on(
        self, cutoff: int | None
    ) -> None:
        times = np.random.default_rng(1).integers(0, 1000, 300)
        made = dataclasses.replace(table(300), times=times)
        settings = dataclasses.replace(FAST, cutoff=cutoff)
        sample = sample_of(made)
        planned = plan(sample, made, settings)
        assert planned.kind == OUT_OF_TIME
        assert len(planned.repeats) == 1
        for split in planned.repeats[0]:
            assert times[split.seen].max() < times[split.unseen].min()
            seen = sample.rows(split.seen)
            assert seen.times is not None
            for inner in inner_splits(seen, planned.kind, planned.inner, 1):
                assert seen.times[inner.seen].max() < seen.times[inner.unseen].min()
        if cutoff is not None:
            assert [split.unseen.tolist() for split in planned.repeats[0]] == [
                np.flatnonzero(times >= 700).tolist()
            ]

    def test_times_that_hold_too_little_are_passed_over(self) -> None:
        made = dataclasses.replace(table(), times=np.zeros(120, dtype=np.int64))
        assert plan(sample_of(made), made, FAST).kind == STRATIFIED
        with pytest.raises(TrainingError, match="choose an earlier cutoff"):
            plan(sample_of(made), made, dataclasses.replace(FAST, kind=OUT_OF_TIME))
        with pytest.raises(TrainingError, match="states no times"):
            plan(sample_of(table()), table(), dataclasses.replace(FAST, kind=OUT_OF_TIME))

    def test_few_events_get_fewer_folds_and_it_is_said(self, tmp_path: Path) -> None:
        made = table(200)
        order = np.argsort(made.matrix[:, 1] - made.matrix[:, 0], kind="stable")
        few = dataclasses.replace(made, labels=np.isin(np.arange(200), order[:12]).astype(np.int64))
        planned = plan(sample_of(few), few, FAST)
        assert (planned.folds, planned.inner) == (3, 4)
        train(few, FAST, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)
        stated = json.loads((tmp_path / "m" / TRAINING).read_text("utf-8"))
        assert "5 folds of 12 rare outcomes: made 3" in stated["protocol"]["tuning"]

    def test_a_leaf_fits_into_what_a_tree_sees(self, tmp_path: Path) -> None:
        made = table(100)
        order = np.argsort(made.matrix[:, 1] - made.matrix[:, 0], kind="stable")
        few = dataclasses.replace(made, labels=np.isin(np.arange(100), order[:11]).astype(np.int64))
        settings = dataclasses.replace(FAST, tried=(), candidates=1)
        (tried,) = plan(sample_of(few), few, settings).tried
        assert tried.min_leaf == 100 // 2 * 3 // 4 * 0.7 // 4
        manifest = train(few, settings, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)
        assert manifest.metrics["auc"].value > 0.5

    def test_large_tables_get_less(self) -> None:
        def planned_for(rows: int) -> tuple[int, int, int, int]:
            labels = (np.arange(rows) % 20 == 0).astype(np.int64)
            made = TrainingTable(np.zeros((rows, 3)), (UP, DOWN, UP), labels)
            found = plan(sample_of(made), made, Settings())
            return len(found.repeats), found.folds, found.inner, found.members

        assert planned_for(500) == (5, 5, 4, 4)
        assert planned_for(6_000) == (1, 5, 6, 4)
        assert planned_for(30_000) == (1, 3, 3, 1)
        assert planned_for(150_000) == (1, 1, 1, 1)

    def test_what_is_tried_follows_from_the_budget_and_the_size(self) -> None:
        made = TrainingTable(
            np.zeros((6_000, 64)), (UP,) * 64, (np.arange(6_000) % 20 == 0).astype(np.int64)
        )
        numbers = [
            len(plan(sample_of(made), made, Settings(budget=budget)).tried)
            for budget in (0, 60, 1e6)
        ]
        assert numbers[0] == 1
        assert 1 < numbers[1] < numbers[2]

    def test_progress_is_told_of_every_outer_model(self) -> None:
        made = table()
        told: list[tuple[int, int]] = []
        settings = dataclasses.replace(FAST, repeats=2)
        sample = sample_of(made)
        planned = plan(sample, made, settings)
        cross_validate(
            sample, made.features, planned, settings, {}, lambda done, of: told.append((done, of))
        )
        assert told == [(done, 10) for done in range(1, 11)]
        assert models_to_train(made, settings) == 10


class TestNothingIsFittedOnWhatItIsMeasuredOn:
    def test_noise_does_not_look_like_skill(self) -> None:
        """29 of 30 features are noise; tuning and calibration had the chance to use it."""
        from sklearn.metrics import roc_auc_score

        chance = np.random.default_rng(0)
        features = tuple(ModelFeature(f"f{at}", "g", "x", 0) for at in range(30))
        settings = dataclasses.replace(FAST, tried=(SMALL, dataclasses.replace(SMALL, depth=4)))
        for _ in range(2):
            matrix = chance.normal(size=(300, 30))
            labels = (chance.random(300) < 1 / (1 + np.exp(-matrix[:, 0]))).astype(np.int64)
            knowable = roc_auc_score(labels, matrix[:, 0])
            made = TrainingTable(matrix, features, labels)
            said = measured_of(made, settings)
            assert 0.5 < roc_auc_score(labels, said[0]) < knowable
            seen = grow(sample_of(made), features, SMALL, 1)
            assert roc_auc_score(labels, margins_of(seen, matrix)) > knowable + 0.05

    def test_labels_of_a_fold_change_nothing_that_is_said_of_it(self) -> None:
        made = table(200)
        sample = sample_of(made)
        planned = plan(sample, made, FAST)
        split = planned.repeats[0][0]
        one = dataclasses.replace(planned, repeats=((split,),))
        said = cross_validate(sample, made.features, one, FAST, {}).log_odds
        turned = sample.labels.copy()
        turned[split.unseen] = 1 - turned[split.unseen]
        other = dataclasses.replace(sample, labels=turned)
        again = cross_validate(other, made.features, one, FAST, {}).log_odds
        assert np.array_equal(said, again, equal_nan=True)
        assert np.isnan(said[0, split.seen]).all()

    def test_baselines_see_the_same_folds(self, tmp_path: Path) -> None:
        made = table(300)
        settings = dataclasses.replace(FAST, baselines=True)
        train(made, settings, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)
        stated = evidence.load((tmp_path / "m" / TRAINING).read_text("utf-8"))
        assert [each.name for each in stated.baselines] == [SCORECARD, PLAIN]
        for each in stated.baselines:
            assert 0.6 < each.figures["auc"].value < 0.95
        assert {(test.against, test.metric) for test in stated.paired} == {
            (name, metric) for name in (SCORECARD, PLAIN) for metric in ("auc", "log_loss")
        }
        assert all(test.low <= test.difference <= test.high for test in stated.paired)


class TestWeights:
    def test_weighting_rows_is_repeating_them(self) -> None:
        """The prior that weights state is the one that PDs are calibrated to."""
        made = table(400)
        sample = sample_of(made)
        chance = np.random.default_rng(0)
        weights = chance.integers(1, 4, 400).astype(np.float64)
        weighted = dataclasses.replace(sample, weights=weights)
        repeated = sample.rows(np.repeat(np.arange(400), weights.astype(np.int64)))
        splits = [Split(*each) for each in stratified(sample.labels, 3, 1)]
        found = train_calibrated(weighted, made.features, splits, (SMALL,), 1)
        assert (
            found.calibration
            != train_calibrated(sample, made.features, splits, (SMALL,), 1).calibration
        )
        pds = 1 / (1 + np.exp(-found.log_odds(sample.matrix)))
        assert np.average(pds, weights=weights) == pytest.approx(repeated.labels.mean(), abs=0.03)

    def test_a_balanced_sample_gives_pds_of_its_natural_prior(self) -> None:
        made = table(600)
        weights = np.where(made.labels == 1, 0.02, 1.0)
        balanced = dataclasses.replace(made, weights=weights)
        said = measured_of(balanced, FAST)[0]
        prior = np.average(made.labels, weights=weights)
        assert prior < 0.02
        assert np.average(1 / (1 + np.exp(-said)), weights=weights) == pytest.approx(prior, rel=0.3)

    def test_four_in_five_of_a_weighted_population_are_approved(self, tmp_path: Path) -> None:
        made = table(400)
        balanced = dataclasses.replace(
            made,
            weights=np.where(made.labels == 1, 0.1, 1.0),
            segments={"all": ["one"] * 400},
        )
        train(balanced, FAST, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)
        measured = evidence.load((tmp_path / "m" / TRAINING).read_text("utf-8"))
        [whole] = measured.segments["all"]
        assert whole.approved is not None
        assert whole.approved.value == pytest.approx(0.8, abs=0.01)


class TestCategories:
    def made(self, rows: int = 400) -> TrainingTable:
        chance = np.random.default_rng(3)
        matrix = chance.normal(size=(rows, 2))
        codes = chance.integers(0, 6, rows)
        matrix[:, 1] = np.where(chance.random(rows) < 0.1, np.nan, codes)
        odds = matrix[:, 0] + np.where(np.isin(codes, (1, 4)), 2.0, -1.0)
        labels = (chance.random(rows) < 1 / (1 + np.exp(-odds))).astype(np.int64)
        branch = ModelFeature(
            "branch", "b", "", 0, InputSource.TABLE, categories=tuple("abcdef"), others=5
        )
        return TrainingTable(matrix, (UP, branch), labels)

    def test_they_are_split_as_categories(self, tmp_path: Path) -> None:
        made = self.made()
        train(made, FAST, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)
        scorer = Scorer.load(tmp_path / "m")
        rows = np.array([[0.0, code] for code in range(6)])
        bad = scorer.score(rows).pds[[1, 4]].min()
        assert bad > scorer.score(rows).pds[[0, 2, 3, 5]].max()
        assert "num_cat=1" in (tmp_path / "m" / MODEL).read_text("utf-8")

    def test_one_that_was_never_missing_is_read_as_the_commonest(self, tmp_path: Path) -> None:
        made = self.made()
        matrix = made.matrix.copy()
        matrix[np.isnan(matrix)] = 4
        train(
            dataclasses.replace(made, matrix=matrix),
            FAST,
            tmp_path / "m",
            trained_at=TRAINED_AT,
            key=KEY,
        )
        scorer = Scorer.load(tmp_path / "m")
        assert scorer.manifest.fills["branch"] == 4
        told = {
            line.split("|")[1].strip(): line for line in scorer.card.splitlines() if "|" in line
        }
        assert "| commonest |" in told["branch"]
        assert "| median |" in told["up"]


class TestMembers:
    def test_the_model_is_their_mean(self) -> None:
        made = table(300)
        sample = sample_of(made)
        boosters = [grow(sample, made.features, SMALL, seed) for seed in (1, 2, 3, 4)]
        merged = mean_of(boosters)
        apart = np.mean([margins_of(each, made.matrix) for each in boosters], axis=0)
        assert margins_of(merged, made.matrix) == pytest.approx(apart, abs=1e-12)
        assert merged.num_trees() == sum(each.num_trees() for each in boosters)
        parts = np.mean([each.predict(made.matrix, pred_contrib=True) for each in boosters], axis=0)
        assert merged.predict(made.matrix, pred_contrib=True) == pytest.approx(parts, abs=1e-12)

    def test_threads_change_nothing(self) -> None:
        made = table(300)
        sample = sample_of(made)
        planned = plan(sample, made, dataclasses.replace(FAST, members=2))
        one, two = (
            fit(sample, made.features, planned, dataclasses.replace(FAST, threads=n), alone=True)
            for n in (1, 2)
        )
        assert one.booster.model_to_string() == two.booster.model_to_string()
        assert one.calibration == two.calibration
        with workers(2) as mapper:
            same = grow(sample, made.features, one.parameters, FAST.seed, members=2, mapper=mapper)
        assert same.model_to_string() == one.booster.model_to_string()


def test_pds_out_of_time_have_the_level_of_all_the_rows_that_the_model_has_seen() -> None:
    made = table(3000)
    chance = np.random.default_rng(7)
    crisis = np.linspace(0, 1, 3000) > 0.6  # nothing but time tells
    labels = np.where(crisis & (chance.random(3000) < 0.3), 1, made.labels)
    made = dataclasses.replace(made, labels=labels, times=np.arange(3000))
    sample = sample_of(made)
    settings = dataclasses.replace(FAST, kind=OUT_OF_TIME)
    model = fit(sample, made.features, plan(sample, made, settings), settings)
    said = 1 / (1 + np.exp(-model.log_odds(sample.matrix)))
    assert said.mean() == pytest.approx(labels.mean(), rel=0.03)
    # What the interval rests on is of all times, too.
    assert sorted(model.held_out.tolist()) == list(range(3000))


def test_a_table_without_signal_gives_no_model(tmp_path: Path) -> None:
    made = table()
    turned = dataclasses.replace(made, matrix=-made.matrix)
    with pytest.raises(TrainingError, match="nothing to learn"):
        train(turned, FAST, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda t: dataclasses.replace(t, matrix=t.matrix[:, :1]), "the matrix has the shape"),
        (lambda t: dataclasses.replace(t, labels=t.labels * 2), "neither 0 nor 1"),
        (
            lambda t: dataclasses.replace(t, matrix=np.where(t.matrix > 1, np.inf, t.matrix)),
            "infinite",
        ),
        (
            lambda t: dataclasses.replace(t, labels=(np.arange(120) < 9).astype(np.int64)),
            "too few",
        ),
        (lambda t: dataclasses.replace(t, groups=np.arange(120) % 7), "rows or firms"),
        (lambda t: dataclasses.replace(t, weights=np.arange(120.0)), "not a positive number"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_refused(
    break_it: Callable[[TrainingTable], TrainingTable], problem: str, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=problem):
        train(break_it(table()), FAST, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)


class TestSweep:
    def test_it_passes_what_the_trainer_makes(self, trained: Trained) -> None:
        booster = lightgbm.Booster(model_file=trained.folder / MODEL)
        swept = check_monotone(booster, trained.matrix, PLATFORM.features, seed=1)
        assert len(swept) > 10
        assert all(each.moves > 0 for each in swept)

    def test_the_rows_that_are_stated_are_those_that_were_moved(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(sweep, "MAX_MOVES", 1_500)
        train(table(), FAST, tmp_path / "m", trained_at=TRAINED_AT, key=KEY)
        stated = json.loads((tmp_path / "m" / TRAINING).read_text("utf-8"))
        moves = sum(axis["moves"] for axis in stated["axes"])
        assert 0 < moves <= 1_500
        assert stated["sweep_rows"] < 100
        assert moves % stated["sweep_rows"] == 0

    @pytest.mark.parametrize("weighted", [False, True])
    def test_it_catches_a_feature_that_moves_the_wrong_way(self, weighted: bool) -> None:
        made = table()
        free = tuple(dataclasses.replace(feature, monotone=0) for feature in made.features)
        sample = sample_of(made)
        if weighted:
            sample = dataclasses.replace(sample, weights=np.linspace(0.5, 1.5, 120))
        booster = grow(sample, free, SMALL, 1)
        with pytest.raises(TrainingError, match="up moves the margin"):
            check_monotone(
                booster, made.matrix, (dataclasses.replace(UP, monotone=-1), free[1]), seed=1
            )

    def test_it_knows_every_threshold(self, trained: Trained) -> None:
        text = (trained.folder / MODEL).read_text("utf-8")
        stated: set[tuple[int, float]] = set()
        for tree in text.split("Tree=")[1:]:
            lines = dict(line.split("=", 1) for line in tree.splitlines() if "=" in line)
            features = [int(at) for at in lines["split_feature"].split()]
            stated |= set(zip(features, map(float, lines["threshold"].split()), strict=True))
        booster = lightgbm.Booster(model_file=trained.folder / MODEL)
        found = thresholds(booster)
        assert {(at, value) for at, values in found.items() for value in values} == stated

    def test_axes_of_categories_are_passed_over(self) -> None:
        made = TestCategories().made()
        booster = grow(sample_of(made), made.features, SMALL, 1)
        swept = check_monotone(booster, made.matrix, made.features, seed=1)
        assert [each.feature for each in swept] == [0]


def test_bins_have_equal_shares_and_say_what_is_missing() -> None:
    values = np.concatenate([np.arange(90.0), [np.nan] * 5, [1e18] * 5])
    found = bins(values)
    assert len(found.edges) == 9
    assert found.shares == pytest.approx([0.09] * 10)
    assert found.missing == found.withheld == 0.05
    assert bins(np.array([np.nan, np.nan])).edges == ()
    assert bins(np.zeros(4)).shares == (0.0, 1.0)
    weighted = bins(np.array([1.0, 2.0, np.nan]), np.array([1.0, 1.0, 2.0]))
    assert weighted.missing == 0.5


def bench(checkout: Path, name: str) -> types.ModuleType:
    """A module of tests/bench, which is no package of the tests."""
    spec = importlib.util.spec_from_file_location(
        f"tests.bench.{name}", checkout / "tests" / "bench" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_real_firms_are_told_apart(shared_data: Path, checkout: Path) -> None:
    """One repeat, untuned, of what `make bench-quality` measures with ten."""
    matrix, labels = bench(checkout, "cumcm_auc").labelled(shared_data / "cumcm2020c")
    assert labels.sum() == 27
    made = TrainingTable(matrix, PLATFORM.features, labels)
    settings = Settings(repeats=1, candidates=1, members=1)
    assert auc(labels, measured_of(made, settings)[0]) > 0.85


@pytest.mark.heavy
def test_the_benchmark_of_quality_runs(shared_data: Path, checkout: Path) -> None:
    assert shared_data == checkout.parent / "shared" / "data"
    found = bench(checkout, "quality").smoke(["polish-1year", "german", "cumcm"])
    assert found["polish-1year"] > 0.92
    assert found["german"] > 0.74
    assert found["cumcm"] > 0.82
