"""`puhui model expert`: a first model for a bank without labels, by documented judgement."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.cli.command import local, usage
from services.cli.model_key import Key, signer
from services.cli.output import Output


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    local(app, example="puhui model expert --out .puhui/models/expert-1", name="expert")(expert)


def expert(
    out: Output,
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to write; its name is the version.")
    ],
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="TYPE",
            help="A record type that firms consent to and the scorecard rests on, beside invoices "
            "and open records; repeat it. Take those that you ask firms for: what a firm does not "
            "consent to counts as its worst case. Else: the usual ones.",
        ),
    ] = None,
    key: Key = None,
) -> None:
    """Write the EXPERT scorecard: points by documented judgement, monotone, with reasons.

    A first, honest score where there are no labels: it ranks firms and claims no PD. Its card has
    every point with its reason and source. Once defaults are known, `puhui model recalibrate` gives
    it a PD.
    """
    from services.scoring.models.expert import CHECKS, SOURCES
    from services.scoring.training.expert import write

    try:
        signs = signer(key, folder, os.environ)
        manifest = write(folder, sources or SOURCES, made_at=datetime.now(UTC), key=signs.key)
    except (ValueError, FileExistsError) as error:
        raise usage(str(error)) from None
    out.show(
        {
            "version": manifest.version,
            "folder": str(folder),
            "model_class": str(manifest.model_class),
            "features": len(manifest.features),
            "sources": list(sources or SOURCES),
            "key_id": signs.key.key_id,
        },
        output.pairs(
            f"Model {manifest.version}",
            [
                ("folder", str(folder)),
                ("class", "expert: it ranks, and claims no PD"),
                ("inputs", str(len(manifest.features))),
                ("beside invoices and open records", ", ".join(sources or SOURCES)),
                *(
                    (f"ranks {check.population}", f"AUC {check.auc:.3f}, never fitted")
                    for check in CHECKS
                ),
                ("signed by", signs.words),
            ],
        ),
    )
