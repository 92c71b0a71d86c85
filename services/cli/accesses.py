"""`puhui accesses`: who looked at the data."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote
from services.cli.inputs import Limit, lower, take

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.accesses_pb2 import Access
    from puhui.datashare.v1.consents_pb2 import ConsentTerms


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(app, example="puhui accesses --limit 20")(accesses)


async def accesses(
    session: Session,
    subject: Annotated[
        str, typer.Option("--subject", help="Only this firm's data; a firm always gets its own.")
    ] = "",
    limit: Limit = 100,
) -> None:
    """List accesses, refusals included, newest first: a firm's, or a bank's own."""
    async with session.client() as client:
        found = await take(client.accesses(subject_id=subject), limit, session.out)
    session.out.show(
        {"accesses": [output.plain(access) for access in found]},
        access_table(output.count(len(found), "access", "accesses"), found),
    )


def access_table(title: str, accesses: "Sequence[Access]") -> "RenderableType":
    """Return a table of accesses.

    Args:
        title: above it.
        accesses: in their order.
    """
    return output.table(
        title,
        [
            "when",
            "institution",
            "officer",
            "file",
            "purpose",
            "made of it",
            "types",
            "consent",
            "result",
        ],
        [
            [
                output.moment(access.accessed_at),
                access.recipient_name or access.recipient_id,
                access.officer.name,
                access.officer.file_reference,
                purpose_of(access),
                made(access),
                ", ".join(access.record_types),
                access.consent_id,
                result(access),
            ]
            for access in accesses
        ],
    )


def purpose_of(asked: "Access | ConsentTerms") -> str:
    """Return a purpose, with the other firm that it is about where there is one."""
    other = asked.for_subject_id
    return f"{asked.purpose} for {other}" if other else asked.purpose


def made(access: "Access") -> str:
    """Return what was made of the data of an access; of those of before nobody knows it."""
    use = access.derived_use
    said = ("score" if use.score else "", "decision by machine" if use.automated_decision else "")
    return ", ".join(filter(None, said))


def result(access: "Access") -> str:
    """Return what came of an access."""
    from puhui.datashare.v1.accesses_pb2 import AccessOutcome

    outcome = lower(AccessOutcome.Name(access.outcome), "ACCESS_OUTCOME_")
    return f"{outcome}: {access.refusal_reason}" if access.refusal_reason else outcome
