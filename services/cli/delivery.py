"""`puhui reconcile` and `puhui delivery`: whether both ends counted the same, and the proof."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.command import REFUSED, Session, local, remote, usage
from services.cli.inputs import CHINA, parse_day
from services.cli.output import Output

if TYPE_CHECKING:
    from datetime import date

    from puhui.datashare.v1.records_pb2 import Reconciliation
    from puhui_client import Client

app = typer.Typer(help="What became of deliveries, and what proves it.", no_args_is_help=True)

_FEN_OF_A_YUAN = 100
# The lines before those of the records: what it is, delivery_id, sequence.
_HEAD = 3

DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="Id of the delivery.")]
Provider = Annotated[
    str, typer.Option("--provider", metavar="PARTICIPANT", help="Whose; else one's own.")
]


def register(group: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(group, example="puhui reconcile --day 2026-11-22")(reconcile)


async def reconcile(
    session: Session,
    day: Annotated[
        str, typer.Option("--day", metavar="DAY", help="Of China Standard Time; else today.")
    ] = "",
    provider: Annotated[
        str, typer.Option("--provider", metavar="PARTICIPANT", help="Only of this provider.")
    ] = "",
) -> None:
    """Show a day's deliveries as counted by sender and platform, those that differ first.

    A day has the deliveries that were opened or closed on it, or are open still. It exits with 1
    when a delivery does not agree, or is open although the day is over.
    """
    try:
        asked = parse_day(day) if day else None
    except ValueError as error:
        raise usage(f"--day is {error}") from None
    async with session.client() as client:
        found = [each async for each in client.reconciliations(day=asked, provider_id=provider)]
    over = asked is not None and asked < _today()
    wrong = [each for each in found if _state(each) == "differs" or (over and _open(each))]
    session.out.show(
        {
            "day": (asked or _today()).isoformat(),
            "agrees": not wrong,
            "reconciliations": [_document(each) for each in found],
        },
        output.table(
            f"{output.count(len(found), 'delivery', 'deliveries')} of {asked or _today()}",
            [
                "delivery",
                "provider",
                "state",
                "sent>",
                "received>",
                "accepted>",
                "duplicate>",
                "held>",
                "rejected>",
            ],
            [
                [
                    each.delivery_id,
                    each.provider_id,
                    _state(each),
                    "" if _open(each) else f"{each.rows_sent:,}",
                    f"{each.rows_received:,}",
                    f"{each.accepted:,}",
                    f"{each.duplicates:,}",
                    f"{each.held:,}",
                    f"{each.rejected:,}",
                ]
                for each in found
            ],
        ),
        *_differences(found),
    )
    if wrong:
        raise typer.Exit(REFUSED)


@remote(app, example="puhui delivery show push-1f0c --provider par_1")
async def show(session: Session, delivery_id: DeliveryId, provider: Provider = "") -> None:
    """Show one delivery with every total. It exits with 1 when it was closed and differs."""
    async with session.client() as client:
        whose = provider or await _self(client)
        found = await client.reconciliation(whose, delivery_id)
    session.out.show(
        {"reconciliation": _document(found)},
        output.pairs(
            f"Delivery {found.delivery_id}",
            [
                ("provider", found.provider_id),
                ("state", _state(found)),
                ("opened", output.moment(found.opened_at)),
                ("closed", output.moment(found.closed_at)),
                ("sent", "" if _open(found) else f"{found.rows_sent:,}"),
                ("received", f"{found.rows_received:,}"),
                ("accepted", f"{found.accepted:,}"),
                ("duplicate", f"{found.duplicates:,}"),
                ("held", f"{found.held:,}"),
                ("rejected", f"{found.rejected:,}"),
            ],
        ),
        _totals("Totals of both ends", [found], lambda _: True),
    )
    if _state(found) == "differs":
        raise typer.Exit(REFUSED)


@remote(app, example="puhui delivery evidence push-1f0c --sequence 1 --out batch-1.json")
async def evidence(
    session: Session,
    delivery_id: DeliveryId,
    sequence: Annotated[
        int,
        typer.Option(
            "--sequence",
            min=0,
            help="Of the batch. 0 is a single submission; its DELIVERY is SHA-256 of what it "
            "signed.",
        ),
    ],
    provider: Provider = "",
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The provider's key, PEM or JWK, as it gave it; else as the platform has it.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the evidence there, for `prove`."),
    ] = None,
) -> None:
    """Fetch the signature of a batch and what it covers, and check it here."""
    from puhui_client.signing import PublicKey, key_id_of

    async with session.client() as client:
        whose = provider or await _self(client)
        found = await client.evidence(whose, delivery_id, sequence)
        if public_key is None:
            named = key_id_of(found.jws)
            keys = [key async for key in client.signing_keys(whose) if key.key_id == named]
            if not keys:
                raise usage("the platform lists no such key: name the provider's by --public-key")
            key = PublicKey.parse(keys[0].public_jwk)
        else:
            key = _key(public_key)
    document = {
        "provider_id": whose,
        "delivery_id": delivery_id,
        "sequence": sequence,
        "key_id": key.key_id,
        "jws": found.jws,
        "canonical": found.canonical.decode(),
    }
    problem = _problem(document, key)
    if out is not None and not problem:
        out.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    _show_checked(session.out, document, problem, str(out or ""))


@local(app, example="puhui delivery prove batch-1.json --public-key tax.pem --records rows.jsonl")
def prove(
    out: Output,
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="What `puhui delivery evidence` wrote."),
    ],
    public_key: Annotated[
        Path,
        typer.Option(
            "--public-key",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The provider's key, PEM or JWK, as it gave it.",
        ),
    ],
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="JSON lines: Record in the protocol's JSON form, as they were sent.",
        ),
    ] = None,
) -> None:
    """Check a signature, and which records it covers, without the platform.

    It exits with 0 when the signature is the provider's and covers every record that was named.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        canonical = document["canonical"].split("\n")
        named = {name: document[name] for name in ("jws", "delivery_id", "sequence")}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise usage(f"{file} is no evidence: write it by `puhui delivery evidence --out`") from None
    problem = _problem({**document, **named}, _key(public_key))
    digests = {digest: row for row, digest in enumerate(canonical[_HEAD:-1])}
    rows = [] if records is None else list(_rows(records, digests))
    missing = [row for row in rows if row["row"] is None]
    if not problem and missing:
        problem = f"{output.count(len(missing), 'record')} not covered by the signature"
    _show_checked(out, {**document, "records": rows}, problem, "")


