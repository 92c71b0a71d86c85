"""What each typed payload says, as the plain values that summaries fold: one reader per type.

Used when a record comes in and when a month is folded anew from stored payloads, so both see the
same. A reader checks what the .proto cannot: amounts, dates, code lists.
"""

from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from typing import Any, Final

from google.protobuf.message import Message

from puhui.datashare.v1 import records_pb2
from services.datashare.catalogue.domain import Catalogue, RecordType
from services.datashare.records.domain import RowProblem
from services.datashare.summaries.domain import Fact, Trade, layout_of

EPOCH: Final = date(1970, 1, 1).toordinal()
OLDEST: Final = date(1900, 1, 1).toordinal() - EPOCH
MAX_YUAN: Final = 100_000_000_000
"""A single amount beyond 100 billion yuan is a slip; sums of 900,000 such still fit 64 bits."""

_FEN_NANOS: Final = 10_000_000
_VOID: Final = 2

Order = tuple[int, int, str]
Reader = Callable[[Any, int, Order, int], Fact]
"""Takes the payload, the month of the occurrence (yyyymm), the order, and the last day on which
something can have happened (days since 1970-01-01). Raises RowProblem."""


def payload_types() -> Mapping[str, Callable[[], Message]]:
    """Return the message class of every record type."""
    fields = records_pb2.Record.DESCRIPTOR.oneofs_by_name["payload"].fields
    return {field.name: type(getattr(records_pb2.Record(), field.name)) for field in fields}


def readers(catalogue: Catalogue) -> Mapping[str, Reader]:
    """Return the reader of every record type.

    Raises:
        KeyError: a type of the catalogue has no reader.
    """
    makers: Mapping[str, Callable[[_Type], Reader]] = {
        "registration": _registration,
        "vat_invoice": _vat_invoice,
        "tax_filing": _tax_filing,
        "social_insurance": _social_insurance,
        "ip_right": _ip_right,
        "tech_status": _tech_status,
        "court_case": _court_case,
        "credit_facility": _credit_facility,
        "grant": _grant,
    }
    return {name: makers[name](_Type(policy)) for name, policy in catalogue.types.items()}


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


@lru_cache(1 << 14)
def month_of(day: int) -> int:
    """Return the month yyyymm of a day since 1970-01-01."""
    found = date.fromordinal(day + EPOCH)
    return found.year * 100 + found.month


class _Type:
    """What a reader needs to know about its type."""

    def __init__(self, policy: RecordType) -> None:
        self.name = policy.name
        self._policy = policy
        self._index = {name: index for index, name in enumerate(layout_of(policy).names)}
        self._codes = {
            field: {code: level for level, code in enumerate(codes.codes, start=1)}
            for field, codes in policy.code_lists.items()
        }

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
        currency = money.currency_code
        if currency != "CNY":
            path = f"{self.name}.{field}.currency_code"
            if not currency:
                raise RowProblem("CURRENCY_MISSING", path, "an amount names its currency: CNY")
            raise RowProblem("CURRENCY_UNSUPPORTED", path, "this type takes CNY only")
        units: int = money.units
        nanos: int = money.nanos
        if nanos % _FEN_NANOS or not -1_000_000_000 < nanos < 1_000_000_000:
            raise RowProblem(
                "AMOUNT_INVALID", f"{self.name}.{field}.nanos", "an amount in CNY has two decimals"
            )
        if units * nanos < 0:
            raise RowProblem(
                "AMOUNT_INVALID", f"{self.name}.{field}", "units and nanos have different signs"
            )
        if not -MAX_YUAN <= units <= MAX_YUAN:
            raise RowProblem(
                "NUMBER_OUT_OF_RANGE", f"{self.name}.{field}.units", "beyond 100 billion yuan"
            )
        return units * 100 + nanos // _FEN_NANOS

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
            raise RowProblem(
                "CODE_UNKNOWN",
                f"{self.name}.{field}",
                "not in the type's code list: GetRecordType names the codes",
            )
        return level

    def day(self, payload: Any, field: str, last: int) -> int | None:
        """Return a field's day; None where it is unset.

        Raises:
            RowProblem: as `day_of`.
        """
        if not payload.HasField(field):
            return None
        return day_of(getattr(payload, field), f"{self.name}.{field}", last)


def _registration(kind: _Type) -> Reader:
    founded, capital = kind.columns("founded", "capital")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "firm_kind")
        kind.level(payload, "status")
        values = [(founded, day_of(payload.founded, "registration.founded", last))]
        if payload.HasField("capital"):
            values.append((capital, kind.amount(payload, "capital")))
        attributes = tuple(
            (name, value)
            for name in ("firm_kind", "industry", "district", "status")
            if (value := getattr(payload, name))
        )
        return Fact(month, order, tuple(values), attributes)

    return read


