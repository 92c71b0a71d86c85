"""`puhui report`: a score as a file, and what a filed one proves.

A subject that stands where a command's name would is what `make` is called with, so that
`puhui report sub_1 --consent con_1` makes a report.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from services.cli import output
from services.cli.command import (
    FileReference,
    Officer,
    Session,
    local,
    remote,
    require_officer,
    usage,
)
from services.cli.inputs import is_uscc, parse_moment, subject_id_of
from services.cli.output import Output
from services.cli.score import declared_of, linked_of, purpose_of

if TYPE_CHECKING:
    from puhui_client.reports import FormatName, LanguageName

JWS = ".jws"
"""What the name of a report's signature has behind that of the report."""
_SUFFIXES = {"pdf": ".pdf", "html": ".html", "json": ".json"}


class _Reports(TyperGroup):
    """The group; without a command's name, `make` is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Reports,
    help="Credit reports: `puhui report SUBJECT --consent ...` makes one.",
    no_args_is_help=True,
)


@remote(
    app,
    example="puhui report make sub_1 --consent con_1 --officer Wang --file-ref A-17",
)
async def make(
    session: Session,
    subject: Annotated[str, typer.Argument(help="The firm: subject id or registration number.")],
    consent: Annotated[
        str, typer.Option("--consent", metavar="CONSENT", help="Consent it is scored under.")
    ] = "",
    format_: Annotated[
        Literal["pdf", "html", "json"] | None,
        typer.Option("--format", help="Else as --out ends; PDF."),
    ] = None,
    language: Annotated[
        Literal["zh", "en"], typer.Option("--lang", help="Of PDF and HTML; JSON has both.")
    ] = "zh",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Written with its signature beside it, FILE.jws; else named by the decision.",
        ),
    ] = None,
    product: Annotated[
        str,
        typer.Option("--product", metavar="CODE", help="Score product; see `puhui product list`."),
    ] = "",
    declared: Annotated[
        list[str] | None,
        typer.Option(
            "--declared",
            metavar="NAME=VALUE",
            help="What you say of the firm; repeat. As of score.",
        ),
    ] = None,
    purpose: Annotated[
        str | None,
        typer.Option(
            "--purpose", help="The consent's. The product's, else credit_application, by default."
        ),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", parser=parse_moment, metavar="TIME", help="Data known by then."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="VERSION", help="Else the model in service.")
    ] = "",
    officer: Officer = "",
    file_reference: FileReference = "",
    automated_decision: Annotated[
        bool, typer.Option("--automated-decision", help="A machine alone will decide.")
    ] = False,
    linked: Annotated[
        list[str] | None,
        typer.Option(
            "--linked", metavar="RELATION:SUBJECT:CONSENT", help="As of `puhui score`; repeat."
        ),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            "--request-id", help="That of a score gives a report of it; no further quota is used."
        ),
    ] = None,
) -> None:
    """Score a firm under its consent, and write a report to file: one access for both."""
    from puhui_client import score_order

    kind = _kind(format_, out)
    require_officer(officer, file_reference)
    beside = [linked_of(each) for each in linked or []]
    said = dict(declared_of(each) for each in declared or [])
    for named in (subject, *(other for _, other, _ in beside)):
        is_uscc(named)
    if out is not None:
        _check_new(out)
    async with session.client() as client:
        order = score_order(
            await subject_id_of(client, subject),
            consent,
            officer=officer,
            file_reference=file_reference,
            purpose=purpose or await purpose_of(client, product),
            as_of=as_of,
            model_version=model,
            automated_decision=automated_decision,
            linked=[
                (relation, await subject_id_of(client, other), theirs)
                for relation, other, theirs in beside
            ],
            product=product,
            declared=said,
            request_id=request_id,
        )
        format_name: FormatName = "PDF" if kind == "pdf" else "HTML" if kind == "html" else "JSON"
        language_name: LanguageName = "ZH" if language == "zh" else "EN"
        report = await client.credit_report(order, format_=format_name, language=language_name)
    path = out or Path(report.decision_id + _SUFFIXES[kind])
    _write(path, report.content)
    _write(_beside(path), report.content_jws.encode())
    session.out.show(
        {
            "file": str(path),
            "signature": str(_beside(path)),
            "decision_id": report.decision_id,
            "access_id": report.access_id,
            "document_sha256": report.document_sha256.hex(),
        },
        output.pairs(
            f"{path}",
            [
                ("signature", f"{_beside(path)} (keep it beside)"),
                ("decision", report.decision_id),
                ("access", report.access_id),
                ("SHA-256 of the data", report.document_sha256.hex()),
            ],
        ),
    )


@remote(app, example="puhui report keys --out report-keys.json")
async def keys(
    session: Session,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a JWK set there.")
    ] = None,
) -> None:
    """Get the public keys under which reports are and were signed: keep them for `verify`."""
    import json

    async with session.client() as client:
        found = await client.report_keys()
    document = {"keys": [json.loads(jwk) for jwk in found.values()]}
    if out is not None:
        out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    session.out.show(document, output.table("Keys of reports", ["key"], [[key] for key in found]))


@local(app, example="puhui report verify A-17.pdf --keys report-keys.json")
def verify(
    out: Output,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="The report.")
    ],
    keys: Annotated[
        Path,
        typer.Option(
            "--keys",
            metavar="KEYS",
            exists=True,
            dir_okay=False,
            help="The platform's, by `puhui report keys --out KEYS`.",
        ),
    ],
    signature: Annotated[
        Path | None,
        typer.Option(
            "--signature", metavar="FILE", exists=True, dir_okay=False, help="Else FILE.jws."
        ),
    ] = None,
) -> None:
    """Check a filed report without the platform; exits with 1 when it is not as it was signed."""
    from puhui_client.report_files import read_keys
    from puhui_client.report_files import verify as check
    from puhui_client.signing import SigningError

    beside = signature or _beside(file)
    jws = beside.read_text("ascii", "replace").strip() if beside.is_file() else ""
    try:
        filed = check(file.read_bytes(), jws, read_keys(keys.read_text("utf-8", "replace")))
    except SigningError as error:
        out.show({"genuine": False, "problem": str(error)}, f"[red]Not genuine: {error}.[/]")
        raise typer.Exit(1) from None
    decision = filed.document["decision"]
    out.show(
        {
            "genuine": True,
            "whole_file": filed.whole,
            "key_id": filed.key_id,
            "decision_id": decision["decision_id"],
            "access_id": decision["access_id"],
            "report_version": filed.document["report_version"],
        },
        output.pairs(
            "Genuine" if filed.whole else "The data that it carries is genuine",
            [
                ("signed by", filed.key_id),
                ("decision", decision["decision_id"]),
                ("access", decision["access_id"]),
                ("covers", "every byte of the file" if filed.whole else "the data"),
            ],
        ),
        *(
            []
            if filed.whole
            else [f"[yellow]What the file shows was not checked: {beside} is not there.[/]"]
        ),
    )


def _kind(format_: str | None, out: Path | None) -> str:
    if format_ is not None:
        return format_
    suffix = out.suffix.lower() if out is not None else ""
    named = next((kind for kind, end in _SUFFIXES.items() if end == suffix), None)
    if out is not None and named is None:
        raise usage(f"{out} ends in none of .pdf, .html, .json: name the --format")
    return named or "pdf"


def _beside(path: Path) -> Path:
    return path.with_name(path.name + JWS)


def _check_new(path: Path) -> None:
    for each in (path, _beside(path)):
        if each.exists():
            raise usage(f"{each} is there already: name another file, or move it away")
    if not path.absolute().parent.is_dir():
        raise usage(f"there is no folder {path.absolute().parent}: make it")


def _write(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    pending = path.with_name(f".{path.name}.part")
    with suppress(FileNotFoundError):
        pending.unlink()
    handle = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    pending.replace(path)
