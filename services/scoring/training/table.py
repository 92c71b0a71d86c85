"""A bank's table as what a model is trained on, and later rows as what it scores.

Invariants: a column is read in training as it is read for scoring, by `encode`, from what the
model's feature states alone; roles that the spec did not give are inferred safely, and all that was
inferred is in the spec that comes out, with a remark. Missing stays missing. A column that is
refused is no input, whatever else; the finding says why.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from services.scoring.models.domain import SCORE, InputSource, ModelFeature, Words
from services.scoring.training import columns as cells
from services.scoring.training import inspection
from services.scoring.training.columns import NO_TEXTS, Texts
from services.scoring.training.domain import Finding, Floats, Ints, TrainingTable
from services.scoring.training.encoding import (
    CATEGORY,
    DATE,
    FLAG,
    NUMBER,
    OTHER,
    PERCENT,
    UNREADABLE,
    unit_of_days,
)
from services.scoring.training.fairness import Kind, kind_of
from services.scoring.training.files import TableFile, sha256_of
from services.scoring.training.spec import (
    AS_BAD,
    AS_GOOD,
    AS_LABELLED,
    LEFT_OUT,
    Outcome,
    SpecError,
    TableSpec,
    nearest,
)

Bools = npt.NDArray[np.bool_]

MOST_CATEGORIES: Final = 48
MOST_SEGMENTS: Final = 8

_READS: Final = 0.95
"""Share of a column's cells that must be numbers for it to be one of numbers."""

_CODES: Final = 0.05
_MOST_LABELS: Final = 50
_TIE: Final = 0.05
_BAD: Final = re.compile(
    r"default|\bbad\b|fail|chg ?off|charge|bankrupt|delinq|loss|written|insolv|distress|overdue"
    r"|逾期|违约|不良|坏|破产|失败|退市|\bst\b",
    re.IGNORECASE,
)
"""Values of a label that say the outcome came."""

_OBSERVED: Final = (
    r"observ|as[\W_]*of|snapshot|观察|快照",
    r"appl|申请",
    r"approv|批准|审批",
    r"issue|originat|放款|发放",
    r"report|报告",
    r"f[\W_]*year|fiscal|^year$|年份|年度|报告期|^date$|日期",
)
_NOT_OBSERVED: Final = re.compile(
    r"found|birth|establ|built|incorp|matur|end|close|pay|成立|出生|注册|到期|结束|还",
    re.IGNORECASE,
)
_WEIGHTS: Final = ("weight", "weights", "sample_weight", "samplingweight", "wt", "权重", "样本权重")


