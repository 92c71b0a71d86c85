"""Intervals of PDs: they hold the PD, never fall, cover what they promise, widen for thin files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.models.domain import Calibration, Interval
from services.scoring.training.domain import Floats, Ints
from services.scoring.training.intervals import THICKNESS, fit_interval
from tests.unit.scoring.bounds import Bounds

AFFINE = Calibration(1.0, 0.0)


def rows(seed: int, number: int, weighted: bool = False) -> tuple[Floats, Ints, Floats, Floats]:
    """Margins that are log-odds, outcomes, weights, shares of missing inputs."""
    chance = np.random.default_rng(seed)
    margins = chance.normal(-1.5, 1.5, number)
    labels = (chance.random(number) < 1 / (1 + np.exp(-margins))).astype(np.int64)
    missing = np.where(chance.random(number) < 0.05, 0.4, 0.02)
    weights = chance.random(number) + 0.5 if weighted else np.ones(number)
    return margins, labels, weights, missing


def along(interval: Interval, missing: float) -> list[tuple[float, float, bool]]:
    """The interval along the margin."""
    bounds = Bounds(interval)
    return [
        bounds.of(margin, AFFINE.pd(margin), missing) for margin in np.linspace(-8, 5, 300).tolist()
    ]


@given(st.integers(0, 10_000), st.integers(1, 400), st.booleans())
@settings(max_examples=30, deadline=None)
def test_they_hold_the_pd_and_never_fall(seed: int, number: int, weighted: bool) -> None:
    interval = fit_interval(*rows(seed, number, weighted), AFFINE)
    assert [band.missing_to for band in interval.bands] == list(THICKNESS)
    for missing in (0.0, 0.1, 0.3, 0.9):
        found = along(interval, missing)
        for margin, (low, high, _) in zip(np.linspace(-8, 5, 300).tolist(), found, strict=True):
            assert 0 <= low <= AFFINE.pd(margin) <= high <= 1
        assert [low for low, _, _ in found] == sorted(low for low, _, _ in found)
        assert [high for _, high, _ in found] == sorted(high for _, high, _ in found)


@pytest.mark.parametrize("weighted", [False, True])
def test_they_cover_the_true_pd(weighted: bool) -> None:
    """Of the rows' true PDs, which made-up rows have; those of a bin differ a little."""
    covered = []
    for seed in range(20):
        interval = fit_interval(*rows(seed, 3_000, weighted), AFFINE)
        band = interval.bands[0]
        chance = np.random.default_rng(1_000 + seed)
        margins = chance.normal(-1.5, 1.5, 400)
        at = np.maximum(np.searchsorted(band.margins, margins, "right") - 1, 0)
        true = 1 / (1 + np.exp(-margins))
        covered.append(
            ((np.array(band.low)[at] <= true) & (true <= np.array(band.high)[at])).mean()
        )
    assert np.mean(covered) > 0.93


def test_a_thin_file_is_less_certain_and_one_that_nobody_knew_goes_to_a_person() -> None:
    interval = fit_interval(*rows(3, 4_000), AFFINE)
    bounds = Bounds(interval)
    for margin in (-3.0, -1.0, 1.0):
        widths = []
        for missing in (0.0, 0.4):
            low, high, _ = bounds.of(margin, AFFINE.pd(margin), missing)
            widths.append(high - low)
        assert widths[1] > widths[0]
        assert not bounds.of(margin, AFFINE.pd(margin), 0.0)[2]
        assert bounds.of(margin, AFFINE.pd(margin), 0.9) == (0.0, 1.0, True)


def test_more_rows_make_them_narrower() -> None:
    means = []
    for number in (300, 3_000, 30_000):
        found = along(fit_interval(*rows(5, number), AFFINE), 0.0)[100:250]
        means.append(np.mean([high - low for low, high, _ in found]))
    assert means[0] > means[1] > means[2]


def test_rows_of_one_margin_are_in_one_bin() -> None:
    margins = np.repeat([-2.0, 0.0, 2.0], 200)
    labels = np.r_[np.arange(200) < 10, np.arange(200) < 80, np.arange(200) < 160].astype(np.int64)
    interval = fit_interval(margins, labels, np.ones(600), np.zeros(600), AFFINE)
    assert interval.bands[0].margins == (-2.0, 0.0, 2.0)
    for share, low, high in zip(
        (0.05, 0.4, 0.8), interval.bands[0].low, interval.bands[0].high, strict=True
    ):
        assert low < share < high
        assert high - low < 0.16
