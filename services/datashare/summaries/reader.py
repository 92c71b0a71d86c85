"""Reading summaries as of a time.

Invariants:

- What is stored is the present. It is handed over as it is, byte for byte, when nothing that became
  known later and nothing from outside the period is in it.
- Nothing from outside the period enters what is handed over: where months before it have records,
  derived measures are computed for this read from the trades within it; where months outside it
  have, attributes are folded anew from the raw records within it.
- Of a past that the stored series no longer tells, the series is folded from the raw records known
  then.
- What is hidden today is in nothing that is handed over: a series that still holds it is folded
  from the raw records that are not, until the next batch or the job folds it anew.
- A read and every later one as of the same time find the same, but for what is hidden by then: it
  waits for the batches that hold what it reads (`underway`).
- Who reads a series is told of every dispute about a record that counts in what is read, as it
  stands in the moment in which the series is read. A series' row says whether there is one, so that
  nothing is asked where there is none.
- Derived measures of the whole series are computed by the first reader after a change, and kept.
- Folding and deriving happen in a thread: the calls of others go on.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare import underway
from services.datashare.bulk import Relation, ask, once, probe, relation
from services.datashare.disputes.domain import Mark, Marked
from services.datashare.disputes.store import is_disputed
from services.datashare.sealing.domain import series_place
from services.datashare.sealing.store import Seals
from services.datashare.subjects.store import subject
from services.datashare.summaries import derived
from services.datashare.summaries.codec import clip, decode, encode, first_month_of
from services.datashare.summaries.domain import (
    Fact,
    FactWanted,
    Found,
    Gap,
    Layout,
    SeriesKey,
    StoredSeries,
    SummaryQuery,
    Table,
    TradeTotals,
    fold,
    is_due,
    trades_of,
)
from services.datashare.summaries.store import (
    KEY,
    counterparty,
    is_laid_out,
    opened,
    series,
    supply,
)
from services.kit.db import UtcTime

_Sides = dict[int, list[tuple[int, bytes, int, int]]]
"""Rows of month, counterparty token, number of invoices and net fen, by side."""


_PAIR: Final = {name: KEY[name] for name in ("subject_id", "record_type")}
_WANTED: Final = Relation("wanted", _PAIR)
_WIDTH: Final = len(series.columns) + 1
"""Of a row of `_Stored`."""


_SUPPLIED: Final = sa.select(
    supply.c.record_type, sa.func.min(supply.c.first_known_at, type_=UtcTime())
).group_by(supply.c.record_type)


class _ChangedMeanwhileError(Exception):
    """Another transaction changed a series between two statements of this one."""


class PastFacts(Protocol):
    """Raw records, as the facts that they were to a summary."""

    async def facts(
        self, wanted: FactWanted, today: int, as_of: datetime | None = None
    ) -> Mapping[SeriesKey, Sequence[Fact]]:
        """Return the facts of the records that counted by what was known at a time.

        Those that are hidden today are left out.
        """
        ...

    async def hidden(
        self, keys: Collection[SeriesKey], today: int
    ) -> Mapping[SeriesKey, Sequence[Gap]]:
        """Return what is stored of each series and hidden today; a series without may be absent."""
        ...


class Withheld(Protocol):
    """What was deleted because it was hidden."""

    async def gaps(self, keys: Collection[SeriesKey]) -> Mapping[SeriesKey, Sequence[Gap]]:
        """Return what is missing of each series; a series without may be absent."""
        ...


class Disputes(Protocol):
    """What firms say is wrong."""

    async def marked(self, keys: Collection[SeriesKey]) -> Mapping[SeriesKey, Sequence[Marked]]:
        """Return the disputes that readers of series are told of; one without may be absent."""
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
    sealed: bool
    layout: str | None
    layout_revision: int
    next_hidden_on: int | None
    due_on: int | None
    withheld: bool
    disputed: bool


class _Part(NamedTuple):
    """What a query may read of a stored series.

    Args:
        as_of: of the query.
        today: of the query.
        first: month, yyyymm.
        last: month, yyyymm.
        row: the series.
        stale: the series does not tell what may be read today.
    """

    as_of: datetime
    today: int
    first: int
    last: int
    row: _Stored
    stale: bool

    @property
    def is_now(self) -> bool:
        """Whether what is stored is what may be read of this time."""
        return self.row.known_at <= self.as_of and not self.stale


class Cuts:
    """What reads computed of series cut to a period; the latest are kept.

    What is committed of a series under a revision never changes, so it holds for as long as the
    series has that revision; what had to be folded anew, because some of it is hidden, holds for
    the day.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int = 2_000) -> None:
        self._most = most
        self._contents: OrderedDict[tuple[SeriesKey, *tuple[int, ...]], bytes | None] = (
            OrderedDict()
        )

    def find(self, part: _Part) -> tuple[bytes | None] | None:
        """Return what is kept of a part, which may be that it is empty."""
        place = self._place(part)
        if place not in self._contents:
            return None
        self._contents.move_to_end(place)
        return (self._contents[place],)

    def keep(self, part: _Part, content: bytes | None) -> None:
        """Keep what was computed of a part."""
        self._contents[self._place(part)] = content
        if len(self._contents) > self._most:
            self._contents.popitem(last=False)

    @staticmethod
    def _place(part: _Part) -> tuple[SeriesKey, *tuple[int, ...]]:
        day = part.today if part.stale else 0
        return part.row.key, part.row.revision, part.first, part.last, day


