"""Reasons of a score, in words: groups of features against the reference population.

Invariants: a reason's points are the group's points less the group's mean over the population, so
they are exact; the words follow from the same numbers; every group of the registry has words. No
words call the level of an unconstrained feature good or bad: which way it counts is the model's.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np

from services.scoring.features.arithmetic import MAX_RATIO
from services.scoring.features.domain import Coverage, FeatureVector
from services.scoring.features.registry import FEATURES, NAMES, Feature
from services.scoring.models.domain import Manifest
from services.scoring.models.scorer import ScoreBatch

MIN_POINTS: Final = 0.5
"""A group that moves the score by less is no reason."""

FACTS: Final = 2
"""Features that a reason names."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a score is not that of the reference population's mean.

    Args:
        code: group and kind.
        group: of features.
        points: that the group adds against the population's mean; negative lowers the score.
        zh: in Chinese.
        en: in English.
        features: of the group, in the model's order.
    """

    code: str
    group: str
    points: float
    zh: str
    en: str
    features: tuple[str, ...]


_WORDS: Final[dict[str, Any]] = tomllib.loads(
    (files(__package__) / "reasons.toml").read_text("utf-8")
)
VERSION: Final[int] = _WORDS["version"]

_COUNTERS_ZH: Final = {"months": "个月", "days": "天"}
_TOLD: Final = (None, Coverage.NONE_EXISTS)

_unworded = {feature.group for feature in FEATURES} - set(_WORDS["groups"])
if _unworded:
    raise ValueError(f"reasons.toml has no words for {sorted(_unworded)}: add them")


class Reasoner:
    """Words the reasons of one model.

    Args:
        manifest: of the model; its features are those of the registry.

    Raises:
        ValueError: its features are others.
    """

    def __init__(self, manifest: Manifest) -> None:
        if tuple(feature.name for feature in manifest.features) != NAMES:
            raise ValueError(f"{manifest.version} has inputs that are not the registry's")
        self._means = np.array([manifest.reference.points[name] for name in NAMES])
        self._members = {
            group: [at for at, feature in enumerate(FEATURES) if feature.group == group]
            for group in manifest.groups
        }

    def reasons(
        self, batch: ScoreBatch, row: int, vector: FeatureVector, limit: int = 6
    ) -> tuple[Reason, ...]:
        """The strongest reasons of a row.

        Args:
            batch: what the model said.
            row: which row of it.
            vector: the row's features, as they were computed.
            limit: at most so many.

        Returns:
            Reasons of at least MIN_POINTS, strongest first.
        """
        strengths: list[float] = (batch.feature_points[row] - self._means).tolist()
        totals = {
            group: math.fsum([strengths[at] for at in members])
            for group, members in self._members.items()
        }
        ranked = sorted(totals, key=lambda group: -abs(totals[group]))
        return tuple(
            _reason(group, totals[group], self._members[group], strengths, vector)
            for group in ranked[:limit]
            if abs(totals[group]) >= MIN_POINTS
        )


def _reason(
    group: str, total: float, members: list[int], strengths: list[float], vector: FeatureVector
) -> Reason:
    sign = 1.0 if total > 0 else -1.0
    leading = sorted(members, key=lambda at: -sign * strengths[at])
    kind, words = _kind(group, sign, leading[0], vector)
    free = FEATURES[leading[0]].monotone == 0
    telling = [
        at
        for at in leading[: FACTS + 2]
        if sign * strengths[at] > 0
        and FEATURES[at].unit != "flag"
        and vector.missing[at] in _TOLD
        and (free or FEATURES[at].monotone)
    ][:FACTS]
    titles = _WORDS["groups"][group]["title"]
    facts_zh = "，".join(_fact_zh(FEATURES[at], vector.values[at]) for at in telling)
    facts_en = "; ".join(_fact_en(FEATURES[at], vector.values[at]) for at in telling)
    return Reason(
        code=f"{group.upper()}_{kind}",
        group=group,
        points=total,
        zh=words["zh"].format(title=titles["zh"], facts=facts_zh),
        en=words["en"].format(title=titles["en"], facts=facts_en),
        features=tuple(NAMES[at] for at in members),
    )


def _kind(
    group: str, sign: float, lead: int, vector: FeatureVector
) -> tuple[str, Mapping[str, str]]:
    """What kind of reason it is goes by the feature that moved most."""
    missing = vector.missing[lead]
    if missing is Coverage.NOT_CONSENTED or (
        FEATURES[lead].unit == "flag" and vector.values[lead] > 0
    ):
        return "WITHHELD", _WORDS["withheld"]
    if missing is Coverage.NOT_SUPPLIED:
        return "NOT_SUPPLIED", _WORDS["not_supplied"]
    direction = "up" if sign > 0 else "down"
    words = _WORDS["free"] if FEATURES[lead].monotone == 0 else _WORDS["groups"][group]
    return direction.upper(), words[direction]


def _fact_zh(feature: Feature, value: float) -> str:
    return f"{feature.zh} {_zh(value, feature.unit)}"


def _fact_en(feature: Feature, value: float) -> str:
    return f"{feature.en}: {_en(value, feature.unit)}"


def _zh(value: float, unit: str) -> str:
    """A value as people write it in Chinese."""
    if math.isnan(value):
        return "无"
    match unit:
        case "log_cny":
            yuan = math.expm1(value)
            if yuan >= 1e8:
                return f"{yuan / 1e8:.2f}亿元"
            return f"{yuan / 1e4:.1f}万元" if yuan >= 1e4 else f"{yuan:.0f}元"
        case "log_count":
            return f"{math.expm1(value):.0f}"
        case "ratio":
            return f"{value:.0%}以上" if value >= MAX_RATIO else f"{value:.1%}"
        case "years":
            return f"{value:.1f}年"
        case _:
            return f"{value:.0f}{_COUNTERS_ZH.get(unit, '')}"


def _en(value: float, unit: str) -> str:
    """A value as people write it in English."""
    if math.isnan(value):
        return "none"
    match unit:
        case "log_cny":
            yuan = math.expm1(value)
            if yuan >= 1e9:
                return f"CNY {yuan / 1e9:.2f} billion"
            return f"CNY {yuan / 1e6:.2f} million" if yuan >= 1e6 else f"CNY {yuan:,.0f}"
        case "log_count":
            return f"{math.expm1(value):,.0f}"
        case "ratio":
            return f"{value:.0%} or more" if value >= MAX_RATIO else f"{value:.1%}"
        case "years":
            return f"{value:.1f} years"
        case "months" | "days":
            return f"{value:.0f} {unit[:-1] if value == 1 else unit}"
        case _:
            return f"{value:.0f}"
