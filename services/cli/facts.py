"""`puhui facts`: what is held about a firm, who looked, and which consents stand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from services.cli import output
from services.cli.accesses import access_table, purpose_of
from services.cli.command import Session, remote, usage
from services.cli.inputs import lower, take

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.disputes_pb2 import Dispute
    from puhui.datashare.v1.facts_pb2 import (
        GetFactsResponse,
        HeldRecord,
        Holding,
        OwnView,
        StandingConsent,
    )

VIEWS_SHOWN: Final = 5
"""Of the firm's own looks; an export has all that are told."""


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(app, example="puhui facts --export facts-of-my-firm")(facts)


async def facts(
    session: Session,
    records: Annotated[
        str,
        typer.Option(
            "--records", metavar="TYPE", help="Instead, the records of this type; `all` is all."
        ),
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most records shown.")] = 100,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="DIR",
            help="Write everything there, records and all accesses too: JSON, CSV and a page to "
            "read in a browser. The folder must be new or empty.",
        ),
    ] = None,
) -> None:
    """Show what is held about your firm and by whom, who looked at it, and which consents stand.

    Free of charge, at any time 征信业管理条例第十七条.
    """
    if export is not None and records:
        raise usage("--export has all records: leave --records out")
    if export is not None and export.exists() and (not export.is_dir() or any(export.iterdir())):
        raise usage(f"{export} is not an empty folder: name a new one")
    async with session.client() as client:
        if records:
            kind = "" if records == "all" else records
            held = await take(client.held_records(kind), limit, session.out)
            session.out.show({"records": [output.plain(each) for each in held]}, _records(held))
            return
        found = await client.facts()
        if export is None:
            session.out.show(output.plain(found), *_page(found))
            return
        from services.cli.facts_export import write

        held = [each async for each in client.held_records()]
        accesses = [each async for each in client.accesses()]
    names = write(export, found, held, accesses)
    session.out.show(
        {"folder": str(export), "files": names},
        output.pairs(str(export), [("", name) for name in names]),
    )


def _page(facts: "GetFactsResponse") -> "Sequence[RenderableType]":
    looked = f"{output.count(facts.releases, 'release')}, {output.count(facts.refusals, 'refusal')}"
    parts = [
        output.pairs(facts.subject_id, [("read", output.moment(facts.read_at))]),
        _holdings(facts.holdings),
        *(_kept(holding) for holding in facts.holdings if holding.kept_because_en),
        access_table(f"Who looked 查询记录: {looked}", facts.accesses),
        _consents(facts.consents),
        *map(_effect, facts.consents),
    ]
    if facts.disputes:
        parts.append(_disputes(facts.disputes))
    return [*parts, _views(facts.views[:VIEWS_SHOWN])]


def _holdings(holdings: "Sequence[Holding]") -> "RenderableType":
    total = sum(holding.records for holding in holdings)
    return output.table(
        f"Held 持有: {output.count(total, 'record')}",
        ["type", "", "supplied by", "records>", "from", "to", "last received", "open"],
        [
            [
                holding.record_type,
                f"{holding.title_zh} {holding.title_en}",
                holding.provider_name,
                f"{holding.records:,}",
                output.day(holding.first),
                output.day(holding.last),
                output.moment(holding.last_received_at),
                lower(holding.sharing, "").replace("_", " "),
            ]
            for holding in holdings
        ],
    )


def _kept(holding: "Holding") -> "RenderableType":
    title = f"{holding.title_zh} {holding.title_en}"
    return output.pairs(
        f"{title} 由 {holding.provider_name} 留存 kept by its supplier",
        [("why", holding.kept_because_zh), ("", holding.kept_because_en)],
    )


def _consents(consents: "Sequence[StandingConsent]") -> "RenderableType":
    return output.table(
        f"Consents in force 有效授权: {len(consents)}",
        ["consent", "recipient", "purpose", "types", "state", "until"],
        [
            [
                standing.consent.consent_id,
                standing.recipient_name,
                purpose_of(standing.consent.terms),
                ", ".join(standing.consent.terms.record_types),
                state(standing),
                output.moment(standing.consent.terms.expires_at),
            ]
            for standing in consents
        ],
    )


def state(standing: "StandingConsent") -> str:
    """Return where a consent stands."""
    from puhui.datashare.v1.consents_pb2 import ConsentState

    return lower(ConsentState.Name(standing.consent.state), "CONSENT_STATE_")


def _effect(standing: "StandingConsent") -> "RenderableType":
    return output.pairs(
        f"puhui consent withdraw {standing.consent.consent_id}",
        [("does", standing.effect_zh), ("", standing.effect_en)],
    )


def _disputes(disputes: "Sequence[Dispute]") -> "RenderableType":
    return output.table(
        f"Open disputes 未决异议: {len(disputes)}",
        ["dispute", "type", "record", "field", "opened", "answer due"],
        [
            [
                dispute.dispute_id,
                dispute.record_type,
                dispute.provider_record_id,
                dispute.field,
                output.moment(dispute.opened_at),
                output.moment(dispute.answer_due_at),
            ]
            for dispute in disputes
        ],
    )


def _views(views: "Sequence[OwnView]") -> "RenderableType":
    return output.table(
        "Own looks, which nobody else is told of 本人查询",
        ["when", "account", "for", "at"],
        [
            [output.moment(view.viewed_at), view.participant_id, view.principal_id, view.what]
            for view in views
        ],
    )


def _records(records: "Sequence[HeldRecord]") -> "RenderableType":
    return output.table(
        output.count(len(records), "record"),
        ["record", "type", "supplied by", "about", "received", "says", "disputes"],
        [
            [
                held.record.provider_record_id,
                held.record.record_type,
                held.provider_id,
                about(held),
                output.moment(held.recorded_at),
                said(held),
                ", ".join(dispute.dispute_id for dispute in held.disputes),
            ]
            for held in records
        ],
    )


def about(held: "HeldRecord") -> str:
    """Return the day or period of a record."""
    if held.record.HasField("date"):
        return output.day(held.record.date)
    return f"{output.day(getattr(held.record.period, 'from'))}/{output.day(held.record.period.to)}"


def said(held: "HeldRecord") -> str:
    """Return what a record says, as JSON, with the fields that it fills in."""
    from google.protobuf.json_format import MessageToDict

    payload = getattr(held.record, held.record.record_type)
    values = MessageToDict(payload, preserving_proto_field_name=True)
    return json.dumps(values, ensure_ascii=False, sort_keys=True)
