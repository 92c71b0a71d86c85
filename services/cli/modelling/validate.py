"""`puhui model validate`: a model of a table against labelled rows that it was not trained on."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli import output
from services.cli.command import local, usage
from services.cli.modelling.figures import FIGURES, shown
from services.cli.modelling.score import load
from services.cli.output import Output
from services.cli.progress import bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from services.scoring.models.scorer import Scorer
    from services.scoring.training.domain import Finding
    from services.scoring.training.evidence import Slice
    from services.scoring.training.files import TableFile
    from services.scoring.training.spec import TableSpec
    from services.scoring.training.table import Labelled
    from services.scoring.training.validation import Validation

_SEED: Final = 20
_MOST_SLICES: Final = 12
_STYLES: Final = {"FIT": "bold green", "WATCH": "bold yellow", "UNFIT": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    local(
        app,
        example="puhui model validate models/bank-1 loans-2026.csv --label defaulted",
        name="validate",
    )(validate)


def validate(
    out: Output,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A model folder.")
    ],
    table_file: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", exists=True, dir_okay=False, help="CSV (also .csv.gz) or Parquet."
        ),
    ],
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="The outcome's column.")],
    positive: Annotated[
        str | None,
        typer.Option("--positive", help="Its value that is the outcome; else as in training."),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option("--weight", metavar="COLUMN", help="Of the rows; else as in training."),
    ] = None,
    times: Annotated[
        str | None,
        typer.Option("--time", metavar="COLUMN", help="The observation's date; for periods."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            "--group", metavar="COLUMN", help="The firm: its rows are resampled together."
        ),
    ] = None,
) -> None:
    """Measure a model on labelled rows: does it rank, are its PDs right, did the population move?

    Columns that are not named are those of the training, where the table has them.
    """
    from services.scoring.models.folder import read_folder
    from services.scoring.training import evidence
    from services.scoring.training.domain import TrainingError
    from services.scoring.training.files import open_file, sha256_of
    from services.scoring.training.table import read_labels

    scorer = load(folder)
    measured = evidence.load(read_folder(folder.resolve()).training)
    started = time.monotonic()
    try:
        table = open_file(table_file)
        named = {"positive": positive, "weight": weight, "time": times, "group": group}
        spec = spec_of(measured.spec, label, named, table.columns)
        segments = [name for name in measured.segments if name in table.columns]
        labelled = read_labels(table, spec, segments)
        if sha256_of(table_file) == scorer.manifest.data.sha256:
            labelled = dataclasses.replace(
                labelled, findings=(*labelled.findings, _same_rows(scorer.version))
            )
        approval = measured.approval
        found = _measure(scorer, table, labelled, None if approval is None else approval.pd)
    except TrainingError as error:
        raise usage(str(error)) from None
    _show(out, scorer, spec, labelled, found, time.monotonic() - started)


def spec_of(
    trained: str, label: str, named: dict[str, str | None], columns: tuple[str, ...]
) -> "TableSpec":
    """What the rows' columns are: as named, else as in training where the table has them."""
    from services.scoring.training.spec import Rejected, TableSpec, parse_spec

    spec = TableSpec(label=label)
    if trained:
        known = parse_spec(trained)
        for key in ("time", "group", "weight"):
            column = getattr(known, key)
            if column in columns and column != label:
                role: dict[str, Any] = {key: column}
                spec = dataclasses.replace(spec, **role)
        if known.label == label:
            outcome = known.outcome
            if outcome.rejected.column not in columns:
                outcome = dataclasses.replace(outcome, rejected=Rejected())
            spec = dataclasses.replace(spec, positive=known.positive, outcome=outcome)
    given: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    return dataclasses.replace(spec, **given)


def _same_rows(version: str) -> "Finding":
    from services.scoring.training.domain import Finding

    detail = f"{version} has seen these rows: it was trained on this file, so its figures flatter"
    return Finding("", "same_rows", detail, refused=False)


def _measure(
    scorer: "Scorer", table: "TableFile", labelled: "Labelled", approved_below: float | None
) -> "Validation":
    import numpy as np

    from services.scoring.models.domain import SCORE
    from services.scoring.training.encoding import check_needed, encode, needed
    from services.scoring.training.validation import Shift, validate

    manifest = scorer.manifest
    features = manifest.features
    check_needed(features, table.columns, scorer.version)
    shifts = {name: Shift(bins) for name, bins in manifest.bins.items()}
    margins = []
    done = 0
    with bar("Scoring", table.rows) as advance:
        for batch in table.batches(needed(features)):
            matrix = encode(features, batch)
            found = scorer.score(matrix)
            margins.append(found.margins.copy())
            weights = labelled.weights_of(done, len(matrix))
            for at, feature in enumerate(features):
                shifts[feature.name].add(matrix[:, at], weights)
            shifts[SCORE].add(found.totals, weights)
            done += len(matrix)
            advance(len(matrix))
    said = np.concatenate(margins)
    with bar("Resampling", 1, unit="steps") as advance:
        result = validate(
            manifest,
            said,
            {name: shift.psi for name, shift in shifts.items()},
            labelled,
            seed=_SEED,
            approved_below=approved_below if approved_below is not None else 1.0,
        )
        advance(1)
    return result


