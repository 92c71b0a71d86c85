"""`puhui push`: a provider's file of records."""

import json
import secrets
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, remote, usage
from services.cli.progress import bar

if TYPE_CHECKING:
    from puhui.datashare.v1.records_pb2 import Record
    from puhui_client import BatchAck, PushReport

UNREADABLE = "MALFORMED_MESSAGE"
"""Reason of a row that could not be read, and so was not sent; as the platform would name it."""
_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(app, example="puhui push invoices.csv --type vat_invoice --key-file tax.key")(push)


async def push(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="JSON lines (Record in the protocol's JSON form), or .csv whose header names "
            "fields: subject.uscc, date, net ...",
        ),
    ],
    record_type: Annotated[
        str, typer.Option("--type", help="Record type of every row; CSV needs it.")
    ] = "",
    delivery: Annotated[
        str | None,
        typer.Option("--delivery", help="Resumes that delivery of the same file. Else: a new one."),
    ] = None,
    historical: Annotated[
        bool,
        typer.Option(
            "--historical", help="Back-fill: rows count as known when they were obtained."
        ),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="OUT",
            help="Rejected rows as JSON lines, if there are any; FILE.rejects.jsonl.",
        ),
    ] = None,
) -> None:
    """Push a file of records. Bad rows are listed and never block the others.

    It exits with 0 when all rows are in, duplicates included, and with 1 when some are not.
    """
    from services.cli.rows import HeaderError, check_header

    delivery_id = delivery or f"push-{secrets.token_hex(8)}"
    target = rejects or file.with_name(f"{file.name}.rejects.jsonl")
    async with session.client() as client:
        try:
            check_header(file, record_type)
            session.out.note(f"Delivery {delivery_id}: --delivery {delivery_id} resumes it.")
            with (
                _Rejects(target) as rejected,
                bar("Pushing", file.stat().st_size, unit="bytes") as advance,
            ):
                source = _Source(file, record_type, rejected, advance)
                report = await client.push(
                    source.records(),
                    delivery_id=delivery_id,
                    historical=historical,
                    keep_rejections=0,
                    on_ack=source.acked,
                )
        except HeaderError as error:
            raise usage(str(error)) from None
    _show(session, report, rejected)
    if rejected.count:
        raise typer.Exit(REFUSED)


class _Rejects:
    """Rows that are not in, written as they are found; the file is made with the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first: list[dict[str, Any]] = []
        self.unreadable = 0
        self.count = 0
        self._file: IO[str] | None = None

    def add(self, row: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self.path.open("w", encoding="utf-8")
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(row)

    def __enter__(self) -> "_Rejects":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class _Source:
    """Feeds the client from the file, and knows on which line each record was."""

    def __init__(
        self, path: Path, record_type: str, rejects: _Rejects, advance: Callable[[int], None]
    ) -> None:
        self._path = path
        self._record_type = record_type
        self._rejects = rejects
        self._advance = advance
        self._lines = array("Q")

    def records(self) -> "Iterator[Record]":
        from services.cli.rows import read

        for row in read(self._path, self._record_type):
            self._advance(row.size)
            if row.record is None:
                self._rejects.unreadable += 1
                self._rejects.add(
                    {
                        "line": row.line,
                        "record_id": "",
                        "reason": UNREADABLE,
                        "field": row.field,
                        "message": row.problem,
                    }
                )
            else:
                self._lines.append(row.line)
                yield row.record

    def acked(self, ack: "BatchAck") -> None:
        for rejection in ack.rejections:
            self._rejects.add(
                {
                    "line": self._lines[rejection.row],
                    "record_id": rejection.record_id,
                    "reason": rejection.reason,
                    "field": rejection.field,
                    "message": rejection.message,
                }
            )


def _show(session: Session, report: "PushReport", rejects: _Rejects) -> None:
    rejected = dict(sorted(report.rejected.items()))
    written = str(rejects.path) if rejects.count else None
    session.out.show(
        {
            "delivery_id": report.delivery_id,
            "skipped": report.skipped,
            "sent": report.sent,
            "accepted": report.accepted,
            "duplicate": report.duplicate,
            "rejected": rejected,
            "unreadable": rejects.unreadable,
            "reconnects": report.reconnects,
            "rejects_file": written,
        },
        output.pairs(
            f"Delivery {report.delivery_id}",
            [
                ("delivered before", f"{report.skipped:,}" if report.skipped else ""),
                ("sent", f"{report.sent:,}"),
                ("accepted", f"{report.accepted:,}"),
                ("duplicate", f"{report.duplicate:,}"),
                *((f"rejected {reason}", f"{count:,}") for reason, count in rejected.items()),
                ("not readable, not sent", f"{rejects.unreadable:,}" if rejects.unreadable else ""),
                ("connections lost", f"{report.reconnects}" if report.reconnects else ""),
                ("rejected rows are in", written or ""),
            ],
        ),
        *_table(rejects),
    )


def _table(rejects: _Rejects) -> Iterator[Any]:
    if rejects.first:
        yield output.table(
            f"The first {len(rejects.first)} of {rejects.count:,} rejected rows",
            ["line>", "record", "reason", "field", "problem"],
            [
                [str(row["line"]), row["record_id"], row["reason"], row["field"], row["message"]]
                for row in rejects.first
            ],
        )
