"""One model of rows: boosters of several seeds in one, and what they are tuned by.

Invariants: tuning, early stopping and calibration see the rows that they are given and no others;
each of them goes by margins of rows that their model did not see. The same rows, folds and seed
give the same trees, byte by byte, whatever the number of threads. `path_smooth` and `linear_tree`
stay off: they break monotone constraints.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np

from services.scoring.models.domain import Calibration, ModelFeature, tree_names
from services.scoring.training import metrics
from services.scoring.training.domain import (
    Floats,
    Ints,
    Parameters,
    Sample,
    Split,
    TrainingError,
)
from services.scoring.trees import lightgbm

STEP: Final = 25
"""Trees between two looks at the rows that are held out."""

PATIENCE: Final = 6
"""Looks without a better one that end a training."""

FREE_ROWS: Final = 5_000
"""Rows from which a leaf may be small: there, strong leaves cost accuracy."""

ROWS_PER_TREE: Final = 0.7
"""Share of the rows that a tree of the likeliest candidate sees."""

T = TypeVar("T")
R = TypeVar("R")


class Mapper(Protocol):
    """Applies a function to all items, in their order, perhaps at the same time."""

    def __call__(self, function: Callable[[T], R], items: Iterable[T], /) -> Iterable[R]:
        """Return the results in the order of the items."""
        ...


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate and how it did on the rows that its inner models did not see.

    Args:
        parameters: with the number of trees that did best.
        loss: log-loss after Platt.
        margins: with that number, by inner fold.
    """

    parameters: Parameters
    loss: float
    margins: tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class Trained:
    """A model, calibrated.

    Args:
        booster: its trees; the members' means.
        parameters: that were chosen.
        calibration: of its margins, by margins of rows that the inner models did not see.
        held_out: those rows, as places in the sample.
        margins: theirs.
        tried: in order.
    """

    booster: lightgbm.Booster
    parameters: Parameters
    calibration: Calibration
    held_out: Ints
    margins: Floats
    tried: tuple[Tried, ...]

    def log_odds(self, matrix: Floats) -> Floats:
        """Calibrated log-odds of rows."""
        return self.calibration.a * margins_of(self.booster, matrix) + self.calibration.b


