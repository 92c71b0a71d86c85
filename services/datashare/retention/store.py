"""The tables of what was hidden and deleted.

Invariants: `withheld` holds no content; a row of `retention_run` is written when the run begins and
changed by nobody else than the run, which holds it.
"""

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import relation
from services.datashare.schema import metadata
from services.datashare.summaries.domain import Gap, SeriesKey
from services.kit.db import UtcTime

withheld = sa.Table(
    "withheld",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("record_type", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("month", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.String(16), primary_key=True),
    # The earliest time at which something of the month became known that is deleted now.
    sa.Column("known_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)

run = sa.Table(
    "retention_run",
    metadata,
    sa.Column("run_id", sa.String(64), primary_key=True),
    # Empty of an erasure.
    sa.Column("plan_id", sa.String(64), nullable=False),
    sa.Column("operator_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
    sa.Column("ran_at", UtcTime, nullable=False),
    # What is hidden on this day goes: days since 1970-01-01 in China.
    sa.Column("day", sa.Integer, nullable=False),
    # The subject of an erasure, else empty.
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("note", sa.String(200), nullable=False),
    # What went so far: a list, as JSON.
    sa.Column("deleted", sa.LargeBinary, nullable=False),
    # NULL while it is not finished.
    sa.Column("finished_at", UtcTime),
    sa.Column("leaf_hash", sa.LargeBinary(32)),
    sa.UniqueConstraint("operator_id", "request_id"),
    sa.Index(None, "subject_id"),
)


class WithheldStore:
    """What was deleted because it was hidden, in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def gaps(self, keys: Collection[SeriesKey]) -> dict[SeriesKey, list[Gap]]:
        """Return what is missing of each series; a series without is absent."""
        names = {name: sa.String() for name in SeriesKey._fields}
        asked = relation(self._conn, "asked", names, sorted(keys))
        rows: Any = await self._conn.execute(
            sa.select(
                *(withheld.c[name] for name in names), withheld.c.month, withheld.c.known_at
            ).join(asked, sa.and_(*(withheld.c[name] == asked.c[name] for name in names)))
        )
        found: dict[SeriesKey, list[Gap]] = {}
        for *key, month, known_at in rows:
            found.setdefault(SeriesKey(*key), []).append(Gap(month, known_at))
        return found


class RunStore:
    """Runs and erasures in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def erased(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that stood for a subject that was erased."""
        rows = await self._conn.execute(
            sa.select(run.c.subject_id).where(run.c.subject_id.in_(sorted(subject_ids)))
        )
        return set(rows.scalars()) - {""}
