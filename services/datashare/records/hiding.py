"""From when on no read shows a record, by the policy of its type: data, not code.

Invariants: the day is the record's, so its newest version that has a payload says it for all of
them; days are days since 1970-01-01 in China Standard Time, and a record is hidden from that day
on. None is never.
"""

from collections.abc import Mapping
from typing import Any, Final

from services.datashare.catalogue.domain import OCCURRED, Catalogue, RecordType
from services.datashare.records.readers.kind import FAR, day_of
from services.datashare.retention.domain import Reason

_NEVER: Final = (None, None)


class Hiding:
    """The rule of one record type.

    Args:
        policy: of the type.
    """

    def __init__(self, policy: RecordType) -> None:
        rule = policy.retention
        self._type = policy.name
        self._days = rule.days
        self._start = "" if rule.start == OCCURRED else rule.start
        self._by_severity = rule.by_severity
        self._until = rule.until_field
        self._repaired = rule.repaired_field
        self._plain = not (self._start or self._by_severity or self._until or self._repaired)

    @property
    def plain(self) -> bool:
        """Whether the end of the occurrence alone says it."""
        return self._plain

    def of(self, payload: Any, occurred_to: int) -> tuple[int, Reason] | tuple[None, None]:
        """Return the day from which on a record is hidden, and why it is then.

        Args:
            payload: of its type.
            occurred_to: the last day of its occurrence.

        Raises:
            RowProblem: DATE_INVALID.
        """
        if self._plain:
            return (occurred_to + self._days, Reason.EXPIRED) if self._days else _NEVER
        return min(self._found(payload, occurred_to), default=_NEVER)

    def _found(self, payload: Any, occurred_to: int) -> list[tuple[int, Reason]]:
        found = []
        repaired = self._day(payload, self._repaired)
        if repaired is not None:
            found.append((repaired, Reason.REPAIRED))
        until = self._day(payload, self._until)
        if until is not None:
            found.append((until + 1, Reason.PUBLISHED_UNTIL))
        start = self._day(payload, self._start)
        if start is None:
            start = occurred_to
        if self._by_severity and payload.severity in self._by_severity:
            # A severity may have 0 days, which is at once; for a whole type 0 is without end.
            found.append((start + self._by_severity[payload.severity], Reason.EXPIRED))
        elif self._days:
            found.append((start + self._days, Reason.EXPIRED))
        return found

    def _day(self, payload: Any, field: str) -> int | None:
        if not field or not payload.HasField(field):
            return None
        return day_of(getattr(payload, field), f"{self._type}.{field}", FAR)


def hidings(catalogue: Catalogue) -> Mapping[str, Hiding]:
    """Return the rule of every record type."""
    return {name: Hiding(policy) for name, policy in catalogue.types.items()}
