"""`puhui push`: a provider's file of records, or what is new in a database."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import reports
from services.cli.command import REFUSED, Session, remote, usage
from services.cli.progress import bar
from services.cli.settings import SettingsError

if TYPE_CHECKING:
    from puhui.datashare.v1.catalogue_pb2 import RecordTypePolicy
    from puhui_client import PushReport
    from puhui_client.signing import SigningKey
    from services.cli.checks import CheckReport
    from services.cli.database import Extract
    from services.cli.mapping import ColumnMapping
    from services.cli.rows import Source

_DATABASE = "Database"
_MAPPING = "How the file is read"
_CHECK = "Before sending"

MappingFile = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        metavar="TOML",
        exists=True,
        dir_okay=False,
        help="From columns to fields, and how they are written; `puhui mapping init` drafts one.",
        rich_help_panel=_MAPPING,
    ),
]
RecordTypeName = Annotated[
    str,
    typer.Option(
        "--type",
        help="Record type of every row; a table without a mapping needs it.",
        rich_help_panel=_MAPPING,
    ),
]
SignWith = Annotated[
    Path | None,
    typer.Option(
        "--sign-with",
        metavar="KEY",
        help="Private key, PEM or JWK: every batch is signed with it.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(app, example="puhui push invoices.csv --mapping invoices.toml --key-file tax.key")(push)


async def push(
    session: Session,
    file: Annotated[
        Path | None,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help="CSV (UTF-8, UTF-16, GB18030), Excel or Parquet; all else is JSON lines (Record "
            "in the protocol's JSON form). Left out with --from-db.",
        ),
    ] = None,
    record_type: RecordTypeName = "",
    mapping: MappingFile = None,
    preview: Annotated[
        int,
        typer.Option(
            "--preview",
            metavar="N",
            min=0,
            help="Only show the first N rows as they would be sent.",
            rich_help_panel=_CHECK,
        ),
    ] = 0,
    only_check: Annotated[
        bool,
        typer.Option(
            "--check", help="Only check all rows and report by column.", rich_help_panel=_CHECK
        ),
    ] = False,
    no_check: Annotated[
        bool,
        typer.Option(
            "--no-check",
            help="Send without checking before: the platform says what is wrong.",
            rich_help_panel=_CHECK,
        ),
    ] = False,
    delivery: Annotated[
        str | None,
        typer.Option(
            "--delivery",
            help="Names the delivery. One that broke off goes on by itself when the same is pushed "
            "again; on another machine, its name resumes it.",
        ),
    ] = None,
    historical: Annotated[
        bool,
        typer.Option(
            "--historical", help="Back-fill: rows count as known when they were obtained."
        ),
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="OUT",
            help="Rows that are not in, if there are any, in the format of FILE; FILE.rejects.*",
        ),
    ] = None,
    sign_with: SignWith = None,
    from_db: Annotated[
        str | None,
        typer.Option(
            "--from-db",
            metavar="FILE|env:NAME",
            help="Push what is new in a database: the file or the environment variable that holds "
            "its SQLAlchemy URL.",
            rich_help_panel=_DATABASE,
        ),
    ] = None,
    view: Annotated[
        str | None,
        typer.Option(
            "--view",
            metavar="NAME",
            help="View or table: NAME, or SCHEMA.NAME.",
            rich_help_panel=_DATABASE,
        ),
    ] = None,
    query: Annotated[
        Path | None,
        typer.Option(
            "--query",
            metavar="SQL",
            exists=True,
            dir_okay=False,
            help="File with a SELECT, in place of --view.",
            rich_help_panel=_DATABASE,
        ),
    ] = None,
    watermark: Annotated[
        str | None,
        typer.Option(
            "--watermark",
            metavar="COLUMN",
            help="Column that grows with every new or changed row.",
            rich_help_panel=_DATABASE,
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            "--state",
            metavar="JSON",
            dir_okay=False,
            help="Remembers how far the database was pushed; NAME.puhui-state.json.",
            rich_help_panel=_DATABASE,
        ),
    ] = None,
) -> None:
    """Push a file of records, or what is new in a database. Bad rows never block the others.

    All rows are checked here first; those that fail are not sent. Rows that are not in are written
    beside the file, in its format, to be mended and pushed again. The delivery closes with control
    totals, and both ends' totals are compared.

    It exits with 0 when all rows are in (or wait for a review), duplicates included, and both ends
    agree; else with 1.
    """
    if (file is None) == (from_db is None):
        raise usage("name a file, or a database by --from-db: one of them")
    if from_db is None and (view or query or watermark or state):
        raise usage("--view, --query, --watermark and --state need --from-db")
    with wrong_use():
        options = _Options(
            record_type=record_type,
            mapping=read_mapping_file(mapping),
            preview=preview,
            only_check=only_check,
            check=not no_check,
            delivery=delivery,
            historical=historical,
            rejects=rejects,
            key=read_signing_key(sign_with),
        )
        if file is not None:
            all_in = await _push_file(session, file, options)
        else:
            extract = _extract(from_db, view, query, watermark, state)
            all_in = await _push_database(session, extract, options)
        if not all_in:
            raise typer.Exit(REFUSED)


@dataclass(frozen=True)
class _Options:
    """What was said on the command line."""

    record_type: str
    mapping: "ColumnMapping | None"
    preview: int
    only_check: bool
    check: bool
    delivery: str | None
    historical: bool
    rejects: Path | None
    key: "SigningKey | None"


@contextmanager
def wrong_use() -> Iterator[None]:
    """Tell what is wrong with a file, a mapping or a key as wrong use."""
    from services.cli.database import DatabaseError
    from services.cli.locks import BusyError
    from services.cli.mapping import MappingError
    from services.cli.rows import SourceError
    from services.cli.tables import TableError

    try:
        yield
    except (BusyError, DatabaseError, MappingError, SourceError, TableError) as error:
        raise usage(str(error)) from None


def read_mapping_file(path: Path | None) -> "ColumnMapping | None":
    """Return the mapping in a file, if one is named."""
    from services.cli.mapping import read_mapping

    return None if path is None else read_mapping(path)


def read_signing_key(path: Path | None) -> "SigningKey | None":
    """Return the private key in a file, if one is named."""
    if path is None:
        return None
    try:
        from puhui_client.signing import SigningError, SigningKey
    except ImportError as error:
        raise usage(str(error)) from None
    try:
        return SigningKey.read(path)
    except SigningError as error:
        raise usage(str(error)) from None


def _extract(
    from_db: str | None,
    view: str | None,
    query: Path | None,
    watermark: str | None,
    state: Path | None,
) -> "Extract":
    from services.cli.database import Extract, read_url

    if from_db is None or watermark is None or (view is None) == (query is None):
        raise usage("--from-db needs --watermark COLUMN, and --view NAME or --query SQL")
    return Extract(read_url(from_db), view, query, watermark, state)


async def _push_database(session: Session, extract: "Extract", options: _Options) -> bool:
    with extract:
        if options.preview:
            with extract.sample(options.preview) as rows:
                return await _push_file(session, rows, _spooled(options, extract))
        found = extract.rows(session.out.note)
        if found is None:
            document = {"rows": 0, "state": str(extract.state_path)}
            session.out.show(document, "Nothing is new in the database.")
            return True
        all_in = await _push_file(session, found, _spooled(options, extract))
        if not options.only_check:
            extract.advance()
    return all_in


def _spooled(options: _Options, extract: "Extract") -> _Options:
    """The options for rows that stand in a file on their way from a database."""
    from services.cli.tables import Layout

    mapping = options.mapping
    if mapping is not None:
        mapping = replace(mapping, layout=Layout(encoding="utf-8"))
    return replace(options, mapping=mapping, rejects=options.rejects or extract.rejects_path)


async def _push_file(session: Session, file: Path, options: _Options) -> bool:
    from services.cli.rows import open_source

    source = open_source(file, options.record_type, options.mapping)
    if source.unmapped and not session.out.as_json:
        session.out.note(
            f"Not sent, as the mapping does not name them: {', '.join(source.unmapped)}"
        )
    if options.preview:
        reports.preview(session.out, source, options.preview)
        return True
    if options.only_check:
        report = check_rows(source, await _policies_or_own(session))
        document = {"check": reports.check_document(source, report)}
        session.out.show(document, *reports.check_parts(source, report))
        return not report.bad
    from services.cli.locks import locked

    with locked(file):
        return await _send(session, file, source, options)


async def _send(session: Session, file: Path, source: "Source", options: _Options) -> bool:
    from services.cli.sending import Journal, Sending, fingerprint, write_rejects

    async with session.client() as client:
        policies = [policy async for policy in client.record_types()]
        checked = check_rows(source, policies) if options.check else None
        if checked is not None and checked.bad and not session.out.as_json:
            session.out.show({}, *reports.check_parts(source, checked))
        bad = {} if checked is None else checked.bad
        mapped = "" if options.mapping is None else options.mapping.digest
        said = fingerprint(file, mapped, options.record_type, options.historical, *sorted(bad))
        journal = Journal.open(file, said, options.delivery)
        session.out.note(
            f"Delivery {journal.delivery_id}"
            + (
                " goes on where it broke off."
                if journal.resumed
                else "; should it break off, push again."
            )
        )
        with bar("Pushing", source.size, unit=source.unit) as advance:
            sending = Sending(source, journal, bad, advance)
            report = await sending.run(
                client,
                historical=options.historical,
                signer=options.key,
                control_fields={p.record_type: p.control_field for p in policies},
            )
    rejects = journal.outcome.rejects
    written = None
    if rejects:
        target = options.rejects or file.with_name(f"{file.stem}.rejects{source.suffix}")
        written = write_rejects(source, rejects, target, file)
    journal.remove()
    reports.outcome(session.out, source, journal, report, checked, written)
    return not rejects and agrees(report)


def agrees(report: "PushReport") -> bool:
    """Tell whether both ends counted the same."""
    return report.reconciliation is not None and report.reconciliation.agrees


async def _policies_or_own(session: Session) -> list["RecordTypePolicy"]:
    """The catalogue of the platform, or of this program where no platform is named."""
    try:
        client = session.client()
    except SettingsError:
        session.out.note("No gateway is named: the rules are those of this version of puhui.")
        return await own_policies()
    async with client:
        return [policy async for policy in client.record_types()]


async def own_policies() -> list["RecordTypePolicy"]:
    """Return the catalogue that is part of this program."""
    from puhui.datashare.v1.catalogue_pb2 import ListRecordTypesRequest
    from services.datashare.catalogue.loader import load
    from services.datashare.catalogue.servicer import CatalogueServicer

    servicer: Any = CatalogueServicer(load())
    request = ListRecordTypesRequest(page_size=500)
    return list((await servicer.ListRecordTypes(request, context=None)).types)


def check_rows(source: "Source", policies: list["RecordTypePolicy"]) -> "CheckReport":
    """Check all rows of a source, with a bar."""
    from services.cli.checks import Rules, check

    rules = Rules(policies, datetime.now(UTC))
    with bar("Checking", source.size, unit=source.unit) as advance:
        return check(source, rules, advance)
