"""`puhui bundle`: a delivery as one signed file, for networks that data leaves in one direction."""

import asyncio
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, local, remote, usage
from services.cli.output import Output
from services.cli.progress import bar
from services.cli.push import (
    MappingFile,
    RecordTypeName,
    agrees,
    check_rows,
    own_policies,
    read_mapping_file,
    read_signing_key,
    wrong_use,
)
from services.cli.reports import (
    check_document,
    check_parts,
    reconciliation_document,
    reconciliation_parts,
)

if TYPE_CHECKING:
    from puhui.datashare.v1.records_pb2 import Record
    from puhui_client import BatchAck, Client, PushReport
    from puhui_client.bundles import Bundle, Manifest
    from puhui_client.signing import PublicKey
    from services.cli.rows import Reject, Source
    from services.cli.sending import Journal, Outcome

app = typer.Typer(help="Deliveries as signed files, for one-way networks.", no_args_is_help=True)

INVALID = "BUNDLE_INVALID"
"""Reason, with `--json`, of a bundle that is not what its signature says."""

BundleFile = Annotated[
    Path, typer.Argument(metavar="BUNDLE", exists=True, dir_okay=False, help="The bundle.")
]


@local(app, example="puhui bundle key tax-signing.pem")
def key(
    out: Output,
    path: Annotated[
        Path, typer.Argument(metavar="OUT", dir_okay=False, help="File for the private key.")
    ],
) -> None:
    """Make a signing key: the private key into OUT, the public one beside it as OUT.pub.jwk.

    The operator registers the public key; `openssl genpkey -algorithm ed25519 -out OUT` makes a
    private key, too.
    """
    try:
        from puhui_client.signing import new_key
    except ImportError as error:
        raise usage(str(error)) from None

    made = new_key()
    public = path.with_name(f"{path.name}.pub.jwk")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise usage(f"{path} is there already: name another file") from None
    except OSError as error:
        raise usage(f"{path}: {error.strerror}: name another file") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(made.pem)
    public.write_text(made.public.jwk + "\n", "utf-8")
    out.show(
        {"key_id": made.key_id, "private_key": str(path), "public_key": str(public)},
        output.pairs(
            f"Signing key {made.key_id}",
            [("private, yours alone", str(path)), ("public, for the operator", str(public))],
        ),
    )


@local(
    app,
    example="puhui bundle make invoices.csv --mapping invoices.toml --out may.puhui "
    "--sign-with tax-signing.pem --provider par_01J...",
)
def make(
    out: Output,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="Records, as `puhui push` takes them."
        ),
    ],
    to: Annotated[
        Path, typer.Option("--out", metavar="BUNDLE", dir_okay=False, help="File for the bundle.")
    ],
    sign_with: Annotated[
        Path, typer.Option("--sign-with", metavar="KEY", help="Private key, PEM or JWK.")
    ],
    provider: Annotated[
        str,
        typer.Option(
            "--provider", metavar="PARTICIPANT", help="Your id, as `puhui participant whoami` says."
        ),
    ],
    record_type: RecordTypeName = "",
    mapping: MappingFile = None,
    delivery: Annotated[
        str | None, typer.Option("--delivery", help="Names the delivery. Else: a new one.")
    ] = None,
    historical: Annotated[
        bool,
        typer.Option(
            "--historical", help="Back-fill: rows count as known when they were obtained."
        ),
    ] = False,
) -> None:
    """Make a bundle of a file of records, without a connection to anything.

    All rows are checked first, by the catalogue of this version of puhui. Those that fail stay out
    of the bundle and are written beside the file, to be mended; it exits with 1 then.
    """
    from puhui_client.bundles import BundleError, make_bundle
    from services.cli.rows import open_source
    from services.cli.sending import write_rejects

    with wrong_use():
        signer = read_signing_key(sign_with)
        if signer is None:
            raise usage("a bundle is signed: name the key by --sign-with")
        source = open_source(file, record_type, read_mapping_file(mapping))
        policies = asyncio.run(own_policies())
        report = check_rows(source, policies)
        if report.bad and not out.as_json:
            out.show({}, *check_parts(source, report))
        if not report.good:
            raise usage("no row can be sent: mend them first")
        with bar("Making the bundle", source.size, unit=source.unit) as advance:
            try:
                manifest = make_bundle(
                    to,
                    _good(source, report.bad, advance),
                    provider_id=provider,
                    delivery_id=delivery or f"bundle-{secrets.token_hex(8)}",
                    key=signer,
                    control_fields={p.record_type: p.control_field for p in policies},
                    made_at=datetime.now(UTC),
                    historical=historical,
                )
            except BundleError as error:
                raise usage(str(error)) from None
        written = None
        if report.bad:
            target = file.with_name(f"{file.stem}.rejects{source.suffix}")
            written = write_rejects(source, report.bad, target, file)
    document = {
        "bundle": str(to),
        **_summary(manifest),
        "not_in": len(report.bad),
        "rejects_file": None if written is None else str(written),
        "check": check_document(source, report),
    }
    missing = [("rows that are not in it are in", str(written or ""))]
    out.show(document, *_parts(f"Bundle {to}", manifest, missing))
    if report.bad:
        raise typer.Exit(REFUSED)


