"""`puhui notices`, `puhui webhook` and `puhui contact`: what one is told, and where."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.cli import output
from services.cli.command import Session, remote
from services.cli.cursors import CursorFile, Follow, keep_cursor, kept_cursor, show_followed
from services.cli.inputs import lower

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from puhui.datashare.v1.notices_pb2 import Contact, Notice, Webhook

webhook = typer.Typer(
    help="Webhook: have your notices posted to an address of yours.", no_args_is_help=True
)
contact = typer.Typer(
    help="Contact 联系方式: where your firm is told by mail and text message.",
    no_args_is_help=True,
)

Language = Literal["zh", "en"]


def register(main: typer.Typer) -> None:
    """Add the command that stands alone to the main group."""
    remote(main, example="puhui notices --ack --key-file firm.key")(notices)


async def notices(
    session: Session,
    follow: Follow = False,
    ack: Annotated[
        bool, typer.Option("--ack", help="Say that what is shown was dealt with.")
    ] = False,
    cursor_file: CursorFile = None,
    english: Annotated[bool, typer.Option("--english", help="Sentences in English.")] = False,
) -> None:
    """List what you are told: consents, disputes, corrections, erasures, what is due.

    Without --cursor-file it begins behind what was acknowledged.
    """
    cursor = kept_cursor(cursor_file)
    async with session.client() as client:
        items = client.notices(cursor, follow=follow)
        if follow:
            async for item in items:
                cells = _cells(item.notice, english=english)
                document = {"notice": output.plain(item.notice)}
                line = "  ".join(cell for cell in cells if cell)
                show_followed(session, cursor_file, item.cursor, document, line)
                if ack and item.cursor != cursor:
                    await client.acknowledge_notices(item.cursor)
                    cursor = item.cursor
            return
        found = []
        async for item in items:
            found.append(item.notice)
            cursor = item.cursor
        session.out.show(
            {"notices": [output.plain(notice) for notice in found], "cursor": cursor},
            output.table(
                output.count(len(found), "notice"),
                ["about", "when", "notice", "what", "due"],
                [_row(notice, english=english) for notice in found],
            ),
        )
        keep_cursor(cursor_file, cursor)
        if ack and found:
            await client.acknowledge_notices(cursor)


@remote(
    webhook,
    example="puhui webhook set https://bank.example.cn/puhui --key-file bank.key",
    name="set",
)
async def set_webhook(
    session: Session,
    url: Annotated[str, typer.Argument(metavar="URL", help="https, on a public address.")],
) -> None:
    """Have notices posted to an address; shows the secret that signs them, this once.

    It takes the place of the one before, and goes on where that one was.
    """
    async with session.client() as client:
        made = await client.set_webhook(url)
    session.out.show(
        {"webhook": output.plain(made.webhook), "secret": made.secret},
        output.pairs("Webhook", [*_pairs(made.webhook), ("secret", made.secret)]),
    )


@remote(webhook, example="puhui webhook show --key-file bank.key")
async def show(session: Session) -> None:
    """Show where notices are posted, and how that goes; as the operator, for everybody."""
    async with session.client() as client:
        found = [each async for each in client.webhooks()]
    session.out.show(
        {"webhooks": [output.plain(each) for each in found]},
        output.table(
            output.count(len(found), "webhook"),
            ["participant", "address", "state", "failures>", "waiting>", "last failure"],
            [
                [
                    each.participant_id,
                    each.url,
                    _state(each),
                    str(each.failures),
                    f"{each.waiting:,}",
                    each.last_failure,
                ]
                for each in found
            ],
        ),
    )


@remote(webhook, example="puhui webhook remove --key-file bank.key")
async def remove(session: Session) -> None:
    """Have nothing posted any more; notices go on waiting for who asks."""
    async with session.client() as client:
        await client.remove_webhook()
    session.out.show({"removed": True}, "Nothing is posted any more.")


@remote(webhook, example="puhui webhook resume --key-file bank.key")
async def resume(session: Session) -> None:
    """Let a parked webhook go on at once, with what waited."""
    async with session.client() as client:
        resumed = await client.resume_webhook()
    session.out.show({"webhook": output.plain(resumed)}, output.pairs("Webhook", _pairs(resumed)))


@remote(
    contact,
    example="puhui contact set --email owner@firm.example.cn --mobile +8613800000000 "
    "--key-file firm.key",
    name="set",
)
async def set_contact(
    session: Session,
    email: Annotated[str, typer.Option("--email", help="An address; none without.")] = "",
    mobile: Annotated[str, typer.Option("--mobile", help="As +8613800000000; none without.")] = "",
    language: Annotated[Language, typer.Option("--language", help="Of the sentences.")] = "zh",
) -> None:
    """Set where your firm is told; without address and number it is told nowhere."""
    async with session.client() as client:
        found = await client.set_contact(email=email, mobile=mobile, language=language)
    _show_contact(session, found)


@remote(contact, example="puhui contact show --key-file firm.key", name="show")
async def show_contact(session: Session) -> None:
    """Show where your firm is told."""
    async with session.client() as client:
        found = await client.contact()
    _show_contact(session, found)


@remote(contact, example="puhui contact parked --key-file operator.key")
async def parked(session: Session) -> None:
    """List, as the operator, firms whose address or number refuses, so that nothing is sent."""
    async with session.client() as client:
        found = [each async for each in client.parked_contacts()]
    session.out.show(
        {"contacts": [output.plain(each) for each in found]},
        output.table(
            output.count(len(found), "parked contact"),
            ["account", "firm", "mail refuses since", "number refuses since"],
            [
                [
                    each.participant_id,
                    each.subject_id,
                    _since(each.email_refused_since),
                    _since(each.mobile_refused_since),
                ]
                for each in found
            ],
        ),
    )


def _cells(notice: "Notice", *, english: bool) -> list[str]:
    from puhui.datashare.v1.notices_pb2 import NoticeKind

    return [
        output.moment(notice.occurred_at),
        lower(NoticeKind.Name(notice.kind), "NOTICE_KIND_"),
        notice.text_en if english else notice.text_zh,
        output.moment(notice.due_at) if notice.HasField("due_at") else "",
        notice.incident_id
        or notice.dispute_id
        or notice.consent_id
        or notice.mandate_id
        or notice.subject_id,
    ]


def _row(notice: "Notice", *, english: bool) -> list[str]:
    *cells, about = _cells(notice, english=english)
    return [about, *cells]


def _state(found: "Webhook") -> str:
    from puhui.datashare.v1.notices_pb2 import WebhookState

    return lower(WebhookState.Name(found.state), "WEBHOOK_STATE_")


def _pairs(found: "Webhook") -> list[tuple[str, str]]:
    pairs = [("address", found.url), ("state", _state(found)), ("waiting", f"{found.waiting:,}")]
    if found.failures:
        pairs.append(("failures", f"{found.failures}: {found.last_failure}"))
    return pairs


def _since(at: "Timestamp") -> str:
    return output.moment(at) if at.seconds else ""


def _show_contact(session: Session, found: "Contact") -> None:
    session.out.show(
        {"contact": output.plain(found)},
        output.pairs(
            "Contact",
            [
                ("mail", _address(found.email, parked=found.email_parked)),
                ("mobile", _address(found.mobile, parked=found.mobile_parked)),
                ("language", found.language or "zh"),
            ],
        ),
    )


def _address(to: str, *, parked: bool) -> str:
    return f"{to} (parked: it refuses, set it again)" if parked else to or "none"
