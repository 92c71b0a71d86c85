"""`puhui participant` and `puhui key`: who takes part, and with which keys."""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import Role, is_uscc, lower, parse_day

if TYPE_CHECKING:
    from google.type.date_pb2 import Date
    from rich.console import RenderableType

    from puhui.datashare.v1.participants_pb2 import Participant, SigningKey
    from puhui_client.admission import Document, StepName
    from puhui_client.platform import RoleName

Step = Literal["licence-checked", "conformant", "activated"]

app = typer.Typer(help="Who takes part.", no_args_is_help=True)
keys = typer.Typer(help="API keys of participants.", no_args_is_help=True)
signing_keys = typer.Typer(help="Keys that participants sign batches with.", no_args_is_help=True)
app.add_typer(signing_keys, name="signing-key")

ParticipantId = Annotated[str, typer.Argument(metavar="PARTICIPANT", help="Id of the participant.")]


async def _enter(
    session: Session,
    role: Annotated[Role, typer.Argument(help="What it is to the platform.")],
    name: Annotated[str, typer.Argument(help="What it is called.")],
    kind: Annotated[
        str, typer.Option("--kind", help="Of a provider: tax, court ...; see the catalogue.")
    ] = "",
    subject: Annotated[
        str,
        typer.Option(
            "--subject",
            help="Of a firm: registration number or subject id; the account represents it.",
        ),
    ] = "",
    historical: Annotated[
        bool,
        typer.Option(
            "--historical", help="Of a provider: its imports count as known when obtained."
        ),
    ] = False,
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulated", help="Of a provider: its records are simulated; results say so."
        ),
    ] = False,
) -> None:
    """As the operator, enter somebody who is to take part.

    A firm acts from then on, and in the sandbox everybody. In production an institution applies by
    this, and acts once it is admitted: see [b]puhui participant advance[/b].
    """
    by_number = bool(subject) and is_uscc(subject)
    async with session.client() as client:
        participant = await client.register_participant(
            cast("RoleName", role.upper()),
            name,
            provider_kind=kind,
            uscc=subject if by_number else "",
            subject_id="" if by_number else subject,
            historical_source=historical,
            simulated_source=simulated,
        )
    _show(session, participant)


remote(
    app,
    example='puhui participant register provider "Tax Bureau" --kind tax --data-dir .puhui',
    name="register",
)(_enter)
remote(app, example='puhui participant apply bank "Example Bank"', name="apply")(_enter)


@remote(
    app,
    example="puhui participant advance par_1 licence-checked --kind 'business licence' "
    "--reference 'file 7/2026' --dated 2026-05-01 --product credit_reporting",
)
async def advance(
    session: Session,
    participant_id: ParticipantId,
    step: Annotated[Step, typer.Argument(help="What was done.")],
    kind: Annotated[
        str, typer.Option("--kind", help="Of the document that it rests on: what it is.")
    ] = "",
    reference: Annotated[
        str, typer.Option("--reference", help="Where the document is kept, or its number.")
    ] = "",
    dated: Annotated[str, typer.Option("--dated", metavar="DAY", help="The document's day.")] = "",
    ends: Annotated[
        str, typer.Option("--ends", metavar="DAY", help="Its last day; without: no end.")
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            exists=True,
            dir_okay=False,
            help="The document; its SHA-256 alone is sent.",
        ),
    ] = None,
    product: Annotated[
        list[str] | None,
        typer.Option("--product", help="Of licence-checked: what it is licensed for; repeat it."),
    ] = None,
    note: Annotated[str, typer.Option("--note", help="Why; on record with the step.")] = "",
) -> None:
    """As the operator, take an institution one step on.

    The steps are licence-checked, conformant, activated; in between it is approved by two persons:
    see [b]puhui participant approve[/b]. A licence that was renewed is checked again.
    """
    evidence = _document(kind, reference, dated, ends, file)
    async with session.client() as client:
        participant = await client.advance_participant(
            participant_id,
            cast("StepName", step.upper().replace("-", "_")),
            evidence,
            products=product or (),
            note=note,
        )
    _show(session, participant)


