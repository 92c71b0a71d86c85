"""The index of names, and the queue.

Invariants:

- `subject_name` holds the names and numbers of every registration record's latest version, and is
  written in the transaction that stores the version: whoever does holds the record's series.
- Numbers stand there as keyed tokens, as part of a unified code is the organisation's old number.
  Names are public (企业信息公示暂行条例) and stand in clear.
- What a review says about a firm is sealed; its row is gone once it is decided.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any, Final, NamedTuple

import orjson
import sqlalchemy as sa
from rapidfuzz import fuzz, process
from sqlalchemy.ext.asyncio import AsyncConnection

from puhui.datashare.v1 import payloads_pb2
from services.datashare.bulk import copy_rows, relation, stored_time, upsert_rows
from services.datashare.china import month_of_day
from services.datashare.records.domain import Incoming
from services.datashare.records.payloads import payload_types
from services.datashare.records.readers.kind import Reader
from services.datashare.records.store import record
from services.datashare.reviews.app import RowKey, Waiting
from services.datashare.reviews.domain import (
    NAMING_TYPE,
    Candidate,
    Entry,
    Evidence,
    Hint,
    Kind,
    Review,
    ReviewState,
)
from services.datashare.reviews.names import MOST_SIGNS, blocks, number, read
from services.datashare.schema import metadata
from services.datashare.sealing.domain import Place, provider_owner
from services.datashare.sealing.store import Seals
from services.datashare.summaries.domain import SeriesKey
from services.datashare.summaries.store import series
from services.kit.db import UtcTime, from_microseconds, to_microseconds

subject_name = sa.Table(
    "subject_name",
    metadata,
    sa.Column("subject_id", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), primary_key=True),
    sa.Column("provider_record_id", sa.String(128), primary_key=True),
    # Counts the names and numbers of a record.
    sa.Column("place", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(16), nullable=False),
    # Of a number its key.
    sa.Column("text", sa.String(200), nullable=False),
    sa.Column("name_key", sa.String(MOST_SIGNS + 20), nullable=False, index=True),
    # Pairs of the first characters (`names.blocks`); empty of a number.
    sa.Column("first_second", sa.String(2), nullable=False, index=True),
    sa.Column("second_third", sa.String(2), nullable=False, index=True),
    sa.Column("first_third", sa.String(2), nullable=False, index=True),
    sa.Column("district", sa.String(6), nullable=False),
    sa.Column("occurred_to", sa.Integer, nullable=False),
    sa.Column("obtained_at", UtcTime, nullable=False),
    sqlite_with_rowid=False,
)

review = sa.Table(
    "review",
    metadata,
    sa.Column("review_id", sa.String(64), primary_key=True),
    sa.Column("provider_id", sa.String(64), nullable=False),
    sa.Column("record_type", sa.String(64), nullable=False),
    sa.Column("provider_record_id", sa.String(128), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    # Keyed, as what a row says may be guessed from a plain hash of it.
    sa.Column("content_token", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("held_at", UtcTime, nullable=False),
    sa.Column("decided_at", UtcTime),
    sa.Column("decided_by", sa.String(64), nullable=False),
    sa.Column("subject_id", sa.String(64), nullable=False),
    sa.Column("note", sa.String(200), nullable=False),
    # Hint, candidates and, until it is decided, the row; sealed.
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Index(None, "provider_id", "state", "review_id"),
    sa.Index(None, "state", "review_id"),
    sa.UniqueConstraint(
        "provider_id",
        "record_type",
        "provider_record_id",
        "version",
        "content_token",
        name="uq_review_row",
    ),
)

MOST_ALIKE: Final = 1_000
"""Names that are looked at for each of the three pairs of a name."""
MOST_COMPARED: Final = 20
"""Those most like it, which are then weighed with all that is known of their subjects."""
_PAIRS: Final = (
    subject_name.c.first_second,
    subject_name.c.second_third,
    subject_name.c.first_third,
)
_SERIES: Final = {name: sa.String() for name in ("subject_id", "provider_id")}
_VERSIONS: Final = ("subject_id", "record_type", "provider_id", "provider_record_id")
_RECORD: Final = {name: sa.String() for name in ("subject_id", "provider_record_id")}
_ROW: Final[dict[str, sa.types.TypeEngine[Any]]] = {
    "record_type": sa.String(),
    "provider_record_id": sa.String(),
    "version": sa.Integer(),
}
_PAYLOADS: Final = payload_types()
_KEPT: Final = [name for name in Incoming._fields if name not in ("row", "fact", "hint")]
_BYTES: Final = ("content_hash", "payload")
_PAGE: Final = 500
_FAR: Final = date.max.toordinal()


class NameStore:
    """The index of names in one transaction.

    Args:
        conn: the transaction.
        seals: names numbers.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals) -> None:
        self._conn = conn
        self._seals = seals

    def number_key(self, registration_number: str) -> str:
        """Return what a number of before is found by."""
        return f"#{self._seals.token(f'number {number(registration_number)}').hex()}"

    async def index(self, provider_id: str, rows: Sequence[tuple[str, Incoming]]) -> None:
        """Put the names in registration records in the place of those of earlier versions.

        Args:
            provider_id: whose records.
            rows: versions that are being stored, each with its subject_id.
        """
        latest: dict[tuple[str, str], Incoming] = {}
        for subject_id, row in rows:
            key = (subject_id, row.provider_record_id)
            if key not in latest or row.version > latest[key].version:
                latest[key] = row
        if corrected := [key for key, row in latest.items() if row.version > 1]:
            asked = relation(self._conn, "asked", _RECORD, sorted(corrected))
            await self._conn.execute(
                sa.delete(subject_name).where(
                    subject_name.c.provider_id == provider_id,
                    sa.exists().where(*(subject_name.c[name] == asked.c[name] for name in _RECORD)),
                )
            )
        named = [
            _Registered(
                subject_id,
                provider_id,
                row.provider_record_id,
                row.uscc,
                row.payload,
                row.occurred_to,
                stored_time(self._conn, from_microseconds(row.obtained_at)),
            )
            for (subject_id, _), row in sorted(latest.items())
            if not row.retracted
        ]
        await copy_rows(self._conn, subject_name, [e for each in named for e in self._rows(each)])

    async def unnamed(self, after: tuple[str, str], limit: int) -> list[SeriesKey]:
        """Return series of registrations that have no names here.

        Args:
            after: only behind this subject and provider.
            limit: most series.
        """
        subject_id, provider_id = after
        behind = sa.or_(
            series.c.subject_id > subject_id,
            sa.and_(series.c.subject_id == subject_id, series.c.provider_id > provider_id),
        )
        named = sa.exists().where(
            subject_name.c.subject_id == series.c.subject_id,
            subject_name.c.provider_id == series.c.provider_id,
        )
        rows = await self._conn.execute(
            sa.select(series.c.subject_id, series.c.provider_id)
            .where(series.c.record_type == NAMING_TYPE, behind, ~named)
            .order_by(series.c.subject_id, series.c.provider_id)
            .limit(limit)
        )
        return [SeriesKey(subject, NAMING_TYPE, provider) for subject, provider in rows]

    async def name(self, keys: Sequence[SeriesKey], usccs: Mapping[str, str]) -> None:
        """Put the names in the records of series here.

        Args:
            keys: held, so that nobody else does.
            usccs: registration numbers by subject_id.
        """
        asked = relation(
            self._conn, "asked", _SERIES, [(key.subject_id, key.provider_id) for key in keys]
        )
        same = sa.and_(*(record.c[name] == asked.c[name] for name in _SERIES))
        newer = record.alias("newer")
        later = sa.exists().where(
            *(newer.c[name] == record.c[name] for name in _VERSIONS),
            newer.c.version > record.c.version,
        )
        rows = await self._conn.execute(
            sa.select(record)
            .join(asked, same)
            .where(record.c.record_type == NAMING_TYPE, record.c.retracted.is_(False), ~later)
            .order_by(record.c.subject_id, record.c.provider_id, record.c.provider_record_id)
        )
        named = [
            _Registered(
                row.subject_id,
                row.provider_id,
                row.provider_record_id,
                usccs.get(row.subject_id, ""),
                bytes(row.payload),
                row.occurred_to,
                stored_time(self._conn, row.obtained_at),
            )
            for row in rows
        ]
        entries = [entry for each in named for entry in self._rows(each)]
        await upsert_rows(self._conn, subject_name, entries, {})

    async def with_keys(self, keys: Iterable[str]) -> dict[str, set[str]]:
        """Return the subjects that have, or had, each of the names and numbers."""
        wanted = sorted(set(keys))
        if not wanted:
            return {}
        asked = relation(self._conn, "asked", {"name_key": sa.String()}, [(key,) for key in wanted])
        rows = await self._conn.execute(
            sa.select(subject_name.c.name_key, subject_name.c.subject_id).join(
                asked, subject_name.c.name_key == asked.c.name_key
            )
        )
        found: dict[str, set[str]] = {}
        for key, subject_id in rows:
            found.setdefault(key, set()).add(subject_id)
        return found

    async def alike(self, name: str, pairs: Sequence[str]) -> set[str]:
        """Return the subjects whose names are most like one, of those that share a pair with it.

        Args:
            name: that one.
            pairs: of `names.blocks`.
        """
        parts = [
            sa.select(subject_name.c.subject_id, subject_name.c.text)
            .where(column == pair)
            .limit(MOST_ALIKE)
            .subquery()
            for column, pair in zip(_PAIRS, pairs, strict=True)
            if pair.strip()
        ]
        if not parts:
            return set()
        rows = await self._conn.execute(sa.union(*(sa.select(part) for part in parts)))
        known: dict[tuple[str, str], str] = {(subject_id, text): text for subject_id, text in rows}
        best = process.extract(name, known, scorer=fuzz.ratio, limit=MOST_COMPARED)
        return {subject_id for _, _, (subject_id, _) in best}

    async def entries(self, subject_ids: Iterable[str]) -> list[Entry]:
        """Return all entries of subjects."""
        wanted = sorted(set(subject_ids))
        if not wanted:
            return []
        asked = relation(
            self._conn, "asked", {"subject_id": sa.String()}, [(each,) for each in wanted]
        )
        rows = await self._conn.execute(
            sa.select(subject_name).join(asked, subject_name.c.subject_id == asked.c.subject_id)
        )
        return [
            Entry(
                row.subject_id,
                row.provider_id,
                Kind(row.kind),
                row.text,
                row.district,
                (row.occurred_to, to_microseconds(row.obtained_at), row.provider_record_id),
            )
            for row in rows
        ]

    def _rows(self, registered: "_Registered") -> list[tuple[Any, ...]]:
        said = payloads_pb2.Registration.FromString(registered.payload)
        entries = [(Kind.NAME, said.name)]
        entries += [(Kind.FORMER_NAME, name) for name in said.former_names]
        # Places 9 to 17 of a unified code are the organisation code of before (GB 32100-2015).
        numbers = {number(said.registration_number), registered.uscc[8:17]} - {""}
        entries += [(Kind.NUMBER, self.number_key(each)) for each in sorted(numbers)]
        made = []
        for place, (kind, text) in enumerate(entries):
            is_name = kind is not Kind.NUMBER
            made.append(
                (
                    registered.subject_id,
                    registered.provider_id,
                    registered.provider_record_id,
                    place,
                    kind,
                    text,
                    read(text).key if is_name else text,
                    *(blocks(read(text).core) if is_name else ("", "", "")),
                    said.district,
                    registered.occurred_to,
                    registered.obtained_at,
                )
            )
        return made


