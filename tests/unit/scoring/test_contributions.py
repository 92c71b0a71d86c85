"""Contributions are those of LightGBM's `pred_contrib`, whatever the trees and whatever the row."""

import math
import re
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scoring.models import contributions
from services.scoring.models.contributions import Floats, parse, tables
from services.scoring.models.domain import GRAIN, ModelFolderError
from services.scoring.models.intervals import laid_out
from services.scoring.models.kernel import CHUNK, Kernel

EXACT = 1e-9
TRAINING = {
    "objective": "binary",
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
    "min_data_in_bin": 1,
    "min_data_per_group": 1,
    "cat_smooth": 0.1,
    "cat_l2": 0.1,
}
ODD = (
    *(math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-36, -1e-36, 1e-35, -1e-35, 1e-34, 5e-324),
    *(1e18, -1e18, 1e300, -1e300, 2.0**31, 2.0**32, 2.0**63, -(2.0**31)),
    *(-0.5, -1.0, 0.5, 1.0, 2.999999, 31.0, 32.0, 33.5, 64.0, 1e6),
)
"""Values at which reading may differ: missing, tiny, withheld, no category, part of one."""


def explained(text: str, rows: Floats) -> Floats:
    """Contributions of rows from a model's text."""
    parts = tables(parse(text))
    width = parts["features"]
    kernel = Kernel(
        parts
        | laid_out(None)
        | {
            "groups": 1,
            "fills": [math.nan] * width,
            "group_of": [0] * width,
            "means": [0.0],
            "slope": 1.0,
            "intercept": 0.0,
            "factor": 70.0,
            "offset": 400.0,
            "grain": GRAIN,
            "base": 0.0,
            "least": 0.5,
            "grades": 1,
            "cuts": [0.0],
        }
    )
    return kernel.score(np.array(rows, dtype=np.float64))[:, : width + 1]


def said(text: str, rows: Floats) -> Floats:
    """What LightGBM says of them."""
    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(rows, pred_contrib=True, num_threads=1))


def column(kind: str, rows: int, chance: np.random.Generator) -> Floats:
    match kind:
        case "normal":
            values = chance.normal(size=rows)
        case "narrow":  # singles that are one bit apart
            single = np.float32(chance.normal())
            values = single + chance.integers(0, 9, rows) * np.spacing(single).astype(np.float64)
        case "counts":
            values = chance.poisson(1.0, rows).astype(np.float64)
        case "withheld":
            values = np.where(chance.random(rows) < 0.3, 1e18, chance.normal(size=rows))
        case "category":
            values = chance.integers(0, 70, rows).astype(np.float64)
        case "few":
            values = chance.integers(-1, 4, rows).astype(np.float64)
        case _:
            values = np.full(rows, 7.0)
    return np.where(chance.random(rows) < chance.choice([0.0, 0.2]), math.nan, values)


