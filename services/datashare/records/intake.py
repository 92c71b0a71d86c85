"""Rows of a batch, from the wire to what `app` admits: each is checked alone, at the edge.

What leaves here has no other party in clear and no field that the .proto does not know. Attribute
access on messages is what a row costs most, so each is done once.
"""

from calendar import monthrange
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Any, Final

import protovalidate
from google.protobuf.message import Message

from puhui.datashare.v1 import records_pb2
from services.datashare.catalogue.domain import Catalogue, RecordType
from services.datashare.china import china_day, month_of_day
from services.datashare.records.domain import Incoming, Rejection, RowProblem
from services.datashare.records.forbidden import check_record_id, screens
from services.datashare.records.hiding import hidings
from services.datashare.records.payloads import hidden_fields, payload_types, readers
from services.datashare.records.readers.kind import EPOCH, day_of
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.retention.domain import Reason
from services.datashare.reviews.domain import Hint, check_hint
from services.datashare.subjects.uscc import UsccError, check
from services.kit.calls import field_path
from services.kit.shape import sound

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far a provider's clock may run ahead of ours."""

_RETRACTED: Final = records_pb2.RECORD_STATUS_RETRACTED
_HASHED: Final = Struct(">Bii")
_NUMBERS: Final = ("int", "uint", "sint", "fixed", "sfixed", "double", "float")
_PERIOD_FROM: Final = "from"
_SUBJECT_ID: Final = "subject.subject_id"
# PostgreSQL keeps no text with it, and SQLite's functions end a text at it.
_NUL: Final = "\0"
_SECONDS_A_DAY: Final = 86_400
_CHINA_SECONDS: Final = 28_800
# Longer than any timestamp's microseconds would fit a 64-bit column.
_SECONDS: Final = range(-(1 << 40), 1 << 40)

_checked_uscc = lru_cache(1 << 16)(check)


def content_hash(retracted: bool, occurred_from: int, occurred_to: int, payload: bytes) -> bytes:
    """Return the hash that tells whether a version of a record says the same as another."""
    return sha256(_HASHED.pack(retracted, occurred_from, occurred_to) + payload).digest()


class Intake:
    """Checks rows.

    Args:
        catalogue: the types.
        tokens: hides other parties.
    """

    def __init__(self, catalogue: Catalogue, tokens: CounterpartyTokens) -> None:
        self._types = catalogue.types
        self._readers = readers(catalogue)
        self._hidings = hidings(catalogue)
        self._empty = {name: make() for name, make in payload_types().items()}
        self._hidden = hidden_fields()
        self._may_supply = {
            (kind, name): policy
            for name, policy in catalogue.types.items()
            for kind in policy.provider_kinds
        }
        self._tokens = tokens
        self._screens = screens()
        self._validator = protovalidate.Validator()
        self._sound = sound(records_pb2.Record.DESCRIPTOR)

    def read(
        self, records: Iterable[Any], first_row: int, kind: str, now: datetime
    ) -> tuple[list[Incoming], list[Rejection]]:
        """Return the rows that are well formed, and why the others are not.

        The records are changed: other parties are replaced by their tokens.

        Args:
            records: `puhui.datashare.v1.Record`s.
            first_row: index of the first one in its batch.
            kind: of the provider.
            now: the time.
        """
        incoming = []
        rejections = []
        today = china_day(now)
        latest = int((now + CLOCK_SKEW).timestamp() * 1_000_000)
        for row, record in enumerate(records, first_row):
            try:
                incoming.append(self._row(record, row, kind, today, latest))
            except RowProblem as problem:
                rejections.append(Rejection(row, problem.reason, problem.field, problem.message))
        return incoming, rejections

    def _row(self, record: Any, row: int, kind: str, today: int, latest: int) -> Incoming:
        record_type: str = record.record_type
        policy = self._may_supply.get((kind, record_type))
        if policy is None:
            raise _not_suppliable(self._types, record_type)
        if not self._sound(record) and (violations := self._validator.collect_violations(record)):
            raise _problem(violations[0].proto)
        if record.schema_version > policy.schema_version:
            raise RowProblem("FIELD_INVALID", "schema_version", "newer than the catalogue's")
        retracted: bool = record.status == _RETRACTED
        field = record.WhichOneof("payload")
        if field != record_type and not (retracted and field is None):
            raise RowProblem(
                "TYPE_MISMATCH", field or "payload", f"the payload of this type is `{record_type}`"
            )
        uscc, subject_id, hint = _subject(record)
        occurred_from, occurred_to = _occurred(record, today)
        obtained_at = _obtained(record.obtained_at, occurred_from, latest)
        provider_record_id: str = record.provider_record_id
        if _NUL in provider_record_id or _NUL in subject_id:
            raise _no_text("provider_record_id" if _NUL in provider_record_id else _SUBJECT_ID)
        check_record_id(provider_record_id)
        month = month_of_day(occurred_to)
        payload = self._empty[record_type] if field is None else getattr(record, field)
        put = b""
        for name, token in self._hidden[record_type]:
            put = self._hide(payload, record_type, name, token)
        payload.DiscardUnknownFields()
        screen = self._screens.get(record_type)
        if screen is not None:
            screen(payload)
        fact = hidden_on = why = None
        if not retracted:
            order = (occurred_to, obtained_at, provider_record_id)
            fact = self._readers[record_type](payload, month, order, today)
            month = fact.month
            hidden_on, why = self._hidings[record_type].of(payload, occurred_to)
        # As deterministic as can be: no payload has a map, and what is unknown is gone.
        content: bytes = payload.SerializeToString()
        # Most messages have no such byte at all but in a token; a number may have one, only a text
        # may not.
        nul = b"\0" in content and b"\0" in content.replace(put, b"")
        if nul and (path := _path_of_nul(payload)):
            raise _no_text(f"{field}.{path}")
        values = (
            row,
            uscc,
            subject_id,
            record_type,
            provider_record_id,
            record.version or 1,
            retracted,
            occurred_from,
            occurred_to,
            month,
            obtained_at,
            record.schema_version or 1,
            content_hash(retracted, occurred_from, occurred_to, content),
            content,
            fact,
            hidden_on,
            why is Reason.REPAIRED,
            hint,
        )
        # Without the named tuple's own function, which takes twice as long.
        return tuple.__new__(Incoming, values)

    def _hide(self, payload: Any, record_type: str, name: str, token: str) -> bytes:
        """Put a party's token in the place of its name, and return it."""
        party = getattr(payload, name)
        if not party:
            payload.ClearField(token)
            return b""
        if _NUL in party:
            raise _no_text(f"{record_type}.{name}")
        put: bytes = self._tokens.of(party)
        setattr(payload, token, put)
        payload.ClearField(name)
        return put


