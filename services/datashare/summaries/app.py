"""Keeping summaries up to date, in the transaction in which records arrive."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from services.datashare.summaries.domain import (
    Fact,
    FactWanted,
    Layout,
    SeriesChange,
    SeriesKey,
    SeriesState,
    TradeTotals,
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

    async def note_supply(self, since: Mapping[tuple[str, str], int]) -> None:
        """Remember since when providers supply record types.

        Args:
            since: when a record was first known, microseconds since 1970-01-01 UTC, by type and
                provider.
        """
        ...


class Facts(Protocol):
    """Raw records, as the facts that they are to a summary."""

    async def facts(self, wanted: FactWanted) -> Mapping[SeriesKey, Sequence[Fact]]:
        """Return the facts of the records that count now; a series without any may be absent."""
        ...


async def update_summaries(
    series: Series,
    facts: Facts,
    layouts: Mapping[str, Layout],
    states: Mapping[SeriesKey, SeriesState],
    changes: Mapping[SeriesKey, SeriesChange],
    *,
    simulated: bool,
) -> None:
    """Bring summaries up to date with records that are stored already.

    Args:
        series: stored summaries.
        facts: raw records.
        layouts: by record type.
        states: the locked series; those named in `changes` are changed.
        changes: what the batch does to each series.
        simulated: whether the batch comes from a simulated source.
    """
    refold = {}
    for key, change in changes.items():
        layout = layouts[key.record_type]
        months = months_to_refold(layout, change.added, change.removed)
        if months is None or months:
            refold[key] = months
        else:
            merge(states[key].table, layout, change.added, change.removed)
    if refold:
        found = await facts.facts(refold)
        for key, months in refold.items():
            again = fold(layouts[key.record_type], found.get(key, ()))
            replace_months(states[key].table, months, again)
    since: dict[tuple[str, str], int] = {}
    for key, change in changes.items():
        state = states[key]
        if not state.revision or change.first_known_at < state.first_known_at:
            state.first_known_at = change.first_known_at
            pair = key.record_type, key.provider_id
            since[pair] = min(since.get(pair, change.first_known_at), change.first_known_at)
        state.known_at = max(state.known_at, change.known_at)
        state.revision += 1
    await series.save({key: states[key] for key in changes}, simulated=simulated)
    trades = {
        key: trades_of(change.added, change.removed)
        for key, change in changes.items()
        if layouts[key.record_type].derived
    }
    await series.add_trades(trades)
    if since:
        await series.note_supply(since)
