"""What readers of payloads share: dates, amounts in fen, codes, the columns of a type's summary."""

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any, Final

from services.datashare.catalogue.domain import RecordType
from services.datashare.records.domain import RowProblem
from services.datashare.summaries.domain import Fact, layout_of

EPOCH: Final = date(1970, 1, 1).toordinal()
OLDEST: Final = date(1900, 1, 1).toordinal() - EPOCH
FAR: Final = date.max.toordinal() - EPOCH
"""The last day of a date that may lie in the future."""
MAX_YUAN: Final = 100_000_000_000
"""A single amount beyond 100 billion yuan is a slip; sums of 900,000 such still fit 64 bits."""

_FEN_NANOS: Final = 10_000_000
_YUAN_NANOS: Final = 1_000_000_000

Order = tuple[int, int, str]
Reader = Callable[[Any, int, Order, int], Fact]
"""Takes the payload, the month of the occurrence (yyyymm), the order, and the last day on which
something can have happened (days since 1970-01-01). Raises RowProblem."""


def day_of(value: Any, field: str, last: int) -> int:
    """Return a google.type.Date as days since 1970-01-01.

    Args:
        value: the date.
        field: its path, for the problem.
        last: the last day that is allowed.

    Raises:
        RowProblem: DATE_INVALID or DATE_IN_FUTURE.
    """
    try:
        day = date(value.year, value.month, value.day).toordinal() - EPOCH
    except ValueError:
        raise RowProblem(
            "DATE_INVALID", field, "no such day: year, month and day are all needed"
        ) from None
    if day < OLDEST:
        raise RowProblem("DATE_INVALID", field, "before 1900")
    if day > last:
        raise RowProblem("DATE_IN_FUTURE", field, "lies in the future")
    return day


