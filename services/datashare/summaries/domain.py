"""What the records of one subject, type and provider say by month, as integers.

Invariants:

- A stored table equals `fold` over all raw records: the latest version of each record, retracted
  ones left out, in whatever order they arrived. `merge` keeps it so where that needs no raw
  records, `months_to_refold` says where it does.
- A month is there if and only if a record counts in it. A measure that no record of the month
  speaks of is 0.
- Months are integers yyyymm; money is fen.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from services.datashare.catalogue.domain import Catalogue, Fold, RecordType, SharingMode
from services.datashare.disputes.domain import Mark


class Trade(NamedTuple):
    """A record's part in the dealings with one counterparty.

    Args:
        side: 1 input, 2 output, as in the .proto's InvoiceSide.
        token: the counterparty's keyed HMAC.
        net: fen; negative for a red-letter invoice.
    """

    side: int
    token: bytes
    net: int


class Fact(NamedTuple):
    """What one record adds to the summary of its month.

    Args:
        month: yyyymm.
        order: compares records by time: last day of the occurrence (days since 1970-01-01), when
            the provider obtained it (microseconds), the provider's record id. The same whatever the
            order of arrival.
        values: index of a stored measure in its layout, and the value.
        attributes: name and value of code-like fields.
        trade: the counterparty's part, if there is one.
    """

    month: int
    order: tuple[int, int, str]
    values: tuple[tuple[int, int], ...]
    attributes: tuple[tuple[str, str], ...] = ()
    trade: Trade | None = None


@dataclass(frozen=True)
class Layout:
    """The measures of one record type.

    Args:
        record_type: its name.
        names: stored measures, in the order of the policy.
        folds: how each of them is folded.
        derived: measures computed from the trades of trailing months.
        attributes: code-like fields whose latest value is kept.
        bounded: a period of months limits reads at both ends; what is open by law describes a state
            that lasts (a registration, a patent), so only the end limits it.
        mark: stands for what a stored series holds; another one has to be folded anew.
    """

    record_type: str
    names: tuple[str, ...]
    folds: tuple[Fold, ...]
    derived: tuple[str, ...]
    attributes: tuple[str, ...]
    bounded: bool
    mark: str = field(init=False)

    def __post_init__(self) -> None:
        content = (self.names, [rule.value for rule in self.folds], self.derived, self.attributes)
        object.__setattr__(self, "mark", sha256(repr(content).encode()).hexdigest()[:16])

    @property
    def sums_only(self) -> bool:
        """Tell whether a record can be taken out of a table by subtracting it."""
        return not self.attributes and all(rule is Fold.SUM for rule in self.folds)

    @property
    def ordered(self) -> bool:
        """Tell whether the order of records matters."""
        return bool(self.attributes) or Fold.LATEST in self.folds


def layout_of(policy: RecordType) -> Layout:
    """Return the layout of a record type."""
    stored = [measure for measure in policy.measures if measure.fold is not Fold.DERIVED]
    return Layout(
        record_type=policy.name,
        names=tuple(measure.name for measure in stored),
        folds=tuple(measure.fold for measure in stored),
        derived=tuple(m.name for m in policy.measures if m.fold is Fold.DERIVED),
        attributes=policy.attributes,
        bounded=policy.sharing_mode is not SharingMode.OPEN,
    )


def layouts_of(catalogue: Catalogue) -> dict[str, Layout]:
    """Return the layout of every record type."""
    return {name: layout_of(policy) for name, policy in catalogue.types.items()}


def is_due(day: int | None, today: int) -> bool:
    """Tell whether a day from which on something is hidden has come; None never comes."""
    return day is not None and day <= today


def earliest(*days: int | None) -> int | None:
    """Return the first of days that may never come."""
    return min((day for day in days if day is not None), default=None)


class SeriesKey(NamedTuple):
    """Whose records of which type from which provider."""

    subject_id: str
    record_type: str
    provider_id: str


@dataclass
class Table:
    """A summary being worked on.

    Args:
        rows: by month, the number of records that count, then the stored measures.
        attributes: latest value by name.
    """

    rows: dict[int, list[int]] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)


TradeTotals = dict[tuple[int, int, bytes], list[int]]
"""By side, month and counterparty token: the number of invoices and their net amount in fen."""


def fold(layout: Layout, facts: Iterable[Fact]) -> Table:
    """Return the table of all the facts."""
    table = Table()
    _add(table, layout, sorted(facts, key=_order) if layout.ordered else facts)
    return table


def _order(fact: Fact) -> tuple[int, int, str]:
    return fact.order


def _add(table: Table, layout: Layout, facts: Iterable[Fact]) -> None:
    rows = table.rows
    size = len(layout.names) + 1
    sums = layout.sums_only
    for fact in facts:
        row = rows.get(fact.month)
        if row is None:
            row = rows[fact.month] = [0] * size
        row[0] += 1
        if sums:  # invoices come here a million at a time
            for index, value in fact.values:
                row[index + 1] += value
        else:
            for index, value in fact.values:
                rule = layout.folds[index]
                if rule is Fold.SUM:
                    row[index + 1] += value
                elif rule is Fold.LATEST or value > row[index + 1]:
                    row[index + 1] = value
            table.attributes.update(fact.attributes)


def _subtract(table: Table, facts: Iterable[Fact]) -> None:
    for fact in facts:
        row = table.rows[fact.month]
        row[0] -= 1
        for index, value in fact.values:
            row[index + 1] -= value
        if not row[0]:
            del table.rows[fact.month]


def months_to_refold(
    layout: Layout, added: Sequence[Fact], removed: Sequence[Fact]
) -> AbstractSet[int] | None:
    """Return the months that have to be folded anew from raw records.

    Args:
        layout: of the type.
        added: facts of records that are new.
        removed: facts that no longer count, because their record was corrected or retracted.

    Returns:
        The months; none where `merge` is enough; None is every month.
    """
    if layout.attributes:
        return None
    if layout.sums_only or not (removed or layout.ordered):
        return frozenset()
    return {fact.month for facts in (added, removed) for fact in facts}


def merge(table: Table, layout: Layout, added: Sequence[Fact], removed: Sequence[Fact]) -> None:
    """Change a table as facts come and go, where `months_to_refold` named no month.

    Additions go first: a correction may leave a month empty only in between.
    """
    _add(table, layout, added)
    _subtract(table, removed)


def replace_months(table: Table, months: AbstractSet[int] | None, refolded: Table) -> None:
    """Put what was folded anew in the place of the months; None is every month."""
    if months is None:
        table.rows = refolded.rows
        table.attributes = refolded.attributes
        return
    for month in months:
        table.rows.pop(month, None)
    table.rows |= refolded.rows


def trades_of(added: Iterable[Fact], removed: Iterable[Fact] = ()) -> TradeTotals:
    """Return what facts that come and go change in the dealings with each counterparty."""
    totals: TradeTotals = {}
    for sign, facts in ((1, added), (-1, removed)):
        for month, _, _, _, trade in facts:
            if trade is None:
                continue
            side, token, net = trade
            total = totals.get((side, month, token))
            if total is None:
                totals[side, month, token] = [sign, sign * net]
            else:
                total[0] += sign
                total[1] += sign * net
    return totals


class Gap(NamedTuple):
    """A month of which something is hidden.

    Args:
        month: yyyymm.
        known_at: since when it was known.
    """

    month: int
    known_at: datetime


@dataclass(frozen=True, slots=True)
class SummaryQuery:
    """What a fetch may read of one subject.

    Args:
        subject_id: whose.
        record_types: of which types.
        provider_ids: from which providers; None is all.
        first_month: yyyymm; does not limit types that are open by law.
        last_month: yyyymm, included.
        as_of: records known by then.
        today: what is hidden on this day is left out; days since 1970-01-01 in China.
    """

    subject_id: str
    record_types: tuple[str, ...]
    provider_ids: frozenset[str] | None
    first_month: int
    last_month: int
    as_of: datetime
    today: int


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """One series as it is handed over.

    Args:
        record_type: its type.
        provider_id: whose records.
        content: a serialised `puhui.datashare.v1.Series` of the query's months.
        first_month: yyyymm before which it says nothing.
        simulated: whether its provider is a simulated source.
    """

    record_type: str
    provider_id: str
    content: bytes
    first_month: int
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What a query finds.

    Args:
        series: of the query's providers, in the order of type and provider.
        left_out: the types of which other providers have records in the query's months.
        withheld_of: type and provider of series of which something known by then in its months is
            hidden today.
        disputes: about records that count in it.
    """

    series: tuple[StoredSeries, ...]
    left_out: frozenset[str]
    withheld_of: frozenset[tuple[str, str]] = frozenset()
    disputes: tuple[Mark, ...] = ()

    @property
    def withheld(self) -> bool:
        """Whether something known by then in its months is hidden today."""
        return bool(self.withheld_of)


