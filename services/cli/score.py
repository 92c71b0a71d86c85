"""`puhui score`: one firm, or a portfolio."""

import csv
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from services.cli import output
from services.cli.command import (
    FileReference,
    Officer,
    Session,
    remote,
    require_officer,
    usage,
)
from services.cli.dispute import disputes_cell, marks_of, marks_table
from services.cli.inputs import NOT_UTF8, is_uscc, lower, parse_moment, subject_id_of
from services.cli.progress import bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from puhui.datashare.v1.summaries_pb2 import Coverage
    from puhui.scoring.v1.scoring_pb2 import (
        Decision,
        DeclaredFeature,
        LinkedAccess,
        Reason,
        Referral,
        ScoreOrder,
    )
    from puhui_client import Client, ScoreResult
    from puhui_client.bank import Relation, Said

_COLUMNS = frozenset(
    {"subject_id", "consent_id", "purpose", "as_of", "model_version", "request_id"}
    | {"officer", "file_reference", "linked", "product", "declared"}
)
_RELATIONS: "Final[Mapping[str, Relation]]" = {
    "owner": "OWNER",
    "guarantor": "GUARANTOR",
    "buyer": "BUYER",
}
_REASONS = 6
_PURPOSE: Final = "credit_application"


def register(app: typer.Typer) -> None:
    """Add the command to the main group."""
    remote(app, example="puhui score sub_1 --consent con_1 --officer Wang --file-ref A-17")(score)


