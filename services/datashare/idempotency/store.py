"""The table of request ids."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.idempotency.domain import RequestKey, StoredRequest
from services.datashare.schema import metadata
from services.kit.db import UtcTime, insert_into

request = sa.Table(
    "request",
    metadata,
    sa.Column("caller_id", sa.String(64), primary_key=True),
    sa.Column("request_id", sa.String(64), primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
    # Empty within the transaction that took the id, which ends with the response or not at all.
    sa.Column("response", sa.LargeBinary, nullable=False),
    sa.Column("requested_at", UtcTime, nullable=False),
)


class RequestStore:
    """Request ids in one transaction.

    Args:
        conn: the transaction.
    """

    def __init__(self, conn: AsyncConnection) -> None:
        self._conn = conn

    async def claim(self, key: RequestKey, at: datetime) -> StoredRequest | None:
        """Take a request_id, or return what it already stands for.

        Waits for a transaction that took it and has not ended.
        """
        result = await self._conn.execute(
            insert_into(self._conn, request)
            .values(
                caller_id=key.caller_id,
                request_id=key.request_id,
                fingerprint=key.fingerprint,
                response=b"",
                requested_at=at,
            )
            .on_conflict_do_nothing()
        )
        if result.rowcount:
            return None
        row = (
            await self._conn.execute(
                sa.select(request.c.fingerprint, request.c.response).where(_is(key))
            )
        ).one()
        return StoredRequest(row.fingerprint, row.response)

    async def complete(self, key: RequestKey, response: bytes) -> None:
        """Keep the response to a claimed request_id."""
        await self._conn.execute(sa.update(request).where(_is(key)).values(response=response))


def _is(key: RequestKey) -> sa.ColumnElement[bool]:
    return sa.and_(request.c.caller_id == key.caller_id, request.c.request_id == key.request_id)