class SummaryReader:
    """Summaries in one write transaction.

    Args:
        conn: the transaction; a write one, because derived measures are stored.
        facts: raw records in the same transaction.
        withheld: what was deleted of them.
        disputes: what firms say is wrong with them.
        layouts: by record type.
        cuts: what earlier transactions on the same database computed.
        seals: opens what is sealed.
    """

    def __init__(
        self,
        conn: AsyncConnection,
        facts: PastFacts,
        withheld: Withheld,
        disputes: Disputes,
        layouts: Mapping[str, Layout],
        cuts: Cuts,
        seals: Seals,
    ) -> None:
        self._conn = conn
        self._facts = facts
        self._withheld = withheld
        self._disputes = disputes
        self._layouts = layouts
        self._cuts = cuts
        self._seals = seals

    async def supplied_types(self) -> dict[str, datetime]:
        """Return since when a record was known of each record type that somebody supplies."""
        return {row[0]: row[1] for row in await ask(self._conn, _SUPPLIED, {})}

    async def read(self, queries: Sequence[SummaryQuery]) -> list[Found]:
        """Return what each query finds.

        A series without a month in the query's period is not there. `first_month` does not limit
        types that are open by law: theirs describe a state that lasts.
        """
        stored, writers = await self._stored(queries, lock=False)
        if writers:
            await underway.wait_for(self._conn, writers)
            stored, _ = await self._stored(queries, lock=False)
        try:
            return await self._read(queries, stored)
        except _ChangedMeanwhileError:
            stored, _ = await self._stored(queries, lock=True)
            return await self._read(queries, stored)

    async def _read(
        self, queries: Sequence[SummaryQuery], stored: Mapping[str, Iterable[_Stored]]
    ) -> list[Found]:
        matched = [(query, *_matching(stored, query)) for query in queries]
        parts = {self._part(query, row) for query, rows, _ in matched for row in rows}
        contents = await self._contents(parts)
        gaps = await self._gaps(parts)
        disputed = {part.row.key for part in parts if part.row.disputed}
        marked = await self._disputes.marked(disputed) if disputed else {}
        answers = []
        for query, rows, others in matched:
            found = []
            withheld = set()
            marks: list[Mark] = []
            for row in rows:
                part = self._part(query, row)
                marks += _seen(marked.get(row.key, ()), part)
                if any(
                    part.first <= gap.month <= part.last and gap.known_at <= query.as_of
                    for gap in gaps.get(row.key, ())
                ):
                    withheld.add((row.key.record_type, row.key.provider_id))
                if content := contents[part]:
                    key = row.key
                    found.append(
                        StoredSeries(
                            key.record_type,
                            key.provider_id,
                            content,
                            max(part.first, row.first_month)
                            if part.is_now
                            else first_month_of(content),
                            row.simulated,
                        )
                    )
            left_out = (
                row.key.record_type
                for row in others
                if _has_records(query, row, self._part(query, row).first)
            )
            answers.append(
                Found(tuple(found), frozenset(left_out), frozenset(withheld), tuple(marks))
            )
        return answers

    def _part(self, query: SummaryQuery, row: _Stored) -> _Part:
        layout = self._layouts[row.key.record_type]
        stale = is_due(row.next_hidden_on, query.today) or not is_laid_out(layout, row)
        first = query.first_month if layout.bounded else 0
        return _Part(query.as_of, query.today, first, query.last_month, row, stale)

    async def _gaps(self, parts: Iterable[_Part]) -> dict[SeriesKey, list[Gap]]:
        """Return what is hidden of each series, deleted or not yet."""
        gaps: dict[SeriesKey, list[Gap]] = {}
        due: dict[int, set[SeriesKey]] = {}
        deleted = set()
        for part in parts:
            if is_due(part.row.due_on, part.today):
                due.setdefault(part.today, set()).add(part.row.key)
            if part.row.withheld:
                deleted.add(part.row.key)
        found = [await self._facts.hidden(keys, today) for today, keys in due.items()]
        # Second, and of all: what was still there a moment ago may be deleted by now.
        deleted.update(*due.values())
        if deleted:
            found.append(await self._withheld.gaps(deleted))
        for each in found:
            for key, missing in each.items():
                gaps.setdefault(key, []).extend(missing)
        return gaps

    async def _contents(self, parts: Iterable[_Part]) -> dict[_Part, bytes | None]:
        """Return what may be handed over of each part; None or empty is nothing."""
        contents: dict[_Part, bytes | None] = {}
        raw: set[_Part] = set()
        short: set[_Part] = set()
        whole: set[_Part] = set()
        for part in parts:
            row, layout = part.row, self._layouts[part.row.key.record_type]
            cut = part.first > row.first_month or part.last < row.last_month
            if not part.is_now or (layout.attributes and cut):
                if row.known_at <= part.as_of and (kept := self._cuts.find(part)):
                    (contents[part],) = kept
                else:
                    raw.add(part)
            elif layout.derived and part.first > row.first_month:
                short.add(part)
            else:
                whole.add(part)
        now = await self._present({part.row.key: part.row for part in whole})
        for part in whole:
            content = now[part.row.key]
            row = part.row
            inside = part.first <= row.first_month and 0 < row.last_month <= part.last
            contents[part] = content if inside else clip(content, part.first, part.last)
        contents |= await self._from_trades(sorted(short, key=lambda part: part.row.key))
        pasts: dict[tuple[int, datetime], list[_Part]] = {}
        for part in raw:
            pasts.setdefault((part.today, part.as_of), []).append(part)
        for (today, as_of), mine in pasts.items():
            keys = dict.fromkeys(sorted({part.row.key for part in mine}))
            facts = await self._facts.facts(keys, today, as_of)
            for part in mine:
                counting = facts.get(part.row.key, ())
                contents[part] = await asyncio.to_thread(self._fold, part, counting)
                if part.row.known_at <= as_of:
                    self._cuts.keep(part, contents[part])
        return contents

    async def _stored(
        self, queries: Sequence[SummaryQuery], *, lock: bool
    ) -> tuple[dict[str, list[_Stored]], set[int]]:
        """Return series by subject, and the transactions that are changing some of them."""
        pairs = {(query.subject_id, name) for query in queries for name in query.record_types}
        if not pairs:
            return {}, set()
        parameters = _WANTED.values(self._conn, sorted(pairs))
        if self._conn.dialect.name == "postgresql":
            parameters["subject_ids"] = sorted({subject_id for subject_id, _ in pairs})
        query = _locking(self._conn) if lock else _reading(self._conn)
        rows = await ask(self._conn, query, parameters)
        series_rows = [_Stored(SeriesKey(*row[:3]), *row[3:_WIDTH]) for row in rows]
        keys = await self._seals.keys({row.key.subject_id for row in series_rows if row.sealed})
        found: dict[str, list[_Stored]] = {}
        for row in series_rows:
            content = opened(row.key, row.content, keys) if row.sealed else row.content
            if content is None:  # its subject was erased
                continue
            stored = row._replace(content=content)
            found.setdefault(stored.key.subject_id, []).append(stored)
        return found, await self._seen(rows, pairs)

    async def _seen(self, rows: Sequence[Any], pairs: Collection[tuple[str, str]]) -> set[int]:
        """Return the transactions that hold a series or a subject that was asked for."""
        if self._conn.dialect.name == "sqlite":
            return set()
        if not rows:
            subject_ids = sorted({subject_id for subject_id, _ in pairs})
            found = await self._conn.scalar(_OF_SUBJECTS, {"subject_ids": subject_ids})
            return set(found or ())
        return {row[_WIDTH] for row in rows if row[_WIDTH] is not None} | set(rows[0][_WIDTH + 1])

    async def _present(self, rows: Mapping[SeriesKey, _Stored]) -> dict[SeriesKey, bytes]:
        """Return contents with derived measures, computing and storing those that are missing.

        Raises:
            _ChangedMeanwhileError: what they derive from is newer than the contents.
        """
        contents = {key: row.content for key, row in rows.items()}
        stale = [rows[key] for key in sorted(rows)]
        stale = [row for row in stale if row.derived_revision != row.revision]
        trades = await self._trades([(row, 0) for row in stale])
        for row, sides in zip(stale, trades, strict=True):
            table = decode(self._layouts[row.key.record_type], row.content)
            contents[row.key] = await asyncio.to_thread(self._encode, row.key, table, sides)
            await self._keep(row.key, row.revision, contents[row.key])
        return contents

    async def _from_trades(self, parts: Sequence[_Part]) -> dict[_Part, bytes | None]:
        """Return parts whose derived measures are of the trades within them.

        Raises:
            _ChangedMeanwhileError: what they derive from is newer than the contents.
        """
        contents: dict[_Part, bytes | None] = {}
        missing = []
        for part in parts:
            if found := self._cuts.find(part):
                (contents[part],) = found
            else:
                missing.append(part)
        trades = await self._trades([(part.row, part.first) for part in missing])
        for part, sides in zip(missing, trades, strict=True):
            key = part.row.key
            table = decode(self._layouts[key.record_type], part.row.content)
            table.rows = {
                month: row for month, row in table.rows.items() if part.first <= month <= part.last
            }
            contents[part] = (
                await asyncio.to_thread(self._encode, key, table, sides) if table.rows else None
            )
            self._cuts.keep(part, contents[part])
        return contents

    def _fold(self, part: _Part, facts: Iterable[Fact]) -> bytes | None:
        key = part.row.key
        within = [fact for fact in facts if part.first <= fact.month <= part.last]
        table = fold(self._layouts[key.record_type], within)
        return self._encode(key, table, _by_side(trades_of(within))) if within else None

    async def _trades(self, wanted: Sequence[tuple[_Stored, int]]) -> list[_Sides]:
        """Return the trades of each series from a month on.

        Series and trades are of one moment, because they come by one statement.

        Raises:
            _ChangedMeanwhileError: a series is not what it was.
        """
        if not wanted:
            return []
        asked = relation(
            self._conn,
            "asked",
            {"number": sa.Integer(), **KEY, "first": sa.Integer()},
            [[number, *row.key, first] for number, (row, first) in enumerate(wanted)],
        )
        same = [series.c[name] == asked.c[name] for name in KEY]
        mine = [
            counterparty.c.subject_id == asked.c.subject_id,
            counterparty.c.provider_id == asked.c.provider_id,
            counterparty.c.month >= asked.c.first,
        ]
        columns = [counterparty.c[name] for name in ("side", "month", "token", "invoices", "net")]
        if self._conn.dialect.name == "sqlite":
            query = (
                sa.select(asked.c.number, series.c.revision, *columns)
                .join(series, sa.and_(*same))
                .join(counterparty, sa.and_(*mine), isouter=True)
            )
        else:
            # Looked up, as `probe` does; of a series without trades there is one row all the same.
            now = sa.select(series.c.revision).where(*same).offset(0).lateral("now")
            trades = sa.select(*columns).where(*mine).offset(0).lateral("trades")
            tables = asked.join(now, sa.true()).join(trades, sa.true(), isouter=True)
            query = sa.select(asked.c.number, *now.c, *trades.c).select_from(tables)
        found: list[_Sides] = [{} for _ in wanted]
        for number, revision, side, *trade in await self._conn.execute(query):
            if revision != wanted[number][0].revision:
                raise _ChangedMeanwhileError
            if side is not None:
                found[number].setdefault(side, []).append(tuple(trade))
        return found

    def _encode(self, key: SeriesKey, table: Table, sides: _Sides) -> bytes:
        layout = self._layouts[key.record_type]
        return encode(key, layout, table, self._derive(layout, table, sides))

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
        sealed = key.record_type in self._seals.types
        if sealed:
            data_keys = await self._seals.hold([key.subject_id])
            content = data_keys[key.subject_id].seal(series_place(*key), content)
        await self._conn.execute(
            sa.update(series)
            .where(_is(key), series.c.revision == revision)
            .values(content=content, derived_revision=revision, sealed=sealed)
        )


