"""Points of a 科技型中小企业, by 科技型中小企业评价办法 (国科发政〔2017〕115 号), articles 6 and 7.

A firm within the limits of staff, sales and assets passes with enough of 100 points, some of them
for its scientific staff. What the article asks besides figures (residence, permitted products, no
serious incident, not on the list of abnormal operations) is not judged here. Limits and points are
data, in `tech_sme.toml`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import NamedTuple


@dataclass(frozen=True)
class Rule:
    """Limits and points.

    Args:
        max_staff: persons.
        max_yuan: of sales, and of assets.
        enough: points with which a firm passes.
        least_staff_points: of those for its scientific staff.
        steps: by what is measured, floors with their points, the highest first.
    """

    max_staff: int
    max_yuan: Decimal
    enough: int
    least_staff_points: int
    steps: Mapping[str, Sequence[tuple[int, int]]]


@cache
def rule() -> Rule:
    """Return limits and points."""
    file = resources.files("services.datashare.reference").joinpath("tech_sme.toml")
    said = tomllib.loads(file.read_text(encoding="utf-8"))
    return Rule(
        max_staff=said["max_staff"],
        max_yuan=Decimal(said["max_yuan"]),
        enough=said["pass"],
        least_staff_points=said["least_staff_points"],
        steps={
            name: tuple((floor, value) for floor, value in steps)
            for name, steps in said["steps"].items()
        },
    )


class Points(NamedTuple):
    """What a firm gets.

    Args:
        staff: 0 to 20, for the share of scientific staff.
        research: 0 to 50, for the intensity of research and development.
        rights: 0 to 30, for intellectual property.
        small: whether staff, sales and assets are within the limits.
    """

    staff: int
    research: int
    rights: int
    small: bool

    @property
    def total(self) -> int:
        """0 to 100."""
        return self.staff + self.research + self.rights

    @property
    def passes(self) -> bool:
        """Whether the figures make it a 科技型中小企业."""
        return (
            self.small and self.total >= rule().enough and self.staff >= rule().least_staff_points
        )


def points(
    *,
    staff: int,
    scientific_staff: int,
    sales: Decimal,
    costs: Decimal,
    assets: Decimal,
    research: Decimal,
    class1: int,
    class2: int,
) -> Points:
    """Return the points of a firm.

    Args:
        staff: persons.
        scientific_staff: those of them in research and development.
        sales: of the year, yuan.
        costs: costs and expenses of the year, yuan.
        assets: at the end of the year, yuan.
        research: spent on research and development in the year, yuan.
        class1: rights of class I, such as patents for inventions.
        class2: rights of class II, such as software copyrights.

    Of the two measures of intensity the better one counts, as the firm may choose.

    >>> firm = dict(staff=40, scientific_staff=14, sales=Decimal(20_000_000), class1=0, class2=3,
    ...             costs=Decimal(18_000_000), assets=Decimal(9_000_000))
    >>> points(research=Decimal(1_000_000), **firm)  # 35 %, 5 % of sales, three of class II
    Points(staff=20, research=40, rights=18, small=True)
    >>> points(research=Decimal(100_000), **firm).passes  # 38 points
    False
    """
    limits = rule()
    steps = limits.steps
    return Points(
        staff=_of(steps["staff_share"], Decimal(scientific_staff), Decimal(staff)),
        research=max(
            _of(steps["research_to_sales"], research, sales),
            _of(steps["research_to_costs"], research, costs),
        ),
        rights=max(_step(steps["class1"], class1), _step(steps["class2"], class2)),
        small=staff <= limits.max_staff and max(sales, assets) <= limits.max_yuan,
    )


def _of(steps: Sequence[tuple[int, int]], part: Decimal, whole: Decimal) -> int:
    return _step(steps, part * 100, whole) if whole > 0 else 0


def _step(steps: Sequence[tuple[int, int]], value: Decimal | int, unit: Decimal | int = 1) -> int:
    return next((points for floor, points in steps if value >= floor * unit), 0)
