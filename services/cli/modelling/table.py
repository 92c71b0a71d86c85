"""Training on a bank's own table: what was inferred and found is shown with what was measured."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from services.cli import output
from services.cli.command import REFUSED, usage
from services.cli.model_key import Signer, signer
from services.cli.modelling.figures import FIGURES, shown
from services.cli.output import Output
from services.cli.progress import bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from services.scoring.models.domain import Manifest
    from services.scoring.training.domain import Finding
    from services.scoring.training.evidence import Evidence, Figure, OutcomeStatement
    from services.scoring.training.spec import TableSpec
    from services.scoring.training.table import Prepared


_TREATED: Final = {
    "left out": "left out",
    "good": "counted as good",
    "bad": "counted as bad",
    "labelled": "with the outcome that the table states",
}


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Args:
        file: the table.
        spec: file of its spec.
        label: column of the outcome, where there is no spec.
        out: folder to write.
        outcome: what the outcome is, in words.
        source: where the table comes from, in words.
        folds: of the evaluation.
        repeats: of the folds.
        seed: of all randomness.
        budget: seconds that tuning may take.
        officer: who trains.
    """

    file: Path
    spec: Path | None
    label: str | None
    out: Path | None
    outcome: str | None
    source: str | None
    folds: int | None
    repeats: int | None
    seed: int
    budget: float | None
    officer: str


def print_spec(out: Output, request: Request) -> None:
    """Print the spec with what was inferred, without training.

    Raises:
        typer.BadParameter: the spec or the table cannot be followed.
    """
    prepared = _prepare(request)
    stated = _toml(prepared)
    if out.as_json:
        out.show({"spec": stated, **_inspected(prepared)})
        return
    print(stated, end="", flush=True)  # before what stderr says of it
    for part in (_columns(prepared), _findings(prepared.table.findings)):
        out.stderr().print(part)


def train(out: Output, request: Request, key: Path | None) -> None:
    """Inspect the table, train, write and show a model.

    Raises:
        typer.BadParameter: the command was called wrongly.
        typer.Exit: there must not be a model of this table.
    """
    from services.scoring.models.folder import read_folder
    from services.scoring.training import evidence
    from services.scoring.training.domain import TrainingError

    folder = request.out
    if folder is None:
        raise usage(
            "name the folder to write by --out DIR, or see what is inferred by --print-spec"
        )
    if folder.exists():
        raise usage(f"{folder} exists: a model's version never changes, take another name")
    prepared = _prepare(request)
    signs = signer(key, folder, os.environ)
    if not out.as_json:
        # Before the minutes that follow: whoever sees a wrong column now stops here.
        for part in (_rows(prepared, request), _columns(prepared)):
            out.stdout().print(part)
        out.stdout().print(_findings(prepared.table.findings))
    try:
        manifest = _fit(prepared, request, folder, signs)
    except TrainingError as error:
        out.failed("TRAINING_REFUSED", str(error))
        raise typer.Exit(REFUSED) from None
    measured = evidence.load(read_folder(folder.resolve()).training)
    out.show(
        {
            "version": manifest.version,
            "folder": str(folder),
            "model_class": str(manifest.model_class),
            "signed_by": signs.key.key_id,
            "key_file": str(signs.path),
            "spec": _toml(prepared),
            **_inspected(prepared),
            "protocol": dataclasses.asdict(measured.protocol),
            "metrics": {name: dataclasses.asdict(f) for name, f in measured.metrics.items()},
            "baselines": [dataclasses.asdict(each) for each in measured.baselines],
            "paired": [dataclasses.asdict(each) for each in measured.paired],
        },
        *results(manifest, measured, folder, signs),
    )


def _prepare(request: Request) -> "Prepared":
    from services.scoring.training.domain import TrainingError
    from services.scoring.training.files import open_file
    from services.scoring.training.table import prepare

    try:
        spec = _spec(request)
        file = open_file(request.file)
        with bar("Inspecting columns", 2 * len(file.columns), unit="columns") as advance:
            return prepare(file, spec, advance)
    except TrainingError as error:
        raise usage(str(error)) from None


