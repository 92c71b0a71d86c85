"""The folder of an EXPERT scorecard: what it judges, and how it ranks where outcomes are known.

Invariant: nothing of it was fitted to outcomes; figures that are stated were measured once, with
the scorecard as it was, and are in expert.toml beside it.
"""

import dataclasses
import datetime as dt
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from services.scoring.features.registry import WITHHELD
from services.scoring.models import expert
from services.scoring.models.domain import SCORE, Manifest
from services.scoring.models.folder import write_folder
from services.scoring.models.scorer import Scorer
from services.scoring.models.signing import ModelKey
from services.scoring.training import evidence
from services.scoring.training.app import bins
from services.scoring.training.card import card
from services.scoring.training.domain import Floats
from services.scoring.training.evidence import (
    Baseline,
    Evidence,
    Figure,
    OutcomeStatement,
    Protocol,
    Sampling,
)
from services.scoring.training.golden import golden_rows

SEED: Final = 20
NOT_FITTED: Final = "not_fitted"
"""Kind of the protocol: figures are checks of a model that no outcome shaped."""


def write(
    folder: Path, sources: Collection[str], *, made_at: dt.datetime, key: ModelKey
) -> Manifest:
    """Write the scorecard as a model folder.

    Args:
        folder: to write; its name is the model's version.
        sources: of those that a firm may withhold, which the card rests on.
        made_at: aware.
        key: that signs the model.

    Returns:
        The manifest of the folder.

    Raises:
        ValueError: there is no such source.
        FileExistsError: the folder exists.
    """
    chosen = expert.chosen(sources)
    trees = expert.trees(chosen)
    draft = expert.draft(
        folder.name, chosen, made_at.astimezone(dt.UTC).isoformat(timespec="seconds")
    )
    population = _population(chosen)
    batch = Scorer(draft, trees).score(population)
    totals = batch.totals
    order = np.argsort(totals, kind="stable")
    picked = population[order[np.linspace(0, len(order) - 1, 8).astype(int)]]
    ends = [
        [each.feature.monotone * WITHHELD for each in chosen],
        [-each.feature.monotone * WITHHELD for each in chosen],
        [math.nan for _ in chosen],
    ]
    rows = np.concatenate([picked, np.array(ends)])
    manifest = dataclasses.replace(
        draft,
        bins={**draft.bins, SCORE: bins(totals)},
        golden=golden_rows(draft, trees, rows),
    )
    measured = Evidence(
        outcome=OutcomeStatement(manifest.outcome),
        sampling=Sampling(0, 0, words=manifest.data.source),
        protocol=Protocol(NOT_FITTED, 0, 0),
        metrics={},
        populations=tuple(
            Baseline(
                check.population,
                {"auc": Figure(check.auc, check.low, check.high)},
                check.rows,
                check.words,
            )
            for check in expert.CHECKS
        ),
        importance={
            each.name: float(np.abs(batch.feature_points[:, at]).mean())
            for at, each in enumerate(chosen)
        },
        group_importance={
            group: float(np.abs(batch.group_points[:, at]).mean())
            for at, group in enumerate(manifest.groups)
        },
        spec=expert.spec_of(chosen),
    )
    return write_folder(
        folder,
        manifest,
        model=trees,
        card=card(manifest, measured),
        training=evidence.dump(measured),
        key=key,
    )


def _population(chosen: Sequence[expert.Points]) -> Floats:
    """Rows of the stated reference population, its features independent of each other."""
    chance = np.random.default_rng(SEED)
    columns = []
    for each in chosen:
        values = [*each.thresholds, each.thresholds[-1] + 1, math.nan]
        shares = np.array([*each.shares, each.absent]) / 100
        columns.append(chance.choice(values, expert.ROWS, p=shares))
    return np.stack(columns, axis=1)
