"""Counterfactuals: the smallest changes of what a firm can move that reach a better grade.

Invariants: every counterfactual was scored by the model itself and reaches its grade; without any
one of its changes it does not. Fewer changes go first, then smaller ones, in units of the reference
population's spread. Nothing moves that a firm cannot move, nor past its limit, nor from or to a
value that is missing or withheld; features that move together do. What a consent would bring is
named, never promised.

The search rests on the model's constraints: along a move the margin never rises, so that the least
step that is enough is found by halving. Steps between two thresholds of the trees are one.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.scoring.features.domain import Coverage, FeatureVector
from services.scoring.features.registry import encode
from services.scoring.models import wording
from services.scoring.models.domain import InputSource, Manifest, ModelFeature, Words
from services.scoring.models.moves import CONSENT, CONSENT_OF_RELATION, MOVES, shown, steps
from services.scoring.models.reasons import features_of, title
from services.scoring.models.scorer import Floats, Scorer

ALTERNATIVES: Final = 3
MAX_CHANGES: Final = 4
"""More at once are no advice."""

MAX_SETS: Final = 12
"""Sets of moves that are worked out, of those that lower the margin most."""

_CANDIDATES: Final = (99, 99, 20, 13)
"""Moves that sets of one, two, three and four are made of: those that do most alone."""

MAX_COMBINATIONS: Final = 64
"""Steps of all but one move of a set that are tried; more are thinned out."""

SLACK: Final = 1e-9
"""A margin that is this near a grade's edge does not count as past it."""

DECILES: Final = 2.5631
"""Standard deviations between the first and the last decile of a normal distribution."""

BEST: Final = Words("已是最高等级", "The grade is the best there is")
NONE: Final = Words(
    "在企业一定时间内可做到的改变中，没有能达到更高等级的组合",
    "No change that the firm can make within the time stated reaches a better grade",
)


