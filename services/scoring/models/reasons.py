"""Reasons of a score, in words: groups of features against the reference population.

Invariants: a reason's points are the group's points less the group's mean over the population, so
they are exact; the words follow from the same numbers; every group of the registry has words. No
words call the level of an unconstrained feature good or bad: which way it counts is the model's.
What is said to improve a reason is only of constrained features that a firm can do something about,
that lower this score and are not at their best: what a model cannot let lower the score.
"""

import enum
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np

from services.scoring.features.domain import Coverage, FeatureVector
from services.scoring.features.firm import Firm
from services.scoring.features.registry import ABSENCE, BY_NAME, FEATURES, NAMES, Feature
from services.scoring.models import wording
from services.scoring.models.domain import InputSource, Manifest, Words
from services.scoring.models.moves import CONSENT, CONSENT_OF_RELATION, MOVES, SUPPLY, improvable
from services.scoring.models.scorer import MIN_POINTS, ScoreBatch

FACTS: Final = 2
"""Features that a reason names, and of which it says what would improve them."""


class Direction(enum.StrEnum):
    """Which way a reason moves a score, against the mean of the reference population."""

    RAISES = "RAISES_SCORE"
    LOWERS = "LOWERS_SCORE"


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
        direction: in which it moves the score.
        improve_zh: what would improve it, in Chinese; empty where the firm cannot do anything.
        improve_en: the same in English.
        suggested: the features that those words are about.
    """

    code: str
    group: str
    points: float
    zh: str
    en: str
    features: tuple[str, ...]
    direction: Direction
    improve_zh: str = ""
    improve_en: str = ""
    suggested: tuple[str, ...] = ()


_WORDS: Final[dict[str, Any]] = tomllib.loads(
    (files(__package__) / "reasons.toml").read_text("utf-8")
)
VERSION: Final[int] = _WORDS["version"]

DECLARED: Final = "declared"
"""The group of all that a bank says of a firm."""

_TOLD: Final = (None, Coverage.NONE_EXISTS)

_unworded = {feature.group for feature in FEATURES} - set(_WORDS["groups"])
if _unworded:
    raise ValueError(f"reasons.toml has no words for {sorted(_unworded)}: add them")


class Reasoner:
    """Words the reasons of one model.

    Args:
        manifest: of the model; its features are of the registry.

    Raises:
        ValueError: its features are others.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._features = features_of(manifest)
        self._means = np.array([manifest.reference.points[f.name] for f in self._features])
        self._members = {
            group: [at for at, feature in enumerate(self._features) if feature.group == group]
            for group in manifest.groups
        }

    def reasons(
        self, batch: ScoreBatch, row: int, vector: FeatureVector, limit: int = 6
    ) -> tuple[Reason, ...]:
        """The strongest reasons of a row.

        Args:
            batch: what the model said.
            row: which row of it.
            vector: the row's features of the model, as they were computed.
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
            _reason(group, totals[group], self._members[group], strengths, vector, self._features)
            for group in ranked[:limit]
            if abs(totals[group]) >= MIN_POINTS
        )


def title(group: str) -> Words:
    """What a group of the registry's features is called.

    Raises:
        KeyError: the registry has no such group.
    """
    return Words(**_WORDS["groups"][group]["title"])


def features_of(manifest: Manifest) -> tuple[Feature, ...]:
    """Return the features of a model: those of the registry, or that were, then declared inputs.

    Raises:
        ValueError: the model has others, or in another order.
    """
    names = [each.name for each in manifest.features if each.source is InputSource.PLATFORM]
    declared = manifest.features[len(names) :]
    if names != [name for name in NAMES if name in set(names)] or any(
        each.source is not InputSource.DECLARED or each.group != DECLARED for each in declared
    ):
        raise ValueError(
            f"{manifest.version} has inputs that are not the registry's, followed by declared ones "
            f"of the group {DECLARED}"
        )
    return (
        *(BY_NAME[name] for name in names),
        *(
            Feature(each.name, each.group, each.unit, each.monotone, (), each.zh, each.en, _said)
            for each in declared
        ),
    )


def _said(firm: Firm) -> float:
    """Nothing of the firm's records says what a bank declares."""
    return math.nan


