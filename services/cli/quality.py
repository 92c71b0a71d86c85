"""`puhui quality`: how good what providers supply is, and where sources contradict each other."""

from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli import output
from services.cli.command import Session, remote, usage
from services.cli.inputs import Limit, parse_day, take

if TYPE_CHECKING:
    from puhui.datashare.v1.quality_pb2 import Finding, TypeQuality

app = typer.Typer(
    help="Quality of what is supplied, and contradictions between sources.", no_args_is_help=True
)

_PERCENT = 100
_OTHERS_NAMED = 3

Provider = Annotated[
    str,
    typer.Option("--provider", metavar="PARTICIPANT", help="Whose; else all that you may see."),
]


@remote(app, example="puhui quality report --from 2024-05-01 --to 2024-05-31", name="report")
async def report(
    session: Session,
    provider: Provider = "",
    first: Annotated[
        date | None,
        typer.Option(
            "--from", parser=parse_day, metavar="DAY", help="First day of arrival; else 30 days."
        ),
    ] = None,
    last: Annotated[
        date | None,
        typer.Option("--to", parser=parse_day, metavar="DAY", help="Last day; else today."),
    ] = None,
) -> None:
    """Show volume, lateness, rejects, missing fields, freshness and findings, by type.

    A provider sees itself; the operator and the regulator see everybody.
    """
    if first is not None and last is not None and last < first:
        raise usage("--to is before --from: exchange the two")
    async with session.client() as client:
        found = await client.quality_report(provider, first=first, last=last)
    until = output.moment(found.inspected_until)
    session.out.show(
        output.plain(found),
        output.table(
            f"Records that came in from {output.day(getattr(found, 'from'))} to "
            f"{output.day(found.to)}",
            [
                "type",
                "provider",
                "received>",
                "accepted>",
                "duplicate>",
                "held>",
                "rejected>",
                "corrected>",
                "retracted>",
                "late p50>",
                "p95>",
                "last arrival",
                "month",
                "findings>",
            ],
            [_cells(item) for item in found.types],
        ),
        output.table(
            "Rejected rows",
            ["type", "provider", "reason", "rows>"],
            [
                [_type(item), item.provider_id, reject.reason, f"{reject.rows:,}"]
                for item in found.types
                for reject in item.rejects
            ],
        ),
        output.table(
            "Fields left out",
            ["type", "provider", "field", "missing>", "of>", "%>"],
            [cells for item in found.types for cells in _missing(item)],
        ),
    )
    if not session.out.as_json:
        session.out.note(
            "lateness is in days; lateness, corrections, missing fields and findings are of what "
            + (f"came in until {until}" if until else "was looked at: the past is not yet")
        )


@remote(app, example="puhui quality findings --rule sales_gap", name="findings")
async def findings(
    session: Session,
    rule: Annotated[
        str, typer.Option("--rule", help="Only of this rule; docs/findings.md explains them.")
    ] = "",
    subject: Annotated[
        str, typer.Option("--subject", metavar="SUBJECT", help="Only with this subject id.")
    ] = "",
    provider: Provider = "",
    cleared: Annotated[
        bool, typer.Option("--cleared", help="Those that no longer hold, too.")
    ] = False,
    limit: Limit = 100,
) -> None:
    """List contradictions between sources, newest first. They reject nothing.

    A provider sees those in which its records take part.
    """
    async with session.client() as client:
        found = await take(
            client.findings(rule=rule, subject_id=subject, provider_id=provider, cleared=cleared),
            limit,
            session.out,
        )
    session.out.show(
        {"findings": [output.plain(item) for item in found]},
        output.table(
            output.count(len(found), "finding"),
            ["finding", "rule", "subjects", "months", "figures", "providers", "found", "cleared"],
            [
                [
                    item.finding_id,
                    item.rule,
                    _subjects(item),
                    _months(item),
                    "\n".join(_figure(*figure) for figure in sorted(item.figures.items())),
                    ", ".join(item.provider_ids),
                    output.moment(item.found_at),
                    output.moment(item.cleared_at),
                ]
                for item in found
            ],
        ),
    )


def _figure(name: str, value: int) -> str:
    """A figure in the unit that people read; programs have it in the one of its name."""
    if name.endswith("_fen"):
        return f"{name.removesuffix('_fen')} {value / 100:,.2f} yuan"
    if name.endswith("_ppm"):
        return f"{name.removesuffix('_ppm')} {value / 10_000:,.1f} %"
    return f"{name} {value:,}"


def _cells(item: "TypeQuality") -> list[str]:
    rejected = sum(reject.rows for reject in item.rejects)
    late = (
        [f"{item.lateness_p50_days:g}", f"{item.lateness_p95_days:g}"]
        if item.HasField("lateness_p50_days")
        else ["", ""]
    )
    counts = (
        item.received,
        item.accepted,
        item.duplicates,
        item.held,
        rejected,
        item.corrections,
        item.retractions,
    )
    return [
        _type(item),
        item.provider_id,
        *(f"{count:,}" for count in counts),
        *late,
        output.moment(item.last_arrival),
        _month(item.last_month),
        f"{sum(finding.findings for finding in item.findings):,}",
    ]


def _missing(item: "TypeQuality") -> Iterator[list[str]]:
    for field in item.missing:
        if field.missing:
            share = f"{_PERCENT * field.missing / field.records:.1f}"
            counts = (f"{field.missing:,}", f"{field.records:,}")
            yield [_type(item), item.provider_id, field.field, *counts, share]


def _type(item: "TypeQuality") -> str:
    return item.record_type or "(no type)"


def _subjects(item: "Finding") -> str:
    others = list(item.other_subject_ids[:_OTHERS_NAMED])
    more = len(item.other_subject_ids) - len(others)
    return " ".join([item.subject_id, *others, *([f"and {more} more"] if more else [])])


def _months(item: "Finding") -> str:
    ends = dict.fromkeys((_month(item.first_month), _month(item.last_month)))
    return " to ".join(ends)


def _month(number: int) -> str:
    return f"{number // 100}-{number % 100:02}" if number else ""
