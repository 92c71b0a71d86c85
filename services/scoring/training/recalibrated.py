"""The folder of a model whose calibration was made anew from a bank's own few outcomes.

Invariants: trees and inputs are the parent's, byte by byte; the parent is named with the hash of
its manifest; what was known of the parent's figures stays in the parent's folder.
"""

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from services.scoring.models import document
from services.scoring.models.domain import (
    PARENT,
    SCORE,
    Bins,
    DataStatement,
    Manifest,
    Metric,
    ModelClass,
)
from services.scoring.models.folder import ModelFolder, read_folder, sha256, write_folder
from services.scoring.models.signing import ModelKey
from services.scoring.training import evidence, metrics
from services.scoring.training.card import card
from services.scoring.training.domain import Floats, Ints
from services.scoring.training.evidence import (
    Evidence,
    Figure,
    OutcomeStatement,
    Protocol,
    Sampling,
)
from services.scoring.training.golden import golden_rows
from services.scoring.training.recalibration import (
    PRIOR,
    Posterior,
    interval_of,
    recalibrate,
)

RECALIBRATION: Final = "recalibration"
"""Kind of the protocol: the calibration was fitted to these rows, the trees were not."""

GROUPS: Final = 5


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a bank knows of firms that the model was not trained on.

    Args:
        margins: raw, by the parent.
        labels: 1 is the outcome.
        weights: of the rows; None: all the same.
        missing: share of the inputs that each row lacks.
        words: where they come from.
        as_of: date or dates of the inputs, in words.
        sha256: of the file, or of margins and labels.
        outcome: what a label of 1 means; empty: as the parent says.
        simulated: rests on simulated data.
    """

    margins: Floats
    labels: Ints
    weights: Floats | None
    missing: Floats
    words: str
    as_of: str
    sha256: str
    outcome: str = ""
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """Rows of like log-odds, before and after.

    Args:
        rows: how many.
        events: with the outcome.
        before: mean PD of the parent.
        after: mean PD of the new calibration.
        observed: share of the outcome, weighted where rows are.
    """

    rows: int
    events: int
    before: float
    after: float
    observed: float


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """What came of it.

    Args:
        manifest: of the folder.
        posterior: of intercept and slope.
        lines: from low PD to high.
    """

    manifest: Manifest
    posterior: Posterior
    lines: tuple[Line, ...]


def write(
    parent: Path, folder: Path, outcomes: Outcomes, *, at: dt.datetime, key: ModelKey
) -> Recalibrated:
    """Recalibrate a model and write its folder.

    Args:
        parent: the model's folder.
        folder: to write; its name is the new version.
        outcomes: of the bank.
        at: aware.
        key: that signs the model.

    Raises:
        TrainingError: there are too few outcomes, or the model does not rank them.
        ModelFolderError: the parent must not be used.
        FileExistsError: the folder exists.
    """
    stored = read_folder(parent)
    before = stored.manifest.calibration
    old = before.a * outcomes.margins + before.b
    posterior = recalibrate(old, outcomes.labels, outcomes.weights)
    manifest = _manifest(stored, folder.name, outcomes, posterior, at)
    rows = np.array(
        [[math.nan if x is None else x for x in row.inputs] for row in manifest.golden],
        dtype=np.float64,
    )
    manifest = dataclasses.replace(manifest, golden=golden_rows(manifest, stored.model, rows))
    measured = _evidence(stored, outcomes, posterior)
    written = write_folder(
        folder,
        manifest,
        model=stored.model,
        card=card(manifest, measured),
        training=evidence.dump(measured),
        key=key,
    )
    return Recalibrated(written, posterior, _lines(old, outcomes, posterior))


def _manifest(
    stored: ModelFolder,
    version: str,
    outcomes: Outcomes,
    posterior: Posterior,
    at: dt.datetime,
) -> Manifest:
    parent = stored.manifest
    model_class = parent.model_class
    if model_class is not ModelClass.SIMULATED:
        model_class = ModelClass.SIMULATED if outcomes.simulated else ModelClass.UNVALIDATED
    slope = posterior.slope.mean
    return dataclasses.replace(
        parent,
        version=version,
        model_class=model_class,
        outcome=outcomes.outcome or parent.outcome,
        files={},
        calibration=posterior.calibration(parent.calibration),
        reference=dataclasses.replace(
            parent.reference,
            points={name: points * slope for name, points in parent.reference.points.items()},
        ),
        data=DataStatement(
            source=f"{outcomes.words}, for the calibration alone; trees of {parent.version}: "
            f"{parent.data.source}",
            rows=posterior.rows,
            events=posterior.events,
            as_of=outcomes.as_of,
            sha256=outcomes.sha256,
            trained_at=at.astimezone(dt.UTC).isoformat(timespec="seconds"),
        ),
        parameters={**parent.parameters, PARENT: parent.version},
        metrics={
            "auc": Metric(posterior.auc),
            "ks": Metric(metrics.ks(outcomes.labels, outcomes.margins, outcomes.weights)),
        },
        bins=_bins(parent, posterior),
        interval=interval_of(posterior, outcomes.margins, outcomes.missing, parent.calibration),
    )


def _bins(parent: Manifest, posterior: Posterior) -> dict[str, Bins]:
    """The parent's; those of the score at the points that its own are now."""
    scaling = parent.scaling

    def moved(points: float) -> float:
        old = (scaling.offset - points) / scaling.factor
        return scaling.points(float(posterior.log_odds(np.array([old]))[0]))

    bins = dict(parent.bins)
    if SCORE in bins:
        bins[SCORE] = dataclasses.replace(
            bins[SCORE], edges=tuple(moved(edge) for edge in bins[SCORE].edges)
        )
    return bins


