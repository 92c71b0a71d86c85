"""Which RPC an HTTP request calls: verb and path, as `google.api.http` says beside the RPC.

Of its path templates, literals, `{variable}`, `{nested.variable}` and a `:verb` at the end are
known, of its bodies none and "*"; anything else is refused at the start, not ignored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from services.gateway.routes import full_name

_VARIABLE = re.compile(r"\{([a-z][a-z0-9_.]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9/:._-]*")


class PathTemplate:
    """A path with variables.

    Args:
        template: e.g. "/v1/consents/{consent_id}:grant".

    Raises:
        ValueError: it uses syntax that is not known here.
    """

    def __init__(self, template: str) -> None:
        literals = _VARIABLE.split(template)[::2]
        if not template.startswith("/") or not all(map(_LITERAL.fullmatch, literals)):
            raise ValueError(f"the path template {template} uses syntax that is not known here")
        self.template = template
        self.variables = tuple(_VARIABLE.findall(template))
        # A colon begins the verb; within a variable it comes percent-encoded.
        self._pattern = re.compile("([^/:]+)".join(map(re.escape, literals)))

    @property
    def shape(self) -> str:
        """The template without the names of its variables."""
        return _VARIABLE.sub("{}", self.template)

    def match(self, raw_path: str) -> dict[str, str] | None:
        """Return the variables' values in a path, or None if it does not match.

        Args:
            raw_path: percent-encoded.
        """
        found = self._pattern.fullmatch(raw_path)
        if not found:
            return None
        try:
            values = [unquote_to_bytes(value).decode() for value in found.groups()]
        except UnicodeDecodeError:
            return None
        return dict(zip(self.variables, values, strict=True))


@dataclass(frozen=True)
class Binding:
    """An RPC as an HTTP operation.

    Args:
        verb: e.g. "POST".
        path: its path.
        has_body: the body is the message, without what stands in the path; else the query is.
        method: the RPC.
    """

    verb: str
    path: PathTemplate
    has_body: bool
    method: MethodDescriptor

    @property
    def request_id(self) -> str | None:
        """The path of the request_id by which a write is done once, or None if it has none."""
        if self.verb == "GET":
            return None
        message = self.method.input_type
        if "request_id" in message.fields_by_name:
            return "request_id"
        for field in message.fields:
            inner = field.message_type
            if inner and not field.is_repeated and "request_id" in inner.fields_by_name:
                return f"{field.name}.request_id"
        return None

    @property
    def pages(self) -> bool:
        """Whether the answer is a page of a list."""
        return "next_page_token" in self.method.output_type.fields_by_name

    @property
    def streams(self) -> bool:
        """Whether answers come as events."""
        return bool(self.method.server_streaming)

    @property
    def resumes(self) -> bool:
        """Whether a stream can go on after the cursor of one of its answers."""
        kinds = (self.method.input_type, self.method.output_type)
        return self.streams and all("cursor" in kind.fields_by_name for kind in kinds)

    @property
    def media_type(self) -> str:
        """What its answers are."""
        return "text/event-stream" if self.streams else "application/json"


def binding(method: MethodDescriptor) -> Binding | None:
    """Return the HTTP operation of an RPC, or None if it has none.

    Raises:
        ValueError: its annotation says what is not known here.
    """
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return None
    rule = options.Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern")
    strange = rule.body not in ("", "*") or rule.response_body or rule.additional_bindings
    if verb not in ("get", "put", "post", "delete", "patch") or strange:
        raise ValueError(f"the HTTP annotation of {full_name(method)} is not known here")
    path = PathTemplate(getattr(rule, verb))
    for variable in path.variables:
        field = field_at(method.input_type, variable)
        if field is None or field.is_repeated or field.type != FieldDescriptor.TYPE_STRING:
            raise ValueError(f"{variable} in the path of {full_name(method)} is no string field")
    return Binding(verb.upper(), path, rule.body == "*", method)


def field_at(message: Descriptor, path: str) -> FieldDescriptor | None:
    """Return the field at a dotted path, named as in the .proto or in JSON, or None."""
    found: FieldDescriptor | None = None
    inner: Descriptor | None = message
    for name in path.split("."):
        if inner is None or (found is not None and found.is_repeated):
            return None
        found = inner.fields_by_name.get(name) or inner.fields_by_camelcase_name.get(name)
        if found is None:
            return None
        inner = found.message_type
    return found


class Table:
    """All operations.

    Args:
        methods: what may be called; those without an HTTP annotation are left out.

    Raises:
        ValueError: two have the same verb and path.
    """

    def __init__(self, methods: Iterable[MethodDescriptor]) -> None:
        self.bindings = tuple(found for found in map(binding, methods) if found)
        places = {(each.verb, each.path.shape) for each in self.bindings}
        if len(places) < len(self.bindings):
            raise ValueError("two RPCs have the same HTTP verb and path")

    def find(self, raw_path: str) -> dict[str, tuple[Binding, dict[str, str]]]:
        """Return what a path can mean: for each verb the operation and its variables' values."""
        found = {}
        for each in self.bindings:
            values = each.path.match(raw_path)
            if values is not None:
                found[each.verb] = (each, values)
        return found
