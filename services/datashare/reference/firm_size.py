"""Size classes of firms 大中小微型企业, by 统计上大中小微型企业划分办法 (2017).

A firm is large, medium or small when it reaches every floor of that class in its industry, and
micro below. The floors are data, in `firm_size.toml`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from functools import cache
from importlib import resources
from typing import Final

from services.datashare.reference.industries import section

_UNITS: Final = {"staff": 1, "revenue": 10_000, "assets": 10_000}


class Size(IntEnum):
    """A class; a greater one is a greater firm."""

    MICRO = 1
    """微型"""
    SMALL = 2
    """小型"""
    MEDIUM = 3
    """中型"""
    LARGE = 4
    """大型"""


@dataclass(frozen=True)
class Group:
    """Industries that have the same floors.

    Args:
        zh: its name in the rule.
        en: a translation.
        floors: of large, medium and small, by staff (persons), revenue and assets (yuan).
    """

    zh: str
    en: str
    floors: Mapping[str, tuple[Decimal, ...]]


@cache
def groups() -> Mapping[str, Group]:
    """Return the groups by the digits of GB/T 4754-2017 that belong to them."""
    file = resources.files("services.datashare.reference").joinpath("firm_size.toml")
    found: dict[str, Group] = {}
    for entry in tomllib.loads(file.read_text(encoding="utf-8"))["group"]:
        floors = {
            name: tuple(Decimal(floor) * unit for floor in entry[name])
            for name, unit in _UNITS.items()
            if name in entry
        }
        group = Group(entry["zh"], entry["en"], floors)
        found |= dict.fromkeys(entry["codes"], group)
    return found


def group(industry: str) -> Group | None:
    """Return the group of an industry; None where the rule has none or the code is too short.

    Args:
        industry: code of GB/T 4754-2017 with at least the division's digits.

    >>> group("I6513").zh
    '软件和信息技术服务业'
    >>> group("J66") is None  # finance has a rule of its own
    True
    """
    if section(industry) is None:
        return None
    by_code = groups()
    return by_code.get(industry[1:4]) or by_code.get(industry[1:3])


def size(
    industry: str,
    *,
    staff: int | None = None,
    revenue: Decimal | None = None,
    assets: Decimal | None = None,
) -> Size | None:
    """Return the class of a firm.

    Args:
        industry: code of GB/T 4754-2017 with at least the division's digits.
        staff: persons at the end of the year.
        revenue: of the year, yuan.
        assets: at the end of the year, yuan.

    Returns:
        None where the rule has no group for the industry, or a figure that it needs is not there.

    >>> size("I65", staff=120, revenue=Decimal(60_000_000)).name
    'MEDIUM'
    >>> size("I65", staff=120, revenue=Decimal(9_000_000)).name  # 万元 900 misses medium's 1000
    'SMALL'
    >>> size("I65", staff=9, revenue=Decimal(60_000_000)).name
    'MICRO'
    >>> size("E47", revenue=Decimal(70_000_000)) is None  # construction needs assets
    True
    """
    found = group(industry)
    if found is None:
        return None
    figures = {"staff": staff, "revenue": revenue, "assets": assets}
    sizes = []
    for name, floors in found.floors.items():
        value = figures[name]
        if value is None:
            return None
        reached = sum(value >= floor for floor in floors)
        sizes.append(Size(Size.MICRO + reached))
    return min(sizes)
