"""`puhui review`: rows that wait until somebody says whom they are about."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, remote, usage
from services.cli.inputs import Limit, is_uscc, lower, take

if TYPE_CHECKING:
    from puhui.datashare.v1.reviews_pb2 import Review
    from puhui_client import Client
    from puhui_client.supply import ReviewStateName

app = typer.Typer(
    help="Rows that wait until somebody says whom they are about.", no_args_is_help=True
)

State = Literal["waiting", "matched", "dismissed"]
ReviewId = Annotated[str, typer.Argument(metavar="REVIEW", help="Id of the review.")]
_STATES: tuple["ReviewStateName", ...] = ("WAITING", "MATCHED", "DISMISSED")


@remote(app, example="puhui review list --key-file tax.key", name="list")
async def list_reviews(
    session: Session,
    state: Annotated[State, typer.Option("--state", help="Only these.")] = "waiting",
    limit: Limit = 100,
) -> None:
    """List rows that wait, or waited, oldest first; a provider's own, the operator's all."""
    async with session.client() as client:
        found = await take(
            client.reviews(state=cast("ReviewStateName", state.upper())), limit, session.out
        )
    session.out.show(
        {"reviews": [output.plain(review) for review in found]},
        output.table(
            output.count(len(found), "review"),
            ["review", "since", "type", "record", "says", "district", "best candidate", "sure>"],
            [_cells(review) for review in found],
        ),
    )


@remote(app, example="puhui review show rev_1 --key-file tax.key")
async def show(session: Session, review_id: ReviewId) -> None:
    """Show what a row says of whom it is about, and who that may be."""
    async with session.client() as client:
        review = await _found(client, review_id)
    _show(session, review)


@remote(app, example="puhui review decide rev_1 --subject sub_1 --key-file tax.key")
async def decide(
    session: Session,
    review_id: ReviewId,
    subject: Annotated[
        str, typer.Option("--subject", help="Whom the row is about: registration number or id.")
    ] = "",
    dismiss: Annotated[
        str, typer.Option("--dismiss", metavar="WHY", help="Nobody here is meant: say why.")
    ] = "",
) -> None:
    """Name the firm, and the row is taken in as if it had come with it; or dismiss the row.

    It exits with 1 where the row was refused with its firm; it waits on then.
    """
    if bool(subject) == bool(dismiss):
        raise usage("say one of the two: --subject FIRM, or --dismiss WHY")
    async with session.client() as client:
        if dismiss:
            _show(session, await client.dismiss_review(review_id, dismiss))
            return
        by_number = is_uscc(subject)
        answer = await client.match_review(
            review_id,
            uscc=subject if by_number else "",
            subject_id="" if by_number else subject,
        )
    for rejection in answer.ack.rejections:
        session.out.note(f"Refused: {rejection.reason} {rejection.field}: {rejection.message}")
    _show(session, answer.review, [output.plain(each) for each in answer.ack.rejections])
    if answer.ack.rejections:
        raise typer.Exit(REFUSED)


async def _found(client: "Client", review_id: str) -> "Review":
    for state in _STATES:
        async for review in client.reviews(state=state):
            if review.review_id == review_id:
                return review
    raise usage(
        f"there is no review {review_id} of yours: `puhui review list` names those that wait"
    )


def _cells(review: "Review") -> list[str]:
    best = review.candidates[0] if review.candidates else None
    return [
        review.review_id,
        output.moment(review.held_at),
        review.record_type,
        review.provider_record_id,
        review.hint.name or review.hint.registration_number,
        review.hint.district,
        f"{best.name or best.subject_id} {best.district}" if best else "",
        f"{best.confidence:.0%}" if best else "",
    ]


def _show(session: Session, review: "Review", refused: list[output.Document] | None = None) -> None:
    from puhui.datashare.v1.reviews_pb2 import ReviewState

    document: dict[str, Any] = {"review": output.plain(review)}
    if refused is not None:
        document["rejections"] = refused
    session.out.show(
        document,
        output.pairs(
            f"Review {review.review_id}",
            [
                ("state", lower(ReviewState.Name(review.state), "REVIEW_STATE_")),
                ("type", review.record_type),
                ("record", review.provider_record_id),
                ("provider", review.provider_id),
                ("name", review.hint.name),
                ("number", review.hint.registration_number),
                ("district", review.hint.district),
                ("since", output.moment(review.held_at)),
                ("decided", output.moment(review.decided_at)),
                ("by", review.decided_by),
            ],
        ),
        output.table(
            output.count(len(review.candidates), "candidate"),
            ["subject", "name", "district", "sure>", "because of"],
            [
                [
                    candidate.subject_id,
                    candidate.name,
                    candidate.district,
                    f"{candidate.confidence:.1%}",
                    ", ".join(candidate.evidence).replace("_", " "),
                ]
                for candidate in review.candidates
            ],
        ),
    )
