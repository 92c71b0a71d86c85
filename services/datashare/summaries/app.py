"""Keeping summaries up to date, in the transaction in which records arrive."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from services.datashare.summaries.domain import (
    Fact,
    FactWanted,
    Layout,
    SeriesChange,
    SeriesKey,
    SeriesState,
    TradeTotals,
    earliest,
    fold,
    merge,
    months_to_refold,
    replace_months,
    trades_of,
)


class Series(Protocol):
    """Stored summaries."""

    async def lock(self, keys: Iterable[SeriesKey]) -> Mapping[SeriesKey, SeriesState]:
        """Return the state of every series, which nobody else changes until the end.

        Whoever changes records holds their series, so this also keeps the records still.
        """
        ...

    async def save(self, states: Mapping[SeriesKey, SeriesState], *, simulated: bool) -> None:
        """Store locked series, all of which are simulated or none."""
        ...

    async def add_trades(self, trades: Mapping[SeriesKey, TradeTotals]) -> None:
        """Add to the dealings with counterparties."""
        ...

    async def drop_trades(self, keys: Collection[SeriesKey]) -> None:
        """Forget the dealings with counterparties."""
        ...

    async def note_supply(self, since: Mapping[tuple[str, str], int]) -> None:
        """Remember since when providers supply record types.

        Args:
            since: when a record was first known, microseconds since 1970-01-01 UTC, by type and
                provider.
        """
        ...


class Facts(Protocol):
    """Raw records, as the facts that they are to a summary."""

    async def facts(self, wanted: FactWanted, today: int) -> Mapping[SeriesKey, Sequence[Fact]]:
        """Return the facts of the records that count now; a series without any may be absent.

        Args:
            wanted: series, and the months of each.
            today: those that are hidden on this day are left out.
        """
        ...

    async def next_hidden_on(
        self, keys: Collection[SeriesKey], after: int | None
    ) -> Mapping[SeriesKey, int]:
        """Return the first day on which a record of each series is hidden, if there is one.

        Args:
            keys: the series.
            after: only days after this one; None is any.
        """
        ...


async def update_summaries(
    series: Series,
    facts: Facts,
    layouts: Mapping[str, Layout],
    states: Mapping[SeriesKey, SeriesState],
    changes: Mapping[SeriesKey, SeriesChange],
    today: int,
    *,
    simulated: bool,
) -> None:
    """Bring summaries up to date with records that are stored already.

    A series that holds what is hidden today, or that was laid out otherwise, is folded anew.

    Args:
        series: stored summaries.
        facts: raw records.
        layouts: by record type.
        states: the locked series; those named in `changes` are changed.
        changes: what the batch does to each series.
        today: days since 1970-01-01 in China.
        simulated: whether the batch comes from a simulated source.
    """
    parts: dict[SeriesKey, AbstractSet[int] | None] = {}
    stale = {key: states[key] for key in changes if states[key].is_stale(today)}
    for key, change in changes.items():
        layout = layouts[key.record_type]
        state = states[key]
        if key in stale:
            continue
        months = months_to_refold(layout, change.added, change.removed)
        if months is None or months:
            parts[key] = months
        else:
            merge(state.table, layout, change.added, change.removed)
        if change.hidden_on:
            later = [day for day in change.hidden_on if day > today]
            state.next_hidden_on = earliest(state.next_hidden_on, *later)
    if parts:
        found = await facts.facts(parts, today)
        for key, months in parts.items():
            again = fold(layouts[key.record_type], found.get(key, ()))
            replace_months(states[key].table, months, again)
    if stale:
        await refold(series, facts, layouts, stale, today)
    since: dict[tuple[str, str], int] = {}
    for key, change in changes.items():
        state = states[key]
        if not state.revision or change.first_known_at < state.first_known_at:
            state.first_known_at = change.first_known_at
            pair = key.record_type, key.provider_id
            since[pair] = min(since.get(pair, change.first_known_at), change.first_known_at)
        state.known_at = max(state.known_at, change.known_at)
        if change.hidden_on:
            state.due_on = earliest(state.due_on, *change.hidden_on)
        state.revision += 1
    await series.save({key: states[key] for key in changes}, simulated=simulated)
    trades = {
        key: trades_of(change.added, change.removed)
        for key, change in changes.items()
        if layouts[key.record_type].derived and key not in stale
    }
    await series.add_trades(trades)
    if since:
        await series.note_supply(since)


async def refold(
    series: Series,
    facts: Facts,
    layouts: Mapping[str, Layout],
    states: Mapping[SeriesKey, SeriesState],
    today: int,
) -> None:
    """Fold series and their dealings anew from the raw records that are not hidden.

    Args:
        series: stored summaries; the series themselves are still to be saved.
        facts: raw records.
        layouts: by record type.
        states: the locked series, which are changed.
        today: days since 1970-01-01 in China.
    """
    found = await facts.facts(dict.fromkeys(states), today)
    days = await facts.next_hidden_on(states.keys(), today)
    trades = {}
    for key, state in states.items():
        layout = layouts[key.record_type]
        counting = found.get(key, ())
        state.table = await asyncio.to_thread(fold, layout, counting)
        state.next_hidden_on = days.get(key)
        state.laid_out = True
        if layout.derived:
            trades[key] = await asyncio.to_thread(trades_of, counting)
    await series.drop_trades(trades.keys())
    await series.add_trades(trades)
