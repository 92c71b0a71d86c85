"""What records of the register say of representatives: names are compared by their tokens."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from services.datashare.china import CHINA, date_of_day, day_number
from services.datashare.mandates.registry import Shown
from services.datashare.records.domain import Incoming
from services.datashare.records.payloads import payload_types
from services.datashare.records.store import opened, record
from services.datashare.sealing.store import Seals
from services.datashare.times import date_of
from services.kit.db import EPOCH, to_microseconds

_ROLE: Final = "legal_representative"
_REGISTRATION: Final = "registration"
_MICROSECOND: Final = timedelta(microseconds=1)
_PAYLOADS: Final = payload_types()

# When a registration was obtained, and the token of whom it names.
_Named = tuple[tuple[int, int], bytes]


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
        known: dict[str, dict[str, _Named]] = {}
        if firms := {id_ for id_, row in rows if row.record_type == _REGISTRATION}:
            known = await self._known(provider_id, sorted(firms))
        for subject_id, row in rows:
            payload = _parsed(row.record_type, row.payload)
            if row.record_type != _REGISTRATION:
                if payload.role == _ROLE:
                    found.append(Shown(subject_id, row.record_type, _end_of_day(payload)))
                continue
            token = payload.legal_representative_token
            if not token:
                continue
            of_firm = known.setdefault(subject_id, {})
            before = _before(of_firm, row.provider_record_id)
            if before not in (b"", token):
                obtained_at = EPOCH + row.obtained_at * _MICROSECOND
                found.append(Shown(subject_id, row.record_type, obtained_at))
            of_firm[row.provider_record_id] = (row.occurred_to, row.obtained_at), token
        return found

    async def _known(
        self, provider_id: str, subject_ids: Sequence[str]
    ) -> dict[str, dict[str, _Named]]:
        """Return whom stored registrations named last, by firm and record."""
        result = await self._conn.execute(
            sa.select(record)
            .where(
                record.c.subject_id.in_(subject_ids),
                record.c.record_type == _REGISTRATION,
                record.c.provider_id == provider_id,
                record.c.retracted.is_(False),
            )
            .order_by(record.c.subject_id, record.c.provider_record_id, record.c.version)
        )
        rows = result.all()
        keys = await self._seals.keys({row.subject_id for row in rows if row.sealed})
        known: dict[str, dict[str, _Named]] = {}
        for row in rows:
            content = opened(row, keys)
            token = _parsed(_REGISTRATION, content).legal_representative_token if content else b""
            if token:
                named = (row.occurred_to, to_microseconds(row.obtained_at)), token
                known.setdefault(row.subject_id, {})[row.provider_record_id] = named
        return known


def _before(of_firm: dict[str, _Named], provider_record_id: str) -> bytes:
    """Return whom the version before names; of a new record, whom the latest other one names."""
    same = of_firm.get(provider_record_id)
    if same is not None:
        return same[1]
    return max(of_firm.values(), default=((0, 0), b""))[1]


def _parsed(record_type: str, content: bytes) -> Any:
    payload = _PAYLOADS[record_type]()
    payload.ParseFromString(content)
    return payload


def _end_of_day(payload: Any) -> datetime:
    """Return the last instant of the day of a change: its hour is not known."""
    day = date_of_day(day_number(date_of(payload.changed_at, "officer_change.changed_at")) + 1)
    return datetime(day.year, day.month, day.day, tzinfo=CHINA) - _MICROSECOND
