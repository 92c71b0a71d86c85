"""The firms: who they are, before anything happens to them.

Names say that they are simulated. Registration numbers pass the check of GB 32100 and carry an
organisation code that starts with XN, which no registry has given out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np

from services.datashare.subjects.uscc import make
from services.sandbox.city.plan import Bools, CityPlan, Floats, Ints
from services.sandbox.months import first_day

SizeClass = Literal["micro", "small", "medium"]

SIZES: tuple[SizeClass, ...] = ("micro", "small", "medium")
SIZE_WEIGHTS = (0.42, 0.43, 0.15)
TYPICAL_STAFF = (7.0, 30.0, 140.0)

# Share of firms whose records of a type are not supplied at all.
GAPS = {"vat_invoice": 0.03, "tax_filing": 0.04, "social_insurance": 0.06}

DISTRICTS = {
    "110101": "东城",
    "110102": "西城",
    "110105": "朝阳",
    "110106": "丰台",
    "110107": "石景山",
    "110108": "海淀",
    "110111": "房山",
    "110112": "通州",
    "110113": "顺义",
    "110114": "昌平",
    "110115": "大兴",
}
DISTRICT_WEIGHTS = (0.04, 0.06, 0.15, 0.10, 0.05, 0.32, 0.02, 0.05, 0.05, 0.08, 0.08)


@dataclass(frozen=True)
class Industry:
    """What an industry does to a firm's figures.

    Args:
        code: GB/T 4754 section and division.
        trade: word for firm names.
        weight: share of firms.
        sales_per_head: yearly sales per insured person in yuan.
        cost_share: purchases as a share of sales.
        vat_rate: of a general taxpayer.
        technology: scales patents, titles, grants and research.
        software: share of intellectual property that is software copyright.
        season: swing of the year's end over its start.
    """

    code: str
    trade: str
    weight: float
    sales_per_head: float
    cost_share: float
    vat_rate: float
    technology: float
    software: float
    season: float


INDUSTRIES = (
    Industry("I65", "软件", 0.42, 420_000, 0.35, 0.06, 1.2, 0.80, 0.35),
    Industry("I64", "信息", 0.08, 500_000, 0.45, 0.06, 0.8, 0.70, 0.20),
    Industry("M73", "科研", 0.12, 380_000, 0.40, 0.06, 1.3, 0.25, 0.40),
    Industry("M75", "技术服务", 0.13, 360_000, 0.42, 0.06, 1.0, 0.35, 0.40),
    Industry("C39", "电子", 0.10, 650_000, 0.68, 0.13, 1.0, 0.30, 0.20),
    Industry("C35", "装备", 0.07, 600_000, 0.70, 0.13, 0.9, 0.15, 0.20),
    Industry("C27", "医药", 0.05, 700_000, 0.55, 0.13, 1.2, 0.05, 0.10),
    Industry("F51", "商贸", 0.03, 1_500_000, 0.88, 0.13, 0.1, 0.50, 0.25),
)


@dataclass(frozen=True)
class Firm:
    """A simulated firm as a registry knows it."""

    index: int
    uscc: str
    name: str
    industry: Industry
    size: SizeClass
    district: str
    founded: date
    capital_fen: int
    general_taxpayer: bool

    @property
    def number(self) -> str:
        """The simulator's own number, which providers use in record ids."""
        return f"F{self.index:06d}"


@dataclass(frozen=True)
class Population:
    """The firms and what their figures grow from; arrays are aligned with `firms`.

    Args:
        firms: by index.
        staff: insured persons at the start.
        monthly_sales: fen per month at the start, net of tax.
        technology: how technical the firm is, about 1.
        industry: index into `INDUSTRIES`.
        supplied: for a record type that not everybody's provider hands over, whose it does.
    """

    firms: tuple[Firm, ...]
    staff: Floats
    monthly_sales: Floats
    technology: Floats
    industry: Ints
    supplied: Mapping[str, Bools]


def synthetic_uscc(district: str, prefix: str, number: int) -> str:
    """A registration number that passes its check and belongs to nobody.

    Args:
        district: GB/T 2260, six digits.
        prefix: two letters that start the organisation code.
        number: 0 to 999,999.
    """
    return make("91", district, f"{prefix}{number:06d}")


def simulate_population(plan: CityPlan) -> Population:
    """Draws the firms of a city."""
    rng = plan.stream("population")
    count = plan.firms
    industry = rng.choice(len(INDUSTRIES), size=count, p=[i.weight for i in INDUSTRIES])
    size = rng.choice(len(SIZES), size=count, p=SIZE_WEIGHTS)
    district = rng.choice(len(DISTRICTS), size=count, p=DISTRICT_WEIGHTS)
    staff = np.maximum(2, np.rint(np.take(TYPICAL_STAFF, size) * rng.lognormal(0, 0.45, count)))
    per_head = np.array([i.sales_per_head for i in INDUSTRIES])[industry]
    monthly_sales = staff * per_head / 12 * 100 * rng.lognormal(0, 0.4, count)
    technology = np.array([i.technology for i in INDUSTRIES])[industry] * rng.lognormal(
        -0.125, 0.5, count
    )
    # Old enough that a view a year before the end has a year of figures to look at.
    age_days = 760 + rng.gamma(1.6, 1_300, count)
    capital = np.take([1_000_000, 5_000_000, 20_000_000], size) * rng.lognormal(0, 0.7, count)
    general = (size > 0) | (rng.random(count) < 0.35)
    supplied = {kind: rng.random(count) >= gap for kind, gap in GAPS.items()}
    offset = int(rng.integers(1_000_000))

    codes = tuple(DISTRICTS)
    end = first_day(plan.last_month + 1)
    firms = []
    for i in range(count):
        kind = INDUSTRIES[industry[i]]
        code = codes[district[i]]
        firms.append(
            Firm(
                index=i,
                uscc=synthetic_uscc(code, "XN", (offset + i) % 1_000_000),
                name=f"模拟{DISTRICTS[code]}{kind.trade}{i:06d}号有限公司",
                industry=kind,
                size=SIZES[size[i]],
                district=code,
                founded=end - timedelta(days=int(age_days[i])),
                capital_fen=max(10, round(float(capital[i]) / 100_000)) * 100_000 * 100,
                general_taxpayer=bool(general[i]),
            )
        )
    return Population(tuple(firms), staff, monthly_sales, technology, industry, supplied)
