"""How fast a model scores and explains exactly, beside LightGBM and shap on the same rows.

The data are made up, seeded, in the shape of the platform's model: its features with their groups
and constraints, a twelfth of the values missing. The last line is about 200 trees of three levels,
the trainer's first choice for tables of up to some thousand rows; the table also shows four levels
and four times the trees. One thread everywhere.

What is timed:

- *scored*: `Scorer.score`, and all that a decision takes from it is read: PD and its interval,
  score, grade, base and points of groups, contribution of each feature, codes of the four strongest
  reasons.
- *pred_contrib*: `Booster.predict(pred_contrib=True)`: contributions alone; PD, score, grade,
  points and reasons would have to be computed on top. The last line's ratios are its time by ours.
- *margins*: `Booster.predict(raw_score=True)`: no reasons at all.
- *shap*: `TreeExplainer.shap_values`, which is path-dependent without a background.

Single is a row a call, different ones in turn, the median of all calls; batch is a call for all
rows, the best of several rounds, in which all take turns. A million rows go through `Scorer.score`,
some thousand at once, and PD, score, grade and reasons of each are kept. The difference is the
largest between our contributions and those of `pred_contrib`, over rows that also have infinite,
tiny and withheld values. The last line is one JSON object.

Environment: BENCH_ROWS (1,000,000), BENCH_ROUNDS (5).
"""

import json
import math
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from services.scoring.models.domain import (
    DEFAULT_GRADES,
    FORMAT,
    Band,
    Calibration,
    DataStatement,
    Interval,
    Manifest,
    ModelClass,
    Reference,
    Scaling,
    tree_names,
)
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.scorer import Floats, ScoreBatch, Scorer
from services.scoring.trees import lightgbm

ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
MODELS = ((200, 3), (200, 4), (800, 4))
"""Trees and levels; the last line is about the first."""

_TRAINING, _BATCH, _SINGLE = 6_000, 2_000, 300
_REASONS = 4
_AT_ONCE = 16_384
_STEPS = (
    tuple(np.linspace(-6, 2, 20).tolist()),
    tuple(np.linspace(0, 0.7, 20).tolist()),
    tuple(np.linspace(0.01, 0.9, 20).tolist()),
)
_ODD = (math.inf, -math.inf, 1e18, -1e18, 1e-36, -1e-36, 0.0, -0.0, 1e-35, 1e300)


def table(rows: int, chance: np.random.Generator) -> Floats:
    """Returns rows as the platform's features have them, as to the shape."""
    matrix = chance.normal(size=(rows, len(PLATFORM.features)))
    matrix[:, ::4] = np.floor(2 * np.abs(matrix[:, ::4]))  # counts
    matrix[chance.random(matrix.shape) < 1 / 12] = math.nan
    return matrix


def train(trees: int, depth: int) -> str:
    """Returns the text of a model."""
    chance = np.random.default_rng(20)
    matrix = table(_TRAINING, chance)
    signs = np.array([feature.monotone for feature in PLATFORM.features])
    weights = np.where(signs == 0, 1, signs) * chance.exponential(size=len(signs)) ** 2
    risk = np.nan_to_num(matrix) @ weights + 3 * np.nan_to_num(matrix[:, 1] * matrix[:, 2])
    labels = (risk + 5 * chance.normal(size=len(risk)) > np.quantile(risk, 0.9)).astype(int)
    stated = {
        "objective": "binary",
        "num_leaves": 2**depth,
        "max_depth": depth,
        "learning_rate": 0.1,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "feature_fraction": 0.4,
        "lambda_l2": 1.0,
        "min_data_in_leaf": 50,
        "monotone_constraints": signs.tolist(),
        "seed": 20,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(
        matrix, labels, feature_name=tree_names(PLATFORM.features), params=stated
    )
    return lightgbm.train(stated, data, trees).model_to_string()


def scorer_of(text: str) -> Scorer:
    """Returns a model as it is served, with the training's means for its reasons."""
    features = PLATFORM.features
    manifest = Manifest(
        format=FORMAT,
        version="made-up",
        model_class=ModelClass.SIMULATED,
        outcome="",
        files={},
        feature_version=PLATFORM.feature_version,
        reason_version=PLATFORM.reason_version,
        features=features,
        fills={},
        calibration=Calibration(1.1, 0.1),
        scaling=Scaling(),
        grades=DEFAULT_GRADES,
        reference=Reference("", 0, {f.name: 0.1 for f in features}),
        data=DataStatement("", 0, 0, "", "", ""),
        seed=0,
        parameters={},
        metrics={},
        bins={},
        golden=(),
        interval=Interval("", tuple(Band(share, *_STEPS) for share in (0.1, 0.25, 0.5, 1.0)), 3.0),
    )
    return Scorer(manifest, text)


def read(scorer: Scorer, rows: Floats) -> tuple[Any, ...]:
    """Scores one row; returns what a decision takes."""
    batch = scorer.score(rows)
    return (
        batch.pds[0],
        batch.scores[0],
        batch.grades[0],
        batch.lows[0],
        batch.highs[0],
        batch.refer[0],
        batch.base_points,
        batch.group_points[0],
        batch.contributions[0],
        scorer.reason_codes(batch, 0, _REASONS),
    )


def read_all(codes: np.ndarray[Any, Any], batch: ScoreBatch) -> tuple[Any, ...]:
    """Returns what decisions take of many rows; reasons as text, "" is none."""
    return (
        batch.pds,
        batch.scores,
        batch.grades,
        batch.lows,
        batch.highs,
        batch.refer,
        batch.group_points,
        batch.contributions,
        codes[batch.reasons[:, :_REASONS]],
    )


def each(contenders: dict[str, Callable[[Floats], object]], rows: Floats) -> dict[str, float]:
    """Returns microseconds per call with one row: the median, which no interruption moves."""
    singles = [rows[at : at + 1].copy() for at in range(_SINGLE)]
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            for row in singles[:20] if name == "shap" else singles:
                started = time.perf_counter()
                run(row)
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) * 1e6 for name, times in found.items()}