class _Registered(NamedTuple):
    """A registration record, as names are read from it; the time as the database stores it."""

    subject_id: str
    provider_id: str
    provider_record_id: str
    uscc: str
    payload: bytes
    occurred_to: int
    obtained_at: Any


class ReviewStore:
    """The queue in one transaction.

    Args:
        conn: the transaction.
        seals: seals what reviews say.
        readers: by record type, what a payload says.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals, readers: Mapping[str, Reader]) -> None:
        self._conn = conn
        self._seals = seals
        self._readers = readers

    async def known(self, provider_id: str, keys: Sequence[RowKey]) -> dict[RowKey, Review]:
        """Return the reviews of rows that waited before."""
        tokens = {(*key[:3], self._token(key.content_hash)): key for key in keys}
        asked = relation(self._conn, "asked", _ROW, sorted({key[:3] for key in keys}))
        rows = await self._conn.execute(
            sa.select(review).join(
                asked,
                sa.and_(
                    review.c.provider_id == provider_id,
                    *(review.c[name] == asked.c[name] for name in _ROW),
                ),
            )
        )
        found = {}
        for row in rows:
            key = tokens.get(
                (row.record_type, row.provider_record_id, row.version, bytes(row.content_token))
            )
            if key is not None:
                found[key] = await self._review(row)
        return found

    async def add(self, added: Review, waiting: Waiting) -> None:
        """Add a review with its row."""
        content = _said(added) | {"row": _kept(waiting.row), "historical": waiting.historical}
        await self._conn.execute(
            sa.insert(review).values(
                review_id=added.review_id,
                provider_id=added.provider_id,
                record_type=added.record_type,
                provider_record_id=added.provider_record_id,
                version=added.version,
                content_token=self._token(added.content_hash),
                held_at=added.held_at,
                content=await self._sealed(added, content),
                **_state(added),
            )
        )

    async def peek(self, review_id: str) -> Review | None:
        """Return a review."""
        return await self._one(sa.select(review).where(review.c.review_id == review_id))

    async def lock(self, review_id: str) -> Review | None:
        """Return a review that nobody else decides until the end."""
        query = sa.select(review).where(review.c.review_id == review_id).with_for_update()
        return await self._one(query)

    async def row(self, review_id: str) -> Waiting:
        """Return the row of a review that waits."""
        found = (
            await self._conn.execute(sa.select(review).where(review.c.review_id == review_id))
        ).one()
        content = await self._opened(found.review_id, found.provider_id, found.content)
        row = _row(content["row"])
        if not row.retracted:
            payload = _PAYLOADS[row.record_type]()
            payload.ParseFromString(row.payload)
            order = (row.occurred_to, row.obtained_at, row.provider_record_id)
            # Its dates were checked against the day on which it came in.
            fact = self._readers[row.record_type](
                payload, month_of_day(row.occurred_to), order, _FAR
            )
            row = row._replace(fact=fact)
        return Waiting(row, content["historical"])

    async def decide(self, decided: Review) -> None:
        """Store that a locked review is decided, and forget its row."""
        await self._conn.execute(
            sa.update(review)
            .where(review.c.review_id == decided.review_id)
            .values(content=await self._sealed(decided, _said(decided)), **_state(decided))
        )

    async def page(
        self, provider_id: str, state: ReviewState, after: str, limit: int
    ) -> Sequence[Review]:
        """Return reviews, oldest first.

        Args:
            provider_id: whose rows; "" is everybody's.
            state: only in this one.
            after: only with an id greater than this; "" is any.
            limit: most reviews.
        """
        query = (
            sa.select(review)
            .where(review.c.state == state, review.c.review_id > after)
            .order_by(review.c.review_id)
            .limit(limit)
        )
        if provider_id:
            query = query.where(review.c.provider_id == provider_id)
        return [await self._review(row) for row in await self._conn.execute(query)]

    async def change_rows(self, change: Callable[[Incoming], Incoming]) -> int:
        """Change what the rows that wait say, as what is stored of the same kind was changed.

        Returns:
            How many wait.
        """
        waiting = sa.select(review).where(review.c.state == ReviewState.WAITING)
        rows = (await self._conn.execute(waiting.order_by(review.c.review_id))).all()
        for row in rows:
            content = await self._opened(row.review_id, row.provider_id, row.content)
            changed = change(_row(content["row"]))
            content["row"] = _kept(changed)
            sealed = await self._seals.seal(
                provider_owner(row.provider_id), _place(row.review_id), orjson.dumps(content)
            )
            await self._conn.execute(
                sa.update(review)
                .where(review.c.review_id == row.review_id)
                .values(content=sealed, content_token=self._token(changed.content_hash))
            )
        return len(rows)

    async def matched(self, record_types: Collection[str]) -> set[tuple[str, str, str, str, int]]:
        """Return subject, type, provider, record id and version of the rows that were matched."""
        columns = (
            review.c.subject_id,
            review.c.record_type,
            review.c.provider_id,
            review.c.provider_record_id,
            review.c.version,
        )
        rows: Any = await self._conn.execute(
            sa.select(*columns).where(
                review.c.state == ReviewState.MATCHED,
                review.c.record_type.in_(sorted(record_types)),
            )
        )
        return {tuple(row) for row in rows}

    async def follow(self, key: RowKey, provider_id: str, content_hash: bytes) -> None:
        """Know a decided row by another hash of what it says.

        Args:
            key: the row, by the hash of before.
            provider_id: whose.
            content_hash: the hash from now on.
        """
        *named, before = key
        await self._conn.execute(
            sa.update(review)
            .where(
                review.c.provider_id == provider_id,
                *(review.c[name] == value for name, value in zip(_ROW, named, strict=True)),
                review.c.content_token == self._token(before),
            )
            .values(content_token=self._token(content_hash))
        )

    async def forget(self, subject_id: str) -> None:
        """Take a subject off the candidates of every review; those decided for it go otherwise."""
        after = ""
        while True:
            query = sa.select(review).where(review.c.review_id > after)
            rows = (await self._conn.execute(query.order_by(review.c.review_id).limit(_PAGE))).all()
            if not rows:
                return
            keys = await self._seals.keys({provider_owner(row.provider_id) for row in rows})
            for row in rows:
                if subject_id.encode() in keys[provider_owner(row.provider_id)].open(
                    _place(row.review_id), bytes(row.content)
                ):
                    await self._forget(row.review_id, subject_id)
            after = rows[-1].review_id

    async def _forget(self, review_id: str, subject_id: str) -> None:
        mine = review.c.review_id == review_id
        row = (await self._conn.execute(sa.select(review).where(mine).with_for_update())).one()
        content = await self._opened(row.review_id, row.provider_id, row.content)
        content["candidates"] = [
            each for each in content["candidates"] if each["subject_id"] != subject_id
        ]
        sealed = await self._seals.seal(
            provider_owner(row.provider_id), _place(review_id), orjson.dumps(content)
        )
        await self._conn.execute(sa.update(review).where(mine).values(content=sealed))

    async def _one(self, query: sa.Select[Any]) -> Review | None:
        row = (await self._conn.execute(query)).one_or_none()
        return None if row is None else await self._review(row)

    async def _review(self, row: Any) -> Review:
        content = await self._opened(row.review_id, row.provider_id, row.content)
        return Review(
            review_id=row.review_id,
            provider_id=row.provider_id,
            record_type=row.record_type,
            provider_record_id=row.provider_record_id,
            version=row.version,
            content_hash=b"",
            hint=Hint(*content["hint"]),
            candidates=tuple(
                Candidate(**{**each, "evidence": tuple(map(Evidence, each["evidence"]))})
                for each in content["candidates"]
            ),
            held_at=row.held_at,
            state=ReviewState(row.state),
            decided_at=row.decided_at,
            decided_by=row.decided_by,
            subject_id=row.subject_id,
            note=row.note,
        )

    def _token(self, content_hash: bytes) -> bytes:
        return self._seals.token(f"review {content_hash.hex()}")

    async def _sealed(self, of: Review, content: Mapping[str, Any]) -> bytes:
        owner = provider_owner(of.provider_id)
        return await self._seals.seal(owner, _place(of.review_id), orjson.dumps(content))

    async def _opened(self, review_id: str, provider_id: str, sealed: bytes) -> dict[str, Any]:
        owner = provider_owner(provider_id)
        content = await self._seals.open(owner, _place(review_id), bytes(sealed))
        opened: dict[str, Any] = orjson.loads(content or b"{}")
        return opened


def _kept(row: Incoming) -> dict[str, Any]:
    kept = {name: getattr(row, name) for name in _KEPT}
    return kept | {name: kept[name].hex() for name in _BYTES}


def _row(kept: Mapping[str, Any]) -> Incoming:
    read = {name: bytes.fromhex(kept[name]) for name in _BYTES}
    return Incoming(row=0, fact=None, **{**kept, **read})


def _place(review_id: str) -> Place:
    return ("review", review_id)


def _said(of: Review) -> dict[str, Any]:
    return {"hint": list(of.hint), "candidates": [asdict(each) for each in of.candidates]}


def _state(of: Review) -> dict[str, Any]:
    return {
        "state": of.state,
        "decided_at": of.decided_at,
        "decided_by": of.decided_by,
        "subject_id": of.subject_id,
        "note": of.note,
    }
