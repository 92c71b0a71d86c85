"""Rows of a bank's table as the inputs of a model that was trained on such a table.

Invariants: how a column is read follows from what the model's feature states (its unit, its
categories) and from the cell alone, so that a row has the same inputs in whatever batch it comes;
columns that the model does not know are ignored. Missing stays missing; an unseen category is the
one that stands for all others where training saw such, else it is missing.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from services.scoring.models.domain import ModelFeature
from services.scoring.training import columns as cells
from services.scoring.training.domain import Floats
from services.scoring.training.spec import SpecError, nearest

NUMBER, PERCENT, FLAG, CATEGORY = "number", "percent", "yes or no", "category"
DATE, UNREADABLE = "date", "unreadable"
OTHER: Final = "(other)"
"""Name of the category that stands for all others."""

_DAYS_BEFORE: Final = re.compile(r"days before (?P<time>.+?)(?P<order>, day first)?", re.DOTALL)


def unit_of_days(time: str, *, day_first: bool) -> str:
    """Unit of an input that was a date: days before another column's date.

    Args:
        time: name of the other column.
        day_first: 3/4/2020 is the third of April.
    """
    return f"days before {time}{', day first' if day_first else ''}"


@dataclass(slots=True)
class Unread:
    """What was not understood in rows to score.

    Args:
        cells: that are no value of their column's kind, by column; they counted as missing.
        unseen: categories that training did not see, by column; they counted as others or missing.
    """

    cells: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)


def needed(features: Sequence[ModelFeature]) -> tuple[str, ...]:
    """Columns that a table must have to be scored."""
    times = [_time_of(feature) for feature in features]
    return tuple(dict.fromkeys([f.name for f in features] + [time for time, _ in times if time]))


def check_needed(features: Sequence[ModelFeature], names: Sequence[str], version: str) -> None:
    """Refuse a table that lacks inputs of a model.

    Raises:
        SpecError: names what is missing.
    """
    missing = [column for column in needed(features) if column not in names]
    if missing:
        hint = nearest(missing[0], names)
        raise SpecError(
            f"the table lacks {len(missing)} column{'s' if len(missing) > 1 else ''} that "
            f"{version} was trained on: {', '.join(missing[:10])}"
            f"{', ...' if len(missing) > 10 else ''}; {hint + ' Else a' if hint else 'a'}dd "
            "them, empty where nothing is known"
        )


def encode(
    features: Sequence[ModelFeature], batch: Mapping[str, Any], unread: Unread | None = None
) -> Floats:
    """Rows as a model's inputs.

    Args:
        features: of the model.
        batch: columns by name; more than the model's are ignored.
        unread: counts what was not understood.

    Returns:
        Rows x features; NaN is missing.
    """
    counted = unread if unread is not None else Unread()
    moments: dict[tuple[str, bool], Floats] = {}
    columns = []
    for feature in features:
        column = cells.plain(batch[feature.name])
        time, day_first = _time_of(feature)
        if feature.categories:
            columns.append(_encode_category(feature, column, counted))
        elif time:
            if (time, day_first) not in moments:
                moments[time, day_first] = cells.moments(
                    cells.plain(batch[time]), day_first=day_first
                )
            read = cells.moments(column, day_first=day_first)
            _count(feature.name, column, read, counted)
            columns.append(moments[time, day_first] - read)
        elif cells.is_text(column.type):
            written = cells.texts(column)
            reader = cells.flags if feature.unit == FLAG else cells.numbers
            read = written.spread(reader(written.values))
            counted.cells[feature.name] += int((np.isnan(read) & (written.codes >= 0)).sum())
            columns.append(read)
        elif cells.is_date(column.type) or not cells.is_readable(column.type):
            raise SpecError(
                f"{feature.name!r} holds {column.type}, where the model was trained on "
                f"{feature.unit}: convert the column"
            )
        else:
            columns.append(cells.typed_numbers(column))
    return np.column_stack(columns)


def _time_of(feature: ModelFeature) -> tuple[str, bool]:
    found = _DAYS_BEFORE.fullmatch(feature.unit)
    if found is None or feature.categories:
        return "", False
    return found["time"], found["order"] is not None


def _encode_category(feature: ModelFeature, column: Any, unread: Unread) -> Floats:
    written = cells.texts(column)
    known = feature.categories if feature.others is None else feature.categories[: feature.others]
    place = pc.index_in(written.values, pa.array(known, written.values.type))
    codes = place.cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    unseen = np.isnan(codes)
    if feature.others is not None:
        codes[unseen] = feature.others
    unread.unseen[feature.name] += int(written.counts[unseen].sum())
    return written.spread(codes)


def _count(name: str, column: Any, read: Floats, unread: Unread) -> None:
    given = len(column) - column.null_count
    if cells.is_text(column.type):
        given = int((cells.texts(column).codes >= 0).sum())
    unread.cells[name] += max(0, given - int((~np.isnan(read)).sum()))
