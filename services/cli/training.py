"""A bank's own outcomes to a model folder: summaries under consent, features, training.

Features are computed as of each row's own date, by the functions that serve scores.
"""

import asyncio
import csv
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from puhui.datashare.v1.disputes_pb2 import DISPUTE_STATE_UPHELD
from puhui_client import Client, PuhuiError
from services.cli.inputs import CHINA, NOT_UTF8, parse_moment
from services.scoring.features import registry
from services.scoring.features.domain import FirmSummary
from services.scoring.models.domain import InputSource, Manifest, ModelFeature
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.signing import ModelKey
from services.scoring.reader import read_summary
from services.scoring.training.app import Statement, train
from services.scoring.training.cohorts import coverage, segments
from services.scoring.training.domain import Floats, Ints, Settings, TrainingTable

if TYPE_CHECKING:
    from puhui.datashare.v1.summaries_pb2 import SubjectSummary

PURPOSE = "model_training"
COLUMNS = ("subject_id", "consent_id", "as_of", "label")
DECLARED = "declared."
"""Begins the names of columns that the bank declares."""
_AT_ONCE = 16


class LabelsError(Exception):
    """The file of labels cannot be read; the message names the line and the remedy."""


@dataclass(frozen=True)
class Label:
    """One firm's outcome.

    Args:
        subject_id: the firm.
        consent_id: its consent to training.
        as_of: when its score would have been asked for.
        label: 1 where the outcome came.
        declared: what the bank knew of the firm itself then, by name, as text; empty is missing.
    """

    subject_id: str
    consent_id: str
    as_of: datetime
    label: int
    declared: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """What a model is trained on.

    Args:
        matrix: rows x features.
        labels: 1 is the outcome.
        refused: rows whose summary was refused, by reason.
        insufficient: rows without what a score needs.
        simulated: a summary has records of a simulated source.
        disputed: rows that rest on records in dispute.
        features: of the columns; those that the bank declares come last.
        segments: region, industry and size by row, which are no inputs.
        coverage: which optional sources were there, by row.
    """

    matrix: Floats
    labels: Ints
    refused: dict[str, int] = field(default_factory=dict)
    insufficient: int = 0
    simulated: bool = False
    disputed: int = 0
    features: tuple[ModelFeature, ...] = PLATFORM.features
    segments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    coverage: Sequence[str] = ()


