"""`puhui dispute` and `puhui reevaluations`: what is said to be wrong, and what follows from it."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import Limit, lower, take

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from puhui.datashare.v1.disputes_pb2 import Dispute
    from puhui.datashare.v1.summaries_pb2 import DisputeMark
    from puhui.scoring.v1.scoring_pb2 import Decision
    from puhui_client.disputes import AnswerName, DisputeReasonName, DisputeStateName

app = typer.Typer(
    help="Disputes 异议: what a firm says is wrong about it, and what came of it.",
    no_args_is_help=True,
)

Reason = Literal["wrong-value", "not-ours", "outdated", "duplicate", "settled"]
Answer = Literal["corrected", "upheld", "unverifiable"]
State = Literal["open", "corrected", "upheld", "unverifiable", "closed"]
DisputeId = Annotated[str, typer.Argument(metavar="DISPUTE", help="Id of the dispute.")]


def register(main: typer.Typer) -> None:
    """Add the command that stands alone to the main group."""
    remote(main, example="puhui reevaluations --key-file bank.key")(reevaluations)


@remote(
    app,
    example="puhui dispute open par_1 court_case 2024-17 --field amount --reason wrong-value "
    '--statement "It was settled for half."',
    name="open",
)
async def open_dispute(
    session: Session,
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="Whose record it is.")],
    record_type: Annotated[str, typer.Argument(metavar="TYPE", help="Its type.")],
    record: Annotated[str, typer.Argument(metavar="RECORD", help="The provider's id of it.")],
    reason: Annotated[Reason, typer.Option("--reason", help="What is wrong.")],
    statement: Annotated[
        str, typer.Option("--statement", help="In your words; readers of the record are shown it.")
    ],
    field: Annotated[
        str, typer.Option("--field", help="Which field; the whole record without it.")
    ] = "",
) -> None:
    """Dispute a record of your firm: from now on every answer that it counts in says so."""
    async with session.client() as client:
        dispute = await client.open_dispute(
            provider,
            record_type,
            record,
            reason=cast("DisputeReasonName", reason.replace("-", "_").upper()),
            statement=statement,
            field=field,
        )
    _show(session, dispute)


@remote(
    app,
    example='puhui dispute answer dis_1 upheld --answer "As the judgment says." '
    '--evidence "(2024)京01民初17号" --key-file court.key',
)
async def answer(
    session: Session,
    dispute_id: DisputeId,
    state: Annotated[
        Answer, typer.Argument(metavar="ANSWER", help="corrected, upheld or unverifiable.")
    ],
    words: Annotated[str, typer.Option("--answer", help="In writing, for the firm.")],
    evidence: Annotated[
        str,
        typer.Option(
            "--evidence",
            help="What you rely on, e.g. a document's number and hash; needed with upheld.",
        ),
    ] = "",
) -> None:
    """Answer a dispute about a record that you supplied.

    Push the corrected version or the retraction first, then answer with corrected.
    """
    if state == "upheld" and not evidence:
        raise usage("upheld needs --evidence: name what you rely on")
    async with session.client() as client:
        dispute = await client.answer_dispute(
            dispute_id, cast("AnswerName", state.upper()), words, evidence=evidence
        )
    _show(session, dispute)


@remote(app, example="puhui dispute close dis_1 --key-file firm.key")
async def close(session: Session, dispute_id: DisputeId) -> None:
    """Take your firm's dispute back."""
    async with session.client() as client:
        dispute = await client.close_dispute(dispute_id)
    _show(session, dispute)


@remote(app, example='puhui dispute statement dis_1 "We have appealed." --key-file firm.key')
async def statement(
    session: Session,
    dispute_id: DisputeId,
    words: Annotated[
        str, typer.Argument(metavar="STATEMENT", help='What readers are shown; "" takes it away.')
    ],
) -> None:
    """Say what readers of the record are shown beside it, also after the answer."""
    async with session.client() as client:
        dispute = await client.set_dispute_statement(dispute_id, words)
    _show(session, dispute)


@remote(app, example="puhui dispute show dis_1")
async def show(session: Session, dispute_id: DisputeId) -> None:
    """Show a dispute, with what the firm and the provider wrote."""
    async with session.client() as client:
        dispute = await client.dispute(dispute_id)
    _show(session, dispute)


