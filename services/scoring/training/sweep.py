"""The gate on monotone constraints: every cell that trees make of an axis, at real rows."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from services.scoring.models.domain import ModelFeature
from services.scoring.training.domain import Floats, TrainingError
from services.scoring.training.evaluation import margins_of
from services.scoring.trees import lightgbm

BEYOND: Final = 1e18
"""Past every threshold: also where what was withheld is put."""

SLACK: Final = 1e-12
"""Margins are sums of floats."""

MAX_ROWS: Final = 300


def thresholds(booster: lightgbm.Booster) -> dict[int, list[float]]:
    """Where the trees split each feature, ascending."""
    found: dict[int, set[float]] = {}

    def walk(node: dict[str, Any]) -> None:
        if "split_feature" in node:
            found.setdefault(node["split_feature"], set()).add(node["threshold"])
            walk(node["left_child"])
            walk(node["right_child"])

    for tree in booster.dump_model()["tree_info"]:
        walk(tree["tree_structure"])
    return {feature: sorted(values) for feature, values in found.items()}


def check_monotone(
    booster: lightgbm.Booster, matrix: Floats, features: Sequence[ModelFeature], seed: int
) -> None:
    """Move each constrained feature through all cells of its axis, at up to MAX_ROWS rows.

    Raises:
        TrainingError: the margin moves the wrong way somewhere.
    """
    rows = matrix
    if len(rows) > MAX_ROWS:
        rows = rows[np.random.default_rng(seed).choice(len(rows), MAX_ROWS, replace=False)]
    for at, splits in thresholds(booster).items():
        direction = features[at].monotone
        if direction == 0:
            continue
        edges = np.array(splits)
        cells = np.concatenate([[-BEYOND], (edges[:-1] + edges[1:]) / 2, [BEYOND]])
        moved = np.repeat(rows, len(cells), axis=0)
        moved[:, at] = np.tile(cells, len(rows))
        steps = np.diff(margins_of(booster, moved).reshape(len(rows), len(cells)), axis=1)
        worst = float((direction * steps).min(initial=0.0))
        if worst < -SLACK:
            raise TrainingError(
                f"{features[at].name} moves the margin by {worst:.3g} against its constraint: "
                "the model must not be used"
            )
