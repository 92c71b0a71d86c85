"""What a firm can do about its features, as data (moves.toml) and as steps along a feature.

Invariants: a step never moves a constrained feature the wrong way, nor past its limit, nor from or
to a value that is missing or withheld. A move is of one feature; those that move along with it keep
the whole free of contradictions.
"""

import enum
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

from services.scoring.features.arithmetic import MAX_RATIO
from services.scoring.features.registry import BY_NAME, WITHHELD
from services.scoring.models.domain import Words

_SLACK: Final = 1e-9
PER_RATIO: Final = 1000
"""Ratios are said to a tenth of a per cent."""
_SAID: Final = ((1e9, 1e7), (1e8, 1e6), (1e6, 1e4), (1e4, 1e3), (-math.inf, 1.0))
"""From so many yuan on amounts are said to so many, in both languages."""
MAX_COUNT: Final = 50
"""Steps of a count; who has more than a hundred customers needs no finer advice."""


class By(enum.StrEnum):
    """How a feature moves."""

    FACTOR = "factor"
    COUNT = "count"
    ADD = "add"
    LESS = "less"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Move:
    """What a firm can do about one feature.

    Args:
        zh: in Chinese.
        en: in English.
        months: until the records show it.
        by: how the feature moves; None: advice only.
        reach: how far within those months.
        step: of the amounts that are suggested.
        limit: best value that there is; None: the sky, or 0 for what lowers a score.
        along: features that move with it, and how.
    """

    zh: str
    en: str
    months: int
    by: By | None = None
    reach: float = 0.0
    step: float = 0.0
    limit: float | None = None
    along: Mapping[str, str] = field(default_factory=dict)


def _read(stated: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Move]:
    moves = {
        name: Move(**{**row, "by": By(row["by"]) if "by" in row else None})
        for name, row in stated.items()
    }
    moved = [each for name, move in moves.items() if move.by for each in (name, *move.along)]
    twice = {name for name in moved if moved.count(name) > 1}
    if twice:
        raise ValueError(f"moves.toml moves {sorted(twice)} in two ways")
    for name, move in moves.items():
        for each in (name, *move.along):
            if each not in BY_NAME or not BY_NAME[each].monotone:
                raise ValueError(f"moves.toml moves {each}, which is no constrained feature")
    return moves


_STATED: Final = tomllib.loads((files(__package__) / "moves.toml").read_text("utf-8"))
MOVES: Final = _read(_STATED["moves"])
CONSENT: Final = Words(**_STATED["withheld"])
CONSENT_OF_RELATION: Final = Words(**_STATED["withheld_relation"])
SUPPLY: Final = Words(**_STATED["not_supplied"])


def shown(value: float) -> bool:
    """Whether a value is there: neither missing nor put in place of what was withheld."""
    return abs(value) < WITHHELD / 2  # False for NaN


def improvable(move: Move, monotone: int, value: float) -> bool:
    """Whether a value is there and not the best that there is."""
    limit = _limit(move, monotone)
    return shown(value) and (limit is None or (value - limit) * monotone > _SLACK)


def steps(name: str, row: Mapping[str, float]) -> Iterator[Mapping[str, float]]:
    """What a row's features become, step by step, the smallest first.

    Args:
        name: of the feature that is moved.
        row: values by feature; a feature that a model lacks may be absent.

    Yields:
        New values of the features that change: the moved one first.
    """
    move, feature = MOVES[name], BY_NAME[name]
    start = row.get(name, math.nan)
    if move.by is None or not improvable(move, feature.monotone, start):
        return
    for amount in _amounts(move, feature.monotone, start):
        value = _moved(move, feature.unit, feature.monotone, start, amount)
        if (start - value) * feature.monotone <= _SLACK:
            continue  # a share of nothing
        changed = {name: value}
        for follower, rule in move.along.items():
            before = row.get(follower, math.nan)
            if not shown(before):
                continue
            share = _share(move, start, value)
            after = _followed(follower, rule, before, share, row)
            # What is at its end already, or past it, stays: nothing moves to the worse.
            if shown(after) and (before - after) * BY_NAME[follower].monotone > 0:
                changed[follower] = after
        yield changed


def _limit(move: Move, monotone: int) -> float | None:
    if move.limit is not None:
        return move.limit
    return 0.0 if monotone > 0 else None


def _amounts(move: Move, monotone: int, start: float) -> list[float]:
    match move.by:
        case By.ALL:
            return [1.0]
        case By.COUNT:
            most = math.ceil(round(math.expm1(start)) * move.reach)
            return [float(count) for count in range(1, min(max(most, 1), MAX_COUNT) + 1)]
        case _:
            reach, limit = move.reach, _limit(move, monotone)
            if move.by is By.ADD and limit is not None:
                reach = min(reach, abs(start - limit))
            count = math.floor(reach / move.step + _SLACK)
            amounts = [round(at * move.step, 9) for at in range(1, count + 1)]
            return amounts if count * move.step > reach - _SLACK else [*amounts, reach]


def _moved(move: Move, unit: str, monotone: int, start: float, amount: float) -> float:
    match move.by:
        case By.FACTOR:
            return math.log1p(_said(math.expm1(start) * (1 + amount)))
        case By.COUNT:
            return math.log1p(round(math.expm1(start)) + amount)
        case By.LESS:
            less = start * (1 - amount)
            return math.floor(less * PER_RATIO + _SLACK) / PER_RATIO if unit == "ratio" else less
        case By.ALL:
            return _limit(move, monotone) or 0.0
        case _:
            return start - monotone * amount


def _said(yuan: float) -> float:
    """An amount rounded up to what words can say of it, so that what is said is enough."""
    whole = next(step for floor, step in _SAID if yuan >= floor)
    return math.ceil(yuan / whole - _SLACK) * whole


def _share(move: Move, start: float, value: float) -> float:
    """By what share of itself the moved feature changes."""
    if move.by is By.FACTOR:
        return math.expm1(value) / math.expm1(start) - 1
    if move.by is By.COUNT:
        return math.expm1(value) / max(math.expm1(start), 1.0) - 1
    return 1 - value / start if start else 0.0


def _scaled(value: float, factor: float, unit: str) -> float:
    if unit == "log_count":
        return math.log1p(math.floor(math.expm1(value) * factor + _SLACK))
    return math.log1p(math.expm1(value) * factor)


def _followed(name: str, rule: str, before: float, share: float, row: Mapping[str, float]) -> float:
    kind, _, part = rule.partition(" of ")
    if kind == "part":
        return _with_part(name, before, row.get(part, math.nan), share)
    follow: Mapping[str, Callable[[], float]] = {
        "factor": lambda: _scaled(before, 1 + share, BY_NAME[name].unit),
        "less": lambda: before * (1 - share),
        "square": lambda: before * (1 - share) ** 2,
        "growth": lambda: min((1 + before) * (1 + share) - 1, MAX_RATIO),
        "zero": lambda: 0.0,
    }
    return follow[kind]()


def _with_part(name: str, before: float, part: float, share: float) -> float:
    """A sum, in logs, of which a part grows."""
    if not shown(part):
        return math.nan
    grown = math.expm1(before) + share * math.expm1(part)
    return math.log1p(math.floor(grown) if BY_NAME[name].unit == "log_count" else grown)
