"""The table of uses of consents: a counter for each consent and period.

A counter is changed under its row's lock, which its transaction has until it ends: so counts are
exact on any number of replicas, and a transaction that fails has used nothing. Who changes several
does so in the order of their keys, so that two batches cannot wait for each other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import joined, relation
from services.datashare.quota.domain import Key
from services.datashare.schema import metadata

consent_use = sa.Table(
    "consent_use",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("consent_id", sa.String(64), primary_key=True),
    # Its first day, days since 1970-01-01 in China Standard Time; 0 is the consent's whole life.
    sa.Column("period", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("used", sa.Integer, nullable=False),
)

_KEY: Final[dict[str, sa.types.TypeEngine[Any]]] = {
    "subject_id": sa.String(),
    "consent_id": sa.String(),
    "period": sa.Integer(),
}
_ADD = (
    " ON CONFLICT (subject_id, consent_id, period) "
    "DO UPDATE SET used = consent_use.used + excluded.used "
    "RETURNING subject_id, consent_id, period, used"
)
# `WHERE true`: else SQLite reads ON as the condition of a join.
_SQLITE = (
    "INSERT INTO consent_use (subject_id, consent_id, period, used) "  # noqa: S608 - constants
    "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), "
    "json_extract(value, '$[2]'), json_extract(value, '$[3]') FROM json_each(?) WHERE true" + _ADD
)
_POSTGRESQL = (
    "INSERT INTO consent_use (subject_id, consent_id, period, used) "  # noqa: S608 - constants
    "SELECT * FROM unnest($1::varchar[], $2::varchar[], string_to_array($3, ',')::integer[], "
    "string_to_array($4, ',')::integer[])" + _ADD
)


class QuotaStore:
    """Uses of consents in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def add(self, counts: Sequence[tuple[Key, int]]) -> Mapping[Key, int]:
        """Count uses, and keep everybody else from counting the same ones until the end.

        Args:
            counts: how many by key, ascending; negative gives back.

        Returns:
            The counts with these.
        """
        if not counts:
            return {}
        if self._conn.dialect.name == "sqlite":
            rows = orjson.dumps([(*key, count) for key, count in counts])
            found = await self._conn.exec_driver_sql(_SQLITE, (rows.decode(),))
        else:
            keys = [key for key, _ in counts]
            found = await self._conn.exec_driver_sql(
                _POSTGRESQL,
                (
                    [subject_id for subject_id, _, _ in keys],
                    [consent_id for _, consent_id, _ in keys],
                    joined([period for _, _, period in keys]),
                    joined([count for _, count in counts]),
                ),
            )
        return {(row.subject_id, row.consent_id, row.period): row.used for row in found}

    async def used(self, keys: Sequence[Key]) -> Mapping[Key, int]:
        """Return the counts of those of the keys under which something was used."""
        asked = relation(self._conn, "asked", _KEY, keys)
        rows: Any = await self._conn.execute(
            sa.select(*consent_use.c).join(
                asked, sa.and_(*(consent_use.c[name] == asked.c[name] for name in _KEY))
            )
        )
        return {(row.subject_id, row.consent_id, row.period): row.used for row in rows}
