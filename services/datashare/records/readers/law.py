"""What courts and departments hold against a firm: enforcement and penalties."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.datashare.records.readers.kind import Kind, Order, Reader, day_of
from services.datashare.summaries.domain import Fact


def _enforcement(kind: Kind) -> Reader:
    cases, pending, amount, outstanding, dishonest, restricted = kind.columns(
        "cases", "open", "amount", "outstanding", "dishonest", "restricted"
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "outcome")
        _, closed = kind.in_order(payload, "filed", "closed", last)
        if closed and payload.outcome == "pending":
            raise kind.problem(
                "FIELD_INVALID",
                "closed",
                "the case is pending: change the outcome, or leave it out",
            )
        claimed = kind.amount(payload, "amount")
        # With interest, more than the claim may be paid.
        left = max(claimed - kind.amount(payload, "fulfilled"), 0)
        done = payload.outcome in ("fulfilled", "settled")
        values = (
            (cases, 1),
            (pending, int(not done)),
            (amount, claimed),
            (outstanding, 0 if done else left),
            (dishonest, int(payload.dishonest)),
            (restricted, int(payload.consumption_restricted)),
        )
        return Fact(month, order, values)

    return read


def _penalty(kind: Kind) -> Reader:
    penalties, amount, serious, unrepaired, serious_unrepaired = kind.columns(
        "penalties", "amount", "serious", "unrepaired", "serious_unrepaired"
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "kind")
        kind.level(payload, "severity")
        day_of(payload.decided, "penalty.decided", last)
        kind.in_order(payload, "decided", "publish_until")
        _, repaired = kind.in_order(payload, "decided", "repaired_at", last)
        grave, left = int(payload.severity == "serious"), int(not repaired)
        values = (
            (penalties, 1),
            (amount, kind.amount(payload, "amount")),
            (serious, grave),
            (unrepaired, left),
            (serious_unrepaired, grave * left),
        )
        return Fact(month, order, values)

    return read


READERS: Final[Mapping[str, Callable[[Kind], Reader]]] = {
    "enforcement": _enforcement,
    "penalty": _penalty,
}
