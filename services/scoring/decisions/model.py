"""A model folder as decisions use it: features in, outcome with reasons out.

Its inputs are the registry's features, then what the bank declares: of that nothing is computed.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Self

from services.scoring.decisions.domain import Inputs, Interval, Outcome, Reason
from services.scoring.features.domain import Coverage, FeatureVector, FirmSummary, Relation
from services.scoring.features.firm import china_day
from services.scoring.features.registry import NAMES, VERSION, compute, encode
from services.scoring.models import reasons
from services.scoring.models.domain import (
    InputSource,
    Manifest,
    ModelClass,
    ModelFeature,
    Words,
)
from services.scoring.models.folder import ModelFolder, read_folder
from services.scoring.models.improvements import Improvements, Improver
from services.scoring.models.reasons import Reasoner, features_of
from services.scoring.models.scorer import Scorer
from services.scoring.products.domain import Asked


class ServedModel:
    """One loaded model.

    Args:
        scorer: the loaded folder.

    Raises:
        ValueError: its features are not those that this release computes.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._model_class = ModelClass(scorer.model_class)
        self._reasoner = Reasoner(scorer.manifest)
        manifest = scorer.manifest
        if manifest.feature_version != VERSION:
            raise ValueError(
                f"{manifest.version} was trained on version {manifest.feature_version} of the "
                f"features and this release computes version {VERSION}: train it again"
            )
        self._features = features_of(manifest)
        self._improver = Improver(scorer)
        self._declared = tuple(
            each for each in manifest.features if each.source is InputSource.DECLARED
        )
        self._places = tuple(
            NAMES.index(each.name)
            for each in manifest.features
            if each.source is InputSource.PLATFORM
        )
        self._asks = {each.name: Asked(each.unit, each.categories) for each in self._declared}
        titles = {group: _title(manifest, group) for group in manifest.groups}
        self._inputs = Inputs(
            VERSION,
            tuple(feature.name for feature in manifest.features),
            tuple(feature.unit for feature in manifest.features),
            tuple((group, words.zh, words.en) for group, words in titles.items()),
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
        return cls.of(read_folder(folder, trusted))

    @classmethod
    def of(cls, stored: ModelFolder) -> "ServedModel":
        """Load what was read of a folder.

        Raises:
            ModelFolderError: it must not be served.
            ValueError: its features are not those that this release computes.
        """
        return cls(Scorer.of(stored))

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
        return self._model_class

    def as_class(self, model_class: ModelClass) -> Self:
        """Return the same model with the class that the registry gives it."""
        other = copy.copy(self)
        other._model_class = model_class
        return other

    @property
    def inputs(self) -> Inputs:
        """What its features are."""
        return self._inputs

    @property
    def relations(self) -> frozenset[Relation]:
        """Those of which it takes the PD of linked subjects."""
        return frozenset(each.relation for each in self._features if each.relation)

    @property
    def asks(self) -> Mapping[str, Asked]:
        """Those of its features that the bank declares."""
        return self._asks

    def features(
        self,
        summary: FirmSummary,
        as_of: datetime,
        declared: Mapping[str, float | str] = MappingProxyType({}),
    ) -> FeatureVector:
        """Return the values of its features.

        Args:
            summary: what was released.
            as_of: data known by then.
            declared: what the bank said of the firm, by name.
        """
        vector = compute(summary, china_day(as_of))
        if len(self._places) == len(vector.values) and not self._declared:
            return vector
        said = [_coded(each, declared.get(each.name)) for each in self._declared]
        return FeatureVector(
            (*(vector.values[at] for at in self._places), *said),
            (
                *(vector.missing[at] for at in self._places),
                *(Coverage.NOT_SUPPLIED if math.isnan(value) else None for value in said),
            ),
        )

    def improvements(self, vector: FeatureVector) -> Improvements:
        """Return what reaches a better grade."""
        return self._improver.of_firm(vector)

    def score(self, vectors: Sequence[FeatureVector]) -> list[Outcome]:
        """Return what it says of each; safe to call from any thread."""
        rows = [encode(vector, self._features) for vector in vectors]
        batch = self._scorer.score(rows)
        stated = self.manifest.interval
        within: list[tuple[Interval | None, bool]] = [(None, False)] * len(rows)
        ends = batch.ends
        if stated is not None and ends is not None:
            within = [(Interval(low, high, stated.method), refer) for low, high, refer in ends]
        groups = self.manifest.groups
        return [
            Outcome(
                pd=float(batch.pds[row]),
                score=int(batch.scores[row]),
                grade=batch.grades[row],
                base_points=batch.base_points,
                group_points=dict(zip(groups, batch.group_points[row].tolist(), strict=True)),
                reasons=tuple(
                    Reason(
                        reason.code,
                        reason.points,
                        reason.zh,
                        reason.en,
                        reason.features,
                        reason.improve_zh,
                        reason.improve_en,
                    )
                    for reason in self._reasoner.reasons(batch, row, vectors[row])
                ),
                interval=within[row][0],
                refer=within[row][1],
                words=reasons.VERSION,
            )
            for row in range(len(rows))
        ]


def _title(manifest: Manifest, group: str) -> Words:
    """What a group is called: by the model itself, else by the catalogue of reasons."""
    return manifest.words.get(group) or reasons.title(group)


def _coded(feature: ModelFeature, said: float | str | None) -> float:
    """Return what the model reads of a declared value; NaN is none."""
    if said is None:
        return math.nan
    if not isinstance(said, str):
        return said
    if said in feature.categories:
        return float(feature.categories.index(said))
    return math.nan if feature.others is None else float(feature.others)
