"""`puhui model train`: on a bank's own table, or on firms that consented to it.

One command with three sources, as what it writes is the same: a model folder. What only one of them
takes is refused with the other.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from services.cli.command import FileReference, Officer, Session, remote, usage
from services.cli.model_key import Key
from services.cli.modelling import cohorts, platform, table

_TABLE, _FIRMS, _BOTH = "On a table", "On firms that consented", "How"


def register(app: typer.Typer) -> None:
    """Add the command to its group."""
    remote(
        app,
        example="puhui model train loans.csv --label defaulted --out models/bank-1",
        name="train",
    )(train)


async def train(
    session: Session,
    table_file: Annotated[
        Path | None,
        typer.Argument(
            metavar="TABLE",
            exists=True,
            dir_okay=False,
            help="The bank's own table: CSV (also .csv.gz) or Parquet.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to write; its name is the version.",
            rich_help_panel=_BOTH,
        ),
    ] = None,
    spec: Annotated[
        Path | None,
        typer.Option(
            "--spec",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="What the table's columns are: TOML, see docs/model-risk.md.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            metavar="COLUMN",
            help="The outcome's column, where there is no spec: all else is inferred and told.",
            rich_help_panel=_TABLE,
        ),
    ] = None,
    print_spec: Annotated[
        bool,
        typer.Option(
            "--print-spec",
            help="Do not train: print the spec with what was inferred, to be kept and changed.",
            rich_help_panel=_TABLE,
        ),
    ] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            metavar="SECONDS",
            min=1,
            help="Of tuning that are planned for, on two cores; 60 by default.",
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
            help="CSV with subject_id, consent_id (for model_training), as_of, label (1: default), "
            "and declared.NAME for what you know yourself and will declare with orders.",
            rich_help_panel=_FIRMS,
        ),
    ] = None,
    from_platform: Annotated[
        bool,
        typer.Option(
            "--from-platform",
            help="On every firm that consents to training: inputs as of each cohort's day, the "
            "outcome from lenders' records of the months after it.",
            rich_help_panel=_FIRMS,
        ),
    ] = False,
    cohort: Annotated[
        list[datetime] | None,
        typer.Option(
            "--cohort",
            formats=["%Y-%m-%d"],
            metavar="DAY",
            help="A day to observe firms on; repeat. Else the last four ends of quarters whose "
            "performance window is over.",
            rich_help_panel=_FIRMS,
        ),
    ] = None,
    performance_months: Annotated[
        int,
        typer.Option(
            "--performance-months",
            min=1,
            max=60,
            help="Within which a default counts, with --from-platform.",
            rich_help_panel=_FIRMS,
        ),
    ] = 12,
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", help="What the outcome is, for the card.", rich_help_panel=_BOTH),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", help="Where the data come from, for the card.", rich_help_panel=_BOTH
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option("--folds", min=2, help="Of the evaluation.", rich_help_panel=_BOTH),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", min=1, help="Of the folds.", rich_help_panel=_BOTH),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", help="Of all randomness.", rich_help_panel=_BOTH)
    ] = 20,
    officer: Officer = "",
    file_reference: FileReference = "",
    key: Key = None,
) -> None:
    """Train a model and write its folder: trees, manifest, card and what was measured.

    On a TABLE with its --label or --spec; or, as a bank, on firms that consented: on its own
    outcomes by --labels, or on what lenders reported by --from-platform. Where the platform
    released simulated data, the model and all its answers say so.
    """
    if (table_file is not None) + (labels is not None) + from_platform != 1:
        raise usage(
            "name a TABLE with --label or --spec, or --labels with firms that consented, or "
            "--from-platform"
        )
    if table_file is not None:
        request = table.Request(
            file=table_file,
            spec=spec,
            label=label,
            out=out,
            outcome=outcome,
            source=source,
            folds=folds,
            repeats=repeats,
            seed=seed,
            budget=budget,
            officer=officer,
        )
        if print_spec:
            table.print_spec(session.out, request)
        else:
            table.train(session.out, request, key)
        return
    for option, value in (("--spec", spec), ("--label", label)):
        if value is not None:
            raise usage(f"{option} goes with a TABLE, not with firms that consented")
    if out is None:
        raise usage("name the folder to write: --out DIR")
    if labels is None:
        await cohorts.train(
            session,
            cohorts.Request(
                out=out,
                cohorts=[each.date() for each in cohort or ()],
                months=performance_months,
                folds=folds,
                repeats=repeats,
                seed=seed,
                budget=budget,
                officer=officer,
                file_reference=file_reference,
            ),
            key,
        )
        return
    if budget is not None:
        raise usage("--budget goes with a TABLE or --from-platform, not with --labels")
    await platform.train(
        session,
        platform.Request(
            labels=labels,
            out=out,
            outcome=outcome or "default as labelled by the bank",
            source=source or "the bank's own outcomes",
            folds=folds or 5,
            repeats=repeats or 10,
            seed=seed,
            officer=officer,
            file_reference=file_reference,
        ),
        key,
    )