def _of_subjects() -> sa.ColumnElement[Any]:
    """Return the writers that hold the subjects `subject_ids`.

    Who brings the first records of a series holds the subject, as no row of theirs is seen yet.
    """
    holder = underway.writer_of(subject)
    subject_ids = sa.bindparam("subject_ids", type_=ARRAY(sa.String()))
    of_subjects = sa.select(holder).where(
        subject.c.subject_id == sa.any_(subject_ids), holder.is_not(None)
    )
    return sa.func.array(of_subjects.scalar_subquery()).label("writers")


_OF_SUBJECTS: Final = sa.select(_of_subjects())


@once
def _reading(conn: AsyncConnection) -> sa.Select[Any]:
    return _stored_rows(conn, lock=False)


@once
def _locking(conn: AsyncConnection) -> sa.Select[Any]:
    return _stored_rows(conn, lock=True)


def _stored_rows(conn: AsyncConnection, *, lock: bool) -> sa.Select[Any]:
    """Return the statement of rows of `_Stored`, followed by who holds them and their subjects."""
    asked = _WANTED.of(conn)
    writers: tuple[sa.ColumnElement[Any], ...] = ()
    if conn.dialect.name == "postgresql":
        writers = (underway.writer_of(series).label("writer"), _of_subjects())
    return probe(
        conn,
        [*series.c, is_disputed(series), *writers],
        asked,
        *(series.c[name] == asked.c[name] for name in _PAIR),
        lock=lock,
    )


def _seen(marked: Iterable[Marked], part: _Part) -> list[Mark]:
    """Return the disputes about records that count in a part."""
    found = (each.seen(part.as_of, part.today, part.first, part.last) for each in marked)
    return [mark for mark in found if mark is not None]


def _has_records(query: SummaryQuery, row: _Stored, first_month: int) -> bool:
    """Tell from its row alone whether a series has records in a query's months.

    What was known in a past that the row no longer tells may lie in any month: naming a provider
    that was left out once too often is safe, once too seldom is not.
    """
    if row.known_at <= query.as_of:
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
