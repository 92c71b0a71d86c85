"""`puhui keys`: the keys and certificates that the platform and its participants need.

Private keys are written into files of their owner alone. None is ever printed, nor taken from an
option or the environment.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, local, remote, usage
from services.cli.output import Output

if TYPE_CHECKING:
    from puhui.datashare.v1.credentials_pb2 import Credential
    from services.cli.keyfolder import Entry, Made
    from services.kit.authority import Authority, Issued

app = typer.Typer(help="Keys and certificates, made on this machine.", no_args_is_help=True)

DEVELOPMENT = (
    "A development authority is for the sandbox alone: its key is a plain file, and it revokes "
    "nothing. Production takes certificates of an authority of its own."
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

Folder = Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the keys are.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the key; its files are called so.")]
AuthorityName = Annotated[
    str, typer.Option("--authority", metavar="NAME", help="Which authority in the folder issues.")
]
Algorithms = Literal["ed25519", "p256", "rsa"]


@local(app, example="puhui keys authority --dir keys")
def authority(
    out: Output,
    name: Name = "authority",
    folder: Folder = Path("keys"),
    days: Annotated[int, typer.Option("--days", min=1, help="How long it is valid.")] = 365,
) -> None:
    """Make a development authority, for the sandbox alone."""
    from services.kit.authority import Authority
    from services.kit.clock import SystemClock

    with _failures_told(out):
        clock = SystemClock()
        made = Authority.create(f"Puhui {_checked(name)}", clock=clock, days=days)
        _show(out, folder, _add(folder, name, "authority", "p256", _made_authority(made)))
    out.note(DEVELOPMENT)


@local(app, example="puhui keys certificate gateway --workload gateway --host 127.0.0.1")
def certificate(
    out: Output,
    name: Name,
    folder: Folder = Path("keys"),
    by: AuthorityName = "authority",
    sandbox: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="DIR", help="Of a sandbox, whose own authority issues instead."
        ),
    ] = None,
    workload: Annotated[
        Literal["gateway", "scoring", "datashare"] | None,
        typer.Option("--workload", help="It is that of one of Puhui's services."),
    ] = None,
    trust_domain: Annotated[
        str, typer.Option("--trust-domain", help="Of the workload's name.")
    ] = "puhui",
    uris: Annotated[
        list[str] | None, typer.Option("--uri", help="A URI that it may call itself.")
    ] = None,
    hosts: Annotated[
        list[str] | None, typer.Option("--host", help="A name or address at which it serves.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="How long it is valid.")] = 90,
) -> None:
    """Issue a certificate to a service of the platform or to a participant, with a new key.

    It serves where hosts are named, and may call in any case.
    """
    from services.kit.workloads import spiffe_id

    own = [spiffe_id(trust_domain, workload)] if workload else []
    names = {
        "by": by,
        "sandbox": str(sandbox.absolute()) if sandbox else "",
        "uris": [*own, *(uris or [])],
        "hosts": hosts or [],
        "days": days,
        "server": bool(hosts),
    }
    with _failures_told(out):
        made = _issue(folder, _checked(name), names)
        _show(out, folder, _add(folder, name, "certificate", "p256", made, names=names))
    out.note(DEVELOPMENT)


@local(app, example="puhui keys client acme-bank --alg p256")
def client(
    out: Output,
    name: Name,
    folder: Folder = Path("keys"),
    algorithm: Annotated[Algorithms, typer.Option("--alg", help="Of the key.")] = "ed25519",
) -> None:
    """Make the key by which a participant gets tokens (private_key_jwt), its public half as JWK."""
    with _failures_told(out):
        made = _new(algorithm, jwk=True)
        _show(out, folder, _add(folder, _checked(name), "client", algorithm, made))


@local(app, example="puhui keys signing tokens --for token")
def signing(
    out: Output,
    name: Name,
    purpose: Annotated[
        Literal["identity", "token", "consents", "reports", "models", "batches"],
        typer.Option("--for", help="What is signed; identities and tokens take Ed25519 alone."),
    ],
    folder: Folder = Path("keys"),
    algorithm: Annotated[
        Literal["ed25519", "p256"], typer.Option("--alg", help="Of the key.")
    ] = "ed25519",
) -> None:
    """Make a key that signs: identities between services, access tokens, consents, reports ..."""
    if purpose in ("identity", "token") and algorithm != "ed25519":
        raise usage(f"--alg {algorithm}: what signs {purpose} is an Ed25519 key")
    with _failures_told(out):
        made = _new(algorithm, jwk=purpose in ("models", "reports", "batches"))
        _show(out, folder, _add(folder, _checked(name), f"signing {purpose}", algorithm, made))


@local(app, example="puhui keys list --dir keys", name="list")
def list_keys(out: Output, folder: Folder = Path("keys")) -> None:
    """List the keys of a folder: what they are, and which are in use."""
    from services.cli.keyfolder import KeyFolder

    with _failures_told(out):
        entries = KeyFolder(folder).entries()
    out.show(
        {"keys": [_document(folder, entry) for entry in entries]},
        output.table(
            f"Keys in {folder}",
            ["name", "turn", "kind", "key id", "state", "made", "valid to"],
            [
                [
                    entry.name,
                    str(entry.turn),
                    entry.kind,
                    entry.key_id,
                    entry.state,
                    entry.made_at[:10],
                    entry.expires_at[:10],
                ]
                for entry in entries
            ],
        ),
    )


@local(app, example="puhui keys rotate acme-bank")
def rotate(
    out: Output,
    name: Name,
    folder: Folder = Path("keys"),
    finish: Annotated[
        bool,
        typer.Option("--finish", help="Make none: delete the private keys of the former ones."),
    ] = False,
) -> None:
    """Make a key's successor. The former one stays in use until --finish says otherwise."""
    from services.cli.keyfolder import KeyFolder, State
    from services.kit.clock import SystemClock

    keys = KeyFolder(folder)
    with _failures_told(out):
        if finish:
            ended = [
                keys.mark(entry, state=State.ENDED)
                for entry in keys.entries()
                if entry.name == name and entry.state == State.FORMER
            ]
            for entry in ended:
                keys.destroy(entry)
            out.show(
                {"ended": [_document(folder, entry) for entry in ended]},
                f"{output.count(len(ended), 'former key')} of {name} ended.",
            )
            return
        before = keys.current(name)
        made = _successor(folder, before)
        after = keys.rotate(name, made, SystemClock().now())
    _show(out, folder, after)
    out.note(
        f"The former key {before.key_id} is still in use: let others know the new one, then "
        f"`puhui keys rotate {name} --finish`."
    )


