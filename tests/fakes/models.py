"""A model of a bank's own table, small enough to be trained anew wherever one is needed."""

import datetime as dt
from pathlib import Path

import numpy as np

from services.scoring.models.domain import InputSource, Manifest, ModelFeature, Words
from services.scoring.models.signing import ModelKey
from services.scoring.training.app import train
from services.scoring.training.domain import Parameters, Settings, TrainingTable

SETTINGS = Settings(
    outcome="90 days past due within a year",
    population="240 firms made up for tests",
    tried=(Parameters(12, 3, 0.2, 0.7, 1.0, 1.0, 10, exactly=True),),
    members=1,
    folds=3,
    repeats=1,
    baselines=False,
    resamples=20,
)
FEATURES = (
    ModelFeature("sales", "trade", "ratio", -1, InputSource.TABLE, zh="销售额", en="sales"),
    ModelFeature("overdue", "credit", "days", 1, InputSource.TABLE, zh="逾期天数", en="overdue"),
    ModelFeature(
        "industry", "basics", "category", 0, InputSource.TABLE, ("C", "F", "I"), None, "行业"
    ),
)
WORDS = {
    "trade": Words("经营", "trade"),
    "credit": Words("信贷", "credit"),
    "basics": Words("基本情况", "basics"),
}


def small_model(folder: Path, key: ModelKey) -> Manifest:
    """Train and write it."""
    chance = np.random.default_rng(3)
    rows = 240
    sales, overdue = chance.normal(size=rows), chance.exponential(10, rows)
    overdue[::9] = np.nan
    matrix = np.column_stack([sales, overdue, chance.integers(0, 3, rows)])
    risk = -1.6 * sales + 0.06 * np.nan_to_num(overdue) - 1.2
    labels = (chance.random(rows) < 1 / (1 + np.exp(-risk))).astype(np.int64)
    table = TrainingTable(
        matrix,
        FEATURES,
        labels,
        segments={"industry": [str(FEATURES[2].categories[int(code)]) for code in matrix[:, 2]]},
        words=WORDS,
        source="firms made up for tests",
        as_of="2024-05-31",
        simulated=True,
    )
    trained_at = dt.datetime(2024, 6, 1, tzinfo=dt.UTC)
    return train(table, SETTINGS, folder, trained_at=trained_at, key=key)
