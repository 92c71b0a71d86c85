"""Sealing what is there, unsealing it, and re-wrapping data keys: the operator's commands.

Invariants:

- Each step is a short transaction of its own, and what is left to do is read from the tables: an
  interrupted command goes on where it stopped, and services serve meanwhile.
- Sealing lets no plain registration number in from its first step on, and programs of the version
  before are told so; nothing else of theirs is sealed.
- Re-wrapping changes `subject_key` alone.
"""

import functools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.records.intake import content_hash
from services.datashare.records.store import opened, record
from services.datashare.sealing import trigger
from services.datashare.sealing.app import Vault
from services.datashare.sealing.domain import (
    DataKey,
    Wrapped,
    record_place,
    series_place,
    uscc_place,
)
from services.datashare.sealing.store import Seals, subject_key
from services.datashare.subjects.store import subject
from services.datashare.summaries.domain import SeriesKey
from services.datashare.summaries.store import opened as opened_series
from services.datashare.summaries.store import series
from services.kit.db import Database, retry_on_conflict

Progress: TypeAlias = Callable[[str, int, int], None]
"""Is told what is worked on, how much of it is done, and of how much."""

_BATCH: Final = 500


class WrongTokenKeyError(Exception):
    """Subjects are found by tokens under another key: none would be found, each made twice."""


# Those of this migration's version of the tables: going back, later ones are gone already.
_RECORD_COLUMNS: Final = (
    *record.primary_key.columns,
    record.c.occurred_from,
    record.c.occurred_to,
    record.c.retracted,
    record.c.content_hash,
    record.c.payload,
    record.c.sealed,
)


@dataclass(frozen=True)
class Amount:
    """How much is in one state.

    Args:
        subjects: registration numbers.
        series: summary series.
        records: payloads.
    """

    subjects: int
    series: int
    records: int

    def __bool__(self) -> bool:
        return bool(self.subjects or self.series or self.records)


@dataclass(frozen=True)
class Rotation:
    """By which key-encryption keys the data keys are wrapped.

    Args:
        current: id of the one that wraps now.
        counts: number of data keys by key-encryption key.
    """

    current: str
    counts: dict[str, int]

    @property
    def left(self) -> int:
        """How many are wrapped by another than the current one."""
        return sum(count for kek_id, count in self.counts.items() if kek_id != self.current)