def _spec(request: Request) -> "TableSpec":
    """The spec of the file or of the label alone, with what the command line adds."""
    from services.scoring.training.spec import TableSpec, read_spec

    if request.spec is not None and request.label is not None:
        raise usage("--spec names the label already: leave --label out")
    if request.spec is None and request.label is None:
        raise usage("name the column of the outcome by --label, or give a --spec")
    spec = TableSpec(label=request.label or "") if request.spec is None else read_spec(request.spec)
    outcome, evaluation = spec.outcome, spec.evaluation
    if request.outcome is not None:
        outcome = dataclasses.replace(outcome, definition=request.outcome)
    if request.folds is not None:
        evaluation = dataclasses.replace(evaluation, folds=request.folds)
    if request.repeats is not None:
        evaluation = dataclasses.replace(evaluation, repeats=request.repeats)
    return dataclasses.replace(spec, outcome=outcome, evaluation=evaluation)


def _toml(prepared: "Prepared") -> str:
    from services.scoring.training.spec import write_spec

    notes = []
    if prepared.spec.evaluation.kind is None:
        notes.append(f"evaluation: {_expected(prepared)}")
    names = [each.name for each in prepared.table.features if each.categories]
    if set(names) - set(prepared.spec.categorical):
        notes.append(f"read as categories: {', '.join(names)}")
    left = [f.column for f in prepared.table.findings if f.refused]
    if left:
        notes.append(f"left out after inspection: {', '.join(left)}")
    return write_spec(prepared.spec, prepared.remarks, notes)


def _inspected(prepared: "Prepared") -> dict[str, Any]:
    table = prepared.table
    return {
        "rows": len(table.labels),
        "events": int(table.labels.sum()),
        "inputs": len(table.features),
        "left_out": dict(prepared.left_out),
        "inferred": dict(prepared.remarks),
        "columns": [dataclasses.asdict(each) for each in prepared.columns],
        "findings": [dataclasses.asdict(each) for each in table.findings],
    }


def _expected(prepared: "Prepared") -> str:
    """How the model will be judged, if the table's rows allow for it."""
    stated = prepared.spec.evaluation.kind
    if stated is not None:
        return stated.replace("_", " ")
    if prepared.table.times is not None:
        return "out of time (inferred: there are dates)"
    if prepared.table.groups is not None:
        return "grouped (inferred: there are firms)"
    return "repeated stratified (inferred: there are neither dates nor firms)"


def _rows(prepared: "Prepared", request: Request) -> "RenderableType":
    table, spec = prepared.table, prepared.spec
    events = int(table.labels.sum())
    share = f"{events / len(table.labels):.1%}"
    if table.weights is not None:
        natural = float((table.weights * table.labels).sum() / table.weights.sum())
        share += f", weighted {natural:.1%}"
    said = {
        key: f"{getattr(spec, key)}{' (inferred)' if key in prepared.remarks else ''}"
        for key in ("positive", "time", "group", "weight")
        if getattr(spec, key) is not None
    }
    return output.pairs(
        request.file.name,
        [
            ("read as", table.source),
            ("rows", f"{len(table.labels):,}, {events:,} with the outcome ({share})"),
            *((f"left out, {reason}", f"{n:,}") for reason, n in prepared.left_out.items()),
            ("label", spec.label),
            *said.items(),
            ("observed", table.as_of),
            ("evaluation", _expected(prepared)),
            ("inputs", str(len(table.features))),
        ],
    )


def _columns(prepared: "Prepared") -> "RenderableType":
    return output.table(
        output.count(len(prepared.columns), "column"),
        ["column", "role", "read as", "missing>", "values>"],
        [
            [
                each.name,
                each.role,
                each.kind,
                f"{each.missing:.1%}" if each.missing else "",
                f"{each.distinct:,}",
            ]
            for each in prepared.columns
        ],
    )


