import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from services.scoring.models.domain import InputSource, ModelFeature, Words
from services.scoring.models.table_reasons import TableReasoner, number

FEATURES = (
    ModelFeature("term", "term", "number", 0, InputSource.TABLE, zh="期限", en="Term"),
    ModelFeature("rate", "price", "percent", 1, InputSource.TABLE, zh="利率", en="Rate"),
    ModelFeature("fee {x}", "price", "number", 0, InputSource.TABLE),
    ModelFeature(
        "state",
        "state",
        "category",
        0,
        InputSource.TABLE,
        ("CA", "NY", "(other)"),
        2,
        "州",
        "State",
    ),
    ModelFeature("new", "new", "yes or no", 0, InputSource.TABLE, zh="新", en="New"),
    ModelFeature("founded", "founded", "days before applied, day first", 0, InputSource.TABLE),
)


@dataclass(frozen=True)
class Manifested:
    """What a reasoner reads of a manifest."""

    features: tuple[ModelFeature, ...]
    reference: Any
    words: dict[str, Words]
    groups: tuple[str, ...] = ("term", "price", "state", "new", "founded")


@dataclass(frozen=True)
class Points:
    feature_points: Any
    points: Any = dataclasses.field(default_factory=dict)


def said(points: list[float], values: list[float], *, zh: bool = False) -> list[str | None]:
    manifest: Any = Manifested(
        FEATURES,
        Points(None, {f.name: 0.0 for f in FEATURES}),
        {"price": Words("价格", "The price"), "term": Words("贷款期限", "The loan's term")},
    )
    batch: Any = Points(np.array([points]))
    found = TableReasoner(manifest, zh=zh).words(batch, np.array([values]), 4)
    return [texts[0] for texts in found]


def test_reasons_are_groups_by_strength_with_values_and_direction() -> None:
    points, values = [-42.4, 10, 20, -3, 1.2, 0.2], [36.0, 12.5, 7.0, 0.0, 1.0, 400.0]
    assert said(points, values) == [
        "The loan's term lowers the score by 42 points (36)",
        "The price raises the score by 30 points (fee {x}: 7; Rate: 12.5%)",
        "State lowers the score by 3 points (CA)",
        "New raises the score by 1 point (yes)",
    ]
    assert said(points, values, zh=True)[:3] == [
        "贷款期限使评分降低42分（36）",
        "价格使评分提高30分（fee {x} 7，利率 12.5%）",
        "州使评分降低3分（CA）",
    ]


def test_a_group_names_only_columns_that_pushed_its_way() -> None:
    first, *others = said([0, 30, -5, 0, 0, 0], [1, 12.0, 7, 0, 0, 0])
    assert first == "The price raises the score by 25 points (Rate: 12%)"
    assert others == [None, None, None]


@pytest.mark.parametrize(
    ("at", "value", "en", "zh"),
    [
        (0, math.nan, "missing", "缺失"),
        (3, 2.0, "another value", "其他"),
        (4, 0.0, "no", "否"),
        (5, 400.0, "400 days before applied", "applied前400天"),
        (5, -3.0, "3 days after applied", "applied后3天"),
        (0, 1234567.891, "1234568", "1234568"),
        (0, 0.00012345, "0.0001234", "0.0001234"),
    ],
)
def test_values_in_words(at: int, value: float, en: str, zh: str) -> None:
    points, values = [0.0] * 6, [0.0] * 6
    points[at], values[at] = 9.0, value
    assert str(said(points, values)[0]).endswith(f"({en})")
    assert str(said(points, values, zh=True)[0]).endswith(f"（{zh}）")


def test_numbers() -> None:
    assert [number(x) for x in (0.0, -2.0, 2.5, 12345.6, 1e16, 1e-7)] == [
        "0", "-2", "2.5", "12346", "1.000e+16", "1e-07",
    ]  # fmt: skip  # a table, line by line
