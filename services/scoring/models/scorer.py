"""Scores from a model, with exact contributions: one `pred_contrib` call for a whole batch.

Invariants: contributions sum to the margin; base plus the groups' points is the total, exactly; a
row's result does not depend on the rows beside it. Safe to call from any thread. A process that
has loaded a model must not fork: LightGBM's OpenMP hangs in the child.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import GRAIN, Golden, Manifest, ModelFolderError, tree_names
from services.scoring.models.folder import read_folder

Floats = npt.NDArray[np.float64]

TOLERANCE: Final = 1e-9
"""How far a golden row's margin and contributions may be off on another machine."""


@dataclass(frozen=True, slots=True)
class ScoreBatch:
    """Results, by row.

    Args:
        margins: raw, as the trees sum up.
        pds: probabilities of default.
        totals: points before rounding; more is better.
        scores: points, rounded half up.
        grades: by the model's cuts.
        contributions: to the margin, rows x (features + 1); the last column is the same everywhere.
        base_points: what no feature moves.
        group_points: rows x groups, in the order of the manifest's groups.
        feature_points: rows x features; unrounded, so they add up to a group's points to a
            millionth.
    """

    margins: Floats
    pds: Floats
    totals: Floats
    scores: npt.NDArray[np.int64]
    grades: tuple[str, ...]
    contributions: Floats
    base_points: float
    group_points: Floats
    feature_points: Floats


