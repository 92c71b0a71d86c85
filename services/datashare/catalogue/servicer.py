"""CatalogueService over gRPC. The catalogue stands in memory, so there is no use case between."""

from collections.abc import Mapping
from typing import TypeVar

import grpc

from buf.validate import validate_pb2
from puhui.datashare.v1 import catalogue_pb2 as pb
from puhui.datashare.v1 import catalogue_pb2_grpc, records_pb2
from services.datashare.catalogue.domain import (
    OCCURRED,
    Catalogue,
    Purpose,
    RecordType,
    Retention,
    Text,
)
from services.kit.pages import decode_page_token, encode_page_token, page_size

_Context = grpc.aio.ServicerContext[object, object]
_T = TypeVar("_T")


class CatalogueServicer(catalogue_pb2_grpc.CatalogueServiceServicer):
    """Translates CatalogueService.

    Args:
        catalogue: what it tells.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    async def ListRecordTypes(
        self, request: pb.ListRecordTypesRequest, context: _Context
    ) -> pb.ListRecordTypesResponse:
        types, token = _page(
            "types", self._catalogue.types, page_size(request.page_size), request.page_token
        )
        return pb.ListRecordTypesResponse(
            types=[record_type_message(item) for item in types], next_page_token=token
        )

    async def GetRecordType(
        self, request: pb.GetRecordTypeRequest, context: _Context
    ) -> pb.GetRecordTypeResponse:
        return pb.GetRecordTypeResponse(
            type=record_type_message(self._catalogue.type(request.record_type))
        )

    async def ListPurposes(
        self, request: pb.ListPurposesRequest, context: _Context
    ) -> pb.ListPurposesResponse:
        purposes, token = _page(
            "purposes", self._catalogue.purposes, page_size(request.page_size), request.page_token
        )
        return pb.ListPurposesResponse(
            purposes=[_purpose(item) for item in purposes],
            next_page_token=token,
            version=self._catalogue.purposes_version,
        )


def _page(name: str, items: Mapping[str, _T], size: int, token: str) -> tuple[list[_T], str]:
    bound_to = ("catalogue", name)
    position = decode_page_token(token, bound_to, (str,))
    after = str(position[0]) if position else ""
    names = sorted(key for key in items if key > after)
    more = encode_page_token((names[size - 1],), bound_to) if len(names) > size else ""
    return [items[key] for key in names[:size]], more


def _text(text: Text) -> pb.Text:
    return pb.Text(zh=text.zh, en=text.en)


def _required(record_type: str) -> frozenset[str]:
    """Return the fields that the rules of a payload's .proto want to be set."""
    payload = records_pb2.Record.DESCRIPTOR.fields_by_name[record_type].message_type
    found = set()
    for field in payload.fields if payload else ():
        rules = field.GetOptions().Extensions[validate_pb2.field]
        at_least = (rules.string.min_len, rules.repeated.min_items, rules.int32.gte)
        if rules.required or max(at_least) > 0 or 0 in rules.enum.not_in:
            found.add(field.name)
    return frozenset(found)


def record_type_message(item: RecordType) -> pb.RecordTypePolicy:
    """Return the message of a record type's policy."""
    required = _required(item.name)
    return pb.RecordTypePolicy(
        record_type=item.name,
        schema_version=item.schema_version,
        title=_text(item.title),
        sensitivity=item.sensitivity,
        sharing_mode=pb.SharingMode.ValueType(item.sharing_mode),
        legal_basis=item.legal_basis,
        provider_kinds=sorted(item.provider_kinds),
        retention_days=item.retention.days,
        complete_register=item.complete_register,
        measures=[
            pb.Measure(
                name=measure.name,
                unit=measure.unit,
                title=_text(measure.title),
                fold=measure.fold,
            )
            for measure in item.measures
        ],
        code_lists=[
            pb.CodeList(
                field=codes.field,
                codes=[
                    pb.Code(code=code, title=_text(title), adverse=code in codes.adverse)
                    for code, title in codes.codes.items()
                ],
            )
            for codes in item.code_lists.values()
        ],
        fields=[
            pb.Field(
                name=field.name,
                unit=field.unit,
                title=_text(field.title),
                required=field.name in required,
            )
            for field in item.fields
        ],
        control_field=item.control_field,
        kept_to_provider=item.kept_to_provider,
        retention=_retention(item.retention),
        attributes=item.attributes,
    )


def _retention(item: Retention) -> pb.Retention:
    return pb.Retention(
        days=item.days,
        from_field="" if item.start == OCCURRED else item.start,
        days_by_severity=item.by_severity,
        until_field=item.until_field,
        repaired_field=item.repaired_field,
    )


def _purpose(item: Purpose) -> pb.Purpose:
    return pb.Purpose(
        code=item.code,
        title=_text(item.title),
        max_days=item.max_days,
        max_content_level=item.max_content_level,
        max_data_days=item.max_data_days,
        max_fetches=item.max_fetches.times,
        max_fetches_per=str(item.max_fetches.unit).lower(),
        consequences=_text(item.consequences),
        for_another_firm=item.for_another_firm,
        product=item.product,
    )