@dataclass(frozen=True, slots=True)
class ColumnReport:
    """A column of the table, and what became of it.

    Args:
        name: of it.
        role: label, time, group, weight, input, left out.
        kind: what its cells are.
        missing: share of the rows without a value.
        distinct: how many values it has.
        note: why it is left out, or how it is read.
    """

    name: str
    role: str
    kind: str
    missing: float
    distinct: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A table that is ready to be trained on.

    Args:
        table: the rows.
        spec: with what was inferred filled in.
        remarks: what was inferred and why, by key of the spec.
        columns: of the file, in its order.
        left_out: rows that are not used, by reason.
        cutoff: of the evaluation, days since 1970; None where the spec states none.
    """

    table: TrainingTable
    spec: TableSpec
    remarks: Mapping[str, str]
    columns: tuple[ColumnReport, ...]
    left_out: Mapping[str, int]
    cutoff: int | None = None


@dataclass(slots=True)
class _Profile:
    """A column as it was read: rows that are kept only."""

    name: str
    kind: str
    values: Floats
    texts: Texts = NO_TEXTS
    days: Floats | None = None
    note: str = ""

    @property
    def names(self) -> bool:
        return self.kind == CATEGORY

    @property
    def missing(self) -> float:
        return float(np.isnan(self.values).mean()) if len(self.values) else 1.0

    @property
    def distinct(self) -> int:
        return len(np.unique(self.values[~np.isnan(self.values)]))


@dataclass(slots=True)
class _Draft:
    """What is found out step by step."""

    spec: TableSpec
    remarks: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)

    def say(self, column: str, problem: str, detail: str) -> None:
        self.findings.append(Finding(column, problem, detail, refused=False))

    def infer(self, key: str, value: Any, why: str) -> None:
        self.spec = dataclasses.replace(self.spec, **{key: value})
        self.remarks[key] = f"inferred: {why}"

    def leave_out(self, reason: str, rows: int) -> None:
        if rows:
            self.left_out[reason] = self.left_out.get(reason, 0) + rows


def prepare(
    file: TableFile, spec: TableSpec, advance: Callable[[int], None] | None = None
) -> Prepared:
    """Read a table as its spec says, infer the rest and inspect it.

    Args:
        file: the table.
        spec: of it; only the label has to be there.
        advance: told of columns that are done, twice each.

    Raises:
        SpecError: the spec does not fit the table.
        TableFileError: the file cannot be read.
    """
    told = advance or (lambda done: None)
    check_columns(spec, file.columns)
    draft = _Draft(spec)
    wanted = [column for column in file.columns if column not in spec.exclude]
    raw = {name: cells.plain(column) for name, column in file.read(wanted).items()}
    draft.leave_out("rows with more or fewer cells than the header", file.skipped)
    labels, keep, accepted = _labels(raw, draft)
    profiles, day_first = _profiles(raw, keep, draft, told)
    _infer_roles(profiles, draft)
    rows = np.ones(int(keep.sum()), dtype=bool)
    times, ordinal = _times(profiles, draft, rows, day_first=day_first)
    weights = _weights(profiles, draft, rows)
    if not rows.all():
        labels, weights = labels[rows], None if weights is None else weights[rows]
        times = None if times is None else times[rows]
        accepted = None if accepted is None else accepted[rows]
        profiles = {name: _only(profile, rows) for name, profile in profiles.items()}
    _check_labels(labels, weights, draft)
    groups = _groups(profiles, draft)
    roles = _roles(draft.spec)
    candidates = [profile for name, profile in profiles.items() if name not in roles]
    relative = None if times is None or ordinal else times.astype(np.float64)
    for profile in candidates:
        _relate(profile, relative)
    refused = _inspect(candidates, labels, weights, times, draft, told)
    features, matrix = _features(candidates, refused, draft, day_first=day_first)
    _check_rows(matrix, labels, groups, draft)
    spec = draft.spec
    table = TrainingTable(
        matrix=matrix,
        features=features,
        labels=labels,
        weights=None if weights is None else weights / weights.mean(),
        times=times,
        groups=groups,
        segments=_segments(profiles, roles),
        accepted=accepted,
        words=_words(spec, features),
        source=f"{file.path.name} ({file.told})",
        as_of=_as_of(times, spec.time, ordinal=ordinal),
        sha256=sha256_of(file.path),
        findings=tuple(draft.findings),
    )
    return Prepared(
        table=table,
        spec=spec,
        remarks=draft.remarks,
        columns=_report(file.columns, profiles, roles, features, draft),
        left_out=draft.left_out,
        cutoff=_cutoff(spec, day_first=day_first),
    )


@dataclass(frozen=True, slots=True)
class Labelled:
    """Outcomes of a table's rows, without its inputs.

    Args:
        places: of the rows that have one, among all of the file, ascending.
        labels: of these rows, 1 is the outcome.
        weights: of these rows, mean 1; None: all the same.
        times: days since 1970; None when not stated.
        groups: of which firm a row is, as codes; None: each row is a firm of its own.
        positive: the label's value that is the outcome.
        segments: further columns by which results are shown.
        left_out: rows that are not used, by reason.
        findings: what was said of rows and roles.
    """

    places: Ints
    labels: Ints
    weights: Floats | None
    times: Ints | None
    groups: Ints | None
    positive: str
    segments: Mapping[str, Sequence[str]]
    left_out: Mapping[str, int]
    findings: tuple[Finding, ...]

    def weights_of(self, start: int, count: int) -> Floats:
        """Weights of some rows of the file; of those without an outcome 0 where rows carry any."""
        if self.weights is None:
            return np.ones(count)
        found = np.zeros(count)
        first, last = np.searchsorted(self.places, (start, start + count))
        found[self.places[first:last] - start] = self.weights[first:last]
        return found


def read_labels(file: TableFile, spec: TableSpec, segments: Sequence[str] = ()) -> Labelled:
    """Read what is known of outcomes, by the rules that `prepare` goes by.

    Args:
        file: the table.
        spec: of its label, and of time, group and weight where they are to be used.
        segments: columns by which results are to be shown.

    Raises:
        SpecError: the spec does not fit the table.
        TableFileError: the file cannot be read.
    """
    check_columns(spec, file.columns)
    draft = _Draft(spec)
    wanted = [name for name in file.columns if name in _roles(spec) or name in segments]
    raw = {name: cells.plain(column) for name, column in file.read(wanted).items()}
    labels, keep, _ = _labels(raw, draft)
    profiles, day_first = _profiles(raw, keep, draft, lambda done: None)
    rows = np.ones(int(keep.sum()), dtype=bool)
    times, _ = _times(profiles, draft, rows, day_first=day_first)
    weights = _weights(profiles, draft, rows)
    profiles = {name: _only(profile, rows) for name, profile in profiles.items()}
    labels, weights = labels[rows], None if weights is None else weights[rows]
    _check_labels(labels, weights, draft)
    return Labelled(
        places=np.flatnonzero(keep)[rows],
        labels=labels,
        weights=None if weights is None else weights / weights.mean(),
        times=None if times is None else times[rows],
        groups=_groups(profiles, draft),
        positive=draft.spec.positive or "",
        segments=_segments(profiles, _roles(spec)),
        left_out=draft.left_out,
        findings=tuple(draft.findings),
    )


def check_columns(spec: TableSpec, names: Sequence[str]) -> None:
    """Refuse a spec that names columns which the table has not.

    Raises:
        SpecError: names the key, the column and the nearest one of the table.
    """
    said: list[tuple[str, str]] = [("label", spec.label)]
    for key in ("time", "group", "weight"):
        column = getattr(spec, key)
        if column is not None:
            said.append((key, column))
    for key, columns in (
        ("exclude", spec.exclude),
        ("categorical", spec.categorical),
        ("monotone", spec.monotone),
    ):
        said += [(key, column) for column in columns]
    for group, members in spec.groups.items():
        said += [(f"groups.{group}", column) for column in members]
    if spec.outcome.rejected.column:
        said.append(("outcome.rejected", spec.outcome.rejected.column))
    if SCORE in names:
        raise SpecError(f"a column is named {SCORE!r}, which is kept for the score: rename it")
    for key, column in said:
        if column not in names:
            hint = nearest(column, names) or f"it has {', '.join(names[:12])}" + (
                ", ..." if len(names) > 12 else ""
            )
            raise SpecError(f"`{key}` names {column!r}, which the table does not have: {hint}")
    for group in spec.reasons:
        if group not in spec.groups and group not in names:
            hint = nearest(group, [*spec.groups, *names])
            raise SpecError(
                f"`reasons` gives a title to {group!r}, which is neither a group nor a column: "
                f"{hint or 'take it out'}"
            )
    for group, members in spec.groups.items():
        if group in names and group not in members:
            raise SpecError(
                f"`groups.{group}` has the name of a column that is not in it: rename it"
            )


# --- rows


def _same(value: str, wanted: str) -> bool:
    """Tell whether a cell is what a spec names: 1 is 1.0, and case does not matter."""
    if value.casefold() == wanted.strip().casefold():
        return True
    try:
        return float(value) == float(wanted)
    except ValueError:
        return False


def _which(column: Texts, wanted: Iterable[str], key: str, name: str) -> Bools:
    """Rows whose cell is one of those that a spec names.

    Raises:
        SpecError: one never occurs.
    """
    values = column.values.to_pylist()
    chosen = np.zeros(len(values) + 1, dtype=bool)
    for want in wanted:
        hits = [at for at, value in enumerate(values) if _same(value, want)]
        if not hits:
            shown = ", ".join(map(repr, values[:8]))
            raise SpecError(f"`{key}` is {want!r}, which {name!r} never has: it has {shown}")
        chosen[hits] = True
    found: Bools = chosen[column.codes]
    return found


def _labels(raw: Mapping[str, Any], draft: _Draft) -> tuple[Ints, Bools, Bools | None]:
    """The outcome by row that is kept, which rows those are, and which of them were accepted."""
    spec = draft.spec
    column = cells.texts(raw[spec.label])
    rows = len(column.codes)
    if not rows:
        raise SpecError("the table has no rows: name another file")
    outcome: Outcome = spec.outcome
    unclear = np.zeros(rows, dtype=bool)
    if outcome.indeterminates.values:
        unclear = _which(
            column, outcome.indeterminates.values, "outcome.indeterminates", spec.label
        )
    rejected = np.zeros(rows, dtype=bool)
    said = outcome.rejected
    if said.column:
        other = cells.texts(raw[said.column])
        rejected = _which(other, said.values, "outcome.rejected", said.column)
    known = (column.codes >= 0) & ~unclear
    if said.treated != AS_LABELLED:
        known &= ~rejected
    if not known.any():
        raise SpecError(f"`label` {spec.label!r} has no value in any row: name another column")
    positive = _positive(cells.kept(column, known), draft)
    labels = np.where(_which(column, [positive], "positive", spec.label), 1, 0).astype(np.int64)
    keep = known.copy()
    if outcome.indeterminates.treated == LEFT_OUT:
        draft.leave_out("indeterminate", int((unclear & ~rejected).sum()))
    else:
        labels[unclear] = 1 if outcome.indeterminates.treated == AS_BAD else 0
        keep |= unclear & ~rejected
    if said.treated == LEFT_OUT:
        draft.leave_out("rejected applicants", int(rejected.sum()))
    elif said.treated in (AS_GOOD, AS_BAD):
        labels[rejected] = 1 if said.treated == AS_BAD else 0
        keep |= rejected
    draft.leave_out("without a label", int(((column.codes < 0) & ~rejected).sum()))
    accepted = ~rejected[keep] if said.column and rejected[keep].any() else None
    return labels[keep], keep, accepted


def _positive(column: Texts, draft: _Draft) -> str:
    """The label's value that is the outcome.

    Raises:
        SpecError: it has to be said.
    """
    label, spec = draft.spec.label, draft.spec
    values = column.values.to_pylist()
    if len(values) == 1:
        raise SpecError(
            f"`label` {label!r} is {values[0]!r} in every row: there is nothing to learn"
        )
    if len(values) > _MOST_LABELS:
        raise SpecError(
            f"`label` {label!r} has {len(values):,} different values: name the column of the "
            "outcome, which has two"
        )
    shares = dict(zip(values, (column.counts / column.counts.sum()).tolist(), strict=True))
    listed = ", ".join(f"{value!r} {share:.1%}" for value, share in shares.items())
    if spec.positive is not None:
        hits = [value for value in values if _same(value, spec.positive)]
        if not hits:
            raise SpecError(
                f"`positive` is {spec.positive!r}, which {label!r} never is: it is {listed}"
            )
        if len(values) > 2:
            rest = ", ".join(repr(value) for value in values if value not in hits)
            draft.say(
                label,
                "label_values",
                f"all but {hits[0]!r} count as no outcome: {rest}; list what is undecided as "
                "`indeterminates` in [outcome]",
            )
        return spec.positive
    if len(values) > 2:
        raise SpecError(
            f"`label` {label!r} has {len(values)} values ({listed}): say by `positive` which is "
            "the outcome, and list what is undecided as `indeterminates` in [outcome]"
        )
    positive, why = _inferred_positive(values, shares, label)
    draft.infer("positive", positive, why)
    draft.say(
        label,
        "positive",
        f"{positive!r} counts as the outcome ({listed}): {why}; else say `positive`",
    )
    return positive


def _inferred_positive(
    values: Sequence[str], shares: Mapping[str, float], label: str
) -> tuple[str, str]:
    lower = {value.lower(): value for value in values}
    for yes, no in zip(cells.TRUE, cells.FALSE, strict=True):
        if set(lower) == {yes, no}:
            return lower[yes], f"{lower[yes]} of {lower[yes]} and {lower[no]}"
    bad = [value for value in values if _BAD.search(value)]
    if len(bad) == 1:
        return bad[0], "its words say so"
    rarer = min(values, key=lambda value: shares[value])
    if abs(shares[rarer] - 0.5) < _TIE / 2:
        raise SpecError(
            f"`label` {label!r} is {values[0]!r} and {values[1]!r} in about half of the rows each: "
            "say by `positive` which is the outcome"
        )
    return rarer, "the rarer of two"


def _times(
    profiles: Mapping[str, _Profile], draft: _Draft, rows: Bools, *, day_first: bool
) -> tuple[Ints | None, bool]:
    """Days of the observations, and whether they are but an order; rows without one are dropped."""
    name = draft.spec.time
    if name is None:
        return None, False
    profile = profiles[name]
    if profile.days is not None:
        found = profile.days
    elif len(profile.texts.values):
        by_value = cells.text_moments(profile.texts.values, day_first=day_first)
        found = profile.texts.spread(by_value)
    else:
        found = cells.periods(profile.values)
    profile.days = found
    ordinal = False
    readable = float((~np.isnan(found)).mean())
    if readable < 0.5:
        whole = profile.values
        if profile.names or np.isnan(whole).mean() > 0.5:
            example = f"e.g. {_example(profile)}" if len(profile.texts.values) else "it is empty"
            raise SpecError(
                f"`time` {name!r} is no date in {1 - readable:.0%} of the rows ({example}): write "
                "2015-03-28, 201503 or 2015, or name another column"
            )
        found, ordinal = whole, True
        draft.say(name, "time", "has neither dates nor years: it counts as an order of rows")
    lost = np.isnan(found)
    if lost.any():
        draft.leave_out(f"without a date in {name}", int(lost.sum()))
        rows &= ~lost
    return np.where(lost, 0, np.floor(found)).astype(np.int64), ordinal


def _weights(profiles: Mapping[str, _Profile], draft: _Draft, rows: Bools) -> Floats | None:
    name = draft.spec.weight
    if name is None:
        return None
    profile = profiles[name]
    if profile.names or profile.kind == UNREADABLE:
        raise SpecError(f"`weight` {name!r} is not a column of numbers: name another")
    lost = np.isnan(profile.values)
    if (profile.values[~lost] < 0).any():
        raise SpecError(f"`weight` {name!r} is below 0 in some rows: weights are positive")
    draft.leave_out(f"without a weight in {name}", int((lost & rows).sum()))
    draft.leave_out("of weight 0", int(((profile.values == 0) & rows).sum()))
    rows &= ~lost & (profile.values > 0)
    if not rows.any():
        raise SpecError(f"`weight` {name!r} is missing or 0 in every row: name another column")
    return profile.values


def _groups(profiles: Mapping[str, _Profile], draft: _Draft) -> Ints | None:
    """A code by firm; a row that names none is a firm of its own."""
    name = draft.spec.group
    if name is None:
        return None
    values = profiles[name].values
    _, codes = np.unique(values, return_inverse=True)
    codes = codes.astype(np.int64)
    none = np.isnan(values)
    if none.any():
        draft.say(name, "group", f"{int(none.sum()):,} rows name no firm: each counts as its own")
        codes[none] = codes.max() + 1 + np.arange(int(none.sum()))
    firms = len(np.unique(codes))
    if firms == len(codes):
        draft.say(name, "group", "names another firm in each row: grouping changes nothing")
    return codes


def _check_labels(labels: Ints, weights: Floats | None, draft: _Draft) -> None:
    events = int(labels.sum())
    if events in (0, len(labels)):
        raise SpecError(
            f"{draft.spec.label!r} has one outcome only in the {len(labels):,} rows that are left: "
            "there is nothing to learn"
        )
    share = events / len(labels)
    if draft.remarks.get("positive") and share > 0.5:
        draft.say(
            draft.spec.label,
            "positive",
            f"{draft.spec.positive!r} is the outcome of {share:.0%} of the rows: if it is the good "
            "one, say the other by `positive`",
        )
    if weights is None and abs(share - 0.5) <= 0.02:
        draft.say(
            draft.spec.label,
            "balanced",
            f"{share:.0%} of the rows have the outcome, as in a balanced sample: PDs will be those "
            "of the sample unless a `weight` carries the natural share",
        )


# --- columns


def _profiles(
    raw: dict[str, Any], keep: Bools, draft: _Draft, told: Callable[[int], None]
) -> tuple[dict[str, _Profile], bool]:
    """All columns but the label, as they were read; and whether days stand before months."""
    spec = draft.spec
    raw.pop(spec.label)
    told(1)
    found: dict[str, _Profile] = {}
    order = list(raw)
    written: dict[str, Texts] = {}
    for name in order:
        kind = raw[name].type
        if not cells.is_readable(kind):
            empty = np.full(int(keep.sum()), np.nan)
            found[name] = _Profile(
                name, UNREADABLE, empty, note=f"holds {kind}: write it as text or numbers"
            )
            del raw[name]
        elif cells.is_text(kind) or name in spec.categorical:
            written[name] = cells.kept(cells.texts(raw.pop(name)), keep)
    slashed = {name: each for name, each in written.items() if cells.has_slashed(each.values)}
    order_of_days = cells.order_of_days([each.values for each in slashed.values()])
    if slashed and order_of_days is None:
        first = next(iter(slashed))
        draft.say(first, "dates", "does not tell 3/4 from 4/3: the month is read first")
    day_first = bool(order_of_days)
    for name in order:
        told(1)
        if name in written:
            category = name in spec.categorical
            found[name] = _read_text(
                name, written.pop(name), draft, category=category, day_first=day_first
            )
        elif name in raw:
            found[name] = _read_typed(name, raw.pop(name), keep, draft)
    return {name: found[name] for name in order}, day_first


def _read_typed(name: str, column: Any, keep: Bools, draft: _Draft) -> _Profile:
    if cells.is_date(column.type):
        days = cells.typed_days(column)[keep]
        return _Profile(name, DATE, days, days=days)
    values = cells.typed_numbers(column)[keep]
    if pa.types.is_boolean(column.type):
        return _Profile(name, FLAG, values)
    if pa.types.is_floating(column.type):
        infinite = int(pc.sum(pc.is_inf(column)).as_py() or 0)
        if infinite:
            draft.say(name, "infinite", f"{infinite:,} cells are infinite: they count as missing")
    return _numbers(name, values, NO_TEXTS)


def _read_text(
    name: str, column: Texts, draft: _Draft, *, category: bool, day_first: bool
) -> _Profile:
    codes = _codes(column)
    if category or not len(column.values):
        return _Profile(name, CATEGORY, codes, column)
    numbers = cells.numbers(column.values)
    if column.share(numbers) >= _READS:
        zeros = cells.leading_zeros(column.values)
        if column.counts[zeros].sum() >= _CODES * column.counts.sum():
            note = "codes that begin with 0"
            return _Profile(name, CATEGORY, codes, column, note=note)
        _tell_unread(name, column, numbers, draft)
        profile = _numbers(name, column.spread(numbers), column)
        written = cells.percents(column.values)
        if column.counts[written].sum() * 2 > column.counts.sum():
            profile.kind = PERCENT
        return profile
    if cells.is_pair(column.values):
        return _Profile(name, FLAG, column.spread(cells.flags(column.values)), column)
    days = cells.days(column.values, day_first=day_first)
    if column.share(days) >= _READS:
        _tell_unread(name, column, days, draft, "dates")
        by_row = column.spread(days)
        return _Profile(name, DATE, by_row, column, days=by_row)
    return _Profile(name, CATEGORY, codes, column)


def _numbers(name: str, values: Floats, column: Texts) -> _Profile:
    """A column of numbers, or of days that are written as 20150328."""
    there = values[~np.isnan(values)]
    if len(there) and there.min() > 19_000_000 and there.max() < 21_001_232:
        days = cells.periods(values)
        if np.isnan(days).sum() == np.isnan(values).sum():
            return _Profile(name, DATE, days, column, days=days)
    return _Profile(name, NUMBER, values, column)


def _tell_unread(
    name: str, column: Texts, read: Floats, draft: _Draft, what: str = "numbers"
) -> None:
    lost = np.isnan(read)
    if lost.any():
        rows = int(column.counts[lost].sum())
        shown = ", ".join(map(repr, column.examples(lost)))
        draft.say(name, "unread", f"{rows:,} cells are no {what} ({shown}): they count as missing")


def _only(profile: _Profile, rows: Bools) -> _Profile:
    """A profile of some of its rows."""
    column = cells.kept(profile.texts, rows) if len(profile.texts.values) else NO_TEXTS
    return dataclasses.replace(
        profile,
        values=_codes(column) if profile.names else profile.values[rows],
        days=None if profile.days is None else profile.days[rows],
        texts=column,
    )


def _codes(column: Texts) -> Floats:
    return np.where(column.codes < 0, np.nan, column.codes).astype(np.float64)


def _roles(spec: TableSpec) -> dict[str, str]:
    roles = {spec.label: "label"}
    if spec.outcome.rejected.column:
        roles[spec.outcome.rejected.column] = "rejected"
    for key in ("time", "group", "weight"):
        column = getattr(spec, key)
        if column is not None:
            roles[column] = key
    return roles


def _infer_roles(profiles: Mapping[str, _Profile], draft: _Draft) -> None:
    """Find the columns of the firm, of the observation's date and of weights by their names."""
    free = [
        profile
        for name, profile in profiles.items()
        if name not in _roles(draft.spec) and name not in draft.spec.named
    ]
    if draft.spec.weight is None:
        for profile in free:
            named = profile.name.lower().replace(" ", "_") in _WEIGHTS
            if named and not profile.names and (profile.values > 0).all():
                draft.infer("weight", profile.name, "its name")
                free.remove(profile)
                break
    if draft.spec.group is None:
        for profile in free:
            if inspection.firm_like(_candidate(profile)):
                firms = profile.distinct
                draft.infer(
                    "group", profile.name, f"{firms:,} firms in {len(profile.values):,} rows"
                )
                free.remove(profile)
                break
    if draft.spec.time is None:
        profile_of_time = _time_like(free)
        if profile_of_time is not None:
            draft.infer("time", profile_of_time.name, "its name, and dates in it")


