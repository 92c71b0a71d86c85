"""The registry's events and their leaves; rows are only added.

Positions ascend in the order of commit: on PostgreSQL a writer holds an advisory lock from before
it reads until its end, SQLite has one writer.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.kit.db import insert_into
from services.scoring.registry.app import Key, Leaf, Placed, Told
from services.scoring.registry.domain import Event, content_of, event_of
from services.scoring.schema import metadata

registry_event = sa.Table(
    "registry_event",
    metadata,
    sa.Column(
        "position",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("event_id", sa.String(64), nullable=False, unique=True),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("participant_id", sa.String(64), nullable=False),
    # Of the event that a request asked for; NULL of what followed on it.
    sa.Column("request_id", sa.String(64)),
    sa.Column("fingerprint", sa.LargeBinary(32)),
    # All of it, as canonical JSON, whose hash is its leaf.
    sa.Column("content", sa.Text, nullable=False),
    sa.UniqueConstraint("participant_id", "request_id"),
    sqlite_autoincrement=True,  # a position is never used again
)

registry_leaf = sa.Table(
    "registry_leaf",
    metadata,
    sa.Column("event_id", sa.String(64), primary_key=True),
    sa.Column("leaf_id", sa.String(64), nullable=False),
    sa.Column("salt", sa.LargeBinary(16), nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
)

_LOCK: Final = sa.select(sa.func.pg_advisory_xact_lock(0x70756878))
_UNLOGGED: Final = ~sa.exists().where(registry_leaf.c.event_id == registry_event.c.event_id)


class EventStore:
    """The registry's events in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def lock(self) -> None:
        """Let nobody else change the registry until the end."""
        if self._conn.dialect.name == "postgresql":
            await self._conn.execute(_LOCK)

    async def after(self, position: int) -> Sequence[Placed]:
        """Return the events behind a position, in their order."""
        table = registry_event.c
        rows = await self._conn.execute(
            sa.select(table.position, table.content)
            .where(table.position > position)
            .order_by(table.position)
        )
        return [Placed(row.position, event_of(row.content)) for row in rows]

    async def by_request(self, key: Key) -> tuple[Event, bytes] | None:
        """Return the event that a request made, and its fingerprint."""
        table = registry_event.c
        found = await self._conn.execute(
            sa.select(table.content, table.fingerprint).where(
                table.participant_id == key.participant_id, table.request_id == key.request_id
            )
        )
        row = found.first()
        return None if row is None else (event_of(row.content), row.fingerprint)

    async def append(self, events: Sequence[Event], key: Key) -> None:
        """Add events, the first of which is what the request asked for."""
        for at, event in enumerate(events):
            row: dict[str, Any] = {
                "event_id": event.event_id,
                "version": event.version,
                "participant_id": event.by.participant_id,
                "content": content_of(event),
            }
            if at == 0:
                row |= {"request_id": key.request_id, "fingerprint": key.fingerprint}
            await self._conn.execute(sa.insert(registry_event).values(**row))

    async def page(self, version: str, before: int | None, limit: int) -> Sequence[Told]:
        """Return events, newest first, behind a position; all, or those of a version."""
        table, leaf = registry_event.c, registry_leaf.c
        query = (
            sa.select(table.position, table.content, leaf.leaf_id, leaf.salt, leaf.hash)
            .select_from(registry_event.outerjoin(registry_leaf, leaf.event_id == table.event_id))
            .order_by(table.position.desc())
            .limit(limit)
        )
        if version:
            query = query.where(table.version == version)
        if before is not None:
            query = query.where(table.position < before)
        rows = await self._conn.execute(query)
        return [
            Told(
                row.position,
                event_of(row.content),
                Leaf(row.leaf_id, row.salt, row.hash) if row.leaf_id else None,
            )
            for row in rows
        ]

    async def unlogged(self, limit: int) -> Sequence[Event]:
        """Return the oldest events that have no leaf."""
        table = registry_event.c
        rows = await self._conn.execute(
            sa.select(table.content).where(_UNLOGGED).order_by(table.position).limit(limit)
        )
        return [event_of(content) for content in rows.scalars()]

    async def count_unlogged(self) -> int:
        """Return how many events have no leaf."""
        query = sa.select(sa.func.count()).select_from(registry_event).where(_UNLOGGED)
        return await self._conn.scalar(query) or 0

    async def add_leaves(self, leaves: Mapping[str, Leaf]) -> None:
        """Keep leaves by the ids of their events; those that are kept already are left out."""
        await self._conn.execute(
            insert_into(self._conn, registry_leaf).on_conflict_do_nothing(),
            [
                {
                    "event_id": event_id,
                    "leaf_id": leaf.leaf_id,
                    "salt": leaf.salt,
                    "hash": leaf.hash,
                }
                for event_id, leaf in sorted(leaves.items())
            ],
        )
