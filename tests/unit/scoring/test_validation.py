import dataclasses
from typing import Any

import numpy as np
import pytest

from services.scoring.models.domain import (
    DEFAULT_GRADES,
    SCORE,
    Calibration,
    Metric,
    Scaling,
)
from services.scoring.training.app import bins
from services.scoring.training.comparison import periods_of
from services.scoring.training.evidence import Figure
from services.scoring.training.table import Labelled
from services.scoring.training.validation import (
    FIT,
    UNFIT,
    WATCH,
    Shift,
    Validation,
    validate,
    verdict_of,
)

CHANCE = np.random.default_rng(5)
ROWS = 1600


@dataclasses.dataclass(frozen=True)
class Manifested:
    """What validation reads of a manifest."""

    metrics: dict[str, Metric]
    calibration: Calibration = dataclasses.field(default_factory=lambda: Calibration(1.0, 0.0))
    scaling: Scaling = dataclasses.field(default_factory=Scaling)
    grades: Any = DEFAULT_GRADES


def measured(log_odds: Any, told: Any, auc: float = 0.8) -> Validation:
    labels = (CHANCE.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(np.int64)
    days = np.linspace(14_000, 15_800, ROWS).astype(np.int64)
    labelled = Labelled(
        np.arange(ROWS), labels, None, days, None, "1", {"half": ["a", "b"] * (ROWS // 2)}, {}, ()
    )
    manifest: Any = Manifested({"auc": Metric(auc)})
    return validate(manifest, told, {SCORE: 0.01, "x": 0.02}, labelled, seed=1, approved_below=0.1)


LOG_ODDS = CHANCE.normal(-2, 1.2, ROWS)


def test_a_model_that_says_the_truth_is_fit() -> None:
    found = measured(LOG_ODDS, LOG_ODDS, 0.78)
    assert (found.n, found.rows) == (ROWS, ROWS)
    assert found.observed == pytest.approx(found.mean_pd, rel=0.1)
    assert found.figures["calibration_slope"].value == pytest.approx(1, abs=0.2)
    assert found.figures["gini"].value == pytest.approx(2 * found.figures["auc"].value - 1)
    assert sum(each.rows for each in found.grades) == ROWS
    assert [each.rows for each in found.segments["half"]] == [ROWS // 2] * 2
    assert [each.value for each in found.periods] == [
        "2008",
        "2009",
        "2010",
        "2011",
        "2012",
        "2013",
    ]
    assert found.verdict.verdict == FIT


def test_pds_that_are_too_low_or_too_far_apart_are_told() -> None:
    low = measured(LOG_ODDS, LOG_ODDS - 1.5, 0.78)
    assert low.verdict.verdict == UNFIT
    assert "too low" in low.verdict.reasons[0]
    far = measured(LOG_ODDS, LOG_ODDS * 3, 0.78)
    assert far.verdict.verdict == UNFIT
    assert any("too far apart" in reason for reason in far.verdict.reasons)


def test_a_model_that_knows_nothing_is_unfit() -> None:
    found = measured(LOG_ODDS, CHANCE.permutation(LOG_ODDS))
    assert found.verdict.verdict == UNFIT
    assert found.verdict.reasons[0].startswith(("it may not rank", "it ranks much worse"))


@pytest.mark.parametrize(
    ("auc", "slope", "psi", "ratio", "events", "verdict"),
    [
        (0.80, 1.0, 0.02, 1.0, 500, FIT),
        (0.80, 1.0, 0.12, 1.0, 500, WATCH),
        (0.80, 1.0, 0.30, 1.0, 500, UNFIT),
        (0.74, 1.0, 0.02, 1.0, 500, WATCH),
        (0.65, 1.0, 0.02, 1.0, 500, UNFIT),
        (0.80, 0.7, 0.02, 1.0, 500, WATCH),
        (0.80, 0.3, 0.02, 1.0, 500, UNFIT),
        (0.80, 1.0, 0.02, 1.5, 500, WATCH),
        (0.80, 1.0, 0.02, 3.0, 500, UNFIT),
        (0.80, 1.0, 0.02, 1.0, 12, WATCH),
    ],
)
def test_the_verdict_follows_from_the_figures(
    auc: float, slope: float, psi: float, ratio: float, events: int, verdict: str
) -> None:
    manifest: Any = Manifested({"auc": Metric(0.80)})
    figures = {
        "auc": Figure(auc, auc - 0.02, auc + 0.02),
        "calibration_slope": Figure(slope, slope - 0.05, slope + 0.05),
    }
    found = verdict_of(manifest, figures, psi, ratio, events)
    assert found.verdict == verdict
    assert len(found.reasons) == 1


def test_psi_is_zero_on_the_same_rows_and_grows_with_the_shift() -> None:
    values = CHANCE.normal(0, 1, ROWS)
    values[:160] = np.nan

    def psi(found: Any, weights: Any = None) -> float:
        shift = Shift(bins(values))
        for part in (slice(0, 1000), slice(1000, None)):
            shift.add(found[part], (np.ones(len(found)) if weights is None else weights)[part])
        return shift.psi

    assert psi(values) == pytest.approx(0, abs=1e-12)
    assert psi(values + 0.3) < psi(values + 1)
    assert psi(np.where(np.isnan(values), 0, values)) > 0.1
    assert psi(np.r_[values, values + 9], np.r_[np.ones(ROWS), np.zeros(ROWS)]) < 1e-12


def test_periods_are_years_or_quarters_where_there_are_few() -> None:
    assert periods_of(np.array([0, 400, 1200])) == ["1970", "1971", "1973"]
    assert periods_of(np.array([0, 40, 100])) == ["1970Q1", "1970Q1", "1970Q2"]
