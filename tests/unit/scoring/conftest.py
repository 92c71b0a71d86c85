"""A model that is trained once per run on firms whose records show their risk."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from services.scoring.features.domain import FirmSummary
from services.scoring.features.registry import compute, encode
from services.scoring.models.domain import Manifest, ModelFeature
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.scorer import Scorer
from services.scoring.models.signing import ModelKey
from services.scoring.training.app import train
from services.scoring.training.domain import Floats, Ints, Parameters, Settings, TrainingTable
from tests.unit.scoring.firms import city

AS_OF = dt.date(2024, 5, 31)
KEY = ModelKey.new()
TRAINED_AT = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
SETTINGS = Settings(
    outcome="the latent risk of a firm made up for tests",
    population="300 firms made up for tests",
    # A tenth of the features per tree, so that every source is learned from.
    tried=(Parameters(200, 3, 0.1, 0.7, 0.1, 1.0, 30, exactly=True),),
    members=1,
    repeats=1,
    baselines=False,
    resamples=100,
)


def made_up(
    matrix: Floats, labels: Ints, features: tuple[ModelFeature, ...] = PLATFORM.features
) -> TrainingTable:
    """A table of firms made up for tests."""
    return TrainingTable(
        matrix,
        features,
        labels,
        source="firms made up for tests",
        as_of="2024-05-31",
        simulated=True,
    )


@dataclass(frozen=True)
class Trained:
    """A model and what it was trained on."""

    folder: Path
    manifest: Manifest
    scorer: Scorer
    firms: list[FirmSummary]
    matrix: Floats
    labels: Ints


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made = city(300, 202405)
    matrix = np.array([encode(compute(summary, AS_OF)) for summary, _ in made])
    labels = np.array([label for _, label in made], dtype=np.int64)
    folder = tmp_path_factory.mktemp("models") / "made-up-1"
    manifest = train(made_up(matrix, labels), SETTINGS, folder, trained_at=TRAINED_AT, key=KEY)
    firms = [summary for summary, _ in made]
    return Trained(folder, manifest, Scorer.load(folder), firms, matrix, labels)
