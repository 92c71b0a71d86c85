"""Builders of records from plain Python values: one per type that is sent most, one for every type.

They convert and do not judge: the platform checks every record and says per row what is wrong with
it. An argument that is left out is unset, which is something else than zero.

Example:
    >>> from datetime import UTC, date, datetime
    >>> from puhui_client import records
    >>> invoice = records.vat_invoice(
    ...     record_id="output:24111:00041",
    ...     uscc="91110000MA00000077",
    ...     occurred=date(2024, 5, 3),
    ...     obtained_at=datetime(2024, 5, 4, 2, 0, tzinfo=UTC),
    ...     number="00041",
    ...     side="output",
    ...     net="100.00",
    ...     tax="13.00",
    ...     gross="113.00",
    ... )
    >>> invoice.record_type
    'vat_invoice'
    >>> bill = records.of_type(
    ...     "utility_bill",
    ...     {"kind": "electricity", "meter": "E1", "usage": 12000, "amount": "9600.50"},
    ...     record_id="E1:2024-05",
    ...     uscc="91110000MA00000077",
    ...     occurred=(date(2024, 5, 1), date(2024, 5, 31)),
    ...     obtained_at=datetime(2024, 6, 4, 2, 0, tzinfo=UTC),
    ... )
    >>> bill.utility_bill.amount.units
    9600
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NotRequired, Required, TypedDict, Unpack

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.type.date_pb2 import Date
from google.type.money_pb2 import Money

from puhui.datashare.v1.payloads_pb2 import (
    CourtCase,
    CreditFacility,
    Grant,
    InvoiceSide,
    InvoiceStatus,
    IpRight,
    Registration,
    SocialInsurance,
    TaxFiling,
    TechStatus,
    VatInvoice,
)
from puhui.datashare.v1.records_pb2 import RECORD_STATUS_RETRACTED, Record
from puhui_client.values import Amount, subject_ref, to_date, to_money, to_period, to_timestamp

Occurred = date | tuple[date, date]
"""A day, or the first and last day of a period."""


class Head(TypedDict):
    """What every builder takes, whatever the type.

    Args:
        record_id: the provider's own id of the record, unique within subject and type.
        uscc: the firm's registration number; or else `subject_id`.
        subject_id: the platform's id of the firm.
        occurred: a day, or `(first, last)`; `values.month(2024, 5)` makes a month.
        obtained_at: when the provider obtained it, aware.
        version: 1 for the first; a correction says the latest plus one.
    """

    record_id: Required[str]
    uscc: NotRequired[str]
    subject_id: NotRequired[str]
    occurred: Required[Occurred]
    obtained_at: Required[datetime]
    version: NotRequired[int]


def registration(
    *,
    name: str,
    founded: date,
    status: str = "active",
    firm_kind: str = "",
    industry: str = "",
    district: str = "",
    capital: Amount | None = None,
    former_names: Sequence[str] = (),
    legal_representative: str = "",
    registration_number: str = "",
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """工商登记: what the market regulator registers about a firm.

    Args:
        name: the firm's name.
        founded: the day of its registration.
        status: active, suspended, cancelled or revoked.
        firm_kind: limited, joint_stock, partnership, sole_proprietor, branch, individual_business.
        industry: GB/T 4754-2017, a letter and up to four digits.
        district: GB/T 2260, six digits.
        capital: registered capital.
        former_names: earlier names.
        legal_representative: 法定代表人; only a keyed hash is kept.
        registration_number: 工商注册号 or 组织机构代码 from before the unified code.
        currency: of the capital, ISO 4217.
        head: see `Head`.
    """
    record = _record("registration", head)
    record.registration.CopyFrom(
        Registration(
            name=name,
            former_names=former_names,
            firm_kind=firm_kind,
            capital=_money(capital, currency),
            founded=to_date(founded),
            industry=industry,
            district=district,
            status=status,
            legal_representative=legal_representative,
            registration_number=registration_number,
        )
    )
    return record


def vat_invoice(
    *,
    number: str,
    side: Literal["input", "output"],
    net: Amount,
    tax: Amount,
    gross: Amount,
    status: Literal["valid", "void"] = "valid",
    code: str = "",
    counterparty: str = "",
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """增值税发票.

    Args:
        number: the invoice's number.
        side: "output" where the firm sold 销项, "input" where it bought 进项.
        net: without tax.
        tax: the tax.
        gross: with tax; negative for a red-letter invoice 红字发票.
        status: "valid" 有效 or "void" 作废.
        code: the invoice's code.
        counterparty: the other party's registration number or name; only a keyed hash is kept.
        currency: ISO 4217.
        head: see `Head`.
    """
    record = _record("vat_invoice", head)
    record.vat_invoice.CopyFrom(
        VatInvoice(
            code=code,
            number=number,
            side=InvoiceSide.Value(f"INVOICE_SIDE_{side.upper()}"),
            counterparty=counterparty,
            net=to_money(net, currency),
            tax=to_money(tax, currency),
            gross=to_money(gross, currency),
            status=InvoiceStatus.Value(f"INVOICE_STATUS_{status.upper()}"),
        )
    )
    return record


def tax_filing(
    *,
    tax_kind: str,
    declared_tax: Amount,
    declared_sales: Amount | None = None,
    paid: Amount | None = None,
    arrears: Amount | None = None,
    days_late: int | None = None,
    grade: str = "",
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """纳税申报: one tax, one period.

    Args:
        tax_kind: vat or cit.
        declared_tax: tax declared.
        declared_sales: sales declared.
        paid: tax paid.
        arrears: tax owed.
        days_late: days after the due date.
        grade: 纳税信用等级: A, B, M, C or D.
        currency: ISO 4217.
        head: see `Head`.
    """
    record = _record("tax_filing", head)
    record.tax_filing.CopyFrom(
        TaxFiling(
            tax_kind=tax_kind,
            declared_sales=_money(declared_sales, currency),
            declared_tax=to_money(declared_tax, currency),
            paid=_money(paid, currency),
            arrears=_money(arrears, currency),
            days_late=days_late,
            grade=grade,
        )
    )
    return record


def social_insurance(
    *,
    headcount: int,
    paid: Amount | None = None,
    overdue: Amount | None = None,
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """社会保险: one month.

    Args:
        headcount: insured persons.
        paid: contributions paid.
        overdue: contributions owed.
        currency: ISO 4217.
        head: see `Head`.
    """
    record = _record("social_insurance", head)
    record.social_insurance.CopyFrom(
        SocialInsurance(
            headcount=headcount,
            paid=_money(paid, currency),
            overdue=_money(overdue, currency),
        )
    )
    return record


def ip_right(
    *,
    kind: str,
    ip_class: Literal[1, 2],
    status: str,
    filed: date | None = None,
    granted: date | None = None,
    pledged: bool = False,
    **head: Unpack[Head],
) -> Record:
    """知识产权.

    Args:
        kind: invention, utility_model, design, software_copyright, plant_variety or ic_layout.
        ip_class: 1 for class I, 2 for class II of the 科技型中小企业 rules.
        status: filed, granted, expired or revoked.
        filed: the day of the application.
        granted: the day of the grant.
        pledged: it secures a loan.
        head: see `Head`.
    """
    record = _record("ip_right", head)
    record.ip_right.CopyFrom(
        IpRight(
            kind=kind,
            ip_class=ip_class,
            filed=_date(filed),
            granted=_date(granted),
            status=status,
            pledged=pledged,
        )
    )
    return record


def tech_status(
    *,
    title: str,
    valid_from: date,
    valid_to: date,
    rd_spend: Amount | None = None,
    rd_staff: int | None = None,
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """科技资质: a title that the state grants to technology firms.

    Args:
        title: high_tech 高新技术企业, tech_sme 科技型中小企业 or specialised 专精特新.
        valid_from: first day.
        valid_to: last day.
        rd_spend: research and development spend of the last full year.
        rd_staff: research and development staff.
        currency: ISO 4217.
        head: see `Head`.
    """
    record = _record("tech_status", head)
    record.tech_status.CopyFrom(
        TechStatus(
            title=title,
            valid_from=to_date(valid_from),
            valid_to=to_date(valid_to),
            rd_spend=_money(rd_spend, currency),
            rd_staff=rd_staff,
        )
    )
    return record


def court_case(
    *,
    case_number: str,
    role: str,
    stage: str,
    filed: date,
    closed: date | None = None,
    cause: str = "",
    amount: Amount | None = None,
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """涉诉.

    Args:
        case_number: 案号.
        role: plaintiff, defendant or third_party.
        stage: filed, first_instance, second_instance or closed.
        filed: the day it was filed.
        closed: the day it was closed.
        cause: 案由.
        amount: amount in dispute.
        currency: ISO 4217.
        head: see `Head`.
    """
    record = _record("court_case", head)
    record.court_case.CopyFrom(
        CourtCase(
            case_number=case_number,
            role=role,
            cause=cause,
            amount=_money(amount, currency),
            stage=stage,
            filed=to_date(filed),
            closed=_date(closed),
        )
    )
    return record


def credit_facility(
    *,
    facility_id: str,
    limit: Amount,
    balance: Amount,
    days_past_due: int | None = None,
    five_class: str = "",
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """授信: one facility at the end of one month.

    Args:
        facility_id: the lender's id of the facility, opaque.
        limit: the limit.
        balance: what is drawn.
        days_past_due: days.
        five_class: 五级分类: normal, special_mention, substandard, doubtful or loss.
        currency: ISO 4217.
        head: see `Head`.
    """
    record = _record("credit_facility", head)
    record.credit_facility.CopyFrom(
        CreditFacility(
            facility_id=facility_id,
            limit=to_money(limit, currency),
            balance=to_money(balance, currency),
            days_past_due=days_past_due,
            five_class=five_class,
        )
    )
    return record


def grant(*, programme: str, amount: Amount, currency: str = "CNY", **head: Unpack[Head]) -> Record:
    """政府补助.

    Args:
        programme: the programme's name.
        amount: what was granted.
        currency: ISO 4217.
        head: see `Head`.
    """
    record = _record("grant", head)
    record.grant.CopyFrom(Grant(programme=programme, amount=to_money(amount, currency)))
    return record


def of_type(
    record_type: str,
    payload: Mapping[str, object],
    *,
    currency: str = "CNY",
    **head: Unpack[Head],
) -> Record:
    """Any type of the catalogue; `puhui catalogue show TYPE` names its fields and codes.

    Args:
        record_type: the type.
        payload: values by the fields' names in the .proto; amounts as `values.Amount`, days as
            date, enums by their names without prefix, lists as sequences, messages as mappings.
            None is unset.
        currency: of the amounts, ISO 4217.
        head: see `Head`.

    Raises:
        TypeError: a value is not of its field's kind.
        ValueError: there is no such type or field, or a value cannot be said.
    """
    field = Record.DESCRIPTOR.fields_by_name.get(record_type)
    if field is None or field.containing_oneof is None or field.containing_oneof.name != "payload":
        raise ValueError(f"there is no record type {record_type}: see `puhui catalogue list`")
    record = _record(record_type, head)
    payload_field = getattr(record, record_type)
    payload_field.SetInParent()
    payload_field.MergeFrom(
        type(payload_field)(**_values(payload_field.DESCRIPTOR, payload, currency))
    )
    return record


def _values(
    descriptor: Descriptor, given: Mapping[str, object], currency: str
) -> dict[str, object]:
    fields = descriptor.fields_by_name
    for name in given:
        if name not in fields:
            raise ValueError(f"{descriptor.name} has no field {name}: it has {', '.join(fields)}")
    return {
        name: [_value(fields[name], item, currency) for item in value]
        if fields[name].is_repeated and isinstance(value, Sequence) and not isinstance(value, str)
        else _value(fields[name], value, currency)
        for name, value in given.items()
        if value is not None
    }


def _value(field: FieldDescriptor, value: Any, currency: str) -> object:
    if isinstance(field.enum_type, EnumDescriptor) and isinstance(value, str):
        prefix = field.enum_type.values_by_number[0].name.removesuffix("UNSPECIFIED")
        found = field.enum_type.values_by_name.get(f"{prefix}{value.upper()}")
        if found is None:
            raise ValueError(f"{field.name}: no such value of {field.enum_type.name}")
        return found.number
    if field.message_type is None:
        return value
    if field.message_type.full_name == Money.DESCRIPTOR.full_name:
        return to_money(value, currency)
    if field.message_type.full_name == Date.DESCRIPTOR.full_name:
        return to_date(value)
    return _values(field.message_type, value, currency)


def retraction(record_type: str, **head: Unpack[Head]) -> Record:
    """Take a record back: earlier versions are kept and no longer count.

    Args:
        record_type: the type of the record.
        head: see `Head`; `version` is the latest plus one.
    """
    record = _record(record_type, head)
    record.status = RECORD_STATUS_RETRACTED
    return record


def _record(record_type: str, head: Head) -> Record:
    occurred = head["occurred"]
    record = Record(
        provider_record_id=head["record_id"],
        subject=subject_ref(uscc=head.get("uscc", ""), subject_id=head.get("subject_id", "")),
        record_type=record_type,
        obtained_at=to_timestamp(head["obtained_at"]),
        version=head.get("version", 0),
    )
    if isinstance(occurred, tuple):
        record.period.CopyFrom(to_period(*occurred))
    else:
        record.date.CopyFrom(to_date(occurred))
    return record


def _money(amount: Amount | None, currency: str) -> Money | None:
    return None if amount is None else to_money(amount, currency)


def _date(day: date | None) -> Date | None:
    return None if day is None else to_date(day)
