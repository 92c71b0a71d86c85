"""The EXPERT scorecard: points by judgement (expert.toml), written as trees that LightGBM reads.

Invariants: a feature has one tree, whose leaves are its points, so that the score is the base plus
the points of the table, in whole points, and contributions are a feature's points less their mean
in the stated reference population. Points keep the directions of the registry. What is withheld
falls on the worst of a feature's points, and nothing that is shown or missing is below that.
"""

import functools
import hashlib
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from services.scoring.features.firm import OPTIONAL
from services.scoring.features.registry import BY_NAME, NAMES, Feature
from services.scoring.models.domain import (
    FORMAT,
    Bins,
    Calibration,
    DataStatement,
    GradeCut,
    Manifest,
    ModelClass,
    Reference,
    Scaling,
)
from services.scoring.models.inputs import PLATFORM

ROWS: Final = 10_000
"""The reference population counts as so many rows: shares are per cent, so leaves are whole."""

_ANYTHING: Final = 1e300
"""Above every value, also above what is withheld: only a missing one goes the other way."""

_HAIR: Final = 1e-12
"""A cut itself belongs to the points above it."""

# Of LightGBM's decision_type: NaN is missing; a missing value goes to the right, or to the left.
_TO_RIGHT, _TO_LEFT = 8, 10