@remote(
    app,
    example="puhui participant approve par_1 --kind minutes --reference 3/2026 --dated 2026-05-04",
)
async def approve(
    session: Session,
    participant_id: ParticipantId,
    kind: Annotated[str, typer.Option("--kind", help="What the approval is in.")],
    reference: Annotated[str, typer.Option("--reference", help="Where that is kept.")],
    dated: Annotated[str, typer.Option("--dated", metavar="DAY", help="Its day.")],
    note: Annotated[str, typer.Option("--note", help="Why; on record with the step.")] = "",
) -> None:
    """As the operator, approve an institution; it takes two persons."""
    evidence = _document(kind, reference, dated, "", None)
    async with session.client() as client:
        participant = await client.advance_participant(
            participant_id, "APPROVED", evidence, note=note
        )
    _show(session, participant)


@remote(
    app,
    example="puhui participant exit par_1 --kind letter --reference 12/2026 --dated 2026-05-04",
    name="exit",
)
async def leave(
    session: Session,
    participant_id: ParticipantId,
    kind: Annotated[str, typer.Option("--kind", help="What the exit rests on.")],
    reference: Annotated[str, typer.Option("--reference", help="Where that is kept.")],
    dated: Annotated[str, typer.Option("--dated", metavar="DAY", help="Its day.")],
    note: Annotated[str, typer.Option("--note", help="Why; on record with the step.")] = "",
) -> None:
    """As the operator, let a participant leave for good; its credentials and keys end with it."""
    evidence = _document(kind, reference, dated, "", None)
    async with session.client() as client:
        participant = await client.advance_participant(
            participant_id, "EXITED", evidence, note=note
        )
    _show(session, participant)


@remote(app, example="puhui participant show par_1")
async def show(session: Session, participant_id: ParticipantId) -> None:
    """Show oneself, or as the operator or the regulator anybody, and what happened to it."""
    from puhui.datashare.v1.participants_pb2 import ParticipantStep

    async with session.client() as client:
        answer = await client.participant(participant_id)
    events = answer.events
    session.out.show(
        {
            "participant": output.plain(answer.participant),
            "events": [output.plain(event) for event in events],
        },
        _details(answer.participant),
        output.table(
            output.count(len(events), "step"),
            ["step", "at", "by", "evidence", "dated", "products", "note"],
            [
                [
                    lower(ParticipantStep.Name(event.step), "PARTICIPANT_STEP_"),
                    output.moment(event.at),
                    " ".join(filter(None, (event.by_participant_id, event.by_person_id))),
                    f"{event.evidence.kind} {event.evidence.reference}".strip(),
                    _day(event.evidence.dated) if event.HasField("evidence") else "",
                    ", ".join(event.products),
                    event.note,
                ]
                for event in events
            ],
        ),
    )


@remote(app, example="puhui participant list --role provider", name="list")
async def list_participants(
    session: Session,
    role: Annotated[Role | None, typer.Option("--role", help="Only these.")] = None,
) -> None:
    """List who takes part; firms are listed to the operator only."""
    name = None if role is None else cast("RoleName", role.upper())
    async with session.client() as client:
        found = [participant async for participant in client.participants(role=name)]
    session.out.show(
        {"participants": [output.plain(participant) for participant in found]},
        output.table(
            output.count(len(found), "participant"),
            ["participant", "role", "name", "kind", "subject", "standing", "since"],
            [
                [
                    participant.participant_id,
                    _role(participant),
                    participant.name,
                    participant.provider_kind,
                    participant.subject_id,
                    _standing(participant),
                    output.moment(participant.registered_at),
                ]
                for participant in found
            ],
        ),
    )