def made(
    seed: int, kinds: list[str], rows: int, trees: int, settings: dict[str, Any]
) -> tuple[str, Floats]:
    """A model's text, and rows to explain."""
    chance = np.random.default_rng(seed)
    matrix = np.column_stack([column(kind, rows, chance) for kind in kinds])
    weight = np.nan_to_num(np.where(np.abs(matrix) > 1e17, 3.0, matrix), nan=-1.0)
    risk = weight @ chance.normal(size=len(kinds)) + weight[:, 0] * weight[:, -1]
    labels = (risk + chance.normal(size=rows) > np.median(risk)).astype(int)
    categorical = [at for at, kind in enumerate(kinds) if kind in ("category", "few")]
    stated = TRAINING | settings | {"seed": seed}
    data = lightgbm.Dataset(matrix, labels, categorical_feature=categorical, params=stated)
    booster = lightgbm.train(stated, data, trees)
    text = booster.model_to_string()
    asked = [matrix[: rows // 2]]
    thresholds = contributions.splits(parse(text))
    for at in range(len(kinds)):
        cuts = thresholds.get(at, np.zeros(0))
        values = np.concatenate(
            [ODD, cuts, np.nextafter(cuts, math.inf), np.nextafter(cuts, -math.inf)]
        )
        odd = matrix[chance.integers(0, rows, len(values))]
        odd[:, at] = values
        asked.append(odd)
    asked.append(chance.choice(ODD, (50, len(kinds))))
    return text, np.concatenate(asked)


KINDS = st.sampled_from(["normal", "narrow", "counts", "withheld", "category", "few", "constant"])
SETTINGS = st.fixed_dictionaries(
    {
        "max_depth": st.integers(1, 8),
        "num_leaves": st.sampled_from([2, 4, 8, 31]),
        "min_data_in_leaf": st.sampled_from([1, 5, 30]),
        "use_missing": st.booleans(),
        "zero_as_missing": st.booleans(),
        "max_bin": st.sampled_from([3, 20, 255]),
        "max_cat_to_onehot": st.sampled_from([1, 4, 80]),
        "boosting": st.sampled_from(["gbdt", "gbdt", "dart"]),
        "data_sample_strategy": st.sampled_from(["bagging", "goss"]),
        "monotone": st.booleans(),
        "boost_from_average": st.booleans(),
    }
)


@settings(max_examples=150)
@given(
    st.integers(0, 2**31 - 1),
    st.lists(KINDS, min_size=1, max_size=6),
    st.integers(30, 400),
    st.integers(1, 8),
    SETTINGS,
)
def test_they_are_those_of_lightgbm(
    seed: int, kinds: list[str], rows: int, trees: int, settings: dict[str, Any]
) -> None:
    stated = dict(settings)
    if stated.pop("monotone"):
        stated["monotone_constraints"] = [
            0 if kind in ("category", "few") else (-1) ** at for at, kind in enumerate(kinds)
        ]
    text, asked = made(seed, kinds, rows, trees, stated)
    expected, found = said(text, asked), explained(text, asked)
    assert np.abs(found - expected).max() <= EXACT
    margins = np.asarray(lightgbm.Booster(model_str=text).predict(asked, raw_score=True))
    assert np.abs(found.sum(axis=1) - margins).max() <= EXACT
    at = seed % len(asked)
    assert explained(text, asked[at : at + 1]).tobytes() == found[at].tobytes()


def test_a_way_as_long_as_a_pattern_is_explained() -> None:
    """So are trees of all sizes in between: blocks of all kinds."""
    for depth in range(1, contributions.BITS + 1):
        text, asked = made(
            depth, ["normal"] * 9, 600, 5, {"max_depth": depth, "num_leaves": 2**depth}
        )
        longest = max(len(way) for tree in parse(text).trees for way in ways(tree))
        assert longest == depth
        assert np.abs(explained(text, asked) - said(text, asked)).max() <= EXACT


def ways(tree: contributions.Tree) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    stack: list[tuple[tuple[int, ...], int]] = [((), 0)] if tree.nodes else []
    while stack:
        way, at = stack.pop()
        if at < 0:
            found.append(way)
        else:
            node = tree.nodes[at]
            stack += [((*way, at), node.left), ((*way, at), node.right)]
    return found


def test_every_way_of_reading_a_value_occurs() -> None:
    """Else the tests before might not show what they say."""
    seen = set()
    for seed in range(6):
        for zero_as_missing, use_missing in ((False, True), (True, True), (False, False)):
            text, _ = made(
                seed,
                ["normal", "counts", "category", "few"],
                300,
                8,
                {"zero_as_missing": zero_as_missing, "use_missing": use_missing},
            )
            seen |= {node.column.kind for tree in parse(text).trees for node in tree.nodes}
    assert seen == set(range(6))


@pytest.mark.parametrize("rows", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_rows_have_the_same_bits_in_a_table_of_any_length(rows: int) -> None:
    text, asked = made(3, ["normal", "category", "counts"], 400, 20, {"max_depth": 4})
    table = np.resize(asked, (200, 3))
    expected = explained(text, table)
    assert explained(text, table[:rows]).tobytes() == expected[:rows].tobytes()


def test_trees_without_a_split_are_a_constant() -> None:
    text, asked = made(1, ["constant", "constant"], 40, 3, {})
    assert not any(tree.nodes for tree in parse(text).trees)
    assert np.abs(explained(text, asked) - said(text, asked)).max() <= EXACT


@pytest.mark.parametrize(
    ("training", "remedy"),
    [
        ({"linear_tree": True}, "train without linear_tree"),
        ({"objective": "multiclass", "num_class": 3}, "train on two"),
        (
            {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
            "train with boosting=gbdt",
        ),
        ({"num_leaves": 60, "max_depth": 30, "min_data_in_leaf": 1}, "max_depth=8"),
    ],
)
def test_what_cannot_be_exact_is_refused(training: dict[str, Any], remedy: str) -> None:
    chance = np.random.default_rng(5)
    matrix = chance.normal(size=(300, 2))
    labels = (matrix.sum(axis=1) + 2 * np.sin(9 * matrix[:, 0]) > 0).astype(int)
    stated = TRAINING | training
    text = lightgbm.train(stated, lightgbm.Dataset(matrix, labels), 3).model_to_string()
    with pytest.raises(ModelFolderError, match=re.escape(remedy)):
        tables(parse(text))


def test_tables_that_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = made(2, ["normal"] * 4, 300, 5, {"max_depth": 4})
    monkeypatch.setattr(contributions, "MAX_TABLES", 300)
    with pytest.raises(ModelFolderError, match="fewer or shallower"):
        tables(parse(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r"\nend of trees", r"\nend"),
        (r"\nleft_child=\S+", r"\nleft_child=0"),
        (r"\nleft_child=\S+", r"\nleft_child=-1"),
        (r"\nright_child=-?\d+", r"\nright_child=99"),
        (r"\nthreshold=\S+", r"\nthreshold=nan"),
        (r"\nthreshold=\S+", r"\nthreshold="),
        (r"\nthreshold=\S+ ", r"\nthreshold="),
        (r"\nleaf_value=\S+ ", r"\nleaf_value="),
        (r"\nleaf_value=\S+", r"\nleaf_value=ten"),
        (r"\nleaf_count=\S+", r"\nleaf_count=0"),
        (r"\ninternal_count=\S+", r"\ninternal_count=7"),
        (r"\nsplit_feature=\S+", r"\nsplit_feature=3"),
        (r"\nsplit_feature=\S+", r"\nsplit_feature=-1"),
        (r"\ndecision_type=\S+", r"\ndecision_type=12"),
        (r"\ndecision_type=\S+", r"\ndecision_type=1"),
        (r"\nmax_feature_idx=2", r"\nmax_feature_idx=3"),
        (r"\nfeature_names=\S+ ", r"\nfeature_names="),
        (r"\nleaf_count=[^\n]*", r""),
        (r".*", r"tree"),
    ],
)
def test_a_damaged_text_is_refused(old: str, new: str) -> None:
    text, _ = made(4, ["normal", "counts", "normal"], 300, 3, {"max_depth": 3})
    broken, changes = re.subn(old, new, text, count=1, flags=re.DOTALL)
    assert changes
    with pytest.raises(ModelFolderError, match=r"restore the folder|train them anew"):
        tables(parse(broken))