def _vat_invoice(kind: _Type) -> Reader:
    names = ("valid", "void", "red", "net", "tax", "red_net", "positive_net")
    columns = {
        side: kind.columns(*(f"{word}_{name}" for name in names))
        for side, word in ((1, "input"), (2, "output"))
    }
    fen = kind.fen

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        side = payload.side
        valid, void, red, net_sum, tax_sum, red_net, positive_net = columns[side]
        net = fen(payload.net, "net")
        tax = fen(payload.tax, "tax")
        gross = fen(payload.gross, "gross")
        if payload.status == _VOID:
            return Fact(month, order, ((void, 1),))
        values: tuple[tuple[int, int], ...]
        if gross < 0:
            values = ((valid, 1), (net_sum, net), (tax_sum, tax), (red, 1), (red_net, abs(net)))
        else:
            values = ((valid, 1), (net_sum, net), (tax_sum, tax))
        if net > 0:
            values += ((positive_net, net),)
        token = payload.counterparty_token
        return Fact(month, order, values, (), Trade(side, token, net) if token else None)

    return read


def _tax_filing(kind: _Type) -> Reader:
    sales, tax, paid, arrears, days_late, late, filings, grade = kind.columns(
        "vat_declared_sales",
        "declared_tax",
        "paid",
        "arrears",
        "days_late",
        "late",
        "filings",
        "grade",
    )
    grades = {"A": 5, "B": 4, "M": 3, "C": 2, "D": 1}

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "tax_kind")
        kind.level(payload, "grade")
        declared_sales = kind.signed(payload, "declared_sales")
        days = payload.days_late
        values = [
            (tax, kind.fen(payload.declared_tax, "declared_tax")),
            (paid, kind.signed(payload, "paid")),
            (arrears, kind.amount(payload, "arrears")),
            (days_late, days),
            (late, int(days > 0)),
            (filings, 1),
        ]
        if payload.tax_kind == "vat":
            values.append((sales, declared_sales))
        if payload.grade:
            values.append((grade, grades[payload.grade]))
        return Fact(month, order, tuple(values))

    return read


def _social_insurance(kind: _Type) -> Reader:
    headcount, paid, overdue, missed = kind.columns("headcount", "paid", "overdue", "missed")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        owed = kind.amount(payload, "overdue")
        values = (
            (headcount, payload.headcount),
            (paid, kind.amount(payload, "paid")),
            (overdue, owed),
            (missed, int(owed > 0)),
        )
        return Fact(month, order, values)

    return read


def _ip_right(kind: _Type) -> Reader:
    class1, class2, pledged = kind.columns("class1", "class2", "pledged")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "kind")
        kind.level(payload, "status")
        filed = kind.day(payload, "filed", last)
        granted = kind.day(payload, "granted", last)
        day = filed if granted is None else granted
        values = (
            (class1 if payload.ip_class == 1 else class2, 1),
            (pledged, int(payload.pledged)),
        )
        return Fact(month if day is None else month_of(day), order, values)

    return read


def _tech_status(kind: _Type) -> Reader:
    valid_to = {
        "high_tech": kind.column("high_tech_valid_to"),
        "tech_sme": kind.column("tech_sme_valid_to"),
        "specialised": kind.column("specialised_valid_to"),
    }
    rd_spend, rd_staff = kind.columns("rd_spend", "rd_staff")
    far = date.max.toordinal() - EPOCH

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "title")
        begins = day_of(payload.valid_from, "tech_status.valid_from", far)
        ends = day_of(payload.valid_to, "tech_status.valid_to", far)
        if ends < begins:
            raise RowProblem("DATE_INVALID", "tech_status.valid_to", "before valid_from")
        values = (
            (valid_to[payload.title], ends),
            (rd_spend, kind.amount(payload, "rd_spend")),
            (rd_staff, payload.rd_staff),
        )
        return Fact(month, order, values)

    return read


def _court_case(kind: _Type) -> Reader:
    defendant, defendant_amount, plaintiff = kind.columns(
        "defendant", "defendant_amount", "plaintiff"
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "role")
        kind.level(payload, "stage")
        day_of(payload.filed, "court_case.filed", last)
        kind.day(payload, "closed", last)
        amount = kind.amount(payload, "amount")
        values: tuple[tuple[int, int], ...] = ()
        if payload.role == "defendant":
            values = ((defendant, 1), (defendant_amount, amount))
        elif payload.role == "plaintiff":
            values = ((plaintiff, 1),)
        return Fact(month, order, values)

    return read


def _credit_facility(kind: _Type) -> Reader:
    facilities, limit, balance, past_due, five_class = kind.columns(
        "facilities", "limit", "balance", "days_past_due", "five_class"
    )

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        values = (
            (facilities, 1),
            (limit, kind.amount(payload, "limit")),
            (balance, kind.amount(payload, "balance")),
            (past_due, payload.days_past_due),
            (five_class, kind.level(payload, "five_class")),
        )
        return Fact(month, order, values)

    return read


def _grant(kind: _Type) -> Reader:
    grants, amount = kind.columns("grants", "amount")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        return Fact(month, order, ((grants, 1), (amount, kind.amount(payload, "amount"))))

    return read
