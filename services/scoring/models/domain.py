"""What a model is, beside its trees: how margins become a PD, points, a grade; what it was made of.

Invariants: log-odds of default are affine in the margin (Platt), points are affine in log-odds
(PDO), so points are additive over features. Points are multiples of GRAIN: base plus the groups'
points is the score before rounding, to the last bit, in whatever order they are added. PD, score
and grade are monotone in the margin.
"""

import enum
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

FORMAT: Final = 2

GRAIN: Final = 2.0**-20
"""A millionth of a point. Sums of its multiples are exact in binary floating point."""

PARENT: Final = "recalibrated_from"
"""Parameter of a manifest: the version whose trees it has, with a calibration of its own."""

SCORE: Final = "(score)"
"""Name of the score beside those of inputs, none of which is called so."""

_TREE_NAME: Final = re.compile(r"[\w.-]+", re.ASCII)


class ModelClass(enum.StrEnum):
    """How much a model's PD may be believed."""

    SIMULATED = "SIMULATED"
    EXPERT = "EXPERT"
    UNVALIDATED = "UNVALIDATED"
    VALIDATED = "VALIDATED"


class ModelFolderError(ValueError):
    """A model folder that must not be served; the message says why and what to do."""


class InputSource(enum.StrEnum):
    """Where the value of an input comes from."""

    PLATFORM = "PLATFORM"  # the registry of features computes it
    DECLARED = "DECLARED"  # the bank sends it with its order
    TABLE = "TABLE"  # a column of the bank's own table


@dataclass(frozen=True, slots=True)
class ModelFeature:
    """One input.

    Args:
        name: its name.
        group: what a reason speaks about.
        unit: how to read it.
        monotone: direction in which PD may move as it grows: 1, -1 or 0.
        source: where its value comes from.
        categories: of a categorical input: a category's code is its place here; empty is a number.
        others: place of the category that stands for all others, rare or unseen; None: such a value
            counts as missing.
        zh: title in Chinese.
        en: title in English.
    """

    name: str
    group: str
    unit: str
    monotone: int
    source: InputSource = InputSource.PLATFORM
    categories: tuple[str, ...] = ()
    others: int | None = None
    zh: str = ""
    en: str = ""


def tree_names(features: Sequence[ModelFeature]) -> list[str]:
    """What the trees call their inputs.

    LightGBM refuses names with JSON's characters and changes blanks, which a bank's columns have.
    """
    return [
        feature.name if _TREE_NAME.fullmatch(feature.name) else f"#{at}"
        for at, feature in enumerate(features)
    ]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Log-odds of default from the margin: `a * margin + b`.

    Args:
        a: slope, positive.
        b: intercept.
    """

    a: float
    b: float

    def log_odds(self, margin: float) -> float:
        """Log-odds of default."""
        return self.a * margin + self.b

    def pd(self, margin: float) -> float:
        """Probability of default."""
        log_odds = self.log_odds(margin)
        if log_odds >= 0:
            return 1 / (1 + math.exp(-log_odds))
        odds = math.exp(log_odds)
        return odds / (1 + odds)


@dataclass(frozen=True, slots=True)
class Scaling:
    """Points from log-odds.

    Args:
        base: points at `odds`.
        odds: good to bad.
        pdo: points that double the odds.
    """

    base: float = 600.0
    odds: float = 20.0
    pdo: float = 50.0

    @property
    def factor(self) -> float:
        """Points per unit of log-odds of not defaulting."""
        return self.pdo / math.log(2)

    @property
    def offset(self) -> float:
        """Points at even odds."""
        return self.base - self.factor * math.log(self.odds)

    def points(self, log_odds: float) -> float:
        """Points at these log-odds of default."""
        return self.offset - self.factor * log_odds


@dataclass(frozen=True, slots=True)
class Band:
    """The interval of PD along the margin, for files of one thickness.

    Args:
        missing_to: for files that lack at most this share of the inputs.
        margins: ascending; between two of them the values of the lower one hold.
        low: lower end of PD from that margin on; not falling.
        high: upper end; not falling.
    """

    missing_to: float
    margins: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """How uncertain a PD is.

    Args:
        method: in words, with its source.
        bands: from thick files to thin ones; the last has missing_to 1.
        refer_above: a file whose interval is wider than this goes to a person: difference of the
            ends' log-odds.
    """

    method: str
    bands: tuple[Band, ...]
    refer_above: float


@dataclass(frozen=True, slots=True)
class Words:
    """Titles of a group of inputs.

    Args:
        zh: in Chinese.
        en: in English.
    """

    zh: str
    en: str


LONGEST_GRADE: Final = 16
"""Characters of a grade's name, as what challengers say is stored."""


@dataclass(frozen=True, slots=True)
class GradeCut:
    """Where a grade begins; it goes up to the next cut.

    Args:
        grade: its name.
        pd_from: the lowest PD that has it.
    """

    grade: str
    pd_from: float


