"""How well the registered features and the trainer tell defaults among the 123 labelled firms.

CUMCM 2020 C, as of 2020-02-29, invoices alone: the rating column leaks the label and is not read.
Ten repeats of stratified five-fold cross-validation, folds made before anything is fitted. The last
line is one JSON object.
"""

import csv
import datetime as dt
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from services.scoring.features.domain import Coverage, FirmSummary, SubjectSeries
from services.scoring.features.registry import FEATURES, REQUIRED, compute, encode
from services.scoring.models.inputs import PLATFORM
from services.scoring.training.app import compare
from services.scoring.training.domain import STRATIFIED, Settings, TrainingTable
from services.scoring.training.evaluation import cross_validate, plan, sample_of

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "cumcm2020c"
AS_OF = dt.date(2020, 2, 29)
PPM = 1_000_000

Ints = npt.NDArray[np.int64]


def side_columns(folder: Path, side: str) -> Iterator[tuple[str, int, dict[str, Ints]]]:
    """Each firm's first month (since 1970) and monthly measures of one side of its invoices."""
    table = pq.read_table(folder / f"attach1_{side}_invoices.parquet")
    codes = [table.column(at).combine_chunks() for at in (0, 3, 7)]
    firm, other = (code.indices.to_numpy().astype(np.int64) for code in codes[:2])
    valid = np.array([word == "有效发票" for word in codes[2].dictionary.to_pylist()])[
        codes[2].indices.to_numpy()
    ]
    month = table.column(2).to_numpy().astype("datetime64[M]").astype(np.int64)
    net, tax, gross = (
        np.rint(table.column(at).to_numpy() * 100).astype(np.int64) for at in (4, 5, 6)
    )
    # A number that a firm has already sent is a repeat: the first row stands.
    number = table.column(1).to_numpy()
    _, first = np.unique(np.stack([firm, number], axis=1), axis=0, return_index=True)
    kept = np.zeros(len(firm), dtype=bool)
    kept[first] = True
    for index, name in enumerate(codes[0].dictionary.to_pylist()):
        rows = kept & (firm == index)
        start = int(month[rows].min())
        at, months = month[rows] - start, int(month[rows].max()) - start + 1
        measures = monthly(at, months, valid[rows], net[rows], tax[rows], gross[rows])
        good = valid[rows]
        measures |= trailing(at[good], months, other[rows][good], net[rows][good])
        yield name, start, {f"{side}_{measure}": values for measure, values in measures.items()}


def monthly(
    at: Ints, months: int, valid: npt.NDArray[np.bool_], net: Ints, tax: Ints, gross: Ints
) -> dict[str, Ints]:
    """Counts and sums by month."""

    def count(rows: npt.NDArray[np.bool_]) -> Ints:
        return np.bincount(at[rows], minlength=months).astype(np.int64)

    def total(rows: npt.NDArray[np.bool_], amount: Ints) -> Ints:
        sums = np.zeros(months, dtype=np.int64)
        np.add.at(sums, at[rows], amount[rows])
        return sums

    red = valid & (gross < 0)
    return {
        "valid": count(valid),
        "void": count(~valid),
        "red": count(red),
        "net": total(valid, net),
        "tax": total(valid, tax),
        "red_net": -total(red, net),
        "positive_net": total(valid & ~red, net),
    }


def trailing(at: Ints, months: int, other: Ints, net: Ints) -> dict[str, Ints]:
    """What counterparties had of the year up to each month."""
    others, row = np.unique(other, return_inverse=True)
    amounts = np.zeros((len(others), months + 25), dtype=np.int64)
    counts = np.zeros_like(amounts)
    np.add.at(amounts, (row, at + 25), net)
    np.add.at(counts, (row, at + 25), 1)
    amounts, counts = amounts.cumsum(axis=1), counts.cumsum(axis=1)
    year = amounts[:, 25:] - amounts[:, 13:-12]
    there = counts[:, 25:] - counts[:, 13:-12] > 0
    before = np.maximum(amounts[:, 13:-12] - amounts[:, 1:-24], 0)
    largest = np.sort(np.maximum(year, 0), axis=0)[::-1]
    total = largest.sum(axis=0)
    part = largest / np.maximum(total, 1)
    earlier = before.sum(axis=0)
    lost = np.where(there, 0, before).sum(axis=0)
    return {
        "counterparties": there.sum(axis=0),
        "top1": (part[:1].sum(axis=0) * PPM).astype(np.int64),
        "top5": (part[:5].sum(axis=0) * PPM).astype(np.int64),
        "hhi": ((part**2).sum(axis=0) * PPM).astype(np.int64),
        "churn": (lost / np.maximum(earlier, 1) * PPM).astype(np.int64),
    }


def summaries(folder: Path) -> Mapping[str, FirmSummary]:
    """The summary of each labelled firm, as datashare would hold it."""
    sides: dict[str, list[tuple[int, dict[str, Ints]]]] = {}
    for side in ("input", "output"):
        for firm, start, columns in side_columns(folder, side):
            sides.setdefault(firm, []).append((start, columns))
    found = {}
    for firm, parts in sides.items():
        first = min(start for start, _ in parts)
        last = max(start + len(columns[next(iter(columns))]) for start, columns in parts)
        aligned = {
            name: np.pad(values, (start - first, last - start - len(values))).tolist()
            for start, columns in parts
            for name, values in columns.items()
        }
        months = tuple((1970 + at // 12) * 100 + at % 12 + 1 for at in range(first, last))
        series = SubjectSeries("vat_invoice", "tax", months, aligned)
        absent = {name for feature in FEATURES for name in feature.needs} - set(REQUIRED)
        coverage = dict.fromkeys(absent, Coverage.NOT_SUPPLIED)
        found[firm] = FirmSummary((series,), {"vat_invoice": Coverage.SUPPLIED, **coverage})
    return found


def labelled(folder: Path) -> tuple[npt.NDArray[np.float64], Ints]:
    """The matrix of features and the labels, in the order of the file of firms."""
    with (folder / "attach1_enterprises.csv").open(encoding="utf-8-sig", newline="") as file:
        labels = {row["企业代号"]: row["是否违约"] == "是" for row in csv.DictReader(file)}
    found = summaries(folder)
    matrix = np.array([encode(compute(found[firm], AS_OF)) for firm in labels])
    return matrix, np.array(list(labels.values()), dtype=np.int64)


def main() -> dict[str, Any]:
    """Measure."""
    started = time.perf_counter()
    matrix, labels = labelled(FOLDER)
    table = TrainingTable(matrix, PLATFORM.features, labels)
    settings = Settings(kind=STRATIFIED, folds=5, repeats=10, candidates=3)
    sample = sample_of(table)
    planned = plan(sample, table, settings)
    said = cross_validate(sample, table.features, planned, settings, {})
    figures = compare(sample, table, planned, settings).measure(said.log_odds).figures
    return {
        "name": "cumcm_auc",
        "firms": len(labels),
        "events": int(labels.sum()),
        "features": int((~np.isnan(matrix)).any(axis=0).sum()),
        "cv_auc_mean": figures["auc"].value,
        "cv_auc_std": figures["auc"].deviation,
        "metrics": {name: (each.value, each.deviation) for name, each in figures.items()},
        "seconds": time.perf_counter() - started,
    }


if __name__ == "__main__":
    if not FOLDER.is_dir():
        sys.exit("needs the public data sets in ../shared/data, beside the checkout")
    print(json.dumps(main()))
