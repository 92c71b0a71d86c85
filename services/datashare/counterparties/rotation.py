"""Carrying every stored token to a new key.

Invariants:

- Everything is carried in one transaction, with the row that says by which keys: whoever reads sees
  all of the old or all of the new. Nobody else writes meanwhile, and nobody who knows only the old
  keys writes later: datashare has to be stopped, and does not start with them.
- What is carried is what a new name's token, or an invoice's fingerprint, is under the new chain.
  So parties that were the same are, and a record that is sent again is the same one.
- The new keys are on the disk before the transaction commits.

What holds tokens, or keyed hashes under keys made of theirs:

- payloads of records, in the fields that the catalogue calls tokens, and the hash of their content;
- payloads of rows that wait for a review, and the keyed hash by which a decided row is known again;
- `summary_counterparty`, `quality_guarantee` and `quality_token`;
- fingerprints of invoices and names of records in `quality_invoice` and `quality_guarantee`.

Findings and summaries name subjects, never tokens. A row that was dismissed in a review is kept
nowhere, so it waits again when it is sent again and names another party.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.bulk import copy_rows, upsert_rows
from services.datashare.catalogue.domain import Catalogue, FieldUnit
from services.datashare.counterparties.check import is_pending, other_keys, wrong
from services.datashare.counterparties.keyfile import KeyFile
from services.datashare.counterparties.store import Chain, Chains
from services.datashare.quality.examine import Fingerprints
from services.datashare.quality.tables import guarantee, invoice, token
from services.datashare.records.domain import Incoming
from services.datashare.records.intake import content_hash
from services.datashare.records.payloads import payload_types, readers
from services.datashare.records.store import opened, record
from services.datashare.records.tokens import CounterpartyTokens, chained
from services.datashare.reviews.app import RowKey
from services.datashare.reviews.domain import ReviewState
from services.datashare.reviews.store import ReviewStore, review
from services.datashare.sealing.app import Vault
from services.datashare.sealing.domain import record_place
from services.datashare.sealing.store import Seals
from services.datashare.summaries.store import counterparty
from services.kit.clock import Clock
from services.kit.db import Database, UtcTime, async_url
from services.kit.errors import UnavailableError

Progress: TypeAlias = Callable[[str, int, int], None]
"""Is told what is worked on, how much of it is done, and of how much."""
Carry: TypeAlias = Callable[[bytes], bytes]
"""Returns what a value is under the new key."""

KEY_BYTES: Final = 32
_PAGE: Final = 2_000
_ROWS: Final = 20_000
"""Rows of whole subjects that are rewritten together."""
_RECORDS: Final = "records"
_WAITING: Final = "rows that wait"
_DEALINGS: Final = "sums of dealings"
_INVOICES: Final = "invoices"
_GUARANTEES: Final = "guarantees"
_FIRMS: Final = "names of firms"
_KINDS: Final = {
    _RECORDS: record,
    _WAITING: review,
    _DEALINGS: counterparty,
    _INVOICES: invoice,
    _GUARANTEES: guarantee,
    _FIRMS: token,
}
_OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'puhui'
        AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_LOOKS: Final = 20
_LOOK_S: Final = 0.1
_STOP_FIRST: Final = (
    "nothing was changed: datashare still runs on this database ({}), and would go on naming "
    "counterparties by the old keys: stop every replica, and its other commands, then try again"
)


class Rotation:
    """The command over one database.

    Args:
        database: to work on.
        url: of it.
        vault: data keys.
        catalogue: says which fields are tokens.
        files: the keys' file.
        clock: the time.
        random_bytes: the new key.
        progress: is told how far it is.
    """

    def __init__(
        self,
        *,
        database: Database,
        url: str,
        vault: Vault,
        catalogue: Catalogue,
        files: KeyFile,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        progress: Progress,
    ) -> None:
        self._database = database
        self._url = url
        self._vault = vault
        self._files = files
        self._clock = clock
        self._random_bytes = random_bytes
        self._progress = progress
        self._readers = readers(catalogue)
        self._payloads = payload_types()
        self._fields = token_fields(catalogue)

    async def noted(self) -> Chain:
        """Return by which keys the counterparties are named.

        Raises:
            ConfigError: none are noted; or the file has other ones, and so has what is to take its
                place.
            UnavailableError: the database cannot be had now.
        """
        async with self._database.read() as conn:
            noted = await Chains(conn).get()
        if noted is None:
            raise wrong(
                "this database has not noted its keys: start datashare on it once, which tries "
                f"those in {self._files.path}, then rotate"
            )
        if self.is_unfinished(noted) and not is_pending(self._files, noted):
            raise other_keys(self._files, noted)
        return noted

    def is_unfinished(self, noted: Chain) -> bool:
        """Tell whether a rotation was broken off after its commit, before the file's turn."""
        return noted.check_value != self._files.read().check_value

    def finish(self, noted: Chain) -> None:
        """Put the new file in its place where that was not reached.

        Raises:
            ConfigError: it cannot be replaced here.
        """
        try:
            self._files.put_in_place()
        except OSError:
            raise other_keys(self._files, noted) from None

    async def amount(self) -> dict[str, int]:
        """Return how many rows of each kind there are."""
        counted = {}
        async with self._database.read() as conn:
            for what, table in _KINDS.items():
                query = sa.select(sa.func.count()).select_from(table)
                if table is record:
                    query = query.where(self._with_tokens())
                elif table is review:
                    query = query.where(review.c.state == ReviewState.WAITING)
                counted[what] = await conn.scalar(query) or 0
        return counted

    async def rotate(self, amount: Mapping[str, int]) -> bool:
        """Carry everything to a new key, and put the new file in the old one's place.

        The new key is the last one of `NAME.next` beside the file, where that has the file's keys
        and one more: it was made so by an operator, or by a rotation that did not commit.

        Args:
            amount: as `amount` gives it.

        Returns:
            Whether the file was replaced; else `NAME.next` has to be put in its place, as this
            process cannot.

        Raises:
            ConfigError: the keys cannot be used, or the new ones cannot be written.
            UnavailableError: datashare runs, or keys or the database cannot be had now.
        """
        tokens = self._files.read()
        # Others would be seen in our own connections.
        await self._database.close()
        if self._database.dialect == "sqlite":
            self._refuse_readers()
        async with self._database.begin() as conn:
            await self._take(conn, tokens)
            newer = self._newer(tokens)
            await self._carry(conn, newer.keys[-1], amount)
            await Chains(conn).change(newer, self._clock.now())
            await self._refuse_others(conn)
        try:
            self._files.put_in_place()
        except OSError:
            return False
        return True

    def _newer(self, tokens: CounterpartyTokens) -> CounterpartyTokens:
        there = self._files.read_next()
        if there and there.keys[:-1] == tokens.keys:
            return there
        newer = CounterpartyTokens(*tokens.keys, self._random_bytes(KEY_BYTES))
        try:
            self._files.write_next(newer)
        except OSError as error:
            raise wrong(
                f"{self._files.next_path} cannot be written ({error.strerror}): put it there "
                "yourself, with a first line that begins with #, then a line for each key of "
                f"{self._files.path.name}, then one with a new key"
            ) from None
        return newer

    def _refuse_readers(self) -> None:
        """Refuse a SQLite file that another connection has open; every open one holds a lock."""
        path = async_url(self._url).database or ""
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
            try:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                problem = _STOP_FIRST.format("its file is open elsewhere")
                raise UnavailableError("UNAVAILABLE", problem) from None

    async def _take(self, conn: AsyncConnection, tokens: CounterpartyTokens) -> None:
        """Keep everybody else out until the end of the transaction."""
        chains = Chains(conn)
        if not await chains.alone(rotating=True):
            problem = _STOP_FIRST.format("a rotation, or a start, is under way")
            raise UnavailableError("UNAVAILABLE", problem)
        await self._refuse_others(conn)
        if conn.dialect.name == "postgresql":
            names = ", ".join(table.name for table in _KINDS.values())
            await conn.execute(sa.text("SET LOCAL lock_timeout = '10s'"))
            await conn.execute(sa.text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
        noted = await chains.get()
        if noted and noted.check_value != tokens.check_value:
            raise other_keys(self._files, noted)

    async def _refuse_others(self, conn: AsyncConnection) -> None:
        if conn.dialect.name == "sqlite":
            return
        others = 0
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(_LOOK_S)  # one that was closed just now may still be there
            # A transaction sees connections as they were at its first look.
            await conn.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
            others = await conn.scalar(sa.text(_OTHERS)) or 0
            if not others:
                return
        problem = _STOP_FIRST.format(f"{others} connections of it")
        raise UnavailableError("UNAVAILABLE", problem)

    async def _carry(self, conn: AsyncConnection, key: bytes, amount: Mapping[str, int]) -> None:
        def named(value: bytes) -> bytes:
            return chained((key,), value)

        own = Fingerprints((key,)).of
        seals = Seals(conn, self._vault)
        await self._carry_records(conn, seals, named, amount[_RECORDS])
        reviews = ReviewStore(conn, seals, self._readers)
        waiting = await reviews.change_rows(lambda row: self._carried_row(row, named))
        if waiting:
            self._progress(_WAITING, waiting, waiting)
        changes: Mapping[str, Mapping[str, Carry]] = {
            _DEALINGS: {"token": named},
            _INVOICES: {"record": own, "fingerprint": own},
            _GUARANTEES: {"record": own, "token": named},
            _FIRMS: {"token": named},
        }
        for what, columns in changes.items():
            await self._rewrite(conn, what, columns, amount[what])

    async def _carry_records(
        self, conn: AsyncConnection, seals: Seals, named: Carry, total: int
    ) -> None:
        reviews = ReviewStore(conn, seals, self._readers)
        matched = await reviews.matched(self._fields)
        key_columns = tuple(record.primary_key.columns)
        query = sa.select(*_as_stored(conn, record)).where(self._with_tokens())
        query = query.order_by(*key_columns).limit(_PAGE)
        update = {name: f"excluded.{name}" for name in ("payload", "content_hash")}
        done = 0
        after: tuple[Any, ...] = ()
        while True:
            behind = sa.tuple_(*key_columns) > sa.tuple_(*map(sa.literal, after))
            rows = (await conn.execute(query.where(behind) if after else query)).all()
            if not rows:
                return
            keys = await seals.keys({row.subject_id for row in rows if row.sealed})
            changed = []
            for row in rows:
                values = row._asdict()
                place = after = tuple(values[column.name] for column in key_columns)
                content = opened(row, keys)
                if content is None:
                    continue  # its subject was erased: nobody reads it any more
                payload = self._carried(row.record_type, content, named)
                if payload == content:
                    continue
                said = (row.retracted, row.occurred_from, row.occurred_to)
                digest = content_hash(*said, payload)
                if place in matched:
                    before = content_hash(*said, content)
                    key = RowKey(row.record_type, row.provider_record_id, row.version, before)
                    await reviews.follow(key, row.provider_id, digest)
                if row.sealed:
                    data_key = keys[row.subject_id]
                    digest = data_key.blind(digest)
                    payload = data_key.seal(record_place(*place), payload)
                values |= {"content_hash": digest, "payload": payload}
                changed.append(tuple(values.values()))
            await upsert_rows(conn, record, changed, update)
            done += len(rows)
            self._progress(_RECORDS, done, max(done, total))

    def _carried_row(self, row: Incoming, named: Carry) -> Incoming:
        payload = self._carried(row.record_type, row.payload, named)
        digest = content_hash(row.retracted, row.occurred_from, row.occurred_to, payload)
        return row._replace(payload=payload, content_hash=digest)

    def _carried(self, record_type: str, content: bytes, named: Carry) -> bytes:
        fields = self._fields.get(record_type, ())
        return carried(self._payloads[record_type](), content, fields, named)

    def _with_tokens(self) -> sa.ColumnElement[bool]:
        return sa.and_(record.c.record_type.in_(sorted(self._fields)), record.c.payload != b"")

    async def _rewrite(
        self, conn: AsyncConnection, what: str, changes: Mapping[str, Carry], total: int
    ) -> None:
        """Write a table anew, subject by subject, as what is carried is part of its keys."""
        table = _KINDS[what]
        whose = table.c.subject_id
        counted = sa.select(whose, sa.func.count()).group_by(whose).order_by(whose)
        done = 0
        subjects: Any = (await conn.execute(counted)).all()
        for first, last in _spans(subjects):
            mine = whose.between(first, last)
            rows = (await conn.execute(sa.select(table).where(mine))).all()
            await conn.execute(sa.delete(table).where(mine))
            carry = [changes.get(column.name) for column in table.columns]
            await copy_rows(
                conn,
                table,
                [
                    [
                        value if each is None or value is None else each(value)
                        for each, value in zip(carry, row, strict=True)
                    ]
                    for row in rows
                ],
            )
            done += len(rows)
            self._progress(what, done, max(done, total))


def carried(payload: Any, content: bytes, fields: Iterable[str], named: Carry) -> bytes:
    """Return a serialised payload with what its tokens are under a new key.

    Args:
        payload: an empty one of its type.
        content: the payload.
        fields: those that hold tokens.
        named: returns what a token is under the new key.
    """
    payload.ParseFromString(content)
    there = [(field, value) for field in fields if (value := getattr(payload, field))]
    if not there:
        return content
    for field, value in there:
        setattr(payload, field, named(value))
    changed: bytes = payload.SerializeToString()
    return changed


def token_fields(catalogue: Catalogue) -> dict[str, tuple[str, ...]]:
    """Return the fields of payloads that hold tokens, by record type; types without are absent."""
    found = {
        name: tuple(field.name for field in policy.fields if field.unit is FieldUnit.TOKEN)
        for name, policy in catalogue.types.items()
    }
    return {name: fields for name, fields in found.items() if fields}


def _as_stored(conn: AsyncConnection, table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return the columns of a table, times as `bulk` takes them."""
    kind = sa.BigInteger() if conn.dialect.name == "sqlite" else sa.DateTime(timezone=True)
    return [
        sa.type_coerce(column, kind).label(column.name)
        if isinstance(column.type, UtcTime)
        else column
        for column in table.columns
    ]


def _spans(counted: Iterable[tuple[str, int]]) -> list[tuple[str, str]]:
    """Return the first and last of subjects that have some `_ROWS` rows together."""
    spans: list[tuple[str, str]] = []
    rows = _ROWS
    for subject_id, count in counted:
        if rows >= _ROWS:
            spans.append((subject_id, subject_id))
            rows = 0
        spans[-1] = (spans[-1][0], subject_id)
        rows += count
    return spans