class Maintenance:
    """The commands over one database.

    Args:
        database: to work on.
        vault: data keys.
        progress: is told how far it is.
    """

    def __init__(self, database: Database, vault: Vault, progress: Progress) -> None:
        self._database = database
        self._vault = vault
        self._progress = progress

    async def plain(self) -> Amount:
        """Return how much is in plain text that should be sealed."""
        types = sorted(self._vault.sealed_types)
        async with self._database.read() as conn:
            return Amount(
                await _count(conn, subject, subject.c.uscc.is_not(None)),
                await _count(
                    conn, series, series.c.record_type.in_(types), series.c.sealed.is_(False)
                ),
                await _count_records(conn, types, sealed=False),
            )

    async def sealed(self) -> Amount:
        """Return how much is sealed."""
        async with self._database.read() as conn:
            return Amount(
                await _count(
                    conn, subject, subject.c.uscc.is_(None), subject.c.uscc_token.is_not(None)
                ),
                await _count(conn, series, series.c.sealed),
                await _count_records(conn, None, sealed=True),
            )

    async def seal(self) -> None:
        """Seal what is in plain text, and let no plain registration number in any more.

        Raises:
            UnavailableError: keys or the database cannot be had now; the next run goes on.
        """
        amount = await self.plain()
        async with self._database.begin() as conn:
            await conn.run_sync(trigger.install)
        done = 0
        while numbers := await retry_on_conflict(self._seal_numbers):
            done += numbers
            self._progress("registration numbers", done, max(done, amount.subjects))
        types = sorted(self._vault.sealed_types)
        await self._each_series(series.c.record_type.in_(types), amount, sealing=True)

    async def unseal(self) -> None:
        """Write everything back in plain text, for the version before.

        Services of this version seal again what comes in, so they should be stopped.

        Raises:
            UnavailableError: keys or the database cannot be had now; the next run goes on.
        """
        amount = await self.sealed()
        async with self._database.begin() as conn:
            await conn.run_sync(trigger.remove)
        done = 0
        while numbers := await retry_on_conflict(self._unseal_numbers):
            done += numbers
            self._progress("registration numbers", done, max(done, amount.subjects))
        await self._each_series(sa.true(), amount, sealing=False)

    async def check(self) -> None:
        """Try the keys on one row each of what they protect.

        Raises:
            MissingKekError: data keys are wrapped by a key-encryption key that is not at hand.
            SealBrokenError: a key-encryption key is not the one that had its id.
            WrongTokenKeyError: subjects are found by tokens under another key.
            UnavailableError: keys or the database cannot be had now.
        """
        keys = subject_key.c
        first = (
            sa.select(sa.func.min(keys.subject_id))
            .where(keys.destroyed_at.is_(None))
            .group_by(keys.kek_id)
        )
        numbered = (
            sa.select(subject)
            .where(subject.c.uscc_token.is_not(None), subject.c.uscc_sealed.is_not(None))
            .limit(1)
        )
        async with self._database.read() as conn:
            seals = Seals(conn, self._vault)
            await seals.keys((await conn.scalars(first)).all())
            row = (await conn.execute(numbered)).one_or_none()
            if row is None:
                return
            found = await seals.keys([row.subject_id])
            uscc = found[row.subject_id].open(uscc_place(row.subject_id), row.uscc_sealed)
            if seals.token(uscc.decode()) != row.uscc_token:
                raise WrongTokenKeyError

    async def rotation(self) -> Rotation:
        """Return by which key-encryption keys the data keys are wrapped."""
        query = (
            sa.select(subject_key.c.kek_id, sa.func.count())
            .where(subject_key.c.destroyed_at.is_(None))
            .group_by(subject_key.c.kek_id)
            .order_by(subject_key.c.kek_id)
        )
        async with self._database.read() as conn:
            rows: Any = await conn.execute(query)
            return Rotation(self._vault.encryption.current, dict(tuple(row) for row in rows))

    async def rotate(self) -> None:
        """Wrap every data key by the current key-encryption key.

        Raises:
            MissingKekError: one is wrapped by a key that is not at hand.
            UnavailableError: keys or the database cannot be had now; the next run goes on.
        """
        left = (await self.rotation()).left
        done = 0
        while wrapped := await retry_on_conflict(self._rewrap):
            done += wrapped
            self._progress("data keys", done, max(done, left))

    async def _rewrap(self) -> int:
        keys = subject_key.c
        query = (
            sa.select(keys.subject_id, keys.kek_id, keys.wrapped)
            .where(keys.kek_id != self._vault.encryption.current, keys.destroyed_at.is_(None))
            .order_by(keys.subject_id)
            .limit(_BATCH)
            # Beside those who seal under them, as the keys stay the same.
            .with_for_update(key_share=True)
        )
        async with self._database.begin() as conn:
            rows = (await conn.execute(query)).all()
            stored = {row.subject_id: Wrapped(row.kek_id, row.wrapped) for row in rows}
            await _update(
                conn,
                subject_key,
                [
                    {"subject_id": owner, "kek_id": wrapped.kek_id, "wrapped": wrapped.content}
                    for owner, wrapped in (await self._vault.rewrap(stored)).items()
                ],
            )
        return len(rows)

    async def _seal_numbers(self) -> int:
        query = (
            sa.select(subject.c.subject_id, subject.c.uscc)
            .where(subject.c.uscc.is_not(None))
            .order_by(subject.c.uscc)
            .limit(_BATCH)
        )
        async with self._database.begin() as conn:
            seals = Seals(conn, self._vault)
            plain = {row.subject_id: row.uscc for row in await conn.execute(query)}
            # Keys before subjects, and those by number: as `SubjectStore.seal` locks them.
            keys = await seals.hold(plain)
            await _update(
                conn,
                subject,
                [
                    {
                        "subject_id": subject_id,
                        "uscc": None,
                        "uscc_token": seals.token(uscc),
                        "uscc_sealed": keys[subject_id].seal(uscc_place(subject_id), uscc.encode()),
                    }
                    for uscc, subject_id in sorted((uscc, id_) for id_, uscc in plain.items())
                ],
            )
        return len(plain)

    async def _unseal_numbers(self) -> int:
        query = (
            sa.select(subject.c.subject_id, subject.c.uscc_sealed)
            .where(subject.c.uscc.is_(None), subject.c.uscc_token.is_not(None))
            .order_by(subject.c.subject_id)
            .limit(_BATCH)
        )
        async with self._database.begin() as conn:
            sealed = {row.subject_id: row.uscc_sealed for row in await conn.execute(query)}
            keys = await Seals(conn, self._vault).hold(sealed)
            await _update(
                conn,
                subject,
                [
                    {
                        "subject_id": subject_id,
                        "uscc": keys[subject_id].open(uscc_place(subject_id), content).decode(),
                    }
                    for subject_id, content in sealed.items()
                ],
            )
        return len(sealed)

    async def _each_series(
        self, which: sa.ColumnElement[bool], amount: Amount, *, sealing: bool
    ) -> None:
        """Seal or unseal series and their records: none is without a series."""
        done = 0
        total = amount.records + amount.series
        async for key in self._series(which):
            change = functools.partial(self._change, key, sealing=sealing)
            while changed := await retry_on_conflict(change):
                done += changed
                self._progress("records and summaries", done, max(done, total))

    async def _series(self, which: sa.ColumnElement[bool]) -> AsyncIterator[SeriesKey]:
        columns = (series.c.subject_id, series.c.record_type, series.c.provider_id)
        place = sa.tuple_(*columns)
        after: tuple[str, ...] = ("", "", "")
        while True:
            query = sa.select(*columns).where(which, place > after).order_by(*columns).limit(_BATCH)
            async with self._database.read() as conn:
                found = [SeriesKey(*row) for row in await conn.execute(query)]
            for key in found:
                yield key
            if not found:
                return
            after = tuple(found[-1])

    async def _change(self, key: SeriesKey, *, sealing: bool) -> int:
        """Seal or unseal a batch of a series' records, and the series with the last; count them."""
        mine = sa.and_(*(series.c[name] == value for name, value in key._asdict().items()))
        records = sa.and_(*(record.c[name] == value for name, value in key._asdict().items()))
        query = (
            sa.select(*_RECORD_COLUMNS).where(records, _records(sealed=not sealing)).limit(_BATCH)
        )
        summary = sa.select(series.c.content, series.c.sealed).where(mine).with_for_update()
        async with self._database.begin() as conn:
            # Whoever adds records or folds them anew waits, or has been waited for.
            row = (await conn.execute(summary)).one_or_none()
            if row is None:
                return 0  # erased meanwhile
            found = (await conn.execute(query)).all()
            if not found and row.sealed == sealing:
                return 0
            seals = Seals(conn, self._vault)
            keys = await (seals.hold([key.subject_id]) if sealing else seals.keys([key.subject_id]))
            if key.subject_id not in keys:
                return 0  # erased: there is nothing to go back to
            data_key = keys[key.subject_id]
            await _change_records(conn, found, data_key, sealing=sealing)
            if len(found) == _BATCH:
                return len(found)
            if row.sealed != sealing:
                content = (
                    data_key.seal(series_place(*key), row.content)
                    if sealing
                    else opened_series(key, row.content, keys)
                )
                await conn.execute(
                    sa.update(series).where(mine).values(content=content, sealed=sealing)
                )
            return len(found) + int(row.sealed != sealing)