def _good(source: "Source", bad: dict[int, "Reject"], advance: Any) -> "Iterator[Record]":
    for row in source.rows():
        advance(row.size)
        if row.number not in bad:
            yield row.record


@local(app, example="puhui bundle verify may.puhui --public-key tax-signing.pem.pub.jwk")
def verify(
    out: Output,
    path: BundleFile,
    key_file: Annotated[
        Path,
        typer.Option(
            "--public-key",
            metavar="PUBLIC",
            exists=True,
            dir_okay=False,
            help="The provider's public key, PEM or JWK, received on another way than the bundle.",
        ),
    ],
) -> None:
    """Check that a bundle is whole and as its provider signed it. It exits with 1 if not."""
    public = _public_key(key_file)
    with _told_if_invalid(out), _opened(path) as bundle:
        _verify(bundle, public)
        manifest = bundle.manifest
    out.show(
        {"bundle": str(path), "valid": True, **_summary(manifest)},
        *_parts(f"{path} is as the key signed it", manifest),
    )


@remote(app, example="puhui bundle import may.puhui --key-file tax.key", name="import")
async def import_bundle(
    session: Session,
    path: BundleFile,
    key: Annotated[
        Path | None,
        typer.Option(
            "--public-key",
            metavar="PUBLIC",
            exists=True,
            dir_okay=False,
            help="The provider's public key. Else: the one that is registered with the platform.",
        ),
    ] = None,
) -> None:
    """Push a bundle, as its provider signed it, with the provider's API key.

    All of it is checked before the first row leaves. An import that broke off goes on by itself
    when it is run again. It exits as `puhui push` does.
    """
    from services.cli.locks import locked
    from services.cli.sending import Journal, fingerprint

    with wrong_use(), locked(path), _told_if_invalid(session.out), _opened(path) as bundle:
        manifest = bundle.manifest
        async with session.client() as client:
            whoami = await client.whoami()
            if whoami.participant_id != manifest.provider_id:
                raise usage(
                    f"the bundle is of {manifest.provider_id}, the API key of "
                    f"{whoami.participant_id}: name the provider's"
                )
            public = await _registered(client, manifest) if key is None else _public_key(key)
            _verify(bundle, public)
            journal = Journal.open(path, fingerprint(path), manifest.delivery_id)
            report = await _push(client, bundle, journal)
        written = _write_rejects(path, journal.outcome)
        journal.remove()
    _show(session, report, journal.outcome, written)
    if journal.outcome.rejects or not agrees(report):
        raise typer.Exit(REFUSED)


async def _registered(client: "Client", manifest: "Manifest") -> "PublicKey":
    from puhui_client.signing import PublicKey

    async for key in client.signing_keys(manifest.provider_id):
        if key.key_id == manifest.key_id and not key.HasField("revoked_at"):
            return PublicKey.parse(key.public_jwk)
    raise usage(
        f"the platform knows no valid key {manifest.key_id} of {manifest.provider_id}: the "
        "operator registers it; or name it by --public-key"
    )


async def _push(client: "Client", bundle: "Bundle", journal: "Journal") -> "PushReport":
    manifest = bundle.manifest

    def acked(ack: "BatchAck") -> None:
        advance(ack.rows)
        journal.add(
            {
                "sequence": ack.sequence,
                "rejected": [
                    [r.row + 1, r.record_id, r.reason, r.field, r.message] for r in ack.rejections
                ],
                "held": [[h.row + 1, h.record_id, h.review_id] for h in ack.held],
            }
        )

    with bar("Pushing", manifest.rows) as advance:
        return await client.push(
            bundle.batches(),
            delivery_id=manifest.delivery_id,
            historical=manifest.historical,
            # Rows cannot be asked for again without the provider's private key. The ack of the last
            # batch comes again by itself, so no more than one may be on its way.
            window=1,
            keep_rejections=0,
            on_ack=acked,
            totals=manifest.totals,
            acked_through=journal.outcome.last_ack,
        )


