"""Points of a 科技型中小企业, by 科技型中小企业评价办法 (国科发政〔2017〕115 号), articles 6 and 7.

A firm with at most 500 staff, sales of at most 200 million yuan and assets of at most as much
passes with 60 of 100 points, some of them for its scientific staff. What the article asks besides
figures (residence, permitted products, no serious incident, not on the list of abnormal operations)
is not judged here.
"""

from decimal import Decimal
from typing import Final, NamedTuple

MAX_STAFF: Final = 500
MAX_YUAN: Final = Decimal(200_000_000)
PASS: Final = 60

# Floors as parts of a hundred, with their points; below the last there are none.
_STAFF_SHARE: Final = ((30, 20), (25, 16), (20, 12), (15, 8), (10, 4))
_RD_TO_SALES: Final = ((6, 50), (5, 40), (4, 30), (3, 20), (2, 10))
_RD_TO_COSTS: Final = ((30, 50), (25, 40), (20, 30), (15, 20), (10, 10))
_CLASS2: Final = ((4, 24), (3, 18), (2, 12), (1, 6))
_CLASS1: Final = 30


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
        return self.small and self.total >= PASS and self.staff > 0


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
    intensity = max(_step(_RD_TO_SALES, research, sales), _step(_RD_TO_COSTS, research, costs))
    few = next((value for floor, value in _CLASS2 if class2 >= floor), 0)
    return Points(
        staff=_step(_STAFF_SHARE, Decimal(scientific_staff), Decimal(staff)),
        research=intensity,
        rights=_CLASS1 if class1 else few,
        small=staff <= MAX_STAFF and sales <= MAX_YUAN and assets <= MAX_YUAN,
    )


def _step(steps: tuple[tuple[int, int], ...], part: Decimal, whole: Decimal) -> int:
    if whole <= 0:
        return 0
    return next((value for floor, value in steps if part * 100 >= whole * floor), 0)
