"""Whole points: exact, fair to each group, and the same whatever the order."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring.models.domain import GRAIN
from services.scoring.models.points import whole

grains = st.integers(-300 * 2**20, 300 * 2**20).map(lambda count: count * GRAIN)
nearly = st.integers(-3, 3).flatmap(
    lambda at: st.sampled_from([at + 0.5, at + 0.5 - GRAIN, at + GRAIN, at - GRAIN, float(at)])
)
groups = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), grains | nearly, max_size=20)


def rounded(base: float, parts: dict[str, float]) -> int:
    return math.floor(base + sum(parts.values()) + 0.5)


@given(grains | nearly, groups)
def test_base_and_points_are_the_score(base: float, parts: dict[str, float]) -> None:
    score = rounded(base, parts)
    start, points = whole(base, parts, score)
    assert start + sum(points.values()) == score
    assert list(points) == list(parts)
    assert start == math.floor(base + 0.5)
    for group, value in parts.items():
        assert abs(points[group] - value) < 1
        assert points[group] * value >= 0


@given(grains, groups, st.randoms())
def test_the_order_does_not_matter(
    base: float, parts: dict[str, float], chance: random.Random
) -> None:
    names = list(parts)
    chance.shuffle(names)
    score = rounded(base, parts)
    turned = {name: parts[name] for name in names}
    assert whole(base, parts, score)[1] == whole(base, turned, score)[1]


def test_the_largest_remainder_is_rounded_up_first() -> None:
    assert whole(600.25, {"a": 1.5, "b": -1.25, "c": 0.25}, 601) == (600, {"a": 2, "b": -1, "c": 0})
    assert whole(600.0, {"b": 0.5, "a": 0.5}, 601) == (600, {"b": 0, "a": 1})


def test_a_score_of_other_points_is_refused() -> None:
    with pytest.raises(ValueError, match="score the row again"):
        whole(600.0, {"a": 0.4}, 601)