def _document(
    scorer: "Scorer", spec: "TableSpec", labelled: "Labelled", found: "Validation"
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "version": scorer.version,
        "model_class": str(scorer.manifest.model_class),
        "label": spec.label,
        "positive": labelled.positive,
        "weight": spec.weight,
        "time": spec.time,
        "group": spec.group,
        "rows": found.rows,
        "n": found.n,
        "events": found.events,
        "left_out": dict(labelled.left_out),
        "observed": found.observed,
        "mean_pd": found.mean_pd,
    }
    for name in FIGURES:
        figure = found.figures.get(name)
        document[name] = None if figure is None else figure.value
        document[f"{name}_low"] = None if figure is None else figure.low
        document[f"{name}_high"] = None if figure is None else figure.high
    trained = scorer.manifest.metrics.get("auc")
    return document | {
        "auc_training": None if trained is None else trained.value,
        "psi_score": found.psi_score,
        "psi": dict(found.psi),
        "grades": [dataclasses.asdict(each) for each in found.grades],
        "reliability": [dataclasses.asdict(each) for each in found.reliability],
        "segments": {
            name: [dataclasses.asdict(each) for each in slices]
            for name, slices in found.segments.items()
        },
        "periods": [dataclasses.asdict(each) for each in found.periods],
        "findings": [dataclasses.asdict(each) for each in labelled.findings],
        "verdict": found.verdict.verdict,
        "reasons": list(found.verdict.reasons),
    }


def _show(
    out: Output,
    scorer: "Scorer",
    spec: "TableSpec",
    labelled: "Labelled",
    found: "Validation",
    seconds: float,
) -> None:
    from rich.text import Text

    trained = scorer.manifest.metrics
    roles = [(key, getattr(spec, key) or "") for key in ("time", "group", "weight")]
    moved = sorted(found.psi.items(), key=lambda each: -each[1])[:_MOST_SLICES]
    verdict = found.verdict
    parts: list[RenderableType] = [
        output.pairs(
            f"{scorer.version} on {found.n:,} rows",
            [
                ("outcome", f"{spec.label} is {labelled.positive}"),
                *roles,
                *((f"left out, {reason}", f"{n:,}") for reason, n in labelled.left_out.items()),
                ("events", f"{found.events:,}, {found.observed:.2%} observed"),
                ("mean PD", f"{found.mean_pd:.2%}"),
                ("PSI of the score", f"{found.psi_score:.3f}"),
                ("took", f"{seconds:.1f} s"),
            ],
        ),
        output.table(
            "Measured",
            ["measure", "value", "in training"],
            [
                [
                    words,
                    shown(found.figures[name]),
                    f"{trained[name].value:.3f}" if name in trained else "",
                ]
                for name, words in FIGURES.items()
                if name in found.figures
            ],
        ),
        output.table(
            "Inputs that moved most",
            ["input", "PSI>"],
            [[name, f"{psi:.3f}"] for name, psi in moved],
        ),
    ]
    if found.periods:
        parts.append(_slices("period", found.periods[-_MOST_SLICES:], "the latest"))
    for title, slices in found.segments.items():
        parts.append(_slices(title, slices[:_MOST_SLICES], "those with most rows"))
    parts += [
        Text(output.legible(f"{each.column} {each.detail}".strip())) for each in labelled.findings
    ]
    parts.append(Text(verdict.verdict, style=_STYLES[verdict.verdict]))
    parts += [Text(f"  {output.legible(reason)}") for reason in verdict.reasons]
    out.show(_document(scorer, spec, labelled, found), *parts)


def _slices(title: str, slices: tuple["Slice", ...], which: str) -> "RenderableType":
    return output.table(
        f"By {title}, {which}" if len(slices) == _MOST_SLICES else f"By {title}",
        [title, "rows>", "events>", "PD>", "observed>", "AUC"],
        [
            [
                each.value,
                f"{each.rows:,}",
                f"{each.events:,}",
                f"{each.pd:.2%}",
                f"{each.observed.value:.2%}",
                "" if each.auc is None else shown(each.auc),
            ]
            for each in slices
        ],
    )
