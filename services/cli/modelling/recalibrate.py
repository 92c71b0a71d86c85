"""`puhui model recalibrate`: a model's PD by a bank's own few outcomes; its trees stay."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.command import (
    REFUSED,
    FileReference,
    Officer,
    Session,
    remote,
    require_officer,
    usage,
)
from services.cli.model_key import Key, Signer, signer
from services.cli.modelling.score import load
from services.cli.modelling.validate import spec_of
from services.cli.progress import bar

if TYPE_CHECKING:
    from services.scoring.models.scorer import Scorer
    from services.scoring.training.recalibrated import Outcomes, Recalibrated
    from services.scoring.training.recalibration import Estimate

_TABLE, _FIRMS = "A model of a table", "A model of the platform's records"


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    remote(
        app,
        example="puhui model recalibrate models/bank-1 loans-2026.csv --label defaulted "
        "--out models/bank-2",
        name="recalibrate",
    )(recalibrate)


async def recalibrate(
    session: Session,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A model folder.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to write; its name is the version.")
    ],
    table_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TABLE]",
            exists=True,
            dir_okay=False,
            help="Labelled rows that the model was not trained on: CSV (also .csv.gz) or Parquet.",
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="COLUMN", help="The outcome's column.", rich_help_panel=_TABLE
        ),
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(
            "--positive",
            help="Its value that is the outcome; else as in training.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    weight: Annotated[
        str | None,
        typer.Option(
            "--weight",
            metavar="COLUMN",
            help="Of the rows; else as in training.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="CSV with subject_id, consent_id (for model_training), as_of, label (1: default).",
            rich_help_panel=_FIRMS,
        ),
    ] = None,
    officer: Officer = "",
    file_reference: FileReference = "",
    outcome: Annotated[
        str, typer.Option("--outcome", help="What the outcome is; else as the model says.")
    ] = "",
    source: Annotated[
        str, typer.Option("--source", help="Where the outcomes come from, for the card.")
    ] = "the bank's own outcomes",
    key: Key = None,
) -> None:
    """Give a model the PD of one's own portfolio, from few outcomes: intercept and slope alone.

    From 20 defaults on both are fitted, from 10 the intercept, below nothing; what is known goes
    out from stated priors and comes with credible intervals. The new folder has the same trees.
    """
    if (table_file is None) == (labels is None):
        raise usage("name a TABLE with --label, or --labels with firms that consented")
    if out.exists():
        raise usage(f"{out} exists: a model's version never changes, take another name")
    from services.scoring.models.domain import ModelFolderError
    from services.scoring.training.domain import TrainingError
    from services.scoring.training.recalibrated import write

    signs = signer(key, out, os.environ)
    try:
        if table_file is not None:
            if label is None:
                raise usage("name the outcome's column: --label COLUMN")
            named = {"positive": positive, "weight": weight}
            outcomes = _of_table(folder, table_file, label, named, source, outcome)
        else:
            require_officer(officer, file_reference)
            outcomes = await _of_firms(
                session, folder, Path(str(labels)), officer, file_reference, source, outcome
            )
        found = write(folder.resolve(), out, outcomes, at=datetime.now(UTC), key=signs.key)
    except ModelFolderError as error:
        raise usage(str(error)) from None
    except TrainingError as error:
        session.out.failed("RECALIBRATION_REFUSED", str(error))
        raise typer.Exit(REFUSED) from None
    _show(session, out, found, signs)


def _of_table(
    folder: Path,
    table_file: Path,
    label: str,
    named: dict[str, str | None],
    source: str,
    outcome: str,
) -> "Outcomes":
    """Outcomes of a table's rows, by a model of a table."""
    import numpy as np

    from services.scoring.models.folder import read_folder
    from services.scoring.models.intervals import missing_share
    from services.scoring.training import evidence
    from services.scoring.training.domain import TrainingError
    from services.scoring.training.encoding import check_needed, encode, needed
    from services.scoring.training.files import open_file, sha256_of
    from services.scoring.training.recalibrated import Outcomes
    from services.scoring.training.table import read_labels

    scorer = load(folder)
    digest = sha256_of(table_file)
    if digest == scorer.manifest.data.sha256:
        raise TrainingError(
            f"{scorer.version} was trained on this table, and knows its outcomes: take rows that "
            "it has not seen"
        )
    trained = evidence.load(read_folder(folder.resolve()).training).spec
    table = open_file(table_file)
    spec = spec_of(trained, label, named, table.columns)
    labelled = read_labels(table, spec)
    features = scorer.manifest.features
    check_needed(features, table.columns, scorer.version)
    margins, missing = [], []
    with bar("Scoring", table.rows) as advance:
        for batch in table.batches(needed(features)):
            matrix = encode(features, batch)
            margins.append(scorer.margins(matrix))
            missing.append(missing_share(matrix))
            advance(len(matrix))
    return Outcomes(
        margins=np.concatenate(margins)[labelled.places],
        labels=labelled.labels,
        weights=labelled.weights,
        missing=np.concatenate(missing)[labelled.places],
        words=f"{source} ({table_file.name})",
        as_of="",
        sha256=digest,
        outcome=outcome,
    )