@remote(app, example="puhui participant suspend par_1")
async def suspend(
    session: Session,
    participant_id: ParticipantId,
    note: Annotated[str, typer.Option("--note", help="Why; on record with the step.")] = "",
) -> None:
    """As the operator, suspend a participant; acts at once."""
    async with session.client() as client:
        participant = await client.set_standing(participant_id, "SUSPENDED", note=note)
    _show(session, participant)


@remote(app, example="puhui participant reinstate par_1")
async def reinstate(
    session: Session,
    participant_id: ParticipantId,
    note: Annotated[str, typer.Option("--note", help="Why; on record with the step.")] = "",
) -> None:
    """As the operator, reinstate a suspended participant."""
    async with session.client() as client:
        participant = await client.set_standing(participant_id, "ACTIVE", note=note)
    _show(session, participant)


@remote(app, example="puhui participant whoami")
async def whoami(session: Session) -> None:
    """Show who one is to the platform, and what one may call."""
    from puhui.common.v1.access_pb2 import Role as Roles

    async with session.client() as client:
        answer = await client.whoami()
    session.out.show(
        output.plain(answer),
        output.pairs(
            answer.name or answer.participant_id,
            [
                ("participant", answer.participant_id),
                ("role", lower(Roles.Name(answer.role), "ROLE_")),
                ("subject", answer.subject_id),
                ("may call", "\n".join(answer.methods)),
            ],
        ),
    )


@remote(keys, example="puhui key issue par_1 --out bank.key --data-dir .puhui")
async def issue(
    session: Session,
    participant_id: ParticipantId,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write the key there, readable by its owner only."
        ),
    ] = None,
) -> None:
    """As the operator, make an API key. It is shown once; only its hash is kept."""
    if out is not None and out.exists():
        raise usage(f"{out} is there already: name another file, or remove it")
    async with session.client() as client:
        answer = await client.issue_key(participant_id)
    if out is None:
        session.out.show(
            {"key_id": answer.key_id, "api_key": answer.api_key},
            output.pairs(
                "Keep it now: it is not shown again.",
                [("key", answer.key_id), ("API key", answer.api_key)],
            ),
        )
        return
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(answer.api_key + "\n")
    session.out.show(
        {"key_id": answer.key_id, "key_file": str(out)},
        output.pairs(f"Key {answer.key_id}", [("file", str(out))]),
    )


@remote(keys, example="puhui key revoke key_1 --data-dir .puhui")
async def revoke(
    session: Session,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The part before the dot.")],
) -> None:
    """As the operator, revoke an API key."""
    if "." in key_id:
        raise usage("name the key's id, the part before the dot, never the secret")
    async with session.client() as client:
        revoked_at = await client.revoke_key(key_id)
    session.out.show(
        {"key_id": key_id, "revoked_at": revoked_at.isoformat()},
        output.pairs(f"Key {key_id}", [("revoked", f"{revoked_at.astimezone():%F %T}")]),
    )


@remote(
    signing_keys,
    example="puhui participant signing-key add par_1 tax.public.pem --data-dir .puhui",
    name="add",
)
async def add_signing_key(
    session: Session,
    participant_id: ParticipantId,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="Its public key, Ed25519 or P-256: PEM or JWK."
        ),
    ],
) -> None:
    """As the operator, register a key that a participant signs with.

    From then on its unsigned batches are refused. Have the participant confirm the key's id over
    another way than the file came.
    """
    jwk = _public_jwk(file)
    async with session.client() as client:
        key = await client.register_signing_key(participant_id, jwk)
    _show_signing_key(session, key)


@remote(
    signing_keys,
    example="puhui participant signing-key revoke par_1 KEY --data-dir .puhui",
    name="revoke",
)
async def revoke_signing_key(
    session: Session,
    participant_id: ParticipantId,
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="Id of the key. One that begins with - needs -- before PARTICIPANT.",
        ),
    ],
) -> None:
    """As the operator, revoke a signing key; acts at once.

    What it signed before stays evidence. With its last key revoked the participant can supply
    nothing until the next one is added.
    """
    async with session.client() as client:
        key = await client.revoke_signing_key(participant_id, key_id)
    _show_signing_key(session, key)


