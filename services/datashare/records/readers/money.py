"""What flows through a firm month by month: contributions, bills, goods, accounts, receivables."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.datashare.records.readers.kind import FAR, Kind, Order, Reader, day_of
from services.datashare.summaries.domain import Fact, Trade

_SOLD: Final = 2
"""The side of `Trade` on which the subject sells."""


def _housing_fund(kind: Kind) -> Reader:
    headcount, paid, overdue, missed = kind.columns("headcount", "paid", "overdue", "missed")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        owed = kind.amount(payload, "overdue")
        values = (
            (headcount, payload.headcount),
            (paid, kind.amount(payload, "paid")),
            (overdue, owed),
            (missed, int(owed > 0)),
        )
        return Fact(month, order, values)

    return read


def _utility_bill(kind: Kind) -> Reader:
    bills, amount, days_overdue, overdue_bills, overdue = kind.columns(
        "bills", "amount", "days_overdue", "overdue_bills", "overdue"
    )
    used = {name: kind.column(name) for name in ("electricity", "water", "gas")}

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "kind")
        owed = kind.amount(payload, "overdue")
        days = payload.days_overdue
        values = (
            (bills, 1),
            (used[payload.kind], payload.usage),
            (amount, kind.signed(payload, "amount")),
            (days_overdue, days),
            (overdue_bills, int(days > 0 or owed > 0)),
            (overdue, owed),
        )
        return Fact(month, order, values)

    return read


def _customs_declaration(kind: Kind) -> Reader:
    sides = {
        "import": kind.columns("imports", "import_amount"),
        "export": kind.columns("exports", "export_amount"),
    }
    duties, aeo_grade = kind.columns("duties", "aeo_grade")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "direction")
        kind.day(payload, "released", last)
        count, amount = sides[payload.direction]
        values = [
            (count, 1),
            (amount, kind.amount(payload, "amount")),
            (duties, kind.amount(payload, "duties")),
        ]
        if grade := kind.level(payload, "aeo_grade"):
            values.append((aeo_grade, grade))
        return Fact(month, order, tuple(values))

    return read


def _bank_flow(kind: Kind) -> Reader:
    accounts, inflow, outflow, balance, overdrawn, counterparties = kind.columns(
        "accounts", "inflow", "outflow", "balance", "overdrawn", "counterparties"
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        left = kind.signed(payload, "balance")
        values = (
            (accounts, 1),
            (inflow, kind.amount(payload, "inflow")),
            (outflow, kind.amount(payload, "outflow")),
            (balance, left),
            (overdrawn, int(left < 0)),
            (counterparties, payload.counterparties),
        )
        return Fact(month, order, values)

    return read


def _receivable(kind: Kind) -> Reader:
    receivables, amount, confirmed, confirmed_amount, settled, settled_amount, days_late = (
        kind.columns(
            "receivables",
            "amount",
            "confirmed",
            "confirmed_amount",
            "settled",
            "settled_amount",
            "days_late",
        )
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        owed = kind.amount(payload, "amount")
        due = day_of(payload.due, "receivable.due", FAR)
        values = [(receivables, 1), (amount, owed)]
        if kind.day(payload, "confirmed_at", last) is not None:
            values += [(confirmed, 1), (confirmed_amount, owed)]
        settled_on = kind.day(payload, "settled_at", last)
        if settled_on is not None:
            values += [
                (settled, 1),
                (settled_amount, owed),
                (days_late, max(settled_on - due, 0)),
            ]
        token = payload.buyer_token
        trade = Trade(_SOLD, token, owed) if token else None
        return Fact(month, order, tuple(values), (), trade)

    return read


READERS: Final[Mapping[str, Callable[[Kind], Reader]]] = {
    "housing_fund": _housing_fund,
    "utility_bill": _utility_bill,
    "customs_declaration": _customs_declaration,
    "bank_flow": _bank_flow,
    "receivable": _receivable,
}