class Kind:
    """What a reader needs to know about its record type.

    Args:
        policy: of the type.
    """

    def __init__(self, policy: RecordType) -> None:
        self.name = policy.name
        self._index = {name: index for index, name in enumerate(layout_of(policy).names)}
        self._codes = {
            field: {code: level for level, code in enumerate(codes.codes, start=1)}
            for field, codes in policy.code_lists.items()
        }
        self._adverse = {field: codes.adverse for field, codes in policy.code_lists.items()}

    def column(self, name: str) -> int:
        """Return the index of a measure."""
        return self._index[name]

    def columns(self, *names: str) -> tuple[int, ...]:
        """Return the indices of measures."""
        return tuple(self._index[name] for name in names)

    def fen(self, money: Any, field: str) -> int:
        """Return an amount in fen.

        Raises:
            RowProblem: CURRENCY_MISSING, CURRENCY_UNSUPPORTED, AMOUNT_INVALID or
                NUMBER_OUT_OF_RANGE.
        """
        currency, units, nanos = money.currency_code, money.units, money.nanos
        if (
            currency == "CNY"
            and -MAX_YUAN <= units <= MAX_YUAN
            and not nanos % _FEN_NANOS
            and (not nanos or (-_YUAN_NANOS < nanos < _YUAN_NANOS and units * nanos >= 0))
        ):
            fen: int = units * 100 + nanos // _FEN_NANOS
            return fen
        raise self._amount_problem(field, currency, units, nanos)

    def _amount_problem(self, field: str, currency: str, units: int, nanos: int) -> RowProblem:
        path = f"{self.name}.{field}"
        if not currency:
            problem = "an amount names its currency: CNY"
            return RowProblem("CURRENCY_MISSING", f"{path}.currency_code", problem)
        if currency != "CNY":
            problem = "this type takes CNY only"
            return RowProblem("CURRENCY_UNSUPPORTED", f"{path}.currency_code", problem)
        if nanos % _FEN_NANOS or not -_YUAN_NANOS < nanos < _YUAN_NANOS:
            return RowProblem(
                "AMOUNT_INVALID", f"{path}.nanos", "an amount in CNY has two decimals"
            )
        if units * nanos < 0:
            return RowProblem("AMOUNT_INVALID", path, "units and nanos have different signs")
        return RowProblem("NUMBER_OUT_OF_RANGE", f"{path}.units", "beyond 100 billion yuan")

    def amount(self, payload: Any, field: str) -> int:
        """Return a field's amount in fen, not negative; 0 where it is unset.

        Raises:
            RowProblem: as `fen`, or NUMBER_OUT_OF_RANGE.
        """
        fen = self.signed(payload, field)
        if fen < 0:
            raise RowProblem(
                "NUMBER_OUT_OF_RANGE", f"{self.name}.{field}", "this amount is not negative"
            )
        return fen

    def signed(self, payload: Any, field: str) -> int:
        """Return a field's amount in fen; 0 where it is unset.

        Raises:
            RowProblem: as `fen`.
        """
        return self.fen(getattr(payload, field), field) if payload.HasField(field) else 0

    def level(self, payload: Any, field: str) -> int:
        """Return the place of a code in its list, from 1; 0 where it is unset.

        Raises:
            RowProblem: CODE_UNKNOWN.
        """
        code = getattr(payload, field)
        if not code:
            return 0
        level = self._codes[field].get(code)
        if level is None:
            raise self._unknown(field)
        return level

    def adverse(self, payload: Any, field: str) -> int:
        """Return how many codes of a repeated field speak against the subject.

        Raises:
            RowProblem: CODE_UNKNOWN.
        """
        codes, adverse = self._codes[field], self._adverse[field]
        found = 0
        for index, code in enumerate(getattr(payload, field)):
            if code not in codes:
                raise self._unknown(f"{field}[{index}]")
            found += code in adverse
        return found

    def _unknown(self, path: str) -> RowProblem:
        return self.problem(
            "CODE_UNKNOWN", path, "not in the type's code list: GetRecordType names the codes"
        )

    def problem(self, reason: str, field: str, message: str) -> RowProblem:
        """Return a problem of a field of the payload."""
        return RowProblem(reason, f"{self.name}.{field}", message)

    def stated(self, payload: Any, measures: Iterable[tuple[str, int]]) -> list[tuple[int, int]]:
        """Return the values of amounts that are set, none of which is negative.

        Args:
            payload: the payload.
            measures: names of fields, and the index of each one's measure.

        Raises:
            RowProblem: as `amount`.
        """
        return [
            (column, self.amount(payload, field))
            for field, column in measures
            if payload.HasField(field)
        ]

    def stated_signed(
        self, payload: Any, measures: Iterable[tuple[str, int]]
    ) -> list[tuple[int, int]]:
        """Return the values of amounts that are set, of either sign.

        Raises:
            RowProblem: as `fen`.
        """
        return [
            (column, self.signed(payload, field))
            for field, column in measures
            if payload.HasField(field)
        ]

    def numbers(self, payload: Any, measures: Iterable[tuple[str, int]]) -> list[tuple[int, int]]:
        """Return the values of numbers that are set."""
        return [
            (column, getattr(payload, field))
            for field, column in measures
            if payload.HasField(field)
        ]

    def in_order(self, payload: Any, first: str, then: str, last: int = FAR) -> tuple[int, int]:
        """Return two days of which the second is unset or not before the first.

        Args:
            payload: the payload.
            first: the field of the first, which is set and may not lie after `last`.
            then: the field of the second.
            last: the last day that is allowed for the second; the first is bounded by it too.

        Returns:
            The days; 0 of a second that is unset.

        Raises:
            RowProblem: as `day_of`, or DATE_INVALID for the second.
        """
        begins = day_of(getattr(payload, first), f"{self.name}.{first}", last)
        ends = self.day(payload, then, last)
        if ends is None:
            return begins, 0
        if ends < begins:
            raise self.problem("DATE_INVALID", then, f"before {first}: correct one of the two")
        return begins, ends

    def day(self, payload: Any, field: str, last: int) -> int | None:
        """Return a field's day; None where it is unset.

        Raises:
            RowProblem: as `day_of`.
        """
        if not payload.HasField(field):
            return None
        return day_of(getattr(payload, field), f"{self.name}.{field}", last)
