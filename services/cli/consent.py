"""`puhui consent`: banks ask, firms answer."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import (
    CHINA,
    Level,
    State,
    is_uscc,
    lower,
    parse_day,
    parse_moment,
    whole_months_before,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.consents_pb2 import Consent
    from puhui_client import Client
    from puhui_client.consents import Level as ContentLevelName
    from puhui_client.consents import State as StateName

app = typer.Typer(help="Ask for, give and end consents.", no_args_is_help=True)

ConsentId = Annotated[str, typer.Argument(metavar="CONSENT", help="Id of the consent.")]
Note = Annotated[str, typer.Option("--note", help="Why, for the other party to read.")]
_ID = "par_"
_MONTHS = 36
"""Whole months that a score looks at, services.scoring.features.firm.WINDOW."""


@remote(
    app,
    example="puhui consent request 91110000MA00000077 --provider par_1 --type vat_invoice",
)
async def request(
    session: Session,
    subject: Annotated[str, typer.Argument(help="The firm: subject id or registration number.")],
    provider: Annotated[
        list[str],
        typer.Option("--provider", help="Id or name of whose records may be used; repeat."),
    ],
    record_type: Annotated[
        list[str], typer.Option("--type", help="Record type that may be used; repeat.")
    ],
    purpose: Annotated[
        str, typer.Option("--purpose", help="See `puhui catalogue list`.")
    ] = "credit_application",
    level: Annotated[Level, typer.Option("--level", help="How much is opened.")] = "summary",
    data_from: Annotated[
        date | None,
        typer.Option(
            "--from",
            parser=parse_day,
            metavar="DAY",
            help="First day of the data; else that of the 36th month before --to's, "
            "as a score looks at 36 whole months.",
        ),
    ] = None,
    data_to: Annotated[
        date | None,
        typer.Option(
            "--to", parser=parse_day, metavar="DAY", help="Last day of the data; else today."
        ),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="How long the consent runs.")] = 90,
    expires: Annotated[
        datetime | None,
        typer.Option(
            "--expires",
            parser=parse_moment,
            metavar="TIME",
            help="End of the consent, instead of --days.",
        ),
    ] = None,
) -> None:
    """As a bank, ask a firm for its consent. Nothing is open until the firm grants it."""
    by_number = is_uscc(subject)
    now = datetime.now(UTC)
    last_day = data_to or now.astimezone(CHINA).date()
    async with session.client() as client:
        consent = await client.request_consent(
            uscc=subject if by_number else "",
            subject_id="" if by_number else subject,
            purpose=purpose,
            providers=await _provider_ids(client, provider),
            record_types=record_type,
            content_level=cast("ContentLevelName", level.upper()),
            data_from=data_from or whole_months_before(last_day, _MONTHS),
            data_to=last_day,
            expires_at=expires or now + timedelta(days=days),
        )
        await _show(session, client, consent)


@remote(app, example="puhui consent grant con_1")
async def grant(
    session: Session,
    consent_id: ConsentId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; the terms were read.")] = False,
) -> None:
    """As a firm, agree to the terms of a request, after reading them."""
    if session.out.as_json and not yes:
        raise usage("with --json the terms cannot be read first: say --yes")
    async with session.client() as client:
        consent = await client.get_consent(consent_id)
        if not yes:
            session.out.stderr().print(_terms(consent, await _names(client)))
            typer.confirm("Grant exactly this?", abort=True, err=True)
        consent = await client.grant_consent(consent)
        await _show(session, client, consent)


@remote(app, example='puhui consent reject con_1 --note "not now"')
async def reject(session: Session, consent_id: ConsentId, note: Note = "") -> None:
    """As a firm, say no to a request."""
    async with session.client() as client:
        consent = await client.reject_consent(consent_id, note=note)
        await _show(session, client, consent)


@remote(app, example="puhui consent withdraw con_1")
async def withdraw(session: Session, consent_id: ConsentId, note: Note = "") -> None:
    """As a firm, end its consent. Whatever is asked after this is refused."""
    async with session.client() as client:
        consent = await client.withdraw_consent(consent_id, note=note)
        await _show(session, client, consent)


@remote(app, example='puhui consent revoke con_1 --note "loan repaid"')
async def revoke(session: Session, consent_id: ConsentId, note: Note = "") -> None:
    """As the bank that holds it or as the operator, end a consent."""
    async with session.client() as client:
        consent = await client.revoke_consent(consent_id, note=note)
        await _show(session, client, consent)


@remote(app, example="puhui consent show con_1", name="show")
async def show(session: Session, consent_id: ConsentId) -> None:
    """Show one consent with its terms."""
    async with session.client() as client:
        consent = await client.get_consent(consent_id)
        await _show(session, client, consent)


@remote(app, example="puhui consent list --state active", name="list")
async def list_consents(
    session: Session,
    state: Annotated[State | None, typer.Option("--state", help="Only these.")] = None,
) -> None:
    """List one's consents, newest first."""
    async with session.client() as client:
        name = None if state is None else cast("StateName", state.upper())
        consents = [consent async for consent in client.list_consents(state=name)]
        names = {} if session.out.as_json else await _names(client)
    session.out.show(
        {"consents": [output.plain(consent) for consent in consents]},
        output.table(
            output.count(len(consents), "consent"),
            ["consent", "state", "subject", "recipient", "purpose", "types", "expires"],
            [
                [
                    consent.consent_id,
                    _state(consent),
                    consent.subject_id,
                    _named(consent.recipient_id, names),
                    consent.terms.purpose,
                    ", ".join(consent.terms.record_types),
                    output.moment(consent.terms.expires_at),
                ]
                for consent in consents
            ],
        ),
    )