def _evidence(stored: ModelFolder, outcomes: Outcomes, posterior: Posterior) -> Evidence:
    parent = evidence.load(stored.training)
    said = parent.outcome
    if outcomes.outcome:
        said = OutcomeStatement(outcomes.outcome)
    slope, intercept = posterior.slope, posterior.intercept
    fitted = (
        f"slope {slope.mean:.3f} ({slope.low:.3f} to {slope.high:.3f})"
        if posterior.slope_fitted
        else "slope not fitted: fewer than 20 outcomes of the rarer kind"
    )
    words = (
        f"Bayesian, on {posterior.rows} rows with {posterior.events} events: intercept "
        f"{intercept.mean:.3f} ({intercept.low:.3f} to {intercept.high:.3f}) at the mean log-odds "
        f"{posterior.center:.3f} of the parent, {fitted}; posterior means with 95 % credible "
        f"intervals by an exact grid; prior: {PRIOR}"
    )
    return Evidence(
        outcome=said,
        sampling=Sampling(
            posterior.rows,
            posterior.events,
            weighted=outcomes.weights is not None,
            prior=float(np.average(outcomes.labels, weights=outcomes.weights)),
            words=outcomes.words,
        ),
        protocol=Protocol(RECALIBRATION, 0, 0, calibration=words),
        metrics={
            "auc": Figure(posterior.auc),
            "ks": Figure(metrics.ks(outcomes.labels, outcomes.margins, outcomes.weights)),
        },
        spec=parent.spec,
        environment={
            **parent.environment,
            "recalibrated from": f"{stored.manifest.version}, manifest SHA-256 "
            f"{sha256(document.dump(stored.manifest))}",
            "prior": PRIOR,
            "posterior": fitted,
            "effective outcomes": f"{posterior.effective_events:.4g} of the rarer kind in "
            f"{posterior.effective_rows:.4g} rows",
        },
    )


def _lines(old: Floats, outcomes: Outcomes, posterior: Posterior) -> tuple[Line, ...]:
    weights = np.ones(len(old)) if outcomes.weights is None else outcomes.weights
    after = posterior.log_odds(old)
    order = np.argsort(old, kind="stable")
    return tuple(
        Line(
            rows=len(part),
            events=int(outcomes.labels[part].sum()),
            before=float(np.average(_pds(old[part]), weights=weights[part])),
            after=float(np.average(_pds(after[part]), weights=weights[part])),
            observed=float(np.average(outcomes.labels[part], weights=weights[part])),
        )
        for part in np.array_split(order, GROUPS)
    )


def _pds(log_odds: Floats) -> Floats:
    pds: Floats = 1 / (1 + np.exp(-log_odds))
    return pds
