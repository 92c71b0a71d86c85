"""The tables of summaries.

Invariants: a series' row is the lock of its records: whoever adds records of that subject, type and
provider holds it, taken in sorted order. `content` has the derived measures if and only if
`derived_revision` equals `revision`, and today's measures if and only if `layout` is that of the
type and `layout_revision` equals `revision`: a program of another version writes neither. The
content of a `sealed` row opens with its subject's data key alone.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare import underway
from services.datashare.bulk import (
    Relation,
    joined,
    once,
    probe,
    stored_time,
    upsert_rows,
)
from services.datashare.schema import metadata
from services.datashare.sealing.domain import DataKey, series_place
from services.datashare.sealing.store import Seals
from services.datashare.subjects.store import subject
from services.datashare.summaries.codec import decode, encode
from services.datashare.summaries.domain import (
    Layout,
    SeriesKey,
    SeriesState,
    Table,
    TradeTotals,
)
from services.kit.db import EPOCH, UtcTime, from_microseconds, to_microseconds
from services.kit.errors import UnavailableError

series = sa.Table(
    "summary_series",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("derived_revision", sa.BigInteger, nullable=False),
    sa.Column("first_known_at", UtcTime, nullable=False),
    sa.Column("known_at", UtcTime, nullable=False),
    sa.Column("simulated", sa.Boolean, nullable=False),
    sa.Column("first_month", sa.Integer, nullable=False),
    sa.Column("last_month", sa.Integer, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.Boolean, nullable=False, server_default=sa.false()),
    # `Layout.mark`; holds as long as `layout_revision` equals `revision`.
    sa.Column("layout", sa.String(16)),
    sa.Column("layout_revision", sa.BigInteger, nullable=False, server_default="0"),
    # As in `SeriesState`.
    sa.Column("next_hidden_on", sa.Integer),
    sa.Column("due_on", sa.Integer),
    sa.Column("withheld", sa.Boolean, nullable=False, server_default=sa.false()),
    sqlite_with_rowid=False,
)

counterparty = sa.Table(
    "summary_counterparty",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("side", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("month", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("token", sa.LargeBinary, primary_key=True),
    sa.Column("invoices", sa.BigInteger, nullable=False),
    sa.Column("net", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

supply = sa.Table(
    "summary_supply",
    metadata,
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("first_known_at", UtcTime, nullable=False),
)

_STATE: Final = (
    "revision",
    "first_known_at",
    "known_at",
    "content",
    "sealed",
    "layout",
    "layout_revision",
    "next_hidden_on",
    "due_on",
    "withheld",
    "simulated",
)
_ADDED: Final = {
    name: f"summary_counterparty.{name} + excluded.{name}" for name in ("invoices", "net")
}
# Which of the series each row is of says `whose`, so that their names are sent once.
_ADD_TRADES: Final = """
    INSERT INTO summary_counterparty
        (subject_id, provider_id, side, month, token, invoices, net)
    SELECT ($1::varchar[])[whose], ($2::varchar[])[whose], side, month, decode(token, 'hex'),
        invoices, net
    FROM unnest(
        string_to_array($3, ',')::int[],
        string_to_array($4, ',')::smallint[],
        string_to_array($5, ',')::int[],
        string_to_array($6, ',')::bigint[],
        string_to_array($7, ',')::bigint[],
        string_to_array($8, ',')
    ) AS added (whose, side, month, invoices, net, token)
    ON CONFLICT (subject_id, provider_id, side, month, token) DO UPDATE SET
        invoices = summary_counterparty.invoices + excluded.invoices,
        net = summary_counterparty.net + excluded.net
