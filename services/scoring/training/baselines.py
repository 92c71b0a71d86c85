"""What a bank has without us: a scorecard of weights of evidence, and LightGBM as it comes.

Invariant: a baseline sees its training part alone, binning included, and gives log-odds of other
rows; it is given the same weights and categories as the model that it stands beside.
"""

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from services.scoring.models.domain import ModelFeature, tree_names
from services.scoring.training.domain import Floats, Sample
from services.scoring.training.tuning import margins_of
from services.scoring.trees import lightgbm

Baseline = Callable[[Sample, Floats], Floats]
"""Trains on the sample and gives log-odds of other rows."""

SCORECARD: Final = "WoE-logistic (optbinning)"
PLAIN: Final = "plain LightGBM"

PLAIN_TREES: Final = 100
"""LightGBM's own number, as its learning rate, leaves and all else are."""

SCORECARD_ROWS: Final = 50_000
"""More rows move no bin's edge that matters, and take minutes."""

_ALONE: Final = threading.Lock()

WORDS: Final = {
    SCORECARD: (
        "optimal binning by column (optbinning 0.21: up to 10 bins of at least 2 % of the rows, "
        "missing values a bin of their own), columns of information value 0.02 and more, weights "
        "of evidence into a logistic regression with scikit-learn's defaults"
    ),
    PLAIN: "LightGBM with its own defaults: 31 leaves, 100 trees, no constraints, no calibration",
}


def baselines(features: Sequence[ModelFeature], seed: int) -> dict[str, Baseline]:
    """The baselines, by name.

    Args:
        features: of the columns.
        seed: of what is by chance.
    """

    def plain(seen: Sample, unseen: Floats) -> Floats:
        stated = {
            "objective": "binary",
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        data = lightgbm.Dataset(
            seen.matrix,
            seen.labels,
            weight=seen.weights,
            feature_name=tree_names(features),
            categorical_feature=[at for at, each in enumerate(features) if each.categories],
            params=stated,
        )
        return margins_of(lightgbm.train(stated, data, PLAIN_TREES), unseen)

    def scorecard(seen: Sample, unseen: Floats) -> Floats:
        return _scorecard(features, seen, unseen, seed)

    return {SCORECARD: scorecard, PLAIN: plain}


def _scorecard(features: Sequence[ModelFeature], seen: Sample, unseen: Floats, seed: int) -> Floats:
    # Half a second, and only here.
    from optbinning import BinningProcess  # noqa: PLC0415 - see above
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - see above

    if len(seen.labels) > SCORECARD_ROWS:
        chosen = np.random.default_rng(seed).choice(len(seen.labels), SCORECARD_ROWS, replace=False)
        seen = seen.rows(np.sort(chosen))
    varied = [
        at
        for at, column in enumerate(seen.matrix.T)
        if len(np.unique(column[~np.isnan(column)])) + bool(np.isnan(column).any()) > 1
    ]
    names = [str(at) for at in varied]
    # It warns of what it does with columns that tell nothing; which warnings count is of a process.
    with _ALONE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = BinningProcess(
            names,
            max_n_prebins=10,
            min_prebin_size=0.02,
            categorical_variables=[str(at) for at in varied if features[at].categories],
            selection_criteria={"iv": {"min": 0.02}},
        )
        process.fit(seen.matrix[:, varied], seen.labels, sample_weight=seen.weights)
        kept = process.get_support()
        if not kept.any():
            share = float(np.average(seen.labels, weights=seen.weights))
            return np.full(len(unseen), np.log(share / (1 - share)))
        known, new = (
            np.asarray(
                process.transform(rows[:, varied], metric="woe", metric_missing="empirical"),
                dtype=np.float64,
            )
            for rows in (seen.matrix, unseen)
        )
        model = LogisticRegression(max_iter=1000).fit(known, seen.labels, seen.weights)
    return np.asarray(model.decision_function(new), dtype=np.float64)
