"""Plots: axes that show zero, gaps that stay gaps, text that cannot leave its element."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.reports.plots import Band, Line, monthly, nice_ticks, scale, signed_bar

SVG = "{http://www.w3.org/2000/svg}"
MONTHS = [f"{2023 + at // 12}-{at % 12 + 1:02}" for at in range(36)]
numbers = st.integers(-(10**15), 10**15).map(lambda fen: fen / 100)


@given(low=numbers, high=numbers)
def test_ticks_are_round_and_reach_around_the_values(low: float, high: float) -> None:
    low, high = sorted((low, high))
    ticks = nice_ticks(min(0.0, low), max(0.0, high))
    assert 0.0 in ticks
    assert ticks == sorted(set(ticks))
    assert ticks[0] <= low or low >= 0
    assert ticks[-1] >= high - (ticks[-1] - ticks[0]) * 1e-8 or high <= 0
    assert 2 <= len(ticks) <= 9


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("kind", ["bars", "line"])
def test_a_plot_is_well_formed_and_stays_within_its_frame(kind: str, wide: bool) -> None:
    lines = [Line("a <b> & 'c'", [None, -3.0, 5.0] * 12), Line('d"', [7.5] * 36)]
    root = ElementTree.fromstring(monthly(kind, MONTHS, lines, "万元", 'x "y" <z>', wide=wide))
    assert root.get("aria-label") == 'x "y" <z>'
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for box in root.iter(f"{SVG}rect"):
        assert 0 <= float(box.get("x", -1)) <= width
        assert 0 <= float(box.get("y", -1)) <= height
        assert float(box.get("height", -1)) >= 0
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert "a <b> & 'c'" in texts


def test_a_month_without_a_record_is_a_gap_not_a_zero() -> None:
    values = [1.0, 2.0, None, 4.0, 5.0] + [None] * 31
    root = ElementTree.fromstring(monthly("line", MONTHS, [Line("a", values)], "", "x"))
    runs = [line.get("points", "").split() for line in root.iter(f"{SVG}polyline")]
    assert [len(run) for run in runs] == [2, 2]


def test_the_score_stands_in_the_band_of_its_grade() -> None:
    bands = [Band("C", 0, 100), Band("B", 100, 200), Band("A", 200, 300)]
    root = ElementTree.fromstring(scale(150, bands, (120, 210), "x", "B"))
    boxes = {box.get("fill"): box for box in root.iter(f"{SVG}rect")}
    mine = boxes["#1f4e79"]
    start = float(mine.get("x", 0))
    mark = next(root.iter(f"{SVG}path")).get("d", "")
    tip = float(re.match(r"M([\d.]+)", mark).group(1)) + 6  # type: ignore[union-attr]  # it begins so
    assert start <= tip <= start + float(mine.get("width", 0))


@pytest.mark.parametrize("score", [-500.0, 5000.0])
def test_a_score_beyond_the_scale_is_drawn_at_its_end(score: float) -> None:
    bands = [Band("B", 100, 200), Band("A", 200, 300)]
    ElementTree.fromstring(scale(score, bands, None, "x", "A"))


def test_bars_go_to_the_side_of_their_sign() -> None:
    sides = []
    for points in (-5.0, 5.0):
        root = ElementTree.fromstring(signed_bar(points, 10.0))
        sides.append(float(next(root.iter(f"{SVG}rect")).get("x", 0)))
    assert sides[0] < 60 <= sides[1]
