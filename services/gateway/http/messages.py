"""JSON to messages and back, by the ProtoJSON rules; and what is wrong with JSON, field by field.

A message comes out with camelCase names and its plain fields even when they are zero or empty; a
field that can be absent is left out when it is. Names go in as camelCase or as in the .proto, each
once. Errors name fields as in the .proto, as those of the services do, and never hold a value.
"""

import functools
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import orjson
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from services.gateway.http.paths import field_at
from services.kit.errors import FieldProblem, InvalidArgumentError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_MOST_PROBLEMS = 20
_BOOLEANS = {"true": True, "false": False}
_NUMBER = "must be a number"
_WHOLE = "must be a whole number within its range"
_KINDS = {
    FieldDescriptor.CPPTYPE_BOOL: "must be true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: _NUMBER,
    FieldDescriptor.CPPTYPE_FLOAT: _NUMBER,
    FieldDescriptor.CPPTYPE_INT32: _WHOLE,
    FieldDescriptor.CPPTYPE_INT64: _WHOLE,
    FieldDescriptor.CPPTYPE_UINT32: _WHOLE,
    FieldDescriptor.CPPTYPE_UINT64: _WHOLE,
    FieldDescriptor.CPPTYPE_STRING: "must be text",
}
_WELL_KNOWN = {
    "google.protobuf.Timestamp": "must be a time such as 2026-01-31T08:00:00Z",
    "google.protobuf.Duration": 'must be a duration such as "1.5s"',
}


def from_bytes(kind: Descriptor, body: bytes) -> Message:
    """Return the message in `body`."""
    return message_factory.GetMessageClass(kind).FromString(body)


def to_json(message: Message) -> bytes:
    """Return a message as JSON, always the same bytes for the same message."""
    value = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    # A map has no order of its own, and each process another one.
    option = orjson.OPT_SORT_KEYS if _has_map(message.DESCRIPTOR) else None
    return orjson.dumps(value, option=option)


def from_json(kind: Descriptor, body: bytes) -> Message:
    """Return the message that a JSON object says; nothing at all is an empty object.

    Raises:
        InvalidArgumentError: MALFORMED_MESSAGE: it is no JSON object, or says something twice;
            FIELD_INVALID: a field is unknown or of another type.
    """
    try:
        value = json.loads(body.decode(), **_STRICT) if body else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidArgumentError(
            "MALFORMED_MESSAGE", "the body is not a JSON object: check its syntax"
        )
    return _message(kind, value)


def from_query(kind: Descriptor, query: Sequence[tuple[str, str]]) -> Message:
    """Return the message that the parameters of a query say.

    Args:
        kind: the message's type.
        query: names, dotted into nested messages and repeated for lists, with values.

    Raises:
        InvalidArgumentError: FIELD_INVALID.
    """
    tree: dict[str, Any] = {}
    problems = []
    for name, text in query:
        field = field_at(kind, name)
        if field is None or not _is_value(field):
            problems.append(FieldProblem(_shown(name), "is no parameter here: see /docs"))
        elif not _put(tree, _proto_path(kind, name), field, text):
            problems.append(FieldProblem(_shown(name), "is given twice: give it once"))
    if problems:
        raise _invalid(problems)
    return _message(kind, tree)


def put_values(message: Message, values: Mapping[str, str], where: str) -> None:
    """Put texts that the request says elsewhere into the message.

    Args:
        message: takes them.
        values: by the dotted paths of their fields.
        where: they stand, e.g. "the path".

    Raises:
        InvalidArgumentError: FIELD_INVALID: the body says another value.
    """
    for path, value in values.items():
        *parents, last = path.split(".")
        inner: Any = message
        for name in parents:
            inner = getattr(inner, name)
        if getattr(inner, last) not in ("", value):
            problem = FieldProblem(path, f"differs from the one in {where}: leave it out")
            raise _invalid([problem])
        try:
            setattr(inner, last, value)
        except ValueError:
            problem = FieldProblem(path, f"is no text in {where}: correct it")
            raise _invalid([problem]) from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object, each of whose names stands there once, whichever way it is spelled."""
    made = dict(pairs)
    names = {_camel(name) if "_" in name else name for name in made}
    if len(names) < len(pairs):
        raise ValueError
    return made


# What JSON leaves open is where two readers of one text can differ.
_STRICT: dict[str, Any] = {"object_pairs_hook": _once, "parse_constant": _no_constant}


@functools.lru_cache(4096)
def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


@functools.cache
def _has_map(kind: Descriptor) -> bool:
    return any(_is_map(each) for each in kinds_within(kind))


def _is_map(kind: Descriptor) -> bool:
    return bool(kind.GetOptions().map_entry)


def kinds_within(kind: Descriptor) -> set[Descriptor]:
    """Return a message's kind and those of all that it can hold."""
    found, waiting = {kind}, [kind]
    while waiting:
        inner = {field.message_type for field in waiting.pop().fields if field.message_type}
        waiting += inner - found
        found |= inner
    return found


