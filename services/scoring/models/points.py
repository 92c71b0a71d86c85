"""Whole points: what a person adds up by hand to get the score.

Invariants: base plus the groups' whole points is the score, exactly. The base rounds half up on its
own, so that it is the same for every firm that a model scores. A group's points move by less than
one and never change their sign. Equal remainders are settled by name: the same numbers give the
same points in whatever order they come.
"""

import math
from collections.abc import Mapping


def whole(base: float, groups: Mapping[str, float], score: int) -> tuple[int, dict[str, int]]:
    """Round points by the largest remainder.

    Args:
        base: points that no group moves.
        groups: points by group; with the base they add up to the score before rounding, exactly,
            as multiples of GRAIN do.
        score: base and groups, rounded half up.

    Returns:
        The base, and points by group in the order given.

    Raises:
        ValueError: the score is not what base and groups round to.
    """
    if score != math.floor(math.fsum([base, *groups.values()]) + 0.5):
        raise ValueError("the score is not its base and points, rounded: score the row again")
    start = math.floor(base + 0.5)
    points = {group: math.floor(value) for group, value in groups.items()}
    rest = score - start - sum(points.values())
    by_remainder = sorted(groups, key=lambda group: (points[group] - groups[group], group))
    for group in by_remainder[:rest]:
        points[group] += 1
    return start, points
