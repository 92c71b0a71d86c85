"""What stands behind a firm's credit: guarantees, pledges, equity, visits and enquiries."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.datashare.records.readers.kind import Kind, Order, Reader, day_of
from services.datashare.summaries.domain import Fact


def _guarantee(kind: Kind) -> Reader:
    sides = {
        "guarantor": kind.columns("given", "given_amount"),
        "debtor": kind.columns("received", "received_amount"),
    }
    given_until, called, called_amount = kind.columns("given_until", "called", "called_amount")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        for field in ("role", "kind", "status"):
            kind.level(payload, field)
        _, ends = kind.in_order(payload, "valid_from", "valid_to")
        secured = kind.amount(payload, "amount")
        if payload.status == "called":
            return Fact(month, order, ((called, 1), (called_amount, secured)))
        if payload.status == "released":
            return Fact(month, order, ())
        count, amount = sides[payload.role]
        values = [(count, 1), (amount, secured)]
        if payload.role == "guarantor":
            values.append((given_until, ends))
        return Fact(month, order, tuple(values))

    return read


def _pledge(kind: Kind) -> Reader:
    pledges, amount, undischarged, open_amount = kind.columns(
        "pledges", "amount", "open", "open_amount"
    )
    told = {name: kind.column(name) for name in ("receivables", "ip")}

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "kind")
        day_of(payload.registered_at, "pledge.registered_at", last)
        kind.in_order(payload, "registered_at", "expires_at")
        _, discharged = kind.in_order(payload, "registered_at", "discharged_at", last)
        secured = kind.amount(payload, "amount")
        values = [
            (pledges, 1),
            (amount, secured),
            (undischarged, int(not discharged)),
            (open_amount, 0 if discharged else secured),
        ]
        column = told.get(payload.kind)
        if column is not None:
            values.append((column, 1))
        return Fact(month, order, tuple(values))

    return read


def _equity_financing(kind: Kind) -> Reader:
    investments, amount, stage, valuation = kind.columns(
        "investments", "amount", "stage", "valuation"
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        day_of(payload.closed_at, "equity_financing.closed_at", last)
        values = (
            (investments, 1),
            (amount, kind.amount(payload, "amount")),
            (stage, kind.level(payload, "round")),
            (valuation, kind.amount(payload, "valuation")),
        )
        return Fact(month, order, values)

    return read


def _field_visit(kind: Kind) -> Reader:
    visits, adverse, conclusion = kind.columns("visits", "adverse_findings", "conclusion")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        day_of(payload.visited_at, "field_visit.visited_at", last)
        values = (
            (visits, 1),
            (adverse, kind.adverse(payload, "findings")),
            (conclusion, kind.level(payload, "conclusion")),
        )
        return Fact(month, order, values)

    return read


def _enquiry(kind: Kind) -> Reader:
    enquiries, applications = kind.columns("enquiries", "credit_applications")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        day_of(payload.enquired_at, "enquiry.enquired_at", last)
        applied = int(payload.purpose == "credit_application")
        return Fact(month, order, ((enquiries, 1), (applications, applied)))

    return read


READERS: Final[Mapping[str, Callable[[Kind], Reader]]] = {
    "guarantee": _guarantee,
    "pledge": _pledge,
    "equity_financing": _equity_financing,
    "field_visit": _field_visit,
    "enquiry": _enquiry,
}
