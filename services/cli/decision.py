"""`puhui decision`: scores that were given, and whether they come out the same again."""

from typing import TYPE_CHECKING, Annotated, cast

import typer

from services.cli import output
from services.cli.command import Session, remote
from services.cli.dispute import disputes_cell
from services.cli.inputs import Limit, Use, lower, take
from services.cli.score import decision_parts

if TYPE_CHECKING:
    from puhui.scoring.v1.scoring_pb2 import FeatureValue
    from puhui_client.bank import Use as UseName

app = typer.Typer(help="Look up scores that were given.", no_args_is_help=True)


@remote(app, example="puhui decision show dec_1 --use dispute", name="show")
async def show(
    session: Session,
    decision_id: Annotated[str, typer.Argument(metavar="DECISION", help="Id of the decision.")],
    use: Annotated[Use, typer.Option("--use", help="What it is read for.")] = "explanation",
) -> None:
    """Show a decision with all its inputs, computed again and compared."""
    async with session.client() as client:
        answer = await client.get_decision(decision_id, use=cast("UseName", use.upper()))
    session.out.show(
        output.plain(answer),
        *decision_parts(answer.decision),
        output.table(
            f"Points: {answer.base_points:.2f} + groups",
            ["group", "points>"],
            [[group.group, f"{group.points:+.2f}"] for group in answer.groups],
        ),
        output.table(
            "Inputs",
            ["feature", "value>", "unit", "missing"],
            [
                [
                    feature.name,
                    f"{feature.value:g}" if feature.HasField("value") else "",
                    feature.unit,
                    _missing(feature),
                ]
                for feature in answer.features
            ],
        ),
        "Reproduced: the model gives the same result again."
        if answer.reproduced
        else f"[red]Not reproduced: {answer.remark}.[/]",
    )


@remote(app, example="puhui decision list --subject sub_1", name="list")
async def list_decisions(
    session: Session,
    subject: Annotated[
        str, typer.Option("--subject", help="Only about this firm; a firm always gets its own.")
    ] = "",
    limit: Limit = 100,
) -> None:
    """List decisions, newest first: a bank's own, or those about a firm."""
    async with session.client() as client:
        found = await take(client.decisions(subject_id=subject), limit, session.out)
    session.out.show(
        {"decisions": [output.plain(decision) for decision in found]},
        output.table(
            output.count(len(found), "decision"),
            ["when", "decision", "subject", "score>", "grade", "PD>", "in dispute", "model"],
            [
                [
                    output.moment(decision.decided_at),
                    decision.decision_id,
                    decision.subject_id,
                    str(decision.score),
                    decision.grade,
                    f"{decision.pd:.2%}",
                    disputes_cell(decision),
                    decision.model.version,
                ]
                for decision in found
            ],
        ),
    )


def _missing(feature: "FeatureValue") -> str:
    """Return why a feature has no value here; empty when it has."""
    from puhui.datashare.v1.summaries_pb2 import CoverageState

    if feature.hidden:
        return "for the bank alone"
    if feature.HasField("value"):
        return ""
    return lower(CoverageState.Name(feature.missing), "COVERAGE_STATE_").replace("_", " ")
