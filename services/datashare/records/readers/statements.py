"""What a firm reports of a year or a period: annual reports and financial statements."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.datashare.records.readers.kind import Kind, Order, Reader
from services.datashare.summaries.domain import Fact

_PPM: Final = 1_000_000
_MOST_PPM: Final = 1_000_000_000_000
"""As the .proto bounds a ratio that is stated."""


def _annual_report(kind: Kind) -> Reader:
    reports, disclosed = kind.columns("reports", "disclosed")
    counts = tuple((name, kind.column(name)) for name in ("headcount", "insured_headcount"))
    amounts = tuple(
        (name, kind.column(name))
        for name in ("assets", "liabilities", "revenue", "tax_paid", "guarantees_given")
    )
    signed = tuple((name, kind.column(name)) for name in ("equity", "profit", "net_profit"))

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        values = (
            (reports, 1),
            (disclosed, int(payload.HasField("assets"))),
            *kind.numbers(payload, counts),
            *kind.stated(payload, amounts),
            *kind.stated_signed(payload, signed),
        )
        return Fact(month, order, values)

    return read


def _financial_statement(kind: Kind) -> Reader:
    statements, audited, qualified = kind.columns("statements", "audited", "qualified")
    amounts = tuple(
        (name, kind.column(name))
        for name in (
            "assets",
            "current_assets",
            "cash",
            "receivables",
            "inventory",
            "liabilities",
            "current_liabilities",
            "borrowings",
            "rd_expense",
        )
    )
    signed = tuple(
        (name, kind.column(name))
        for name in (
            "equity",
            "revenue",
            "cost",
            "operating_profit",
            "net_profit",
            "operating_cash_flow",
            "investing_cash_flow",
            "financing_cash_flow",
        )
    )
    ratios = tuple(
        (f"{name}_ppm", kind.column(name), kind.column(part), kind.column(whole))
        for name, part, whole in (
            ("liabilities_to_assets", "liabilities", "assets"),
            ("current_ratio", "current_assets", "current_liabilities"),
            ("net_margin", "net_profit", "revenue"),
        )
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "kind")
        opinion = kind.level(payload, "audit_opinion")
        if opinion and not payload.audited:
            raise kind.problem(
                "FIELD_INVALID",
                "audit_opinion",
                "of a statement that is not audited: set `audited`, or leave the opinion out",
            )
        values = [
            (statements, 1),
            (audited, int(payload.audited)),
            (qualified, int(opinion > 1)),
            *kind.stated(payload, amounts),
            *kind.stated_signed(payload, signed),
        ]
        figures = dict(values)
        for field, column, part, whole in ratios:
            if part in figures and figures.get(whole, 0) > 0:
                ratio = figures[part] * _PPM // figures[whole]
                values.append((column, max(-_MOST_PPM, min(ratio, _MOST_PPM))))
            elif payload.HasField(field):
                values.append((column, getattr(payload, field)))
        return Fact(month, order, tuple(values))

    return read


READERS: Final[Mapping[str, Callable[[Kind], Reader]]] = {
    "annual_report": _annual_report,
    "financial_statement": _financial_statement,
}