@remote(app, example="puhui keys revoke acme-bank --of par_01JDB4 --data-dir .puhui")
async def revoke(
    session: Session,
    name: Name,
    folder: Folder = Path("keys"),
    key_id: Annotated[
        str, typer.Option("--key-id", help="Which of its keys; else that in use.")
    ] = "",
    participant_id: Annotated[
        str,
        typer.Option(
            "--of", metavar="PARTICIPANT", help="Revoke it on the platform first, as this one's."
        ),
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Mark a key as revoked and delete its private half: it was lost, or somebody else has it.

    With --of the platform is told first, which takes it from nobody from then on.
    """
    from services.cli.keyfolder import KeyFolder, KeyFolderError, State

    keys, out = KeyFolder(folder), session.out
    with _failures_told(out):
        found = [e for e in keys.entries() if e.name == name and key_id in ("", e.key_id)]
        if not key_id:
            found = [entry for entry in found if entry.state == State.CURRENT]
        if not found:
            raise KeyFolderError(f"there is no such key {name} in {folder}: see `puhui keys list`")
        if not yes:
            question = f"Revoke {name} ({found[0].key_id})? Its private key is deleted"
            typer.confirm(question, abort=True)
        if participant_id:
            await _revoke_credential(session, participant_id, found[0])
        revoked = keys.mark(found[0], state=State.REVOKED)
        keys.destroy(revoked)
    _show(out, folder, revoked)
    if not participant_id and revoked.kind in ("certificate", "client"):
        out.note(
            "Where it is registered the platform goes on taking it: `puhui credential revoke`, or "
            "--of next time."
        )


async def _revoke_credential(session: Session, participant_id: str, entry: "Entry") -> None:
    from services.cli.keyfolder import KeyFolderError

    async with session.client() as client:
        async for credential in client.credentials(participant_id):
            if _key_id(credential) == entry.key_id and not credential.HasField("revoked_at"):
                await client.revoke_credential(participant_id, credential.credential_id)
                return
    raise KeyFolderError(
        f"{participant_id} has no valid credential by {entry.name} ({entry.key_id}): see "
        f"`puhui credential list {participant_id}`"
    )


def _key_id(credential: "Credential") -> str:
    """Return the thumbprint of a certificate or a key; nothing of a person's."""
    from joserfc.jwk import JWKRegistry

    if not credential.public_jwk:
        return credential.certificate_sha256
    return JWKRegistry.import_key(json.loads(credential.public_jwk)).thumbprint()


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise usage(f"{name!r}: a key is called by letters, digits, - and _, 64 at most")
    return name


def _add(folder: Path, name: str, kind: str, algorithm: str, made: "Made", **more: Any) -> "Entry":
    from services.cli.keyfolder import KeyFolder
    from services.kit.clock import SystemClock

    return KeyFolder(folder).add(name, kind, algorithm, made, SystemClock().now(), **more)


def _new(algorithm: str, *, jwk: bool) -> "Made":
    from services.cli.keyfolder import Algorithm, new_key

    return new_key(Algorithm(algorithm), jwk=jwk)


def _made_authority(made: "Authority") -> "Made":
    from services.cli.keyfolder import Made

    key_id, expires_at = _told(made.certificate)
    return Made(made.key, made.certificate, key_id, expires_at)


def _made(issued: "Issued") -> "Made":
    from services.cli.keyfolder import Made

    return Made(issued.key, issued.certificate, *_told(issued.certificate))


def _told(certificate_pem: str) -> tuple[str, str]:
    """Return the thumbprint of a certificate and when it ends."""
    from cryptography import x509

    from services.kit.authority import thumbprint

    read = x509.load_pem_x509_certificate(certificate_pem.encode())
    return thumbprint(read), read.not_valid_after_utc.isoformat()


def _issue(folder: Path, name: str, names: "dict[str, Any]") -> "Made":
    from services.cli.keyfolder import KeyFolder, KeyFolderError
    from services.kit.authority import Authority
    from services.kit.clock import SystemClock

    if names.get("sandbox"):
        own = Path(names["sandbox"]) / "keys"
        certificate, key = own / "authority.crt", own / "authority.pem"
        if not certificate.is_file():
            raise KeyFolderError(f"no sandbox has been started in {own.parent}: `puhui serve all`")
    else:
        issuer = KeyFolder(folder).current(names["by"])
        if issuer.kind != "authority":
            problem = f"{issuer.name} is no authority: make one by `puhui keys authority`"
            raise KeyFolderError(problem)
        certificate, key = folder / issuer.public_file, folder / issuer.file
    try:
        loaded = Authority.load(
            certificate.read_text("utf-8"), key.read_text("utf-8"), clock=SystemClock()
        )
        issued = loaded.issue(
            name,
            names=names["uris"],
            hosts=names["hosts"],
            days=names["days"],
            server=names["server"],
        )
    except ValueError as error:
        raise KeyFolderError(f"no certificate for {name}: {error}") from None
    return _made(issued)


def _successor(folder: Path, before: "Entry") -> "Made":
    from services.kit.authority import Authority
    from services.kit.clock import SystemClock

    if before.kind == "authority":
        clock = SystemClock()
        made = Authority.create(f"Puhui {before.name}", clock=clock, days=365)
        return _made_authority(made)
    if before.kind == "certificate":
        return _issue(folder, before.name, dict(before.names or {}))
    return _new(before.algorithm, jwk=before.public_file.endswith(".jwk"))


def _document(folder: Path, entry: "Entry") -> dict[str, Any]:
    told = asdict(entry)
    return told | {"file": str(folder / entry.file), "public_file": str(folder / entry.public_file)}


def _show(out: Output, folder: Path, entry: "Entry") -> None:
    values = [
        ("kind", entry.kind),
        ("key id", entry.key_id),
        ("state", entry.state),
        ("private key", str(folder / entry.file)),
        ("public", str(folder / entry.public_file)),
        *([("valid to", entry.expires_at)] if entry.expires_at else []),
    ]
    out.show(_document(folder, entry), output.pairs(entry.name, values))


@contextmanager
def _failures_told(out: Output) -> Iterator[None]:
    from services.cli.keyfolder import KeyFolderError
    from services.cli.locks import BusyError

    try:
        yield
    except (KeyFolderError, BusyError) as error:
        out.failed("KEY_REFUSED", str(error))
    except OSError as error:
        raise usage(f"{error.filename}: {error.strerror}: name another folder by --dir") from None
    else:
        return
    raise typer.Exit(REFUSED)
