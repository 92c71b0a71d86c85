"""A model folder as decisions use it: features in, outcome with reasons out."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from services.scoring.decisions.domain import Inputs, Outcome, Reason
from services.scoring.features.domain import FeatureVector, FirmSummary, Relation
from services.scoring.features.firm import china_day
from services.scoring.features.registry import NAMES, VERSION, compute, encode
from services.scoring.models.domain import Manifest
from services.scoring.models.reasons import Reasoner, features_of
from services.scoring.models.scorer import Scorer


class ServedModel:
    """One loaded model.

    Args:
        scorer: the loaded folder.

    Raises:
        ValueError: its features are not those that this release computes.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._reasoner = Reasoner(scorer.manifest)
        manifest = scorer.manifest
        if manifest.feature_version != VERSION:
            raise ValueError(
                f"{manifest.version} was trained on version {manifest.feature_version} of the "
                f"features and this release computes version {VERSION}: train it again"
            )
        self._features = features_of(manifest)
        self._places = tuple(NAMES.index(feature.name) for feature in self._features)
        self._inputs = Inputs(
            VERSION,
            tuple(feature.name for feature in manifest.features),
            tuple(feature.unit for feature in manifest.features),
        )

    @classmethod
    def load(cls, folder: Path, trusted: frozenset[str] | None = None) -> "ServedModel":
        """Load a model folder.

        Args:
            folder: of the model.
            trusted: thumbprints of the keys whose models are taken; None takes everybody's.

        Raises:
            ModelFolderError: it must not be served.
            ValueError: its features are not those that this release computes.
        """
        return cls(Scorer.load(folder, trusted))

    @property
    def manifest(self) -> Manifest:
        """What it is made of."""
        return self._scorer.manifest

    @property
    def card(self) -> str:
        """Its card, Markdown."""
        return self._scorer.card

    @property
    def version(self) -> str:
        """Its name."""
        return self._scorer.version

    @property
    def model_class(self) -> str:
        """SIMULATED, EXPERT, UNVALIDATED or VALIDATED."""
        return self._scorer.model_class

    @property
    def inputs(self) -> Inputs:
        """What its features are."""
        return self._inputs

    @property
    def relations(self) -> frozenset[Relation]:
        """Those of which it takes the PD of linked subjects."""
        return frozenset(each.relation for each in self._features if each.relation)

    def features(self, summary: FirmSummary, as_of: datetime) -> FeatureVector:
        """Return the values of its features."""
        vector = compute(summary, china_day(as_of))
        if len(self._places) == len(vector.values):
            return vector
        return FeatureVector(
            tuple(vector.values[at] for at in self._places),
            tuple(vector.missing[at] for at in self._places),
        )

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        """Return what it says of each; safe to call from any thread."""
        batch = self._scorer.score([encode(vector, self._features) for vector in vectors])
        groups = self.manifest.groups
        return [
            Outcome(
                pd=float(batch.pds[row]),
                score=int(batch.scores[row]),
                grade=batch.grades[row],
                base_points=batch.base_points,
                group_points=dict(zip(groups, batch.group_points[row].tolist(), strict=True)),
                reasons=tuple(
                    Reason(reason.code, reason.points, reason.zh, reason.en, reason.features)
                    for reason in self._reasoner.reasons(batch, row, vectors[row])
                ),
            )
            for row in range(len(vectors))
        ]