def _time_like(free: Sequence[_Profile]) -> _Profile | None:
    for pattern in _OBSERVED:
        for dates in (True, False):
            for profile in free:
                if not re.search(pattern, profile.name, re.IGNORECASE):
                    continue
                if _NOT_OBSERVED.search(profile.name) or profile.names:
                    continue
                days = profile.days if dates else cells.periods(profile.values)
                if (
                    days is not None
                    and np.isnan(days).mean() < 1 - _READS
                    and len(np.unique(days[~np.isnan(days)])) > 2
                ):
                    return profile
    return None


def _relate(profile: _Profile, times: Floats | None) -> None:
    """Make a date an age at the observation, where that is known."""
    if profile.days is not None and times is not None:
        profile.values = times - profile.days


def _candidate(profile: _Profile) -> inspection.Candidate:
    return inspection.Candidate(
        profile.name, profile.values, names=profile.names, days=profile.days
    )


def _inspect(
    profiles: Sequence[_Profile],
    labels: Ints,
    weights: Floats | None,
    times: Ints | None,
    draft: _Draft,
    told: Callable[[int], None],
) -> set[str]:
    """Findings of the columns into the draft; those that are refused and not named."""
    spec = draft.spec
    outcomes = inspection.Outcomes(
        labels,
        np.ones(len(labels)) if weights is None else weights,
        None if times is None else times.astype(np.float64),
        spec.time or "",
    )
    found = inspection.inspect(
        [_candidate(each) for each in profiles if each.kind != UNREADABLE],
        outcomes,
        spec.named,
        told,
    )
    refused: set[str] = set()
    for finding in found:
        if finding.refused and finding.column in spec.named:
            detail = finding.detail.removesuffix(inspection.REMEDY)
            detail = f"kept, as the spec names it, though it {detail}"
            draft.findings.append(dataclasses.replace(finding, detail=detail, refused=False))
        else:
            draft.findings.append(finding)
            if finding.refused:
                refused.add(finding.column)
    for profile in profiles:
        if profile.kind == UNREADABLE:
            refused.add(profile.name)
            draft.findings.append(Finding(profile.name, UNREADABLE, profile.note, refused=True))
    return refused


