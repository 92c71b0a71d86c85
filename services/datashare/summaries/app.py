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

    async def note_supply(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Remember that a provider supplies a record type: pairs of type and provider."""
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
    for key, change in changes.items():
        state = states[key]
        state.first_known_at = (
            min(state.first_known_at, change.first_known_at)
            if state.revision
            else change.first_known_at
        )
        state.known_at = max(state.known_at, change.known_at)
        state.revision += 1
    await series.save({key: states[key] for key in changes}, simulated=simulated)
    trades = {
        key: trades_of(change.added, change.removed)
        for key, change in changes.items()
        if layouts[key.record_type].derived
    }
    await series.add_trades(trades)
    firsts = {(key.record_type, key.provider_id) for key in changes if states[key].revision == 1}
    if firsts:
        await series.note_supply(firsts)
