"""`puhui wanted` and `puhui uses`: what is due from a provider, and how it was used."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.cursors import CursorFile, Follow, keep_cursor, kept_cursor, show_followed
from services.cli.inputs import Limit, lower, parse_day, take

if TYPE_CHECKING:
    from puhui.datashare.v1.wanted_pb2 import Wanted


def register(app: typer.Typer) -> None:
    """Add the commands to the main group."""
    remote(app, example="puhui wanted --cursor-file wanted.cursor --key-file grid.key")(wanted)
    remote(app, example="puhui uses --from 2024-05-01 --key-file tax.key")(uses)


async def wanted(
    session: Session,
    follow: Follow = False,
    cursor_file: CursorFile = None,
) -> None:
    """As a provider, list what consents make due: firm, type and period; and what has ended."""
    cursor = kept_cursor(cursor_file)
    async with session.client() as client:
        items = client.wanted(cursor, follow=follow)
        if follow:
            async for item in items:
                document = {"wanted": output.plain(item.wanted)}
                line = "  ".join(_cells(item.wanted))
                show_followed(session, cursor_file, item.cursor, document, line)
            return
        found = []
        async for item in items:
            found.append(item.wanted)
            cursor = item.cursor
    session.out.show(
        {"wanted": [output.plain(item) for item in found], "cursor": cursor},
        output.table(
            output.count(len(found), "item"),
            ["firm", "state", "type", "from", "to", "since", "until", "consent"],
            [_cells(item) for item in found],
        ),
    )
    keep_cursor(cursor_file, cursor)


async def uses(
    session: Session,
    first: Annotated[
        date | None,
        typer.Option("--from", parser=parse_day, metavar="DAY", help="First day of release."),
    ] = None,
    last: Annotated[
        date | None,
        typer.Option("--to", parser=parse_day, metavar="DAY", help="Last day of release."),
    ] = None,
    provider: Annotated[
        str, typer.Option("--provider", help="As the operator: whose records; else one's own.")
    ] = "",
    limit: Limit = 100,
) -> None:
    """Show how often what a provider supplied was released, by day, record type and purpose."""
    if first is not None and last is not None and last < first:
        raise usage("--to is before --from: exchange the two")
    async with session.client() as client:
        provider_id = provider or (await client.whoami()).participant_id
        found = await take(client.uses(provider_id, first=first, last=last), limit, session.out)
    session.out.show(
        {"provider_id": provider_id, "uses": [output.plain(use) for use in found]},
        output.table(
            output.count(sum(use.count for use in found), "release"),
            ["day", "type", "purpose", "releases>"],
            [
                [output.day(use.day), use.record_type, use.purpose, f"{use.count:,}"]
                for use in found
            ],
        ),
    )


def _cells(item: "Wanted") -> list[str]:
    from puhui.datashare.v1.wanted_pb2 import WantedState

    return [
        item.uscc or item.subject_id,
        lower(WantedState.Name(item.state), "WANTED_STATE_"),
        item.record_type,
        output.day(getattr(item.period, "from")),
        output.day(item.period.to),
        output.moment(item.since),
        output.moment(item.until),
        item.consent_id,
    ]
