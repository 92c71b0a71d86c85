"""What is wrong with a table's columns before anything is trained: above all, what leaks.

A column leaks when it could not have been known when the score was asked for: a charge-off's date
and amount, what was recovered, a status. Such a column makes a model that looks perfect and knows
nothing. Invariants: what is plainly so is refused, which a bank can overrule by naming the column
in its spec; what is only suspicious is told and stays. Figures are weighted as the table is.
Nothing here looks at more than one column at a time, but for twins.
"""

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from services.scoring.training.domain import Finding, Floats, Ints

Bools = npt.NDArray[np.bool_]

REMEDY: Final = ": left out; name it in [groups] if it was known when the score was asked for"

AUC_REFUSED: Final = 0.95
"""The best single columns reach .73 in the Polish data, .69 in the German, about .9 in the
Taiwanese."""

AUC_SURE: Final = 0.90
"""The lower end of the AUC's interval has to be above this, too: few defaults prove little."""

AUC_TOLD: Final = 0.85
AUC_OF_LABEL: Final = 0.9995
MISSING_REFUSED: Final = 0.85
MISSING_TOLD: Final = 0.70
HINT_REFUSED: Final = 0.75
HINT_TOLD: Final = 0.60

LIFT_REFUSED: Final = 50.0
"""Odds of the outcome where a column has a value, to those of the table. Honest columns of the
Polish and German data reach 4; the rating that was given once the outcome was known (CUMCM 2020 C)
174."""

LIFT_OF_HINT: Final = 20.0
LEAST_ROWS: Final = 20
LEAST_SHARE: Final = 0.03
"""Of the events, that a value must tell."""

LEAST_GOODS: Final = 0.2
"""Of the others, that a value must tell: in the Polish data, 525 firms with a ratio of 0 include no
bankrupt one."""

LATER: Final = 0.01
"""Share of dates after the observation that is no slip of the pen."""

ALIKE: Final = 0.995
"""Correlation of ranks with time from which a column is a calendar."""

MOVED: Final = 0.25
"""PSI from which a population counts as another (Siddiqi 2006)."""

_MOVED_ROWS: Final = 200
_MOVED_VALUES: Final = 50
_FLOOR: Final = 1e-4
_ONLY: Final = 0.8
_FOLDS: Final = 5
_SHRINK: Final = 10.0
_MODE: Final = 0.05
_DISTINCT_ID: Final = 0.99
_DISTINCT_TEXT: Final = 0.5
_FIRMS: Final = (30, 0.02, 1.2)

_ID: Final = re.compile(
    r"(^|[\W_])(id|ids|nr|no|num|number|key|uuid|guid|index|idx|seq|chkdgt|rowid)([\W_]|$)"
    r"|^column \d+$|unnamed|编号|序号|身份证|证件号|合同号|流水号|账号",
    re.IGNORECASE,
)
_FIRM: Final = re.compile(
    r"company|firm|customer|client|borrower|applicant|obligor|enterprise|ticker|symbol|permno"
    r"|gvkey|\bcik\b|uscc|企业|公司|客户|借款人|申请人|股票|证券代码|统一社会信用代码",
    re.IGNORECASE,
)
_AFTER: Final = re.compile(
    r"charge[\W_]*d?[\W_]*off|chg[\W_]*off|write[\W_]*off|written[\W_]*off|recover|collection|settle"
    r"|liquidat|foreclos|repossess|last[\W_]*(pymnt|pay|fico)|total[\W_]*(pymnt|rec)|out[\W_]*prncp"
    r"|\blgd\b|default[\W_]*(date|amount|amt|dt)|(date|days|amount)[\W_]*(of|at|in)?[\W_]*default"
    r"|核销|追偿|回收|代偿|结清|违约(日期|金额|时间)|逾期(金额|本金|天数)",
    re.IGNORECASE,
)
"""Names of what comes after an outcome."""