@dataclass(frozen=True, slots=True)
class Shift:
    """A feature before and after.

    Args:
        feature: its name.
        before: value in the decision.
        after: value that is suggested.
        unit: how to read them.
    """

    feature: str
    before: float
    after: float
    unit: str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing to do.

    Args:
        shift: of the feature that it is about.
        zh: in Chinese.
        en: in English.
        months: until the records show it; 0 when that is not known.
        along: features that move with it.
    """

    shift: Shift
    zh: str
    en: str
    months: int
    along: tuple[Shift, ...] = ()


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """Changes that together reach a better grade.

    Args:
        grade: that is reached.
        score: that is reached.
        changes: all of them are needed.
        size: sum of the changes, in units of the reference population's spread.
    """

    grade: str
    score: int
    changes: tuple[Change, ...]
    size: float


@dataclass(frozen=True, slots=True)
class Improvements:
    """What would better a grade.

    Args:
        counterfactuals: fewest changes first, then smallest; at most ALTERNATIVES.
        remark: why there is none; None when there is one.
        consents: sources whose data would count if they were consented to, whatever they show.
    """

    counterfactuals: tuple[Counterfactual, ...]
    remark: Words | None
    consents: tuple[Words, ...] = ()


@dataclass(frozen=True, slots=True)
class _Lever:
    """A move of one row.

    Args:
        feature: place of the feature that it is about.
        places: of all features that it moves.
        values: steps x places; the smallest step first.
        sizes: of the steps.
    """

    feature: int
    places: tuple[int, ...]
    values: Floats
    sizes: Floats


State = Mapping[int, int]
"""Steps taken, by lever."""


class Improver:
    """Finds improvements by one model; thread-safe.

    Args:
        scorer: the model.
        movable: names of the constrained inputs that a firm can move, of those that are not the
            platform's features: these go by moves.toml.
    """

    def __init__(self, scorer: Scorer, movable: Collection[str] = ()) -> None:
        self._scorer = scorer
        self._manifest = scorer.manifest
        self._splits = scorer.splits()
        self._movable = frozenset(movable)
        self._places = {f.name: at for at, f in enumerate(self._manifest.features)}
        self._spreads = _spreads(self._manifest)

    def of_firm(self, vector: FeatureVector) -> Improvements:
        """Improvements of a firm by a model of the platform's features.

        Args:
            vector: the model's features of the firm.
        """
        features = features_of(self._manifest)
        found = self.of_row(encode(vector, features))
        withheld = [
            feature
            for feature, missing in zip(features, vector.missing, strict=True)
            if missing is not None
            and (feature.relation is not None or missing is Coverage.NOT_CONSENTED)
        ]
        consents = dict.fromkeys(
            CONSENT_OF_RELATION
            if feature.relation
            else Words(
                CONSENT.zh.format(title=title(feature.group).zh),
                CONSENT.en.format(title=title(feature.group).en),
            )
            for feature in withheld
        )
        return Improvements(found.counterfactuals, found.remark, tuple(consents))

    def of_row(self, row: Sequence[float]) -> Improvements:
        """Improvements of a row.

        Args:
            row: the model's inputs, encoded.
        """
        start = np.array(row, dtype=np.float64)
        grade = self._scorer.score(start[None, :]).grades[0]
        cut = next(cut for cut in self._manifest.grades if cut.grade == grade)
        if cut.pd_from <= 0:
            return Improvements((), BEST)
        calibration = self._manifest.calibration
        target = (math.log(cut.pd_from / (1 - cut.pd_from)) - calibration.b) / calibration.a
        search = _Search(self._scorer, start, self._levers(start), target - SLACK)
        found = [
            counterfactual
            for state in search.smallest()
            if (counterfactual := self._verified(search, state)) is not None
        ]
        return Improvements(tuple(found), None if found else NONE)

    def _levers(self, start: Floats) -> list[_Lever]:
        features = self._manifest.features
        row = {f.name: value for f, value in zip(features, start.tolist(), strict=True)}
        levers = []
        for at, feature in enumerate(features):
            if feature.name in MOVES and feature.source is InputSource.PLATFORM:
                changed = [
                    {self._places[name]: value for name, value in step.items()}
                    for step in steps(feature.name, row)
                    if _told(feature, row[feature.name], step[feature.name])
                ]
            elif feature.name in self._movable:
                changed = self._table_steps(at, feature, float(start[at]))
            else:
                continue
            lever = self._lever(at, changed, start)
            if lever is not None:
                levers.append(lever)
        return levers

    def _table_steps(self, at: int, feature: ModelFeature, value: float) -> list[dict[int, float]]:
        """To just past each threshold, up to the outer decile of the reference population."""
        bins = self._manifest.bins.get(feature.name)
        if not (feature.monotone and bins and bins.edges and shown(value)):
            return []
        past = [
            _rounded(float(split), up=feature.monotone < 0)
            for split in self._splits.get(at, np.array([]))
        ]
        end = bins.edges[-1] if feature.monotone < 0 else bins.edges[0]
        better = {
            each
            for each in past
            if (value - each) * feature.monotone > 0 and (each - end) * feature.monotone >= 0
        }
        return [{at: each} for each in sorted(better, reverse=feature.monotone > 0)]

    def _lever(self, at: int, changed: list[dict[int, float]], start: Floats) -> _Lever | None:
        """Steps that cross a threshold; None when there is none."""
        places = tuple(dict.fromkeys(place for step in changed for place in step))
        if not places:
            return None
        values = np.array([[step.get(place, start[place]) for place in places] for step in changed])
        cells = np.stack(
            [
                np.searchsorted(self._splits.get(place, np.array([])), values[:, column])
                for column, place in enumerate(places)
            ],
            axis=1,
        )
        here = [
            np.searchsorted(self._splits.get(place, np.array([])), start[place]) for place in places
        ]
        crossed = np.any(np.diff(np.vstack([here, cells]), axis=0) != 0, axis=1)
        if not crossed.any():
            return None
        kept = values[crossed]
        return _Lever(at, places, kept, np.abs(kept[:, 0] - start[at]) / self._spreads[at])

    def _verified(self, search: "_Search", state: State) -> Counterfactual | None:
        """The counterfactual, when the model itself says that it is one."""
        without = [{k: v for k, v in state.items() if k != each} for each in state]
        batch = self._scorer.score(search.rows([state, *without]))
        cuts = [cut.grade for cut in self._manifest.grades]
        reached = [cuts.index(grade) < cuts.index(search.grade) for grade in batch.grades]
        if not reached[0] or any(reached[1:]):
            return None
        changes = tuple(self._change(search, lever, step) for lever, step in sorted(state.items()))
        return Counterfactual(
            batch.grades[0], int(batch.scores[0]), changes, float(search.size(state))
        )

    def _change(self, search: "_Search", lever: int, step: int) -> Change:
        moved = search.levers[lever]
        shifts = [
            Shift(
                self._manifest.features[place].name,
                float(search.start[place]),
                float(moved.values[step, column]),
                self._manifest.features[place].unit,
            )
            for column, place in enumerate(moved.places)
        ]
        feature, shift = self._manifest.features[moved.feature], shifts[0]
        along = tuple(each for each in shifts[1:] if each.before != each.after)
        platform = feature.source is InputSource.PLATFORM
        values = (shift.before, shift.after)
        before_zh, after_zh = (
            wording.value_zh(value, shift.unit) if platform else f"{value:g}" for value in values
        )
        before_en, after_en = (
            wording.value_en(value, shift.unit) if platform else f"{value:g}" for value in values
        )
        to_zh = "升至" if shift.after > shift.before else "降至"
        said_zh = f"{feature.zh or feature.name}由{before_zh}{to_zh}{after_zh}"
        said_en = f"{feature.en or feature.name} from {before_en} to {after_en}"
        if not platform:
            return Change(shift, said_zh, said_en, 0, along)
        move = MOVES[feature.name]
        months = f"{move.months} month{'' if move.months == 1 else 's'}"
        return Change(
            shift,
            f"{move.zh}：{said_zh}（约需{move.months}个月）",
            f"{wording.sentence_en([move.en])}: {said_en} (about {months})",
            move.months,
            along,
        )


class _Search:
    """The search for one row.

    Args:
        scorer: the model.
        start: the row.
        levers: its moves.
        target: margin to stay below.
    """

    def __init__(
        self, scorer: Scorer, start: Floats, levers: Sequence[_Lever], target: float
    ) -> None:
        self._scorer = scorer
        self.start = start
        self.levers = levers
        self.grade = scorer.score(start[None, :]).grades[0]
        self._target = target

    def rows(self, states: Sequence[State]) -> Floats:
        """The row after each of some states."""
        rows = np.repeat(self.start[None, :], len(states), axis=0)
        of_lever: dict[int, tuple[list[int], list[int]]] = {}
        for at, state in enumerate(states):
            for lever, step in state.items():
                which, taken = of_lever.setdefault(lever, ([], []))
                which.append(at)
                taken.append(step)
        for lever, (which, taken) in of_lever.items():
            moved = self.levers[lever]
            rows[np.array(which)[:, None], moved.places] = moved.values[taken]
        return rows

    def size(self, state: State) -> float:
        """How large changes are, in units of spread."""
        return math.fsum(float(self.levers[lever].sizes[step]) for lever, step in state.items())

    def smallest(self) -> list[State]:
        """Up to ALTERNATIVES states that reach the target, of different levers; best first."""
        everything = frozenset(range(len(self.levers)))
        if not self.levers or not self._enough([self._furthest(everything)])[0]:
            return []
        # Along a lever the margin never rises: what all others together cannot do without it, no
        # fewer of them can.
        without = self._enough([self._furthest(everything - {each}) for each in sorted(everything)])
        needed = frozenset(each for each, reached in enumerate(without) if not reached)
        alone = self._margins([self._furthest([each]) for each in sorted(everything)])
        strongest = np.argsort(alone, kind="stable").tolist()
        found: list[State] = []
        enough: list[frozenset[int]] = []
        for count in range(max(1, len(needed)), MAX_CHANGES + 1):
            free = [each for each in strongest[: _CANDIDATES[count - 1]] if each not in needed]
            sets = [
                chosen
                for chosen in map(needed.union, itertools.combinations(free, count - len(needed)))
                if not any(less <= chosen for less in enough)
            ]
            if not sets:
                continue
            margins = self._margins([self._furthest(chosen) for chosen in sets])
            reaching = [sets[at] for at in np.argsort(margins, kind="stable").tolist()]
            reaching = reaching[: int((margins <= self._target).sum())]
            enough += reaching
            states = self._least_of_sets(reaching[:MAX_SETS])
            found += sorted(states, key=lambda state: (self.size(state), sorted(state.items())))
            if len(found) >= ALTERNATIVES:
                break
        return found[:ALTERNATIVES]

    def _furthest(self, chosen: Iterable[int]) -> State:
        return {lever: len(self.levers[lever].values) - 1 for lever in chosen}

    def _margins(self, states: Sequence[State]) -> Floats:
        return self._scorer.margins(self.rows(states))

    def _enough(self, states: Sequence[State]) -> list[bool]:
        reached: list[bool] = (self._margins(states) <= self._target).tolist()
        return reached

    def _least_of_sets(self, sets: Sequence[frozenset[int]]) -> list[State]:
        """The smallest state of each set of levers that reaches at its furthest."""
        queries: list[tuple[int, dict[int, int], int]] = []
        thinned = set()
        for at, chosen in enumerate(sets):
            *others, last = sorted(
                chosen, key=lambda lever: (len(self.levers[lever].values), lever)
            )
            most = max(2, math.floor(MAX_COMBINATIONS ** (1 / max(len(others), 1))))
            grids = [_thinned(len(self.levers[lever].values), most) for lever in others]
            if any(len(self.levers[lever].values) > most for lever in others):
                thinned.add(at)
            queries += [
                (at, dict(zip(others, taken, strict=True)), last)
                for taken in itertools.product(*grids)
            ]
        solved = self._least([(state, last) for _, state, last in queries])
        best: dict[int, State] = {}
        for (at, state, last), step in zip(queries, solved, strict=True):
            if step is None:
                continue
            whole = {**state, last: step}
            if at not in best or self.size(whole) < self.size(best[at]):
                best[at] = whole
        # Of all steps the smallest is found; of some, a lever may still take one less.
        return [self._shrunk(best[at]) if at in thinned else best[at] for at in sorted(best)]

    def _least(self, queries: Sequence[tuple[State, int]]) -> list[int | None]:
        """The least step of a lever that is enough beside others' steps; None when none is."""
        ends = [len(self.levers[lever].values) - 1 for _, lever in queries]
        possible = self._enough(
            [{**state, lever: end} for (state, lever), end in zip(queries, ends, strict=True)]
        )
        low = [0] * len(queries)
        high = list(ends)
        while open_at := [at for at, can in enumerate(possible) if can and low[at] < high[at]]:
            middles = [(low[at] + high[at]) // 2 for at in open_at]
            tried = [
                {**queries[at][0], queries[at][1]: middle}
                for at, middle in zip(open_at, middles, strict=True)
            ]
            for at, middle, reached in zip(open_at, middles, self._enough(tried), strict=True):
                if reached:
                    high[at] = middle
                else:
                    low[at] = middle + 1
        return [step if can else None for step, can in zip(high, possible, strict=True)]

    def _shrunk(self, state: State) -> State:
        """The state with no lever that can take one step less."""
        shrunk = dict(state)
        for lever in sorted(state):
            others = {each: step for each, step in shrunk.items() if each != lever}
            [step] = self._least([(others, lever)])
            shrunk[lever] = shrunk[lever] if step is None else min(step, shrunk[lever])
        return shrunk


def _thinned(count: int, most: int) -> list[int]:
    """Up to so many of the steps, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(0, count - 1, min(count, most)).tolist()})


def _spreads(manifest: Manifest) -> list[float]:
    """A standard deviation of each feature in the reference population; 1 where it has none."""
    found = []
    for feature in manifest.features:
        bins = manifest.bins.get(feature.name)
        edges = bins.edges if bins else ()
        spread = (edges[-1] - edges[0]) / DECILES if len(edges) > 1 else 0.0
        found.append(spread if spread > 0 else 1.0)
    return found


def _rounded(split: float, *, up: bool) -> float:
    """The next number past a threshold with three digits."""
    if split == 0:
        return 0.001 if up else 0.0
    digit = 10.0 ** (math.floor(math.log10(abs(split))) - 2)
    value = (math.floor(split / digit) + 1) * digit if up else math.floor(split / digit) * digit
    return float(f"{value:.6g}")


def _told(feature: ModelFeature, before: float, after: float) -> bool:
    """Whether words tell the two values apart, in both languages."""
    return wording.value_zh(before, feature.unit) != wording.value_zh(
        after, feature.unit
    ) and wording.value_en(before, feature.unit) != wording.value_en(after, feature.unit)
