"""What a batch was as it was sent: its content's hash, its records' hashes, its control totals.

All of it is read before the rows are checked, which changes them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from puhui.datashare.v1 import records_pb2 as pb
from services.datashare.catalogue.domain import Catalogue
from services.datashare.deliveries.app import Sent
from services.datashare.deliveries.domain import (
    NOTHING,
    Claim,
    Controls,
    Group,
    Reconciliation,
    Sum,
    claim,
)
from services.datashare.records.wire import content_sha256
from services.datashare.times import stamp_of

_PAYLOADS: Final = frozenset(
    field.name for field in pb.Record.DESCRIPTOR.oneofs_by_name["payload"].fields
)
# So that the sums of 900,000 rows fit 64 bits.
_MAX_UNITS: Final = 100_000_000_000
_NANOS_OF_A_FEN: Final = 10_000_000
_NANOS: Final = 1_000_000_000


def control_fields(catalogue: Catalogue) -> Mapping[str, str]:
    """Return, by record type, the amount that control totals add up, or empty."""
    return {name: policy.control_field for name, policy in catalogue.types.items()}


class Reader:
    """Reads what was sent; the rule of its sums is that of `ControlTotal` in the .proto.

    Args:
        control_fields: as from `control_fields`.
    """

    def __init__(self, control_fields: Mapping[str, str]) -> None:
        self._control_fields = control_fields

    def batch(self, batch: pb.PushBatch) -> Sent:
        """Return a batch of a delivery as it was sent."""
        return Sent(
            content_sha256(batch), self.controls(batch.records), *_signed(batch.jws, batch.records)
        )

    def submission(self, request: pb.SubmitRecordsRequest) -> Sent:
        """Return a single submission as it was sent."""
        return Sent(b"", self.controls(request.records), *_signed(request.jws, request.records))

    def controls(self, records: Sequence[Any]) -> Controls:
        """Return the rows as their control totals count them."""
        groups = []
        cells: dict[tuple[str, int, int], _Cell] = {}
        fields = self._control_fields
        for record in records:
            name = record.record_type
            day = record.period.to if record.HasField("period") else record.date
            key = (name, day.year, day.month)
            cell = cells.get(key)
            if cell is None:
                cell = cells[key] = _Cell(_group(*key), fields.get(name, ""))
            groups.append(cell.group)
            cell.rows += 1
            if cell.field and record.HasField(name):
                cell.amount += _fen(getattr(getattr(record, name), cell.field))
        sums: dict[Group, Sum] = {}
        for cell in cells.values():
            rows, amount = sums.get(cell.group, NOTHING)
            sums[cell.group] = Sum(rows + cell.rows, amount + cell.amount)
        return Controls(groups, sums)


class _Cell:
    """Rows of one batch that say the same type and month."""

    __slots__ = ("amount", "field", "group", "rows")

    def __init__(self, group: Group, field: str) -> None:
        self.group = group
        self.field = field
        self.rows = 0
        self.amount = 0


def _group(name: str, year: int, month: int) -> Group:
    known = 1 <= year <= 9999 and 1 <= month <= 12
    return Group(name if name in _PAYLOADS else "", year * 100 + month if known else 0)


def _fen(money: Any) -> int:
    units: int = money.units
    nanos: int = money.nanos
    if money.currency_code != "CNY" or not -_MAX_UNITS <= units <= _MAX_UNITS:
        return 0
    if not nanos % _NANOS_OF_A_FEN:
        return units * 100 + nanos // _NANOS_OF_A_FEN
    exact = units * _NANOS + nanos
    return exact // _NANOS_OF_A_FEN if exact >= 0 else -(-exact // _NANOS_OF_A_FEN)


def _signed(jws: str, records: Sequence[Any]) -> tuple[str, bytes]:
    if not jws:
        return "", b""
    return jws, b"".join(
        hashlib.sha256(record.SerializeToString(deterministic=True)).digest() for record in records
    )


def claim_of(close: pb.PushClose) -> Claim:
    """Return what a provider says of a delivery at its close.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    return claim(
        close.rows,
        [
            (Group(total.record_type, total.month), Sum(total.rows, total.sum))
            for total in close.totals
        ],
    )


def reconciliation_message(found: Reconciliation) -> pb.Reconciliation:
    """Return the message of a reconciliation."""
    delivery, counted = found.delivery, found.counted
    return pb.Reconciliation(
        delivery_id=delivery.delivery_id,
        provider_id=delivery.provider_id,
        opened_at=stamp_of(delivery.opened_at) if delivery.opened_at else None,
        closed_at=stamp_of(delivery.closed_at) if delivery.closed_at else None,
        rows_sent=delivery.rows_sent,
        rows_received=counted.rows,
        accepted=counted.accepted,
        duplicates=counted.duplicates,
        held=counted.held,
        rejected=counted.rejected,
        agrees=delivery.agrees is True,
        totals=[
            pb.TotalsOfBothEnds(
                record_type=total.group.record_type,
                month=total.group.month,
                rows_sent=total.sent.rows,
                rows_received=total.received.rows,
                sum_sent=total.sent.amount,
                sum_received=total.received.amount,
            )
            for total in found.totals
        ],
    )
