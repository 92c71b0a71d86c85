"""`puhui incident`: abnormal access and other incidents, and what was done about them."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import lower, take

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.incidents_pb2 import Incident
    from puhui_client.incidents import IncidentStateName, SeverityName

app = typer.Typer(help="Incidents and their handling.", no_args_is_help=True)

IncidentId = Annotated[str, typer.Argument(metavar="INCIDENT", help="Id of the incident.")]


class State(StrEnum):
    """Where the handling stands."""

    OPEN = "open"
    TAKEN = "taken"
    CLOSED = "closed"


class Severity(StrEnum):
    """How grave it is."""

    NOTICE = "notice"
    WARNING = "warning"
    GRAVE = "grave"


@remote(app, example="puhui incident list --state open", name="list")
async def list_incidents(
    session: Session,
    state: Annotated[State | None, typer.Option("--state", help="Only these.")] = None,
    participant: Annotated[
        str, typer.Option("--participant", metavar="PARTICIPANT", help="Only of this one.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most incidents.")] = 100,
) -> None:
    """List incidents, the latest first."""
    wanted = cast("IncidentStateName", state.upper()) if state else None
    async with session.client() as client:
        found = await take(
            client.incidents(state=wanted, participant_id=participant), limit, session.out
        )
    session.out.show(
        {"incidents": [output.plain(each) for each in found]},
        output.table(
            output.count(len(found), "incident"),
            ["id", "opened", "severity", "state", "rule", "participant", "seen", "again"],
            [
                [
                    each.incident_id,
                    output.moment(each.opened_at),
                    _severity(each),
                    _state(each.state),
                    each.rule,
                    each.participant_id,
                    each.summary_zh or each.summary_en,
                    str(each.repeats or ""),
                ]
                for each in found
            ],
        ),
    )


@remote(app, example="puhui incident show inc_01J")
async def show(session: Session, incident: IncidentId) -> None:
    """Show an incident with its handling."""
    async with session.client() as client:
        found = await client.incident(incident)
    session.out.show(output.plain(found), *_tables(found))


@remote(
    app,
    name="open",
    example='puhui incident open grave --participant par_1 --summary "Key leaked."',
)
async def open_incident(
    session: Session,
    severity: Annotated[Severity, typer.Argument(help="How grave it is.")],
    summary: Annotated[
        str, typer.Option("--summary", help="What was seen, without registration numbers.")
    ] = "",
    summary_zh: Annotated[str, typer.Option("--summary-zh", help="The same in Chinese.")] = "",
    participant: Annotated[
        str, typer.Option("--participant", metavar="PARTICIPANT", help="Whom it concerns.")
    ] = "",
    access: Annotated[
        list[str] | None, typer.Option("--access", metavar="ACCESS", help="Shows it; repeatable.")
    ] = None,
) -> None:
    """As the operator, enter an incident."""
    if not (summary or summary_zh):
        raise usage("name --summary, --summary-zh or both")
    async with session.client() as client:
        found = await client.open_incident(
            cast("SeverityName", severity.upper()),
            participant_id=participant,
            summary_zh=summary_zh,
            summary_en=summary,
            access_ids=access or [],
        )
    session.out.show(output.plain(found), *_tables(found))


@remote(app, example='puhui incident handle inc_01J "Suspended the key." --state taken')
async def handle(
    session: Session,
    incident: IncidentId,
    note: Annotated[str, typer.Argument(help="What was done; it is never taken back.")],
    state: Annotated[
        State, typer.Option("--state", help="From now on; open leaves it as it is.")
    ] = State.OPEN,
    reference: Annotated[
        str, typer.Option("--reference", help="E.g. the regulator's number of a report.")
    ] = "",
    share: Annotated[
        bool, typer.Option("--share", help="Let the participant see it from now on.")
    ] = False,
) -> None:
    """As the operator, add a step of the handling."""
    async with session.client() as client:
        found = await client.handle_incident(
            incident,
            note,
            state=cast("IncidentStateName", state.upper()),
            reference=reference,
            share=share,
        )
    session.out.show(output.plain(found), *_tables(found))


@remote(app, example="puhui incident rules")
async def rules(session: Session) -> None:
    """List the rules of the watch over accesses, with their thresholds now."""
    from puhui.datashare.v1.incidents_pb2 import IncidentSeverity

    async with session.client() as client:
        found = await client.watch_rules()
    session.out.show(
        {"rules": [output.plain(rule) for rule in found]},
        output.table(
            output.count(len(found), "rule"),
            ["rule", "severity", "what it finds", "from", "within"],
            [
                [
                    rule.rule,
                    lower(IncidentSeverity.Name(rule.severity), "INCIDENT_SEVERITY_"),
                    f"{rule.zh}\n{rule.en}",
                    f"{rule.threshold:g}",
                    f"{rule.window_seconds / 3600:g} h",
                ]
                for rule in found
            ],
        ),
    )


def _tables(incident: "Incident") -> list["RenderableType"]:
    window = (
        f"{output.moment(incident.window_begin)} to {output.moment(incident.window_end)}"
        if incident.HasField("window_begin")
        else ""
    )
    shown = [
        output.pairs(
            incident.incident_id,
            [
                ("", incident.summary_zh),
                ("", incident.summary_en),
                ("rule", incident.rule),
                ("severity", _severity(incident)),
                ("state", _state(incident.state)),
                ("participant", incident.participant_id),
                ("opened", output.moment(incident.opened_at)),
                ("window", window),
                ("seen again", str(incident.repeats or "")),
                ("shared", "yes" if incident.shared else "no"),
                ("accesses", output.count(len(incident.access_ids), "access", "accesses")),
            ],
        )
    ]
    if incident.handling:
        shown.append(
            output.table(
                "Handling",
                ["at", "by", "state", "what was done", "reference"],
                [
                    [
                        output.moment(step.at),
                        step.by_person_id or step.by_participant_id,
                        _state(step.state),
                        step.note,
                        step.reference,
                    ]
                    for step in incident.handling
                ],
            )
        )
    return shown


def _severity(incident: "Incident") -> str:
    from puhui.datashare.v1.incidents_pb2 import IncidentSeverity

    return lower(IncidentSeverity.Name(incident.severity), "INCIDENT_SEVERITY_")


def _state(state: int) -> str:
    from puhui.datashare.v1.incidents_pb2 import IncidentState

    return lower(IncidentState.Name(state), "INCIDENT_STATE_")  # type: ignore[arg-type]  # a number of the enum
