"""Golden rows: what LightGBM itself says of a few rows, for whoever loads the model without it."""

import math

import numpy as np

from services.scoring.models.domain import Golden, Manifest
from services.scoring.models.scorer import TOLERANCE, Scorer
from services.scoring.training.domain import Floats, TrainingError
from services.scoring.trees import lightgbm


def golden_rows(draft: Manifest, trees: str, rows: Floats) -> tuple[Golden, ...]:
    """Rows with their results.

    Args:
        draft: of the model.
        trees: LightGBM's text.
        rows: x features; NaN is missing.

    Raises:
        TrainingError: LightGBM's contributions are others than those that would be served.
    """
    fills = np.array([draft.fills.get(feature.name, math.nan) for feature in draft.features])
    filled = np.where(np.isnan(rows), fills, rows)
    booster = lightgbm.Booster(model_str=trees)
    said = np.asarray(booster.predict(filled, pred_contrib=True, num_threads=1), dtype=np.float64)
    batch = Scorer(draft, trees).score(rows)
    off = np.abs(said - batch.contributions).max(initial=0.0)
    if not off <= TOLERANCE:
        raise TrainingError(
            f"LightGBM's contributions differ by {off:.2g} from those that would be served: report "
            "this model, it must not be used"
        )
    return tuple(
        Golden(
            inputs=tuple(None if math.isnan(x) else x for x in row.tolist()),
            margin=float(batch.margins[at]),
            pd=float(batch.pds[at]),
            score=int(batch.scores[at]),
            grade=batch.grades[at],
            contributions=tuple(said[at].tolist()),
        )
        for at, row in enumerate(rows)
    )
