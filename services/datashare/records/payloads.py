"""What each typed payload says, as the plain values that summaries fold: one reader per type.

Used when a record comes in and when a month is folded anew from stored payloads, so both see the
same. A reader checks what the .proto cannot: amounts, dates, code lists.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.message import Message

from puhui.datashare.v1 import records_pb2
from services.datashare.catalogue.domain import Catalogue
from services.datashare.china import month_of_day
from services.datashare.records.domain import RowProblem
from services.datashare.records.readers import credit, firm, law, money, statements, technology
from services.datashare.records.readers.kind import FAR, Kind, Order, Reader, day_of
from services.datashare.summaries.domain import Fact, Trade

_VOID: Final = 2


def payload_types() -> Mapping[str, Callable[[], Message]]:
    """Return the message class of every record type."""
    fields = records_pb2.Record.DESCRIPTOR.oneofs_by_name["payload"].fields
    return {field.name: type(getattr(records_pb2.Record(), field.name)) for field in fields}


def payload_fields() -> Mapping[str, frozenset[str]]:
    """Return by record type the names of its payload's fields, as providers fill them in."""
    return {
        name: frozenset(make().DESCRIPTOR.fields_by_name)
        - {token for _, token in hidden_fields()[name]}
        for name, make in payload_types().items()
    }


def hidden_fields() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Return by record type the fields that name another party, each with the one of its token."""
    return {
        name: tuple(
            (field.name, token)
            for field in make().DESCRIPTOR.fields
            if (token := f"{field.name}_token") in make().DESCRIPTOR.fields_by_name
        )
        for name, make in payload_types().items()
    }


def values_equal(record_type: str, field: str, one: Message, other: Message) -> bool:
    """Tell whether two payloads of a type say the same in a field.

    Args:
        record_type: of both.
        field: as providers fill it in; what names another party is compared by its token.
        one: a payload as it is stored.
        other: another one.
    """
    name = dict(hidden_fields()[record_type]).get(field, field)
    if one.DESCRIPTOR.fields_by_name[name].has_presence and (
        one.HasField(name) != other.HasField(name)
    ):
        return False
    return bool(getattr(one, name) == getattr(other, name))


def readers(catalogue: Catalogue) -> Mapping[str, Reader]:
    """Return the reader of every record type.

    Raises:
        KeyError: a type of the catalogue has no reader.
    """
    makers: Mapping[str, Callable[[Kind], Reader]] = {
        "registration": _registration,
        "vat_invoice": _vat_invoice,
        "tax_filing": _tax_filing,
        "social_insurance": _social_insurance,
        "ip_right": _ip_right,
        "tech_status": _tech_status,
        "court_case": _court_case,
        "credit_facility": _credit_facility,
        "grant": _grant,
        **firm.READERS,
        **statements.READERS,
        **money.READERS,
        **law.READERS,
        **credit.READERS,
        **technology.READERS,
    }
    return {name: makers[name](Kind(policy)) for name, policy in catalogue.types.items()}


def _registration(kind: Kind) -> Reader:
    founded, capital = kind.columns("founded", "capital")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "firm_kind")
        kind.level(payload, "status")
        values = [(founded, day_of(payload.founded, "registration.founded", last))]
        if payload.HasField("capital"):
            values.append((capital, kind.amount(payload, "capital")))
        attributes = tuple(
            (name, value)
            for name in ("firm_kind", "industry", "district", "status", "name")
            if (value := getattr(payload, name))
        )
        return Fact(month, order, tuple(values), attributes)

    return read


def _vat_invoice(kind: Kind) -> Reader:
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
        # Invoices come a million at a time, so named tuples are made without their own functions,
        # which take twice as long.
        values: tuple[tuple[int, int], ...]
        if gross < 0:
            values = ((valid, 1), (net_sum, net), (tax_sum, tax), (red, 1), (red_net, abs(net)))
        else:
            values = ((valid, 1), (net_sum, net), (tax_sum, tax))
        if net > 0:
            values += ((positive_net, net),)
        token = payload.counterparty_token
        trade = tuple.__new__(Trade, (side, token, net)) if token else None
        return tuple.__new__(Fact, (month, order, values, (), trade))

    return read


def _tax_filing(kind: Kind) -> Reader:
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


def _social_insurance(kind: Kind) -> Reader:
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


def _ip_right(kind: Kind) -> Reader:
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
        return Fact(month if day is None else month_of_day(day), order, values)

    return read


def _tech_status(kind: Kind) -> Reader:
    valid_to = {
        "high_tech": kind.column("high_tech_valid_to"),
        "tech_sme": kind.column("tech_sme_valid_to"),
        "specialised": kind.column("specialised_valid_to"),
    }
    rd_spend, rd_staff = kind.columns("rd_spend", "rd_staff")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        kind.level(payload, "title")
        begins = day_of(payload.valid_from, "tech_status.valid_from", FAR)
        ends = day_of(payload.valid_to, "tech_status.valid_to", FAR)
        if ends < begins:
            raise RowProblem("DATE_INVALID", "tech_status.valid_to", "before valid_from")
        values = (
            (valid_to[payload.title], ends),
            (rd_spend, kind.amount(payload, "rd_spend")),
            (rd_staff, payload.rd_staff),
        )
        return Fact(month, order, values)

    return read


def _court_case(kind: Kind) -> Reader:
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


def _credit_facility(kind: Kind) -> Reader:
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


def _grant(kind: Kind) -> Reader:
    grants, amount = kind.columns("grants", "amount")

    def read(payload: Any, month: int, order: Order, last: int) -> Fact:
        return Fact(month, order, ((grants, 1), (amount, kind.amount(payload, "amount"))))

    return read