def _findings(findings: Sequence["Finding"]) -> "RenderableType":
    """Refused columns first: what somebody has to look at."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = []
    kinds = (
        ("LEFT OUT of the model", "bold red", [f for f in findings if f.refused]),
        ("Look at these", "bold yellow", [f for f in findings if not f.refused]),
    )
    for title, style, some in kinds:
        if some:
            parts.append(Text(f"{title} ({len(some)})", style=style))
            for each in some:
                name = output.legible(each.column or "the rows")
                detail = output.legible(each.detail)
                parts.append(Text.assemble("  ", (name, "bold"), f": {detail} [{each.problem}]"))
            parts.append(Text(""))
    return Group(*parts)


def _fit(prepared: "Prepared", request: Request, folder: Path, signs: Signer) -> "Manifest":
    """Train and write the folder.

    Raises:
        TrainingError: there must not be a model of this table.
    """
    from importlib.metadata import version

    from services.scoring.training.app import Statement, models_to_train
    from services.scoring.training.app import train as fit
    from services.scoring.training.domain import BUDGET, Settings

    spec, table = prepared.spec, prepared.table
    settings = Settings(
        outcome=spec.outcome.definition or f"{spec.label} is {spec.positive}",
        population=f"the {len(table.labels):,} rows of the training",
        kind=spec.evaluation.kind,
        folds=spec.evaluation.folds,
        repeats=spec.evaluation.repeats,
        cutoff=prepared.cutoff,
        budget=BUDGET if request.budget is None else request.budget,
        seed=request.seed,
        scaling=spec.scaling,
        grades=spec.grades,
    )
    if request.source:
        table = dataclasses.replace(table, source=request.source)
    statement = Statement(
        outcome=_outcome(spec),
        left_out=prepared.left_out,
        sampling=f"rows weighted by {spec.weight}" if spec.weight else "",
        spec=_toml(prepared),
        environment={"pyarrow": version("pyarrow"), "operator": request.officer or "not stated"},
    )
    with bar("Training", models_to_train(table, settings), unit="models") as advance:
        return fit(
            table,
            settings,
            folder,
            trained_at=datetime.now(UTC),
            key=signs.key,
            statement=statement,
            feature_version=0,
            reason_version=0,
            progress=lambda done, total: advance(1),
        )


def _outcome(spec: "TableSpec") -> "OutcomeStatement":
    """What the spec says of the outcome, for card and report."""
    from services.scoring.training.evidence import OutcomeStatement

    said = spec.outcome
    undecided, rejected = said.indeterminates, said.rejected
    indeterminates, rejects = undecided.words, rejected.words
    if undecided.values:
        stated = f"{spec.label} is {' or '.join(undecided.values)}: {_TREATED[undecided.treated]}"
        indeterminates = f"{stated}. {indeterminates}".strip(". ")
    if rejected.values:
        stated = (
            f"{rejected.column} is {' or '.join(rejected.values)}: {_TREATED[rejected.treated]}"
        )
        rejects = f"{stated}. {rejects}".strip(". ")
    return OutcomeStatement(
        definition=said.definition or f"{spec.label} is {spec.positive}",
        observation=said.observation,
        performance=said.performance,
        indeterminates=indeterminates,
        rejects=rejects,
    )


def results(
    manifest: "Manifest", measured: "Evidence", folder: Path, signs: Signer
) -> list["RenderableType"]:
    """What was measured of a model that was just written."""
    compared: list[tuple[str, Mapping[str, Figure]]] = [("this model", measured.metrics)]
    compared += [(each.name, each.figures) for each in measured.baselines]
    protocol = measured.protocol
    parts: list[RenderableType] = [
        output.pairs(
            f"Model {manifest.version}",
            [
                ("folder", str(folder)),
                ("class", str(manifest.model_class).lower()),
                ("evaluation", _protocol(protocol.kind, protocol.folds, protocol.repeats)),
                ("cutoff", protocol.cutoff),
                ("signed by", signs.words),
            ],
        ),
        output.table(
            "Out of fold",
            ["measure", *(name for name, _ in compared)],
            [
                [
                    words,
                    *(shown(each[name]) if name in each else "" for _, each in compared),
                ]
                for name, words in FIGURES.items()
                if name in measured.metrics
            ],
        ),
    ]
    if measured.paired:
        parts.append(
            output.table(
                "This model less the others, on the same rows",
                ["against", "measure", "difference", "p>", "by"],
                [
                    [
                        each.against,
                        FIGURES.get(each.metric, each.metric),
                        f"{each.difference:+.3f} [{each.low:+.3f}, {each.high:+.3f}]",
                        "" if each.p is None else f"{each.p:.3f}",
                        each.method.partition(" (")[0],
                    ]
                    for each in measured.paired
                ],
            )
        )
    parts.append(
        output.pairs(
            "Next",
            [
                ("report", f"puhui model report {folder}"),
                ("score", f"puhui model score {folder} TABLE --out SCORES.parquet"),
                ("validate", f"puhui model validate {folder} TABLE --label COLUMN"),
            ],
        )
    )
    return parts


def _protocol(kind: str, folds: int, repeats: int) -> str:
    again = f", {repeats} times" if repeats > 1 else ""
    return f"{kind.replace('_', ' ')}, {output.count(folds, 'fold')}{again}"