DEFAULT_GRADES: Final = tuple(
    GradeCut(grade, pd_from)
    for grade, pd_from in (
        ("AAA", 0.0),
        ("AA", 0.005),
        ("A", 0.01),
        ("BBB", 0.02),
        ("BB", 0.04),
        ("B", 0.08),
        ("CCC", 0.16),
        ("CC", 0.32),
        ("C", 0.64),
    )
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The population that reasons compare with.

    Args:
        population: in words.
        rows: how many.
        points: mean points by feature.
    """

    population: str
    rows: int
    points: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DataStatement:
    """What a model was trained on.

    Args:
        source: in words.
        rows: firms.
        events: defaults among them.
        as_of: the date or dates of the features, in words.
        sha256: of the matrix and the labels.
        trained_at: ISO 8601, UTC.
    """

    source: str
    rows: int
    events: int
    as_of: str
    sha256: str
    trained_at: str


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured figure.

    Args:
        value: measured.
        deviation: standard deviation over folds or repeats.
    """

    value: float
    deviation: float | None = None


@dataclass(frozen=True, slots=True)
class Bins:
    """Frozen bins of a training distribution, for the population stability index.

    Args:
        edges: ascending; bin i is below edges[i], the last one is at or above the last edge.
        shares: of the training rows, by bin.
        missing: share without a value.
        withheld: share not consented to.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    missing: float
    withheld: float


@dataclass(frozen=True, slots=True)
class Golden:
    """A row with what the model said of it when it was trained.

    Args:
        inputs: by feature; None is missing.
        margin: raw.
        pd: calibrated.
        score: rounded.
        grade: by the cuts.
        contributions: to the margin, by feature; the last is the same for every row.
    """

    inputs: tuple[float | None, ...]
    margin: float
    pd: float
    score: int
    grade: str
    contributions: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of a model folder but its trees and its card.

    Args:
        format: of this file.
        version: name of the model, which is its folder's name.
        model_class: how much its PD may be believed.
        outcome: what it predicts, in words.
        files: SHA-256 by name of the other files.
        feature_version: of the features' definitions.
        reason_version: of the catalogue of reasons that it was made with.
        features: inputs, in order.
        fills: what a missing value is read as, by feature, where training saw none missing.
        calibration: margin to log-odds.
        scaling: log-odds to points.
        grades: best first.
        reference: what reasons compare with.
        data: what it was trained on.
        seed: of all randomness.
        parameters: of the trainer.
        metrics: measured out of fold.
        bins: of each feature and of the score.
        golden: rows that loading replays.
        interval: of PD; None where none was fitted.
        words: titles of groups, of a model of a table; those of the platform are in the catalogue
            of reasons.
    """

    format: int
    version: str
    model_class: ModelClass
    outcome: str
    files: Mapping[str, str]
    feature_version: int
    reason_version: int
    features: tuple[ModelFeature, ...]
    fills: Mapping[str, float]
    calibration: Calibration
    scaling: Scaling
    grades: tuple[GradeCut, ...]
    reference: Reference
    data: DataStatement
    seed: int
    parameters: Mapping[str, str | int | float | bool]
    metrics: Mapping[str, Metric]
    bins: Mapping[str, Bins]
    golden: tuple[Golden, ...]
    interval: Interval | None = None
    words: Mapping[str, Words] = field(default_factory=dict)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of features, in the order of their first feature."""
        return tuple(dict.fromkeys(feature.group for feature in self.features))

    def grade(self, pd: float) -> str:
        """The grade of a PD."""
        return next(cut.grade for cut in reversed(self.grades) if pd >= cut.pd_from)


def problems(manifest: Manifest) -> list[str]:
    """What makes a manifest contradict itself; empty when nothing does."""
    found = []
    if manifest.format != FORMAT:
        found.append(f"its format is {manifest.format}, this release reads {FORMAT}")
    if not manifest.calibration.a > 0:
        found.append("its calibration is not increasing")
    if not (manifest.scaling.pdo > 0 and manifest.scaling.odds > 0):
        found.append("its scaling is not increasing")
    cuts = [cut.pd_from for cut in manifest.grades]
    if not cuts or cuts[0] != 0 or cuts != sorted(set(cuts)):
        found.append("its grade cuts do not ascend from 0")
    if any(not 0 < len(cut.grade) <= LONGEST_GRADE for cut in manifest.grades):
        found.append(f"a grade's name has none or more than {LONGEST_GRADE} characters")
    names = [feature.name for feature in manifest.features]
    if len(set(names)) != len(names):
        found.append("a feature occurs twice")
    if set(manifest.reference.points) != set(names):
        found.append("its reference population does not cover its features")
    if any(len(row.inputs) != len(names) for row in manifest.golden) or not manifest.golden:
        found.append("its golden rows do not fit its features")
    if manifest.interval is not None and not _sound(manifest.interval):
        found.append("the bands of its interval do not ascend, or their steps have not all ends")
    return found


def _sound(interval: Interval) -> bool:
    """Whether every row has a band, and in it a step with two ends."""
    edges = [band.missing_to for band in interval.bands]
    return (
        bool(edges)
        and edges == sorted(set(edges))
        and edges[-1] == 1
        and all(
            0 < len(band.margins) == len(band.low) == len(band.high)
            and list(band.margins) == sorted(set(band.margins))
            for band in interval.bands
        )
    )
