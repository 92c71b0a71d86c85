"""`puhui mandate`: who speaks for a firm."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from services.cli import output
from services.cli.command import Session, local, remote, usage
from services.cli.inputs import lower, parse_moment
from services.cli.settings import DEFAULT_DATA_DIR

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.mandates_pb2 import Mandate, SigningRule
    from puhui_client.firm import PowerName

app = typer.Typer(
    help="Mandates 授权: who speaks for a firm, and may do what.", no_args_is_help=True
)

_POWERS = ("read", "grant", "withdraw", "dispute", "submit")
Uscc = Annotated[str, typer.Argument(metavar="USCC", help="The firm's registration number.")]
Account = Annotated[str, typer.Argument(metavar="PARTICIPANT", help="Id of the account.")]


@remote(app, example="puhui mandate claim 91110000MA00000077 --proof licence.jws")
async def claim(
    session: Session,
    uscc: Uscc,
    proof: Annotated[
        Path | None,
        typer.Option(
            "--proof",
            metavar="FILE",
            help="The verifier's statement, e.g. of the electronic business licence; - is stdin.",
        ),
    ] = None,
    code: Annotated[
        str, typer.Option("--code", help="In a sandbox: the code that its operator tells.")
    ] = "",
) -> None:
    """Become the representative of a firm. Every earlier mandate of it ends."""
    if (proof is None) == (not code):
        raise usage("say --proof FILE or, in a sandbox, --code CODE: one of the two")
    if proof is not None:
        content = sys.stdin.buffer.read() if str(proof) == "-" else proof.read_bytes()
        try:
            code = content.decode("ascii")
        except UnicodeDecodeError:
            raise usage(f"{proof} is no statement: name the file that the verifier gave") from None
    async with session.client() as client:
        mandate = await client.claim_firm(uscc, code.strip())
    _show(session, mandate)


@remote(app, example="puhui mandate appoint par_2 --power read --power dispute --until 2027-06-30")
async def appoint(
    session: Session,
    participant_id: Account,
    power: Annotated[
        list[str],
        typer.Option("--power", metavar="POWER", help="What it may do, see above; repeat."),
    ],
    until: Annotated[
        datetime | None,
        typer.Option(
            "--until",
            parser=parse_moment,
            metavar="TIME",
            help="Its end; without it there is none.",
        ),
    ] = None,
) -> None:
    """As the representative, let another account act for your firm.

    read: see what is held, who looked and which consents stand. grant: answer requests, resume
    consents. withdraw: withdraw and pause consents. dispute: dispute records. submit: supply
    records.
    """
    for word in power:
        if word not in _POWERS:
            raise usage(f"--power {word} is none: name one of {', '.join(_POWERS)}")
    powers = [cast("PowerName", word.upper()) for word in dict.fromkeys(power)]
    async with session.client() as client:
        mandate = await client.appoint_delegate(participant_id, powers, until=until)
    _show(session, mandate)


@remote(app, example="puhui mandate end man_1")
async def end(
    session: Session,
    mandate_id: Annotated[str, typer.Argument(metavar="MANDATE", help="Id of the mandate.")],
) -> None:
    """End a delegate's mandate as the representative, or your own. Holds at once.

    With the representative's own, those of all delegates end.
    """
    async with session.client() as client:
        mandate = await client.end_mandate(mandate_id)
    _show(session, mandate)


@remote(app, example="puhui mandate rule par_1 par_2 par_3 --required 2")
async def rule(
    session: Session,
    signers: Annotated[
        list[str], typer.Argument(metavar="PARTICIPANT...", help="Accounts that may grant.")
    ],
    required: Annotated[
        int, typer.Option("--required", min=1, max=16, help="How many of them must agree.")
    ],
) -> None:
    """As the representative, say who must agree before a consent of your firm is active.

    Holds for consents that are asked for from now on.
    """
    async with session.client() as client:
        found = await client.set_signing_rule(signers, required)
    session.out.show({"rule": output.plain(found)}, _rule(found))


@remote(app, example="puhui mandate list", name="list")
async def list_mandates(session: Session) -> None:
    """List the mandates of your firm, newest first, also ended ones, and who must sign."""
    async with session.client() as client:
        found = [mandate async for mandate in client.mandates()]
        signing = await client.signing_rule()
    columns = [
        "mandate",
        "account",
        "kind",
        "may",
        "state",
        "since",
        "until",
        "appointed or proved by",
    ]
    session.out.show(
        {
            "mandates": [output.plain(mandate) for mandate in found],
            "rule": output.plain(signing),
        },
        output.table(
            output.count(len(found), "mandate"),
            columns,
            [
                [
                    mandate.mandate_id,
                    mandate.participant_id,
                    _kind(mandate),
                    _powers(mandate),
                    _state(mandate),
                    output.moment(mandate.since),
                    output.moment(mandate.ended_at) or output.moment(mandate.until),
                    mandate.appointed_by or mandate.proved_by,
                ]
                for mandate in found
            ],
        ),
        _rule(signing),
    )


@local(app, example="puhui mandate code 91110000MA00000077 --data-dir .puhui")
def code(
    out: output.Output,
    uscc: Uscc,
    data_dir: Annotated[
        Path,
        typer.Option("--data-dir", metavar="DIR", help="Folder of `puhui serve all`."),
    ] = DEFAULT_DATA_DIR,
    key: Annotated[
        Path | None,
        typer.Option(
            "--proof-key",
            metavar="FILE",
            help="Key of the sandbox's proofs, of another deployment.",
        ),
    ] = None,
) -> None:
    """As the operator of a sandbox, show the code by which a firm is claimed there.

    It proves nothing about anybody, so no deployment takes it that does not say it is a sandbox.
    """
    from services.datashare.mandates.proofs import sandbox_code
    from services.datashare.sealing.keyring import read_key
    from services.datashare.subjects.uscc import UsccError, check
    from services.kit.config import ConfigError

    path = key or data_dir / "keys" / "sandbox-proof.key"
    try:
        made = sandbox_code(read_key("--proof-key" if key else "--data-dir", path), check(uscc))
    except (UsccError, ConfigError) as error:
        raise usage(str(error)) from None
    out.show({"uscc": uscc, "code": made}, made)


def _show(session: Session, mandate: "Mandate") -> None:
    session.out.show(
        {"mandate": output.plain(mandate)},
        output.pairs(
            mandate.mandate_id,
            [
                ("account", mandate.participant_id),
                ("firm", mandate.subject_id),
                ("kind", _kind(mandate)),
                ("may", _powers(mandate)),
                ("state", _state(mandate)),
                ("since", output.moment(mandate.since)),
                ("until", output.moment(mandate.until)),
                ("ended", output.moment(mandate.ended_at)),
                ("appointed by", mandate.appointed_by),
                ("proved by", mandate.proved_by),
            ],
        ),
    )


def _rule(signing: "SigningRule") -> "RenderableType":
    from rich.text import Text

    if not signing.required:
        return Text("This account no longer speaks for the firm.")
    if not signing.signer_ids:
        return Text("A consent needs one account that may grant, whichever.")
    who = ", ".join(signing.signer_ids)
    return Text(f"A consent needs {signing.required} of: {who}")


def _kind(mandate: "Mandate") -> str:
    from puhui.datashare.v1.mandates_pb2 import MandateKind

    return lower(MandateKind.Name(mandate.kind), "MANDATE_KIND_")


def _state(mandate: "Mandate") -> str:
    from puhui.datashare.v1.mandates_pb2 import MandateState

    return lower(MandateState.Name(mandate.state), "MANDATE_STATE_")


def _powers(mandate: "Mandate") -> str:
    from puhui.datashare.v1.mandates_pb2 import Power

    return ", ".join(lower(Power.Name(power), "POWER_") for power in mandate.powers)
