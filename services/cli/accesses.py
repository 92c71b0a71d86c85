"""`puhui accesses`: who looked at the data."""

from collections.abc import Sequence
from typing import Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote
from services.cli.facts import made, purpose_of
from services.cli.inputs import lower, take

_TYPES_NAMED = 2


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(app, example="puhui accesses --limit 20")(accesses)


async def accesses(
    session: Session,
    subject: Annotated[
        str, typer.Option("--subject", help="Only this firm's data; a firm always gets its own.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
) -> None:
    """List accesses, refusals included, newest first: a firm's, or a bank's own."""
    from puhui.datashare.v1.accesses_pb2 import AccessOutcome

    async with session.client() as client:
        found = await take(client.accesses(subject_id=subject), limit)
    session.out.show(
        {"accesses": [output.plain(access) for access in found]},
        output.table(
            output.count(len(found), "access", "accesses"),
            [
                "when",
                "who",
                "officer",
                "file",
                "purpose",
                "made of it",
                "types",
                "outcome",
                "consent",
            ],
            [
                [
                    output.moment(access.accessed_at),
                    access.recipient_name or access.recipient_id,
                    access.officer.name,
                    access.officer.file_reference,
                    purpose_of(access),
                    made(access),
                    _types(access.record_types),
                    access.refusal_reason
                    or lower(AccessOutcome.Name(access.outcome), "ACCESS_OUTCOME_"),
                    access.consent_id,
                ]
                for access in found
            ],
        ),
    )


def _types(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _TYPES_NAMED else f"{len(names)} types"
