"""`puhui model`: show what is served or lies in a folder; train on one's own outcomes."""

import dataclasses
import os
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
from services.cli.inputs import lower
from services.cli.model_key import Key, Signer, signer
from services.cli.progress import bar

if TYPE_CHECKING:
    from puhui.scoring.v1.models_pb2 import Model
    from services.cli.training import Table
    from services.scoring.models.domain import Manifest

app = typer.Typer(help="Models: what is served, and training one's own.", no_args_is_help=True)


@remote(app, example="puhui model list", name="list")
async def list_models(session: Session) -> None:
    """List the models that are loaded."""
    async with session.client() as client:
        models = [model async for model in client.models()]
    session.out.show(
        {"models": [output.plain(model) for model in models]},
        output.table(
            output.count(len(models), "model"),
            ["version", "in service", "class", "trained", "AUC>", "outcome"],
            [
                [
                    model.ref.version,
                    "yes" if model.in_service else "",
                    _class(model),
                    output.moment(model.trained_at),
                    next((f"{m.value:.3f}" for m in model.metrics if m.name == "auc"), ""),
                    model.outcome,
                ]
                for model in models
            ],
        ),
    )


@remote(app, example="puhui model show .puhui/models/bank-1", name="show")
async def show(
    session: Session,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION|DIR",
            help="A model folder, or a version that is loaded; else the model in service.",
        ),
    ] = None,
) -> None:
    """Show a model: its manifest and card, or what is served."""
    if model is not None and _show_folder(session, Path(model)):
        return
    async with session.client() as client:
        version = model
        if version is None:
            serving = [m.ref.version async for m in client.models() if m.in_service]
            if not serving:
                raise usage("no model is in service: train one, or name a version or a folder")
            version = serving[0]
        served = await client.get_model(version)
    from rich.markdown import Markdown

    session.out.show(
        {"model": output.plain(served)},
        output.pairs(
            f"Model {served.ref.version}",
            [
                ("class", _class(served)),
                ("in service", "yes" if served.in_service else "no"),
                ("trained", output.moment(served.trained_at)),
                ("outcome", served.outcome),
                ("features", str(len(served.features))),
            ],
        ),
        Markdown(served.card),
    )


@remote(
    app,
    example="puhui model train --labels labels.csv --out .puhui/models/bank-1 --officer Wang "
    "--file-ref M-3 --serve",
)
async def train(
    session: Session,
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="CSV with subject_id, consent_id (for model_training), as_of, label (1: default).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder to write; its name is the version."),
    ],
    outcome: Annotated[
        str, typer.Option("--outcome", help="What label 1 means, for the card.")
    ] = "default as labelled by the bank",
    source: Annotated[
        str, typer.Option("--source", help="Where the outcomes come from, for the card.")
    ] = "the bank's own outcomes",
    folds: Annotated[int, typer.Option("--folds", min=2, help="Of the evaluation.")] = 5,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Of the folds.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Of all randomness.")] = 20,
    officer: Officer = "",
    file_reference: FileReference = "",
    key: Key = None,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Put it in service in the folder of models that DIR is in."),
    ] = False,
) -> None:
    """As a bank, train a model on firms that consented to it, and write its folder.

    Where the platform released simulated data, the model and all its answers say so.
    """
    from services.cli import training
    from services.scoring.models.served import put_in_service
    from services.scoring.training.domain import Spec, TrainingError

    require_officer(officer, file_reference)
    if out.exists():
        raise usage(f"{out} exists: a model's version never changes, take another name")
    signs = signer(key, out, os.environ)
    try:
        rows = training.read_labels(labels)
    except training.LabelsError as error:
        raise usage(str(error)) from None
    async with session.client() as client:
        with bar("Fetching summaries", len(rows)) as advance:
            table = await training.fetch_table(
                client, rows, advance, officer=officer, file_reference=file_reference
            )
    days = sorted({row.as_of.date().isoformat() for row in rows})
    spec = Spec(
        outcome=outcome,
        source=source,
        as_of=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "",
        population=f"the {len(table.labels)} firms of the training",
        folds=folds,
        repeats=repeats,
        seed=seed,
    )
    try:
        with bar("Training", folds * repeats, unit="folds") as advance:
            manifest = training.fit(table, spec, out, signs.key, lambda done, total: advance(1))
    except TrainingError as error:
        session.out.failed("TRAINING_REFUSED", str(error))
        raise typer.Exit(REFUSED) from None
    if serve:
        put_in_service(out.parent, manifest.version)
    _show_trained(session, out, manifest, table, signs, serve=serve)


def _show_trained(
    session: Session,
    out: Path,
    manifest: "Manifest",
    table: "Table",
    signs: Signer,
    *,
    serve: bool,
) -> None:
    measured = {name: dataclasses.asdict(metric) for name, metric in manifest.metrics.items()}
    auc = manifest.metrics["auc"]
    session.out.show(
        {
            "version": manifest.version,
            "folder": str(out),
            "in_service": serve,
            "signed_by": signs.key.key_id,
            "key_file": str(signs.path),
            "rows": len(table.labels),
            "events": int(table.labels.sum()),
            "model_class": str(manifest.model_class),
            "refused": table.refused,
            "insufficient": table.insufficient,
            "disputed": table.disputed,
            "metrics": measured,
        },
        output.pairs(
            f"Model {manifest.version}",
            [
                ("folder", str(out)),
                ("class", str(manifest.model_class).lower()),
                ("rows", f"{len(table.labels)}, with {int(table.labels.sum())} defaults"),
                *((f"refused {reason}", str(n)) for reason, n in sorted(table.refused.items())),
                ("insufficient data", str(table.insufficient) if table.insufficient else ""),
                ("rows on disputed records", str(table.disputed) if table.disputed else ""),
                ("AUC out of fold", f"{auc.value:.3f} ± {auc.deviation or 0:.3f}"),
                ("in service", "yes" if serve else "no"),
                ("signed by", signs.words),
            ],
        ),
    )


def _show_folder(session: Session, path: Path) -> bool:
    if not path.is_dir():
        return False
    from rich.markdown import Markdown

    from services.scoring.models.domain import ModelFolderError
    from services.scoring.models.folder import read_folder

    try:
        folder = read_folder(path.resolve())
    except ModelFolderError as error:
        raise usage(str(error)) from None
    manifest: dict[str, Any] = dataclasses.asdict(folder.manifest)
    session.out.show(
        {"manifest": manifest, "card": folder.card, "signed_by": folder.key_id},
        output.pairs(f"Model {folder.manifest.version}", [("signed by", folder.key_id)]),
        Markdown(folder.card),
    )
    return True


def _class(model: "Model") -> str:
    from puhui.scoring.v1.scoring_pb2 import ModelClass

    return lower(ModelClass.Name(model.ref.model_class), "MODEL_CLASS_")
