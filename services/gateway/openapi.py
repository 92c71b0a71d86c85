"""Write the OpenAPI document from the .proto files, or check that the committed one is fresh.

Operations, roles and schemas come from the descriptors, limits from the protovalidate rules, words
from the comments. Needs grpcio-tools, which only development has: the document is package data.

Usage: python -m services.gateway.openapi [--check]
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import orjson
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
)

import puhui
from buf.validate import validate_pb2
from puhui.common.v1 import errors_pb2
from services.gateway.http import problems
from services.gateway.http.paths import Binding, Table
from services.gateway.routes import (
    DATASHARE,
    GATEWAY,
    PARTICIPANTS,
    SCORING,
    exposed,
    full_name,
)
from services.kit.calls import roles_of

DOCUMENT = Path(__file__).parent / "http" / "openapi.json"
PROTO = Path(puhui.__path__[0]).parent

_INTRODUCTION = """\
Consented credit-information sharing and explainable credit scoring for small technology firms. \
Every operation is also a gRPC method, with the same names, reasons and rules.

Send the API key as `authorization: Bearer <key_id>.<secret>`. Names of fields are taken as \
camelCase or as in the .proto files; unknown fields are refused. 64-bit integers are text. \
Errors are problem details (RFC 9457); their `reason` is listed at the end, their `fields` name \
what is at fault as in the .proto files. Streams come as server-sent events; an `event: error` \
holds a problem and ends the stream."""

Schema = dict[str, Any]

_SCALARS: Mapping[int, Schema] = {
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_SINT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_UINT32: {"type": "integer", "format": "uint32"},
    FieldDescriptor.TYPE_INT64: {"type": ["string", "integer"], "format": "int64"},
    FieldDescriptor.TYPE_SINT64: {"type": ["string", "integer"], "format": "int64"},
    FieldDescriptor.TYPE_UINT64: {"type": ["string", "integer"], "format": "uint64"},
}
_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$"},
    "google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
    },
}
_BOUNDS = {
    "gt": "exclusiveMinimum",
    "gte": "minimum",
    "lt": "exclusiveMaximum",
    "lte": "maximum",
    "min_len": "minLength",
    "max_len": "maxLength",
    "pattern": "pattern",
    "min_items": "minItems",
    "max_items": "maxItems",
    "unique": "uniqueItems",
}
_PROBLEM: Schema = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The problem and the remedy."},
        "reason": {"$ref": "#/components/schemas/Reason"},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "Path, as in the .proto files."},
                    "problem": {"type": "string"},
                },
                "required": ["field", "problem"],
            },
        },
        "traceId": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "reason", "fields", "traceId"],
}


def comments() -> dict[str, str]:
    """Return the comments of the .proto files by the full name of what they stand before.

    Raises:
        SystemExit: protoc refused a file; it has printed why.
    """
    from grpc_tools import protoc  # noqa: PLC0415 - only development has it

    sources = sorted(path.relative_to(PROTO) for path in (PROTO / "puhui").rglob("*.proto"))
    with (
        tempfile.TemporaryDirectory() as temporary,
        as_file(files("grpc_tools") / "_proto") as well_known,
    ):
        out = Path(temporary) / "descriptors"
        code = protoc.main(
            [
                "protoc",
                f"--descriptor_set_out={out}",
                "--include_source_info",
                *(f"--proto_path={path}" for path in (PROTO, PROTO / "vendor", well_known)),
                *map(str, sources),
            ]
        )
        if code:
            raise SystemExit(code)
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return dict(pair for file in found.file for pair in _comments_of(file))


def document(words: Mapping[str, str]) -> Schema:
    """Return the OpenAPI document of all that participants may call.

    Args:
        words: comments by full name.
    """
    methods = [method for package in (GATEWAY, DATASHARE, SCORING) for method in exposed(package)]
    writer = _Writer(words)
    paths: dict[str, Schema] = {}
    for binding in Table(methods).bindings:
        operation = writer.operation(binding)
        paths.setdefault(binding.path.template, {})[binding.verb.lower()] = operation
    services = {method.containing_service.full_name: None for method in methods}
    reasons = {
        name.removeprefix("ERROR_REASON_"): words.get(f"puhui.common.v1.{name}", "")
        for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
        if not name.endswith("_UNSPECIFIED")
    }
    return {
        "openapi": "3.1.1",
        "info": {"title": "Puhui 普惠", "version": "v1", "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}],
        "tags": [
            {"name": name.rpartition(".")[2], "description": words.get(name, "")}
            for name in services
        ],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, `<key_id>.<secret>`.",
                }
            },
            "schemas": {
                **dict(sorted(writer.schemas.items())),
                "Problem": _PROBLEM,
                "Reason": {"type": "string", "enum": [*reasons]},
            },
            "responses": {
                "Problem": {
                    "description": "The call was refused or failed.",
                    "content": {
                        problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}
                    },
                }
            },
        },
        "x-error-reasons": reasons,
    }


class _Writer:
    """Writes operations and gathers the schemas that they need."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words
        self.schemas: dict[str, Schema] = {}

    def operation(self, binding: Binding) -> Schema:
        """Return an operation object."""
        method = binding.method
        parameters = [
            {
                "name": variable,
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
            }
            for variable in binding.path.variables
        ]
        written: Schema = {
            "operationId": f"{method.containing_service.name}_{method.name}",
            "tags": [method.containing_service.name],
            "summary": method.name,
            "description": self._words.get(method.full_name, ""),
            "x-puhui-roles": sorted(roles_of(method) & PARTICIPANTS),
            "x-grpc-method": full_name(method),
        }
        if binding.has_body:
            schema = self._object(method.input_type, frozenset(binding.path.variables))
            written["requestBody"] = {
                "required": "required" in schema,
                "content": {"application/json": {"schema": schema}},
            }
        else:
            parameters += self._query(method.input_type, binding.path.variables)
        if parameters:
            written["parameters"] = parameters
        written["responses"] = {
            "200": self._success(method),
            "default": {"$ref": "#/components/responses/Problem"},
        }
        return written

    def _success(self, method: MethodDescriptor) -> Schema:
        schema = self._reference(method.output_type)
        if method.server_streaming:
            content = {
                "text/event-stream": {"schema": {"type": "string"}, "x-event-schema": schema}
            }
            return {"description": "Events, each with one answer.", "content": content}
        return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}

    def _query(self, message: Descriptor, path_variables: Iterable[str]) -> list[Schema]:
        return [
            {
                "name": field.json_name,
                "in": "query",
                "required": _is_required(field),
                "schema": self._field(field),
                "description": self._words.get(field.full_name, ""),
            }
            for field in message.fields
            if field.name not in path_variables
        ]

    def _reference(self, kind: Descriptor | EnumDescriptor) -> Schema:
        name = kind.full_name.removeprefix("puhui.")
        if name not in self.schemas:
            self.schemas[name] = {}  # a message may hold its own kind
            if isinstance(kind, EnumDescriptor):
                values = [value.name for value in kind.values]
                self.schemas[name] = self._described(kind, {"type": "string", "enum": values})
            else:
                self.schemas[name] = self._object(kind, frozenset())
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, kind: Descriptor, without: frozenset[str]) -> Schema:
        """Return a message's schema, without the fields at some dotted paths."""
        properties = {}
        required = []
        for field in kind.fields:
            if field.name in without:
                continue
            start = f"{field.name}."
            inner = frozenset(
                path.removeprefix(start) for path in without if path.startswith(start)
            )
            if inner and field.message_type:
                schema = self._object(field.message_type, inner)
            else:
                schema = self._field(field)
            properties[field.json_name] = self._described(field, schema)
            if _is_required(field):
                required.append(field.json_name)
        written: Schema = {"type": "object", "properties": properties}
        if required:
            written["required"] = required
        for oneof in kind.oneofs:
            if oneof.GetOptions().Extensions[validate_pb2.oneof].required:
                written["oneOf"] = [{"required": [field.json_name]} for field in oneof.fields]
        return self._described(kind, written)

    def _field(self, field: FieldDescriptor) -> Schema:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if not field.is_repeated:
            return self._value(field, rules)
        items = self._value(field, rules.repeated.items)
        if rules.ignore == validate_pb2.IGNORE_ALWAYS:
            return {"type": "array", "items": items}
        return {"type": "array", "items": items, **_bounds(rules.repeated)}

    def _value(self, field: FieldDescriptor, rules: Any) -> Schema:
        named = field.message_type or field.enum_type
        if named:
            known = _WELL_KNOWN.get(named.full_name)
            return dict(known) if known else self._reference(named)
        kind = rules.WhichOneof("type")
        # Limits of text are not those of its base64.
        bounded = kind and field.type != FieldDescriptor.TYPE_BYTES
        return {**_SCALARS[field.type], **(_bounds(getattr(rules, kind)) if bounded else {})}

    def _described(self, what: Any, schema: Schema) -> Schema:
        words = self._words.get(what.full_name)
        return {**schema, "description": words} if words else schema


