"""The table of subjects, which is the mapping of registration numbers to opaque ids.

Invariants: a registration number is found by its keyed token and read only with its subject's data
key. It stands in plain text only where programs of the version before may still write, on
PostgreSQL until the mapping is sealed (`sealing.maintenance`): then a trigger keeps it out, so a
writer that sends it need not know. A subject that was erased has none of the three.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import insert_free
from services.datashare.schema import metadata
from services.datashare.sealing.domain import TOKEN_BYTES, uscc_place
from services.datashare.sealing.store import Seals
from services.kit.ids import Ids

subject = sa.Table(
    "subject",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("uscc", sa.String(18), unique=True),
    sa.Column("uscc_token", sa.LargeBinary(TOKEN_BYTES), unique=True),
    sa.Column("uscc_sealed", sa.LargeBinary),
)


# Made once, as every batch asks.
_BY_TOKEN: Final = sa.select(subject.c.uscc_token, subject.c.subject_id).where(
    subject.c.uscc_token.in_(sa.bindparam("tokens", expanding=True))
)


class SubjectStore:
    """Subjects in one transaction.

    Args:
        conn: the transaction.
        ids: makes subject ids.
        seals: seals registration numbers.
    """

    def __init__(self, conn: AsyncConnection, ids: Ids, seals: Seals) -> None:
        self._conn = conn
        self._ids = ids
        self._seals = seals

    async def resolve(self, uscc: str) -> str | None:
        """Return the subject_id of a checked code."""
        found = await self._by_token([uscc]) or await self._in_plain([uscc])
        return found.get(uscc)

    async def existing(self, subject_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name a subject, which was not erased."""
        rows = await self._conn.execute(
            sa.select(subject.c.subject_id).where(
                subject.c.subject_id.in_(sorted(subject_ids)),
                sa.or_(subject.c.uscc_token.is_not(None), subject.c.uscc.is_not(None)),
            )
        )
        return set(rows.scalars())

    async def resolve_or_create_many(self, usccs: Iterable[str]) -> dict[str, str]:
        """Return the subject_id of every checked code, made now where there was none.

        Two transactions that make the same subject at once get the same id: the second waits for
        the first. Rows are made in sorted order, so that they cannot wait for each other.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        wanted = sorted(set(usccs))
        found = await self._by_token(wanted)
        missing = [uscc for uscc in wanted if uscc not in found]
        if missing:
            found |= await self._seal_plain(missing)
            missing = [uscc for uscc in missing if uscc not in found]
        if missing:
            found |= await self._make(missing)
        return found

    async def usccs(self, subject_ids: Iterable[str]) -> dict[str, str]:
        """Return the registration numbers of subjects, but for those that were erased.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        rows = await self._conn.execute(
            sa.select(subject.c.subject_id, subject.c.uscc, subject.c.uscc_sealed).where(
                subject.c.subject_id.in_(sorted(subject_ids))
            )
        )
        found = rows.all()
        keys = await self._seals.keys(row.subject_id for row in found if row.uscc_sealed)
        return {
            row.subject_id: keys[row.subject_id]
            .open(uscc_place(row.subject_id), row.uscc_sealed)
            .decode()
            if row.subject_id in keys
            else row.uscc
            for row in found
            if row.subject_id in keys or row.uscc
        }

    async def seal(self, plain: Mapping[str, str]) -> None:
        """Add token and sealed number to subjects that have theirs in plain text.

        Args:
            plain: subject_id by number.

        Raises:
            UnavailableError: keys cannot be had now.
        """
        keys = await self._seals.hold(plain.values())
        await self._conn.execute(
            sa.update(subject)
            .where(
                subject.c.subject_id == sa.bindparam("mine"),
                subject.c.uscc == sa.bindparam("plain"),
                subject.c.uscc_token.is_(None),
            )
            .values(uscc_token=sa.bindparam("token"), uscc_sealed=sa.bindparam("sealed")),
            [
                {
                    "mine": subject_id,
                    "plain": uscc,
                    "token": self._seals.token(uscc),
                    "sealed": keys[subject_id].seal(uscc_place(subject_id), uscc.encode()),
                }
                for uscc, subject_id in sorted(plain.items())
            ],
        )

    async def erase(self, subject_id: str, at: datetime) -> None:
        """Destroy a subject's data key and number.

        What is sealed of it stays unreadable for ever; whoever names its number from now on means
        another subject. Locks it against who seals: to be called before its series are locked.
        """
        await self._seals.destroy(subject_id, at)
        await self._conn.execute(
            sa.update(subject)
            .where(subject.c.subject_id == subject_id)
            .values(uscc=None, uscc_token=None, uscc_sealed=None)
        )

    async def _make(self, usccs: list[str]) -> dict[str, str]:
        made = {self._ids.new("sub"): uscc for uscc in usccs}
        wrapped, keys = await self._seals.make(made)
        # The trigger of a sealed mapping drops the plain text; programs of the version before find
        # a subject only by it. SQLite serves one process, so there are none.
        shared = self._conn.dialect.name == "postgresql"
        rows = [
            (
                subject_id,
                uscc if shared else None,
                self._seals.token(uscc),
                keys[subject_id].seal(uscc_place(subject_id), uscc.encode()),
            )
            for subject_id, uscc in made.items()
        ]
        await insert_free(self._conn, subject, rows)
        found = await self._by_token(usccs)
        await self._seals.add(
            {id_: wrapped[id_] for uscc, id_ in found.items() if made.get(id_) == uscc}
        )
        others = [uscc for uscc in usccs if uscc not in found]
        return found | await self._seal_plain(others) if others else found

    async def _seal_plain(self, usccs: list[str]) -> dict[str, str]:
        """Return subjects that a program of the version before made, sealing them on the spot."""
        found = await self._in_plain(usccs)
        if found:
            await self.seal(found)
        return found

    async def _by_token(self, usccs: list[str]) -> dict[str, str]:
        by_token = {self._seals.token(uscc): uscc for uscc in usccs}
        rows = await self._conn.execute(_BY_TOKEN, {"tokens": list(by_token)})
        return {by_token[bytes(row.uscc_token)]: row.subject_id for row in rows}

    async def _in_plain(self, usccs: list[str]) -> dict[str, str]:
        rows = await self._conn.execute(
            sa.select(subject.c.uscc, subject.c.subject_id).where(
                subject.c.uscc.in_(usccs), subject.c.uscc_token.is_(None)
            )
        )
        return {row.uscc: row.subject_id for row in rows}