def _features(
    profiles: Sequence[_Profile], refused: set[str], draft: _Draft, *, day_first: bool
) -> tuple[tuple[ModelFeature, ...], Floats]:
    """The inputs, and their values by row.

    Raises:
        SpecError: none is left, or one cannot be what the spec says.
    """
    spec = draft.spec
    group_of = {column: group for group, members in spec.groups.items() for column in members}
    features: list[ModelFeature] = []
    columns: list[Floats] = []
    for profile in profiles:
        if profile.name in refused:
            continue
        monotone = spec.monotone.get(profile.name, 0)
        categories: tuple[str, ...] = ()
        others: int | None = None
        values, unit = profile.values, profile.kind
        if profile.names:
            if monotone:
                raise SpecError(
                    f"`monotone` names {profile.name!r}, whose values are names such as "
                    f"{_example(profile)}: names have no order"
                )
            categories, others, values = _categories(profile)
            if len(categories) < 2 and profile.missing == 0:
                detail = f"has {profile.distinct:,} values, each in too few rows to learn from"
                draft.findings.append(Finding(profile.name, "rare", detail, refused=True))
                continue
        elif profile.kind == DATE:
            if spec.time is None:
                raise SpecError(
                    f"{profile.name!r} is a date: name the observation's date as `time`, or "
                    "leave it out"
                )
            unit = unit_of_days(spec.time, day_first=day_first)
        title = spec.reasons.get(profile.name, Words(profile.name, profile.name))
        features.append(
            ModelFeature(
                name=profile.name,
                group=group_of.get(profile.name, profile.name),
                unit=unit,
                monotone=monotone,
                source=InputSource.TABLE,
                categories=categories,
                others=others,
                zh=title.zh,
                en=title.en,
            )
        )
        columns.append(values)
    if not features:
        why = "; ".join(
            f"{finding.column}: {finding.problem}" for finding in draft.findings if finding.refused
        )
        raise SpecError(
            f"no column is left to learn from ({why}): name those that you want kept"
            if why
            else "no column is left to learn from: the table has none but those of the spec's roles"
        )
    return tuple(features), np.column_stack(columns)


