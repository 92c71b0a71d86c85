"""Small models for tests of what rests on a loaded model, trained without any evaluation."""

from collections.abc import Sequence

import numpy as np

from services.scoring.models.domain import (
    DEFAULT_GRADES,
    FORMAT,
    Bins,
    Calibration,
    DataStatement,
    GradeCut,
    Manifest,
    ModelClass,
    ModelFeature,
    Reference,
    Scaling,
    tree_names,
)
from services.scoring.models.scorer import Floats, Scorer
from services.scoring.training.domain import Ints
from services.scoring.trees import lightgbm


def model_of(
    matrix: Floats,
    labels: Ints,
    features: Sequence[ModelFeature],
    *,
    trees: int = 40,
    depth: int = 3,
    seed: int = 1,
    grades: tuple[GradeCut, ...] = DEFAULT_GRADES,
) -> Scorer:
    """A model under its features' constraints; its calibration is the margin itself."""
    parameters = {
        "objective": "binary",
        "num_leaves": 2**depth,
        "max_depth": depth,
        "min_data_in_leaf": 5,
        "monotone_constraints": [feature.monotone for feature in features],
        "seed": seed,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(matrix, labels, feature_name=tree_names(features), params=parameters)
    booster = lightgbm.train(parameters, data, trees)
    manifest = Manifest(
        format=FORMAT,
        version="made-up",
        model_class=ModelClass.SIMULATED,
        outcome="",
        files={},
        feature_version=1,
        reason_version=1,
        features=tuple(features),
        fills={},
        calibration=Calibration(1.0, 0.0),
        scaling=Scaling(),
        grades=grades,
        reference=Reference("made up", len(labels), {f.name: 0.0 for f in features}),
        data=DataStatement("", len(labels), int(labels.sum()), "", "", ""),
        seed=seed,
        parameters={},
        metrics={},
        bins={
            feature.name: Bins(_deciles(column), (), 0.0, 0.0)
            for feature, column in zip(features, matrix.T, strict=True)
        },
        golden=(),
    )
    return Scorer(manifest, booster.model_to_string())


def _deciles(column: Floats) -> tuple[float, ...]:
    """The outer deciles and the median of what was shown."""
    shown = column[np.abs(column) < 1e17]
    return tuple(np.unique(np.quantile(shown, [0.1, 0.5, 0.9])).tolist()) if len(shown) else ()
