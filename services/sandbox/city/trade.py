"""Sales, and the VAT invoices that show them.

Each firm's customers and suppliers have heavy-tailed shares: a truncated power law over the firm's
own ranks, steeper in distress, onto a pool of companies that is heavy-tailed itself. A relation
ends after a lifetime that distress shortens. Some of the pool are the city's own firms.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from puhui.datashare.v1.payloads_pb2 import (
    INVOICE_SIDE_INPUT,
    INVOICE_SIDE_OUTPUT,
    INVOICE_STATUS_VALID,
    INVOICE_STATUS_VOID,
    InvoiceSide,
    VatInvoice,
)
from puhui.datashare.v1.records_pb2 import Record
from services.sandbox.city.health import Health
from services.sandbox.city.plan import CityPlan, Floats, Ints
from services.sandbox.city.population import INDUSTRIES, SIZES, Population, synthetic_uscc
from services.sandbox.city.providers import TAX
from services.sandbox.delivery import Delivery
from services.sandbox.months import day_number, first_day, month_of
from services.sandbox.wire import cny, date_of, obtained_on, subject_of

# Swing of each month at season 1: slack around the spring festival, a rush at the year's end.
SEASON = np.array([-0.6, -1.2, -0.1, 0.0, 0.0, 0.3, -0.1, -0.1, 0.2, 0.1, 0.4, 1.1])
INVOICES_PER_MONTH = {"micro": 1.7, "small": 3.2, "medium": 6.0}
CUSTOMERS = {"micro": 8, "small": 20, "medium": 45}
POOL_PER_FIRM = 6
CITY_FIRM_EVERY = 12  # of the pool, one in so many is a firm of the city


@dataclass(frozen=True)
class _Side:
    """What differs between purchases and sales."""

    name: str
    side: "InvoiceSide.ValueType"
    share: float  # of INVOICES_PER_MONTH
    spread: float  # of the logarithm of amounts
    void: float
    red: float


OUTPUT = _Side("output", INVOICE_SIDE_OUTPUT, 1.0, 0.7, 0.025, 0.008)
INPUT = _Side("input", INVOICE_SIDE_INPUT, 0.7, 0.8, 0.015, 0.006)


def simulate_sales(plan: CityPlan, population: Population, health: Health) -> Floats:
    """Net sales of every firm (rows) in every month of the history (columns), in fen."""
    rng = plan.stream("sales")
    level = health.level[:, : plan.months]
    drift = 0.002 + 0.011 * level + rng.normal(0, 0.03, level.shape)
    calendar = (plan.first_month + np.arange(plan.months)) % 12
    season = np.array([i.season for i in INDUSTRIES])[population.industry][:, None]
    noise = rng.normal(0, 1, level.shape) * (0.15 + 0.25 * health.distress[:, : plan.months])
    growth = np.cumsum(drift, axis=1) + season * SEASON[calendar] + noise
    return np.asarray(population.monthly_sales[:, None] * np.exp(growth))


def invoices(
    plan: CityPlan, population: Population, health: Health, sales: Floats
) -> tuple[Delivery, Delivery]:
    """The invoices of every firm whose tax data is supplied: sales, then purchases."""
    pool = _pool(plan, population)
    return (
        _deliver(plan, population, health, sales, OUTPUT, pool),
        _deliver(plan, population, health, sales, INPUT, pool),
    )


def _pool(plan: CityPlan, population: Population) -> tuple[str, ...]:
    """Registration numbers of everybody that the city's firms trade with."""
    members = []
    for i in range(plan.firms * POOL_PER_FIRM):
        place, rest = divmod(i, CITY_FIRM_EVERY)
        if rest == 0:
            members.append(population.firms[place].uscc)
        else:
            members.append(synthetic_uscc("100000", "XP", i % 1_000_000))
    return tuple(members)


