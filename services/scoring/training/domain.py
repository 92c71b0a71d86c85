"""What is asked of a training, what comes out, and the rules that data must meet. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import (
    DEFAULT_GRADES,
    GradeCut,
    Metric,
    ModelClass,
    ModelFeature,
    Scaling,
    Words,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with the folds that are done and all folds."""

INNER_FOLDS = 5
"""Folds inside a training fold, for the calibrator that is judged outside it."""


class TrainingError(ValueError):
    """A training that must not give a model; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How to train.

    The defaults were chosen by their results on the 123 firms of CUMCM 2020 C, 27 of which
    defaulted, and suit small tables: many shallow, constrained trees, each of a part of the rows
    and of the features. Figures measured on those firms are therefore optimistic; the card says so.

    Args:
        outcome: what a label of 1 means, in words.
        source: where the data come from, in words.
        as_of: the date or dates of the features, in words.
        population: that reasons compare with, in words.
        model_class: how much the PD may be believed.
        trees: how many.
        depth: of a tree; the cost of exact reasons grows with it.
        learning_rate: shrinkage.
        rows_per_tree: share of the rows that a tree sees.
        features_per_tree: share of the features that a tree sees.
        l2: penalty on leaves.
        min_leaf: rows in a leaf; None is a tenth of all rows, within 5 and 50.
        folds: of the evaluation, stratified.
        repeats: of the folds.
        seed: of all randomness.
        scaling: log-odds to points.
        grades: cuts on PD.
    """

    outcome: str = ""
    source: str = ""
    as_of: str = ""
    population: str = "the firms that the model was trained on"
    model_class: ModelClass = ModelClass.UNVALIDATED
    trees: int = 200
    depth: int = 3
    learning_rate: float = 0.1
    rows_per_tree: float = 0.7
    features_per_tree: float = 0.4
    l2: float = 1.0
    min_leaf: int | None = None
    folds: int = 5
    repeats: int = 10
    seed: int = 20
    scaling: Scaling = field(default_factory=Scaling)
    grades: tuple[GradeCut, ...] = DEFAULT_GRADES

    def leaf(self, rows: int) -> int:
        """Fewest rows in a leaf when a table has `rows`."""
        return self.min_leaf if self.min_leaf is not None else max(5, min(rows // 10, 50))


STRATIFIED: Final = "repeated_stratified"
GROUPED: Final = "grouped"
OUT_OF_TIME: Final = "out_of_time"
"""Kinds of outer evaluation."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train, evaluate, calibrate and scale.

    Args:
        outcome: what a label of 1 means, in words.
        population: that reasons compare with, in words.
        model_class: how much the PD may be believed; simulated data make it SIMULATED.
        kind: of the outer evaluation: STRATIFIED, GROUPED, OUT_OF_TIME; None: GROUPED where the
            table has groups, else STRATIFIED.
        folds: outer; None: by the table's rows and events.
        repeats: of the folds; None: by the table's rows.
        cutoff: days since 1970; out of time, the rows from then on are the last to be judged.
            None: the last parts of the time span, one after another.
        budget: seconds of tuning that are planned for, on two cores; what is tried follows from it
            and from the table's size, never from how fast this machine is.
        candidates: hyper-parameters to try; None: as many as the budget holds; 1: no tuning.
        baselines: measure a WoE-logistic scorecard and a plain LightGBM beside the model.
        resamples: of the bootstrap; None: by the table's rows; 0: no intervals of figures.
        seed: of all randomness.
        threads: to compute with; changes no result.
        scaling: log-odds to points.
        grades: cuts on PD.
    """

    outcome: str = ""
    population: str = "the rows that the model was trained on"
    model_class: ModelClass = ModelClass.UNVALIDATED
    kind: str | None = None
    folds: int | None = None
    repeats: int | None = None
    cutoff: int | None = None
    budget: float = 60.0
    candidates: int | None = None
    baselines: bool = True
    resamples: int | None = None
    seed: int = 20
    threads: int = 2
    scaling: Scaling = field(default_factory=Scaling)
    grades: tuple[GradeCut, ...] = DEFAULT_GRADES


@dataclass(frozen=True, slots=True)
class Finding:
    """What an inspection of a table found about a column.

    Args:
        column: which.
        problem: constant, duplicate, id_like, leak_auc, leak_missing, leak_date, ...
        detail: in words, with the figure and the remedy.
        refused: it may not be an input unless the spec names it.
    """

    column: str
    problem: str
    detail: str
    refused: bool


@dataclass(frozen=True, slots=True)
class TrainingTable:
    """A labelled table, ready to train on.

    Args:
        matrix: rows x features; the code of a category, NaN is missing.
        features: of the columns.
        labels: 1 is the outcome.
        weights: of the rows, mean 1; None: all the same.
        times: days since 1970 of each row's observation; None when not stated.
        groups: of which firm a row is, as codes; None: each row is a firm of its own.
        segments: further columns by which results are shown, e.g. region; text by row.
        coverage: pattern of sources that were there, by row, e.g. "vat+tax"; empty when there are
            no sources to tell apart.
        accepted: False for applicants that were rejected and whose label is inferred; None when no
            rejected ones are there.
        words: titles of groups.
        source: in words.
        as_of: date or dates of the inputs, in words.
        sha256: of the file or of matrix and labels.
        findings: of the inspection.
        simulated: rests on simulated data.
    """

    matrix: Floats
    features: tuple[ModelFeature, ...]
    labels: Ints
    weights: Floats | None = None
    times: Ints | None = None
    groups: Ints | None = None
    segments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    coverage: Sequence[str] = ()
    accepted: npt.NDArray[np.bool_] | None = None
    words: Mapping[str, Words] = field(default_factory=dict)
    source: str = ""
    as_of: str = ""
    sha256: str = ""
    findings: tuple[Finding, ...] = ()
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured out of fold.

    Args:
        margins: repeats x rows; each from a model that did not see the row.
        metrics: by name: auc, ks, brier, log_loss (over folds), calibration_slope and
            calibration_intercept (over repeats, each over all its rows).
    """

    margins: Floats
    metrics: Mapping[str, Metric]


def check_table(matrix: Floats, labels: Ints, features: int, spec: Spec) -> None:
    """Refuse what cannot be trained on.

    Raises:
        TrainingError: the shapes differ, a label is neither 0 nor 1, an input is infinite, or a
            class has too few rows for the folds.
    """
    if matrix.ndim != 2 or matrix.shape != (len(labels), features):
        raise TrainingError(
            f"the matrix has the shape {matrix.shape}: give {len(labels)} labels x {features} "
            "features"
        )
    if not np.isin(labels, (0, 1)).all():
        raise TrainingError("a label is neither 0 nor 1: leave out what is undecided")
    if np.isinf(matrix).any():
        raise TrainingError("an input is infinite: features are finite, or NaN when missing")
    fewest = int(min(labels.sum(), len(labels) - labels.sum()))
    # A training fold loses one of its rows in `folds`, and is split once more.
    if fewest - -(-fewest // spec.folds) < INNER_FOLDS:
        raise TrainingError(
            f"the rarer outcome has {fewest} rows, too few for {spec.folds} folds and "
            f"{INNER_FOLDS} within each: gather more"
        )