_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that may become an input.

    Args:
        name: of it.
        values: by row; of names their codes; NaN is missing.
        names: the values are codes of names, whose order means nothing.
        text: it was written as text that is no number.
        days: of a column of dates, by row, since 1970; NaN is missing.
    """

    name: str
    values: Floats
    names: bool = False
    text: bool = False
    days: Floats | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What columns are held against.

    Args:
        labels: 1 is the outcome; both occur.
        weights: of the rows.
        times: days since 1970 of the observations; None when not stated.
        time: name of their column.
    """

    labels: Ints
    weights: Floats
    times: Floats | None = None
    time: str = ""


def inspect(
    candidates: Sequence[Candidate],
    outcomes: Outcomes,
    named: Collection[str] = (),
    advance: Callable[[int], None] | None = None,
) -> tuple[Finding, ...]:
    """Find what is wrong with columns.

    Args:
        candidates: the columns.
        outcomes: of the rows.
        named: columns that the spec wants as inputs: of twins, they are the ones that stay.
        advance: told of columns that are done.

    Returns:
        Findings in the order of the columns; those of a column that is refused first.
    """
    found: dict[str, list[Finding]] = {}
    for candidate in candidates:
        found[candidate.name] = list(_column(candidate, outcomes))
        if advance is not None:
            advance(1)
    for twin, of in _twins(candidates, named):
        detail = f"has the same values as {of!r} in every row: one of the two is enough"
        found[twin].append(Finding(twin, "duplicate", detail, refused=True))
    return tuple(
        finding
        for candidate in candidates
        for finding in sorted(found[candidate.name], key=lambda each: not each.refused)
    )


def firm_like(candidate: Candidate) -> bool:
    """Tell whether a column seems to name the firm of each row, with several rows of a firm."""
    there = candidate.values[~np.isnan(candidate.values)]
    distinct = len(np.unique(there))
    least, share, repeats = _FIRMS
    return bool(
        _FIRM.search(candidate.name)
        and (candidate.names or _whole(there))
        and distinct >= max(least, share * len(there))
        and len(there) >= repeats * distinct
    )


def duplicate_rows(columns: Sequence[Floats]) -> Bools:
    """Tell which rows have the same values as one before them."""
    mixed = np.zeros(len(columns[0]) if columns else 0, dtype=np.uint64)
    for at, column in enumerate(columns):
        bits = np.where(np.isnan(column), np.nan, column + 0.0).view(np.uint64)
        mixed = (mixed ^ (bits + np.uint64(at + 1))) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    repeated = np.ones(len(mixed), dtype=bool)
    repeated[np.unique(mixed, return_index=True)[1]] = False
    return repeated


