"""Five classes of credit 五级分类, by 商业银行金融资产风险分类办法 (2023).

The class is the lender's judgement; days past due only bound it from below (articles 10 to 13):
what is past due is at least of special mention, beyond 90 days substandard, beyond 270 doubtful,
beyond 360 a loss.
"""

from enum import IntEnum
from typing import Final


class FiveClass(IntEnum):
    """A class; a greater one is worse."""

    NORMAL = 1
    """正常"""
    SPECIAL_MENTION = 2
    """关注"""
    SUBSTANDARD = 3
    """次级"""
    DOUBTFUL = 4
    """可疑"""
    LOSS = 5
    """损失"""


NON_PERFORMING: Final = FiveClass.SUBSTANDARD
"""From this class on credit is non-performing 不良."""

_BEYOND_DAYS: Final = (
    (360, FiveClass.LOSS),
    (270, FiveClass.DOUBTFUL),
    (90, FiveClass.SUBSTANDARD),
    (0, FiveClass.SPECIAL_MENTION),
)


def least(days_past_due: int) -> FiveClass:
    """Return the best class that credit past due may have.

    Args:
        days_past_due: 0 or more.

    >>> least(0).name, least(1).name, least(90).name, least(91).name, least(361).name
    ('NORMAL', 'SPECIAL_MENTION', 'SPECIAL_MENTION', 'SUBSTANDARD', 'LOSS')
    """
    return next((found for days, found in _BEYOND_DAYS if days_past_due > days), FiveClass.NORMAL)
