"""Reading summaries as of a time.

What is stored is the present. It is handed over as it is, byte for byte, when nothing that became
known later is in it; else the series is folded from the raw records known then. Derived measures
are computed by the first reader after a change, and kept.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import relation
from services.datashare.summaries import derived
from services.datashare.summaries.codec import clip, decode, encode
from services.datashare.summaries.domain import (
    Fact,
    FactWanted,
    Found,
    Layout,
    SeriesKey,
    StoredSeries,
    SummaryQuery,
    Table,
    TradeTotals,
    fold,
    trades_of,
)
from services.datashare.summaries.store import KEY, counterparty, series, supply

_Sides = dict[int, list[tuple[int, bytes, int, int]]]
"""Rows of month, counterparty token, number of invoices and net fen, by side."""


class _ChangedMeanwhileError(Exception):
    """Another transaction changed a series between two statements of this one."""


class PastFacts(Protocol):
    """Raw records, as the facts that they were to a summary."""

    async def facts(
        self, wanted: FactWanted, as_of: datetime | None = None
    ) -> Mapping[SeriesKey, Sequence[Fact]]:
        """Return the facts of the records that counted by what was known at a time."""
        ...


class _Stored(NamedTuple):
    key: SeriesKey
    revision: int
    derived_revision: int
    first_known_at: datetime
    known_at: datetime
    simulated: bool
    first_month: int
    last_month: int
    content: bytes


class SummaryReader:
    """Summaries in one write transaction.

    Args:
        conn: the transaction; a write one, because derived measures are stored.
        facts: raw records in the same transaction.
        layouts: by record type.
    """

    def __init__(
        self, conn: AsyncConnection, facts: PastFacts, layouts: Mapping[str, Layout]
    ) -> None:
        self._conn = conn
        self._facts = facts
        self._layouts = layouts

    async def supplied_types(self) -> frozenset[str]:
        """Return the record types of which some provider has ever supplied a record."""
        rows = await self._conn.execute(sa.select(supply.c.record_type).distinct())
        return frozenset(rows.scalars())

    async def read(self, queries: Sequence[SummaryQuery]) -> list[Found]:
        """Return what each query finds.

        A series without a month in the query's period is not there. `first_month` does not limit
        types that are open by law: theirs describe a state that lasts.
        """
        try:
            return await self._read(queries, await self._stored(queries, lock=False))
        except _ChangedMeanwhileError:
            return await self._read(queries, await self._stored(queries, lock=True))

    async def _read(
        self, queries: Sequence[SummaryQuery], stored: Mapping[str, Iterable[_Stored]]
    ) -> list[Found]:
        matched = [(query, *_matching(stored, query)) for query in queries]
        wanted = [(query, row) for query, rows, _ in matched for row in rows]
        now = await self._present({row.key: row for query, row in wanted if _is_now(query, row)})
        then = {as_of: await self._past(keys, as_of) for as_of, keys in _past_keys(wanted).items()}
        answers = []
        for query, rows, others in matched:
            parts = []
            for row in rows:
                first = self._first_month(query, row)
                content: bytes | None
                if not _is_now(query, row):
                    content = clip(then[query.as_of][row.key], first, query.last_month)
                elif first <= row.first_month and 0 < row.last_month <= query.last_month:
                    content = now[row.key]
                else:
                    content = clip(now[row.key], first, query.last_month)
                if content:
                    key = row.key
                    parts.append(
                        StoredSeries(key.record_type, key.provider_id, content, row.simulated)
                    )
            left_out = (
                row.key.record_type
                for row in others
                if _has_records(query, row, self._first_month(query, row))
            )
            answers.append(Found(tuple(parts), frozenset(left_out)))
        return answers

    def _first_month(self, query: SummaryQuery, row: _Stored) -> int:
        return query.first_month if self._layouts[row.key.record_type].bounded else 0

    async def _stored(
        self, queries: Sequence[SummaryQuery], *, lock: bool
    ) -> dict[str, list[_Stored]]:
        pairs = {(query.subject_id, name) for query in queries for name in query.record_types}
        if not pairs:
            return {}
        pair = {name: KEY[name] for name in ("subject_id", "record_type")}
        wanted = relation(self._conn, "wanted", pair, sorted(pairs))
        query = (
            sa.select(series)
            .join(wanted, sa.and_(*(series.c[name] == wanted.c[name] for name in pair)))
            .order_by(*(series.c[name] for name in KEY))
        )
        rows = await self._conn.execute(query.with_for_update(of=series) if lock else query)
        found: dict[str, list[_Stored]] = {}
        for row in rows:
            stored = _Stored(SeriesKey(*row[:3]), *row[3:])
            found.setdefault(stored.key.subject_id, []).append(stored)
        return found

    async def _present(self, rows: Mapping[SeriesKey, _Stored]) -> dict[SeriesKey, bytes]:
        """Return contents with derived measures, computing and storing those that are missing.

        Raises:
            _ChangedMeanwhileError: what they derive from is newer than the contents.
        """
        contents = {key: row.content for key, row in rows.items()}
        stale = sorted(key for key, row in rows.items() if row.derived_revision != row.revision)
        for key in stale:
            revision, sides = await self._trades(key)
            if revision != rows[key].revision:
                raise _ChangedMeanwhileError
            layout = self._layouts[key.record_type]
            table = decode(layout, rows[key].content)
            contents[key] = encode(key, layout, table, self._derive(layout, table, sides))
            await self._keep(key, revision, contents[key])
        return contents

    async def _trades(self, key: SeriesKey) -> tuple[int, _Sides]:
        """Return a series' revision and trades, of one moment because by one statement."""
        columns = counterparty.c
        zero = sa.literal(0)
        revision = sa.select(zero, zero, sa.null(), series.c.revision, zero).where(_is(key))
        trades = sa.select(
            columns.side, columns.month, columns.token, columns.invoices, columns.net
        ).where(columns.subject_id == key.subject_id, columns.provider_id == key.provider_id)
        found = 0
        sides: _Sides = {}
        for side, month, token, invoices, net in await self._conn.execute(
            trades.union_all(revision)
        ):
            if side:
                sides.setdefault(side, []).append((month, token, invoices, net))
            else:
                found = invoices
        return found, sides

    def _derive(
        self,
        layout: Layout,
        table: Table,
        sides: _Sides,
    ) -> dict[str, list[int]]:
        if not layout.derived:
            return {}
        columns = {
            f"{word}_{name}": values
            for side, word in derived.SIDES.items()
            for name, values in derived.derive(
                derived.trades(sides.get(side, [])), sorted(table.rows)
            ).items()
        }
        return {name: columns[name] for name in layout.derived}

    async def _keep(self, key: SeriesKey, revision: int, content: bytes) -> None:
        """Store derived measures, unless the series is being changed just now.

        A reader never waits for a writer here: it would hold what it has locked meanwhile.
        """
        if self._conn.dialect.name == "postgresql":
            free = sa.select(series.c.revision).where(_is(key)).with_for_update(skip_locked=True)
            if await self._conn.scalar(free) != revision:
                return
        await self._conn.execute(
            sa.update(series)
            .where(_is(key), series.c.revision == revision)
            .values(content=content, derived_revision=revision)
        )

    async def _past(self, keys: AbstractSet[SeriesKey], as_of: datetime) -> dict[SeriesKey, bytes]:
        found = await self._facts.facts(dict.fromkeys(sorted(keys)), as_of)
        contents = {}
        for key in keys:
            layout = self._layouts[key.record_type]
            facts = found.get(key, ())
            table = fold(layout, facts)
            columns = self._derive(layout, table, _by_side(trades_of(facts)))
            contents[key] = encode(key, layout, table, columns)
        return contents