@remote(signing_keys, example="puhui participant signing-key list par_1", name="list")
async def list_signing_keys(session: Session, participant_id: ParticipantId) -> None:
    """List the signing keys of oneself or, as the operator, of anybody."""
    async with session.client() as client:
        found = [key async for key in client.signing_keys(participant_id)]
    session.out.show(
        {"keys": [_signing_key_document(key) for key in found]},
        output.table(
            output.count(len(found), "signing key"),
            ["key", "type", "registered", "revoked"],
            [
                [
                    key.key_id,
                    json.loads(key.public_jwk)["crv"],
                    output.moment(key.registered_at),
                    output.moment(key.revoked_at),
                ]
                for key in found
            ],
        ),
    )


def _public_jwk(file: Path) -> str:
    from puhui_client.signing import PublicKey, SigningError

    content = file.read_bytes()
    if b"PRIVATE KEY" in content or b'"d"' in content:
        raise usage(
            f"{file} holds a private key, which stays with its owner: name the file of the public "
            "one (openssl pkey -in FILE -pubout)"
        )
    try:
        return PublicKey.read(file).jwk
    except SigningError as error:
        raise usage(str(error)) from None


def _signing_key_document(key: "SigningKey") -> dict[str, Any]:
    return {**output.plain(key), "public_jwk": json.loads(key.public_jwk)}


def _show_signing_key(session: Session, key: "SigningKey") -> None:
    session.out.show(
        {"key": _signing_key_document(key)},
        output.pairs(
            f"Signing key {key.key_id}",
            [
                ("participant", key.participant_id),
                ("type", json.loads(key.public_jwk)["crv"]),
                ("registered", output.moment(key.registered_at)),
                ("revoked", output.moment(key.revoked_at)),
            ],
        ),
    )


def _show(session: Session, participant: "Participant") -> None:
    session.out.show({"participant": output.plain(participant)}, _details(participant))


def _details(participant: "Participant") -> "RenderableType":
    licensed = participant.HasField("licence_ends")
    return output.pairs(
        participant.name,
        [
            ("participant", participant.participant_id),
            ("role", _role(participant)),
            ("kind", participant.provider_kind),
            ("subject", participant.subject_id),
            ("historical", "yes" if participant.historical_source else ""),
            ("simulated", "yes" if participant.simulated_source else ""),
            ("standing", _standing(participant)),
            ("products", ", ".join(participant.products)),
            ("licence ends", _day(participant.licence_ends) if licensed else ""),
        ],
    )


def _document(
    kind: str, reference: str, dated: str, ends: str, file: Path | None
) -> "Document | None":
    """Return what a step rests on, or None where nothing of it was said."""
    from puhui_client.admission import Document

    if not (kind or reference or dated or ends or file):
        return None
    if not (kind and reference and dated):
        raise usage("a document needs --kind, --reference and --dated")
    try:
        first, last = parse_day(dated), parse_day(ends) if ends else None
    except ValueError as error:
        raise usage(str(error)) from None
    sha256 = hashlib.sha256(file.read_bytes()).digest() if file else b""
    return Document(kind, reference, first, last, sha256)


def _day(day: "Date") -> str:
    from puhui_client.values import from_date

    return from_date(day).isoformat()


def _role(participant: "Participant") -> str:
    from puhui.common.v1.access_pb2 import Role as Roles

    return lower(Roles.Name(participant.role), "ROLE_")


def _standing(participant: "Participant") -> str:
    from puhui.datashare.v1.participants_pb2 import Standing

    return lower(Standing.Name(participant.standing), "STANDING_")
