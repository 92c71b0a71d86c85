"""What registers say about a firm itself: who holds and runs it, and whether it is in order."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.datashare.records.readers.kind import Kind, Order, Reader, day_of
from services.datashare.summaries.domain import Fact


def _shareholding(kind: Kind) -> Reader:
    holdings, exits, largest, state = kind.columns(
        "holdings", "exits", "largest_share", "state_share"
    )
    amounts = tuple((name, kind.column(name)) for name in ("subscribed", "paid_in"))

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "holder_kind")
        kind.level(payload, "role")
        left = kind.day(payload, "until", last)
        if payload.HasField("since"):
            kind.in_order(payload, "since", "until", last)
        stated = kind.stated(payload, amounts)
        if left is not None:
            return Fact(month, order, ((exits, 1),))
        share = payload.share_ppm
        values = [(holdings, 1), (largest, share), *stated]
        if payload.holder_kind == "state":
            values.append((state, share))
        return Fact(month, order, tuple(values))

    return read


def _officer_change(kind: Kind) -> Reader:
    changes = kind.column("changes")
    told = {name: kind.column(name) for name in ("legal_representative", "finance")}

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "role")
        day_of(payload.changed_at, "officer_change.changed_at", last)
        if not payload.former_token and not payload.successor_token:
            raise kind.problem(
                "FIELD_INVALID", "successor", "neither a former holder nor a successor: name one"
            )
        column = told.get(payload.role)
        return Fact(
            month, order, ((changes, 1),) if column is None else ((changes, 1), (column, 1))
        )

    return read


def _abnormal_operation(kind: Kind) -> Reader:
    entries, still_open = kind.columns("entries", "open")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "reason")
        _, left = kind.in_order(payload, "entered", "left", last)
        return Fact(month, order, ((entries, 1), (still_open, int(not left))))

    return read


def _declaration(kind: Kind) -> Reader:
    declarations, fields = kind.columns("declarations", "fields")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        day_of(payload.pledged_at, "declaration.pledged_at", last)
        names = set()
        for index, item in enumerate(payload.fields):
            if item.name in names:
                raise kind.problem(
                    "FIELD_INVALID", f"fields[{index}].name", "declared twice: keep one of the two"
                )
            names.add(item.name)
        return Fact(month, order, ((declarations, 1), (fields, len(names))))

    return read


READERS: Final[Mapping[str, Callable[[Kind], Reader]]] = {
    "shareholding": _shareholding,
    "officer_change": _officer_change,
    "abnormal_operation": _abnormal_operation,
    "declaration": _declaration,
}