def weighted_auc(labels: Ints, values: Floats, weights: Floats) -> float:
    """Chance that a row with the outcome has the higher value; ties count half."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    bad = np.where(labels[order] == 1, weights[order], 0.0)
    good = np.where(labels[order] == 0, weights[order], 0.0)
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))
    bads, goods = np.add.reduceat(bad, starts), np.add.reduceat(good, starts)
    below = np.cumsum(goods) - goods / 2
    return float((bads * below).sum() / bads.sum() / goods.sum())


def _column(candidate: Candidate, outcomes: Outcomes) -> Iterator[Finding]:
    name, values = candidate.name, candidate.values
    missing = np.isnan(values)
    there = values[~missing]
    distinct = np.unique(there)

    def finding(problem: str, detail: str, *, refused: bool) -> Finding:
        return Finding(name, problem, detail, refused)

    if not len(distinct):
        yield finding("constant", "has no value in any row", refused=True)
        return
    if len(distinct) == 1 and not missing.any():
        yield finding("constant", "has the same value in every row", refused=True)
        return
    after = bool(_AFTER.search(name))
    leak = _leak(candidate, outcomes, missing, distinct, after=after)
    if leak is not None:
        yield leak
        if leak.refused:
            return
    if firm_like(candidate):
        detail = (
            f"names firms: {len(distinct):,} of them in {len(there):,} rows; name it as `group`, "
            "so that no firm lies on both sides of a fold"
        )
        yield finding("firm", detail, refused=True)
        return
    like = _id_like(candidate, there, len(distinct))
    if like:
        yield finding("id_like", like, refused=True)
        return
    if outcomes.times is None:
        if candidate.days is not None:
            detail = (
                "is a date, and no `time` is named to count its days from: name the column of the "
                "observation's date as `time`"
            )
            yield finding("date", detail, refused=True)
        return
    number = not candidate.names and candidate.days is None
    if number and len(distinct) > 2 and _calendar(values, outcomes.times):
        detail = (
            f"goes with {outcomes.time!r}: a model cannot learn from the calendar what comes later"
        )
        yield finding("calendar", detail, refused=True)
        return
    moved = _moved(candidate, outcomes.times, distinct)
    if moved >= MOVED:
        detail = (
            f"has moved: PSI {moved:.2f} of the latest third against the rows before it; figures "
            "out of time show what that costs"
        )
        yield finding("moved", detail, refused=False)


def _leak(
    candidate: Candidate, outcomes: Outcomes, missing: Bools, distinct: Floats, *, after: bool
) -> Finding | None:
    """The strongest sign that a column was not known when the score was asked for."""
    name = candidate.name

    def refuse(problem: str, detail: str) -> Finding:
        return Finding(name, problem, detail + REMEDY, refused=True)

    absent = weighted_auc(outcomes.labels, missing.astype(np.float64), outcomes.weights)
    telling = max(absent, 1 - absent)
    auc, sure = _single(candidate, outcomes, missing)
    if telling < MISSING_REFUSED or telling < auc - 0.05:
        if auc >= AUC_OF_LABEL and sure >= AUC_SURE:
            return refuse("leak_label", "gives the label away: each value goes with one outcome")
        if auc >= AUC_REFUSED and sure >= AUC_SURE:
            return refuse("leak_auc", f"alone has an AUC of {auc:.3f}")
    bad = outcomes.labels == 1
    with_outcome = _share(~missing, outcomes.weights, bad)
    without = _share(~missing, outcomes.weights, ~bad)
    lift, where = _lift(candidate, outcomes, missing, distinct)
    filled = (
        f"has a value in {with_outcome:.1%} of the rows with the outcome and in {without:.1%} of "
        "the others"
    )
    if telling >= MISSING_REFUSED:
        return refuse("leak_missing", filled)
    later = _later(candidate, outcomes)
    if later > LATER:
        return refuse(
            "leak_date",
            f"lies after {outcomes.time!r} in {later:.0%} of its rows, so it was not known then",
        )
    if lift >= LIFT_REFUSED:
        if where == "":
            return refuse("leak_missing", filled)
        return refuse("leak_value", f"tells the outcome nearly for sure where it is {where}")
    if after and (auc >= HINT_REFUSED or lift >= LIFT_OF_HINT):
        return refuse(
            "leak_after",
            f"by its name is known only after the outcome, and alone has an AUC of {auc:.3f}",
        )
    if auc >= AUC_TOLD:
        detail = f"alone has an AUC of {auc:.3f}: make sure that it was known when it was asked for"
        return Finding(name, "predictive", detail, refused=False)
    if telling >= MISSING_TOLD or (missing.any() and _only_bad(missing, outcomes)):
        return Finding(name, "missing", f"{filled}: make sure that this is so later, too", False)
    if after and auc >= HINT_TOLD:
        detail = "by its name may be known only after the outcome: exclude it if it is"
        return Finding(name, "after", detail, refused=False)
    return None


def _only_bad(missing: Bools, outcomes: Outcomes) -> bool:
    """Tell whether hardly any but rows with the outcome lack a value."""
    bad = outcomes.labels == 1
    lacking = int(missing.sum())
    share = float(outcomes.weights[missing & bad].sum() / outcomes.weights[missing].sum())
    return lacking >= LEAST_ROWS and share >= _ONLY


def _later(candidate: Candidate, outcomes: Outcomes) -> float:
    """Share of a column's dates that lie after the observation."""
    if candidate.days is None or outcomes.times is None:
        return 0.0
    both = ~np.isnan(candidate.days)
    return float((candidate.days[both] > outcomes.times[both]).mean()) if both.any() else 0.0


def _share(which: Bools, weights: Floats, among: Bools) -> float:
    return float(weights[which & among].sum() / weights[among].sum())


