"""Frozen dataclasses as JSON documents, and back: what a model folder's files are made of.

Invariant: a document has exactly the fields of its dataclass, each of its annotated type; nothing
is converted but whole numbers to fractions where a fraction is meant. The same value has one
spelling, so that its hash and signature mean something.
"""

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def dump(value: Any) -> str:
    """Return a dataclass as a JSON document."""
    return (
        json.dumps(dataclasses.asdict(value), ensure_ascii=False, allow_nan=False, indent=1) + "\n"
    )


def load(kind: type[T], text: str) -> T:
    """Return the dataclass that a JSON document holds.

    Raises:
        ValueError: it is not JSON, or a field is missing, unknown, twice or of another type.
    """
    value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    return typing.cast(T, _build(kind, value))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field stands twice")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")


def _build(kind: Any, value: Any) -> Any:
    """`value`, as json.loads gives it, as an instance of the annotation `kind`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) != set(hints):
            raise ValueError(f"the fields of {getattr(kind, '__name__', kind)} differ")
        return typing.cast(Any, kind)(**{name: _build(hints[name], value[name]) for name in hints})
    if origin is tuple:
        return tuple(_build(args[0], item) for item in _typed(value, list))
    if origin is Mapping or origin is typing.get_origin(Mapping[str, int]):
        return {name: _build(args[1], item) for name, item in _typed(value, dict).items()}
    if origin in (types.UnionType, typing.Union):
        return _union(args, value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if kind is float:
        return float(_typed(value, int, float))
    return _typed(value, kind)


def _union(args: tuple[Any, ...], value: Any) -> Any:
    if value is None and types.NoneType in args:
        return None
    kinds = [kind for kind in args if kind is not types.NoneType]
    return _build(kinds[0], value) if len(kinds) == 1 else _typed(value, *kinds)


def _typed(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ValueError(f"{str(value)[:40]!r} is not {' or '.join(k.__name__ for k in kinds)}")
    return value
