"""What is asked of a training, what comes out, and the rules that data must meet. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import (
    DEFAULT_GRADES,
    GradeCut,
    ModelClass,
    ModelFeature,
    Scaling,
    Words,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]
"""Called with the folds that are done and all folds."""


class TrainingError(ValueError):
    """A training that must not give a model; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """How trees are grown.

    Args:
        trees: the most of a member; early stopping takes fewer.
        depth: of a tree; the cost of exact reasons grows with it.
        learning_rate: shrinkage.
        rows_per_tree: share of the rows that a tree sees; None: those with large gradients and a
            tenth of the others (GOSS, Ke et al. 2017).
        features_per_tree: share of the features that a tree sees.
        l2: penalty on leaves.
        min_leaf: rows in a leaf.
        exactly: grow all trees; early stopping takes none away.
    """

    trees: int
    depth: int
    learning_rate: float
    rows_per_tree: float | None
    features_per_tree: float
    l2: float
    min_leaf: int
    exactly: bool = False

    def stated(self) -> dict[str, str | int | float | bool]:
        """As a manifest and training.json show them."""
        return {
            "trees": self.trees,
            "depth": self.depth,
            "learning_rate": self.learning_rate,
            "rows_per_tree": "goss" if self.rows_per_tree is None else self.rows_per_tree,
            "features_per_tree": self.features_per_tree,
            "l2": self.l2,
            "min_leaf": self.min_leaf,
        }


BUDGET: Final = 60.0
"""Seconds of tuning that are planned for unless said otherwise."""

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
        kind: of the outer evaluation: STRATIFIED, GROUPED, OUT_OF_TIME; None: OUT_OF_TIME where the
            table states times and enough comes late, GROUPED where it has groups, else STRATIFIED.
        folds: outer; None: by the table's rows and events.
        repeats: of the folds; None: by the table's rows.
        cutoff: days since 1970; out of time, the rows from then on are the last to be judged.
            None: the last parts of the time span, one after another.
        budget: seconds of tuning that are planned for, on two cores; what is tried follows from it
            and from the table's size, never from how fast this machine is.
        candidates: hyper-parameters to try; None: as many as the budget holds; 1: no tuning.
        tried: hyper-parameters to try instead of the trainer's own list.
        members: boosters of different seeds whose mean the model is, a power of two; None: by the
            table's rows.
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
    budget: float = BUDGET
    candidates: int | None = None
    tried: tuple[Parameters, ...] = ()
    members: int | None = None
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
class Split:
    """What a model sees and what it is held to, as places of rows.

    Args:
        seen: by the model.
        unseen: that it is measured on.
    """

    seen: Ints
    unseen: Ints


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows to train on.

    Args:
        matrix: rows x features.
        labels: 1 is the outcome.
        weights: of the rows, mean 1 over the table.
        groups: of which firm a row is.
        times: days since 1970; None when not stated.
    """

    matrix: Floats
    labels: Ints
    weights: Floats
    groups: Ints
    times: Ints | None

    def rows(self, places: Ints) -> "Sample":
        """Some of the rows."""
        return Sample(
            self.matrix[places],
            self.labels[places],
            self.weights[places],
            self.groups[places],
            None if self.times is None else self.times[places],
        )
