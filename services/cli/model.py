"""`puhui model`: show what is served or lies in a folder; the commands of `modelling`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import lower
from services.cli.modelling import expert, recalibrate, report, score, train, validate

if TYPE_CHECKING:
    from puhui.scoring.v1.models_pb2 import Model

app = typer.Typer(help="Models: what is served, and one's own.", no_args_is_help=True)
train.register(app)
expert.register(app)
recalibrate.register(app)
report.register(app)
score.register(app)
validate.register(app)


@remote(app, example="puhui model list", name="list")
async def list_models(session: Session) -> None:
    """List the models that are loaded."""
    async with session.client() as client:
        models = [model async for model in client.models()]
    session.out.show(
        {"models": [output.plain(model) for model in models]},
        output.table(
            output.count(len(models), "model"),
            ["version", "state", "class", "trained", "AUC>", "outcome"],
            [
                [
                    model.ref.version,
                    _state(model),
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
                ("state", _state(served)),
                ("trained", output.moment(served.trained_at)),
                ("outcome", served.outcome),
                ("features", str(len(served.features))),
            ],
        ),
        Markdown(served.card),
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


def _state(model: "Model") -> str:
    from puhui.scoring.v1.registry_pb2 import ModelState

    state = lower(ModelState.Name(model.state), "MODEL_STATE_")
    return f"{state}, stopped" if model.stopped else state


def _class(model: "Model") -> str:
    from puhui.scoring.v1.scoring_pb2 import ModelClass

    return lower(ModelClass.Name(model.ref.model_class), "MODEL_CLASS_")
