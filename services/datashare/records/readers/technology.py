"""What registers say about a firm's technology: contracts."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.datashare.records.readers.kind import Kind, Order, Reader, day_of
from services.datashare.summaries.domain import Fact


def _technology_contract(kind: Kind) -> Reader:
    sold, sold_amount, technology, bought, bought_amount = kind.columns(
        "sold", "sold_amount", "technology_amount", "bought", "bought_amount"
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "kind")
        kind.level(payload, "role")
        day_of(payload.registered_at, "technology_contract.registered_at", last)
        amount = kind.amount(payload, "amount")
        part = kind.amount(payload, "technology_amount")
        if part > amount:
            raise kind.problem(
                "NUMBER_OUT_OF_RANGE", "technology_amount", "more than the contract's amount"
            )
        if payload.role == "buyer":
            return Fact(month, order, ((bought, 1), (bought_amount, amount)))
        return Fact(month, order, ((sold, 1), (sold_amount, amount), (technology, part)))

    return read


READERS: Final[Mapping[str, Callable[[Kind], Reader]]] = {
    "technology_contract": _technology_contract,
}