def whole(contenders: dict[str, Callable[[Floats], object]], rows: Floats) -> dict[str, float]:
    """Returns microseconds per row in a call with all of them: the best."""
    found = dict.fromkeys(contenders, math.inf)
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            started = time.perf_counter()
            run(rows)
            found[name] = min(found[name], (time.perf_counter() - started) / len(rows) * 1e6)
    return found


def measure(text: str) -> tuple[dict[str, float], dict[str, float], float]:
    """Returns microseconds per row, single and in batch, and the largest difference."""
    import shap  # type: ignore[import-untyped]  # publishes no types

    booster, scorer = lightgbm.Booster(model_str=text), scorer_of(text)
    explainer = shap.TreeExplainer(booster)
    codes = np.array([*scorer.codes, ""])
    chance = np.random.default_rng(7)
    rows = table(_BATCH, chance)

    def contributions(matrix: Floats) -> object:
        return booster.predict(matrix, pred_contrib=True, num_threads=1)

    others = {
        "pred_contrib": contributions,
        "margins": lambda matrix: booster.predict(matrix, raw_score=True, num_threads=1),
        "shap": explainer.shap_values,
    }
    single = each({"scored": lambda row: read(scorer, row)} | others, rows)
    batch = whole({"scored": lambda matrix: read_all(codes, scorer.score(matrix))} | others, rows)
    odd = rows.copy()
    places = chance.random(odd.shape) < 0.05
    odd[places] = chance.choice(_ODD, int(places.sum()))
    asked = np.concatenate([rows, odd])
    off = np.abs(scorer.score(asked).contributions - np.asarray(contributions(asked))).max()
    return single, batch, float(off)


def many(text: str) -> tuple[float, int, int]:
    """Returns the seconds that ROWS take, and the memory before and at most, in MB."""
    scorer = scorer_of(text)
    part = table(min(_AT_ONCE, ROWS), np.random.default_rng(8))
    pds, scores = np.empty(ROWS), np.empty(ROWS, dtype=np.int32)
    grades = np.empty(ROWS, dtype="U3")
    reasons = np.empty((ROWS, _REASONS), dtype=np.int16)

    before = _peak()
    started = time.perf_counter()
    for at in range(0, ROWS, len(part)):
        batch = scorer.score(part[: ROWS - at])
        to = at + len(batch.pds)
        pds[at:to], scores[at:to], grades[at:to] = batch.pds, batch.scores, batch.grades
        reasons[at:to] = batch.reasons[:, :_REASONS]
    seconds = time.perf_counter() - started
    if not ((pds > 0) & (pds < 1)).all() or (reasons[:, 0] < 0).all():
        raise RuntimeError("a row has no score")
    return seconds, before, _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Measures all models; prints a table and the last line."""
    texts = {model: train(*model) for model in MODELS}
    seconds, before, peak = many(texts[MODELS[0]])
    shown = Table(title=f"microseconds per row, {len(PLATFORM.features)} features, one thread")
    for name in ("model", "call", "scored", "pred_contrib", "margins", "shap", "times faster"):
        shown.add_column(name, justify="left" if name in ("model", "call") else "right")
    results = {}
    for (trees, depth), text in texts.items():
        results[trees, depth] = single, batch, _ = measure(text)
        for call, found in (("single", single), (f"batch of {_BATCH:,}", batch)):
            shown.add_row(
                f"{trees} trees of {depth} levels",
                call,
                *(f"{value:,.1f}" for value in found.values()),
                f"{found['pred_contrib'] / found['scored']:.1f}",
            )
    console = Console(width=110)
    console.print(shown)
    console.print(
        f"{ROWS:,} rows scored and explained in {seconds:.1f} s; memory {before} MB before, "
        f"{peak} MB at most",
        highlight=False,
    )
    single, batch, _ = results[MODELS[0]]
    print(
        json.dumps(
            {
                "name": "scoring",
                "single_vs_pred_contrib": round(single["pred_contrib"] / single["scored"], 2),
                "batch_vs_pred_contrib": round(batch["pred_contrib"] / batch["scored"], 2),
                "single_us": round(single["scored"], 2),
                "batch_rows_per_s": round(1e6 / batch["scored"]),
                "max_abs_difference": max(off for _, _, off in results.values()),
            }
        )
    )


if __name__ == "__main__":
    main()
