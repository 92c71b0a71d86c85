"""A model that reads what a bank declares of a firm beside the platform's features."""

import dataclasses
import datetime as dt
import math
from pathlib import Path

import numpy as np
import pytest

from services.scoring.decisions.model import ServedModel
from services.scoring.features.domain import Coverage
from services.scoring.features.registry import NAMES
from services.scoring.models.domain import InputSource, ModelFeature
from services.scoring.models.inputs import PLATFORM
from services.scoring.products.domain import Asked
from services.scoring.training.app import train
from services.scoring.training.domain import Parameters
from tests.unit.scoring.conftest import KEY, SETTINGS, TRAINED_AT, Trained, made_up

NOW = dt.datetime(2024, 5, 31, 12, tzinfo=dt.UTC)
KEPT = 12
"""Of the platform's features: the more there are, the longer it trains."""
LEVERAGE = ModelFeature(
    "leverage", "declared", "ratio", 1, InputSource.DECLARED, zh="杠杆率", en="leverage"
)
SECURITY = ModelFeature(
    "security",
    "declared",
    "code",
    0,
    InputSource.DECLARED,
    ("none", "pledge", "(other)"),
    2,
    "担保方式",
    "security",
)


@pytest.fixture(scope="module")
def folder(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose outcome goes by the leverage that banks declared."""
    rng = np.random.default_rng(5)
    leverage = rng.uniform(0, 2, len(trained.matrix))
    security = rng.integers(0, 3, len(trained.matrix)).astype(np.float64)
    security[::7] = math.nan
    labels = (rng.random(len(leverage)) < np.where(leverage > 1, 0.8, 0.1)).astype(np.int64)
    leverage[::9] = math.nan
    matrix = np.column_stack([trained.matrix[:, :KEPT], leverage, security])
    table = made_up(matrix, labels, (*PLATFORM.features[:KEPT], LEVERAGE, SECURITY))
    quick = dataclasses.replace(
        SETTINGS, tried=(Parameters(40, 3, 0.1, 0.7, 0.4, 1.0, 16, exactly=True),)
    )
    made = tmp_path_factory.mktemp("models") / "declared-1"
    train(table, quick, made, trained_at=TRAINED_AT, key=KEY)
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> ServedModel:
    return ServedModel.load(folder)


def test_it_says_what_it_asks_for(model: ServedModel) -> None:
    assert model.asks == {
        "leverage": Asked("ratio"),
        "security": Asked("code", ("none", "pledge", "(other)")),
    }
    assert model.inputs.names == (*NAMES[:KEPT], "leverage", "security")


def test_what_is_declared_is_taken_after_the_platform_s_features(
    model: ServedModel, trained: Trained
) -> None:
    vector = model.features(trained.firms[0], NOW, {"leverage": 1.5, "security": "pledge"})
    assert vector.values[KEPT:] == (1.5, 1.0)
    assert vector.missing[KEPT:] == (None, None)
    unknown = model.features(trained.firms[0], NOW, {"security": "gold"})
    assert unknown.values[KEPT + 1] == 2.0  # pooled with all others
    assert math.isnan(unknown.values[KEPT])
    assert unknown.missing[KEPT] is Coverage.NOT_SUPPLIED
    assert unknown.values[:KEPT] == pytest.approx(vector.values[:KEPT], nan_ok=True)


def test_it_counts_and_is_told_among_the_reasons(model: ServedModel, trained: Trained) -> None:
    said = [{"leverage": 1.9}, {"leverage": 0.1}, {}]
    high, low, unsaid = model.score(
        [model.features(trained.firms[0], NOW, declared) for declared in said]
    )
    assert high.score < unsaid.score < low.score
    for outcome in (high, low, unsaid):
        base, points = outcome.whole_points()
        assert base + sum(points.values()) == outcome.score
    reason = next(reason for reason in high.reasons if reason.code == "DECLARED_DOWN")
    assert "leverage: 190.0%" in reason.text_en
    assert "杠杆率" in reason.text_zh
    assert reason.improve_en == ""  # it is the bank that said so
    assert ("declared", "银行申报信息", "what the bank states") in model.inputs.titles


def test_it_is_the_same_again(model: ServedModel, folder: Path, trained: Trained) -> None:
    vector = model.features(trained.firms[1], NOW, {"leverage": 0.7, "security": "none"})
    [made], [again] = model.score([vector]), ServedModel.load(folder).score([vector])
    assert made.said() == again.said()
