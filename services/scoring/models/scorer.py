"""Scores from a model, with exact contributions, one row or a million.

Invariants: contributions are those that LightGBM computes from the same trees, which golden rows
prove when a model is loaded, and they sum to the margin; base plus the groups' points is the total,
exactly; a row's result does not depend on the rows beside it, to the last bit. Safe to call from
any thread: nothing is shared but what is never written.
"""

import math
from pathlib import Path
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from services.scoring.models import contributions
from services.scoring.models.domain import GRAIN, Golden, Manifest, ModelFolderError, tree_names
from services.scoring.models.folder import ModelFolder, read_folder
from services.scoring.models.intervals import laid_out
from services.scoring.models.kernel import FIGURES, REASONS, Kernel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

TOLERANCE: Final = 1e-9
"""How far a golden row's margin and contributions may be off what LightGBM said of it."""

MIN_POINTS: Final = 0.5
"""A group that moves the score by less is no reason."""


_AT: Final = {name: at for at, name in enumerate(FIGURES)}
_MARGIN, _TOTAL, _SCORE = _AT["margin"], _AT["total"], _AT["score"]
_MISSING, _PD, _GRADE = _AT["missing"], _AT["pd"], _AT["grade"]
_LOW, _HIGH, _REFER = _AT["low"], _AT["high"], _AT["refer"]


class ScoreBatch(NamedTuple):
    """Results, by row.

    Args:
        grades: by the model's cuts.
        base_points: what no feature moves.
        bounded: the model has intervals.
        values: rows x what kernel.c writes of each; the properties say what.
        whole: the same, as the whole numbers that some of it is.
        features: how many.
        groups: how many.
    """

    grades: tuple[str, ...]
    base_points: float
    bounded: bool
    values: Floats
    whole: Ints
    features: int
    groups: int

    @property
    def contributions(self) -> Floats:
        """To the margin, rows x (features + 1); the last column is the same everywhere."""
        return self.values[:, : self.features + 1]

    @property
    def feature_points(self) -> Floats:
        """Rows x features; unrounded, so they add up to a group's points to a millionth."""
        return self.values[:, self.features + 1 : 2 * self.features + 1]

    @property
    def margins(self) -> Floats:
        """Raw, as the trees sum up."""
        return self.values[:, 2 * self.features + 1 + _MARGIN]

    @property
    def totals(self) -> Floats:
        """Points before rounding; more is better."""
        return self.values[:, 2 * self.features + 1 + _TOTAL]

    @property
    def scores(self) -> Ints:
        """Points, rounded half up."""
        return self.whole[:, 2 * self.features + 1 + _SCORE]

    @property
    def missing(self) -> Floats:
        """Share of the inputs that are missing or were withheld."""
        return self.values[:, 2 * self.features + 1 + _MISSING]

    @property
    def pds(self) -> Floats:
        """Probabilities of default."""
        return self.values[:, 2 * self.features + 1 + _PD]

    @property
    def lows(self) -> Floats:
        """Lower ends of the PDs' intervals; NaN: the model has none."""
        return self.values[:, 2 * self.features + 1 + _LOW]

    @property
    def highs(self) -> Floats:
        """Upper ends of the PDs' intervals; NaN: the model has none."""
        return self.values[:, 2 * self.features + 1 + _HIGH]

    @property
    def refer(self) -> Bools:
        """Whose interval is so wide that a person must decide."""
        wide: Bools = self.whole[:, 2 * self.features + 1 + _REFER] != 0
        return wide

    @property
    def ends(self) -> list[tuple[float, float, bool]] | None:
        """Lower and upper end of each interval, and `refer`; None: the model has no intervals."""
        if not self.bounded:
            return None
        ends = self.lows.tolist(), self.highs.tolist(), self.refer.tolist()
        return list(zip(*ends, strict=True))

    @property
    def group_points(self) -> Floats:
        """Rows x groups, in the order of the manifest's groups."""
        start = 2 * self.features + 1 + len(FIGURES)
        return self.values[:, start : start + self.groups]

    @property
    def strengths(self) -> Floats:
        """Rows x groups: their points less their mean points in the reference population."""
        start = 2 * self.features + 1 + len(FIGURES) + self.groups
        return self.values[:, start : start + self.groups]

    @property
    def reasons(self) -> Ints:
        """Rows x REASONS: places in the scorer's `codes` of the strongest groups, then -1."""
        return self.whole[:, -REASONS:]


