"""`puhui retention` and `puhui subject`: what may no longer be kept."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import Limit, take

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.retention_pb2 import DueRecords, RetentionRun

app = typer.Typer(help="Delete what may no longer be kept.", no_args_is_help=True)
subject = typer.Typer(help="Firms, as the platform knows them.", no_args_is_help=True)

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

_COLUMNS = ("type", "provider", "reason", "records>", "versions>", "firms>")
_HASH_SHOWN = 16


@remote(app, example="puhui retention plan --data-dir .puhui")
async def plan(session: Session) -> None:
    """As the operator, show what a run would delete now. All of it is hidden already."""
    async with session.client() as client:
        answer = await client.plan_retention()
    session.out.show(output.plain(answer), _due_table("due", answer.due))
    if answer.due:
        session.out.note(f"puhui retention run {answer.plan_id}")


@remote(app, example="puhui retention run plan_1f0c --data-dir .puhui")
async def run(
    session: Session,
    plan_id: Annotated[str, typer.Argument(metavar="PLAN", help="As `plan` showed it.")],
    yes: Yes = False,
) -> None:
    """As the operator, delete what a plan shows. Called again, it goes on where it broke off."""
    if session.out.as_json and not yes:
        raise usage("with --json nothing can be asked: say --yes")
    async with session.client() as client:
        if not yes:
            typer.confirm("Delete what the plan shows, for ever?", abort=True, err=True)
        done = await client.run_retention(plan_id)
    _show(session, done)


@remote(app, example="puhui retention runs --data-dir .puhui")
async def runs(
    session: Session,
    limit: Limit = 50,
) -> None:
    """As the operator or a regulator, list runs and erasures, newest first."""
    async with session.client() as client:
        found = await take(client.retention_runs(), limit, session.out)
    session.out.show(
        {"runs": [output.plain(each) for each in found]},
        output.table(
            output.count(len(found), "run"),
            ["run", "when", "by", "records>", "erased firm", "leaf"],
            [
                [
                    each.run_id,
                    output.moment(each.ran_at),
                    each.operator_id,
                    f"{sum(due.records for due in each.deleted):,}",
                    each.subject_id,
                    each.leaf_hash.hex()[:_HASH_SHOWN],
                ]
                for each in found
            ],
        ),
    )


@remote(subject, example='puhui subject erase sub_1 --reason "court order" --data-dir .puhui')
async def erase(
    session: Session,
    subject_id: Annotated[str, typer.Argument(metavar="SUBJECT", help="The platform's id.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what would go; change nothing.")
    ] = False,
    yes: Yes = False,
) -> None:
    """As the operator, erase a firm: its data key, records, summaries and registration number.

    Consents, accesses and the log stay, under an id that names nobody.
    """
    if session.out.as_json and not (yes or plan):
        raise usage("with --json nothing can be asked: say --yes, or --plan")
    async with session.client() as client:
        planned = await client.erase_subject(subject_id, reason)
        if plan:
            session.out.show(output.plain(planned), _due_table("would go", planned.due))
            return
        if not yes:
            session.out.stderr().print(_due_table("would go", planned.due))
            typer.confirm(f"Erase {subject_id}, for ever?", abort=True, err=True)
        answer = await client.erase_subject(subject_id, reason, confirm=True)
    _show(session, answer.run)


def _show(session: Session, done: "RetentionRun") -> None:
    session.out.show(
        output.plain(done),
        _due_table("deleted", done.deleted),
        output.pairs(f"Run {done.run_id}", [("leaf", done.leaf_hash.hex())]),
    )


def _due_table(what: str, due: "Iterable[DueRecords]") -> "RenderableType":
    found = list(due)
    return output.table(
        f"{output.count(sum(each.records for each in found), 'record')} {what}",
        _COLUMNS,
        [
            [
                each.record_type,
                each.provider_id,
                each.reason,
                f"{each.records:,}",
                f"{each.versions:,}",
                f"{each.subjects:,}",
            ]
            for each in found
        ],
    )
