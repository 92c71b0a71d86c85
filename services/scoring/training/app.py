"""Train a model and write its folder.

Invariants: the same table and spec give the same trees, byte by byte; a model whose constrained
feature moves the wrong way, or that does not rank out of fold, is not written.
"""

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from services.scoring.models.domain import (
    FORMAT,
    Bins,
    DataStatement,
    Golden,
    Manifest,
    ModelFeature,
    Reference,
)
from services.scoring.models.folder import write_folder
from services.scoring.models.inputs import PLATFORM, Inputs
from services.scoring.models.scorer import ScoreBatch, Scorer
from services.scoring.models.signing import ModelKey
from services.scoring.training import evidence, metrics
from services.scoring.training.card import card
from services.scoring.training.domain import Floats, Ints, Progress, Spec
from services.scoring.training.evaluation import cross_validate, fit
from services.scoring.training.evidence import (
    Evidence,
    Figure,
    OutcomeStatement,
    Protocol,
    Sampling,
)
from services.scoring.training.golden import golden_rows
from services.scoring.training.sweep import BEYOND, check_monotone

GOLDEN_ROWS: Final = 8
MAX_BINS: Final = 10
_CHOSEN: Final = (
    "none; the defaults were chosen by their results on the 123 firms of CUMCM 2020 C: figures "
    "that are measured on those firms are therefore optimistic"
)
SCORE: Final = "score"
"""Name of the score among the bins."""


def train(
    matrix: Floats,
    labels: Ints,
    spec: Spec,
    folder: Path,
    *,
    trained_at: dt.datetime,
    key: ModelKey,
    inputs: Inputs = PLATFORM,
    progress: Progress | None = None,
) -> Manifest:
    """Train, evaluate, calibrate, check and write a model.

    Args:
        matrix: rows x features, as `features.registry.encode` gives them; NaN is missing.
        labels: 1 is the outcome.
        spec: how.
        folder: to write; its name is the model's version.
        trained_at: aware.
        key: that signs the model.
        inputs: of the columns.
        progress: told of each fold that is done.

    Returns:
        The manifest of the folder.

    Raises:
        TrainingError: there must not be a model of this table.
        FileExistsError: the folder exists.
    """
    features = inputs.features
    matrix = np.ascontiguousarray(matrix, dtype=np.float64)
    labels = np.ascontiguousarray(labels, dtype=np.int64)
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists: a model's version never changes, take another name"
        )
    report = cross_validate(matrix, labels, features, spec, progress)
    calibration = metrics.platt(report.margins, labels)
    booster = fit(matrix, labels, features, spec, len(labels))
    check_monotone(booster, matrix, features, spec.seed)
    draft = Manifest(
        format=FORMAT,
        version=folder.name,
        model_class=spec.model_class,
        outcome=spec.outcome,
        files={},
        feature_version=inputs.feature_version,
        reason_version=inputs.reason_version,
        features=features,
        fills=_fills(matrix, features),
        calibration=calibration,
        scaling=spec.scaling,
        grades=spec.grades,
        reference=Reference(spec.population, len(labels), {f.name: 0.0 for f in features}),
        data=DataStatement(
            source=spec.source,
            rows=len(labels),
            events=int(labels.sum()),
            as_of=spec.as_of,
            sha256=hashlib.sha256(matrix.tobytes() + labels.tobytes()).hexdigest(),
            trained_at=trained_at.astimezone(dt.UTC).isoformat(timespec="seconds"),
        ),
        seed=spec.seed,
        parameters={
            "trees": spec.trees,
            "depth": spec.depth,
            "learning_rate": spec.learning_rate,
            "rows_per_tree": spec.rows_per_tree,
            "features_per_tree": spec.features_per_tree,
            "l2": spec.l2,
            "min_leaf": spec.leaf(len(labels)),
            "folds": spec.folds,
            "repeats": spec.repeats,
        },
        metrics=report.metrics,
        bins={},
        golden=(),
    )
    trees = booster.model_to_string()
    batch = Scorer(draft, trees).score(matrix)
    means = batch.feature_points.mean(axis=0).tolist()
    manifest = dataclasses.replace(
        draft,
        reference=dataclasses.replace(
            draft.reference,
            points={f.name: mean for f, mean in zip(features, means, strict=True)},
        ),
        bins={f.name: bins(matrix[:, at]) for at, f in enumerate(features)}
        | {SCORE: bins(batch.totals)},
        golden=_golden(draft, trees, matrix, batch),
    )
    measured = Evidence(
        outcome=OutcomeStatement(spec.outcome),
        sampling=Sampling(
            len(labels), int(labels.sum()), prior=float(labels.mean()), words=spec.source
        ),
        protocol=Protocol(
            "repeated_stratified", spec.folds, spec.repeats, tuning=_CHOSEN, seed=spec.seed
        ),
        metrics={
            name: Figure(metric.value, deviation=metric.deviation)
            for name, metric in report.metrics.items()
        },
    )
    return write_folder(
        folder,
        manifest,
        model=trees,
        card=card(manifest, measured),
        training=evidence.dump(measured),
        key=key,
    )


def bins(values: Floats) -> Bins:
    """Up to ten bins of equal shares, and the shares of what is missing and withheld."""
    missing = np.isnan(values)
    withheld = np.abs(values) >= BEYOND
    there = values[~missing & ~withheld]
    cuts = np.arange(1, MAX_BINS) / MAX_BINS if len(there) else np.array([])
    edges = np.unique(np.quantile(there, cuts)) if len(there) else cuts
    counts = np.bincount(np.searchsorted(edges, there, "right"), minlength=len(edges) + 1)
    return Bins(
        edges=tuple(float(edge) for edge in edges),
        shares=tuple((counts / len(values)).tolist()),
        missing=float(missing.mean()),
        withheld=float(withheld.mean()),
    )


def _fills(matrix: Floats, features: Sequence[ModelFeature]) -> dict[str, float]:
    """Medians of what was shown, of the features that no row lacks."""
    fills = {}
    for feature, column in zip(features, matrix.T, strict=True):
        shown = column[np.abs(column) < BEYOND]
        if len(shown) and not np.isnan(column).any():
            fills[feature.name] = float(np.median(shown))
    return fills


def _golden(draft: Manifest, trees: str, matrix: Floats, batch: ScoreBatch) -> tuple[Golden, ...]:
    """Rows from the whole range of scores, and one where everything is missing."""
    order = np.argsort(batch.totals, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(int)]
    rows = np.concatenate([matrix[picked], np.full((1, matrix.shape[1]), np.nan)])
    return golden_rows(draft, trees, rows)
