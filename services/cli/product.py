"""`puhui product`: what a bank asks for when it asks for a score, and what is missing for one."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import FileReference, Officer, Session, remote, require_officer
from services.cli.inputs import lower, subject_id_of, take
from services.cli.score import referral_part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from puhui.datashare.v1.consents_pb2 import ConsentTerms
    from puhui.scoring.v1.products_pb2 import (
        CheckScoreResponse,
        DeclaredInput,
        TypeCheck,
        TypeNeed,
    )

app = typer.Typer(help="Score products: what there are, and what one lacks.", no_args_is_help=True)

Code = Annotated[str, typer.Argument(metavar="PRODUCT", help="Code of the score product.")]
_MOST = 1_000


@remote(app, example="puhui product list", name="list")
async def list_products(session: Session) -> None:
    """List the score products."""
    async with session.client() as client:
        found = await take(client.score_products(), _MOST, session.out)
    session.out.show(
        {"products": [output.plain(product) for product in found]},
        output.table(
            output.count(len(found), "product"),
            ["code", "title", "purpose", "needs", "model"],
            [
                [
                    product.code,
                    f"{product.title_zh}\n{product.title_en}",
                    product.purpose,
                    _needs(product.required),
                    product.model_version or "in service",
                ]
                for product in found
            ],
        ),
    )


@remote(app, example="puhui product show tech_credit")
async def show(session: Session, product: Code) -> None:
    """Show a score product: its types, what a bank may declare, the consent to ask for."""
    async with session.client() as client:
        answer = await client.get_score_product(product)
    found = answer.product
    session.out.show(
        output.plain(answer),
        output.pairs(
            f"{found.code}  {found.title_zh} {found.title_en}",
            [
                ("", f"{found.description_zh}\n{found.description_en}"),
                ("purpose", found.purpose),
                ("model", found.model_version or "in service"),
                ("required", _needs(found.required)),
                ("optional", _needs(found.optional)),
            ],
        ),
        *(
            [
                output.table(
                    "What you may declare",
                    ["name", "", "value", "required"],
                    [
                        [
                            each.name,
                            f"{each.title_zh} {each.title_en}",
                            _kind(each),
                            "yes" if each.required else "",
                        ]
                        for each in found.declared
                    ],
                )
            ]
            if found.declared
            else []
        ),
        *([_terms(answer.terms)] if answer.HasField("terms") else []),
    )


@remote(app, example="puhui product check tech_credit sub_1 --officer Wang --file-ref A-17")
async def check(
    session: Session,
    product: Code,
    subject: Annotated[str, typer.Argument(help="The firm: subject id or registration number.")],
    consent: Annotated[
        str,
        typer.Option(
            "--consent", metavar="CONSENT", help="What it opens is looked for, too; it is not used."
        ),
    ] = "",
    automated_decision: Annotated[
        bool,
        typer.Option("--automated-decision", help="A machine alone will decide on the credit."),
    ] = False,
    officer: Officer = "",
    file_reference: FileReference = "",
) -> None:
    """Find out what is missing for a score, before anyone asks the firm; 1 if something is."""
    require_officer(officer, file_reference)
    async with session.client() as client:
        answer = await client.check_score(
            await subject_id_of(client, subject),
            product,
            consent,
            automated_decision=automated_decision,
            officer=officer,
            file_reference=file_reference,
        )
    session.out.show({"ready": answer.ready, **output.plain(answer)}, *_check_parts(answer))
    if not answer.ready:
        raise typer.Exit(1)


def _check_parts(answer: "CheckScoreResponse") -> "Iterator[RenderableType]":
    yield output.table(
        "A score would be given now" if answer.ready else "No score would be given now",
        ["type", "required", "state", "from", "what would suffice"],
        [_check_row(each) for each in answer.types],
    )
    if answer.HasField("consent_refused"):
        yield f"[red]The consent allows no score: {answer.consent_refused.message}.[/]"
    if answer.HasField("referral"):
        yield referral_part(answer.referral)
    if answer.HasField("terms"):
        yield _terms(answer.terms)


def _check_row(told: "TypeCheck") -> list[str]:
    from puhui.scoring.v1.products_pb2 import TypeState

    state = lower(TypeState.Name(told.state), "TYPE_STATE_").replace("_", " ")
    month = told.first_month
    return [
        told.record_type,
        "yes" if told.required else "",
        state,
        f"{month // 100}-{month % 100:02}" if month else "",
        f"{told.suffices_zh}\n{told.suffices_en}".strip(),
    ]


def _terms(terms: "ConsentTerms") -> "RenderableType":
    return output.pairs(
        "The consent that would do",
        [
            ("purpose", terms.purpose),
            ("types", ", ".join(terms.record_types)),
            ("providers", ", ".join(terms.provider_ids)),
            ("data from", output.day(getattr(terms.data_period, "from"))),
            ("data to", output.day(terms.data_period.to)),
            ("ends", output.instant(terms.expires_at)),
        ],
    )


def _needs(needs: "Sequence[TypeNeed]") -> str:
    return "\n".join(
        each.record_type + (f", {output.count(each.months, 'month')}" if each.months else "")
        for each in needs
    )


def _kind(stated: "DeclaredInput") -> str:
    if stated.HasField("category"):
        return ", ".join(stated.category.categories)
    return f"{stated.number.least:g} to {stated.number.most:g} {stated.unit}"
