"""What payloads say to inspection.

Fingerprints and record hashes are keyed (BLAKE2b under keys derived from the counterparties' ones):
invoice numbers can be enumerated, so a plain hash would hide nothing. They are chained as the
counterparties' tokens are (`records.tokens`), so that they are carried to a new key as well.
"""

import hashlib
import hmac
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from buf.validate import validate_pb2
from services.datashare.china import china_day, month_of_day
from services.datashare.quality.app import Arrived, Statement
from services.datashare.quality.domain import (
    FILINGS,
    GUARANTEE,
    REGISTRATION,
    REPORTS,
    SALES,
    Filing,
    Registered,
    Report,
    Summary,
    View,
    earliest,
)
from services.datashare.quality.tally import (
    DayTally,
    GuaranteeMark,
    InvoiceMark,
    Place,
    Tally,
    lateness_bucket,
)
from services.datashare.records.payloads import payload_types
from services.datashare.records.readers.kind import FAR, day_of
from services.datashare.records.tokens import CounterpartyTokens
from services.kit.db import to_microseconds

HASH_BYTES: Final = 16

_MARKED: Final = frozenset({SALES, GUARANTEE})
_FEN_NANOS: Final = 10_000_000
_KEPT_AS: Final = "_token"
_VAT: Final = "vat"
_ENDED: Final = frozenset({"cancelled", "revoked"})
_IN_FORCE: Final = frozenset({"", "active"})
# 反担保 goes back from the debtor to its guarantor: with it every guarantee would be a circle.
_BACKWARDS: Final = "counter"
_GUARANTOR: Final = "guarantor"


class Fingerprints:
    """Makes keyed hashes.

    Args:
        keys: of counterparties, oldest first.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        # Copied for each hash: the keys are worked in once.
        self._links = [
            hashlib.blake2b(
                key=hmac.digest(key, b"puhui quality v1", "sha256"), digest_size=HASH_BYTES
            )
            for key in keys
        ]

    def of(self, content: bytes) -> bytes:
        """Return the hash of a text, or of the hash that earlier keys made of it."""
        for link in self._links:
            hashed = link.copy()
            hashed.update(content)
            content = hashed.digest()
        return content


class PayloadExaminer:
    """Reads payloads.

    Args:
        tokens: of counterparties.
        number_alone: characters from which on an invoice number without code names one invoice.
    """

    def __init__(self, tokens: CounterpartyTokens, number_alone: int) -> None:
        self._fingerprints = Fingerprints(tokens.keys)
        self._tokens = tokens
        self._number_alone = number_alone
        self._types = payload_types()
        self._optional = {name: _optional(make().DESCRIPTOR) for name, make in self._types.items()}

    def token(self, uscc: str) -> bytes:
        """Return the token that a guarantee names a registration number by."""
        return self._tokens.of(uscc)

    def tally(self, records: Sequence[Arrived]) -> Tally:
        """Return what records say."""
        tally = Tally()
        batches: dict[tuple[str, str, datetime], _Batch] = {}
        newest: dict[tuple[str, bytes], tuple[Arrived, Any]] = {}
        for row in records:
            at = (row.provider_id, row.record_type, row.recorded_at)
            batch = batches.get(at)
            if batch is None:
                batch = batches[at] = _Batch(tally, *at)
            tally.subjects.add(row.subject_id)
            payload = self._count(batch, row)
            if row.record_type in _MARKED and (row.version > 1 or self._names(row, payload)):
                name = f"{row.record_type}\0{row.provider_id}\0{row.provider_record_id}"
                key = row.subject_id, self._hash(name)
                if key not in newest or newest[key][0].version < row.version:
                    newest[key] = row, payload
        for key, (row, payload) in newest.items():
            if row.record_type == SALES:
                tally.invoices.append(self._invoice(key[1], row, payload))
            else:
                tally.guarantees.append(_guarantee(key[1], row, payload))
        return tally

    def _count(self, batch: "_Batch", row: Arrived) -> Any:
        """Count a record, and return its payload; None where there is none."""
        counted = batch.counted
        counted.accepted += 1
        if row.month > counted.last_month:
            counted.last_month = row.month
        if row.version == 1 and not row.imported:
            bucket = lateness_bucket(batch.day - row.occurred_to)
            counted.lateness[bucket] = counted.lateness.get(bucket, 0) + 1
        if row.retracted:
            counted.retractions += 1
            return None
        if row.version > 1:
            counted.corrections += 1
        if row.payload is None:
            return None
        payload = self._types[row.record_type]()
        payload.ParseFromString(row.payload)
        counted.described += 1
        missing = counted.missing
        for name, is_there in self._optional[row.record_type]:
            if not is_there(payload):
                missing[name] = missing.get(name, 0) + 1
            elif name not in missing:
                missing[name] = 0
        return payload

    def _names(self, row: Arrived, payload: Any) -> bool:
        """Tell whether a first version has anything by which another firm's could be the same."""
        if row.record_type != SALES:
            return True
        return payload is not None and bool(
            payload.code or len(payload.number) >= self._number_alone
        )

    def _invoice(self, record: bytes, row: Arrived, payload: Any) -> InvoiceMark:
        fingerprint = None
        if payload is not None:
            code = payload.code.strip().upper()
            number = payload.number.strip().upper()
            if code or len(number) >= self._number_alone:
                fingerprint = self._hash(f"{payload.side}\0{code}\0{number}")
        return InvoiceMark(
            row.subject_id,
            record,
            row.version,
            row.provider_id,
            fingerprint,
            row.month,
            row.hidden_on,
        )

    def _hash(self, text: str) -> bytes:
        return self._fingerprints.of(text.encode())

    def views(
        self,
        subject_ids: Collection[str],
        summaries: Mapping[str, Sequence[Summary]],
        statements: Sequence[Statement],
    ) -> list[View]:
        """Return what rules look at, for each subject."""
        filings: dict[str, list[Filing]] = {}
        reports: dict[str, list[Report]] = {}
        registrations: dict[str, list[Registered]] = {}
        hidden = {
            subject_id: [summary.hidden_on for summary in mine]
            for subject_id, mine in summaries.items()
        }
        for row in statements:
            hidden.setdefault(row.subject_id, []).append(row.hidden_on)
            payload: Any = self._types[row.record_type]()
            payload.ParseFromString(row.payload)
            if row.record_type == FILINGS and payload.tax_kind == _VAT:
                filings.setdefault(row.subject_id, []).append(_filing(row, payload))
            elif row.record_type == REPORTS:
                reports.setdefault(row.subject_id, []).append(_report(row, payload))
            elif row.record_type == REGISTRATION:
                registrations.setdefault(row.subject_id, []).append(_registered(row, payload))
        return [
            View(
                subject_id,
                summaries.get(subject_id, ()),
                filings.get(subject_id, ()),
                reports.get(subject_id, ()),
                registrations.get(subject_id, ()),
                earliest(hidden.get(subject_id, ())),
            )
            for subject_id in subject_ids
        ]