def _deliver(
    plan: CityPlan,
    population: Population,
    health: Health,
    sales: Floats,
    side: _Side,
    pool: tuple[str, ...],
) -> Delivery:
    rng = plan.stream(f"invoices.{side.name}")
    per_month = np.array([INVOICES_PER_MONTH[s] for s in SIZES])[_sizes(population)]
    expected = (per_month * side.share * plan.activity)[:, None] * np.ones(plan.months)
    level = health.level[:, : plan.months]
    expected *= np.exp(0.15 * np.minimum(level, 2) + rng.normal(0, 0.2, (plan.firms, 1)))
    counts = rng.poisson(expected)
    founded = np.array([month_of(f.founded) for f in population.firms]) - plan.first_month
    counts[np.arange(plan.months) < founded[:, None]] = 0
    counts[~population.supplied["vat_invoice"]] = 0

    firm, month = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), plan.months)
    total = len(firm)
    distress = health.distress[firm, month]

    amount = sales[firm, month] / expected[firm, month]
    if side is INPUT:
        costs = np.array([i.cost_share for i in INDUSTRIES])[population.industry]
        costs = costs * rng.lognormal(0, 0.08, plan.firms)
        amount = amount * costs[firm] * (1 + 0.35 * distress)
    net = amount * rng.lognormal(-(side.spread**2) / 2, side.spread, total)
    conduct = rng.lognormal(-0.12, 0.5, plan.firms)[firm]
    fate = rng.random(total)
    voided = fate < conduct * (side.void + 0.14 * distress)
    red = fate > 1 - conduct * (side.red + 0.07 * distress)
    net = np.where(red, -net * rng.uniform(0.1, 0.9, total), net)
    net_fen = np.rint(net).astype(np.int64)
    rate = _vat_rates(population)[firm]
    tax_fen = np.rint(net_fen * rate).astype(np.int64)

    starts = np.array([day_number(first_day(plan.first_month + m)) for m in range(plan.months + 1)])
    day = starts[month] + (rng.random(total) * np.diff(starts)[month]).astype(np.int64)
    partner = _partners(plan, population, health, side, rng, firm, month)
    order = np.lexsort((day, firm))

    def build() -> Iterator[Record]:
        rows = zip(
            *(c[order].tolist() for c in (firm, day, partner, net_fen, tax_fen, voided)),
            strict=True,
        )
        current, subject, prefix = -1, None, ""
        for number, (f, d, p, n, t, void) in enumerate(rows, 10_000_000):
            if f != current:
                current, subject = f, subject_of(population.firms[f].uscc)
                prefix = f"{side.name}:{population.firms[f].number}:"
            yield Record(
                provider_record_id=f"{prefix}{number}",
                subject=subject,
                record_type="vat_invoice",
                date=date_of(d),
                obtained_at=obtained_on(d),
                vat_invoice=VatInvoice(
                    code="SIMULATED",
                    number=str(number),
                    side=side.side,
                    counterparty=pool[p],
                    net=cny(n),
                    tax=cny(t),
                    gross=cny(n + t),
                    status=INVOICE_STATUS_VOID if void else INVOICE_STATUS_VALID,
                ),
            )

    return Delivery(TAX, "vat_invoice", total, build)


def _sizes(population: Population) -> Ints:
    return np.array([SIZES.index(f.size) for f in population.firms])


def _vat_rates(population: Population) -> Floats:
    """What a firm charges: its industry's rate, or 1 % for small-scale taxpayers."""
    return np.array([f.industry.vat_rate if f.general_taxpayer else 0.01 for f in population.firms])


def _partners(
    plan: CityPlan,
    population: Population,
    health: Health,
    side: _Side,
    rng: np.random.Generator,
    firm: Ints,
    month: Ints,
) -> Ints:
    """The other party of each invoice, as an index into the pool."""
    mean_distress = health.distress[:, : plan.months].mean(axis=1)
    circle = np.array([CUSTOMERS[s] for s in SIZES])[_sizes(population)] * rng.lognormal(
        0, 0.4, plan.firms
    )
    steepness = rng.normal(0.85, 0.2, plan.firms)
    lifetime = np.maximum(8, 55 * (1 - 0.8 * mean_distress) * rng.lognormal(0, 0.3, plan.firms))

    # The inverse of the distribution function of a power law cut off at the circle's size.
    exponent = 1 - np.maximum(0.2, steepness[firm] + 0.8 * health.distress[firm, month])
    exponent = np.where(np.abs(exponent) < 1e-3, 1e-3, exponent)
    edge = np.maximum(3, circle)[firm] + 1
    place = (1 + rng.random(len(firm)) * (edge**exponent - 1)) ** (1 / exponent)
    rank = place.astype(np.int64)

    relation = (firm * 1_000 + rank) * 2 + (side is INPUT)
    phase = _scatter(relation)
    generation = (month / lifetime[firm] + phase).astype(np.int64)
    size = plan.firms * POOL_PER_FIRM
    chosen = (size * _scatter(relation * 1_000 + generation) ** 2).astype(np.int64)
    return np.where(chosen == firm * CITY_FIRM_EVERY, chosen + 1, chosen)


def _scatter(key: Ints) -> Floats:
    """A number in [0, 1) for each key, the same every time (the finaliser of splitmix64)."""
    x: npt.NDArray[np.uint64] = key.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((x ^ (x >> np.uint64(31))) / np.float64(2**64)).clip(max=1 - 1e-12)