@remote(app, example="puhui dispute list --overdue", name="list")
async def list_disputes(
    session: Session,
    state: Annotated[State | None, typer.Option("--state", help="Only these.")] = None,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Only those whose deadline passed unanswered.")
    ] = False,
    limit: Limit = 100,
) -> None:
    """List disputes, soonest due first: a firm's, those about a provider's records, or all."""
    named = cast("DisputeStateName | None", state.upper() if state else None)
    async with session.client() as client:
        found = await take(client.disputes(state=named, overdue=overdue), limit, session.out)
    session.out.show(
        {"disputes": [output.plain(dispute) for dispute in found]},
        output.table(
            output.count(len(found), "dispute"),
            ["dispute", "state", "answer due", "type", "record", "field", "reason", "provider"],
            [
                [
                    dispute.dispute_id,
                    _state(dispute),
                    _due(dispute),
                    dispute.record_type,
                    dispute.provider_record_id,
                    dispute.field or "all of it",
                    _reason(dispute),
                    dispute.provider_id,
                ]
                for dispute in found
            ],
        ),
    )


async def reevaluations(session: Session, limit: Limit = 100) -> None:
    """List scores to be made again: what counted in them was corrected since, oldest first.

    A newer score of the same firm takes them off.
    """
    async with session.client() as client:
        found = await take(client.reevaluations(), limit, session.out)
    session.out.show(
        {"reevaluations": [output.plain(due) for due in found]},
        output.table(
            output.count(len(found), "score to be made again", "scores to be made again"),
            ["decision", "subject", "made", "score>", "because of", "since", "dispute"],
            [
                [
                    due.decision.decision_id,
                    due.decision.subject_id,
                    output.moment(due.decision.decided_at),
                    str(due.decision.score),
                    due.cause.lower().replace("_", " "),
                    output.moment(due.due_since),
                    due.dispute_id,
                ]
                for due in found
            ],
        ),
    )


def marks_table(marks: "Sequence[DisputeMark]") -> "RenderableType":
    """Return what a reader must know of disputes about what it reads."""
    from puhui.datashare.v1.disputes_pb2 import DisputeState

    return output.table(
        "In dispute 异议",
        ["dispute", "state", "type", "month", "field", "the firm says"],
        [
            [
                mark.dispute_id,
                lower(DisputeState.Name(mark.state), "DISPUTE_STATE_"),
                mark.record_type,
                f"{mark.month // 100}-{mark.month % 100:02}",
                mark.field or "all of it",
                mark.statement,
            ]
            for mark in marks
        ],
    )


def marks_of(decision: "Decision") -> "list[DisputeMark]":
    """Return the disputes that a score tells of: the firm's and those of linked subjects."""
    return [*decision.disputes, *(mark for each in decision.linked for mark in each.disputes)]


def disputes_cell(decision: "Decision") -> str:
    """Return how many disputes a score tells of, by state, and whether some came since."""
    from puhui.datashare.v1.disputes_pb2 import DisputeState

    names = (DisputeState.Name(mark.state) for mark in marks_of(decision))
    states = Counter(lower(name, "DISPUTE_STATE_") for name in names)
    words = [f"{number} {state}" for state, number in sorted(states.items())]
    if any(notice.code == "DISPUTED_SINCE" for notice in decision.notices):
        words.append("some since")
    return ", ".join(words)


def _state(dispute: "Dispute") -> str:
    from puhui.datashare.v1.disputes_pb2 import DisputeState

    state = lower(DisputeState.Name(dispute.state), "DISPUTE_STATE_")
    return f"{state}, overdue" if dispute.overdue else state


def _reason(dispute: "Dispute") -> str:
    from puhui.datashare.v1.disputes_pb2 import DisputeReason

    return lower(DisputeReason.Name(dispute.reason), "DISPUTE_REASON_").replace("_", " ")


def _due(dispute: "Dispute") -> str:
    due = output.instant(dispute.answer_due_at)
    return f"{due} (provisional)" if dispute.deadline_provisional else due


def _show(session: Session, dispute: "Dispute") -> None:
    session.out.show(
        {"dispute": output.plain(dispute)},
        output.pairs(
            f"Dispute {dispute.dispute_id}",
            [
                ("state", _state(dispute)),
                ("about", f"{dispute.record_type} {dispute.provider_record_id}"),
                ("version", str(dispute.version)),
                ("field", dispute.field or "all of it"),
                ("provider", dispute.provider_id),
                ("subject", dispute.subject_id),
                ("reason", _reason(dispute)),
                ("the firm says", dispute.statement),
                ("opened", output.moment(dispute.opened_at)),
                ("answer due", _due(dispute)),
                ("correction due", output.instant(dispute.correction_due_at)),
                ("the provider says", dispute.answer),
                ("evidence", dispute.evidence),
                ("ended", output.moment(dispute.closed_at)),
            ],
        ),
    )
