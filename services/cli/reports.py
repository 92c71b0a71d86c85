"""What is shown of files: as they would be sent, what was found in them, what became of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli import output
from services.cli.output import Output

if TYPE_CHECKING:
    from puhui.datashare.v1.records_pb2 import Reconciliation, TotalsOfBothEnds
    from puhui_client import PushReport
    from services.cli.checks import CheckReport
    from services.cli.rows import Reject, Source
    from services.cli.sending import Journal

_SHOWN = 20


def check_document(source: "Source", report: "CheckReport") -> dict[str, Any]:
    """Return a report for programs."""
    return {
        "read_as": source.told,
        "rows": report.rows,
        "good": report.good,
        "failed": len(report.bad),
        "not_mapped": list(source.unmapped),
        "columns": [
            {
                "column": column.column,
                "field": column.field,
                "filled": column.filled,
                "empty": column.empty,
                "converted": column.converted,
                "failed": column.failed,
                "examples": [{"row": row, "problem": text} for row, text in column.examples],
            }
            for column in report.columns
        ],
    }


def check_parts(source: "Source", report: "CheckReport") -> Iterator[Any]:
    """Return a report for people."""
    failed = f", {len(report.bad):,} fail" if report.bad else ", all good"
    yield output.table(
        f"{source.told}: {output.count(report.rows, 'row')}{failed}",
        ["column", "field", "filled>", "empty>", "converted>", "failed>", "the first problems"],
        [
            [
                column.column,
                column.field,
                f"{column.filled:,}",
                f"{column.empty:,}",
                f"{column.converted:,}",
                f"{column.failed:,}" if column.failed else "",
                "\n".join(f"row {row}: {problem}" for row, problem in column.examples),
            ]
            for column in report.columns
        ],
    )


def preview(out: Output, source: "Source", count: int) -> None:
    """Show the first rows of a source as they would be sent."""
    from services.cli.preview import flat

    rows = [row for row, _ in zip(source.rows(), range(count), strict=False)]
    values = [flat(row.record) for row in rows]
    paths = list(dict.fromkeys(path for one in values for path in one))
    problems = ["; ".join(f"{p.field}: {p.problem}" for p in row.problems) for row in rows]
    out.show(
        {
            "read_as": source.told,
            "not_mapped": list(source.unmapped),
            "rows": [
                {
                    "row": row.number,
                    "values": one,
                    "problems": [
                        {"column": p.column, "field": p.field, "problem": p.problem}
                        for p in row.problems
                    ],
                }
                for row, one in zip(rows, values, strict=True)
            ],
        },
        output.table(
            f"{source.told}: the first {output.count(len(rows), 'row')} as they would be sent",
            ["row>", *paths, *(["cannot be read"] if any(problems) else [])],
            [
                [
                    str(row.number),
                    *(one.get(path, "") for path in paths),
                    *([problem] if any(problems) else []),
                ]
                for row, one, problem in zip(rows, values, problems, strict=True)
            ],
        ),
    )


def outcome(
    out: Output,
    source: "Source",
    journal: "Journal",
    report: "PushReport",
    checked: "CheckReport | None",
    written: Path | None,
) -> None:
    """Show what became of a file.

    Args:
        out: where it is shown.
        source: the file.
        journal: what became of its rows.
        report: of the last process that pushed it.
        checked: what was found before, if that was asked for.
        written: where the rows are that are not in.
    """
    done = journal.outcome
    rejected = dict(sorted(done.refused.items()))
    document = {
        "delivery_id": report.delivery_id,
        "read_as": source.told,
        "skipped": report.skipped,
        "sent": report.sent,
        "accepted": report.accepted,
        "duplicate": report.duplicate,
        "rejected": rejected,
        "held": len(done.reviews),
        "not_sent": done.not_sent,
        "reconnects": report.reconnects,
        "rejects_file": None if written is None else str(written),
        "reviews": [
            {"row": one.row, "record_id": one.record_id, "review_id": one.review_id}
            for one in done.reviews
        ],
        "reconciliation": reconciliation_document(report.reconciliation),
    }
    if checked is not None:
        document["check"] = check_document(source, checked)
    out.show(
        document,
        output.pairs(
            f"Delivery {report.delivery_id}",
            [
                ("read as", source.told),
                ("delivered before", f"{report.skipped:,}" if report.skipped else ""),
                ("sent", f"{report.sent:,}"),
                ("accepted", f"{report.accepted:,}"),
                ("duplicate", f"{report.duplicate:,}"),
                *((f"rejected {reason}", f"{count:,}") for reason, count in rejected.items()),
                ("held for a review", f"{len(done.reviews):,}" if done.reviews else ""),
                ("failed here, not sent", f"{done.not_sent:,}" if done.not_sent else ""),
                ("connections lost", f"{report.reconnects}" if report.reconnects else ""),
                ("rows that are not in are in", str(written or "")),
            ],
        ),
        *reconciliation_parts(report.reconciliation),
        *_reject_table(done.rejects, done.first),
        *_review_table(journal),
    )


def reconciliation_document(found: "Reconciliation | None") -> dict[str, Any] | None:
    """Return both ends' totals for programs."""
    return None if found is None else output.plain(found)


def reconciliation_parts(found: "Reconciliation | None") -> Iterator[Any]:
    """Return both ends' totals for people: whether they agree, and all groups that do not."""
    if found is None:
        return
    if found.agrees:
        yield f"Both ends counted the same: {output.count(found.rows_received, 'row')}."
        return
    yield output.table(
        f"The ends do NOT agree: {found.rows_sent:,} rows sent, {found.rows_received:,} received",
        ["type", "month>", "rows sent>", "received>", "sum sent>", "received>"],
        [_totals_row(total) for total in found.totals if _differs(total)],
    )


def _differs(total: "TotalsOfBothEnds") -> bool:
    return total.rows_sent != total.rows_received or total.sum_sent != total.sum_received


def _totals_row(total: "TotalsOfBothEnds") -> list[str]:
    return [
        total.record_type,
        str(total.month or "none"),
        f"{total.rows_sent:,}",
        f"{total.rows_received:,}",
        f"{total.sum_sent / 100:,.2f}",
        f"{total.sum_received / 100:,.2f}",
    ]


def _reject_table(rejects: dict[int, "Reject"], record_ids: dict[int, str]) -> Iterator[Any]:
    if rejects:
        first = sorted(rejects)[:_SHOWN]
        yield output.table(
            f"The first {len(first)} of {len(rejects):,} rows that are not in",
            ["row>", "record", "reason", "field", "problem"],
            [
                [
                    str(row),
                    record_ids.get(row, ""),
                    rejects[row].reason,
                    rejects[row].field,
                    rejects[row].problem,
                ]
                for row in first
            ],
        )


def _review_table(journal: "Journal") -> Iterator[Any]:
    reviews = journal.outcome.reviews
    if reviews:
        first = reviews[:_SHOWN]
        yield output.table(
            f"The first {len(first)} of {len(reviews):,} rows that wait until somebody says whom "
            "they are about",
            ["row>", "record", "review"],
            [[str(one.row), one.record_id, one.review_id] for one in first],
        )
