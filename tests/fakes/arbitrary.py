"""Arbitrary records of every type, made from the descriptors and the catalogue.

`likely` ones keep to the rules of the .proto and the catalogue, so many of them are taken in;
`wild` ones hold anything that the wire format can.
"""

from datetime import date, timedelta
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.type import date_pb2, money_pb2
from hypothesis import strategies as st

from buf.validate import validate_pb2
from puhui.datashare.v1 import records_pb2
from services.datashare.catalogue.domain import RecordType
from services.datashare.catalogue.loader import load
from services.datashare.records.payloads import payload_types
from tests.fakes.datashare_records import OBTAINED, USCC

CATALOGUE = load()
TYPES = sorted(CATALOGUE.types)

_FIRST = date(2022, 1, 1)
_DAYS = 800
_PATTERNS = {
    "industry": ["", "I65", "M73"],
    "district": ["", "110108"],
    "registration_number": ["", "110108012345678", "12345678-9"],
    "chapter": ["", "85"],
}
_PARTIES = ["甲公司", "李四", "91110108MA01ABCD5X", " acme ltd "]

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-3, 12),
}


@cache
def likely(record_type: str, provider_record_id: str = "a") -> st.SearchStrategy[Any]:
    """Return records that are mostly well formed."""

    def build(day: int, values: dict[str, Any]) -> records_pb2.Record:
        payload: dict[str, Any] = {record_type: values}
        record = records_pb2.Record(
            provider_record_id=provider_record_id,
            record_type=record_type,
            version=1,
            date=_date(_FIRST + timedelta(day)),
            **payload,
        )
        record.subject.uscc = USCC
        record.obtained_at.FromDatetime(OBTAINED)
        return record

    payload = _likely_message(_descriptor(record_type), record_type)
    return st.builds(build, st.integers(0, _DAYS), payload)


@cache
def wild(record_type: str) -> st.SearchStrategy[Any]:
    """Return records of which any part may be missing or be anything."""
    descriptor = _descriptor(record_type)
    payload = st.one_of(
        _likely_message(descriptor, record_type),
        _wild_message(descriptor, record_type),
        _wild_message(descriptor, record_type),
    )
    head = st.fixed_dictionaries(
        {},
        optional={
            name: _wild_field(records_pb2.Record.DESCRIPTOR.fields_by_name[name])
            for name in ("provider_record_id", "date", "period", "obtained_at", "version", "status")
        },
    )
    return st.builds(
        lambda record, values, parts: _replaced(record, {**parts, record_type: values}),
        likely(record_type),
        payload,
        st.one_of(st.just({}), head),
    )


def _descriptor(record_type: str) -> Any:
    return payload_types()[record_type]().DESCRIPTOR


def _replaced(record: records_pb2.Record, parts: dict[str, Any]) -> records_pb2.Record:
    for name in parts:
        record.ClearField(name)  # type: ignore[arg-type]  # any field of the message
    record.MergeFrom(records_pb2.Record(**parts))
    return record


def _date(day: date) -> date_pb2.Date:
    return date_pb2.Date(year=day.year, month=day.month, day=day.day)


def _money(fen: int) -> money_pb2.Money:
    sign = 1 if fen >= 0 else -1
    units, rest = divmod(abs(fen), 100)
    return money_pb2.Money(currency_code="CNY", units=sign * units, nanos=sign * rest * 10_000_000)


def _full_name(field: FieldDescriptor) -> str:
    return field.message_type.full_name if field.message_type else ""


def _likely_message(descriptor: Descriptor, record_type: str) -> st.SearchStrategy[Any]:
    policy = CATALOGUE.types[record_type]
    needed, others = {}, {}
    for field in descriptor.fields:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        at_least = (rules.string.min_len, rules.repeated.min_items, rules.int32.gte)
        if rules.required or max(at_least) > 0 or field.enum_type is not None:
            needed[field.name] = _likely_field(field, policy)
        elif field.type != FieldDescriptor.TYPE_BYTES:
            others[field.name] = _likely_field(field, policy)
    dates = [field.name for field in descriptor.fields if _full_name(field) == "google.type.Date"]

    def ordered(values: dict[str, Any]) -> dict[str, Any]:
        """Dates follow each other in the order of the fields."""
        given = [name for name in dates if name in values]
        days = sorted(
            (values[name] for name in given), key=lambda day: (day.year, day.month, day.day)
        )
        return {**values, **dict(zip(given, days, strict=True))}

    return st.fixed_dictionaries(needed, optional=others).map(ordered)


def _likely_field(field: FieldDescriptor, policy: RecordType) -> st.SearchStrategy[Any]:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    one: st.SearchStrategy[Any]
    if _full_name(field) == "google.type.Date":
        one = st.integers(0, _DAYS).map(lambda day: _date(_FIRST + timedelta(day)))
    elif _full_name(field) == "google.type.Money":
        whole = st.integers(0, 10**12)
        one = st.one_of(whole, whole, whole, st.integers(-(10**6), 10**6)).map(_money)
    elif field.message_type is not None:
        one = _likely_message(field.message_type, policy.name)
    elif field.enum_type is not None:
        one = st.sampled_from([value.number for value in field.enum_type.values if value.number])
    elif field.name in policy.code_lists:
        one = st.sampled_from(list(policy.code_lists[field.name].codes))
    elif field.type == FieldDescriptor.TYPE_STRING:
        one = st.sampled_from(_PATTERNS.get(field.name, _PARTIES))
    elif field.type == FieldDescriptor.TYPE_BOOL:
        one = st.booleans()
    else:
        bounds = rules.int64 if rules.HasField("int64") else rules.int32
        one = st.integers(bounds.gte, bounds.lte)
    if field.is_repeated:
        unique = None if field.message_type else lambda value: value
        return st.lists(one, min_size=1, max_size=3, unique_by=unique)
    return one


def _wild_message(descriptor: Descriptor, record_type: str) -> st.SearchStrategy[Any]:
    policy = CATALOGUE.types[record_type]
    return st.fixed_dictionaries(
        {},
        optional={
            field.name: st.one_of(
                _wild_field(field),
                st.nothing() if field.type == field.TYPE_BYTES else _likely_field(field, policy),
            )
            for field in descriptor.fields
        },
    )


def _wild_field(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    one: st.SearchStrategy[Any]
    if field.message_type is not None:
        one = st.fixed_dictionaries(
            {}, optional={part.name: _wild_field(part) for part in field.message_type.fields}
        )
    elif field.type == FieldDescriptor.TYPE_STRING:
        one = st.one_of(st.text(max_size=20), st.sampled_from(["CNY", "USD", "\0", "x" * 300]))
    elif field.type == FieldDescriptor.TYPE_BYTES:
        one = st.binary(max_size=20)
    elif field.type == FieldDescriptor.TYPE_BOOL:
        one = st.booleans()
    else:
        one = st.one_of(st.integers(-1, 3), st.integers(*_INTEGERS[field.cpp_type]))
        if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
            one = st.one_of(st.integers(0, 3), st.integers(*_INTEGERS[field.cpp_type]))
    return st.lists(one, max_size=3) if field.is_repeated else one


def copy_of(message: Message) -> Any:
    """Return a message that is equal and can be changed."""
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
