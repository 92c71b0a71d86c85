"""Features of VAT invoices: the same for sales and purchases, and the margin between them."""

from collections.abc import Callable, Mapping
from typing import Final

from services.scoring.features.arithmetic import (
    MAX_RATIO,
    NAN,
    active,
    burden,
    growth,
    log_cny,
    log_count,
    longest_gap,
    months_since_first,
    months_since_last,
    share,
    variation,
)
from services.scoring.features.firm import Firm, Invoices


def _ppm(side: Invoices, measure: str) -> float:
    value = side.latest[measure]
    return NAN if value is None else min(max(value / 1e6, 0.0), 1.0)


def _ticket(side: Invoices) -> float:
    return log_cny(sum(side.positive_net) // max(sum(side.valid) - sum(side.red), 1))


def _void_share(side: Invoices) -> float:
    void = sum(side.void[-24:])
    return share(void, void + sum(side.valid[-24:]))


def _red_amount(side: Invoices) -> float:
    return burden(sum(side.red_net[-24:]), sum(side.positive_net[-24:]))


_OF_A_SIDE: Final[Mapping[str, Callable[[Invoices], float]]] = {
    "amount_12m": lambda side: log_cny(sum(side.net[-12:])),
    "amount_36m": lambda side: log_cny(sum(side.net)),
    "invoices_12m": lambda side: log_count(sum(side.valid[-12:])),
    "invoices_36m": lambda side: log_count(sum(side.valid)),
    "ticket": _ticket,
    "growth_12m": lambda side: growth(sum(side.net[-12:]), sum(side.net[-24:-12])),
    "growth_6m": lambda side: growth(sum(side.net[-6:]), sum(side.net[-12:-6])),
    "variation_24m": lambda side: variation(side.net[-24:]),
    "variation_36m": lambda side: variation(side.net),
    "longest_gap_24m": lambda side: longest_gap(side.valid[-24:]),
    "active_24m": lambda side: active(side.valid[-24:]),
    "active_36m": lambda side: active(side.valid),
    "months_since_last": lambda side: months_since_last(side.positive_net),
    "history": lambda side: months_since_first(side.valid),
    "void_share": _void_share,
    "red_share": lambda side: share(sum(side.red[-24:]), sum(side.valid[-24:])),
    "red_amount": _red_amount,
    "counterparties": lambda side: log_count(side.latest["counterparties"] or 0),
    "top1": lambda side: _ppm(side, "top1"),
    "top5": lambda side: _ppm(side, "top5"),
    "hhi": lambda side: _ppm(side, "hhi"),
    "churn": lambda side: _ppm(side, "churn"),
    "tax_rate": lambda side: share(sum(side.tax[-24:]), sum(side.net[-24:])),
}


def _gross_margin(firm: Firm) -> float:
    sales, purchases = sum(firm.sales.net[-24:]), sum(firm.purchases.net[-24:])
    return max(-MAX_RATIO, min((sales - purchases) / sales, MAX_RATIO)) if sales > 0 else NAN


def _of_sales(compute: Callable[[Invoices], float]) -> Callable[[Firm], float]:
    return lambda firm: compute(firm.sales)


def _of_purchases(compute: Callable[[Invoices], float]) -> Callable[[Firm], float]:
    return lambda firm: compute(firm.purchases)


COMPUTE: Final[Mapping[str, Callable[[Firm], float]]] = {
    **{f"sales_{name}": _of_sales(compute) for name, compute in _OF_A_SIDE.items()},
    **{f"purchases_{name}": _of_purchases(compute) for name, compute in _OF_A_SIDE.items()},
    "gross_margin": _gross_margin,
}