def _message(kind: Descriptor, value: dict[str, Any]) -> Message:
    message = message_factory.GetMessageClass(kind)()
    if _fits(message, value):
        return message
    problems = list(itertools.islice(_problems(kind, value, ""), _MOST_PROBLEMS))
    if not problems:
        raise InvalidArgumentError(
            "MALFORMED_MESSAGE", f"the JSON is not a {kind.full_name}: see /docs"
        )
    raise _invalid(problems)


def _invalid(problems: Sequence[FieldProblem]) -> InvalidArgumentError:
    names = ", ".join(problem.field for problem in problems)
    return InvalidArgumentError(
        "FIELD_INVALID", f"fields are unknown or wrong, correct them: {names}", fields=(*problems,)
    )


def _fits(message: Message, value: dict[str, Any]) -> bool:
    try:
        json_format.ParseDict(value, message)
    except (json_format.ParseError, TypeError, ValueError, AttributeError, RecursionError):
        return False
    return True


def _problems(kind: Descriptor, value: Any, path: str) -> Iterator[FieldProblem]:
    """Yield what is wrong with a value that does not fit, as deep inside as can be told."""
    if not isinstance(value, dict):
        yield FieldProblem(path, "must be an object")
        return
    chosen: dict[str, list[str]] = {}
    for name, item in value.items():
        field = kind.fields_by_camelcase_name.get(name) or kind.fields_by_name.get(name)
        if field is None:
            yield FieldProblem(_join(path, _shown(name)), _unknown(kind))
            continue
        if field.containing_oneof and item is not None:
            chosen.setdefault(field.containing_oneof.name, []).append(field.name)
        if not _fits(message_factory.GetMessageClass(kind)(), {name: item}):
            yield from _field_problems(kind, field, item, _join(path, field.name))
    for names in chosen.values():
        if len(names) > 1:
            yield FieldProblem(_join(path, names[-1]), f"excludes {names[0]}: give only one")


def _unknown(kind: Descriptor) -> str:
    names = ", ".join(field.camelcase_name for field in kind.fields)
    return f"is no field of {kind.full_name}" + (f": its fields are {names}" if names else "")


def _field_problems(
    kind: Descriptor, field: FieldDescriptor, item: Any, path: str
) -> Iterator[FieldProblem]:
    if not field.is_repeated:
        yield from _value_problems(field, item, path)
    elif not isinstance(item, list):
        yield FieldProblem(path, "must be a list")
    else:
        for index, element in enumerate(item):
            if not _fits(message_factory.GetMessageClass(kind)(), {field.name: [element]}):
                yield from _value_problems(field, element, f"{path}[{index}]")


def _value_problems(field: FieldDescriptor, item: Any, path: str) -> Iterator[FieldProblem]:
    if field.enum_type:
        names = ", ".join(value.name for value in field.enum_type.values)
        yield FieldProblem(path, f"must be one of {names}")
    elif field.message_type is None:
        kind = "must be base64 text" if field.type == FieldDescriptor.TYPE_BYTES else None
        yield FieldProblem(path, kind or _KINDS[field.cpp_type])
    elif field.message_type.full_name in _WELL_KNOWN:
        yield FieldProblem(path, _WELL_KNOWN[field.message_type.full_name])
    else:
        yield from _problems(field.message_type, item, path)


def _put(tree: dict[str, Any], path: Sequence[str], field: FieldDescriptor, text: str) -> bool:
    """Put a parameter where its path says; return False if something is there already."""
    *parents, last = path
    for name in parents:
        tree = tree.setdefault(name, {})
    value = _BOOLEANS.get(text, text) if field.type == FieldDescriptor.TYPE_BOOL else text
    if field.is_repeated:
        tree.setdefault(last, []).append(value)
        return True
    if last in tree:
        return False
    tree[last] = value
    return True


def _is_value(field: FieldDescriptor) -> bool:
    """Return whether a text can stand for the field: it is no message but a well-known one."""
    inner = field.containing_type is not None and field.containing_type.full_name in _WELL_KNOWN
    kind = field.message_type
    return not inner and (kind is None or kind.full_name in _WELL_KNOWN)


def _proto_path(kind: Descriptor, name: str) -> list[str]:
    path = name.split(".")
    found = [field_at(kind, ".".join(path[: end + 1])) for end in range(len(path))]
    return [field.name for field in found if field]


def _shown(name: str) -> str:
    """Return a name that a caller made up, if it looks like one."""
    fits = all(map(_NAME.fullmatch, name.split("."))) and len(name) <= 128
    return name if fits else "(not a name)"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
