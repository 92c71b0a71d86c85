"""Write the OpenAPI document from the .proto files, or check that the committed one is fresh.

Operations, roles and schemas come from the descriptors, limits from the protovalidate rules, words
from the comments. Needs grpcio-tools, which only development has: the document is package data.

Usage: python -m services.gateway.openapi [--check]
"""

import base64
import re
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import orjson
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
)

import puhui
from buf.validate import validate_pb2
from puhui.common.v1 import errors_pb2
from services.gateway.http import problems
from services.gateway.http.messages import kinds_within
from services.gateway.http.paths import Binding, Table, field_at
from services.gateway.routes import (
    DATASHARE,
    GATEWAY,
    PARTICIPANTS,
    SCORING,
    exposed,
    full_name,
)
from services.gateway.words import EXAMPLES, FIELDS, TIME
from services.kit.calls import roles_of

DOCUMENT = Path(__file__).parent / "http" / "openapi.json"
PROTO = Path(puhui.__path__[0]).parent

_INTRODUCTION = """\
Consented credit-information sharing and explainable credit scoring for small technology firms. \
Every operation is also a gRPC method, with the same names, reasons and rules.

Institutions call with a client certificate and an access token bound to it, people with a token \
of their OpenID issuer; in the sandbox an API key will do.

Names of fields are taken as camelCase or as in the .proto files; unknown fields are refused. \
64-bit integers are text. Errors are problem details (RFC 9457); their `reason` is listed at the \
end, their `fields` name what is at fault as in the .proto files. Answers to GET have an ETag, \
lists a `link` to the next page, and an `idempotency-key` is the request_id of a write. Streams \
come as server-sent events; an `event: end` says that a stream is complete, an `event: error` \
holds a problem and ends it."""

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
        "code": {"type": "string", "description": "The canonical code, as of gRPC."},
        "retryable": {
            "type": "boolean",
            "description": "Whether the same call may succeed later.",
        },
        "retryAfterSeconds": {
            "type": "integer",
            "minimum": 1,
            "description": "When, if it may.",
        },
        "violations": {
            "type": "array",
            "description": "States that do not allow it, where there are several.",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "subject": {"type": "string"},
                    "description": {"type": "string"},
                },
                "required": ["type", "subject", "description"],
            },
        },
        "traceId": {"type": "string", "description": "Leads to the call in our logs."},
    },
    "required": [
        "type",
        "title",
        "status",
        "detail",
        "code",
        "reason",
        "retryable",
        "fields",
        "violations",
        "traceId",
    ],
    "examples": [
        {
            "type": "/docs#CONSENT_EXPIRED",
            "title": "Consent expired",
            "status": 400,
            "detail": "the consent's time is over: ask the firm for a new one",
            "code": "FAILED_PRECONDITION",
            "reason": "CONSENT_EXPIRED",
            "retryable": False,
            "fields": [],
            "violations": [],
            "traceId": "0af7651916cd43dd8448eb211c80319c",
        }
    ],
}
_TEXT: Schema = {"type": "string"}
_EVENT: Schema = {
    "type": "object",
    "description": "One event; its data is JSON, of x-event-schema where it has no name.",
    "properties": {
        "id": {"type": "string", "description": "Where to go on after it: Last-Event-ID."},
        "event": {"type": "string", "enum": ["message", "end", "error"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_HEADERS: Schema = {
    "ETag": {"description": "Strong; send it as If-None-Match.", "schema": _TEXT},
    "Link": {"description": "rel=first, and rel=next where there is more.", "schema": _TEXT},
    "RetryAfter": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "Authenticate": {"description": "How to prove who calls.", "schema": _TEXT},
}
_PARAMETERS: Schema = {
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETags of what the client has: 304 if one of them is still the answer's.",
        "schema": _TEXT,
        "example": '"f1x0Gm5kXWk0hUu7c3i6qDYI"',
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Stands for the body's requestId, with which it must agree if both are "
        "sent.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 66, "pattern": r"^[\w.-]+$"},
        "example": "2026-11-23-0001",
    },
    "LastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The `id` of the last event that was dealt with: goes on after it.",
        "schema": {"type": "string", "maxLength": 64},
    },
}
_SECURITY_SCHEMES: Schema = {
    "certificate": {
        "type": "mutualTLS",
        "description": "The institution's client certificate, which its tokens are bound to.",
    },
    "token": {
        "type": "oauth2",
        "description": "A token by private_key_jwt (RFC 7523), in the manner of FAPI 2.0.",
        "flows": {
            "clientCredentials": {"tokenUrl": "https://puhui.example/oauth/token", "scopes": {}}
        },
    },
    "person": {
        "type": "openIdConnect",
        "description": "A token of the issuer that the platform's operator names.",
        "openIdConnectUrl": "https://issuer.example/.well-known/openid-configuration",
    },
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "`<key_id>.<secret>`, in the sandbox alone.",
    },
}
# What can go wrong with every call, with a write, with a read.
_REFUSALS: Mapping[int, str] = {
    400: "The request is wrong, or a state does not allow it.",
    401: "The caller did not prove who it is.",
    403: "The caller may not do this.",
    404: "There is no such thing, or the caller may not know that there is.",
    406: "The answer cannot come as it is asked for.",
    414: "The address is too long.",
    429: "Too much at once.",
    431: "The head of the request is too large.",
    500: "A fault of ours.",
    501: "There is no such method.",
    503: "A service that the call needs does not answer.",
    504: "The deadline passed.",
}
_REFUSALS_OF_WRITES: Mapping[int, str] = {
    409: "The name or the request_id is taken by something else.",
    413: "The body is too large.",
    415: "The body is of another kind.",
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
    bindings = Table(methods).bindings
    asked = set().union(*(kinds_within(each.method.input_type) for each in bindings))
    writer = _Writer(words, asked)
    paths: dict[str, Schema] = {}
    for binding in bindings:
        operation = writer.operation(binding)
        paths.setdefault(path_of(binding), {})[binding.verb.lower()] = operation
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
        "security": [{"certificate": [], "token": []}, {"person": []}, {"apiKey": []}],
        "tags": [
            {"name": name.rpartition(".")[2], "description": words.get(name, "")}
            for name in services
        ],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY_SCHEMES,
            "headers": _HEADERS,
            "parameters": _PARAMETERS,
            "schemas": {
                **dict(sorted(writer.schemas.items())),
                "Problem": _PROBLEM,
                "Reason": {"type": "string", "enum": [*reasons]},
            },
            "responses": {
                **{
                    f"Problem{status}": _problem(status, description)
                    for status, description in {**_REFUSALS, **_REFUSALS_OF_WRITES}.items()
                },
                "NotModified": {
                    "description": "The client has the answer.",
                    "headers": {"ETag": {"$ref": "#/components/headers/ETag"}},
                },
            },
        },
        "x-error-reasons": reasons,
    }


