"""Measures: the usual ones, with weights; compared with scikit-learn and with each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.training import metrics
from services.scoring.training.comparison import Comparison, _delong, row_pds
from services.scoring.training.domain import (
    OUT_OF_TIME,
    STRATIFIED,
    Floats,
    Ints,
    Sample,
    Split,
    TrainingError,
)
from services.scoring.training.evaluation import stratified
from services.scoring.training.tuning import calibrated_loss

ROWS = 240


def made(seed: int = 2, rows: int = ROWS) -> tuple[Ints, Floats, Floats]:
    """Labels, margins with ties, weights."""
    chance = np.random.default_rng(seed)
    labels = (chance.random(rows) < 0.3).astype(np.int64)
    margins = np.round(labels + chance.normal(size=rows), 1)
    return labels, margins, chance.integers(1, 4, rows).astype(np.float64)


@pytest.mark.parametrize("weighted", [False, True])
def test_they_are_the_usual_ones(weighted: bool) -> None:
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

    labels, margins, stated = made()
    weights = stated if weighted else None
    pds = 1 / (1 + np.exp(-margins))
    assert metrics.auc(labels, margins, weights) == pytest.approx(
        roc_auc_score(labels, margins, sample_weight=weights)
    )
    wrong, right, _ = roc_curve(labels, margins, sample_weight=weights, drop_intermediate=False)
    assert metrics.ks(labels, margins, weights) == pytest.approx((right - wrong).max())
    assert metrics.brier(labels, pds, weights) == pytest.approx(
        brier_score_loss(labels, pds, sample_weight=weights)
    )
    assert metrics.log_loss(labels, margins, weights) == pytest.approx(
        log_loss(labels, pds, sample_weight=weights)
    )


def test_whole_weights_are_rows_that_stand_several_times() -> None:
    labels, margins, weights = made()
    times = weights.astype(np.int64)
    again, repeated = np.repeat(labels, times), np.repeat(margins, times)
    for measure in (metrics.auc, metrics.ks, metrics.log_loss, metrics.brier):
        assert measure(labels, margins, weights) == pytest.approx(measure(again, repeated))
    one = metrics.logistic(margins, labels.astype(np.float64), weights)
    assert one == pytest.approx(metrics.logistic(repeated, again.astype(np.float64)))


def test_the_calibration_error_is_the_mean_gap_of_ten_bins() -> None:
    chance = np.random.default_rng(1)
    pds = chance.random(1000)
    labels = (chance.random(1000) < pds).astype(np.int64)
    order = np.argsort(pds).reshape(10, 100)
    by_hand = np.mean([abs(pds[rows].mean() - labels[rows].mean()) for rows in order])
    assert metrics.ece(labels, pds) == pytest.approx(by_hand)
    # All rows of the same PD are one bin, whatever their order.
    same = np.full(100, 0.3)
    truth = np.r_[np.ones(50), np.zeros(50)].astype(np.int64)
    assert metrics.ece(truth, same) == pytest.approx(0.2)
    assert metrics.ece(truth[::-1].copy(), same) == pytest.approx(0.2)


def test_a_measure_that_needs_both_outcomes_gives_none_without_one() -> None:
    assert np.isnan(metrics.auc(np.zeros(3, np.int64), np.arange(3.0)))
    assert np.isnan(metrics.ks(np.ones(3, np.int64), np.arange(3.0)))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_logistic_fit_is_maximum_likelihood(weighted: bool) -> None:
    from sklearn.linear_model import LogisticRegression

    chance = np.random.default_rng(3)
    x = chance.normal(2, 3, size=500)
    labels = (chance.random(500) < 1 / (1 + np.exp(1 - 0.5 * x))).astype(np.int64)
    weights = chance.random(500) + 0.5 if weighted else None
    slope, intercept = metrics.logistic(x, labels.astype(np.float64), weights)
    other = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], labels, weights)
    assert slope == pytest.approx(other.coef_[0, 0], rel=1e-4)
    assert intercept == pytest.approx(other.intercept_[0], rel=1e-4)


def test_outcomes_that_a_threshold_separates_still_get_a_finite_calibrator() -> None:
    margins = np.linspace(-1, 1, 40)
    labels = (margins > 0).astype(np.int64)
    with pytest.raises(metrics.SeparatedError):
        metrics.logistic(margins, labels.astype(np.float64))
    calibration = metrics.platt(margins, labels)
    assert 0.5 < calibration.pd(1.0) < 1
    counts = np.tile([1, 3], 20)
    twice = metrics.platt(np.repeat(margins, counts), np.repeat(labels, counts))
    weighted = metrics.platt(margins, labels, counts.astype(np.float64))
    assert (weighted.a, weighted.b) == pytest.approx((twice.a, twice.b))


def test_one_outcome_alone_calibrates_nothing() -> None:
    """Some ten events among 300,000 rows may be outside of those that tuning looks at."""
    margins, labels = np.linspace(-1, 1, 40), np.zeros(40, dtype=np.int64)
    with pytest.raises(TrainingError, match="outcomes are the same"):
        metrics.platt(margins, labels)
    assert calibrated_loss(margins, labels, np.ones(40)) == np.inf


def test_margins_that_rank_the_wrong_way_are_refused() -> None:
    labels = np.tile([0, 0, 1], 20)
    with pytest.raises(TrainingError, match="nothing to learn"):
        metrics.platt(-labels + np.linspace(0, 3, 60), labels)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_an_order_is_measured_alike_on_any_scale(seed: int) -> None:
    labels, margins, weights = made(seed, 60)
    turned = np.exp(margins / 3)
    assert metrics.auc(labels, margins, weights) == pytest.approx(
        metrics.auc(labels, turned, weights)
    )
    assert metrics.auc(labels, -margins, weights) == pytest.approx(
        1 - metrics.auc(labels, margins, weights)
    )
    # KS is at most what twice the area above the diagonal allows, and not below Gini over two.
    assert metrics.ks(labels, margins, weights) >= 2 * metrics.auc(labels, margins, weights) - 1 - (
        metrics.ks(labels, margins, weights)
    )


def compared(
    resamples: int = 300, *, firms: bool = False, repeats: int = 2
) -> tuple[Comparison, Sample, list[list[Split]]]:
    """A comparison of made-up rows."""
    labels, _, weights = made()
    groups = np.arange(ROWS) // (4 if firms else 1)
    sample = Sample(np.zeros((ROWS, 1)), labels, np.ones_like(weights), groups, None)
    folds = [[Split(*each) for each in stratified(labels, 4, seed)] for seed in range(repeats)]
    found = Comparison(sample, folds, STRATIFIED, resamples, 1, firms=firms, weighted=False)
    return found, sample, folds


def said_of(sample: Sample, skill: float, repeats: int = 2, seed: int = 4) -> Floats:
    """Log-odds by repeat and row."""
    chance = np.random.default_rng(seed)
    noise = chance.normal(size=(repeats, len(sample.labels)))
    found: Floats = skill * (sample.labels - 0.3) + noise - 0.8
    return found


class TestComparison:
    def test_a_figure_is_the_mean_over_folds_or_repeats(self) -> None:
        comparison, sample, folds = compared()
        said = said_of(sample, 1.5)
        figures = comparison.measure(said).figures
        by_fold = [
            metrics.auc(sample.labels[split.unseen], said[at, split.unseen])
            for at, splits in enumerate(folds)
            for split in splits
        ]
        assert figures["auc"].value == pytest.approx(np.mean(by_fold))
        assert figures["gini"].value == pytest.approx(2 * np.mean(by_fold) - 1)
        assert figures["auc"].deviation == pytest.approx(np.std(by_fold, ddof=1))
        pds = 1 / (1 + np.exp(-said))
        truth = sample.labels
        assert figures["brier"].value == pytest.approx(
            np.mean([metrics.brier(truth, row) for row in pds])
        )
        assert figures["log_loss"].value == pytest.approx(
            np.mean([metrics.log_loss(truth, row) for row in said])
        )
        assert figures["ece"].value == pytest.approx(
            np.mean([metrics.ece(truth, row) for row in pds])
        )
        slopes = [metrics.logistic(row, truth.astype(np.float64)) for row in said]
        assert figures["calibration_slope"].value == pytest.approx(np.mean([a for a, _ in slopes]))
        assert figures["calibration_intercept"].value == pytest.approx(
            np.mean([b for _, b in slopes])
        )

    def test_an_interval_holds_its_figure_and_narrows_with_rows(self) -> None:
        comparison, sample, _ = compared()
        figures = comparison.measure(said_of(sample, 1.5)).figures
        for name in ("auc", "gini", "brier", "log_loss", "calibration_slope"):
            figure = figures[name]
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low < figure.value < figure.high
        few = np.arange(ROWS) < ROWS // 3
        part = comparison.measure(said_of(sample, 1.5), few).figures["auc"]
        assert part.low is not None
        assert part.high is not None
        whole = figures["auc"]
        assert whole.low is not None
        assert whole.high is not None
        assert part.high - part.low > whole.high - whole.low

    def test_firms_are_resampled_whole(self) -> None:
        """Rows of a firm that all say the same make figures less sure than their number."""
        alone, sample, _ = compared()
        together, grouped, _ = compared(firms=True)
        labels = np.repeat(sample.labels[::4], 4)
        said = np.repeat(said_of(sample, 1.5)[:, ::4], 4, axis=1)
        widths = []
        for comparison, rows in ((alone, sample), (together, grouped)):
            made_alike = Comparison(
                Sample(rows.matrix, labels, rows.weights, rows.groups, None),
                [[Split(*each) for each in stratified(labels, 4, 0)]] * 2,
                STRATIFIED,
                300,
                1,
                firms=comparison is together,
                weighted=False,
            )
            figure = made_alike.measure(said).figures["log_loss"]
            assert figure.low is not None
            assert figure.high is not None
            widths.append(figure.high - figure.low)
        assert widths[1] > 1.5 * widths[0]

    def test_a_better_model_is_told_and_an_equal_one_is_not(self) -> None:
        comparison, sample, _ = compared()
        good, bad = said_of(sample, 2.5), said_of(sample, 0.3, seed=9)
        one, other = comparison.measure(good), comparison.measure(bad)
        tests = comparison.paired("x", one, other, good, bad)
        assert len(tests) == 3
        for test in tests:
            better = test.difference > 0 if test.metric == "auc" else test.difference < 0
            assert better
            assert test.p is not None
            assert test.p < 0.01
            assert not test.low <= 0 <= test.high
        for test in comparison.paired("itself", one, one, good, good):
            assert test.difference == 0
            assert test.p == 1

    def test_delong_is_the_variance_of_placements(self) -> None:
        """By its definition, over all pairs."""
        labels, margins, _ = made()
        second = margins + np.random.default_rng(8).normal(size=ROWS)
        found = _delong("x", labels, margins, second)
        parts = []
        for said in (margins, second):
            bad, good = said[labels == 1][:, None], said[labels == 0][None]
            wins = (bad > good) + 0.5 * (bad == good)
            parts.append((wins.mean(axis=1), wins.mean(axis=0)))
        error = np.sqrt(
            sum((one - two).var(ddof=1) / len(one) for one, two in zip(*parts, strict=True))
        )
        assert found.difference == pytest.approx(
            metrics.auc(labels, margins) - metrics.auc(labels, second)
        )
        assert found.high - found.difference == pytest.approx(1.96 * error)

    def test_an_outcome_that_came_once_tells_no_two_models_apart(self) -> None:
        labels = np.r_[np.tile([0, 1], 50), np.zeros(49), 1].astype(np.int64)
        sample = Sample(np.zeros((150, 1)), labels, np.ones(150), np.arange(150), np.arange(150))
        folds = [[Split(np.arange(100), np.arange(100, 150))]]
        later = Comparison(sample, folds, OUT_OF_TIME, 100, 1, firms=False, weighted=False)
        said = np.where(np.arange(150) < 100, np.nan, said_of(sample, 1.0, 1))
        measured = later.measure(said)
        assert later.paired("itself", measured, measured, said, said) == ()

    def test_slices_are_of_their_rows_alone(self) -> None:
        comparison, sample, _ = compared()
        said = said_of(sample, 1.5)
        pds = row_pds(said)
        region = np.where(np.arange(ROWS) < 200, "north", "south")
        from services.scoring.models.domain import Scaling

        north, south = comparison.slices(region.tolist(), said, pds, Scaling(), 0.3)
        assert (north.value, north.rows, south.rows) == ("north", 200, 40)
        assert north.events == sample.labels[:200].sum()
        assert north.observed.value == pytest.approx(sample.labels[:200].mean())
        assert north.auc is not None
        assert north.auc.value == pytest.approx(
            np.mean([metrics.auc(sample.labels[:200], row[:200]) for row in said])
        )
        assert south.approved is not None
        assert south.approved.value == pytest.approx((pds[200:] < 0.3).mean())

    def test_curves_and_tables_hold_together(self) -> None:
        from services.scoring.models.domain import DEFAULT_GRADES, Scaling

        comparison, sample, _ = compared()
        said = said_of(sample, 1.5)
        pds = row_pds(said)
        curve = comparison.roc(said)
        assert (curve[0].caught, curve[-1].caught) == (0.0, 1.0)
        caught = [point.caught for point in curve]
        assert caught == sorted(caught)
        assert sum(point.rows for point in comparison.reliability(pds)) == ROWS
        assert sum(each.rows for each in comparison.grades(pds, DEFAULT_GRADES)) == ROWS
        bins = comparison.scores(pds, Scaling())
        assert sum(each.goods for each in bins) == pytest.approx(1)
        assert sum(each.bads for each in bins) == pytest.approx(1)
        gains = comparison.gains(pds, Scaling())
        assert (gains[-1].share, gains[-1].caught) == (1.0, 1.0)
        assert [each.pd for each in gains] == sorted((each.pd for each in gains), reverse=True)

    def test_log_odds_that_are_certain_in_floats_have_points(self) -> None:
        from services.scoring.models.domain import Scaling

        comparison, sample, _ = compared(100)
        said = said_of(sample, 1.5)
        said[:, :3] = [[-800.0, 40.0, 800.0]] * 2
        pds = row_pds(said)
        bins = comparison.scores(pds, Scaling())
        assert sum(each.goods for each in bins) == pytest.approx(1)
        assert np.isfinite([each.score_to for each in comparison.gains(pds, Scaling())]).all()
        [all_] = comparison.slices(["a"] * ROWS, said, pds, Scaling(), 0.3)
        assert np.isfinite(all_.score)