class Scorer:
    """A loaded model.

    Args:
        manifest: of its folder.
        model: LightGBM's text.
        card: Markdown.

    Raises:
        ModelFolderError: the trees do not fit the manifest.
    """

    def __init__(self, manifest: Manifest, model: str, card: str = "") -> None:
        from services.scoring.trees import lightgbm  # noqa: PLC0415 - a tenth of a start without models

        self.manifest = manifest
        self.card = card
        try:
            self._booster = lightgbm.Booster(model_str=model)
        except lightgbm.basic.LightGBMError as error:
            raise ModelFolderError(f"the trees of {manifest.version} cannot be read") from error
        names = [feature.name for feature in manifest.features]
        if self._booster.feature_name() != tree_names(manifest.features):
            raise ModelFolderError(
                f"the trees of {manifest.version} have other inputs than its manifest"
            )
        self._lock = threading.Lock()
        self._fills = np.array([manifest.fills.get(name, math.nan) for name in names])
        self._groups = [
            np.array([at for at, f in enumerate(manifest.features) if f.group == group])
            for group in manifest.groups
        ]

    @classmethod
    def load(cls, folder: Path, trusted: frozenset[str] | None = None) -> Self:
        """Load a model folder, verify its signature and hashes, and replay its golden rows.

        Args:
            folder: of the model.
            trusted: thumbprints of the keys whose models are taken; None takes everybody's.

        Raises:
            ModelFolderError: it must not be served.
        """
        stored = read_folder(folder, trusted)
        scorer = cls(stored.manifest, stored.model, stored.card)
        scorer.replay()
        return scorer

    @property
    def version(self) -> str:
        """The model's name."""
        return self.manifest.version

    @property
    def model_class(self) -> str:
        """How much its PD may be believed."""
        return self.manifest.model_class

    def score(self, matrix: npt.ArrayLike) -> ScoreBatch:
        """Score rows.

        Args:
            matrix: rows x features, as `features.registry.encode` gives them; NaN is missing.

        Returns:
            Results in the order of the rows.
        """
        inputs = np.ascontiguousarray(matrix, dtype=np.float64)
        width = len(self.manifest.features)
        if inputs.ndim != 2 or inputs.shape[1] != width:
            raise ValueError(f"the matrix has the shape {inputs.shape}: give rows x {width}")
        calibration, scaling = self.manifest.calibration, self.manifest.scaling
        contributions = self._contributions(inputs)
        # The trees' sum is the same whichever way it is taken but for its last bits.
        margins = np.round(contributions.sum(axis=1), 12)
        # One by one: vectorised exp differs in the last bit between places in an array.
        pds = np.array([calibration.pd(margin) for margin in margins.tolist()])
        totals = _grains(
            scaling.offset - scaling.factor * (calibration.a * margins + calibration.b)
        )
        per_margin = -scaling.factor * calibration.a
        feature_points = contributions[:, :-1] * per_margin
        bias = float(contributions[0, -1]) if len(contributions) else 0.0
        base = float(_grains(np.array(scaling.points(calibration.log_odds(bias)))))
        groups = np.stack(
            [_grains(feature_points[:, at].sum(axis=1)) for at in self._groups], axis=1
        )
        # What rounding to grains left over goes where it is smallest, relatively.
        rest = totals - base - groups.sum(axis=1)
        groups[np.arange(len(groups)), np.abs(groups).argmax(axis=1)] += rest
        return ScoreBatch(
            margins=margins,
            pds=pds,
            totals=totals,
            scores=np.floor(totals + 0.5).astype(np.int64),
            grades=tuple(self.manifest.grade(pd) for pd in pds.tolist()),
            contributions=contributions,
            base_points=base,
            group_points=groups,
            feature_points=feature_points,
        )

    def replay(self) -> None:
        """Score the golden rows again.

        Raises:
            ModelFolderError: one has another result.
        """
        rows = self.manifest.golden
        inputs = [[math.nan if x is None else x for x in row.inputs] for row in rows]
        batch = self.score(inputs)
        for at, row in enumerate(rows):
            if not _same(row, batch, at):
                raise ModelFolderError(
                    f"golden row {at} of {self.version} has another result here: the folder was "
                    "changed, or this LightGBM computes differently from the one that trained it"
                )

    def margins(self, matrix: npt.ArrayLike) -> Floats:
        """Raw margins alone: what a search over many rows needs."""
        inputs = np.ascontiguousarray(matrix, dtype=np.float64)
        filled = np.where(np.isnan(inputs), self._fills, inputs)
        with self._lock:
            found = self._booster.predict(filled, raw_score=True, num_threads=1)
        return np.asarray(found, dtype=np.float64)

    def splits(self) -> dict[int, Floats]:
        """Where the trees split numeric features: ascending thresholds, by place of the feature."""
        found: dict[int, set[float]] = {}
        with self._lock:
            trees = self._booster.dump_model()["tree_info"]
        waiting = [tree["tree_structure"] for tree in trees]
        while waiting:
            node = waiting.pop()
            if "split_feature" not in node:
                continue
            if node["decision_type"] == "<=":
                found.setdefault(node["split_feature"], set()).add(node["threshold"])
            waiting += [node["left_child"], node["right_child"]]
        return {at: np.array(sorted(values)) for at, values in found.items()}

    def _contributions(self, inputs: Floats) -> Floats:
        width = len(self.manifest.features)
        if not len(inputs):
            return np.zeros((0, width + 1))
        # Where training saw no missing value, LightGBM would read a missing one as zero.
        filled = np.where(np.isnan(inputs), self._fills, inputs)
        with self._lock:
            found = self._booster.predict(filled, pred_contrib=True, num_threads=1)
        return np.asarray(found, dtype=np.float64)


def golden_rows(batch: ScoreBatch, matrix: Floats, rows: Sequence[int]) -> tuple[Golden, ...]:
    """Rows of a batch as golden rows."""
    return tuple(
        Golden(
            inputs=tuple(None if math.isnan(x) else x for x in matrix[at].tolist()),
            margin=float(batch.margins[at]),
            pd=float(batch.pds[at]),
            score=int(batch.scores[at]),
            grade=batch.grades[at],
            contributions=tuple(batch.contributions[at].tolist()),
        )
        for at in rows
    )


def _grains(points: Floats) -> Floats:
    rounded: Floats = np.round(points / GRAIN) * GRAIN
    return rounded


def _same(row: Golden, batch: ScoreBatch, at: int) -> bool:
    return (
        abs(row.margin - batch.margins[at]) <= TOLERANCE
        and abs(row.pd - batch.pds[at]) <= TOLERANCE
        and row.score == batch.scores[at]
        and row.grade == batch.grades[at]
        and len(row.contributions) == batch.contributions.shape[1]
        and bool(np.all(np.abs(np.array(row.contributions) - batch.contributions[at]) <= TOLERANCE))
    )