async def score(
    session: Session,
    subject: Annotated[
        str | None, typer.Argument(help="The firm: subject id or registration number.")
    ] = None,
    consent: Annotated[
        str, typer.Option("--consent", metavar="CONSENT", help="Consent it is scored under.")
    ] = "",
    batch: Annotated[
        Path | None,
        typer.Option(
            "--batch",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A portfolio instead: CSV with a header, or JSON lines. Columns: subject_id, "
            "consent_id, and if need be purpose, as_of, model_version, officer, file_reference, "
            "request_id, product, linked and declared (as the options, several with spaces "
            "between).",
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
            help="What you yourself say of the firm, as the product names it; repeat. Shown to "
            "nobody but you, the firm and who supervises.",
        ),
    ] = None,
    purpose: Annotated[
        str | None,
        typer.Option(
            "--purpose",
            help="See `puhui catalogue list`; the consent's. The product's, else "
            "credit_application.",
        ),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(
            "--as-of",
            parser=parse_moment,
            metavar="TIME",
            help="Data known by then; now. Consent is always checked now.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="VERSION", help="Else the model in service.")
    ] = "",
    officer: Officer = "",
    file_reference: FileReference = "",
    automated_decision: Annotated[
        bool,
        typer.Option(
            "--automated-decision",
            help="A machine alone will decide on the credit; the consent must allow it.",
        ),
    ] = False,
    linked: Annotated[
        list[str] | None,
        typer.Option(
            "--linked",
            metavar="RELATION:SUBJECT:CONSENT",
            help="An owner, guarantor or buyer whose data is to enter, under its own consent of "
            "the purpose related_party for this firm; repeat. E.g. guarantor:sub_2:con_2.",
        ),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option("--request-id", help="Sent again, the same id gives the same decision."),
    ] = None,
) -> None:
    """Score a firm under its consent: probability of default, points, grade and reasons."""
    if (subject is None) == (batch is None):
        raise usage("name a subject, or give --batch FILE")
    chosen: dict[str, Any] = {
        "as_of": as_of,
        "model_version": model,
        "automated_decision": automated_decision,
        "officer": officer,
        "file_reference": file_reference,
    }
    if batch is not None:
        for option, given in (("linked", linked), ("declared", declared)):
            if given:
                raise usage(
                    f"in a portfolio each row names its own: put --{option} into a column "
                    f"`{option}`"
                )
        rows = list(_read_orders(batch, chosen | {"product": product}))
        async with session.client() as client:
            orders = await _orders(client, rows, purpose)
            await _portfolio(session, client, orders)
        return
    require_officer(officer, file_reference)
    beside = [linked_of(each) for each in linked or []]
    said = dict(declared_of(each) for each in declared or [])
    for named in (subject or "", *(other for _, other, _ in beside)):
        is_uscc(named)
    async with session.client() as client:
        decision = await client.score(
            await subject_id_of(client, subject or ""),
            consent,
            product=product,
            declared=said,
            purpose=purpose or await purpose_of(client, product),
            linked=[
                (relation, await subject_id_of(client, other), theirs)
                for relation, other, theirs in beside
            ],
            request_id=request_id,
            **chosen,
        )
    session.out.show({"decision": output.plain(decision)}, *decision_parts(decision))


async def purpose_of(client: "Client", product: str) -> str:
    """Return the purpose of what names none: the product's."""
    if not product:
        return _PURPOSE
    return (await client.get_score_product(product)).product.purpose


def declared_of(text: str) -> "tuple[str, Said]":
    """Return name and value of what is declared: a number where it is one."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise usage(f"{name or 'that'} is not NAME=VALUE: write e.g. requested_amount=500000")
    try:
        number = float(value)
    except ValueError:
        return name, value
    return name, number


def linked_of(text: str) -> "tuple[Relation, str, str]":
    """Return relation, subject and consent of a linked subject."""
    relation, subject, consent = (*text.split(":"), "", "")[:3]
    if relation not in _RELATIONS or not (subject and consent) or text.count(":") > 2:
        raise usage(
            f"{text} is no linked subject: write owner, guarantor or buyer, the firm and its "
            "consent, e.g. guarantor:sub_2:con_2"
        )
    return _RELATIONS[relation], subject, consent


def decision_parts(decision: "Decision") -> "Iterator[RenderableType]":
    """Tell a decision to people."""
    from rich.text import Text

    from puhui.scoring.v1.scoring_pb2 import ModelClass

    model_class = lower(ModelClass.Name(decision.model.model_class), "MODEL_CLASS_")
    yield output.pairs(
        f"Score {decision.score}   Grade {decision.grade}   PD {pd_cell(decision)}",
        [
            *((("PD within", _interval(decision)),) if decision.HasField("interval") else ()),
            ("decision", decision.decision_id),
            ("subject", decision.subject_id),
            ("consent", decision.consent_id),
            ("access", decision.access_id),
            ("data known by", output.moment(decision.as_of)),
            ("model", f"{decision.model.version} ({model_class})"),
            *((("product", decision.product),) if decision.product else ()),
            *((("declared", _told(decision.declared)),) if decision.declared else ()),
            ("data", _states(decision.coverage)),
        ],
    )
    if decision.HasField("referral"):
        yield referral_part(decision.referral)
    yield output.table(
        "Reasons 原因",
        ["points>", ""],
        [[f"{reason.points:+.1f}", _reason(reason)] for reason in decision.reasons[:_REASONS]],
    )
    if decision.points:
        yield output.table(
            f"Points: {decision.base} + groups = {decision.score}",
            ["group", "points>"],
            [[f"{each.title_zh} {each.title_en}", f"{each.points:+d}"] for each in decision.points],
        )
    if decision.linked:
        yield _linked_table(decision.linked)
    if marks := marks_of(decision):
        yield marks_table(marks)
    for notice in decision.notices:
        yield Text(f"{notice.text_zh} {notice.text_en}", style="yellow")


def referral_part(referral: "Referral") -> "RenderableType":
    """Tell people that one of them decides."""
    from rich.text import Text

    since = f" ({output.moment(referral.since)})" if referral.HasField("since") else ""
    words = f"{referral.text_zh} {referral.text_en}"
    return Text.assemble((f"{referral.code}{since}  ", "bold yellow"), (words, "yellow"))


def pd_cell(decision: "Decision") -> str:
    """Return a decision's PD; a model built by judgement claims none."""
    return f"{decision.pd:.2%}" if decision.HasField("pd") else "-"


def _interval(decision: "Decision") -> str:
    within = decision.interval
    return f"{within.low:.2%} to {within.high:.2%} ({within.method})"


def _reason(reason: "Reason") -> str:
    improve = f"{reason.improve_zh} {reason.improve_en}".strip()
    text = f"{reason.text_zh}\n{reason.text_en}"
    return f"{text}\n> {improve}" if improve else text


def _told(declared: "Sequence[DeclaredFeature]") -> str:
    return "\n".join(
        f"{each.name} = {each.category if each.HasField('category') else f'{each.number:g}'}"
        for each in declared
    )


def _linked_table(linked: "Sequence[LinkedAccess]") -> "RenderableType":
    from puhui.scoring.v1.scoring_pb2 import SubjectRelation

    return output.table(
        "Linked 关联方",
        ["relation", "subject", "PD>", "data", "consent", "access"],
        [
            [
                lower(SubjectRelation.Name(each.relation), "SUBJECT_RELATION_"),
                each.subject_id,
                f"{each.pd:.2%}" if each.HasField("pd") else "",
                _states(each.coverage),
                each.consent_id,
                each.access_id,
            ]
            for each in linked
        ],
    )


def _states(coverage: "Sequence[Coverage]") -> str:
    from puhui.datashare.v1.summaries_pb2 import CoverageState

    types: dict[str, list[str]] = {}
    for each in coverage:
        types.setdefault(CoverageState.Name(each.state), []).append(each.record_type)
    return "\n".join(
        f"{lower(state, 'COVERAGE_STATE_')}: {', '.join(names)}".replace("_", " ")
        for state, names in sorted(types.items(), reverse=True)
    )


async def _portfolio(session: Session, client: "Client", orders: "list[ScoreOrder]") -> None:
    results: list[ScoreResult] = []
    with bar("Scoring", len(orders)) as advance:
        async for result in client.batch_score(orders):
            results.append(result)
            advance(1)
    results.sort(key=lambda result: result.index)
    scored = sum(result.decision is not None for result in results)
    referred = sum(result.referral is not None for result in results)
    refused = len(results) - scored - referred
    told = f"{scored} scored, {refused} refused" + (f", {referred} referred" if referred else "")
    session.out.show(
        {
            "scored": scored,
            "refused": refused,
            "referred": referred,
            "results": [_result_document(result) for result in results],
        },
        output.table(
            told,
            [
                "subject",
                "consent",
                "score>",
                "grade",
                "PD>",
                "in dispute",
                "refer",
                "decision or reason",
            ],
            [_result_row(result) for result in results],
        ),
    )


def _result_document(result: "ScoreResult") -> dict[str, Any]:
    document: dict[str, Any] = {"index": result.index, "subject_id": result.order.subject_id}
    if result.decision is not None:
        document["decision"] = output.plain(result.decision)
    if result.error is not None:
        document["error"] = output.error_document(result.error)
    if result.referral is not None:
        document["referral"] = output.plain(result.referral)
    return document


def _result_row(result: "ScoreResult") -> list[str]:
    order, decision = result.order, result.decision
    if decision is None:
        reason = result.error.reason if result.error else ""
        referral = result.referral.code if result.referral else ""
        return [order.subject_id, order.consent_id, "", "", "", "", referral, reason]
    return [
        order.subject_id,
        order.consent_id,
        str(decision.score),
        decision.grade,
        pd_cell(decision),
        disputes_cell(decision),
        decision.referral.code,
        decision.decision_id,
    ]


async def _orders(
    client: "Client", rows: Sequence[dict[str, Any]], purpose: str | None
) -> "list[ScoreOrder]":
    """Return orders, of the purposes of their products where they name none."""
    from puhui_client import score_order

    codes = {row["product"] for row in rows if not (row.get("purpose") or purpose)}
    purposes = {code: await purpose_of(client, code) for code in sorted(codes)}
    return [
        score_order(**{"purpose": purpose or purposes.get(row["product"], _PURPOSE), **row})
        for row in rows
    ]


def _read_orders(path: Path, chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, row in _rows(path):
        unknown = set(row) - _COLUMNS
        if unknown:
            raise usage(f"{path}, line {number}: unknown column {min(unknown)}")
        given = {name: value for name, value in row.items() if value}
        wrong = sorted(name for name, value in given.items() if not isinstance(value, str))
        if wrong:
            raise usage(f"{path}, line {number}: {wrong[0]} is not a text: put it in quotes")
        if "subject_id" not in given:
            raise usage(f"{path}, line {number}: subject_id is missing")
        try:
            if "as_of" in given:
                given["as_of"] = parse_moment(given["as_of"])
        except ValueError as error:
            raise usage(f"{path}, line {number}: as_of: {error}") from None
        try:
            if "linked" in given:
                given["linked"] = [linked_of(each) for each in given["linked"].split()]
            if "declared" in given:
                given["declared"] = dict(declared_of(each) for each in given["declared"].split())
        except typer.BadParameter as error:
            raise usage(f"{path}, line {number}: {error.message}") from None
        order = chosen | {"request_id": uuid.uuid4().hex} | given
        require_officer(order["officer"], order["file_reference"], f"{path}, line {number}: ")
        yield order


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        yield from _rows_of(path)
    except UnicodeDecodeError:
        raise usage(f"{path} {NOT_UTF8}") from None
    except csv.Error as error:
        raise usage(f"{path} is not CSV: {error}") from None


def _rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            rows = csv.DictReader(file)
            for row in rows:
                if None in row:
                    raise usage(f"{path}, line {rows.line_num}: more cells than the header has")
                yield rows.line_num, row
            return
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                order = json.loads(line)
            except (ValueError, RecursionError):
                raise usage(f"{path}, line {number}: not JSON") from None
            if not isinstance(order, dict):
                raise usage(f"{path}, line {number}: not a JSON object")
            yield number, order