def _reason(
    group: str,
    total: float,
    members: list[int],
    strengths: list[float],
    vector: FeatureVector,
    features: Sequence[Feature],
) -> Reason:
    sign = 1.0 if total > 0 else -1.0
    leading = sorted(members, key=lambda at: -sign * strengths[at])
    lead = leading[0]
    kind, words = _kind(features[lead], sign, vector.values[lead], vector.missing[lead])
    free = features[lead].monotone == 0
    telling = [
        at
        for at in leading[: FACTS + 2]
        if sign * strengths[at] > 0
        and features[at].unit not in ("flag", "code", ABSENCE)
        and vector.missing[at] in _TOLD
        and (free or features[at].monotone)
    ][:FACTS]
    titles = _WORDS["groups"][group]["title"]
    told = [(features[at], vector.values[at]) for at in telling]
    facts_zh = wording.facts_zh([(f.zh, wording.value_zh(value, f.unit)) for f, value in told])
    facts_en = wording.facts_en([(f.en, wording.value_en(value, f.unit)) for f, value in told])
    suggested = _suggested(leading, strengths, vector, features) if kind == "DOWN" else []
    improve = _improve(kind, features[lead], suggested) if total < 0 else Words("", "")
    return Reason(
        code=f"{group.upper()}_{kind}",
        group=group,
        points=total,
        zh=words["zh"].format(title=titles["zh"], facts=facts_zh),
        en=words["en"].format(title=titles["en"], facts=facts_en),
        features=tuple(features[at].name for at in members),
        direction=Direction.RAISES if total > 0 else Direction.LOWERS,
        improve_zh=improve.zh.format(title=titles["zh"]),
        improve_en=improve.en.format(title=titles["en"]),
        suggested=tuple(suggested),
    )


def _suggested(
    leading: Sequence[int],
    strengths: Sequence[float],
    vector: FeatureVector,
    features: Sequence[Feature],
) -> list[str]:
    """Names of the features that lower the score most and that the firm can improve."""
    return [
        features[at].name
        for at in leading
        if strengths[at] < 0
        and features[at].monotone
        and (move := MOVES.get(features[at].name)) is not None
        and improvable(move, features[at].monotone, vector.values[at])
    ][:FACTS]


def _improve(kind: str, lead: Feature, suggested: Sequence[str]) -> Words:
    """What would improve a reason that lowers the score; {title} is the group's."""
    if lead.group == DECLARED:
        return Words("", "")
    if kind == "WITHHELD":
        return CONSENT_OF_RELATION if lead.relation else CONSENT
    if kind == "NOT_SUPPLIED":
        return SUPPLY
    moves = [MOVES[name] for name in suggested]
    return Words(
        wording.sentence_zh([move.zh for move in moves]),
        wording.sentence_en([move.en for move in moves]),
    )


def _kind(
    lead: Feature, sign: float, value: float, missing: Coverage | None
) -> tuple[str, Mapping[str, str]]:
    """What kind of reason it is goes by the feature that moved most.

    Args:
        lead: that feature.
        sign: which way it moved.
        value: its value.
        missing: why it has none.
    """
    own = _WORDS["groups"][lead.group]
    if lead.relation and missing is not None:
        # Why is the related party's affair.
        return "WITHHELD", own["withheld"]
    if missing is Coverage.NOT_CONSENTED or (lead.unit == "flag" and value > 0):
        return "WITHHELD", _WORDS["withheld"]
    if missing is Coverage.NOT_SUPPLIED or (lead.unit == ABSENCE and value > 0):
        return "NOT_SUPPLIED", _WORDS["not_supplied"]
    direction = "up" if sign > 0 else "down"
    words = _WORDS["free"] if lead.monotone == 0 else own
    return direction.upper(), words[direction]
