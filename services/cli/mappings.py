"""`puhui mapping`: from the columns of a table to the fields of a record."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from services.cli import output
from services.cli.command import local, usage
from services.cli.output import Output
from services.cli.push import own_policies, wrong_use

app = typer.Typer(help="From the columns of a file to fields.", no_args_is_help=True)


@local(app, example="puhui mapping init invoices.csv --type vat_invoice")
def init(
    out: Output,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="CSV, Excel or Parquet."),
    ],
    record_type: Annotated[str, typer.Option("--type", help="Record type of its rows.")],
    to: Annotated[
        Path | None,
        typer.Option("--out", metavar="TOML", dir_okay=False, help="FILE with the suffix .toml."),
    ] = None,
    sheet: Annotated[str, typer.Option("--sheet", help="Of an Excel file with several.")] = "",
    header: Annotated[
        int, typer.Option("--header", min=1, help="Number of the row that names the columns.")
    ] = 1,
) -> None:
    """Draft a mapping, guessed from the names of the columns and the first rows.

    It is a draft: `puhui push` refuses it until somebody has checked it and taken a line out.
    """
    from services.cli.drafting import draft
    from services.cli.tables import Layout, open_table

    policies = {policy.record_type: policy for policy in asyncio.run(own_policies())}
    if record_type not in policies:
        raise usage(f"unknown record type {record_type}; see `puhui catalogue list`")
    with wrong_use():
        table = open_table(file, Layout(sheet=sheet, header=header))
        text = draft(table, policies[record_type], layout=Layout(sheet=sheet, header=header))
    target = to or file.with_suffix(".toml")
    try:
        with target.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise usage(f"{target} is there already: name another by --out") from None
    out.show(
        {"mapping": str(target), "read_as": table.told},
        output.pairs(
            f"A draft: {target}",
            [("read", table.told), ("next", "check every line, then delete the line `draft`")],
        ),
    )
