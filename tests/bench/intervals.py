"""Which interval of a PD: Venn-Abers or bins with exact binomial intervals, on public tables.

Margins are out of fold. Half of the rows make the intervals, the other half tries them, ten times.
`held`: the share of groups by margin whose observed default rate lies between the means of their
intervals' ends; the observed rate is uncertain itself, so that a perfect 95 % interval of half of
the rows holds about 85 %. `known`: the share of rows whose true PD lies within, where outcomes are
drawn anew from calibrated PDs, so that it is known. `width`: mean, of PD; by share of missing
inputs in log-odds. docs/adr/0022 states the figures. The last line is one JSON object.
"""

import json
import sys
from typing import Final

import numpy as np
from scipy.optimize import isotonic_regression

from services.scoring.models.intervals import width, within
from services.scoring.training import metrics
from services.scoring.training.domain import Floats, Ints, Parameters, Sample
from services.scoring.training.evaluation import sample_of, stratified
from services.scoring.training.intervals import THICKNESS, fit_interval
from services.scoring.training.tuning import grow, margins_of
from tests.bench.quality import DATA, DATASETS

SPLITS: Final = 10
MOST_GROUPS: Final = 10
GROUP_ROWS: Final = 30
TREES: Final = Parameters(150, 4, 0.1, 0.8, 0.5, 1.0, 20)


def out_of_fold(name: str) -> tuple[Sample, Floats]:
    """A table's rows and their margins."""
    table = DATASETS[name].load(DATA)
    sample = sample_of(table)
    margins = np.zeros(len(sample.labels))
    for seen, unseen in stratified(sample.labels, 5, 1):
        booster = grow(sample.rows(seen), table.features, TREES, 1)
        margins[unseen] = margins_of(booster, sample.matrix[unseen])
    return sample, margins


def venn_abers(
    known: Floats, labels: Ints, missing: Floats, margins: Floats, lacking: Floats
) -> tuple[Floats, Floats]:
    """What isotonic regression says of a row when it is added as good, and as bad.

    By share of missing inputs, too, as bins are.
    """
    bands, own = (np.searchsorted(THICKNESS, share, "left") for share in (missing, lacking))
    low, high = np.zeros(len(margins)), np.ones(len(margins))
    for band in np.unique(own):
        rows, like = own == band, bands == band
        low[rows], high[rows] = _venn_abers(known[like], labels[like], margins[rows])
    return low, high


def _venn_abers(known: Floats, labels: Ints, margins: Floats) -> tuple[Floats, Floats]:
    order = np.argsort(known, kind="stable")
    ordered, outcomes = known[order], labels[order].astype(np.float64)
    places = np.searchsorted(ordered, margins, "right")
    ends = []
    for outcome in (0.0, 1.0):
        at = {
            place: float(isotonic_regression(np.insert(outcomes, place, outcome)).x[place])
            for place in np.unique(places).tolist()
        }
        ends.append(np.array([at[place] for place in places.tolist()]))
    return ends[0], ends[1]


def by_bins(
    known: Floats, labels: Ints, missing: Floats, margins: Floats, lacking: Floats
) -> tuple[Floats, Floats]:
    """What the trainer makes."""
    calibration = metrics.platt(known, labels)
    interval = fit_interval(known, labels, np.ones(len(known)), missing, calibration)
    edges = [band.missing_to for band in interval.bands]
    bands = np.searchsorted(edges, lacking, "left")
    found = [
        within(interval.bands[band], margin, calibration.pd(margin))
        for band, margin in zip(bands.tolist(), margins.tolist(), strict=True)
    ]
    return np.array([low for low, _ in found]), np.array([high for _, high in found])


def tried(low: Floats, high: Floats, margins: Floats, labels: Ints) -> tuple[float, float]:
    """Share of groups that hold what came, and mean width."""
    number = min(MOST_GROUPS, len(margins) // GROUP_ROWS)
    parts = np.array_split(np.argsort(margins, kind="stable"), number)
    held = [low[part].mean() <= labels[part].mean() <= high[part].mean() for part in parts]
    return float(np.mean(held)), float((high - low).mean())


def _widen(widths: dict[float, list[float]], low: Floats, high: Floats, missing: Floats) -> None:
    into = np.searchsorted(THICKNESS, missing, "left").tolist()
    for at, one, other in zip(into, low.tolist(), high.tolist(), strict=True):
        widths[THICKNESS[at]].append(width(one, other))


def _means(values: list[tuple[float, float, float]]) -> list[float]:
    return [round(float(np.mean(each)), 4) for each in zip(*values, strict=True)]


def main() -> dict[str, object]:
    """Measure."""
    found: dict[str, object] = {"name": "intervals"}
    for name in DATASETS:
        sample, margins = out_of_fold(name)
        missing = np.isnan(sample.matrix).mean(axis=1)
        fitted = metrics.platt(margins, sample.labels)
        pds = 1 / (1 + np.exp(-fitted.a * margins - fitted.b))
        results: dict[str, list[tuple[float, float, float]]] = {"venn_abers": [], "bins": []}
        widths: dict[float, list[float]] = {edge: [] for edge in THICKNESS}
        for seed in range(SPLITS):
            chance = np.random.default_rng(seed)
            order = chance.permutation(len(margins))
            drawn = (chance.random(len(pds)) < pds).astype(np.int64)
            make, test = order[: len(order) // 2], order[len(order) // 2 :]
            for method, way in (("venn_abers", venn_abers), ("bins", by_bins)):
                given = missing[make], margins[test], missing[test]
                low, high = way(margins[make], sample.labels[make], *given)
                lower, upper = way(margins[make], drawn[make], *given)
                known = float(((lower <= pds[test]) & (pds[test] <= upper)).mean())
                results[method].append(
                    (*tried(low, high, margins[test], sample.labels[test]), known)
                )
                if method == "bins":
                    _widen(widths, low, high, missing[test])
        found[name] = {
            method: dict(zip(("held", "width", "known"), _means(values), strict=True))
            for method, values in results.items()
        } | {
            "log_odds_by_missing_to": {
                str(edge): [len(each) // SPLITS, round(float(np.mean(each)), 2)]
                for edge, each in widths.items()
                if each
            }
        }
        print(name, found[name], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    if not DATA.is_dir():
        sys.exit("needs the public data sets in ../shared/data, beside the checkout")
    print(json.dumps(main()))