"""
KEY: Final = {"subject_id": sa.String(), "record_type": sa.String(), "provider_id": sa.String()}
_WANTED: Final = Relation("wanted", KEY)


@once
def _locking(conn: AsyncConnection) -> sa.Select[Any]:
    wanted = _WANTED.of(conn)
    columns = [series.c[name] for name in KEY]
    state = (series.c[name] for name in _STATE)
    same = (column == wanted.c[column.name] for column in columns)
    return probe(conn, [*columns, *state], wanted, *same, lock=True)


class SeriesStore:
    """Summaries in one write transaction.

    Args:
        conn: the transaction.
        layouts: by record type.
        seals: seals contents.
    """

    def __init__(self, conn: AsyncConnection, layouts: Mapping[str, Layout], seals: Seals) -> None:
        self._conn = conn
        self._layouts = layouts
        self._seals = seals

    async def lock(self, keys: Iterable[SeriesKey]) -> dict[SeriesKey, SeriesState]:
        """Return the state of every series, which nobody else changes until the end.

        Raises:
            UnavailableError: a subject was erased just now.
        """
        wanted = sorted(set(keys))
        await underway.announce(self._conn)
        states = await self._locked(wanted)
        missing = [key for key in wanted if key not in states]
        if missing and self._conn.dialect.name == "postgresql":
            # A row to lock, which another transaction may be making just now.
            epoch = stored_time(self._conn, EPOCH)
            nothing: tuple[Any, ...] = (0, 0, epoch, epoch, False, 0, 0, b"", False)
            nowhere: tuple[Any, ...] = (None, 0, None, None, False)
            rows = [tuple(key) + nothing + nowhere for key in missing]
            await upsert_rows(self._conn, series, rows, {})
            states |= await self._locked(missing)
        if missing:
            await self._hold_subjects({key.subject_id for key in missing})
        for key in missing:
            states.setdefault(key, SeriesState(0, 0, 0, Table()))
        return states

    async def hold(self, keys: Iterable[SeriesKey]) -> dict[SeriesKey, SeriesState]:
        """Return the state of those series that there are; nobody else changes them until then."""
        return await self._locked(sorted(set(keys)))

    async def _hold_subjects(self, subject_ids: Collection[str]) -> None:
        """Hold the subjects of new series: a reader sees it, and nobody erases them meanwhile."""
        rows = await self._conn.execute(
            sa.select(subject.c.subject_id, subject.c.uscc, subject.c.uscc_token)
            .where(subject.c.subject_id.in_(sorted(subject_ids)))
            .order_by(subject.c.subject_id)
            .with_for_update(key_share=True)
        )
        there = {row.subject_id for row in rows if row.uscc or row.uscc_token}
        if not there.issuperset(subject_ids):
            raise UnavailableError(
                "UNAVAILABLE",
                "a subject was erased while this came in: send it again, and see its answer",
            )

    async def _locked(self, keys: list[SeriesKey]) -> dict[SeriesKey, SeriesState]:
        if not keys:
            return {}
        rows: Any = await self._conn.execute(_locking(self._conn), _WANTED.values(self._conn, keys))
        found = rows.all()
        data_keys = await self._seals.keys({row.subject_id for row in found if row.sealed})
        states = {}
        for row in found:
            key = SeriesKey(*row[:3])
            layout = self._layouts[key.record_type]
            # A subject whose key is destroyed begins anew.
            content = opened(key, row.content, data_keys) or b"" if row.sealed else row.content
            states[key] = SeriesState(
                row.revision,
                to_microseconds(row.first_known_at),
                to_microseconds(row.known_at),
                decode(layout, content),
                is_laid_out(layout, row) or not row.revision,
                row.next_hidden_on,
                row.due_on,
                row.withheld,
                row.simulated,
            )
        return states

    async def after(self, last: SeriesKey | None, limit: int) -> list[SeriesKey]:
        """Return the next series in their order."""
        columns = [series.c[name] for name in KEY]
        query = sa.select(*columns).order_by(*columns).limit(limit)
        if last:
            query = query.where(sa.tuple_(*columns) > sa.tuple_(*last))
        return [SeriesKey(*row) for row in await self._conn.execute(query)]

    async def count(self, marks: Mapping[str, str]) -> tuple[int, int]:
        """Return how many series there are, and how many have another mark than their type's."""
        laid_out = sa.or_(
            *(
                sa.and_(series.c.record_type == name, series.c.layout == mark)
                for name, mark in marks.items()
            )
        )
        counts = sa.select(
            sa.func.count(),
            sa.func.count().filter(
                sa.and_(laid_out, series.c.layout_revision == series.c.revision)
            ),
        ).select_from(series)
        total, right = (await self._conn.execute(counts)).one()
        return total, total - right

    async def of(self, subject_id: str) -> list[SeriesKey]:
        """Return the series of a subject."""
        query = sa.select(*(series.c[name] for name in KEY))
        rows = await self._conn.execute(query.where(series.c.subject_id == subject_id))
        return [SeriesKey(*row) for row in rows]

    async def save(self, states: Mapping[SeriesKey, SeriesState], *, simulated: bool) -> None:
        """Store locked series, all of which are simulated or none."""
        rows = []
        types = self._seals.types
        data_keys = await self._seals.hold(
            {key.subject_id for key in states if key.record_type in types}
        )
        for key, state in states.items():
            layout = self._layouts[key.record_type]
            content = encode(key, layout, state.table, {})
            sealed = key.record_type in types
            if sealed:
                content = data_keys[key.subject_id].seal(series_place(*key), content)
            rows.append(
                (
                    *key,
                    state.revision,
                    0 if layout.derived else state.revision,
                    stored_time(self._conn, from_microseconds(state.first_known_at)),
                    stored_time(self._conn, from_microseconds(state.known_at)),
                    simulated,
                    min(state.table.rows, default=0),
                    max(state.table.rows, default=0),
                    content,
                    sealed,
                    layout.mark,
                    state.revision,
                    state.next_hidden_on,
                    state.due_on,
                    state.withheld,
                )
            )
        names = (column.name for column in series.columns if not column.primary_key)
        await upsert_rows(self._conn, series, rows, {name: f"excluded.{name}" for name in names})

    async def add_trades(self, trades: Mapping[SeriesKey, TradeTotals]) -> None:
        """Add to the dealings with counterparties."""
        rows = [
            (index, side, month, token, invoices, net)
            for index, totals in enumerate(trades.values(), start=1)
            for (side, month, token), (invoices, net) in totals.items()
            if invoices or net
        ]
        if not rows:
            return
        keys = list(trades)
        if self._conn.dialect.name == "sqlite":
            mine = [(keys[row[0] - 1].subject_id, keys[row[0] - 1].provider_id) for row in rows]
            named = [(*names, *row[1:]) for names, row in zip(mine, rows, strict=True)]
            await upsert_rows(self._conn, counterparty, named, _ADDED)
            return
        of, side, month, tokens, invoices, net = zip(*rows, strict=True)
        values = (
            [key.subject_id for key in keys],
            [key.provider_id for key in keys],
            *(joined(numbers) for numbers in (of, side, month, invoices, net)),
            ",".join([token.hex() for token in tokens]),
        )
        await self._conn.exec_driver_sql(_ADD_TRADES, values)

    async def drop_trades(self, keys: Collection[SeriesKey]) -> None:
        """Forget the dealings with counterparties."""
        for key in sorted(keys):
            await self._conn.execute(
                sa.delete(counterparty).where(
                    counterparty.c.subject_id == key.subject_id,
                    counterparty.c.provider_id == key.provider_id,
                )
            )

    async def note_supply(self, since: Mapping[tuple[str, str], int]) -> None:
        """Remember since when providers supply record types.

        Args:
            since: when a record was first known, microseconds since 1970-01-01 UTC, by type and
                provider.
        """
        providers = {provider_id for _, provider_id in since}
        rows = await self._conn.execute(
            sa.select(supply).where(supply.c.provider_id.in_(sorted(providers)))
        )
        known = {(row[0], row[1]): to_microseconds(row[2]) for row in rows}
        # Mostly nothing is new, and then nobody waits for another batch of the provider here.
        earlier = [
            (*pair, stored_time(self._conn, from_microseconds(at)))
            for pair, at in sorted(since.items())
            if pair not in known or at < known[pair]
        ]
        least = (
            "CASE WHEN excluded.first_known_at < summary_supply.first_known_at "
            "THEN excluded.first_known_at ELSE summary_supply.first_known_at END"
        )
        await upsert_rows(self._conn, supply, earlier, {"first_known_at": least})


def is_laid_out(layout: Layout, row: Any) -> bool:
    """Tell whether a row's content has today's measures."""
    return bool(row.layout == layout.mark and row.layout_revision == row.revision)


def opened(key: SeriesKey, content: bytes, keys: Mapping[str, DataKey]) -> bytes | None:
    """Return the content of a sealed series; None when its subject's key is destroyed.

    Args:
        key: whose series.
        content: as it is stored.
        keys: `Seals.keys` of its subject.

    Raises:
        SealBrokenError: it was altered, or moved from where it belongs.
    """
    data_key = keys.get(key.subject_id)
    return data_key.open(series_place(*key), content) if data_key else None
