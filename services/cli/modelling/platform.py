"""Training on firms that consented to it: their summaries come from the platform."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, require_officer, usage
from services.cli.model_key import Signer, signer
from services.cli.progress import bar

if TYPE_CHECKING:
    from services.cli.training import Table
    from services.scoring.models.domain import Manifest


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Args:
        labels: file of firms and outcomes.
        out: folder to write.
        outcome: what label 1 means, in words.
        source: where the outcomes come from, in words.
        folds: of the evaluation.
        repeats: of the folds.
        seed: of all randomness.
        officer: who at the bank trains.
        file_reference: the bank's file of the training.
    """

    labels: Path
    out: Path
    outcome: str
    source: str
    folds: int
    repeats: int
    seed: int
    officer: str
    file_reference: str


async def train(session: Session, request: Request, key: Path | None) -> None:
    """Fetch the firms' summaries, train, write and show a model.

    Raises:
        typer.BadParameter: the command was called wrongly.
        typer.Exit: the training was refused.
    """
    from services.cli import training
    from services.scoring.training.app import Statement, models_to_train
    from services.scoring.training.domain import Settings, TrainingError

    out = request.out
    require_officer(request.officer, request.file_reference)
    if out.exists():
        raise usage(f"{out} exists: a model's version never changes, take another name")
    signs = signer(key, out, os.environ)
    try:
        rows = training.read_labels(request.labels)
    except training.LabelsError as error:
        raise usage(str(error)) from None
    async with session.client() as client:
        with bar("Fetching summaries", len(rows)) as advance:
            table = await training.fetch_table(
                client,
                rows,
                advance,
                officer=request.officer,
                file_reference=request.file_reference,
            )
    days = sorted({row.as_of.date().isoformat() for row in rows})
    settings = Settings(
        outcome=request.outcome,
        population=f"the {len(table.labels)} firms of the training",
        folds=request.folds,
        repeats=request.repeats,
        seed=request.seed,
    )
    made = training.training_table(
        table,
        source=request.source,
        as_of=days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "",
    )
    left_out = {f"refused: {reason}": count for reason, count in sorted(table.refused.items())}
    if table.insufficient:
        left_out["too little data for a score"] = table.insufficient
    statement = Statement(
        left_out=left_out,
        sampling="the firms of the bank's list that consented to training",
        environment={"operator": request.officer, "file": request.file_reference},
    )
    try:
        with bar("Training", models_to_train(made, settings), unit="folds") as advance:
            manifest = training.fit(
                made, settings, out, signs.key, lambda done, total: advance(1), statement
            )
    except TrainingError as error:
        session.out.failed("TRAINING_REFUSED", str(error))
        raise typer.Exit(REFUSED) from None
    _show(session, request, manifest, table, signs)


def _show(
    session: Session, request: Request, manifest: "Manifest", table: "Table", signs: Signer
) -> None:
    measured = {name: dataclasses.asdict(metric) for name, metric in manifest.metrics.items()}
    auc = manifest.metrics["auc"]
    session.out.show(
        {
            "version": manifest.version,
            "folder": str(request.out),
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
                ("folder", str(request.out)),
                ("class", str(manifest.model_class).lower()),
                ("rows", f"{len(table.labels)}, with {int(table.labels.sum())} defaults"),
                *((f"refused {reason}", str(n)) for reason, n in sorted(table.refused.items())),
                ("insufficient data", str(table.insufficient) if table.insufficient else ""),
                ("rows on disputed records", str(table.disputed) if table.disputed else ""),
                ("AUC out of fold", f"{auc.value:.3f} ± {auc.deviation or 0:.3f}"),
                ("signed by", signs.words),
            ],
        ),
    )
