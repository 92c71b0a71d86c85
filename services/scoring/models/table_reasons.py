"""Reasons of scores by a model of a bank's own table, in words, for whole columns of rows at once.

Invariants: a reason's points are the group's points less the group's mean over the reference
population, as for the platform's own models; the words follow from the same numbers. Which way a
column counts is the model's: no words call a value good or bad, they say what it does to the score.
"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from services.scoring.models.domain import Manifest, ModelFeature, Words
from services.scoring.models.scorer import ScoreBatch

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MIN_POINTS: Final = 0.5
"""A group that moves the score by less is no reason."""

FACTS: Final = 2
"""Columns of a group that a reason names."""

FLAG, PERCENT, DAYS = "yes or no", "percent", "days before "
"""Units of a table's columns: the last is followed by a column's name."""

_DAY_FIRST: Final = ", day first"
_WHOLE: Final = 1e15
_LARGE: Final = 1e4

_ZH: Final = {
    "missing": "缺失",
    "other": "其他",
    "yes": "是",
    "no": "否",
    "up": "{title}使评分提高{points}分（{facts}）",
    "down": "{title}使评分降低{points}分（{facts}）",
    "fact": "{title} {value}",
    "between": "，",
    "days": "{time}前{days}天",
    "after": "{time}后{days}天",
}
_EN: Final = {
    "missing": "missing",
    "other": "another value",
    "yes": "yes",
    "no": "no",
    "up": "{title} raises the score by {points} points ({facts})",
    "down": "{title} lowers the score by {points} points ({facts})",
    "fact": "{title}: {value}",
    "between": "; ",
    "days": "{days} days before {time}",
    "after": "{days} days after {time}",
}


class TableReasoner:
    """Words the reasons of one model of a table.

    Args:
        manifest: of the model.
        zh: in Chinese, else in English.
    """

    def __init__(self, manifest: Manifest, *, zh: bool) -> None:
        self._zh = zh
        self._say = _ZH if zh else _EN
        self._features = manifest.features
        self._means = np.array([manifest.reference.points[f.name] for f in manifest.features])
        self._groups = manifest.groups
        self._members = [
            np.array([at for at, f in enumerate(manifest.features) if f.group == group])
            for group in manifest.groups
        ]
        self._titles = [self._title(manifest, at) for at in range(len(self._groups))]

    def words(self, batch: ScoreBatch, matrix: Floats, count: int) -> list[list[str | None]]:
        """Reasons of all rows, strongest first.

        Args:
            batch: what the model said.
            matrix: the rows' inputs.
            count: most reasons of a row.

        Returns:
            A list by rank with a text by row; None where a row has no more reasons.
        """
        rows = len(matrix)
        strengths = batch.feature_points - self._means
        totals = np.column_stack([strengths[:, members].sum(axis=1) for members in self._members])
        order = np.argsort(-np.abs(totals), axis=1, kind="stable")[:, :count]
        found: list[list[str | None]] = []
        for rank in range(count):
            texts: list[str | None] = [None] * rows
            if rank < order.shape[1]:
                groups = order[:, rank]
                strong = np.abs(totals[np.arange(rows), groups]) >= MIN_POINTS
                for group in np.unique(groups[strong]).tolist():
                    which = np.flatnonzero(strong & (groups == group))
                    said = self._group(group, totals[which, group], strengths[which], matrix[which])
                    for at, text in zip(which.tolist(), said, strict=True):
                        texts[at] = text
            found.append(texts)
        return found

    def _group(self, group: int, points: Floats, strengths: Floats, matrix: Floats) -> list[str]:
        members, title = self._members[group], self._titles[group]
        up, down = (
            self._say[way].replace("{title}", title.replace("{", "{{").replace("}", "}}"))
            for way in ("up", "down")
        )
        whole = np.maximum(1, np.floor(np.abs(points) + 0.5)).astype(np.int64).tolist()
        facts = (
            self._values(int(members[0]), matrix)
            if len(members) == 1
            else self._facts(members, np.sign(points), strengths, matrix)
        )
        return [
            (up if value > 0 else down)
            .format(points=count, facts=fact)
            .replace(" 1 points ", " 1 point ")
            for value, count, fact in zip(points.tolist(), whole, facts, strict=True)
        ]

    def _facts(self, members: Ints, signs: Floats, strengths: Floats, matrix: Floats) -> list[str]:
        """The columns of a group that did most of it, with their values."""
        pushed = strengths[:, members] * signs[:, None]
        order = np.argsort(-pushed, axis=1, kind="stable")[:, :FACTS]
        found: list[list[str]] = [[] for _ in range(len(matrix))]
        for rank in range(order.shape[1]):
            leads = order[:, rank]
            told = pushed[np.arange(len(matrix)), leads] > 0
            for lead in np.unique(leads[told]).tolist():
                at = int(members[lead])
                which = np.flatnonzero(told & (leads == lead))
                values = self._values(at, matrix[which])
                feature = self._features[at]
                name = (feature.zh if self._zh else feature.en) or feature.name
                for row, value in zip(which.tolist(), values, strict=True):
                    found[row].append(self._say["fact"].format(title=name, value=value))
        return [self._say["between"].join(facts) for facts in found]

    def _values(self, at: int, matrix: Floats) -> list[str]:
        """A column's values as text: each distinct one is written once."""
        distinct, places = np.unique(matrix[:, at], return_inverse=True)
        write = self._writer(self._features[at])
        missing = self._say["missing"]
        texts = [missing if math.isnan(value) else write(value) for value in distinct.tolist()]
        return [texts[place] for place in places.tolist()]

    def _writer(self, feature: ModelFeature) -> Callable[[float], str]:
        say = self._say
        if feature.categories:
            names = [
                say["other"] if at == feature.others else name
                for at, name in enumerate(feature.categories)
            ]
            return lambda value: names[int(value)]
        if feature.unit == FLAG:
            return lambda value: say["yes"] if value else say["no"]
        if feature.unit == PERCENT:
            return lambda value: f"{number(value)}%"
        if feature.unit.startswith(DAYS):
            time = feature.unit.removeprefix(DAYS).removesuffix(_DAY_FIRST)
            return lambda value: say["days" if value >= 0 else "after"].format(
                time=time, days=number(abs(value))
            )
        return number

    def _title(self, manifest: Manifest, group: int) -> str:
        name = self._groups[group]
        members = [self._features[at] for at in self._members[group].tolist()]
        words = manifest.words.get(name)
        if words is None:
            alone = members[0]
            words = Words(alone.zh, alone.en) if len(members) == 1 else Words(name, name)
        return (words.zh if self._zh else words.en) or name


def number(value: float) -> str:
    """A number as people write it: whole ones whole, others with four digits that count."""
    if value == math.floor(value) and abs(value) < _WHOLE:
        return str(int(value))
    if abs(value) >= _LARGE:
        return f"{value:.0f}" if abs(value) < _WHOLE else f"{value:.3e}"
    return f"{value:.4g}"
