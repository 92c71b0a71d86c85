"""Train a model and write its folder.

Invariants: the same table and settings give the same trees, byte by byte; a model whose constrained
feature moves the wrong way, or that does not rank out of fold, is not written.
"""

import dataclasses
import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from services.scoring.models.domain import (
    FORMAT,
    SCORE,
    Bins,
    DataStatement,
    Golden,
    Manifest,
    Metric,
    ModelClass,
    ModelFeature,
    Reference,
)
from services.scoring.models.folder import write_folder
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.intervals import missing_share
from services.scoring.models.scorer import ScoreBatch, Scorer
from services.scoring.models.signing import ModelKey
from services.scoring.training import evidence
from services.scoring.training.baselines import WORDS, baselines
from services.scoring.training.card import card
from services.scoring.training.comparison import (
    Comparison,
    Measured,
    periods_of,
    resamples_of,
    row_pds,
)
from services.scoring.training.domain import (
    OUT_OF_TIME,
    Floats,
    Progress,
    Sample,
    Settings,
    TrainingTable,
)
from services.scoring.training.environment import environment
from services.scoring.training.evaluation import (
    OutOfFold,
    Plan,
    cross_validate,
    fit,
    plan,
    sample_of,
)
from services.scoring.training.evidence import (
    Approval,
    Axis,
    Baseline,
    Evidence,
    OutcomeStatement,
    Protocol,
    Sampling,
    Slice,
    Trial,
)
from services.scoring.training.golden import golden_rows
from services.scoring.training.intervals import fit_interval
from services.scoring.training.sweep import BEYOND, Swept, check_monotone
from services.scoring.training.tuning import Trained, margins_of

GOLDEN_ROWS: Final = 8
MAX_BINS: Final = 10
REFERENCE_ROWS: Final = 20_000
"""Rows that means and bins are taken of: more change no digit that is shown."""

APPROVED: Final = 0.8
"""Share of the weighted rows that counts as approved, where no bank said its own."""