def _bounds(rules: Any) -> Schema:
    return {
        _BOUNDS[field.name]: value for field, value in rules.ListFields() if field.name in _BOUNDS
    }


def _is_required(field: FieldDescriptor) -> bool:
    """Return whether leaving the field out breaks its rules."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if rules.ignore != validate_pb2.IGNORE_UNSPECIFIED or field.containing_oneof:
        return False
    return bool(
        rules.required
        or rules.string.min_len
        or rules.bytes.len
        or rules.repeated.min_items
        or 0 in rules.enum.not_in
        or (rules.uint64.HasField("gt") and rules.uint64.gt == 0)
    )


def _comments_of(file: descriptor_pb2.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    names = dict(_places(file.package, file))
    for location in file.source_code_info.location:
        name = names.get(tuple(location.path))
        if name and location.leading_comments:
            yield name, _unwrapped(location.leading_comments)


def _places(scope: str, parent: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[Any, str]]:
    """Yield the path of everything named in a descriptor, with its full name."""
    for number in parent.DESCRIPTOR.fields_by_number:
        field = parent.DESCRIPTOR.fields_by_number[number]
        if not field.is_repeated or field.message_type is None:
            continue
        if "name" not in field.message_type.fields_by_name:
            continue
        # The values of an enum stand beside it, not in it.
        is_enum = parent.DESCRIPTOR is descriptor_pb2.EnumDescriptorProto.DESCRIPTOR
        outer = scope.rpartition(".")[0] if is_enum else scope
        for index, child in enumerate(getattr(parent, field.name)):
            name = f"{outer}.{child.name}"
            here = (*path, number, index)
            yield here, name
            yield from _places(name, child, here)


def _unwrapped(comment: str) -> str:
    """Return a comment's paragraphs, each on one line."""
    paragraphs = comment.strip().split("\n\n")
    return "\n\n".join(" ".join(line.strip() for line in part.split("\n")) for part in paragraphs)


def main() -> None:
    """Write the document, or compare it with what is committed.

    Raises:
        SystemExit: it is stale.
    """
    fresh = orjson.dumps(document(comments()), option=orjson.OPT_INDENT_2) + b"\n"
    if "--check" not in sys.argv[1:]:
        DOCUMENT.write_bytes(fresh)
    elif DOCUMENT.read_bytes() != fresh:
        raise SystemExit(f"{DOCUMENT.name} is stale: run `make openapi`")


if __name__ == "__main__":
    main()
