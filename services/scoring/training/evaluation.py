"""Outer evaluation: folds, and the margins of rows that no part of a model has seen.

Invariants: folds are made before anything is fitted; whatever is fitted sees its own training fold
alone: the hyper-parameters, the number of trees, the calibrator, the baselines. A firm is in one
fold where the table knows firms; out of time, nothing is measured on rows that are older than what
was trained on. What is done follows from the table and the settings, never from a clock.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.models.domain import ModelFeature
from services.scoring.training.baselines import Baseline
from services.scoring.training.domain import (
    GROUPED,
    OUT_OF_TIME,
    STRATIFIED,
    Floats,
    Ints,
    Parameters,
    Progress,
    Sample,
    Settings,
    Split,
    TrainingError,
    TrainingTable,
)
from services.scoring.training.tuning import (
    FREE_ROWS,
    ROWS_PER_TREE,
    Trained,
    candidates,
    train_calibrated,
    workers,
)

MEMBERS: Final = 4
"""Boosters of a model: their mean ranks better than each, AUC .960 against .958 on 7,027 firms."""

MIN_EVENTS: Final = 10
"""Of the rarer outcome: fewer cannot be split twice."""

FOLDS: Final = 5
MOST_REPEATS, REPEATED_ROWS = 5, 5_000
"""Repeats of the folds: small tables need them, and large ones have no time for them."""

PERIODS: Final = 3
"""Out of time without a cutoff: the last parts, each judged by a model of all before it."""

LAST: Final = 0.2
"""Share of the rows in one of them."""

LARGE: Final = 20_000
"""Rows from which one repeat of fewer folds is certain enough."""

HUGE: Final = 100_000
"""Rows from which one part is held out, inside as outside."""

INNER_FOLDS: Final = ((FREE_ROWS, 4), (12_000, 6), (HUGE, 3), (sys.maxsize, 1))
"""Inner folds, by the most rows. Where leaves are free, models of fewer rows are so much worse that
Platt's slope is too low: with three folds PDs of 7,027 firms had a slope of 1.15 out of fold."""

TUNED_ROWS: Final = 50_000
"""Rows that tuning looks at, at most."""

SECONDS_PER_CELL: Final = 9e-9
"""That one core needs for a row, a column and a tree of depth 4, measured on 5,600 x 64 x 400."""