@dataclass(frozen=True, slots=True)
class Points:
    """What a feature counts.

    Args:
        name: of the feature, in the registry.
        cuts: ascending, in the units of words.
        points: below the first cut, between two, from the last one on.
        shares: of the reference population in each, per cent.
        absent: per cent of it without a value.
        absent_points: of these.
        zh: why, in Chinese.
        en: why, in English.
        source: of the judgement.
        shares_from: where the shares come from.
    """

    name: str
    cuts: tuple[float, ...]
    points: tuple[int, ...]
    shares: tuple[int, ...]
    absent: int
    absent_points: int
    zh: str
    en: str
    source: str
    shares_from: str

    @property
    def feature(self) -> Feature:
        """Of the registry."""
        return BY_NAME[self.name]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Values of the feature up to which the points before a cut hold."""
        return tuple(_threshold(cut, self.feature.unit) for cut in self.cuts)

    @property
    def mean(self) -> float:
        """Mean points in the reference population."""
        counted = math.fsum(p * s for p, s in zip(self.points, self.shares, strict=True))
        return (counted + self.absent_points * self.absent) / 100


@dataclass(frozen=True, slots=True)
class Check:
    """How the card ranks where outcomes are known; it was not fitted to them.

    Args:
        population: whose.
        rows: firms.
        events: defaults among them.
        auc: measured.
        low: lower end of its 95 % interval.
        high: upper end.
        words: what has to be known about it.
    """

    population: str
    rows: int
    events: int
    auc: float
    low: float
    high: float
    words: str


def _value(cut: float, unit: str) -> float:
    """A cut as the feature has it."""
    return math.log1p(cut) if unit.startswith("log_") else cut


def _threshold(cut: float, unit: str) -> float:
    """From `cut` on the next points hold; trees compare by "up to"."""
    whole = unit in {"log_count", "count", "months", "days", "level"}
    return _value(cut - 0.5, unit) if whole else _value(cut, unit) - _HAIR


def _points(name: str, row: Mapping[str, Any]) -> Points:
    counted = [p * s for p, s in zip(row["points"], row["shares"], strict=True)]
    return Points(
        name=name,
        cuts=tuple(float(cut) for cut in row["cuts"]),
        points=tuple(row["points"]),
        shares=tuple(row["shares"]),
        absent=row.get("absent", 0),
        absent_points=row.get("absent_points", math.floor(sum(counted) / sum(row["shares"]))),
        zh=row["zh"],
        en=row["en"],
        source=row["source"],
        shares_from=row["shares_from"],
    )


def problems(card: Sequence[Points]) -> list[str]:
    """What contradicts the registry or itself; empty when nothing does."""
    found = []
    for each in card:
        if each.name not in BY_NAME or not each.feature.monotone:
            found.append(f"{each.name} is no constrained feature of the registry")
            continue
        steps = [b - a for a, b in zip(each.points, each.points[1:], strict=False)]
        if any(step * each.feature.monotone >= 0 for step in steps):
            found.append(f"the points of {each.name} do not go the way that the registry says")
        if len(each.points) != len(each.cuts) + 1 or list(each.cuts) != sorted(set(each.cuts)):
            found.append(f"the cuts of {each.name} do not ascend, or do not fit its points")
        if sum(each.shares) + each.absent != 100 or min(each.shares) < 1:
            found.append(f"the shares of {each.name} are not 100 per cent, each at least 1")
        if each.absent_points < min(each.points):
            found.append(f"withholding {each.name} would be better than its absence")
    return found


_TEXT: Final = (files(__package__) / "expert.toml").read_text("utf-8")
_STATED: Final[dict[str, Any]] = tomllib.loads(_TEXT)
VERSION: Final[int] = _STATED["version"]
BASE: Final[int] = _STATED["base"]
POPULATION: Final[str] = _STATED["population"]
SOURCES: Final[tuple[str, ...]] = tuple(_STATED["sources"])
CARD: Final = tuple(
    sorted(
        (_points(name, row) for name, row in _STATED["features"].items()),
        key=lambda each: NAMES.index(each.name),
    )
)
CHECKS: Final = tuple(Check(**row) for row in _STATED["checks"])
_found = problems(CARD)
if _found:
    raise ValueError(f"expert.toml: {'; '.join(_found)}")


def chosen(sources: Collection[str]) -> tuple[Points, ...]:
    """The features of the card that rest on open records, invoices and these sources.

    Args:
        sources: of those that a firm may withhold.

    Raises:
        ValueError: one of them is none of these.
    """
    unknown = sorted(set(sources) - set(OPTIONAL))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: the sources are {', '.join(OPTIONAL)}")
    return tuple(
        each for each in CARD if set(each.feature.needs).intersection(OPTIONAL) <= set(sources)
    )


def trees(card: Sequence[Points]) -> str:
    """The text of a model, as LightGBM writes it: a tree for each feature."""
    factor = Scaling().factor
    parts = [_tree(at, each, factor) for at, each in enumerate(card)]
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={len(card) - 1}",
        "objective=binary sigmoid:1",
        f"feature_names={' '.join(each.name for each in card)}",
        f"feature_infos={' '.join('[-1e+300:1e+300]' for _ in card)}",
        f"tree_sizes={' '.join(str(len(part.encode())) for part in parts)}",
    ]
    tail = ["end of trees", "", "feature_importances:", "", "parameters:", "end of parameters", ""]
    return "\n".join([*head, "", "".join(parts) + "\n".join(tail)])


def _tree(at: int, card: Points, factor: float) -> str:
    """One feature's tree: what is missing at the root, then its cuts, halved and halved again."""
    values = [-points / factor for points in (*card.points, card.absent_points)]
    counts = [share * ROWS // 100 for share in (*card.shares, card.absent)]
    # A path-dependent mean divides by a node's rows, so that no leaf may be without any.
    counts[-1] = max(counts[-1], 1)
    nodes: list[list[float]] = [[_ANYTHING, _TO_RIGHT, 0, ~(len(values) - 1), sum(counts)]]

    def grow(low: int, high: int) -> int:
        """A node for the leaves from `low` up to `high`, both included; its place."""
        if low == high:
            return ~low
        middle = (low + high) // 2
        place = len(nodes)
        nodes.append([card.thresholds[middle], _TO_LEFT, 0, 0, sum(counts[low : high + 1])])
        nodes[place][2] = grow(low, middle)
        nodes[place][3] = grow(middle + 1, high)
        return place

    nodes[0][2] = grow(0, len(card.cuts))
    thresholds, kinds, left, right, rows = zip(*nodes, strict=True)

    def line(name: str, numbers: Sequence[float]) -> str:
        return f"{name}={' '.join(f'{number:.17g}' for number in numbers)}"

    zeros = [0] * len(nodes)
    return "\n".join(
        [
            f"Tree={at}",
            f"num_leaves={len(values)}",
            "num_cat=0",
            line("split_feature", [at] * len(nodes)),
            line("split_gain", zeros),
            line("threshold", thresholds),
            line("decision_type", kinds),
            line("left_child", left),
            line("right_child", right),
            line("leaf_value", values),
            line("leaf_weight", counts),
            line("leaf_count", counts),
            line("internal_value", zeros),
            line("internal_weight", rows),
            line("internal_count", rows),
            "is_linear=0",
            "shrinkage=1",
            "",
            "",
            "",
        ]
    )


@functools.cache
def grades() -> tuple[GradeCut, ...]:
    """Cuts by points, as the cuts on PD that they are by the card's scaling; best first.

    A cut lies half a point below the one that it is named by: scores are whole.
    """
    stated: Mapping[str, int] = _STATED["grades"]
    scaling = Scaling()

    def pd_at(points: float) -> float:
        return 1 / (1 + math.exp((points - scaling.offset) / scaling.factor))

    names = [*stated, "C"]
    floors = list(stated.values())
    return tuple(
        GradeCut(name, pd_at(above - 0.5) if above is not None else 0.0)
        for name, above in zip(names, [None, *floors], strict=True)
    )


def draft(version: str, card: Sequence[Points], made_at: str) -> Manifest:
    """The manifest of a card, without bins of the score and golden rows.

    Args:
        version: name of the model.
        card: its features.
        made_at: ISO 8601, UTC.
    """
    scaling = Scaling()
    inputs = {feature.name: feature for feature in PLATFORM.features}
    base = BASE - math.fsum(each.mean for each in card)
    return Manifest(
        format=FORMAT,
        version=version,
        model_class=ModelClass.EXPERT,
        outcome="default on a loan",
        files={},
        feature_version=PLATFORM.feature_version,
        reason_version=PLATFORM.reason_version,
        features=tuple(inputs[each.name] for each in card),
        fills={},
        calibration=Calibration(1.0, (scaling.offset - math.floor(base + 0.5)) / scaling.factor),
        scaling=scaling,
        grades=grades(),
        reference=Reference(POPULATION, ROWS, {each.name: 0.0 for each in card}),
        data=DataStatement(
            source=f"judgement: the EXPERT scorecard, version {VERSION}; not fitted to any outcome",
            rows=0,
            events=0,
            as_of="",
            sha256=hashlib.sha256(_TEXT.encode()).hexdigest(),
            trained_at=made_at,
        ),
        seed=0,
        parameters={"scorecard": VERSION},
        metrics={},
        bins={
            each.name: Bins(
                edges=tuple(_value(cut, each.feature.unit) for cut in each.cuts),
                shares=tuple(share / 100 for share in each.shares),
                missing=each.absent / 100,
                withheld=0.0,
            )
            for each in card
        },
        golden=(),
    )


def spec_of(card: Sequence[Points]) -> str:
    """The part of the scorecard that a model rests on, TOML, with its reasons and sources."""
    kept = {each.name for each in card}
    head, *sections = _TEXT.split("\n[features.")
    return head + "".join(
        f"\n[features.{section}" for section in sections if section.split("]")[0] in kept
    )
