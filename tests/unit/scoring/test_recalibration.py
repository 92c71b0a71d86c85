"""Recalibration: the posterior is the posterior, too little is refused, the trees stay."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.decisions.model import ServedModel
from services.scoring.models import expert as expert_card
from services.scoring.models.domain import PARENT, Calibration, ModelClass
from services.scoring.models.folder import read_folder
from services.scoring.models.scorer import Floats, Scorer
from services.scoring.models.served import found
from services.scoring.training import evidence, expert, metrics
from services.scoring.training.domain import Ints, TrainingError
from services.scoring.training.recalibrated import Outcomes, write
from services.scoring.training.recalibration import interval_of, recalibrate
from tests.unit.scoring.bounds import Bounds
from tests.unit.scoring.conftest import KEY, TRAINED_AT, Trained


def outcomes(
    rows: int, events: int, seed: int = 1, *, shift: float = 0.0, slope: float = 1.0
) -> tuple[Floats, Ints]:
    """Log-odds of a model, and exactly so many outcomes that are drawn by other ones."""
    chance = np.random.default_rng(seed)
    old = chance.normal(-2.5, 1.2, rows)
    weight = np.exp(shift + slope * old)
    labels = np.zeros(rows, dtype=np.int64)
    drawn = chance.choice(rows, events, replace=False, p=weight / weight.sum())
    labels[drawn] = 1
    return old, labels


def test_the_grid_agrees_with_sampling_of_the_same_posterior() -> None:
    """A random walk on the same density, written down once more, gives the same moments."""
    old, labels = outcomes(150, 25)
    found = recalibrate(old, labels)
    x = old - found.center

    def log_density(a: float, s: float) -> float:
        z = a + math.exp(s) * x
        prior = -math.log1p((a / 10) ** 2) - (s / 0.5) ** 2 / 2
        return prior + float((labels * z - np.logaddexp(0, z)).sum())

    chance = np.random.default_rng(7)
    at = np.array([found.intercept.mean, math.log(found.slope.mean)])
    now, walk = log_density(*at), []
    for step in range(24_000):
        to = at + chance.normal(size=2) * (0.35, 0.3)
        then = log_density(*to)
        if math.log(chance.random()) < then - now:
            at, now = to, then
        if step >= 2_000:
            walk.append(at)
    intercepts, slopes = np.array(walk)[:, 0], np.exp(np.array(walk)[:, 1])
    assert found.intercept.mean == pytest.approx(intercepts.mean(), abs=0.03)
    assert found.slope.mean == pytest.approx(slopes.mean(), abs=0.03)
    for estimate, drawn in ((found.intercept, intercepts), (found.slope, slopes)):
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.08)


def test_with_many_outcomes_the_prior_is_forgotten() -> None:
    chance = np.random.default_rng(2)
    old = chance.normal(-2, 1.3, 5_000)
    labels = (chance.random(5_000) < 1 / (1 + np.exp(-(0.4 + 0.7 * old)))).astype(np.int64)
    calibration = recalibrate(old, labels).calibration(Calibration(1.0, 0.0))
    assert calibration.a == pytest.approx(0.7, abs=0.08)
    assert calibration.b == pytest.approx(0.4, abs=0.2)


@settings(max_examples=15, deadline=None)
@given(st.integers(10, 60), st.integers(0, 99))
def test_the_slope_is_positive_and_its_interval_holds_it(events: int, seed: int) -> None:
    old, labels = outcomes(200, events, seed)
    found = recalibrate(old, labels)
    assert 0 < found.slope.low <= found.slope.mean <= found.slope.high
    assert found.intercept.low < found.intercept.mean < found.intercept.high
    assert found.slope_fitted == (events >= 20)
    if events < 20:
        assert found.slope.mean == 1
    # What the bank's rows show on average is what is said of them on average.
    mean = (1 / (1 + np.exp(-found.log_odds(old)))).mean()
    assert mean == pytest.approx(events / 200, abs=0.02)


def test_intervals_narrow_with_outcomes() -> None:
    def width(events: int) -> float:
        low, high = recalibrate(*outcomes(10 * events, events)).bounds(-2.5)
        return high - low

    assert width(10) > width(40) > width(160)


@pytest.mark.parametrize(("rows", "events"), [(500, 9), (500, 0), (12, 10), (500, 500)])
def test_too_few_of_either_outcome_are_refused(rows: int, events: int) -> None:
    with pytest.raises(TrainingError, match=r"the rarer outcome came .* 10 are needed"):
        recalibrate(*outcomes(rows, events))


def test_weights_count_by_what_they_are_worth() -> None:
    old, labels = outcomes(400, 40)
    whole = recalibrate(old, labels)
    same = recalibrate(old, labels, np.full(400, 7.0))
    assert (same.intercept, same.slope) == (whole.intercept, whole.slope)
    # Bad rows were sampled ten times as often as good ones: weights take that back.
    weighted = recalibrate(old, labels, np.where(labels == 1, 0.1, 1.0))
    assert weighted.intercept.mean < whole.intercept.mean - 1.5
    uneven = np.linspace(0.5, 2.0, 400)
    assert recalibrate(old, labels, uneven).auc == metrics.auc(labels, old, uneven)
    assert metrics.auc(labels, old, uneven) != whole.auc
    lone = np.where(labels == 1, 0.001, 1.0)
    lone[np.flatnonzero(labels)[0]] = 1.0
    with pytest.raises(TrainingError, match="effective, as rows carry weights"):
        recalibrate(old, labels, lone)
    with pytest.raises(TrainingError, match="weight is not positive"):
        recalibrate(old, labels, np.zeros(400))


def test_a_model_that_ranks_the_wrong_way_is_refused() -> None:
    old, labels = outcomes(300, 30)
    with pytest.raises(TrainingError, match="does not rank your outcomes"):
        recalibrate(-old, labels)


def test_a_label_that_is_undecided_is_refused() -> None:
    old, labels = outcomes(300, 30)
    labels[0] = 2
    with pytest.raises(TrainingError, match="neither 0 nor 1"):
        recalibrate(old, labels)


def test_the_interval_holds_the_pd_rises_and_sends_thinner_files_to_a_person() -> None:
    margins, labels = outcomes(300, 30)
    before = Calibration(1.0, 0.0)
    posterior = recalibrate(margins, labels)
    after = posterior.calibration(before)
    interval = interval_of(posterior, margins, np.full(300, 0.2), before)
    for band in interval.bands:
        assert list(band.margins) == sorted(band.margins)
        assert list(band.low) == sorted(band.low)
        assert list(band.high) == sorted(band.high)
    ask = np.linspace(-9, 4, 200)
    ends = Bounds(interval)
    pds = [after.pd(margin) for margin in ask.tolist()]
    found = [ends.of(margin, pd, 0.2) for margin, pd in zip(ask.tolist(), pds, strict=True)]
    assert all(low <= pd <= high for (low, high, _), pd in zip(found, pds, strict=True))
    within = (ask > margins.min()) & (ask < margins.max())
    assert not all(refer for (_, _, refer), at in zip(found, within, strict=True) if at)
    assert all(ends.of(margin, pd, 0.6)[2] for margin, pd in zip(ask.tolist(), pds, strict=True))


def stated(trained: Trained, *, rows: int = 250, simulated: bool = False) -> Outcomes:
    matrix = trained.matrix[:rows]
    margins = trained.scorer.margins(matrix)
    return Outcomes(
        margins,
        trained.labels[:rows],
        None,
        np.isnan(matrix).mean(axis=1),
        words="loans of a bank",
        as_of="2025-01-31",
        sha256="0" * 64,
        outcome="90 days past due within a year",
        simulated=simulated,
    )


def test_the_folder_has_the_same_trees_names_its_parent_and_loads(trained: Trained) -> None:
    folder = trained.folder.with_name("recalibrated-1")
    made = write(trained.folder, folder, stated(trained), at=TRAINED_AT, key=KEY)
    assert (folder / "model.txt").read_bytes() == (trained.folder / "model.txt").read_bytes()
    scorer = Scorer.load(folder)
    assert scorer.manifest.parameters[PARENT] == trained.folder.name
    assert found(read_folder(folder), ServedModel.of).folder.parent == trained.folder.name
    assert found(read_folder(trained.folder), ServedModel.of).folder.parent == ""
    assert scorer.manifest.data.events == int(trained.labels[:250].sum())
    assert scorer.manifest.calibration == made.posterior.calibration(trained.manifest.calibration)
    text = (folder / "training.json").read_text("utf-8")
    said = evidence.load(text)
    assert "log-normal(0, 0.5)" in said.protocol.calibration
    assert said.environment["recalibrated from"].startswith(f"{trained.folder.name}, manifest SHA")
    assert trained.folder.name in (folder / "card.md").read_text("utf-8")
    assert [line.before for line in made.lines] == sorted(line.before for line in made.lines)
    assert sum(line.events for line in made.lines) == made.posterior.events


def test_figures_are_weighted_as_the_rows_are(trained: Trained) -> None:
    weights = np.linspace(0.5, 2.0, 250)
    rows = dataclasses.replace(stated(trained), weights=weights)
    folder = trained.folder.with_name("recalibrated-weighted")
    made = write(trained.folder, folder, rows, at=TRAINED_AT, key=KEY)
    for measure in (metrics.auc, metrics.ks):
        expected = measure(rows.labels, rows.margins, weights)
        assert made.manifest.metrics[measure.__name__].value == pytest.approx(expected)


def test_what_an_expert_scorecard_denies_its_recalibration_does_not(
    trained: Trained, tmp_path: Path
) -> None:
    parent = tmp_path / "expert-1"
    expert.write(parent, expert_card.SOURCES, made_at=TRAINED_AT, key=KEY)
    margins = np.linspace(-6, 0, 200)
    labels = (np.random.default_rng(3).random(200) < 1 / (1 + np.exp(-margins))).astype(np.int64)
    rows = dataclasses.replace(
        stated(trained), margins=margins, labels=labels, missing=np.zeros(200), outcome=""
    )
    made = write(parent, tmp_path / "bank-1", rows, at=TRAINED_AT, key=KEY)
    assert made.manifest.outcome == "default on a loan"
    assert "no PD is claimed" not in (tmp_path / "bank-1" / "card.md").read_text("utf-8")


def test_ranks_stay_and_reasons_keep_their_order(trained: Trained) -> None:
    folder = trained.folder.with_name("recalibrated-2")
    write(trained.folder, folder, stated(trained), at=TRAINED_AT, key=KEY)
    old, new = trained.scorer.score(trained.matrix), Scorer.load(folder).score(trained.matrix)
    assert (np.argsort(old.totals, kind="stable") == np.argsort(new.totals, kind="stable")).all()
    slope = Scorer.load(folder).manifest.calibration.a / trained.manifest.calibration.a
    assert np.allclose(old.strengths * slope, new.strengths, atol=1e-4)


@pytest.mark.parametrize(
    ("parent", "simulated", "expected"),
    [
        (ModelClass.EXPERT, False, ModelClass.UNVALIDATED),
        (ModelClass.EXPERT, True, ModelClass.SIMULATED),
        (ModelClass.UNVALIDATED, False, ModelClass.UNVALIDATED),
        (ModelClass.SIMULATED, False, ModelClass.SIMULATED),
    ],
)
def test_real_outcomes_make_an_unvalidated_model_unless_trees_or_rows_are_simulated(
    trained: Trained, parent: ModelClass, simulated: bool, expected: ModelClass
) -> None:
    from services.scoring.models.folder import read_folder, write_folder

    stored = read_folder(trained.folder)
    name = f"{parent}-{simulated}".lower()
    source = trained.folder.with_name(f"parent-{name}")
    write_folder(
        source,
        dataclasses.replace(stored.manifest, version=source.name, model_class=parent),
        model=stored.model,
        card=stored.card,
        training=stored.training,
        key=KEY,
    )
    made = write(
        source,
        trained.folder.with_name(f"child-{name}"),
        stated(trained, simulated=simulated),
        at=TRAINED_AT,
        key=KEY,
    )
    assert made.manifest.model_class is expected
