"""`puhui model report`: a model's report, as a page that can be filed."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.cli.command import local, usage
from services.cli.output import Output


class Language(StrEnum):
    """In which the report is written."""

    ZH = "zh"
    EN = "en"


def register(app: typer.Typer) -> None:
    """Add the command to the group."""
    local(app, example="puhui model report models/loans-2026 --lang zh --out loans-2026.html")(
        report
    )


def report(
    out: Output,
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", exists=True, file_okay=False, help="The model's folder."),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", dir_okay=False, help="The page; else VERSION.html, here."
        ),
    ] = None,
    language: Annotated[
        Language, typer.Option("--lang", help="Of the report's own words.")
    ] = Language.EN,
) -> None:
    """Write a model's report: one HTML page with its plots, for who reviews and files it.

    The folder's signature, hashes and golden rows are verified first. The same folder gives the
    same page, byte by byte.
    """
    from services.scoring.models.domain import ModelFolderError
    from services.scoring.models.folder import read_folder
    from services.scoring.models.scorer import Scorer
    from services.scoring.training import evidence
    from services.scoring.training import report as reports

    try:
        stored = read_folder(folder.resolve())
        scorer = Scorer(stored.manifest, stored.model, stored.card)
        scorer.replay()
        measured = evidence.load(stored.training)
    except ModelFolderError as error:
        raise usage(str(error)) from None
    except ValueError as error:
        raise usage(f"{folder}: {error}: restore the folder") from None
    page = reports.report(scorer, measured, stored.key_id, reports.Language(language))
    path = to or Path(f"{stored.manifest.version}.html")
    try:
        path.write_text(page, "utf-8")
    except OSError as error:
        raise usage(f"{path}: {error.strerror}: name another file by --out") from None
    out.show(
        {
            "version": stored.manifest.version,
            "report": str(path),
            "signed_by": stored.key_id,
            "model_class": str(stored.manifest.model_class),
        },
        output.pairs(
            f"Report of {stored.manifest.version}",
            [("page", str(path)), ("signed by", stored.key_id)],
        ),
    )