def path_of(binding: Binding) -> str:
    """Return an operation's path; its variables have plain names, wherever in the message."""
    return re.sub(r"\{[a-z0-9_.]+\.([a-z0-9_]+)\}", r"{\1}", binding.path.template)


class _Writer:
    """Writes operations and gathers the schemas that they need.

    Rules are for requests: an answer may leave empty what a request has to say, so that a message
    of both has a schema of each.

    Args:
        words: comments by full name.
        asked: the messages of requests.
    """

    def __init__(self, words: Mapping[str, str], asked: Collection[Descriptor]) -> None:
        self._words = words
        self._in_requests = asked
        self._asked = True
        self.schemas: dict[str, Schema] = {}

    def operation(self, binding: Binding) -> Schema:
        """Return an operation object."""
        method = binding.method
        parameters = [
            {
                "name": variable.rpartition(".")[2],
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
                "description": self._words_of(_at(method.input_type, variable)),
                "example": _value_of(_at(method.input_type, variable)),
            }
            for variable in binding.path.variables
        ]
        written: Schema = {
            "operationId": f"{method.containing_service.name}_{method.name}",
            "tags": [method.containing_service.name],
            "summary": method.name,
            "description": self._words.get(method.full_name, _spelled(method.name) + "."),
            "x-puhui-roles": sorted(roles_of(method) & PARTICIPANTS),
            "x-grpc-method": full_name(method),
        }
        if binding.has_body:
            schema = self._object(method.input_type, frozenset(binding.path.variables))
            written["requestBody"] = {
                "required": "required" in schema,
                "content": {
                    "application/json": {
                        "schema": schema,
                        "example": sample(method.input_type, frozenset(binding.path.variables)),
                    }
                },
            }
        else:
            parameters += self._query(method.input_type, binding.path.variables)
        parameters += [
            {"$ref": f"#/components/parameters/{name}"}
            for name, there in (
                ("IfNoneMatch", binding.verb == "GET" and not binding.streams),
                ("IdempotencyKey", binding.request_id),
                ("LastEventId", binding.resumes),
            )
            if there
        ]
        if parameters:
            written["parameters"] = parameters
        refusals = {**_REFUSALS, **(_REFUSALS_OF_WRITES if binding.has_body else {})}
        written["responses"] = {
            "200": self._success(binding),
            **(
                {"304": {"$ref": "#/components/responses/NotModified"}}
                if binding.verb == "GET" and not binding.streams
                else {}
            ),
            **{
                str(status): {"$ref": f"#/components/responses/Problem{status}"}
                for status in sorted(refusals)
            },
        }
        return written

    def _success(self, binding: Binding) -> Schema:
        method = binding.method
        self._asked = False
        schema = self._reference(method.output_type)
        self._asked = True
        if binding.streams:
            content = {"text/event-stream": {"schema": _EVENT, "x-event-schema": schema}}
            return {"description": "Events, each with one answer.", "content": content}
        example = sample(method.output_type)
        told: Schema = {
            "description": "The answer.",
            "content": {"application/json": {"schema": schema, "example": example}},
        }
        names = [
            *(["ETag"] if binding.verb == "GET" else []),
            *(["Link"] if binding.verb == "GET" and binding.pages else []),
        ]
        if names:
            told["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        return told

    def _query(self, message: Descriptor, path_variables: Iterable[str]) -> list[Schema]:
        return [
            {
                "name": field.json_name,
                "in": "query",
                "required": _is_required(field),
                "schema": self._field(field),
                "description": self._words_of(field),
            }
            for field in message.fields
            if field.name not in path_variables
        ]

    def _reference(self, kind: Descriptor | EnumDescriptor) -> Schema:
        name = kind.full_name.removeprefix("puhui.")
        if not self._asked and kind in self._in_requests:
            name += ".Answer"
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
            if self._asked and _is_required(field):
                required.append(field.json_name)
        written: Schema = {"type": "object", "properties": properties}
        if required:
            written["required"] = required
        for oneof in kind.oneofs:
            if self._asked and oneof.GetOptions().Extensions[validate_pb2.oneof].required:
                written["oneOf"] = [{"required": [field.json_name]} for field in oneof.fields]
        return self._described(kind, written)

    def _field(self, field: FieldDescriptor) -> Schema:
        rules = field.GetOptions().Extensions[validate_pb2.field]
        if _is_map(field) and field.message_type:
            value = self._field(field.message_type.fields_by_name["value"])
            return {"type": "object", "additionalProperties": value}
        if not field.is_repeated:
            return self._value(field, rules)
        items = self._value(field, rules.repeated.items)
        if rules.ignore == validate_pb2.IGNORE_ALWAYS or not self._asked:
            return {"type": "array", "items": items}
        return {"type": "array", "items": items, **_bounds(rules.repeated)}

    def _value(self, field: FieldDescriptor, rules: Any) -> Schema:
        named = field.message_type or field.enum_type
        if named:
            known = _WELL_KNOWN.get(named.full_name)
            return dict(known) if known else self._reference(named)
        kind = rules.WhichOneof("type")
        # Limits of text are not those of its base64.
        bounded = self._asked and kind and field.type != FieldDescriptor.TYPE_BYTES
        return {**_SCALARS[field.type], **(_bounds(getattr(rules, kind)) if bounded else {})}

    def _words_of(self, field: FieldDescriptor) -> str:
        return (
            self._words.get(field.full_name)
            or FIELDS.get(field.name)
            or _spelled(field.name).capitalize() + "."
        )

    def _described(self, what: Any, schema: Schema) -> Schema:
        is_field = isinstance(what, FieldDescriptor)
        words = self._words_of(what) if is_field else self._words.get(what.full_name)
        return {**schema, "description": words} if words else schema


def _problem(status: int, description: str) -> Schema:
    headers = {401: ("WWW-Authenticate", "Authenticate"), 429: ("Retry-After", "RetryAfter")}
    headers[503] = headers[429]
    told: Schema = {
        "description": description,
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in headers:
        name, component = headers[status]
        told["headers"] = {name: {"$ref": f"#/components/headers/{component}"}}
    return told


def sample(
    kind: Descriptor, without: frozenset[str] = frozenset(), depth: int = 0
) -> dict[str, Any]:
    """Return an example of a message, valid by its rules: what is required and what is telling.

    Args:
        kind: the message's type.
        without: dotted paths of fields to leave out.
        depth: how far inside another example it stands.
    """
    made = {}
    chosen = set()
    for field in kind.fields:
        oneof = field.containing_oneof
        needed = _is_required(field)
        telling = depth < 1 if field.message_type else field.name in EXAMPLES
        if oneof:
            needed = bool(oneof.GetOptions().Extensions[validate_pb2.oneof].required)
            if oneof.name in chosen:
                continue
            chosen.add(oneof.name)
        if field.name in without or not (needed or telling):
            continue
        start = f"{field.name}."
        inner = frozenset(path.removeprefix(start) for path in without if path.startswith(start))
        made[field.json_name] = _value_of(field, inner, depth)
    return made


def _value_of(field: FieldDescriptor, without: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    rules = field.GetOptions().Extensions[validate_pb2.field]
    value = EXAMPLES.get(field.name)
    fitting = list if field.is_repeated else (str, int)
    if isinstance(value, fitting) and not field.message_type and not field.enum_type:
        return value
    if _is_map(field):
        return {}
    if field.is_repeated:
        one = _single(field, rules.repeated.items, without, depth)
        return [] if field.message_type and depth > 0 and not _is_required(field) else [one]
    return _single(field, rules, without, depth)


def _single(field: FieldDescriptor, rules: Any, without: frozenset[str], depth: int) -> Any:
    if field.enum_type:
        refused = {0, *rules.enum.not_in}
        return next(value.name for value in field.enum_type.values if value.number not in refused)
    if field.message_type:
        known = {
            "google.protobuf.Timestamp": TIME,
            "google.protobuf.Duration": "60s",
            "google.protobuf.Any": {"@type": "type.googleapis.com/google.protobuf.Empty"},
        }
        name = field.message_type.full_name
        return known[name] if name in known else sample(field.message_type, without, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(b"\1" * rules.bytes.len).decode()
    if field.type == FieldDescriptor.TYPE_BOOL:
        return True
    if field.type == FieldDescriptor.TYPE_STRING:
        return "" if rules.string.pattern else "example"
    bounds = getattr(rules, rules.WhichOneof("type")) if rules.WhichOneof("type") else None
    return bounds.gte if bounds is not None and bounds.HasField("gte") and bounds.gte > 1 else 1


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _at(kind: Descriptor, path: str) -> FieldDescriptor:
    found = field_at(kind, path)
    if found is None:
        raise ValueError(f"{path} is no field of {kind.full_name}")
    return found


def _spelled(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).strip()


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
        or rules.uint32.gte
        or rules.int32.gte > 0
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
