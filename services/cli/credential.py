"""`puhui credential`: what participants prove themselves with at the entrance."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote, usage

if TYPE_CHECKING:
    from puhui.datashare.v1.credentials_pb2 import Credential

app = typer.Typer(help="Certificates, keys and persons of participants.", no_args_is_help=True)

ParticipantId = Annotated[str, typer.Argument(metavar="PARTICIPANT", help="Whose: its id.")]
Label = Annotated[
    str, typer.Option("--label", help='What it is called, e.g. "core banking, 2027".')
]


@remote(app, example="puhui credential add-certificate par_1 bank.crt --label 2027")
async def add_certificate(
    session: Session,
    participant_id: ParticipantId,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="The client certificate in PEM.")
    ],
    label: Label = "",
) -> None:
    """Register the certificate by which an institution is known when it connects.

    As the operator anybody's, else one's own next one, so that one can change over.
    """
    pem = _public(file)
    async with session.client() as client:
        credential = await client.register_certificate(participant_id, pem, label=label)
    _show(session, credential)


@remote(app, example="puhui credential add-key par_1 bank.public.jwk --label 2027")
async def add_key(
    session: Session,
    participant_id: ParticipantId,
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="Its public key: JWK (Ed25519, P-256 or RSA), or PEM (Ed25519 or P-256).",
        ),
    ],
    label: Label = "",
) -> None:
    """Register the key under which an institution signs when it asks for tokens.

    As the operator anybody's, else one's own next one, so that one can change over.
    """
    from puhui_client.signing import PublicKey, SigningError

    text = _public(file)
    if not text.lstrip().startswith("{"):
        try:
            text = PublicKey.read(file).jwk
        except SigningError as error:
            raise usage(str(error)) from None
    async with session.client() as client:
        credential = await client.register_key(participant_id, text, label=label)
    _show(session, credential)


@remote(app, example="puhui credential add-person par_1 https://id.example.com 248289761001")
async def add_person(
    session: Session,
    participant_id: ParticipantId,
    issuer: Annotated[str, typer.Argument(help="Where the person signs in: `iss`.")],
    subject: Annotated[str, typer.Argument(help="The person's account there: `sub`.")],
    label: Label = "",
) -> None:
    """As the operator, let a person who signs in at an issuer act for a participant."""
    async with session.client() as client:
        credential = await client.register_person(participant_id, issuer, subject, label=label)
    _show(session, credential)


@remote(app, example="puhui credential list par_1", name="list")
async def list_credentials(session: Session, participant_id: ParticipantId) -> None:
    """List the credentials of oneself or, as the operator, of anybody."""
    async with session.client() as client:
        found = [each async for each in client.credentials(participant_id)]
    session.out.show(
        {"credentials": [output.plain(each) for each in found]},
        output.table(
            output.count(len(found), "credential"),
            ["credential", "kind", "what", "label", "registered", "ends", "revoked"],
            [
                [
                    each.credential_id,
                    _kind(each),
                    _what(each),
                    each.label,
                    output.moment(each.registered_at),
                    output.moment(each.ends_at),
                    output.moment(each.revoked_at),
                ]
                for each in found
            ],
        ),
    )


@remote(app, example="puhui credential revoke par_1 crd_1")
async def revoke(
    session: Session,
    participant_id: ParticipantId,
    credential_id: Annotated[str, typer.Argument(metavar="CREDENTIAL", help="Its id.")],
) -> None:
    """End a credential, at once, and the tokens that rest on it.

    As the operator anybody's, else a certificate or key of one's own.
    """
    async with session.client() as client:
        credential = await client.revoke_credential(participant_id, credential_id)
    _show(session, credential)


def _public(file: Path) -> str:
    """Return the text of a file that holds no private key."""
    try:
        text = file.read_text()
    except UnicodeDecodeError:
        raise usage(f"{file} is not text: name a file in PEM or a JWK") from None
    if "PRIVATE KEY" in text or '"d"' in text:
        raise usage(
            f"{file} holds a private key, which stays with its owner: name the file of the "
            "public part"
        )
    return text


def _kind(credential: "Credential") -> str:
    kinds = {"certificate_sha256": "certificate", "public_jwk": "key", "person": "person"}
    return kinds[credential.WhichOneof("kind") or "person"]


def _what(credential: "Credential") -> str:
    if credential.WhichOneof("kind") == "person":
        return f"{credential.person.issuer} {credential.person.subject}".strip()
    return credential.certificate_sha256 or credential.public_jwk


def _show(session: Session, credential: "Credential") -> None:
    session.out.show(
        {"credential": output.plain(credential)},
        output.pairs(
            f"Credential {credential.credential_id}",
            [
                ("participant", credential.participant_id),
                ("kind", _kind(credential)),
                ("what", _what(credential)),
                ("label", credential.label),
                ("registered", output.moment(credential.registered_at)),
                ("ends", output.moment(credential.ends_at)),
                ("revoked", output.moment(credential.revoked_at)),
            ],
        ),
    )
