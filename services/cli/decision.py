"""`puhui decision`: scores that were given, and whether they come out the same again."""

import hashlib
import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from services.cli import output
from services.cli.command import Session, remote
from services.cli.dispute import disputes_cell
from services.cli.inputs import Limit, Use, lower, take
from services.cli.score import decision_parts, pd_cell

if TYPE_CHECKING:
    from puhui.scoring.v1.scoring_pb2 import FeatureValue
    from puhui_client.bank import UseName

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


@remote(app, example="puhui decision replay dec_1 --use explanation")
async def replay(
    session: Session,
    decision_id: Annotated[str, typer.Argument(metavar="DECISION", help="Id of the decision.")],
    use: Annotated[Use, typer.Option("--use", help="What it is read for.")] = "explanation",
) -> None:
    """Make a decision again from its stored inputs and compare its bytes; 1 if they differ."""
    async with session.client() as client:
        answer = await client.replay_decision(decision_id, use=cast("UseName", use.upper()))
    stored, again = _digest(answer.stored), _digest(answer.again)
    differences = _differences(json.loads(answer.stored), json.loads(answer.again or b"null"))
    session.out.show(
        {
            "decision_id": answer.decision_id,
            "model": output.plain(answer.model),
            "same": answer.same,
            "remark": answer.remark,
            "stored_sha256": stored,
            "again_sha256": again,
            "differences": [
                dict(zip(("what", "stored", "again"), each, strict=True)) for each in differences
            ],
        },
        output.pairs(
            "Same bytes" if answer.same else "Not the same",
            [
                ("decision", answer.decision_id),
                ("model", answer.model.version),
                ("stored SHA-256", stored),
                ("again SHA-256", again),
                ("remark", answer.remark),
            ],
        ),
        *(
            [output.table("Differences", ["what", "stored", "again"], differences)]
            if differences and answer.again
            else []
        ),
    )
    if not answer.same:
        raise typer.Exit(1)


@remote(app, example="puhui decision improvements dec_1")
async def improvements(
    session: Session,
    decision_id: Annotated[str, typer.Argument(metavar="DECISION", help="Id of the decision.")],
) -> None:
    """Show the smallest changes that the firm can make to reach the next grade."""
    async with session.client() as client:
        answer = await client.improvements(decision_id)
    session.out.show(
        output.plain(answer),
        *(
            output.table(
                f"{number}: grade {each.grade}, score {each.score}",
                ["from>", "to>", "unit", "what"],
                [
                    [
                        f"{getattr(change, 'from'):g}",
                        f"{change.to:g}",
                        change.unit,
                        f"{change.text_zh}\n{change.text_en}",
                    ]
                    for change in each.changes
                ],
            )
            for number, each in enumerate(answer.counterfactuals, start=1)
        ),
        *([answer.remark] if answer.remark else []),
        *(f"{option.text_zh}\n{option.text_en}" for option in answer.consents),
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
                    pd_cell(decision),
                    disputes_cell(decision),
                    decision.model.version,
                ]
                for decision in found
            ],
        ),
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if content else ""


def _differences(stored: Any, again: Any, path: str = "") -> list[list[str]]:
    """Return where two documents differ: path, what is stored, what is said now."""
    if isinstance(stored, dict) and isinstance(again, dict):
        return [
            found
            for key in sorted({**stored, **again})
            for found in _differences(stored.get(key), again.get(key), f"{path}.{key}".strip("."))
        ]
    if isinstance(stored, list) and isinstance(again, list):
        pairs = zip_longest(stored, again)
        return [
            found
            for at, (one, other) in enumerate(pairs)
            for found in _differences(one, other, f"{path}[{at}]")
        ]
    return [] if stored == again else [[path, _value(stored), _value(again)]]


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _missing(feature: "FeatureValue") -> str:
    """Return why a feature has no value here; empty when it has."""
    from puhui.datashare.v1.summaries_pb2 import CoverageState

    if feature.hidden:
        return "for the bank alone"
    if feature.HasField("value"):
        return ""
    return lower(CoverageState.Name(feature.missing), "COVERAGE_STATE_").replace("_", " ")