def _single(candidate: Candidate, outcomes: Outcomes, missing: Bools) -> tuple[float, float]:
    """AUC of a column alone, whichever way it points, and the lower end of its interval."""
    labels, weights = outcomes.labels, outcomes.weights
    if candidate.names:
        codes = np.where(missing, -1, candidate.values).astype(np.int64) + 1
        auc = weighted_auc(labels, _out_of_fold_means(codes, labels, weights), weights)
        best = max(auc, 0.5)
    else:
        best = _best_of_numbers(candidate.values, missing, labels, weights)
    bad = int(labels.sum())
    return best, best - 2 * _deviation(best, bad, len(labels) - bad)


def _best_of_numbers(values: Floats, missing: Bools, labels: Ints, weights: Floats) -> float:
    """The better of missing values being lowest and highest, and of the values alone."""
    there = ~missing
    bad, good = labels == 1, labels == 0
    parts = [float(weights[which & row].sum()) for which in (there, missing) for row in (bad, good)]
    bads, goods, bads_missing, goods_missing = parts
    if not (bads and goods):
        return 0.5
    alone = weighted_auc(labels[there], values[there], weights[there])
    pairs = (bads + bads_missing) * (goods + goods_missing)
    ties = bads_missing * goods_missing / 2
    lowest = (alone * bads * goods + bads * goods_missing + ties) / pairs
    highest = (alone * bads * goods + bads_missing * goods + ties) / pairs
    found = [lowest, highest]
    if min((there & bad).sum(), (there & good).sum()) >= LEAST_ROWS:
        found.append(alone)
    return max(max(auc, 1 - auc) for auc in found)


def _out_of_fold_means(codes: Ints, labels: Ints, weights: Floats) -> Floats:
    """Each row's share of the outcome among the rows of its value in the other folds."""
    size = int(codes.max()) + 1
    fold = np.random.default_rng(0).permutation(len(codes)) % _FOLDS
    prior = float(np.average(labels, weights=weights))
    scale = float(weights.mean())
    means = np.empty(len(codes))
    for each in range(_FOLDS):
        inside = fold == each
        outside = ~inside
        rows = np.bincount(codes[outside], weights[outside], size) / scale
        bads = np.bincount(codes[outside], (weights * labels)[outside], size) / scale
        means[inside] = ((bads + prior * _SHRINK) / (rows + _SHRINK))[codes[inside]]
    return means


def _deviation(auc: float, bad: int, good: int) -> float:
    """Standard deviation of an AUC (Hanley and McNeil 1982)."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (bad - 1) * (one - auc**2) + (good - 1) * (two - auc**2)
    return math.sqrt(max(spread, 0.0) / bad / good)


def _lift(
    candidate: Candidate, outcomes: Outcomes, missing: Bools, distinct: Floats
) -> tuple[float, str]:
    """How many times the odds of the outcome are moved where a column has some value.

    Returns:
        The largest factor of what tells a good part of the outcomes, and of which values it is in
        words; empty where it is whether there is a value at all.
    """
    labels, weights = outcomes.labels, outcomes.weights
    places = np.searchsorted(distinct, candidate.values)
    size = len(distinct) + 1
    places[missing] = size - 1
    scaled = weights / weights.mean()
    cells = [
        np.bincount(places[labels == label], scaled[labels == label], size) for label in (1, 0)
    ]
    bads, goods = cells
    all_bads, all_goods = float(bads.sum()), float(goods.sum())

    def factor(bad: float, good: float) -> float:
        lift = (bad + 0.5) / (good + 0.5) / (all_bads / all_goods)
        if bad >= max(LEAST_ROWS, LEAST_SHARE * all_bads):
            return lift
        expected = good * all_bads / all_goods
        if expected >= LEAST_ROWS and good >= LEAST_GOODS * all_goods:
            return 1 / lift
        return 1.0

    def worse(bad: float, good: float) -> bool:
        return bad * all_goods > good * all_bads

    found: list[tuple[float, str]] = []
    if missing.any():
        present = (float(bads[:-1].sum()), float(goods[:-1].sum()))
        found.append((factor(*present), ""))
        # That those who failed lack a value is no leak: what is not there was not known too early.
        if not worse(bads[-1], goods[-1]):
            found.append((factor(float(bads[-1]), float(goods[-1])), ""))
    rows = bads + goods
    often = np.flatnonzero(rows[:-1] >= max(LEAST_ROWS, _MODE * rows.sum()))
    if not candidate.names:
        for at in often:
            others = (
                float(bads[:-1].sum() - bads[at]), float(goods[:-1].sum() - goods[at])
            )  # fmt: skip  # a table, line by line
            found.append((factor(*others), f"not {distinct[at]:g}"))
    if candidate.names:
        often = np.flatnonzero(rows[:-1] >= LEAST_ROWS)
    for at in often:
        if not candidate.names and distinct[at] == 0 and worse(bads[at], goods[at]):
            continue  # a zero is often but a missing value
        where = "one of its values" if candidate.names else f"{distinct[at]:g}"
        found.append((factor(float(bads[at]), float(goods[at])), where))
    return max(found, default=(1.0, ""), key=lambda each: each[0])


def _id_like(candidate: Candidate, there: Floats, distinct: int) -> str:
    """Why a column is but a row's name; empty when it is not."""
    rows = len(there)
    if rows < LEAST_ROWS or candidate.days is not None:
        return ""
    if candidate.names:
        if distinct >= _DISTINCT_TEXT * rows:
            return (
                f"has {distinct:,} texts in {rows:,} rows: it names rows, it does not tell of them"
            )
        return ""
    hint = bool(_ID.search(_CAMEL.sub("_", candidate.name)))
    if distinct < (_DISTINCT_TEXT if hint else _DISTINCT_ID) * rows or not _whole(there):
        return ""
    if hint and distinct < rows:
        return f"has {distinct:,} numbers in {rows:,} rows, and by its name they are but numbers"
    steps = np.diff(there)
    in_order = bool((steps > 0).all() or (steps < 0).all())
    dense = float(there.max() - there.min()) < 1.5 * rows
    if in_order or dense or hint:
        return "has another whole number in every row: it numbers rows, it does not tell of them"
    return ""


