"""Control totals: what a sender counts of its own delivery, to be held against the platform's.

Invariants: a row counts once, in the group of its type and month, whatever becomes of it; sums are
integers, so that both ends have the same or differ for a reason. The rule is that of `ControlTotal`
in the .proto.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from google.type.money_pb2 import Money

from puhui.datashare.v1.records_pb2 import ControlTotal, PushClose, Record

NO_MONTH: Final = 0
"""Month of rows that name none, or one that does not exist."""

_TYPES: Final = frozenset(
    field.name for field in Record.DESCRIPTOR.oneofs_by_name["payload"].fields
)
_NANOS_OF_A_FEN: Final = 10**7
_MOST_UNITS: Final = 10**11
_LARGEST: Final = 2**63 - 1


def month_of(record: Record) -> int:
    """Return the month that a record counts in, yyyymm: of its day, or of its period's last."""
    day = record.period.to if record.HasField("period") else record.date
    if not (1 <= day.year <= 9999 and 1 <= day.month <= 12):
        return NO_MONTH
    return int(day.year * 100 + day.month)


def type_of(record: Record) -> str:
    """Return the type that a record counts in; empty where the protocol has no such type."""
    return record.record_type if record.record_type in _TYPES else ""


def fen_of(amount: Money) -> int:
    """Return what an amount adds, in fen; what is less than one is cut off.

    >>> fen_of(Money(currency_code="CNY", units=-1, nanos=-999_999_999))
    -199
    """
    if amount.currency_code != "CNY" or abs(amount.units) > _MOST_UNITS:
        return 0
    nanos = int(amount.units * 10**9 + amount.nanos)
    fen = abs(nanos) // _NANOS_OF_A_FEN
    return -fen if nanos < 0 else fen


class Totals:
    """Counts rows as they are sent.

    Args:
        control_fields: by record type, the amount that is added up; none where it is missing.
    """

    def __init__(self, control_fields: Mapping[str, str]) -> None:
        self._control_fields = control_fields
        self._groups: dict[tuple[str, int], list[int]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Count rows."""
        for record in records:
            group = self._groups.setdefault((type_of(record), month_of(record)), [0, 0])
            group[0] += 1
            group[1] += self._amount(record)

    def _amount(self, record: Record) -> int:
        name = self._control_fields.get(record.record_type)
        payload = record.WhichOneof("payload")
        if not name or payload != record.record_type:
            return 0
        return fen_of(getattr(getattr(record, payload), name))

    def close(self) -> PushClose:
        """Return the count so far."""
        return PushClose(
            rows=sum(rows for rows, _ in self._groups.values()),
            totals=[
                ControlTotal(
                    record_type=record_type,
                    month=month,
                    rows=rows,
                    sum=max(-_LARGEST, min(amount, _LARGEST)),
                )
                for (record_type, month), (rows, amount) in sorted(self._groups.items())
            ],
        )