def _is_now(query: SummaryQuery, row: _Stored) -> bool:
    return row.known_at <= query.as_of


def _past_keys(
    wanted: Iterable[tuple[SummaryQuery, _Stored]],
) -> dict[datetime, set[SeriesKey]]:
    keys: dict[datetime, set[SeriesKey]] = {}
    for query, row in wanted:
        if not _is_now(query, row):
            keys.setdefault(query.as_of, set()).add(row.key)
    return keys


def _has_records(query: SummaryQuery, row: _Stored, first_month: int) -> bool:
    """Tell from its row alone whether a series has records in a query's months.

    What was known in a past that the row no longer tells may lie in any month: naming a provider
    that was left out once too often is safe, once too seldom is not.
    """
    if _is_now(query, row):
        return 0 < row.last_month >= first_month and row.first_month <= query.last_month
    return row.first_known_at <= query.as_of


def _matching(
    stored: Mapping[str, Iterable[_Stored]], query: SummaryQuery
) -> tuple[list[_Stored], list[_Stored]]:
    """Return the rows of the query's types: of its providers, and of others."""
    providers = query.provider_ids
    rows: list[_Stored] = []
    others: list[_Stored] = []
    for row in stored.get(query.subject_id, ()):
        if row.key.record_type in query.record_types:
            mine = providers is None or row.key.provider_id in providers
            (rows if mine else others).append(row)
    return rows, others


def _is(key: SeriesKey) -> sa.ColumnElement[bool]:
    return sa.and_(*(series.c[name] == value for name, value in zip(KEY, key, strict=True)))


def _by_side(totals: TradeTotals) -> _Sides:
    sides: _Sides = {}
    for (side, month, token), (invoices, net) in totals.items():
        sides.setdefault(side, []).append((month, token, invoices, net))
    return sides
