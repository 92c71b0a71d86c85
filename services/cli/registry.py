"""`puhui model`, as far as it is about the registry: what serves, who said so, and shadows."""

import hashlib
import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import Limit, lower, parse_day, take

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from puhui.scoring.v1.registry_pb2 import GradeMove, ModelEvent, ShadowFigures
    from puhui_client.registry import DemotedTo, PromotedTo

Version = Annotated[str, typer.Argument(metavar="VERSION", help="Name of the model's folder.")]
Proposal = Annotated[str, typer.Argument(metavar="PROPOSAL", help="As `propose` showed it.")]
Person = Annotated[
    str,
    typer.Option(
        "--officer", envvar="PUHUI_OFFICER", help="Who you are, as your office knows you."
    ),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept and goes into the log.")]
WhyNot = Annotated[str, typer.Option("--reason", help="Why, if there is more to say.")]
OnlyVersion = Annotated[
    str | None,
    typer.Option("--version", metavar="VERSION", help="Only this one; else all scoring."),
]

_PROMOTED: "dict[str, PromotedTo]" = {
    "validated": "VALIDATED",
    "shadow": "SHADOW",
    "champion": "CHAMPION",
}
_DEMOTED: "dict[str, DemotedTo]" = {
    "draft": "DRAFT",
    "validated": "VALIDATED",
    "retired": "RETIRED",
}


def register(app: typer.Typer) -> None:
    """Add the commands of the registry to the group of models."""
    _changes(app)
    _stops(app)
    _reads(app)


def _changes(app: typer.Typer) -> None:
    @remote(app, example="puhui model register bank-2 --officer Li --data-dir .puhui")
    async def register(
        session: Session,
        version: Version,
        officer: Person = "",
        reason: WhyNot = "",
        parent: Annotated[
            str, typer.Option("--parent", help="The version that it was made from.")
        ] = "",
    ) -> None:
        """As an operator, enter a folder that lies in scoring's models_dir as a draft."""
        _named(officer)
        async with session.client() as client:
            event = await client.register_model(
                version, officer=officer, reason=reason, parent=parent
            )
        _show(session, event)

    @remote(
        app,
        example='puhui model propose bank-2 champion --officer Li --reason "better in the shadow"',
    )
    async def propose(
        session: Session,
        version: Version,
        to: Annotated[str, typer.Argument(metavar="STATE", help=f"One of {', '.join(_PROMOTED)}.")],
        reason: Reason,
        officer: Person = "",
        validator: Annotated[
            str, typer.Option("--validator", help="Who validated it; needed for `validated`.")
        ] = "",
        document: Annotated[
            str, typer.Option("--document", help="Reference of the validation report.")
        ] = "",
    ) -> None:
        """As an operator, propose another state of a version; somebody else has to approve."""
        _named(officer)
        if to not in _PROMOTED:
            raise usage(f"{to} is not a state to propose: one of {', '.join(_PROMOTED)}")
        async with session.client() as client:
            event = await client.propose_model(
                version,
                _PROMOTED[to],
                officer=officer,
                reason=reason,
                validator=validator,
                document=document,
            )
        _show(session, event)
        _tell_second(session, event)

    @remote(app, example="puhui model approve mpr_1 --officer Zhao --key-file zhao.key")
    async def approve(
        session: Session, proposal: Proposal, officer: Person = "", reason: WhyNot = ""
    ) -> None:
        """As another operator than who proposed, have it done."""
        _named(officer)
        async with session.client() as client:
            event = await client.approve_proposal(proposal, officer=officer, reason=reason)
        _show(session, event)

    @remote(app, example='puhui model decline mpr_1 --officer Zhao --reason "too few firms"')
    async def decline(
        session: Session, proposal: Proposal, reason: Reason, officer: Person = ""
    ) -> None:
        """As an operator, reject a proposal, or withdraw your own."""
        _named(officer)
        async with session.client() as client:
            event = await client.decline_proposal(proposal, officer=officer, reason=reason)
        _show(session, event)

    @remote(app, example='puhui model rollback --officer Li --reason "too many refused"')
    async def rollback(
        session: Session,
        reason: Reason,
        officer: Person = "",
        version: Annotated[
            str | None,
            typer.Option("--version", metavar="VERSION", help="The champion that is to go."),
        ] = None,
    ) -> None:
        """As an operator, put the champion's predecessor back at once; the champion is retired."""
        _named(officer)
        async with session.client() as client:
            event = await client.roll_back_model(version or "", officer=officer, reason=reason)
        _show(session, event)

    @remote(app, example='puhui model demote bank-1 retired --officer Li --reason "replaced"')
    async def demote(
        session: Session,
        version: Version,
        to: Annotated[str, typer.Argument(metavar="STATE", help=f"One of {', '.join(_DEMOTED)}.")],
        reason: Reason,
        officer: Person = "",
    ) -> None:
        """As an operator, end a shadow, or retire a version that does not serve."""
        _named(officer)
        if to not in _DEMOTED:
            raise usage(f"{to} is not a state to demote to: one of {', '.join(_DEMOTED)}")
        async with session.client() as client:
            event = await client.demote_model(version, _DEMOTED[to], officer=officer, reason=reason)
        _show(session, event)


def _stops(app: typer.Typer) -> None:
    @remote(app, example='puhui model stop --officer Li --reason "wrong tax data since noon"')
    async def stop(
        session: Session, reason: Reason, officer: Person = "", version: OnlyVersion = None
    ) -> None:
        """As an operator, stop scoring at once: answers are referrals, and a person decides."""
        _named(officer)
        async with session.client() as client:
            event = await client.stop_scoring(version or "", officer=officer, reason=reason)
        _show(session, event)

    @remote(app, example='puhui model resume --officer Li --reason "the data is right again"')
    async def resume(
        session: Session, reason: Reason, officer: Person = "", version: OnlyVersion = None
    ) -> None:
        """As an operator, propose that scoring goes on; somebody else has to approve."""
        _named(officer)
        async with session.client() as client:
            event = await client.propose_resumption(version or "", officer=officer, reason=reason)
        _show(session, event)
        _tell_second(session, event)


def _reads(app: typer.Typer) -> None:
    @remote(app, example="puhui model serving")
    async def serving(session: Session) -> None:
        """Show which version answers, what is registered, and what is stopped."""
        from puhui.scoring.v1.registry_pb2 import ModelState
        from puhui.scoring.v1.scoring_pb2 import ModelClass

        async with session.client() as client:
            found = await client.serving()
        session.out.show(
            output.plain(found),
            output.pairs(
                "Scoring is stopped" if any(not s.version for s in found.stops) else "Scoring",
                [
                    ("champion", found.champion),
                    ("a rollback brings", found.predecessor),
                    *(
                        (f"stopped {each.version}", f"{output.moment(each.since)} {each.reason}")
                        for each in found.stops
                    ),
                ],
            ),
            output.table(
                output.count(len(found.models), "registered version"),
                ["version", "state", "class", "validated by", "document", "signed by", "parent"],
                [
                    [
                        each.ref.version,
                        lower(ModelState.Name(each.state), "MODEL_STATE_"),
                        lower(ModelClass.Name(each.ref.model_class), "MODEL_CLASS_"),
                        each.validation.validator,
                        each.validation.document,
                        each.signer[:_SHOWN],
                        each.parent,
                    ]
                    for each in found.models
                ],
            ),
        )

    @remote(app, example="puhui model proposals")
    async def proposals(session: Session, limit: Limit = 50) -> None:
        """As an operator or a regulator, list what waits for a second person."""
        from puhui.scoring.v1.registry_pb2 import ModelState

        async with session.client() as client:
            found = await take(client.model_proposals(), limit, session.out)
        session.out.show(
            {"proposals": [output.plain(each) for each in found]},
            output.table(
                output.count(len(found), "proposal"),
                ["proposal", "version", "becomes", "by", "until", "why"],
                [
                    [
                        each.proposal_id,
                        each.version or "all scoring",
                        "goes on"
                        if each.resumes
                        else lower(ModelState.Name(each.to), "MODEL_STATE_"),
                        f"{each.officer} ({each.participant_id})",
                        output.moment(each.expires_at),
                        each.reason,
                    ]
                    for each in found
                ],
            ),
        )

    @remote(app, example="puhui model events --limit 20")
    async def events(
        session: Session,
        version: Annotated[
            str, typer.Argument(metavar="[VERSION]", help="Only what was done to this one.")
        ] = "",
        limit: Limit = 50,
    ) -> None:
        """As an operator or a regulator, list all that was done, newest first.

        Each event's hash is computed anew from its content and salt: one that is not what its leaf
        in the log attests is told, and the command exits with 1.
        """
        async with session.client() as client:
            found = await take(client.model_events(version), limit, session.out)
        wrong = [each.event_id for each in found if not _attested(each)]
        session.out.show(
            {"events": [output.plain(each) for each in found], "not_attested": wrong},
            output.table(
                output.count(len(found), "event"),
                ["when", "version", "what", "by", "why", "leaf"],
                [
                    [
                        output.moment(each.at),
                        each.version or "all scoring",
                        _did(each),
                        f"{each.officer} ({each.participant_id})",
                        each.reason,
                        each.leaf.hash.hex()[:_SHOWN] or "waits",
                    ]
                    for each in found
                ],
            ),
        )
        if wrong:
            session.out.note(f"not what the log attests: {', '.join(wrong)}")
            raise typer.Exit(1)

    @remote(app, example="puhui model shadow bank-2 --since 2026-11-01")
    async def shadow(
        session: Session,
        version: Annotated[str, typer.Argument(metavar="VERSION", help="The challenger.")],
        against: Annotated[
            str, typer.Option("--against", help="Beside this version's answers; else the champion.")
        ] = "",
        since: Annotated[
            str | None, typer.Option("--since", metavar="DAY", help="First day; else all kept.")
        ] = None,
        out: Annotated[
            Path | None, typer.Option("--out", metavar="FILE", help="Also write it, as JSON.")
        ] = None,
    ) -> None:
        """As an operator or a regulator, show what a challenger would have said."""
        first = _day(since)
        async with session.client() as client:
            found = await client.shadow_report(version, against=against, since=first)
        document = output.plain(found)
        if out is not None:
            out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", "utf-8")
        columns = ["", "firms>", "dropped>", "failed>", "mean>", "p5>", "median>", "p95>", "same>"]
        session.out.show(
            document,
            output.table(
                f"{found.version} beside {found.against}: its score less the answer's",
                columns,
                [
                    *(
                        [f"{d.day.year}-{d.day.month:02}-{d.day.day:02}", *_figures(d.figures)]
                        for d in found.days
                    ),
                    ["all days", *_figures(found.all)],
                ],
            ),
            _grades(found.grades),
        )


_SHOWN = 12


def _named(officer: str) -> None:
    if not officer.strip():
        raise usage("it is kept who does this: give --officer or PUHUI_OFFICER")


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else parse_day(text)
    except ValueError as error:
        raise usage(f"--since: {error}") from None


def _attested(event: "ModelEvent") -> bool:
    if not event.HasField("leaf"):
        return True
    made = hashlib.sha256(b"\x00" + event.leaf.salt + event.content.encode()).digest()
    return made == event.leaf.hash


def _did(event: "ModelEvent") -> str:
    from puhui.scoring.v1.registry_pb2 import ModelAct, ModelState

    said = lower(ModelAct.Name(event.act), "MODEL_ACT_").replace("_", " ")
    before, after = (
        lower(ModelState.Name(state), "MODEL_STATE_") if state else ""
        for state in (getattr(event, "from"), event.to)
    )
    way = " to ".join(part for part in (before, after) if part)
    return f"{said} {way}".strip()


def _show(session: Session, event: "ModelEvent") -> None:
    session.out.show(
        {"event": output.plain(event)},
        output.pairs(
            f"{event.version or 'All scoring'}: {_did(event)}",
            [
                ("event", event.event_id),
                ("when", output.moment(event.at)),
                ("proposal", event.proposal_id),
                ("to be approved by", output.moment(event.expires_at)),
                ("other version", event.other_version),
                ("validated by", event.validation.validator),
                ("document", event.validation.document),
                ("manifest", event.manifest_sha256),
                ("signed by", event.signer),
                ("parent", event.parent),
            ],
        ),
    )


def _tell_second(session: Session, event: "ModelEvent") -> None:
    session.out.note(f"another operator: puhui model approve {event.proposal_id}")


def _figures(figures: "ShadowFigures") -> list[str]:
    counts = [f"{figures.scored:,}", f"{figures.dropped:,}", f"{figures.failed:,}"]
    if not figures.scored:
        return [*counts, "", "", "", "", ""]
    return [
        *counts,
        f"{figures.mean:+.1f}",
        f"{figures.p05:+.0f}",
        f"{figures.p50:+.0f}",
        f"{figures.p95:+.0f}",
        f"{figures.agreement:.1%}",
    ]


def _grades(moves: "Sequence[GradeMove]") -> "RenderableType":
    given = sorted({move.challenger for move in moves}, key=_grade_order)
    answered = sorted({move.answered for move in moves}, key=_grade_order)
    firms = {(move.answered, move.challenger): move.firms for move in moves}
    return output.table(
        "grades: answered down, the challenger's across",
        ["", *(f"{grade}>" for grade in given)],
        [[row, *(f"{firms.get((row, column), 0):,}" for column in given)] for row in answered],
    )


def _grade_order(grade: str) -> tuple[str, int]:
    return grade[:1], -len(grade)
