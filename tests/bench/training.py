"""How long a bank's usual table takes to train, beside the two minutes that it may take.

All of it, as `puhui model train TABLE` does it by default: evaluation with tuning inside, the peers
under the same folds, the final model, its checks and its folder. Made-up rows of eight inputs that
tell and 56 that do not. Processor time of all threads is given too, as the machine may be shared.
The last line is one JSON object.

Environment: BENCH_ROWS (6000), BENCH_COLUMNS (64).
"""

import datetime as dt
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from services.scoring.models.domain import InputSource, ModelFeature
from services.scoring.models.signing import ModelKey
from services.scoring.training.app import train
from services.scoring.training.domain import Settings, TrainingTable

ROWS = int(os.environ.get("BENCH_ROWS", "6000"))
COLUMNS = int(os.environ.get("BENCH_COLUMNS", "64"))
LIMIT_S = 120.0
TELLING = 8


def table() -> TrainingTable:
    """Rows of which a few inputs and one pair of them tell the outcome."""
    chance = np.random.default_rng(0)
    matrix = chance.normal(size=(ROWS, COLUMNS))
    odds = matrix[:, :TELLING].sum(axis=1) + matrix[:, 0] * matrix[:, 1] - 5
    labels = (chance.random(ROWS) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    features = tuple(ModelFeature(f"f{at}", "g", "", 0, InputSource.TABLE) for at in range(COLUMNS))
    return TrainingTable(matrix, features, labels)


def main() -> None:
    """Train once and tell."""
    made = table()
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        manifest = train(
            made,
            Settings(),
            Path(folder) / "model",
            trained_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            key=ModelKey.new(),
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        json.dumps(
            {
                "name": "training",
                "rows": ROWS,
                "columns": COLUMNS,
                "seconds": round(wall, 1),
                "processor_seconds": round(cpu, 1),
                "share_of_limit": round(wall / LIMIT_S, 3),
                "auc": round(manifest.metrics["auc"].value, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