AXES: Final = 12
AXIS_POINTS: Final = 15
AXIS_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """What the maker of a table says of it, for training.json.

    Args:
        outcome: what a label of 1 means; the definition of the settings where it is empty.
        left_out: rows that were not used, by reason.
        sampling: how the rows came to be, in words.
        spec: as it was used, TOML.
        environment: who trained, and more of what it ran on, by name.
    """

    outcome: OutcomeStatement = field(default_factory=OutcomeStatement)
    left_out: Mapping[str, int] = field(default_factory=dict)
    sampling: str = ""
    spec: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was measured out of fold.

    Args:
        measured: the model.
        others: the baselines, by name.
        said: log-odds by repeat and row.
    """

    measured: Measured
    others: Mapping[str, Measured]
    said: OutOfFold


def train(
    table: TrainingTable,
    settings: Settings,
    folder: Path,
    *,
    trained_at: dt.datetime,
    key: ModelKey,
    statement: Statement | None = None,
    feature_version: int = PLATFORM.feature_version,
    reason_version: int = PLATFORM.reason_version,
    progress: Progress | None = None,
) -> Manifest:
    """Train, evaluate, calibrate, check and write a model.

    Args:
        table: what to train on.
        settings: how.
        folder: to write; its name is the model's version.
        trained_at: aware.
        key: that signs the model.
        statement: what is known of the table beside it.
        feature_version: of the definitions of the platform's features.
        reason_version: of the catalogue of reasons.
        progress: told of each outer model that is done.

    Returns:
        The manifest of the folder.

    Raises:
        TrainingError: there must not be a model of this table.
        FileExistsError: the folder exists.
    """
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists: a model's version never changes, take another name"
        )
    statement = statement or Statement()
    features = table.features
    sample = sample_of(table)
    planned = plan(sample, table, settings)
    comparison = compare(sample, table, planned, settings)
    evaluated, model = _measured_and_trained(sample, table, planned, settings, comparison, progress)
    swept = check_monotone(model.booster, sample.matrix, features, settings.seed)
    shown = _shown(sample, settings.seed)
    draft = Manifest(
        format=FORMAT,
        version=folder.name,
        model_class=ModelClass.SIMULATED if table.simulated else settings.model_class,
        outcome=settings.outcome,
        files={},
        feature_version=feature_version,
        reason_version=reason_version,
        features=features,
        fills=_fills(sample.matrix, features),
        calibration=model.calibration,
        scaling=settings.scaling,
        grades=settings.grades,
        reference=Reference(
            settings.population, len(shown.labels), {each.name: 0.0 for each in features}
        ),
        data=DataStatement(
            source=table.source,
            rows=len(sample.labels),
            events=int(sample.labels.sum()),
            as_of=table.as_of,
            sha256=table.sha256
            or hashlib.sha256(sample.matrix.tobytes() + sample.labels.tobytes()).hexdigest(),
            trained_at=trained_at.astimezone(dt.UTC).isoformat(timespec="seconds"),
        ),
        seed=settings.seed,
        parameters=model.parameters.stated()
        | {
            "members": planned.members,
            "folds": planned.folds,
            "repeats": len(planned.repeats),
            "evaluation": planned.kind,
        },
        metrics={
            name: Metric(figure.value, figure.deviation)
            for name, figure in evaluated.measured.figures.items()
        },
        bins={},
        golden=(),
        interval=fit_interval(
            model.margins,
            sample.labels[model.held_out],
            sample.weights[model.held_out],
            missing_share(sample.matrix[model.held_out]),
            model.calibration,
        ),
        words=table.words,
    )
    trees = model.booster.model_to_string()
    batch = Scorer(draft, trees).score(shown.matrix)
    means = np.average(batch.feature_points, axis=0, weights=shown.weights).tolist()
    manifest = dataclasses.replace(
        draft,
        reference=dataclasses.replace(
            draft.reference,
            points={each.name: mean for each, mean in zip(features, means, strict=True)},
        ),
        bins={
            each.name: bins(shown.matrix[:, at], shown.weights) for at, each in enumerate(features)
        }
        | {SCORE: bins(batch.totals, shown.weights)},
        golden=_golden(draft, trees, shown.matrix, batch),
    )
    measured = _evidence(
        table,
        sample,
        settings,
        statement,
        planned,
        comparison,
        evaluated,
        model,
        swept,
        shown,
        batch,
    )
    return write_folder(
        folder,
        manifest,
        model=trees,
        card=card(manifest, measured),
        training=evidence.dump(measured),
        key=key,
    )


def models_to_train(table: TrainingTable, settings: Settings) -> int:
    """How many outer models `train` tells its progress of.

    Raises:
        TrainingError: there must not be a model of this table.
    """
    return sum(len(splits) for splits in plan(sample_of(table), table, settings).repeats)


def compare(sample: Sample, table: TrainingTable, planned: Plan, settings: Settings) -> Comparison:
    """What measures models on this table."""
    resamples = settings.resamples
    return Comparison(
        sample,
        planned.repeats,
        planned.kind,
        resamples_of(len(sample.labels)) if resamples is None else resamples,
        settings.seed,
        firms=table.groups is not None,
        weighted=table.weights is not None,
    )


def evaluate(
    sample: Sample,
    table: TrainingTable,
    planned: Plan,
    settings: Settings,
    comparison: Comparison,
    progress: Progress | None = None,
) -> Evaluated:
    """Measure what training on such a table gives, on rows that it has not seen."""
    beside = baselines(table.features, settings.seed) if settings.baselines else {}
    said = cross_validate(sample, table.features, planned, settings, beside, progress)
    return Evaluated(
        comparison.measure(said.log_odds),
        {name: comparison.measure(other) for name, other in said.others.items()},
        said,
    )


def _measured_and_trained(
    sample: Sample,
    table: TrainingTable,
    planned: Plan,
    settings: Settings,
    comparison: Comparison,
    progress: Progress | None,
) -> tuple[Evaluated, Trained]:
    if sum(len(splits) for splits in planned.repeats) > 1 or settings.threads == 1:
        evaluated = evaluate(sample, table, planned, settings, comparison, progress)
        return evaluated, fit(sample, table.features, planned, settings, alone=True)
    # A single outer model, of a large table, leaves a core free.
    with ThreadPoolExecutor(1) as pool:
        trained = pool.submit(fit, sample, table.features, planned, settings)
        evaluated = evaluate(sample, table, planned, settings, comparison, progress)
        return evaluated, trained.result()


def _evidence(
    table: TrainingTable,
    sample: Sample,
    settings: Settings,
    statement: Statement,
    planned: Plan,
    comparison: Comparison,
    evaluated: Evaluated,
    model: Trained,
    swept: Sequence[Swept],
    shown: Sample,
    batch: ScoreBatch,
) -> Evidence:
    said = evaluated.said.log_odds
    pds = row_pds(said)
    there = ~np.isnan(pds)
    approved_below = float(
        np.quantile(pds[there], APPROVED, weights=sample.weights[there], method="inverted_cdf")
    )

    def slices(values: Sequence[str]) -> tuple[Slice, ...]:
        return comparison.slices(values, said, pds, settings.scaling, approved_below)

    importance, by_group = _importance(table.features, batch, shown.weights)
    outcome = statement.outcome
    if not outcome.definition:
        outcome = dataclasses.replace(outcome, definition=settings.outcome)
    return Evidence(
        outcome=outcome,
        sampling=Sampling(
            rows=len(sample.labels),
            events=int(sample.labels.sum()),
            groups=None if table.groups is None else int(sample.groups.max()) + 1,
            weighted=table.weights is not None,
            prior=float(np.average(sample.labels, weights=sample.weights)),
            left_out=statement.left_out,
            words=statement.sampling,
        ),
        protocol=_protocol(planned, settings, evaluated.said, comparison),
        metrics=evaluated.measured.figures,
        folds=comparison.folds(said),
        roc=comparison.roc(said),
        reliability=comparison.reliability(pds),
        scores=comparison.scores(pds, settings.scaling),
        gains=comparison.gains(pds, settings.scaling),
        grades=comparison.grades(pds, settings.grades),
        approval=Approval(
            approved_below,
            "the PD below which four in five of the rows lie, weighted where they carry "
            "weights: no bank's own cut was stated",
        ),
        segments={name: slices(values) for name, values in table.segments.items()},
        periods=()
        if sample.times is None
        else tuple(sorted(slices(periods_of(sample.times)), key=lambda each: each.value)),
        coverage=slices(table.coverage) if len(table.coverage) else (),
        baselines=tuple(
            Baseline(name, other.figures, words=WORDS[name])
            for name, other in evaluated.others.items()
        ),
        paired=tuple(
            test
            for name, other in evaluated.others.items()
            for test in comparison.paired(
                name, evaluated.measured, other, said, evaluated.said.others[name]
            )
        ),
        populations=_populations(table, sample, planned, comparison, evaluated),
        findings=table.findings,
        importance=importance,
        group_importance=by_group,
        axes=_axes(table.features, model, swept, shown, importance),
        sweep_rows=swept[0].rows if swept else 0,
        trials=tuple(
            Trial(
                number,
                each.parameters.stated(),
                each.loss,
                chosen=each.parameters == model.parameters,
            )
            for number, each in enumerate(model.tried, 1)
            if np.isfinite(each.loss)
        ),
        spec=statement.spec,
        environment=environment() | dict(statement.environment),
    )


def _protocol(
    planned: Plan, settings: Settings, said: OutOfFold, comparison: Comparison
) -> Protocol:
    chosen = Counter(f"depth {each.depth}, rate {each.learning_rate:g}" for each in said.chosen)
    tuning = (
        f"{len(planned.tried)} of a fixed list of settings, and the number of trees, by log-loss "
        f"after Platt over {planned.inner} inner fold(s) of each training part; a budget of "
        f"{settings.budget:g} s on two cores was turned into that number by the table's size. "
        f"Outer models chose: "
        + "; ".join(f"{words} ({number})" for words, number in chosen.most_common())
        + "".join(f". {words}" for words in planned.words)
    )
    cutoff = ""
    if settings.cutoff is not None and planned.kind == OUT_OF_TIME:
        cutoff = (dt.date(1970, 1, 1) + dt.timedelta(days=settings.cutoff)).isoformat()
    return Protocol(
        kind=planned.kind,
        folds=planned.folds,
        repeats=len(planned.repeats),
        cutoff=cutoff,
        tuning=tuning,
        calibration=(
            "Platt, by maximum likelihood on margins of rows that the inner models had not seen"
            + (", intercept by folds across time" if planned.kind == OUT_OF_TIME else "")
        ),
        intervals=comparison.words,
        resamples=comparison.resamples,
        seed=settings.seed,
    )


def _populations(
    table: TrainingTable,
    sample: Sample,
    planned: Plan,
    comparison: Comparison,
    evaluated: Evaluated,
) -> tuple[Baseline, ...]:
    """The model on some of the rows: accepted applicants, firms that training had not seen."""
    said = evaluated.said.log_odds
    there = ~np.isnan(said).all(axis=0)
    parts: list[tuple[str, np.ndarray[tuple[int], np.dtype[np.bool_]], str]] = []
    if table.accepted is not None:
        accepted = np.asarray(table.accepted, dtype=np.bool_)
        parts.append(("accepted applicants", accepted, "their outcomes were seen"))
        parts.append(("all applicants", np.ones_like(accepted), "rejected ones as stated"))
    if planned.kind == OUT_OF_TIME and table.groups is not None:
        new = np.zeros_like(there)
        for split in planned.repeats[0]:
            known = np.isin(sample.groups[split.unseen], sample.groups[split.seen])
            new[split.unseen[~known]] = True
        parts.append(("firms that training had not seen", new, "of the later rows"))
    found = []
    for name, within, words in parts:
        rows = within & there
        labels = sample.labels[rows]
        if 0 < labels.sum() < len(labels):
            figures = comparison.measure(said, within).figures
            found.append(Baseline(name, figures, int(rows.sum()), words))
    return tuple(found)


def _importance(
    features: Sequence[ModelFeature], batch: ScoreBatch, weights: Floats
) -> tuple[dict[str, float], dict[str, float]]:
    points = batch.feature_points
    single = np.average(np.abs(points), axis=0, weights=weights).tolist()
    groups = {}
    for group in dict.fromkeys(each.group for each in features):
        columns = [at for at, each in enumerate(features) if each.group == group]
        together = np.abs(points[:, columns].sum(axis=1))
        groups[group] = float(np.average(together, weights=weights))
    return {each.name: value for each, value in zip(features, single, strict=True)}, groups


def _axes(
    features: Sequence[ModelFeature],
    model: Trained,
    swept: Sequence[Swept],
    shown: Sample,
    importance: Mapping[str, float],
) -> tuple[Axis, ...]:
    """Mean log-odds along the constrained inputs and the most important free ones."""
    moves = {each.feature: each.moves for each in swept}
    order = sorted(range(len(features)), key=lambda at: -importance[features[at].name])
    free = [at for at in order if not features[at].monotone and not features[at].categories]
    rows = shown.matrix[np.linspace(0, len(shown.labels) - 1, AXIS_ROWS).astype(np.int64)]
    found = []
    for at in [at for at in order if at in moves] + free[:AXES]:
        column = shown.matrix[:, at]
        column = column[~np.isnan(column) & (np.abs(column) < BEYOND)]
        if not len(column):
            continue
        points = np.unique(np.quantile(column, np.linspace(0.01, 0.99, AXIS_POINTS)))
        moved = np.tile(rows, (len(points), 1))
        moved[:, at] = np.repeat(points, len(rows))
        margins = margins_of(model.booster, moved).reshape(len(points), len(rows)).mean(axis=1)
        said = model.calibration.a * margins + model.calibration.b
        found.append(
            Axis(
                features[at].name,
                features[at].monotone,
                tuple(points.tolist()),
                tuple(said.tolist()),
                moves.get(at, 0),
            )
        )
    return tuple(found)


def _shown(sample: Sample, seed: int) -> Sample:
    """The rows that means and bins are taken of."""
    if len(sample.labels) <= REFERENCE_ROWS:
        return sample
    chance = np.random.default_rng(seed)
    return sample.rows(np.sort(chance.choice(len(sample.labels), REFERENCE_ROWS, replace=False)))


def bins(values: Floats, weights: Floats | None = None) -> Bins:
    """Up to ten bins of equal shares, and the shares of what is missing and withheld."""
    stated = np.ones(len(values)) if weights is None else weights
    missing = np.isnan(values)
    withheld = np.abs(values) >= BEYOND
    shown = ~missing & ~withheld
    there = values[shown]
    cuts = np.arange(1, MAX_BINS) / MAX_BINS if len(there) else np.array([])
    edges = np.unique(np.quantile(there, cuts)) if len(there) else cuts
    into = np.searchsorted(edges, there, "right")
    counts = np.bincount(into, stated[shown], minlength=len(edges) + 1)
    return Bins(
        edges=tuple(float(edge) for edge in edges),
        shares=tuple((counts / stated.sum()).tolist()),
        missing=float(np.average(missing, weights=stated)),
        withheld=float(np.average(withheld, weights=stated)),
    )


def _fills(matrix: Floats, features: Sequence[ModelFeature]) -> dict[str, float]:
    """Medians of what was shown, of the features that no row lacks; of categories the commonest."""
    fills = {}
    for feature, column in zip(features, matrix.T, strict=True):
        shown = column[np.abs(column) < BEYOND]
        if len(shown) and not np.isnan(column).any():
            if feature.categories:
                fills[feature.name] = float(np.bincount(shown.astype(np.int64)).argmax())
            else:
                fills[feature.name] = float(np.median(shown))
    return fills


def _golden(draft: Manifest, trees: str, matrix: Floats, batch: ScoreBatch) -> tuple[Golden, ...]:
    """Rows from the whole range of scores, and one where everything is missing."""
    order = np.argsort(batch.totals, kind="stable")
    picked = order[np.linspace(0, len(order) - 1, min(GOLDEN_ROWS, len(order))).astype(int)]
    rows = np.concatenate([matrix[picked], np.full((1, matrix.shape[1]), np.nan)])
    return golden_rows(draft, trees, rows)
