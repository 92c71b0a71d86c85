"""The gate on monotone constraints: a proof over all trees, and a sweep along constrained axes.

The proof: where a tree splits on a constrained feature, no leaf on one side may exceed a leaf on
the other against the constraint; then no row can move the wrong way. The sweep moves real rows
through the cells that the trees make of an axis and looks at the margin itself, whatever the proof
assumes of LightGBM.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from services.scoring.models.domain import ModelFeature
from services.scoring.training.domain import Floats, TrainingError
from services.scoring.training.tuning import margins_of
from services.scoring.trees import lightgbm

BEYOND: Final = 1e18
"""Past every threshold: also where what was withheld is put."""

SLACK: Final = 1e-12
"""Margins are sums of floats."""

MAX_ROWS: Final = 300
MAX_MOVES: Final = 60_000
"""Rows times cells, of all axes together: seconds, also with a thousand trees."""


@dataclass(frozen=True, slots=True)
class Swept:
    """An axis that was swept.

    Args:
        feature: place of the input.
        rows: that were moved along it.
        moves: steps from a cell to the next, over all rows.
    """

    feature: int
    rows: int
    moves: int


def thresholds(booster: lightgbm.Booster) -> dict[int, list[float]]:
    """Where the trees split each numeric feature, ascending."""
    found: dict[int, set[float]] = {}

    def walk(node: dict[str, Any]) -> None:
        if "split_feature" in node:
            if node["decision_type"] == "<=":
                found.setdefault(node["split_feature"], set()).add(node["threshold"])
            walk(node["left_child"])
            walk(node["right_child"])

    for tree in booster.dump_model()["tree_info"]:
        walk(tree["tree_structure"])
    return {feature: sorted(values) for feature, values in found.items()}


def check_monotone(
    booster: lightgbm.Booster, matrix: Floats, features: Sequence[ModelFeature], seed: int
) -> tuple[Swept, ...]:
    """Prove every tree, and sweep up to MAX_ROWS rows.

    Returns:
        What was swept.

    Raises:
        TrainingError: the margin moves the wrong way somewhere, or a tree cannot be proven.
    """
    _prove(booster, features)
    splits = {at: s for at, s in thresholds(booster).items() if features[at].monotone}
    cells = sum(len(each) + 1 for each in splits.values())
    number = min(MAX_ROWS, max(1, MAX_MOVES // max(1, cells)), len(matrix))
    rows = matrix[np.random.default_rng(seed).choice(len(matrix), number, replace=False)]
    swept = []
    for at, edges in splits.items():
        middle = (np.array(edges[:-1]) + np.array(edges[1:])) / 2
        axis = np.concatenate([[-BEYOND], middle, [BEYOND]])
        moved = np.repeat(rows, len(axis), axis=0)
        moved[:, at] = np.tile(axis, len(rows))
        steps = np.diff(margins_of(booster, moved).reshape(len(rows), len(axis)), axis=1)
        worst = float((features[at].monotone * steps).min(initial=0.0))
        if worst < -SLACK:
            raise TrainingError(_refusal(features[at], f"by {worst:.3g}"))
        swept.append(Swept(at, number, steps.size))
    return tuple(swept)


def _prove(booster: lightgbm.Booster, features: Sequence[ModelFeature]) -> None:
    def walk(node: dict[str, Any]) -> tuple[float, float]:
        """The lowest and the highest leaf below a node."""
        if "split_feature" not in node:
            return node["leaf_value"], node["leaf_value"]
        left, right = walk(node["left_child"]), walk(node["right_child"])
        feature = features[node["split_feature"]]
        rise = right[0] - left[1] if feature.monotone > 0 else left[0] - right[1]
        if feature.monotone and rise < -SLACK:
            raise TrainingError(_refusal(feature, f"in a tree by {rise:.3g}"))
        return min(left[0], right[0]), max(left[1], right[1])

    for tree in booster.dump_model()["tree_info"]:
        walk(tree["tree_structure"])


def _refusal(feature: ModelFeature, how: str) -> str:
    return (
        f"{feature.name} moves the margin {how} against its constraint: the model must not be used"
    )
