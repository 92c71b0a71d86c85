"""A model folder as decisions use it: features in, outcome with reasons out."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final

from services.scoring.decisions.domain import Outcome, Reason
from services.scoring.features.domain import FeatureVector, FirmSummary
from services.scoring.features.registry import compute, encode
from services.scoring.models.domain import Manifest
from services.scoring.models.reasons import Reasoner
from services.scoring.models.scorer import Scorer

# Reporting dates are days in China, which has had no summer time since 1991.
_CHINA: Final = timezone(timedelta(hours=8))


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

    @classmethod
    def load(cls, folder: Path) -> "ServedModel":
        """Load a model folder.

        Raises:
            ModelFolderError: it must not be served.
            ValueError: its features are not those that this release computes.
        """
        return cls(Scorer.load(folder))

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

    def features(self, summary: FirmSummary, as_of: datetime) -> FeatureVector:
        """Return its inputs."""
        return compute(summary, as_of.astimezone(_CHINA).date())

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        """Return what it says of each; safe to call from any thread."""
        batch = self._scorer.score([encode(vector) for vector in vectors])
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