async def _change_records(
    conn: AsyncConnection, rows: Sequence[Any], key: DataKey, *, sealing: bool
) -> None:
    names = [column.name for column in record.primary_key.columns]
    changed = []
    for row in rows:
        named = {name: getattr(row, name) for name in names}
        if sealing:
            place = record_place(*named.values())
            payload, digest = key.seal(place, row.payload), key.blind(row.content_hash)
        else:
            payload = opened(row, {row.subject_id: key}) or b""
            digest = content_hash(row.retracted, row.occurred_from, row.occurred_to, payload)
        changed.append(named | {"payload": payload, "content_hash": digest, "sealed": sealing})
    await _update(conn, record, changed)


async def _update(conn: AsyncConnection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Change rows, each named by its primary key; the same columns of all."""
    if not rows:
        return
    key = [column.name for column in table.primary_key.columns]
    statement = (
        sa.update(table)
        .where(*(table.c[name] == sa.bindparam(f"key_{name}") for name in key))
        .values({name: sa.bindparam(f"new_{name}") for name in rows[0] if name not in key})
    )
    await conn.execute(
        statement,
        [
            {f"{'key' if name in key else 'new'}_{name}": value for name, value in row.items()}
            for row in rows
        ],
    )


def _records(*, sealed: bool) -> sa.ColumnElement[bool]:
    """Select records by whether they are sealed; of those without a payload there is no need."""
    return record.c.sealed if sealed else ~record.c.sealed & (record.c.payload != b"")


async def _count(conn: AsyncConnection, table: sa.Table, *which: sa.ColumnElement[bool]) -> int:
    return (await conn.scalar(sa.select(sa.func.count()).select_from(table).where(*which))) or 0


async def _count_records(
    conn: AsyncConnection, types: Sequence[str] | None, *, sealed: bool
) -> int:
    """Count records by way of their series, which are few and lead the key."""
    names = ("subject_id", "record_type", "provider_id")
    query = (
        sa.select(sa.func.count())
        .select_from(series)
        .join(record, sa.and_(*(record.c[name] == series.c[name] for name in names)))
        .where(_records(sealed=sealed))
    )
    if types is not None:
        query = query.where(series.c.record_type.in_(types))
    return (await conn.scalar(query)) or 0
