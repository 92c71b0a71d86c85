"""JSON Schema of what a model folder holds, from the dataclasses that read it.

Invariant: a document that `document.load` takes meets the schema of its dataclass; the descriptions
are those of the dataclasses' own documentation.
"""

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Final

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_SIMPLE: Final = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema(
    kind: type, *, name: str, constants: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Return the JSON Schema of a dataclass.

    Args:
        kind: the dataclass.
        name: of the document, e.g. "manifest.json".
        constants: fields of the document that have one value.
    """
    definitions: dict[str, Any] = {}
    whole = _object(kind, definitions)
    for field, value in (constants or {}).items():
        whole["properties"][field]["const"] = value
    return {
        "$schema": DRAFT,
        "$id": f"urn:puhui:model:{name}",
        "title": name,
        **whole,
        "$defs": {each: definitions[each] for each in sorted(definitions)},
    }


def _object(kind: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    summary, told = _documentation(kind)
    return {
        "type": "object",
        "description": summary,
        "properties": {
            field.name: {"description": told[field.name]} | _of(hints[field.name], definitions)
            for field in dataclasses.fields(kind)
        },
        "required": [field.name for field in dataclasses.fields(kind)],
        "additionalProperties": False,
    }


def _of(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if kind.__name__ not in definitions:
            definitions[kind.__name__] = {}  # it may hold itself
            definitions[kind.__name__] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [each.value for each in kind]}
    if origin is tuple:
        return {"type": "array", "items": _of(args[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _of(args[1], definitions)}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of(each, definitions) for each in args]}
    if kind is types.NoneType:
        return {"type": "null"}
    return {"type": _SIMPLE[kind]}


def _documentation(kind: type) -> tuple[str, dict[str, str]]:
    """The first paragraph of a class's documentation, and what it says of each field."""
    text = inspect.getdoc(kind) or ""
    summary, _, rest = text.partition("\n\n")
    args = rest.partition("Args:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n(?:     +.*)?)*)", args, re.MULTILINE)
    return _line(summary), {name: _line(words) for name, words in found}


def _line(text: str) -> str:
    return " ".join(text.split())