def _not_suppliable(types: Mapping[str, RecordType], name: str) -> RowProblem:
    if name in types:
        return RowProblem(
            "TYPE_NOT_YOURS", "record_type", "this kind of provider does not supply this type"
        )
    return RowProblem(
        "TYPE_UNKNOWN", "record_type", "not in the catalogue: ListRecordTypes names the types"
    )


def _subject(record: Any) -> tuple[str, str, Hint | None]:
    ref = record.subject
    code = ref.uscc
    if not code:
        if ref.subject_id:
            return "", ref.subject_id, None
        if record.HasField("hint"):
            return "", "", _hint(record.hint)
        raise RowProblem("FIELD_INVALID", "subject", "missing: say whom the record is about")
    try:
        return _checked_uscc(code), "", None
    except UsccError as error:
        raise RowProblem("USCC_MALFORMED", "subject.uscc", str(error)) from None


def _hint(said: Any) -> Hint:
    hint = Hint(said.name, said.registration_number, said.district)
    if path := _path_of_nul(said):
        raise _no_text(f"hint.{path}")
    if path := check_hint(hint):
        problem = "says nobody: give the firm's name, or its registration number of before"
        raise RowProblem("FIELD_INVALID", path, problem)
    return hint


def _occurred(record: Any, today: int) -> tuple[int, int]:
    if record.WhichOneof("occurred") == "date":
        day = day_of(record.date, "date", today)
        return day, day
    period = record.period
    begins = day_of(getattr(period, _PERIOD_FROM), "period.from", today)
    # The month that is running may be reported, so a period may end after today, but in it.
    ends = day_of(period.to, "period.to", _end_of_month(today))
    if ends < begins:
        raise RowProblem("DATE_INVALID", "period.to", "the period ends before it begins")
    return begins, ends


@lru_cache(4)
def _end_of_month(day: int) -> int:
    on = date.fromordinal(day + EPOCH)
    return day - on.day + monthrange(on.year, on.month)[1]


def _obtained(stamp: Any, occurred_from: int, latest: int) -> int:
    seconds: int = stamp.seconds
    if seconds not in _SECONDS or not 0 <= stamp.nanos < 1_000_000_000:
        raise RowProblem("DATE_INVALID", "obtained_at", "no such time")
    microseconds: int = seconds * 1_000_000 + stamp.nanos // 1_000
    if microseconds > latest:
        raise RowProblem("DATE_IN_FUTURE", "obtained_at", "lies in the future: check the clock")
    if seconds + _CHINA_SECONDS < occurred_from * _SECONDS_A_DAY:
        raise RowProblem("DATE_INVALID", "obtained_at", "obtained before it happened")
    return microseconds


def _path_of_nul(message: Message) -> str:
    """Return the path of a text with U+0000 in it, or "" without one."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            if any(_NUL in text for text in ([value] if isinstance(value, str) else value)):
                return field.name
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                if path := _path_of_nul(part):
                    return f"{field.name}.{path}"
    return ""


def _no_text(path: str) -> RowProblem:
    return RowProblem("FIELD_INVALID", path, "has the character U+0000, which no text has")


def _problem(violation: Any) -> RowProblem:
    path = field_path(violation)
    rule, _, detail = violation.rule_id.partition(".")
    if path == "subject.uscc":
        reason = "USCC_MALFORMED"
    elif detail and rule.rstrip("0123456789") in _NUMBERS:
        reason = "NUMBER_OUT_OF_RANGE"
    else:
        reason = "FIELD_INVALID"
    return RowProblem(reason, path, violation.message)