async def _of_firms(
    session: Session,
    folder: Path,
    labels: Path,
    officer: str,
    file_reference: str,
    source: str,
    outcome: str,
) -> "Outcomes":
    """Outcomes of firms that consented to training, by a model of the platform's records."""
    import hashlib

    from services.cli import training
    from services.scoring.models.intervals import missing_share
    from services.scoring.training.recalibrated import Outcomes

    scorer, places = _platform_model(folder)
    try:
        rows = training.read_labels(labels)
    except training.LabelsError as error:
        raise usage(str(error)) from None
    async with session.client() as client:
        with bar("Fetching summaries", len(rows)) as advance:
            table = await training.fetch_table(
                client, rows, advance, officer=officer, file_reference=file_reference
            )
    matrix = table.matrix[:, places]
    days = sorted({row.as_of.date().isoformat() for row in rows})
    return Outcomes(
        margins=scorer.margins(matrix),
        labels=table.labels,
        weights=None,
        missing=missing_share(matrix),
        words=source,
        as_of=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "",
        sha256=hashlib.sha256(matrix.tobytes() + table.labels.tobytes()).hexdigest(),
        outcome=outcome,
        simulated=table.simulated,
    )


def _platform_model(folder: Path) -> "tuple[Scorer, list[int]]":
    """A model of the platform's records, and where its features stand among all."""
    from services.scoring.features.registry import NAMES, VERSION
    from services.scoring.models.reasons import features_of
    from services.scoring.models.scorer import Scorer

    scorer = Scorer.load(folder.resolve())
    try:
        features = features_of(scorer.manifest)
    except ValueError:
        raise usage(f"{folder} is a model of a table: name a TABLE with --label") from None
    if scorer.manifest.feature_version != VERSION:
        raise usage(f"{folder} rests on another version of the features: train it again")
    return scorer, [NAMES.index(feature.name) for feature in features]


def _show(session: Session, folder: Path, found: "Recalibrated", signs: Signer) -> None:
    manifest, posterior = found.manifest, found.posterior

    def plain(estimate: "Estimate") -> dict[str, float]:
        return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}

    document: dict[str, Any] = {
        "version": manifest.version,
        "folder": str(folder),
        "recalibrated_from": manifest.parameters["recalibrated_from"],
        "model_class": str(manifest.model_class),
        "rows": posterior.rows,
        "events": posterior.events,
        "effective_events": posterior.effective_events,
        "auc": posterior.auc,
        "intercept": plain(posterior.intercept),
        "slope": plain(posterior.slope) | {"fitted": posterior.slope_fitted},
        "calibration": {"a": manifest.calibration.a, "b": manifest.calibration.b},
        "groups": [
            {
                "rows": line.rows,
                "events": line.events,
                "pd_before": line.before,
                "pd_after": line.after,
                "observed": line.observed,
            }
            for line in found.lines
        ],
        "key_id": signs.key.key_id,
    }
    session.out.show(
        document,
        output.pairs(
            f"Model {manifest.version}",
            [
                ("folder", str(folder)),
                ("trees of", str(document["recalibrated_from"])),
                ("class", str(manifest.model_class).lower()),
                ("outcomes", f"{posterior.events} in {posterior.rows} rows"),
                ("AUC of these rows", f"{posterior.auc:.3f}"),
                ("intercept", _said(posterior.intercept)),
                (
                    "slope",
                    _said(posterior.slope)
                    if posterior.slope_fitted
                    else "as it was: fewer than 20 outcomes of the rarer kind",
                ),
                ("signed by", signs.words),
            ],
        ),
        output.table(
            "PD before and after, rows from low to high",
            ["rows>", "defaults>", "PD before>", "PD after>", "observed>"],
            [
                [
                    str(line.rows),
                    str(line.events),
                    f"{line.before:.2%}",
                    f"{line.after:.2%}",
                    f"{line.observed:.2%}",
                ]
                for line in found.lines
            ],
        ),
    )


def _said(estimate: "Estimate") -> str:
    return f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