def _rows(file: Path, digests: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Give each record of a file its place in the batch, None where it is not in it."""
    from google.protobuf.json_format import Parse, ParseError

    from puhui.datashare.v1.records_pb2 import Record

    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = Parse(line, Record())
            except ParseError as error:
                raise usage(f"{file}, line {number} is no record: {error}") from None
            digest = hashlib.sha256(record.SerializeToString(deterministic=True)).hexdigest()
            yield {
                "line": number,
                "record_id": record.provider_record_id,
                "sha256": digest,
                "row": digests.get(digest),
            }


def _key(file: Path) -> Any:
    from puhui_client.signing import PublicKey, SigningError

    try:
        return PublicKey.read(file)
    except SigningError as error:
        raise usage(str(error)) from None


def _problem(document: dict[str, Any], key: Any) -> str:
    """Return what is wrong with a signature; empty where it proves the batch."""
    from puhui_client.signing import SigningError

    canonical = str(document["canonical"])
    place = [document["delivery_id"], str(document["sequence"])]
    if document["sequence"] == 0:
        covered = hashlib.sha256(canonical.encode()).hexdigest()
        place = ["", "0"] if covered == document["delivery_id"] else place
    if canonical.split("\n")[1:_HEAD] != place:
        return "what was signed is not of this delivery and sequence"
    try:
        key.verify(document["jws"], canonical.encode())
    except SigningError as error:
        return str(error)
    return ""


def _show_checked(out: Output, document: dict[str, Any], problem: str, written: str) -> None:
    lines = str(document["canonical"]).count("\n") - _HEAD
    parts = [
        output.pairs(
            f"Batch {document['sequence']} of delivery {document['delivery_id']}",
            [
                ("signature", problem or "is the provider's"),
                ("provider", str(document.get("provider_id", ""))),
                ("key", str(document.get("key_id", ""))),
                ("records", f"{lines:,}"),
                ("written to", written),
            ],
        )
    ]
    if document.get("records"):
        parts.append(
            output.table(
                "Records",
                ["line>", "record", "row of the batch>"],
                [
                    [
                        str(row["line"]),
                        row["record_id"],
                        "not in it" if row["row"] is None else str(row["row"]),
                    ]
                    for row in document["records"]
                ],
            )
        )
    out.show({**document, "valid": not problem, "problem": problem}, *parts)
    if problem:
        raise typer.Exit(REFUSED)


async def _self(client: "Client") -> str:
    return (await client.whoami()).participant_id


def _today() -> "date":
    from datetime import datetime

    return datetime.now(CHINA).date()


def _open(found: "Reconciliation") -> bool:
    return not found.agrees and not found.HasField("closed_at")


def _state(found: "Reconciliation") -> str:
    if _open(found):
        return "open"
    return "agrees" if found.agrees else "differs"


def _document(found: "Reconciliation") -> dict[str, Any]:
    return {**output.plain(found), "state": _state(found)}


def _differences(found: "Sequence[Reconciliation]") -> Iterator[Any]:
    differing = [each for each in found if _state(each) == "differs" and each.totals]
    if differing:
        yield _totals("What differs", differing, _differs)


def _differs(total: Any) -> bool:
    return (total.rows_sent, total.sum_sent) != (total.rows_received, total.sum_received)


def _totals(title: str, found: "Sequence[Reconciliation]", shown: Any) -> Any:
    return output.table(
        title,
        [
            "delivery",
            "type",
            "month",
            "rows sent>",
            "received>",
            "yuan sent>",
            "received>",
        ],
        [
            [
                each.delivery_id,
                total.record_type or "(unknown)",
                f"{total.month // 100:04}-{total.month % 100:02}" if total.month else "(none)",
                f"{total.rows_sent:,}",
                f"{total.rows_received:,}",
                _yuan(total.sum_sent),
                _yuan(total.sum_received),
            ]
            for each in found
            for total in each.totals
            if shown(total)
        ],
    )


def _yuan(fen: int) -> str:
    sign = "-" if fen < 0 else ""
    return f"{sign}{abs(fen) // _FEN_OF_A_YUAN:,}.{abs(fen) % _FEN_OF_A_YUAN:02}"