class Scorer:
    """A loaded model; `codes` names the reasons that it may give, two for each group.

    Args:
        manifest: of its folder.
        model: LightGBM's text.
        card: Markdown.

    Raises:
        ModelFolderError: the trees do not fit the manifest, or cannot be explained exactly.
    """

    def __init__(self, manifest: Manifest, model: str, card: str = "") -> None:
        self.manifest = manifest
        self.card = card
        self._trees = contributions.parse(model)
        if list(self._trees.inputs) != tree_names(manifest.features):
            raise ModelFolderError(
                f"the trees of {manifest.version} have other inputs than its manifest"
            )
        groups = {group: at for at, group in enumerate(manifest.groups)}
        self._features, self._groups = len(manifest.features), len(groups)
        group_of = [groups[feature.group] for feature in manifest.features]
        means = [manifest.reference.points[feature.name] for feature in manifest.features]
        calibration, scaling = manifest.calibration, manifest.scaling
        bias_points = scaling.points(calibration.log_odds(self._trees.bias))
        self._base = round(bias_points / GRAIN) * GRAIN
        self.codes = tuple(f"{group.upper()}_{way}" for group in groups for way in ("DOWN", "UP"))
        self._grades = [cut.grade for cut in manifest.grades]
        self._kernel = Kernel(
            contributions.tables(self._trees)
            | laid_out(manifest.interval)
            | {
                "grades": len(manifest.grades),
                "cuts": [cut.pd_from for cut in manifest.grades],
                "groups": len(groups),
                "fills": [manifest.fills.get(f.name, math.nan) for f in manifest.features],
                "group_of": group_of,
                "means": np.bincount(group_of, means, len(groups)),
                "slope": calibration.a,
                "intercept": calibration.b,
                "factor": scaling.factor,
                "offset": scaling.offset,
                "grain": GRAIN,
                "base": self._base,
                "least": MIN_POINTS,
            }
        )

    @classmethod
    def load(cls, folder: Path, trusted: frozenset[str] | None = None) -> Self:
        """Load a model folder, verify its signature and hashes, and replay its golden rows.

        Args:
            folder: of the model.
            trusted: thumbprints of the keys whose models are taken; None takes everybody's.

        Raises:
            ModelFolderError: it must not be served.
        """
        return cls.of(read_folder(folder, trusted))

    @classmethod
    def of(cls, stored: ModelFolder) -> Self:
        """Return what a folder holds, after replaying its golden rows.

        Raises:
            ModelFolderError: it must not be served.
        """
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
            matrix: rows x features, as `features.registry.encode` or a table gives them: the code
                of a category, NaN is missing.

        Returns:
            Results in the order of the rows.
        """
        values = self._kernel.score(self._inputs(matrix))
        whole = values.view(np.int64)
        names = self._grades
        return ScoreBatch(
            tuple([names[at] for at in whole[:, 2 * self._features + 1 + _GRADE].tolist()]),
            self._base,
            self.manifest.interval is not None,
            values,
            whole,
            self._features,
            self._groups,
        )

    def reason_codes(self, batch: ScoreBatch, row: int, limit: int = 4) -> list[str]:
        """Codes of a row's strongest reasons: groups that move it from the population's mean."""
        codes = self.codes
        return [codes[at] for at in batch.whole[row, -REASONS:].tolist()[:limit] if at >= 0]

    def margins(self, matrix: npt.ArrayLike) -> Floats:
        """Raw margins alone: what a search over many rows needs."""
        return self._kernel.score(self._inputs(matrix))[:, 2 * self._features + 1 + _MARGIN]

    def splits(self) -> dict[int, Floats]:
        """Where the trees split numeric features: ascending thresholds, by place of the feature."""
        return contributions.splits(self._trees)

    def replay(self) -> None:
        """Score the golden rows again.

        Raises:
            ModelFolderError: one has another result than LightGBM gave when the model was made.
        """
        rows = self.manifest.golden
        batch = self.score([[math.nan if x is None else x for x in row.inputs] for row in rows])
        for at, row in enumerate(rows):
            if not _same(row, batch, at):
                raise ModelFolderError(
                    f"golden row {at} of {self.version} has another result here: the folder was "
                    "changed, or this machine computes differently from the one that trained it"
                )

    def _inputs(self, matrix: npt.ArrayLike) -> Floats:
        """The rows as the kernel takes them."""
        inputs = np.ascontiguousarray(matrix, dtype=np.float64)
        if inputs.ndim != 2 or inputs.shape[1] != self._features:
            raise ValueError(
                f"the matrix has the shape {inputs.shape}: give rows x {self._features}"
            )
        return inputs if inputs.flags.writeable else inputs.copy()


def _same(row: Golden, batch: ScoreBatch, at: int) -> bool:
    return (
        abs(row.margin - batch.margins[at]) <= TOLERANCE
        and abs(row.pd - batch.pds[at]) <= TOLERANCE
        and row.score == batch.scores[at]
        and row.grade == batch.grades[at]
        and len(row.contributions) == batch.contributions.shape[1]
        and bool(np.all(np.abs(np.array(row.contributions) - batch.contributions[at]) <= TOLERANCE))
    )
