"""The inputs of models that are trained on the platform's own records: the registry's features."""

from dataclasses import dataclass
from typing import Final

from services.scoring.features import registry
from services.scoring.models import reasons
from services.scoring.models.domain import ModelFeature


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a model's columns are.

    Args:
        features: in the order of the columns.
        feature_version: of their definitions.
        reason_version: of the catalogue of reasons.
    """

    features: tuple[ModelFeature, ...]
    feature_version: int
    reason_version: int


PLATFORM: Final = Inputs(
    features=tuple(
        ModelFeature(
            feature.name,
            feature.group,
            feature.unit,
            feature.monotone,
            zh=feature.zh,
            en=feature.en,
        )
        for feature in registry.FEATURES
    ),
    feature_version=registry.VERSION,
    reason_version=reasons.VERSION,
)
