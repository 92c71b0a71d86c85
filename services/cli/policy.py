"""`puhui policy`: which role may call what, for which product; tried before a gateway has it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli import output
from services.cli.command import REFUSED, local, usage
from services.cli.output import Output

if TYPE_CHECKING:
    from services.gateway.policy.domain import Outcome, Policy

app = typer.Typer(help="Who may call what, for which product.", no_args_is_help=True)


@local(app, example="puhui policy test policy.toml")
def test(
    out: Output,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Policy, TOML.")
    ],
) -> None:
    """Try the cases of a policy file; 1 if the file is wrong or one does not come out."""
    from services.gateway.policy.file import read

    with _refused(out):
        policy = read(file, _access())
    outcomes = policy.outcomes()
    failed = [outcome for outcome in outcomes if not outcome.passed]
    uncovered = policy.uncovered()
    out.show(
        {
            "file": str(file),
            "passed": not failed,
            "cases": [_outcome(outcome) for outcome in outcomes],
            "uncovered_rules": [
                {"rule": rule.number, "product": rule.product, "roles": list(rule.roles)}
                for rule in uncovered
            ],
        },
        output.table(
            f"{output.count(len(outcomes), 'case')}, {len(failed)} failed",
            ["case>", "role", "method", "holds", "asks for", "expects", "gets", ""],
            [_row(outcome) for outcome in outcomes],
        ),
        *(
            [
                output.table(
                    "Rules that no case covers",
                    ["rule>", "product", "roles"],
                    [[str(rule.number), rule.product, ", ".join(rule.roles)] for rule in uncovered],
                )
            ]
            if uncovered
            else []
        ),
    )
    if failed:
        raise typer.Exit(REFUSED)


@local(app, example="puhui policy show --role BANK")
def show(
    out: Output,
    role: Annotated[str, typer.Option("--role", help="Only of this role, e.g. BANK.")] = "",
    method: Annotated[
        str,
        typer.Option("--method", help="Only methods whose name has this, e.g. ScoringService/."),
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="TOML", help="Policy; else the one of the package."),
    ] = None,
) -> None:
    """Show who may call what, and what a call can be part of; the first product is preferred."""
    from services.gateway.policy.file import DEFAULT, load

    with _refused(out):
        policy = load(file or DEFAULT, _access())
    roles = sorted(frozenset().union(*policy.access.values()))
    if role and role not in roles:
        raise usage(f"unknown role {role}: one of {', '.join(roles)}")
    places = [
        (who, called, tuple(place.product for place in policy.places(who, called)))
        for called in policy.access
        for who in sorted(policy.access[called])
        if role in ("", who) and method in called
    ]
    out.show(
        {
            "methods": [
                {"role": who, "method": called, "products": list(products)}
                for who, called, products in places
            ],
            "products": {
                product.code: {"zh": product.zh, "en": product.en, "licensed": product.licensed}
                for product in policy.products.values()
            },
            "limits": {who: _bounds(policy, who) for who in roles if role in ("", who)},
        },
        output.table(
            output.count(len(places), "permission"),
            ["method", "role", "products"],
            [[called, who, ", ".join(products) or "denied"] for who, called, products in places],
        ),
        output.table(
            "Limits",
            ["role", *(f"{name}>" for name in _bounds(policy, roles[0]))],
            [
                [who, *(f"{value:g}" for value in _bounds(policy, who).values())]
                for who in roles
                if role in ("", who)
            ],
        ),
    )


def _access() -> dict[str, frozenset[str]]:
    from services.gateway.routes import access

    return access()


@contextmanager
def _refused(out: Output) -> Iterator[None]:
    from services.kit.config import ConfigError

    try:
        yield
    except ConfigError as error:
        out.failed("POLICY_REFUSED", "\n".join(error.problems))
        raise typer.Exit(REFUSED) from None


def _outcome(outcome: "Outcome") -> dict[str, Any]:
    question = outcome.case.question
    return {
        "case": outcome.case.number,
        "role": question.role,
        "method": question.method,
        "products": list(question.held),
        "asked": question.asked,
        "expected": outcome.case.expect,
        "found": outcome.found,
        "rule": outcome.rule,
        "passed": outcome.passed,
    }


def _row(outcome: "Outcome") -> list[str]:
    question = outcome.case.question
    return [
        str(outcome.case.number),
        question.role,
        question.method,
        ", ".join(question.held),
        question.asked,
        outcome.case.expect,
        outcome.found,
        "ok" if outcome.passed else "FAILED",
    ]


def _bounds(policy: "Policy", role: str) -> dict[str, float]:
    import dataclasses

    return dataclasses.asdict(policy.bounds(role, ""))
