"""What records of the register say of representatives: names are compared by their tokens.

Invariants:

- Records are compared in the order in which what they say came about, in whatever order they come
  in: by their day, then by when they were obtained. The day on which the firm was founded, by which
  many date their registrations, says nothing of its representative and does not count.
- Another representative came about by the end of the day of the record that names it, where that is
  the day of the change, or later than the day of the record before; else by when it was obtained;
  in any case before what is later was obtained.
- A correction of a registration is never earlier than what it corrects. A change that was corrected
  and a record that was taken back say nothing.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.china import CHINA, china_day, date_of_day, day_number
from services.datashare.mandates.registry import TYPES, Shown
from services.datashare.records.domain import Incoming
from services.datashare.records.payloads import payload_types
from services.datashare.records.store import opened, record
from services.datashare.sealing.store import Seals
from services.datashare.times import date_of
from services.kit.db import from_microseconds

# Of a partnership, the managing partner represents it.
_ROLES: Final = frozenset({"legal_representative", "partner"})
_REGISTRATION: Final = "registration"
_PAYLOADS: Final = payload_types()
_NAMES: Final = ("subject_id", "record_type", "provider_record_id")


class _Entry(NamedTuple):
    """Whom a version of a record names, in the order in which that came about.

    Args:
        day: on which it was so, in days since 1970-01-01.
        obtained_at: by the provider's clock.
        record: its type and the provider's own id.
        version: of the record.
        token: of the representative.
        is_change: the day is that of the change.
    """

    day: int
    obtained_at: datetime
    record: tuple[str, str]
    version: int
    token: bytes
    is_change: bool


class RegisterReader:
    """Reads representatives in one transaction.

    Args:
        conn: the transaction.
        seals: data keys.
    """

    def __init__(self, conn: AsyncConnection, seals: Seals) -> None:
        self._conn = conn
        self._seals = seals

    async def shown(
        self, provider_id: str, rows: Sequence[tuple[str, Incoming]]
    ) -> Sequence[Shown]:
        """Return the changes of representatives that rows show, before they are stored.

        Args:
            provider_id: whose rows.
            rows: of `registry.TYPES`, no retractions; each with its subject_id.
        """
        found = []
        entries: dict[str, list[_Entry]] = {}
        for subject_id, row in rows:
            entry = _entry(row, row.payload, from_microseconds(row.obtained_at))
            if entry is not None:
                entries.setdefault(subject_id, []).append(entry)
                if entry.is_change:
                    found.append(Shown(subject_id, row.record_type, _end_of(entry.day)))
        registered = sorted({id_ for id_, row in rows if row.record_type == _REGISTRATION})
        if registered:
            for subject_id, known in await self._known(provider_id, registered):
                entries.setdefault(subject_id, []).append(known)
        for subject_id in registered:
            at = _last_change(entries[subject_id])
            if at is not None:
                found.append(Shown(subject_id, _REGISTRATION, at))
        return found

    async def _known(
        self, provider_id: str, subject_ids: Sequence[str]
    ) -> Sequence[tuple[str, _Entry]]:
        """Return what is stored about firms and stands, each with its firm."""
        result = await self._conn.execute(
            sa.select(record)
            .where(
                record.c.subject_id.in_(subject_ids),
                record.c.record_type.in_(sorted(TYPES)),
                record.c.provider_id == provider_id,
            )
            .order_by(*(record.c[name] for name in (*_NAMES, "version")))
        )
        rows = result.all()
        keys = await self._seals.keys({row.subject_id for row in rows if row.sealed})
        known: list[tuple[str, _Entry]] = []
        for (subject_id, *_), versions in groupby(rows, attrgetter(*_NAMES)):
            said: list[_Entry] = []
            for row in versions:
                # Of a change the newest version counts, of a registration what each one said.
                if row.retracted or row.record_type != _REGISTRATION:
                    said.clear()
                content = None if row.retracted else opened(row, keys)
                entry = _entry(row, content, row.obtained_at) if content else None
                if entry is not None:
                    said.append(entry)
            known += ((subject_id, entry) for entry in said)
        return known


def _last_change(entries: Iterable[_Entry]) -> datetime | None:
    """Return by when the representative of a firm changed last, if it ever did.

    Args:
        entries: of the firm, in whatever order.
    """
    by: datetime | None = None
    for before, entry in reversed(list(pairwise(_ordered(entries)))):
        own = entry.obtained_at
        if entry.is_change or entry.day > before.day:
            own = min(own, _end_of(entry.day))
        by = own if by is None else min(by, own)
        if entry.token != before.token:
            return by
    return None


def _ordered(entries: Iterable[_Entry]) -> Sequence[_Entry]:
    """Return those that name somebody, in the order in which they came about."""
    latest: dict[tuple[str, str], _Entry] = {}
    found = []
    for entry in sorted(entries, key=attrgetter("version")):
        corrected = latest.get(entry.record, entry)
        placed = entry._replace(
            day=max(entry.day, corrected.day),
            obtained_at=max(entry.obtained_at, corrected.obtained_at),
        )
        latest[entry.record] = placed
        if placed.token:
            found.append(placed)
    return sorted(found)


def _entry(row: Any, content: bytes, obtained_at: datetime) -> _Entry | None:
    """Return what a version says of the representative; None of other officers."""
    payload: Any = _PAYLOADS[row.record_type]()
    payload.ParseFromString(content)
    record_of = row.record_type, row.provider_record_id
    if row.record_type == _REGISTRATION:
        day = row.occurred_to
        if day == day_number(date_of(payload.founded, "registration.founded")):
            day = china_day(obtained_at)
        token = payload.legal_representative_token
        return _Entry(day, obtained_at, record_of, row.version, token, is_change=False)
    again = payload.former_token and payload.former_token == payload.successor_token
    if payload.role not in _ROLES or again:
        return None
    day = day_number(date_of(payload.changed_at, "officer_change.changed_at"))
    token = payload.successor_token
    return _Entry(day, obtained_at, record_of, row.version, token, is_change=True)


def _end_of(day: int) -> datetime:
    """Return the last instant of a day, as the hour of what happened on it is not known."""
    following = date_of_day(day + 1)
    midnight = datetime(following.year, following.month, following.day, tzinfo=CHINA)
    return midnight - timedelta.resolution