def _example(profile: _Profile) -> str:
    return ", ".join(map(repr, profile.texts.examples(profile.texts.counts > 0, 2)))


def _categories(profile: _Profile) -> tuple[tuple[str, ...], int | None, Floats]:
    """Categories from frequent to rare, the place of the one for all others, and codes by row."""
    column = profile.texts
    rows = len(column.codes)
    least = max(5, min(50, rows // 100))
    order = np.argsort(-column.counts, kind="stable")
    frequent = [int(at) for at in order[:MOST_CATEGORIES] if column.counts[at] >= least]
    names = [str(column.values[at].as_py()) for at in frequent]
    pooled = len(frequent) < len(column.values)
    others = len(names) if pooled else None
    place = np.full(len(column.values) + 1, np.nan if others is None else float(others))
    place[frequent] = np.arange(len(frequent))
    place[-1] = np.nan
    return (*names, *([OTHER] if pooled else [])), others, place[column.codes]


def _check_rows(matrix: Floats, labels: Ints, groups: Ints | None, draft: _Draft) -> None:
    twice = inspection.duplicate_rows(list(matrix.T))
    count = int(twice.sum())
    if count >= max(1, len(labels) // 1000):
        alone = " and name `group` if they are of the same firms" if groups is None else ""
        draft.say(
            "",
            "rows_twice",
            f"{count:,} rows have the same inputs as one before them: in different folds they make "
            f"figures look better than they are; look where they come from{alone}",
        )


# --- what goes beside the rows


def _cutoff(spec: TableSpec, *, day_first: bool) -> int | None:
    if spec.evaluation.cutoff is None:
        return None
    text = spec.evaluation.cutoff
    value = pa.array([f"{text}-01-01" if re.fullmatch(r"\d{4}", text) else text], pa.large_string())
    found = float(cells.text_moments(value, day_first=day_first)[0])
    if np.isnan(found):
        raise SpecError(f"`evaluation.cutoff` is {text!r}, not a date: write 2015-03-28 or 2015")
    return int(found)


def _as_of(times: Ints | None, name: str | None, *, ordinal: bool) -> str:
    if times is None:
        return "not stated by the table"
    if ordinal:
        return f"{name} {times.min()} to {times.max()}"
    first, last = (str(np.datetime64(int(day), "D")) for day in (times.min(), times.max()))
    return first if first == last else f"{first} to {last}"


def _words(spec: TableSpec, features: Sequence[ModelFeature]) -> dict[str, Words]:
    """Titles of groups: those of the spec, else their names."""
    return {
        feature.group: spec.reasons.get(feature.group, Words(feature.group, feature.group))
        for feature in features
    }


def _segments(
    profiles: Mapping[str, _Profile], roles: Mapping[str, str]
) -> dict[str, Sequence[str]]:
    """Columns by which results are shown: region, industry, size, and others of few values."""
    found: dict[str, Sequence[str]] = {}
    free = [profile for name, profile in profiles.items() if name not in roles]
    # Those that fairness asks for come first.
    for profile in sorted(free, key=lambda each: kind_of(each.name) is None):
        if len(found) == MOST_SEGMENTS:
            break
        kind = kind_of(profile.name)
        if kind is Kind.INDUSTRY and not profile.names:
            found[profile.name] = _leading_digits(profile.values)
        elif kind is Kind.SIZE and not profile.names and profile.distinct > 4:
            found[profile.name] = _quarters(profile.values)
        elif profile.names and 1 < profile.distinct <= (80 if kind is Kind.REGION else 12):
            found[profile.name] = _texts_of(profile)
    return found


def _texts_of(profile: _Profile) -> Sequence[str]:
    names = np.array([*profile.texts.values.to_pylist(), "missing"], dtype=object)
    found: list[str] = names[profile.texts.codes].tolist()
    return found


def _leading_digits(values: Floats) -> Sequence[str]:
    """Sectors of an industry code: its first two digits."""
    distinct, places = np.unique(values, return_inverse=True)
    names = ["missing" if np.isnan(v) or v <= 0 else f"{v:.0f}"[:2] for v in distinct]
    found: list[str] = np.array(names, dtype=object)[places].tolist()
    return found


def _quarters(values: Floats) -> Sequence[str]:
    there = values[~np.isnan(values)]
    edges = np.unique(np.quantile(there, (0.25, 0.5, 0.75)))
    names = [f"up to {edges[0]:g}", *(f"up to {edge:g}" for edge in edges[1:])]
    names += [f"above {edges[-1]:g}", "missing"]
    places = np.searchsorted(edges, values, "left")
    places[np.isnan(values)] = len(names) - 1
    found: list[str] = np.array(names, dtype=object)[places].tolist()
    return found


def _report(
    order: Sequence[str],
    profiles: Mapping[str, _Profile],
    roles: Mapping[str, str],
    features: Sequence[ModelFeature],
    draft: _Draft,
) -> tuple[ColumnReport, ...]:
    inputs = {feature.name: feature for feature in features}
    why: dict[str, str] = {}
    for finding in draft.findings:
        if finding.refused or finding.column not in why:
            why[finding.column] = finding.detail
    found = []
    for name in order:
        profile = profiles.get(name)
        if profile is None:
            role, kind = ("label", "two outcomes") if name == draft.spec.label else ("left out", "")
            note = why.get(name, "") if role == "label" else "the spec excludes it"
            found.append(ColumnReport(name, role, kind, 0.0, 2 if role == "label" else 0, note))
            continue
        role = roles.get(name, "input" if name in inputs else "left out")
        kind = inputs[name].unit if name in inputs else profile.kind
        note = why.get(name, profile.note)
        found.append(ColumnReport(name, role, kind, profile.missing, profile.distinct, note))
    return tuple(found)