@dataclass
class SeriesState:
    """A stored series, locked for a change.

    Args:
        revision: counts changes; 0 is not stored yet.
        first_known_at: earliest time at which one of its records became known, microseconds since
            1970-01-01 UTC.
        known_at: latest such time.
        table: what it says.
        laid_out: whether the table has today's measures.
        next_hidden_on: before this day nothing that the table says is hidden, and what is not in it
            is: days since 1970-01-01 in China; None is never.
        due_on: before this day nothing of the stored records is hidden.
        withheld: whether something of it was deleted because it was hidden.
        simulated: whether its provider is a simulated source.
    """

    revision: int
    first_known_at: int
    known_at: int
    table: Table
    laid_out: bool = True
    next_hidden_on: int | None = None
    due_on: int | None = None
    withheld: bool = False
    simulated: bool = False

    def is_stale(self, today: int) -> bool:
        """Tell whether the table is not what may be read on a day, and has to be folded anew."""
        return not self.laid_out or is_due(self.next_hidden_on, today)


@dataclass
class SeriesChange:
    """What a batch does to one series.

    Args:
        first_known_at: earliest known time among its rows, microseconds since 1970-01-01 UTC.
        known_at: latest known time among them.
        added: facts that begin to count.
        removed: facts that no longer count.
        hidden_on: the days from which on its records are hidden.
        stored: number of its records that are stored.
    """

    first_known_at: int
    known_at: int
    added: list[Fact] = field(default_factory=list)
    removed: list[Fact] = field(default_factory=list)
    hidden_on: set[int] = field(default_factory=set)
    stored: int = 0


FactWanted = Mapping[SeriesKey, AbstractSet[int] | None]
"""Which months of which series are wanted as facts; None is every month."""
