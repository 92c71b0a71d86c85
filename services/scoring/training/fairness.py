"""How a model treats firms of different regions, industries and sizes. No I/O.

Invariant: a difference is reported beside the groups' observed default rates and is no verdict by
itself.
"""

import enum
import math
import re
from dataclasses import dataclass
from typing import Final

from services.scoring.training.evidence import Evidence, Figure, Slice

FOUR_FIFTHS: Final = 0.8
"""Ratio of approval rates below which US practice asks for an explanation (29 CFR 1607.4 D)."""


class Kind(enum.StrEnum):
    """What firms are compared by."""

    REGION = "region"
    INDUSTRY = "industry"
    SIZE = "size"


_WORDS: Final = {
    Kind.REGION: {
        *("region", "province", "prefecture", "state", "city", "district", "county", "area"),
        *("country", "territory", "location"),
    },
    Kind.INDUSTRY: {"industry", "industrial", "sector", "naics", "nace", "sic", "isic"},
    Kind.SIZE: {"size", "scale", "emp", "noemp", "employees", "headcount", "staff", "workforce"},
}
_CHARACTERS: Final = {
    Kind.REGION: ("地区", "区域", "省", "城市", "市区", "行政区", "区县", "所在地"),
    Kind.INDUSTRY: ("行业", "产业", "门类"),
    Kind.SIZE: ("规模", "员工", "人数"),
}


@dataclass(frozen=True, slots=True)
class Group:
    """A group, compared with the others.

    Args:
        slice: what was measured.
        ratio: its approval rate over that of the group with the highest; None where no approval
            was measured.
        calibration: observed default rate over mean PD; above 1 the model is too kind to it.
        below: its ratio is under four fifths, and not by chance alone.
    """

    slice: Slice
    ratio: Figure | None
    calibration: Figure | None
    below: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Groups of one column.

    Args:
        column: of the table.
        kind: what it is.
        groups: with the most rows first.
        hidden: groups that are too small to be shown.
    """

    column: str
    kind: Kind
    groups: tuple[Group, ...]
    hidden: int


def kind_of(column: str) -> Kind | None:
    """Return what a column compares firms by, from its name in Chinese or English."""
    words = set(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).lower()))
    for kind in Kind:
        if words & _WORDS[kind] or any(text in column for text in _CHARACTERS[kind]):
            return kind
    return None


def compare(evidence: Evidence) -> tuple[Comparison, ...]:
    """Compare the groups of the columns that tell a region, an industry or a size.

    Args:
        evidence: without its small slices.
    """
    found = []
    for column, seen in evidence.segments.items():
        kind = kind_of(column)
        if kind is None:
            continue
        rates = [each.approved.value for each in seen if each.approved is not None]
        best = max(
            (
                each
                for each in seen
                if each.approved is not None and each.approved.value == max(rates)
            ),
            key=lambda each: each.rows,
            default=None,
        )
        groups = tuple(
            _group(each, best) for each in sorted(seen, key=lambda each: (-each.rows, each.value))
        )
        found.append(Comparison(column, kind, groups, evidence.hidden.get(column, 0)))
    return tuple(sorted(found, key=lambda each: list(Kind).index(each.kind)))


def _group(each: Slice, best: Slice | None) -> Group:
    ratio = _ratio(each, best) if best is not None else None
    calibration = None
    if each.pd > 0:
        observed = each.observed
        calibration = Figure(
            observed.value / each.pd,
            None if observed.low is None else observed.low / each.pd,
            None if observed.high is None else observed.high / each.pd,
        )
    below = (
        ratio is not None
        and ratio.value < FOUR_FIFTHS
        and ratio.high is not None
        and ratio.high < 1
    )
    return Group(each, ratio, calibration, below)


def _ratio(each: Slice, best: Slice) -> Figure | None:
    """Ratio of two approval rates; its interval from theirs (Zou & Donner 2008).

    These know how many rows weighted ones are worth.
    """
    if each.approved is None or best.approved is None or not best.approved.value > 0:
        return None
    mine, highest = each.approved.value, best.approved.value
    if each is best:
        return Figure(1.0)
    value = mine / highest
    if not mine > 0:
        high = each.approved.high
        return Figure(0.0, 0.0, None if high is None else high / highest)
    ends = each.approved.low, each.approved.high, best.approved.low, best.approved.high
    if not all(ends):
        return Figure(value)
    low, high, lowest, most = (math.log(end or 1.0) for end in ends)
    mine, highest = math.log(mine), math.log(highest)
    return Figure(
        value,
        value * math.exp(-math.hypot(mine - low, most - highest)),
        value * math.exp(math.hypot(high - mine, highest - lowest)),
    )