def read_labels(path: Path) -> list[Label]:
    """Return the rows of a CSV file with the columns subject_id, consent_id, as_of, label.

    Columns named `declared.NAME` are what the bank knows itself: the inputs that its score product
    names. The other columns are not looked at.

    Raises:
        LabelsError: the file is not CSV in UTF-8, a column is missing or a value wrong.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            missing = set(COLUMNS) - set(reader.fieldnames or ())
            if missing:
                raise LabelsError(f"{path}: the columns {', '.join(sorted(missing))} are missing")
            return [_label(path, reader.line_num, row) for row in reader]
    except UnicodeDecodeError:
        raise LabelsError(f"{path} {NOT_UTF8}") from None
    except csv.Error as error:
        raise LabelsError(f"{path} is not CSV: {error}") from None


def _label(path: Path, line: int, row: dict[str, str]) -> Label:
    if row["label"] not in {"0", "1"}:
        raise LabelsError(f"{path}, line {line}: label is neither 0 nor 1: leave the row out")
    if not row["subject_id"] or not row["consent_id"]:
        raise LabelsError(f"{path}, line {line}: subject_id or consent_id is empty")
    try:
        as_of = parse_moment(row["as_of"])
    except ValueError as error:
        raise LabelsError(f"{path}, line {line}: as_of: {error}") from None
    declared = {
        name.removeprefix(DECLARED): (value or "").strip()
        for name, value in row.items()
        if name and name.startswith(DECLARED)
    }
    return Label(row["subject_id"], row["consent_id"], as_of, int(row["label"]), declared)


async def fetch_table(
    client: Client,
    labels: Sequence[Label],
    advance: Callable[[int], None],
    *,
    officer: str,
    file_reference: str,
) -> Table:
    """Fetch every firm's summary as of its date and make features of it.

    Args:
        client: of the bank.
        labels: the rows; one that is refused is left out and counted.
        advance: told of rows that are done.
        officer: who at the bank trains; each firm sees it.
        file_reference: the bank's file of the training; likewise.

    Raises:
        PuhuiError: the platform as a whole does not answer.
    """
    refused: Counter[str] = Counter()
    limit = asyncio.Semaphore(_AT_ONCE)

    async def fetch(label: Label) -> "SubjectSummary | None":
        async with limit:
            try:
                answer = await client.fetch_summary(
                    label.subject_id,
                    label.consent_id,
                    officer=officer,
                    file_reference=file_reference,
                    purpose=PURPOSE,
                    as_of=label.as_of,
                )
            except PuhuiError as error:
                if error.code not in {"FAILED_PRECONDITION", "PERMISSION_DENIED", "NOT_FOUND"}:
                    raise
                refused[error.reason] += 1
                return None
            finally:
                advance(1)
        return answer.summary

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fetch(label)) for label in labels]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    rows: list[list[float]] = []
    outcomes: list[int] = []
    firms: list[FirmSummary] = []
    said: list[Mapping[str, str]] = []
    insufficient = 0
    simulated = False
    disputed = 0
    for label, task in zip(labels, tasks, strict=True):
        summary = task.result()
        if summary is None:
            continue
        firm = read_summary(summary)
        if registry.insufficient(firm):
            insufficient += 1
            continue
        day = label.as_of.astimezone(CHINA).date()
        simulated = simulated or summary.simulated
        disputed += any(mark.state != DISPUTE_STATE_UPHELD for mark in summary.disputes)
        rows.append(registry.encode(registry.compute(firm, day)))
        outcomes.append(label.label)
        firms.append(firm)
        said.append(label.declared)
    width = len(registry.FEATURES)
    matrix = np.array(rows, dtype=np.float64).reshape(len(rows), width)
    features, beside = declared_inputs(said)
    return Table(
        np.concatenate([matrix, beside], axis=1),
        np.array(outcomes, dtype=np.int64),
        dict(refused),
        insufficient,
        simulated,
        disputed,
        features=PLATFORM.features + features,
        segments=segments(firms),
        coverage=[coverage(firm) for firm in firms],
    )


def declared_inputs(
    rows: Sequence[Mapping[str, str]],
) -> tuple[tuple[ModelFeature, ...], Floats]:
    """Return inputs of what the bank declared, and their values.

    A column of numbers is one; of any other the texts are its categories. They are unconstrained.

    Args:
        rows: by name; all rows have the same names.
    """
    features, columns = [], []
    for name in rows[0] if rows else ():
        texts = [row[name] for row in rows]
        categories: tuple[str, ...] = ()
        try:
            values = [float(text) if text else math.nan for text in texts]
        except ValueError:
            categories = tuple(sorted(set(texts) - {""}))
            values = [float(categories.index(text)) if text else math.nan for text in texts]
        features.append(
            ModelFeature(
                name,
                "declared",
                "code" if categories else "number",
                0,
                InputSource.DECLARED,
                categories,
                zh=name,
                en=name,
            )
        )
        columns.append(values)
    matrix = np.array(columns, dtype=np.float64).reshape(len(features), len(rows)).T
    return tuple(features), matrix


def training_table(table: Table, *, source: str, as_of: str) -> TrainingTable:
    """What the trainer takes.

    Args:
        table: the firms.
        source: where the outcomes come from, in words.
        as_of: date or dates of the features, in words.
    """
    return TrainingTable(
        table.matrix,
        table.features,
        table.labels,
        segments=table.segments,
        coverage=table.coverage,
        source=source,
        as_of=as_of,
        simulated=table.simulated,
    )


def fit(
    table: TrainingTable,
    settings: Settings,
    folder: Path,
    key: ModelKey,
    progress: Callable[[int, int], None],
    statement: Statement | None = None,
) -> Manifest:
    """Train and write a model folder.

    Raises:
        TrainingError: there must not be a model of this table.
        FileExistsError: the folder exists.
    """
    return train(
        table,
        settings,
        folder,
        trained_at=datetime.now(UTC),
        key=key,
        statement=statement,
        progress=progress,
    )