def _write_rejects(path: Path, outcome: "Outcome") -> Path | None:
    if not outcome.rejects:
        return None
    from services.cli.sending import free_name

    target = free_name(path.with_name(f"{path.stem}.rejects.jsonl"))
    part = target.with_name(f"{target.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file, _opened(path) as bundle:
        for line in _rejected(bundle, outcome.rejects):
            file.write(line)
    shutil.copymode(path, part)
    part.rename(target)
    return target


def _rejected(bundle: "Bundle", rejects: dict[int, "Reject"]) -> Iterator[str]:
    from google.protobuf.json_format import MessageToDict

    from services.cli.tables import ADDED

    number = 0
    for batch in bundle.batches():
        for record in batch.records:
            number += 1
            if (reject := rejects.get(number)) is not None:
                values = (number, reject.reason, reject.field, reject.problem)
                content = MessageToDict(record, preserving_proto_field_name=True)
                content |= dict(zip(ADDED, values, strict=True))
                yield json.dumps(content, ensure_ascii=False) + "\n"


def _show(session: Session, report: "PushReport", outcome: "Outcome", written: Path | None) -> None:
    rejected = dict(sorted(outcome.refused.items()))
    session.out.show(
        {
            "delivery_id": report.delivery_id,
            "skipped": report.skipped,
            "sent": report.sent,
            "accepted": report.accepted,
            "duplicate": report.duplicate,
            "rejected": rejected,
            "held": len(outcome.reviews),
            "rejects_file": None if written is None else str(written),
            "reconciliation": reconciliation_document(report.reconciliation),
        },
        output.pairs(
            f"Delivery {report.delivery_id}",
            [
                ("delivered before", f"{report.skipped:,}" if report.skipped else ""),
                ("sent", f"{report.sent:,}"),
                ("accepted", f"{report.accepted:,}"),
                ("duplicate", f"{report.duplicate:,}"),
                *((f"rejected {name}", f"{count:,}") for name, count in rejected.items()),
                ("held for a review", f"{len(outcome.reviews):,}" if outcome.reviews else ""),
                ("rows that are not in are in", str(written or "")),
            ],
        ),
        *reconciliation_parts(report.reconciliation),
    )


def _public_key(path: Path) -> "PublicKey":
    try:
        from puhui_client.signing import PublicKey, SigningError
    except ImportError as error:
        raise usage(str(error)) from None
    try:
        return PublicKey.read(path)
    except SigningError as error:
        raise usage(str(error)) from None


def _verify(bundle: "Bundle", public: "PublicKey") -> None:
    with bar("Checking", bundle.manifest.rows) as advance:
        bundle.verify(public, advance)


@contextmanager
def _opened(path: Path) -> "Iterator[Bundle]":
    try:
        from puhui_client.bundles import Bundle
    except ImportError as error:
        raise usage(str(error)) from None
    with Bundle(path) as bundle:
        yield bundle


@contextmanager
def _told_if_invalid(out: Output) -> Iterator[None]:
    try:
        from puhui_client.bundles import BundleError
    except ImportError as error:
        raise usage(str(error)) from None
    try:
        yield
    except BundleError as error:
        out.failed(INVALID, f"NOT VALID: {error}. Get the bundle again from its provider.")
        raise typer.Exit(REFUSED) from None


def _summary(manifest: "Manifest") -> dict[str, Any]:
    document = manifest.document()
    document["batches"] = len(manifest.batches)
    return document


def _parts(
    title: str, manifest: "Manifest", more: list[tuple[str, str]] | None = None
) -> Iterator[Any]:
    yield output.pairs(
        title,
        [
            ("provider", manifest.provider_id),
            ("delivery", manifest.delivery_id),
            ("made", f"{manifest.made_at.astimezone():%Y-%m-%d %H:%M:%S}"),
            ("key", manifest.key_id),
            ("historical", "yes" if manifest.historical else ""),
            (
                "rows",
                f"{manifest.rows:,}, in {output.count(len(manifest.batches), 'batch', 'batches')}",
            ),
            *(more or []),
        ],
    )
    yield output.table(
        "Control totals",
        ["type", "month>", "rows>", "sum>"],
        [
            [
                total.record_type,
                str(total.month or "none"),
                f"{total.rows:,}",
                f"{total.sum / 100:,.2f}",
            ]
            for total in manifest.totals.totals
        ],
    )