PLANNED_CORES: Final = 2
PLANNED_TREES: Final = 400


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done with a table, before anything is.

    Args:
        kind: of the outer evaluation.
        repeats: outer splits, by repeat.
        inner: folds within a training part.
        tried: candidates of the tuning.
        members: boosters of a model.
        words: what was made smaller, and why; empty when nothing was.
    """

    kind: str
    repeats: tuple[tuple[Split, ...], ...]
    inner: int
    tried: tuple[Parameters, ...]
    members: int
    words: tuple[str, ...]

    @property
    def folds(self) -> int:
        """Outer models of a repeat."""
        return len(self.repeats[0])


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """What models said of rows that they had not seen.

    Args:
        log_odds: repeats x rows; NaN for rows that were only trained on.
        others: the same of baselines, by name.
        chosen: parameters of each outer model, by repeat and fold.
    """

    log_odds: Floats
    others: dict[str, Floats]
    chosen: tuple[Parameters, ...]


def sample_of(table: TrainingTable) -> Sample:
    """The table's rows, checked.

    Raises:
        TrainingError: the shapes differ, a label is neither 0 nor 1, an input is infinite, a weight
            is not positive, or an outcome is too rare.
    """
    matrix = np.ascontiguousarray(table.matrix, dtype=np.float64)
    labels = np.ascontiguousarray(table.labels, dtype=np.int64)
    rows, width = len(labels), len(table.features)
    if matrix.ndim != 2 or matrix.shape != (rows, width):
        raise TrainingError(
            f"the matrix has the shape {matrix.shape}: give {rows} labels x {width} features"
        )
    if not np.isin(labels, (0, 1)).all():
        raise TrainingError("a label is neither 0 nor 1: leave out what is undecided")
    if np.isinf(matrix).any():
        raise TrainingError("an input is infinite: features are finite, or NaN when missing")
    weights = np.ones(rows) if table.weights is None else np.asarray(table.weights, np.float64)
    if weights.shape != (rows,) or not (np.isfinite(weights) & (weights > 0)).all():
        raise TrainingError("a weight is not a positive number: leave out rows that do not count")
    groups = (
        np.arange(rows) if table.groups is None else np.unique(table.groups, return_inverse=True)[1]
    )
    events = np.unique(groups[labels == 1]), np.unique(groups[labels == 0])
    fewest = min(len(each) for each in events)
    if fewest < MIN_EVENTS:
        raise TrainingError(
            f"the rarer outcome has {fewest} rows or firms, too few to train and to measure on: "
            f"gather at least {MIN_EVENTS}, or start from an expert scorecard"
        )
    times = None if table.times is None else np.asarray(table.times, np.int64)
    return Sample(matrix, labels, weights / weights.mean(), groups.astype(np.int64), times)


def plan(sample: Sample, table: TrainingTable, settings: Settings) -> Plan:
    """What to do with a table.

    Raises:
        TrainingError: the settings do not fit the table.
    """
    rows, width = sample.matrix.shape
    kind = settings.kind or _kind(sample, table, settings)
    fewest = int(min(sample.labels.sum(), rows - sample.labels.sum()))
    words: list[str] = []
    if kind == STRATIFIED and table.groups is not None:
        kind = GROUPED
        words.append("firms were kept in one fold, which strata by row would not have done")
    if kind == OUT_OF_TIME:
        repeats: tuple[tuple[Split, ...], ...] = (_out_of_time(sample, settings),)
    else:
        folds = settings.folds or (FOLDS if rows <= LARGE else PERIODS)
        if settings.folds is None and rows > HUGE:
            folds = 1
            words.append(f"{rows:,} rows: a fifth was held out once, instead of folds")
        possible = max(2, fewest // 4)
        if folds > possible:
            words.append(f"{folds} folds of {fewest} rare outcomes: made {possible}")
            folds = possible
        times = settings.repeats or max(1, min(MOST_REPEATS, REPEATED_ROWS // rows))
        repeats = tuple(
            tuple(_folds(sample, kind, folds, settings.seed + at)) for at in range(times)
        )
    wanted = next(folds for most, folds in INNER_FOLDS if rows <= most)
    inner = min(wanted, max(2, fewest * 4 // 5 // 2))
    members = settings.members or (MEMBERS if rows <= LARGE else 1)
    kept = (1 - 1 / max(2, len(repeats[0]))) * (1 - 1 / max(2, inner))
    tried = settings.tried or candidates(rows, int(rows * kept * ROWS_PER_TREE))
    models = sum(len(splits) for splits in repeats) + 1
    seen = min(rows, TUNED_ROWS)
    each = models * inner * seen * width * PLANNED_TREES * SECONDS_PER_CELL / PLANNED_CORES
    number = settings.candidates or int(settings.budget / each)
    number = max(1, min(number, len(tried)))
    return Plan(
        kind,
        repeats,
        inner,
        tried[:number],
        members,
        tuple(words),
    )


def _kind(sample: Sample, table: TrainingTable, settings: Settings) -> str:
    if sample.times is not None:
        try:
            later = np.concatenate([split.unseen for split in _out_of_time(sample, settings)])
        except TrainingError:
            later = np.array([], dtype=np.int64)
        events = int(sample.labels[later].sum())
        if min(events, len(later) - events) >= MIN_EVENTS:
            return OUT_OF_TIME
    return STRATIFIED if table.groups is None else GROUPED


def inner_splits(sample: Sample, kind: str, folds: int, seed: int) -> list[Split]:
    """Folds within a training part, of the kind of the outer ones."""
    if kind == OUT_OF_TIME:
        found = _periods(sample, max(1, folds - 1))
        if found:
            return found
    return _folds(sample, kind, folds, seed)


def cross_validate(
    sample: Sample,
    features: Sequence[ModelFeature],
    stated: Plan,
    settings: Settings,
    baselines: dict[str, Baseline],
    progress: Progress | None = None,
) -> OutOfFold:
    """Measure what training such a table gives, on rows that it has not seen.

    Args:
        sample: the rows.
        features: of the columns.
        stated: what to do.
        settings: how.
        baselines: by name, under the same folds.
        progress: told of each outer model that is done.
    """
    tasks = [(at, split) for at, splits in enumerate(stated.repeats) for split in splits]
    shape = (len(stated.repeats), len(sample.labels))
    log_odds = np.full(shape, np.nan)
    others = {name: np.full(shape, np.nan) for name in baselines}
    chosen: list[Parameters] = []

    def measure(task: tuple[int, Split]) -> tuple[Trained, Floats, dict[str, Floats]]:
        split = task[1]
        seen, unseen = sample.rows(split.seen), sample.matrix[split.unseen]
        model = fit(seen, features, stated, settings)
        said = {name: baseline(seen, unseen) for name, baseline in baselines.items()}
        return model, unseen, said

    with workers(settings.threads) as mapper:
        for done, ((at, split), (model, unseen, said)) in enumerate(
            zip(tasks, mapper(measure, tasks), strict=True), 1
        ):
            log_odds[at, split.unseen] = model.log_odds(unseen)
            for name, found in said.items():
                others[name][at, split.unseen] = found
            chosen.append(model.parameters)
            if progress is not None:
                progress(done, len(tasks))
    return OutOfFold(log_odds, others, tuple(chosen))


def fit(
    sample: Sample,
    features: Sequence[ModelFeature],
    stated: Plan,
    settings: Settings,
    *,
    alone: bool = False,
) -> Trained:
    """Tune, calibrate and train on all rows of a sample, as the plan says.

    Args:
        sample: the rows.
        features: of the columns.
        stated: what to do.
        settings: how.
        alone: nothing else computes at the same time.
    """
    splits = inner_splits(sample, stated.kind, stated.inner, settings.seed)
    rows = len(sample.labels)
    look_at = None
    if rows > TUNED_ROWS:
        chance = np.random.default_rng(settings.seed)
        look_at = np.sort(chance.choice(rows, TUNED_ROWS, replace=False))
    with workers(settings.threads if alone else 1) as mapper:
        return train_calibrated(
            sample,
            features,
            splits,
            stated.tried,
            settings.seed,
            members=stated.members,
            mapper=mapper,
            look_at=look_at,
            level=_across_time(sample, stated, settings.seed),
        )


def _across_time(sample: Sample, stated: Plan, seed: int) -> list[Split]:
    """Folds by which a model of dated rows gets its level; none where no rows are judged by time.

    By folds in time, the level of 19,943 loans was that of the years before a recession plus its
    rise, and mean PD .196 where .152 was observed.
    """
    if stated.kind != OUT_OF_TIME:
        return []
    alone = len(np.unique(sample.groups)) == len(sample.labels)
    return _folds(sample, STRATIFIED if alone else GROUPED, stated.inner, seed)


def stratified(labels: Ints, folds: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    """Split rows by chance, so that each fold has its share of each class.

    The folds are those of scikit-learn's `StratifiedKFold(folds, shuffle=True, random_state=seed)`,
    which takes longer to import than a small model to train.

    Args:
        labels: 0 or 1; each at least as often as there are folds.
        folds: how many.
        seed: the same gives the same folds.

    Yields:
        The rows that a fold's model sees, and those that it does not.
    """
    chance = np.random.RandomState(seed)
    classes = [label for label in (labels[0], 1 - labels[0]) if label in labels]
    order = np.repeat(classes, [np.sum(labels == label) for label in classes])
    fold_of = np.empty(len(labels), dtype=np.int64)
    for label in classes:
        sizes = [int(np.sum(order[fold::folds] == label)) for fold in range(folds)]
        dealt = np.repeat(np.arange(folds), sizes)
        chance.shuffle(dealt)
        fold_of[labels == label] = dealt
    for fold in range(folds):
        yield np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)


def _folds(sample: Sample, kind: str, folds: int, seed: int) -> list[Split]:
    """Folds; a single one holds out a fifth."""
    parts = folds if folds > 1 else FOLDS
    if kind == STRATIFIED:
        made = [Split(*each) for each in stratified(sample.labels, parts, seed)]
    else:
        fold_of = _dealt(sample, parts, seed)[sample.groups]
        made = [
            Split(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold))
            for fold in range(parts)
        ]
    return made[:folds]


def _dealt(sample: Sample, folds: int, seed: int) -> Ints:
    """The fold of each group: largest first, each to where its outcome is rarest so far."""
    size = int(sample.groups.max()) + 1
    rows = np.bincount(sample.groups, minlength=size)
    bad = np.bincount(sample.groups, sample.labels, minlength=size)
    shuffled = np.random.default_rng(seed).permutation(size)
    order = shuffled[np.lexsort((-rows[shuffled], -bad[shuffled]))]
    fold_of = np.zeros(size, dtype=np.int64)
    held = np.zeros((2, folds))
    for group in order.tolist():
        goes = min(
            range(folds),
            key=lambda fold: (held[0, fold], held[1, fold]) if bad[group] else (held[1, fold],),
        )
        fold_of[group] = goes
        held[0, goes] += bad[group]
        held[1, goes] += rows[group]
    return fold_of


def _out_of_time(sample: Sample, settings: Settings) -> tuple[Split, ...]:
    if sample.times is None:
        raise TrainingError("the table states no times: name its column, or evaluate by folds")
    if settings.cutoff is None:
        found = _periods(sample, settings.folds or PERIODS)
    else:
        later = sample.times >= settings.cutoff
        found = [Split(np.flatnonzero(~later), np.flatnonzero(later))]
    found = [split for split in found if _both(sample.labels, split)]
    if not found:
        raise TrainingError(
            "no part of the time has enough of both outcomes before and after it: choose an "
            "earlier cutoff, or evaluate by folds"
        )
    return tuple(found)


def _periods(sample: Sample, parts: int) -> list[Split]:
    """The last parts of the time, each after all rows before it; same days stay together."""
    times = sample.times
    if times is None:
        return []
    first = max(1 - LAST * parts, 1 / (parts + 1))
    shares = np.linspace(first, 1, parts, endpoint=False)
    edges = np.unique(np.quantile(times, shares, method="higher"))
    ends = [*edges[1:].tolist(), int(times.max()) + 1]
    found = [
        Split(np.flatnonzero(times < start), np.flatnonzero((times >= start) & (times < end)))
        for start, end in zip(edges.tolist(), ends, strict=True)
    ]
    return [split for split in found if _both(sample.labels, split)]


def _both(labels: Ints, split: Split) -> bool:
    """Whether there is something to learn before, and something to tell apart after."""
    return all(
        min(int(labels[places].sum()), len(places) - int(labels[places].sum())) >= fewest
        for places, fewest in ((split.seen, MIN_EVENTS), (split.unseen, 1))
    )
