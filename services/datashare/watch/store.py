"""What the watch reads of accesses, and the tables in which it counts.

Accesses are read by recipient behind an id, over the index that lists have: no other one is kept on
the path of a fetch.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.access.store import access
from services.datashare.bulk import insert_free, relation, upsert_rows
from services.datashare.schema import metadata
from services.datashare.watch.domain import Key, Seen
from services.kit.db import insert_into

raised = sa.Table(
    "incident_window",
    metadata,
    sa.Column("rule", sa.String(32), primary_key=True),
    sa.Column("participant_id", sa.String(64), primary_key=True),
    # When the window begins, seconds since 1970-01-01 UTC; here and below.
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("who", sa.String(32), primary_key=True),
    sa.Column("incident_id", sa.String(64), nullable=False),
)

place = sa.Table(
    "watch_place",
    metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("place", sa.String(64), nullable=False),
)

count = sa.Table(
    "watch_count",
    metadata,
    sa.Column("rule", sa.String(32), primary_key=True),
    sa.Column("participant_id", sa.String(64), primary_key=True),
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("who", sa.String(32), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)

seen = sa.Table(
    "watch_seen",
    metadata,
    sa.Column("rule", sa.String(32), primary_key=True),
    sa.Column("participant_id", sa.String(64), primary_key=True),
    sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("who", sa.String(32), primary_key=True),
    # Hash of a firm's id.
    sa.Column("what", sa.String(32), primary_key=True),
)

_ALONE: Final = sa.select(sa.func.pg_try_advisory_xact_lock(0x77617463))
_KEY: Final[Mapping[str, sa.types.TypeEngine[Any]]] = {
    "rule": sa.String(),
    "participant_id": sa.String(),
    "since": sa.BigInteger(),
    "who": sa.String(),
}
_SEEN: Final = tuple(access.c[name] for name in ("access_id", "accessed_at", *Seen._fields[2:]))


class WatchStore:
    """Accesses, and what was counted of them, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def alone(self) -> bool:
        """Tell whether nobody else watches until the end of this transaction."""
        # SQLite has one writer.
        return self._conn.dialect.name == "sqlite" or bool(await self._conn.scalar(_ALONE))

    async def place(self, name: str) -> str | None:
        """Return how far was looked under a name."""
        found: str | None = await self._conn.scalar(
            sa.select(place.c.place).where(place.c.name == name)
        )
        return found

    async def move(self, name: str, to: str) -> None:
        """Say how far was looked under a name."""
        insert = insert_into(self._conn, place).values(name=name, place=to)
        await self._conn.execute(
            insert.on_conflict_do_update(
                index_elements=["name"], set_={"place": insert.excluded.place}
            )
        )

    async def accesses(
        self, recipient_id: str, after: str, before: str, limit: int
    ) -> Sequence[Seen]:
        """Return a recipient's accesses with ids between two, in their order."""
        rows = await self._conn.execute(
            sa.select(*_SEEN)
            .where(
                access.c.recipient_id == recipient_id,
                access.c.access_id > after,
                access.c.access_id < before,
            )
            .order_by(access.c.access_id)
            .limit(limit)
        )
        return [Seen(*row) for row in rows]

    async def add(self, counts: Mapping[Key, int]) -> Mapping[Key, int]:
        """Add to counts and return the sums."""
        rows = [(*key, number) for key, number in sorted(counts.items())]
        added = {"number": "watch_count.number + excluded.number"}
        await upsert_rows(self._conn, count, rows, added)
        return await self._held(count.c.number, counts.keys())

    async def run(self, key: Key) -> int:
        """Return how long a run is."""
        numbers: Mapping[Key, int] = await self._held(count.c.number, [key])
        return numbers.get(key, 0)

    async def set_run(self, key: Key, length: int) -> None:
        """Say how long a run is."""
        await upsert_rows(self._conn, count, [(*key, length)], {"number": "excluded.number"})

    async def meet(self, firms: Mapping[Key, Collection[str]]) -> Mapping[Key, int]:
        """Add firms to those that were met, and return how many different ones there are."""
        rows = [(*key, what) for key in sorted(firms) for what in sorted(firms[key])]
        await insert_free(self._conn, seen, rows)
        if not firms:
            return {}
        asked = relation(self._conn, "asked", _KEY, sorted(firms))
        found = await self._conn.execute(
            sa.select(*(seen.c[name] for name in _KEY), sa.func.count())
            .join(asked, sa.and_(*(seen.c[name] == asked.c[name] for name in _KEY)))
            .group_by(*(seen.c[name] for name in _KEY))
        )
        return {_key(row): row[4] for row in found}

    async def busy(self, key: Key, since: int) -> Mapping[int, int]:
        """Return the counts of a key's rule and participant by window, from one to the key's."""
        rows = await self._conn.execute(
            sa.select(count.c.since, count.c.number).where(
                count.c.rule == key.rule,
                count.c.participant_id == key.participant_id,
                count.c.since >= since,
                count.c.since < key.since,
            )
        )
        return {row.since: row.number for row in rows}

    async def raised(self, keys: Collection[Key]) -> Mapping[Key, str]:
        """Return the incidents that windows raised or repeated, of those that did."""
        return await self._held(raised.c.incident_id, keys)

    async def note_raised(self, key: Key, incident_id: str) -> None:
        """Say that a window raised or repeated an incident."""
        await insert_free(self._conn, raised, [(*key, incident_id)])

    async def forget(self, rule: str, before: int) -> None:
        """Forget what was counted for a rule in windows that begin before one; runs stay."""
        for table in (count, seen):
            await self._conn.execute(
                sa.delete(table).where(
                    table.c.rule == rule, table.c.since < before, table.c.since != 0
                )
            )

    async def forget_raised(self, before: int) -> None:
        """Forget which windows raised incidents, of those that begin before one."""
        await self._conn.execute(sa.delete(raised).where(raised.c.since < before))

    async def _held(self, column: sa.Column[Any], keys: Collection[Key]) -> Mapping[Key, Any]:
        """Return what a column of a table by `_KEY` holds, of the windows that stand in it."""
        if not keys:
            return {}
        table = column.table
        asked = relation(self._conn, "asked", _KEY, sorted(keys))
        rows = await self._conn.execute(
            sa.select(*(table.c[name] for name in _KEY), column).join(
                asked, sa.and_(*(table.c[name] == asked.c[name] for name in _KEY))
            )
        )
        return {_key(row): row[4] for row in rows}


def _key(row: Any) -> Key:
    return Key(*row[:4])
