"""`puhui usage`: who used what in a month, and who contributed what."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from puhui.datashare.v1.metering_pb2 import Contribution, Usage

app = typer.Typer(help="Usage and contributions by month.", no_args_is_help=True)

Month = Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="Of China Standard Time.")]
Whose = Annotated[
    str, typer.Option("--participant", metavar="PARTICIPANT", help="Only this one's.")
]
OfSupply = Annotated[
    bool, typer.Option("--contributions", help="What providers supplied, and its use.")
]

USAGE = (
    "participant_id", "product", "method", "served", "refused", "failed", "request_bytes",
    "response_bytes",
)  # fmt: skip  # a table, line by line
CONTRIBUTIONS = ("provider_id", "record_type", "accepted", "subjects", "uses", "recipients")
_FORMATS = (".csv", ".xlsx", ".parquet")


@remote(app, example="puhui usage show --month 2026-11")
async def show(
    session: Session, month: Month, participant: Whose = "", contributions: OfSupply = False
) -> None:
    """Show a month; with --participant, that one's statement of usage and contributions."""
    first = month_of(month)
    async with session.client() as client:
        used = (
            []
            if contributions
            else [each async for each in client.usage(first, participant_id=participant)]
        )
        both = contributions or bool(participant)
        supplied = (
            [each async for each in client.contributions(first, provider_id=participant)]
            if both
            else []
        )
    tables = []
    if not contributions:
        calls = sum(each.served for each in used)
        tables.append(
            output.table(
                f"Usage in {month}: {output.count(calls, 'answered call')}",
                ["participant", "product", "method", "served", "refused", "failed", "in", "out"],
                [[str(cell) for cell in _cells(each, USAGE)] for each in used],
            )
        )
    if both:
        tables.append(
            output.table(
                f"Contributions in {month}",
                ["provider", "type", "accepted", "firms", "uses", "recipients"],
                [[str(cell) for cell in _cells(each, CONTRIBUTIONS)] for each in supplied],
            )
        )
    session.out.show(
        {
            "month": month,
            "usages": [output.plain(each) for each in used],
            "contributions": [output.plain(each) for each in supplied],
        },
        *tables,
    )


@remote(app, example="puhui usage export --month 2026-11 --out usage.csv")
async def export(
    session: Session,
    month: Month,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help=".csv, .xlsx or .parquet; must be new.")
    ],
    participant: Whose = "",
    contributions: OfSupply = False,
) -> None:
    """Write a month into a table, for bills and for shares in the benefit."""
    if out.suffix.lower() not in _FORMATS:
        raise usage(f"--out: {out.name} should end in {', '.join(_FORMATS)}")
    if out.exists():
        raise usage(f"--out: {out} is there already: name a new file")
    first = month_of(month)
    columns = CONTRIBUTIONS if contributions else USAGE
    async with session.client() as client:
        if contributions:
            rows = [
                _cells(each, columns)
                async for each in client.contributions(first, provider_id=participant)
            ]
        else:
            rows = [
                _cells(each, columns)
                async for each in client.usage(first, participant_id=participant)
            ]
    write_table(out, ("month", *columns), [(month, *row) for row in rows])
    session.out.show(
        {"file": str(out), "month": month, "rows": len(rows)},
        output.pairs(str(out), [("month", month), ("rows", f"{len(rows):,}")]),
    )


def month_of(text: str) -> date:
    """Return the first day of a month YYYY-MM.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise usage("--month: should be a month such as 2026-11") from None


def write_table(
    path: Path, columns: "Sequence[str]", rows: "Sequence[Sequence[str | int]]"
) -> None:
    """Write a table as its file's name says; of columns of one type each."""
    match path.suffix.lower():
        case ".csv":
            import csv

            # With a mark, so that Excel reads it as UTF-8.
            with path.open("x", encoding="utf-8-sig", newline="") as file:
                csv.writer(file).writerows([columns, *rows])
        case ".xlsx":
            from xlsxwriter import Workbook

            with Workbook(path) as book:
                sheet = book.add_worksheet("puhui")
                for line, row in enumerate([columns, *rows]):
                    for column, cell in enumerate(row):
                        if isinstance(cell, int):
                            sheet.write_number(line, column, cell)
                        else:
                            sheet.write_string(line, column, cell)
        case _:
            import pyarrow as pa
            import pyarrow.parquet as pq

            kinds = [pa.string() if _is_text(name) else pa.int64() for name in columns]
            schema = pa.schema(list(zip(columns, kinds, strict=True)))
            values = [dict(zip(columns, row, strict=True)) for row in rows]
            pq.write_table(pa.Table.from_pylist(values, schema=schema), path)


def _is_text(column: str) -> bool:
    return column in ("month", *USAGE[:3], *CONTRIBUTIONS[:2])


def _cells(message: "Usage | Contribution", columns: "Sequence[str]") -> list[str | int]:
    return [getattr(message, name) for name in columns]
