"""Cross-validation.

Invariants: folds are made before anything is fitted; whatever is fitted sees its own training fold
alone, the calibrator included.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from services.scoring.models.domain import Metric, ModelFeature, tree_names
from services.scoring.training import metrics
from services.scoring.training.domain import (
    INNER_FOLDS,
    Floats,
    Ints,
    Progress,
    Report,
    Spec,
    check_table,
)
from services.scoring.trees import lightgbm


def parameters(spec: Spec, features: Sequence[ModelFeature], rows: int) -> dict[str, object]:
    """LightGBM's parameters.

    `path_smooth` and `linear_tree` stay off: they break monotone constraints.
    """
    return {
        "objective": "binary",
        "num_leaves": 2**spec.depth,
        "max_depth": spec.depth,
        "learning_rate": spec.learning_rate,
        "bagging_fraction": spec.rows_per_tree,
        "bagging_freq": 1,
        "feature_fraction": spec.features_per_tree,
        "lambda_l2": spec.l2,
        "min_data_in_leaf": spec.leaf(rows),
        "min_data_in_bin": 1,
        "monotone_constraints": [feature.monotone for feature in features],
        # The others were no better (AUC .9220 against .9211 and .9206 on 123 firms) and cost more.
        "monotone_constraints_method": "basic",
        "seed": spec.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }


def fit(
    matrix: Floats, labels: Ints, features: Sequence[ModelFeature], spec: Spec, leaf_rows: int
) -> lightgbm.Booster:
    """Train one model.

    Args:
        matrix: rows x features.
        labels: 0 or 1.
        features: of the columns.
        spec: how.
        leaf_rows: rows of the whole table, which the size of leaves goes by.
    """
    stated = parameters(spec, features, leaf_rows)
    data = lightgbm.Dataset(matrix, labels, feature_name=tree_names(features), params=stated)
    return lightgbm.train(stated, data, num_boost_round=spec.trees)


def margins_of(booster: lightgbm.Booster, matrix: Floats) -> Floats:
    """Raw margins of rows."""
    return np.asarray(booster.predict(matrix, raw_score=True, num_threads=1), dtype=np.float64)


def stratified(labels: Ints, folds: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Split rows by chance, so that each fold has its share of each class.

    The folds are those of scikit-learn's `StratifiedKFold(folds, shuffle=True, random_state=seed)`,
    which takes longer to import than a small model to train.

    Args:
        labels: 0 or 1; each at least as often as there are folds.
        folds: how many.
        seed: the same gives the same folds.

    Yields:
        The rows that a fold's model sees, and those that it does not.
    """
    chance = np.random.RandomState(seed)
    classes = [label for label in (labels[0], 1 - labels[0]) if label in labels]
    order = np.repeat(classes, [np.sum(labels == label) for label in classes])
    fold_of = np.empty(len(labels), dtype=np.int64)
    for label in classes:
        sizes = [int(np.sum(order[fold::folds] == label)) for fold in range(folds)]
        dealt = np.repeat(np.arange(folds), sizes)
        chance.shuffle(dealt)
        fold_of[labels == label] = dealt
    for fold in range(folds):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def out_of_fold(
    matrix: Floats,
    labels: Ints,
    features: Sequence[ModelFeature],
    spec: Spec,
    folds: Sequence[tuple[Ints, Ints]],
    leaf_rows: int,
) -> Floats:
    """Margins of all rows, each from a model that did not see it."""
    margins = np.zeros(len(labels))
    for seen, unseen in folds:
        booster = fit(matrix[seen], labels[seen], features, spec, leaf_rows)
        margins[unseen] = margins_of(booster, matrix[unseen])
    return margins


def cross_validate(
    matrix: Floats,
    labels: Ints,
    features: Sequence[ModelFeature],
    spec: Spec,
    progress: Progress | None = None,
) -> Report:
    """Evaluate by repeated stratified folds.

    Args:
        matrix: rows x features; NaN is missing.
        labels: 0 or 1.
        features: of the columns.
        spec: how to train and to evaluate.
        progress: told of each fold that is done.

    Raises:
        TrainingError: the table cannot be trained on.
    """
    check_table(matrix, labels, len(features), spec)
    rows = len(labels)
    repeats = [list(stratified(labels, spec.folds, spec.seed + at)) for at in range(spec.repeats)]
    margins = np.zeros((spec.repeats, rows))
    log_odds = np.zeros_like(margins)
    by_fold: dict[str, list[float]] = {"auc": [], "ks": [], "brier": [], "log_loss": []}
    by_repeat: dict[str, list[float]] = {"calibration_slope": [], "calibration_intercept": []}
    for at, folds in enumerate(repeats):
        for number, (seen, unseen) in enumerate(folds):
            booster = fit(matrix[seen], labels[seen], features, spec, rows)
            inner = list(stratified(labels[seen], INNER_FOLDS, spec.seed))
            held_out = out_of_fold(matrix[seen], labels[seen], features, spec, inner, rows)
            calibration = metrics.platt(held_out, labels[seen])
            found = margins_of(booster, matrix[unseen])
            margins[at, unseen] = found
            log_odds[at, unseen] = calibration.a * found + calibration.b
            pds = 1 / (1 + np.exp(-log_odds[at, unseen]))
            truth = labels[unseen]
            by_fold["auc"].append(metrics.auc(truth, found))
            by_fold["ks"].append(metrics.ks(truth, found))
            by_fold["brier"].append(metrics.brier(truth, pds))
            by_fold["log_loss"].append(metrics.log_loss(truth, log_odds[at, unseen]))
            if progress is not None:
                progress(at * spec.folds + number + 1, spec.repeats * spec.folds)
        try:
            slope, intercept = metrics.logistic(log_odds[at], labels.astype(np.float64))
        except metrics.SeparatedError:
            continue  # there is no slope to report for this repeat
        by_repeat["calibration_slope"].append(slope)
        by_repeat["calibration_intercept"].append(intercept)
    return Report(
        margins,
        {
            name: Metric(float(np.mean(values)), float(np.std(values)))
            for name, values in (by_fold | by_repeat).items()
            if values
        },
    )