def candidates(rows: int, seen: int) -> tuple[Parameters, ...]:
    """What is tried, first what is likely best: a fixed list, the same for every table of a size.

    Args:
        rows: of the sample.
        seen: of them, by a tree of an inner fold: with larger leaves it would split nothing.
    """
    large = max(5, min(rows // 10, 50, seen // 4))
    small = max(5, min(rows // 500, 20))
    strong = Parameters(400, 3, 0.1, ROWS_PER_TREE, 0.4, 1.0, large)
    free = Parameters(400, 4, 0.15, None, 0.7, 0.0, max(10, small))
    careful = Parameters(800, 4, 0.05, 0.9, 0.7, 0.0, 20)
    stumpy = Parameters(600, 2, 0.1, ROWS_PER_TREE, 0.4, 1.0, large)
    slow = Parameters(800, 3, 0.03, 0.5, 0.2, 10.0, large)
    middle = Parameters(600, 4, 0.05, 0.8, 0.3, 1.0, small)
    if rows < FREE_ROWS:
        return strong, middle, slow, stumpy, free, careful
    return free, strong, careful, middle, stumpy, slow


def lightgbm_parameters(
    chosen: Parameters, features: Sequence[ModelFeature], seed: int
) -> dict[str, object]:
    """LightGBM's own words."""
    rows: dict[str, object] = (
        {"data_sample_strategy": "goss"}
        if chosen.rows_per_tree is None
        else {"bagging_fraction": chosen.rows_per_tree, "bagging_freq": 1}
    )
    return rows | {
        "objective": "binary",
        "num_leaves": 2**chosen.depth,
        "max_depth": chosen.depth,
        "learning_rate": chosen.learning_rate,
        "feature_fraction": chosen.features_per_tree,
        "lambda_l2": chosen.l2,
        "min_data_in_leaf": chosen.min_leaf,
        "min_data_in_bin": 1,
        # Its default of 100 rows leaves small tables without their categories.
        "min_data_per_group": chosen.min_leaf,
        "monotone_constraints": [feature.monotone for feature in features],
        # The others were no better (AUC .9220 against .9211 and .9206 on 123 firms) and cost more.
        "monotone_constraints_method": "basic",
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        # Threads of its own wait for each other where others compute, too: 400 s for 30 s of work.
        "num_threads": 1,
        "verbose": -1,
    }


def margins_of(booster: lightgbm.Booster, matrix: Floats, start: int = 0) -> Floats:
    """Raw margins of rows, from the tree `start` on."""
    found = booster.predict(matrix, raw_score=True, num_threads=1, start_iteration=start)
    return np.asarray(found, dtype=np.float64)


def dataset(
    sample: Sample, features: Sequence[ModelFeature], parameters: dict[str, object]
) -> lightgbm.Dataset:
    """Rows as LightGBM takes them; names are its own business (see `tree_names`)."""
    return lightgbm.Dataset(
        sample.matrix,
        sample.labels,
        weight=sample.weights,
        feature_name=tree_names(features),
        categorical_feature=[at for at, each in enumerate(features) if each.categories],
        params=parameters,
        free_raw_data=False,
    )


def grow(
    sample: Sample,
    features: Sequence[ModelFeature],
    chosen: Parameters,
    seed: int,
    *,
    members: int = 1,
    mapper: Mapper = map,
) -> lightgbm.Booster:
    """Train one model of all rows of a sample.

    Args:
        sample: the rows.
        features: of the columns.
        chosen: how.
        seed: of the first member.
        members: boosters of different seeds, whose mean the model is; a power of two.
        mapper: for the members.
    """

    def member(at: int) -> lightgbm.Booster:
        stated = lightgbm_parameters(chosen, features, seed + at)
        return lightgbm.train(stated, dataset(sample, features, stated), chosen.trees)

    return mean_of(list(mapper(member, range(members))))


def mean_of(boosters: Sequence[lightgbm.Booster]) -> lightgbm.Booster:
    """One booster whose margin is the mean of theirs: all trees, each leaf divided by their number.

    Args:
        boosters: a power of two of them, so that dividing is exact.
    """
    if len(boosters) == 1:
        return boosters[0]
    texts = [booster.model_to_string() for booster in boosters]
    head, _, rest = texts[0].partition("\nTree=")
    tail = rest[rest.index("\nend of trees") :]
    trees = [
        _scaled(tree, len(boosters))
        for text in texts
        for tree in text[: text.index("\nend of trees")].split("\nTree=")[1:]
    ]
    blocks = [
        f"Tree={at}\n" + tree.partition("\n")[2].rstrip("\n") + "\n\n\n"
        for at, tree in enumerate(trees)
    ]
    sizes = " ".join(str(len(block)) for block in blocks)
    head = re.sub(r"(?m)^tree_sizes=.*$", f"tree_sizes={sizes}", head)
    return lightgbm.Booster(model_str=head + "\n" + "".join(blocks).rstrip("\n") + "\n\n" + tail)


def _scaled(tree: str, parts: int) -> str:
    def line(found: re.Match[str]) -> str:
        values = " ".join(repr(float(value) / parts) for value in found[2].split())
        return f"{found[1]}={values}"

    return re.sub(r"(?m)^(leaf_value|internal_value|shrinkage)=(.*)$", line, tree)


def train_calibrated(
    sample: Sample,
    features: Sequence[ModelFeature],
    splits: Sequence[Split],
    tried: Sequence[Parameters],
    seed: int,
    *,
    members: int = 1,
    mapper: Mapper = map,
    look_at: Ints | None = None,
    level: Sequence[Split] = (),
) -> Trained:
    """Tune, calibrate and train on a sample.

    Folds in time tell how well a model ranks later rows, so they give the slope. How much riskier
    later rows were than those before them is no part of this model's error, for it has seen both:
    the intercept is that of `level`.

    Args:
        sample: the rows; nothing else is looked at.
        features: of the columns.
        splits: inner folds, as places in the sample.
        tried: candidates.
        seed: of all randomness.
        members: see `grow`.
        mapper: for what can be done at the same time.
        look_at: rows that tuning goes by where the sample is large; None: all.
        level: folds across time that the level of PDs is set by; none: `splits` sets it.

    Raises:
        TrainingError: margins of rows that were not seen do not rank defaults higher.
    """
    tuned = _tune(sample, features, splits, tried, seed, mapper, look_at)
    best = min(tuned, key=lambda each: each.loss)
    chosen = best.parameters

    def unseen(folds: Sequence[Split], sums: list[Floats], first: int) -> tuple[Ints, Floats]:
        """Rows that are held out, and what all members say of them, of whom some have spoken."""
        tasks = [(at, member) for at in range(len(folds)) for member in range(first, members)]

        def held(task: tuple[int, int]) -> Floats:
            split, member = folds[task[0]], task[1]
            seen = sample.rows(split.seen)
            booster = grow(seen, features, chosen, seed + member)
            return margins_of(booster, sample.matrix[split.unseen])

        for (at, _), found in zip(tasks, mapper(held, tasks), strict=True):
            sums[at] = sums[at] + found
        places = np.concatenate([split.unseen for split in folds])
        return places, np.concatenate(sums) / members

    # What the first member says of rows that are held out is known from tuning on all rows.
    if look_at is None:
        held_out, margins = unseen(splits, list(best.margins), 1)
    else:
        held_out, margins = unseen(splits, [np.zeros(len(split.unseen)) for split in splits], 0)
    calibration = metrics.platt(margins, sample.labels[held_out], sample.weights[held_out])
    if level:
        held_out, margins = unseen(level, [np.zeros(len(split.unseen)) for split in level], 0)
        labels, weights = sample.labels[held_out], sample.weights[held_out]
        calibration = metrics.levelled(calibration, margins, labels, weights)
    booster = grow(sample, features, chosen, seed, members=members, mapper=mapper)
    return Trained(booster, chosen, calibration, held_out, margins, tuple(tuned))


def _tune(
    sample: Sample,
    features: Sequence[ModelFeature],
    splits: Sequence[Split],
    tried: Sequence[Parameters],
    seed: int,
    mapper: Mapper,
    look_at: Ints | None,
) -> list[Tried]:
    if look_at is not None:
        within = np.zeros(len(sample.labels), dtype=np.bool_)
        within[look_at] = True
        splits = [
            Split(split.seen[within[split.seen]], split.unseen[within[split.unseen]])
            for split in splits
        ]
    unseen = np.concatenate([split.unseen for split in splits])
    labels, weights = sample.labels[unseen], sample.weights[unseen]
    return [_try(each, sample, splits, features, labels, weights, seed, mapper) for each in tried]


def _try(
    tried: Parameters,
    sample: Sample,
    splits: Sequence[Split],
    features: Sequence[ModelFeature],
    labels: Ints,
    weights: Floats,
    seed: int,
    mapper: Mapper,
) -> Tried:
    """All inner folds grow together, so that they stop together: by all rows that are held out."""
    stated = lightgbm_parameters(tried, features, seed)

    def start(split: Split) -> lightgbm.Booster:
        return lightgbm.Booster(stated, dataset(sample.rows(split.seen), features, stated))

    boosters = list(mapper(start, splits))
    margins = [np.zeros(len(split.unseen)) for split in splits]

    def further(at: int) -> Floats:
        booster, before = boosters[at], boosters[at].current_iteration()
        while booster.current_iteration() < trees:
            if booster.update():
                break
        if booster.current_iteration() == before:
            return margins[at]
        return margins[at] + margins_of(booster, sample.matrix[splits[at].unseen], before)

    best, at_best, best_loss, since = tried.trees, tuple(margins), float("inf"), 0
    for trees in [*range(STEP, tried.trees, STEP), tried.trees]:
        margins = list(mapper(further, range(len(splits))))
        found = calibrated_loss(np.concatenate(margins), labels, weights)
        since += 1
        if found < best_loss or tried.exactly:
            best, at_best, best_loss, since = trees, tuple(margins), found, 0
        if since == PATIENCE:
            break
    return Tried(dataclasses.replace(tried, trees=best), best_loss, at_best)


def calibrated_loss(margins: Floats, labels: Ints, weights: Floats) -> float:
    """Log-loss after Platt: what margins are worth once calibrated; infinite if nothing."""
    try:
        fitted = metrics.platt(margins, labels, weights)
    except TrainingError:
        return float("inf")
    return metrics.log_loss(labels, fitted.a * margins + fitted.b, weights)


@contextmanager
def workers(threads: int) -> Iterator[Mapper]:
    """A mapper over so many threads; LightGBM computes outside Python's lock."""
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map