def _moved(candidate: Candidate, times: Floats, distinct: Floats) -> float:
    """Population stability index of the latest third of the rows against the others."""
    late = times > np.quantile(times, 2 / 3)
    if min(late.sum(), (~late).sum()) < _MOVED_ROWS:
        return 0.0
    there = candidate.values[~np.isnan(candidate.values)]
    edges = distinct if candidate.names else np.unique(np.quantile(there, np.arange(1, 10) / 10))
    places = np.searchsorted(edges, candidate.values, "right")  # a missing value is behind all
    places[np.isnan(candidate.values)] = len(edges) + 1
    if len(edges) > _MOVED_VALUES:
        return 0.0
    shares = [
        np.bincount(places[rows], minlength=len(edges) + 2) / rows.sum() for rows in (late, ~late)
    ]
    now, before = (np.maximum(each, _FLOOR) for each in shares)
    return float(((now - before) * np.log(now / before)).sum())


def _whole(values: Floats) -> bool:
    return bool(len(values)) and bool((values == np.floor(values)).all())


def _calendar(values: Floats, times: Floats) -> bool:
    there = ~np.isnan(values)
    if there.sum() < LEAST_ROWS or there.mean() < 0.5:
        return False
    ranks = [_ranks(each[there]) for each in (values, times)]
    if min(float(each.std()) for each in ranks) == 0:
        return False
    return abs(float(np.corrcoef(ranks[0], ranks[1])[0, 1])) >= ALIKE


def _ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    ranks: Floats = middle[places].astype(np.float64)
    return ranks


def _twins(candidates: Sequence[Candidate], named: Collection[str]) -> Iterator[tuple[str, str]]:
    """Columns that are the same as another, and which."""
    seen: dict[bytes, str] = {}
    for candidate in sorted(candidates, key=lambda each: each.name not in named):
        values = candidate.values
        if candidate.names:
            _, first, places = np.unique(values, return_index=True, return_inverse=True)
            values = first[places].astype(np.float64)  # the same split of rows, whatever its names
        if len(np.unique(values[~np.isnan(values)])) < 2:
            continue
        key = hashlib.sha256(np.where(np.isnan(values), np.nan, values + 0.0).tobytes()).digest()
        if key in seen:
            yield candidate.name, seen[key]
        else:
            seen[key] = candidate.name
