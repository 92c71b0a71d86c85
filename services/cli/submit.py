"""`puhui submit`: a few records in single calls, for firms, banks and small providers."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, remote, usage
from services.cli.push import (
    MappingFile,
    RecordTypeName,
    SignWith,
    read_mapping_file,
    read_signing_key,
)

if TYPE_CHECKING:
    from puhui_client import Client
    from puhui_client.signing import SigningKey
    from services.cli.rows import Row


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(app, example="puhui submit declaration.jsonl --key-file firm.key")(submit)


async def submit(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="A table as for `puhui push`, or JSON lines: Record in the protocol's JSON form.",
        ),
    ],
    record_type: RecordTypeName = "",
    mapping: MappingFile = None,
    sign_with: SignWith = None,
) -> None:
    """Send records in calls of up to 1,000: what a firm supplies about itself, or a bank's visits.

    Sending a file again doubles nothing. It exits with 0 when all rows are in, duplicates included,
    and with 1 when some are not.
    """
    from puhui_client import MAX_BATCH
    from services.cli.mapping import MappingError
    from services.cli.rows import SourceError, open_source

    key = read_signing_key(sign_with)
    outcome = _Outcome()
    try:
        rows = open_source(file, record_type, read_mapping_file(mapping)).rows()
        async with session.client() as client:
            while part := list(islice(rows, MAX_BATCH)):
                await _send(client, part, key, outcome)
    except (SourceError, MappingError) as error:
        raise usage(str(error)) from None
    session.out.show(
        {
            "accepted": outcome.accepted,
            "duplicate": outcome.duplicate,
            "held": outcome.held,
            "not_in": outcome.not_in,
        },
        output.pairs(
            str(file),
            [
                ("accepted", f"{outcome.accepted:,}"),
                ("duplicate", f"{outcome.duplicate:,}"),
                ("held for a review", f"{len(outcome.held):,}" if outcome.held else ""),
                ("not in", f"{len(outcome.not_in):,}" if outcome.not_in else ""),
            ],
        ),
        *_table(outcome),
    )
    if outcome.not_in or outcome.held:
        raise typer.Exit(REFUSED)


class _Outcome:
    """What became of the rows."""

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicate = 0
        self.held: list[dict[str, Any]] = []
        self.not_in: list[dict[str, Any]] = []


async def _send(
    client: "Client", rows: "Sequence[Row]", key: "SigningKey | None", outcome: _Outcome
) -> None:
    from services.cli.rows import UNREADABLE

    for row in rows:
        for problem in row.problems:
            outcome.not_in.append(
                _told(row, reason=UNREADABLE, field=problem.field, message=problem.problem)
            )
    readable = [row for row in rows if not row.problems]
    if not readable:
        return
    ack = await client.submit([row.record for row in readable], signer=key)
    outcome.accepted += len(ack.accepted)
    outcome.duplicate += len(ack.duplicates)
    for held in ack.held:
        outcome.held.append(_told(readable[held.row], review_id=held.review_id))
    for item in ack.rejections:
        row = readable[item.row]
        outcome.not_in.append(
            _told(row, reason=item.reason, field=item.field, message=item.message)
        )


def _told(row: "Row", **more: str) -> dict[str, Any]:
    return {"line": row.number, "record_id": row.record.provider_record_id, **more}


def _table(outcome: _Outcome) -> Iterator[Any]:
    if outcome.not_in:
        yield output.table(
            "Not in",
            ["line>", "record", "reason", "field", "problem"],
            [
                [str(row["line"]), row["record_id"], row["reason"], row["field"], row["message"]]
                for row in outcome.not_in
            ],
        )
