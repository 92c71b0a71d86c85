"""A bank's own outcomes to a model folder: summaries under consent, features, training.

Features are computed as of each row's own date, by the functions that serve scores.
"""

import asyncio
import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from puhui.datashare.v1.disputes_pb2 import DISPUTE_STATE_UPHELD
from puhui_client import Client, PuhuiError
from services.cli.inputs import CHINA, NOT_UTF8, parse_moment
from services.scoring.features import registry
from services.scoring.models.domain import Manifest
from services.scoring.models.inputs import PLATFORM
from services.scoring.models.signing import ModelKey
from services.scoring.reader import read_summary
from services.scoring.training.app import Statement, train
from services.scoring.training.domain import Floats, Ints, Settings, TrainingTable

if TYPE_CHECKING:
    from puhui.datashare.v1.summaries_pb2 import SubjectSummary

PURPOSE = "model_training"
COLUMNS = ("subject_id", "consent_id", "as_of", "label")
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
    """

    subject_id: str
    consent_id: str
    as_of: datetime
    label: int


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
    """

    matrix: Floats
    labels: Ints
    refused: dict[str, int] = field(default_factory=dict)
    insufficient: int = 0
    simulated: bool = False
    disputed: int = 0


def read_labels(path: Path) -> list[Label]:
    """Return the rows of a CSV file with the columns subject_id, consent_id, as_of, label.

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
    return Label(row["subject_id"], row["consent_id"], as_of, int(row["label"]))


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
    width = len(registry.FEATURES)
    matrix = np.array(rows, dtype=np.float64).reshape(len(rows), width)
    labelled = np.array(outcomes, dtype=np.int64)
    return Table(matrix, labelled, dict(refused), insufficient, simulated, disputed)


def training_table(table: Table, *, source: str, as_of: str) -> TrainingTable:
    """What the trainer takes.

    Args:
        table: the firms.
        source: where the outcomes come from, in words.
        as_of: date or dates of the features, in words.
    """
    return TrainingTable(
        table.matrix,
        PLATFORM.features,
        table.labels,
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