def _state(consent: "Consent") -> str:
    from puhui.datashare.v1.consents_pb2 import ConsentState

    return lower(ConsentState.Name(consent.state), "CONSENT_STATE_")


async def _show(session: Session, client: "Client", consent: "Consent") -> None:
    names = {} if session.out.as_json else await _names(client)
    session.out.show({"consent": output.plain(consent)}, _terms(consent, names))


async def _names(client: "Client") -> dict[str, str]:
    """Return the names of participants by id; without the directory, none."""
    from puhui_client import PuhuiError

    try:
        return {found.participant_id: found.name async for found in client.participants()}
    except PuhuiError:  # what was done is told all the same
        return {}


def _named(participant_id: str, names: Mapping[str, str]) -> str:
    return f"{participant_id} {names.get(participant_id, '')}".rstrip()


async def _provider_ids(client: "Client", providers: list[str]) -> list[str]:
    """Return the ids of providers that are given by id or by name."""
    if all(provider.startswith(_ID) for provider in providers):
        return providers
    ids: dict[str, list[str]] = {}
    async for found in client.participants(role="PROVIDER"):
        ids.setdefault(found.name, []).append(found.participant_id)
    chosen = []
    for provider in providers:
        candidates = [provider] if provider.startswith(_ID) else ids.get(provider, [])
        if not candidates:
            raise usage(
                f"no provider is called {provider}: "
                "`puhui participant list --role provider` names them"
            )
        if len(candidates) > 1:
            raise usage(f"{provider} is the name of {', '.join(candidates)}: name one by its id")
        chosen += candidates
    return chosen


def _terms(consent: "Consent", names: Mapping[str, str]) -> "RenderableType":
    from puhui.common.v1.types_pb2 import ContentLevel

    terms = consent.terms
    first, last = getattr(terms.data_period, "from"), terms.data_period.to
    return output.pairs(
        f"Consent {consent.consent_id}: {_state(consent)}",
        [
            ("subject", consent.subject_id),
            ("recipient", _named(consent.recipient_id, names)),
            ("purpose", terms.purpose),
            ("level", lower(ContentLevel.Name(terms.content_level), "CONTENT_LEVEL_")),
            ("types", ", ".join(terms.record_types)),
            ("providers", "\n".join(_named(provider, names) for provider in terms.provider_ids)),
            ("data", f"{output.day(first)} to {output.day(last)}"),
            ("not before", output.moment(terms.not_before)),
            ("expires", output.moment(terms.expires_at)),
            ("revision", str(consent.revision)),
            ("note", consent.note),
            ("hash", consent.canonical_sha256.hex()),
        ],
    )