class _Batch:
    """What the records of one batch and type have in common."""

    def __init__(
        self, tally: Tally, provider_id: str, record_type: str, recorded_at: datetime
    ) -> None:
        self.day = china_day(recorded_at)
        place = Place(provider_id, record_type, self.day)
        self.counted = tally.days.setdefault(place, DayTally())
        self.counted.last_arrival = max(self.counted.last_arrival, to_microseconds(recorded_at))


def _guarantee(record: bytes, row: Arrived, payload: Any) -> GuaranteeMark:
    token, given, amount, ends_on = None, False, 0, 0
    if payload is not None:
        given = payload.role == _GUARANTOR
        amount = _fen(payload.amount)
        ends_on = day_of(payload.valid_to, "guarantee.valid_to", FAR)
        if payload.status in _IN_FORCE and payload.kind != _BACKWARDS:
            token = payload.other_party_token or None
    return GuaranteeMark(
        row.subject_id,
        record,
        row.version,
        row.provider_id,
        token,
        given,
        amount,
        row.month,
        ends_on,
        row.hidden_on,
    )


def _filing(row: Statement, payload: Any) -> Filing:
    return Filing(
        row.provider_id,
        month_of_day(row.occurred_from),
        month_of_day(row.occurred_to),
        _fen(payload.declared_sales) if payload.HasField("declared_sales") else None,
    )


def _report(row: Statement, payload: Any) -> Report:
    headcount = None
    for name in ("headcount", "insured_headcount"):
        if payload.HasField(name):
            headcount = getattr(payload, name)
    return Report(row.provider_id, month_of_day(row.occurred_to) // 100, headcount)


def _registered(row: Statement, payload: Any) -> Registered:
    day = row.occurred_to
    if day <= day_of(payload.founded, "registration.founded", FAR):
        # A register that keeps the day of founding as the entry's day: it knew by this one.
        day = china_day(row.obtained_at)
    return Registered(row.provider_id, day, payload.status in _ENDED)


def _fen(money: Any) -> int:
    units: int = money.units
    nanos: int = money.nanos
    return units * 100 + nanos // _FEN_NANOS


_IsThere = Callable[[Any], bool]


def _optional(payload: Any) -> list[tuple[str, _IsThere]]:
    """Return the fields of a payload that may be left out, and how to see that one is not.

    What is write-only (`x` beside `x_token`) is kept as its token. Of a number or a flag without
    presence nobody can tell that it was left out, and of a list that it was not empty.
    """
    names = {field.name for field in payload.fields}
    optional = []
    for field in payload.fields:
        if field.name + _KEPT_AS in names or field.is_repeated:
            continue
        told = field.name.removesuffix(_KEPT_AS)
        said_by = payload.fields_by_name[told if told in names else field.name]
        if _must(said_by):
            continue
        if field.has_presence:
            optional.append((said_by.name, _has(field.name)))
        elif field.type in (field.TYPE_STRING, field.TYPE_BYTES, field.TYPE_ENUM):
            optional.append((said_by.name, _is_set(field.name)))
    return optional


def _must(field: FieldDescriptor) -> bool:
    """Tell whether the rules of the .proto refuse a record without the field."""
    rules: Any = field.GetOptions().Extensions[validate_pb2.field]
    return bool(rules.required or rules.string.min_len or 0 in rules.enum.not_in)


def _has(name: str) -> _IsThere:
    return lambda payload: bool(payload.HasField(name))


def _is_set(name: str) -> _IsThere:
    return lambda payload: bool(getattr(payload, name))
