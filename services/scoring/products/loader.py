"""Reads score products from TOML: those that are shipped, and the operator's own.

Invariants: whatever is wrong with a file is told at once, each with its place and remedy; an
operator's product never takes the place of a shipped one.
"""

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from puhui.datashare.v1.records_pb2 import Record
from services.scoring.products.domain import MOST_MONTHS, DeclaredInput, Need, Product

RECORD_TYPES: Final = frozenset(
    field.name for field in Record.DESCRIPTOR.oneofs_by_name["payload"].fields
)
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SHIPPED: Final = "products.toml"
_PRODUCT: Final = frozenset(
    {"zh", "en", "description_zh", "description_en", "purpose"}
    | {"required", "optional", "model", "declared"}
)
_LARGEST: Final = 1e15
"""Beyond it floats are not exact to a unit."""
_MOST: Final = 64
"""Inputs of one order, and letters of a category, as its message says."""
_DECLARED: Final = frozenset({"zh", "en", "unit", "required", "range", "categories"})


class ProductError(ValueError):
    """Products that cannot be offered; one line for each problem."""


def load(own: Path | None = None) -> dict[str, Product]:
    """Return the products by code, the shipped ones first.

    Args:
        own: the operator's file; None has none.

    Raises:
        ProductError: a file cannot be read, or says something that is wrong.
    """
    products = _read(_SHIPPED, (files(__package__) / _SHIPPED).read_text("utf-8"))
    if own is None:
        return products
    try:
        text = own.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProductError(f"{own} cannot be read: {error}") from error
    more = _read(str(own), text)
    if taken := sorted(products.keys() & more.keys()):
        raise ProductError(f"{own}: {', '.join(taken)} is a shipped product: take another code")
    return products | more


def _read(name: str, text: str) -> dict[str, Product]:
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProductError(f"{name} is not TOML: {error}") from error
    problems = [
        f"{name}: [{code}] {problem}"
        for code, table in stated.items()
        for problem in _product_problems(code, table)
    ]
    if problems:
        raise ProductError("\n".join(problems))
    return {code: _product(code, table) for code, table in stated.items()}


def _product(code: str, table: Mapping[str, Any]) -> Product:
    return Product(
        code=code,
        zh=table["zh"],
        en=table["en"],
        description_zh=table["description_zh"],
        description_en=table["description_en"],
        purpose=table["purpose"],
        required=_needs(table["required"]),
        optional=_needs(table.get("optional", {})),
        model=table.get("model", ""),
        declared=tuple(_input(name, each) for name, each in table.get("declared", {}).items()),
    )


def _needs(stated: Mapping[str, int] | list[str]) -> tuple[Need, ...]:
    return tuple(Need(record_type, months) for record_type, months in _by_type(stated).items())


def _by_type(stated: Any) -> dict[str, int]:
    """Return months by type; of a list of types, any will do."""
    return dict.fromkeys(stated, 0) if isinstance(stated, list) else dict(stated)


def _input(name: str, stated: Mapping[str, Any]) -> DeclaredInput:
    least, most = stated.get("range", (-math.inf, math.inf))
    return DeclaredInput(
        name=name,
        zh=stated["zh"],
        en=stated["en"],
        unit=stated["unit"],
        required=stated.get("required", False),
        least=float(least),
        most=float(most),
        categories=tuple(stated.get("categories", ())),
    )


def _product_problems(code: str, table: object) -> Iterator[str]:
    if not _CODE.fullmatch(code):
        yield "is no code: write it in small letters, digits and _"
    if not isinstance(table, dict):
        yield "is not a table: write [code] and its keys below"
        return
    yield from _unknown(table, _PRODUCT)
    texts = ("zh", "en", "description_zh", "description_en", "purpose")
    yield from _texts(table, texts)
    if not _is_text(table.get("model", "-")):
        yield "model is not a text: name a version, or leave it out for the one in service"
    if not table.get("required"):
        yield "required names no record type: without one there is nothing to score by"
    seen: set[str] = set()
    for key in ("required", "optional"):
        needs = table.get(key, {})
        if not isinstance(needs, dict) and not (needs == [] or _all(needs, _is_text)):
            yield f"{key} is not a list of types, nor a table of types and months"
            continue
        for record_type, months in _by_type(needs).items():
            if record_type not in RECORD_TYPES:
                yield f"{key}.{record_type} is no record type: `puhui catalogue list` names them"
            if not _is(int, months) or not 0 <= months <= MOST_MONTHS:
                yield f"{key}.{record_type} is not a number of months from 0 to {MOST_MONTHS}"
            if record_type in seen:
                yield f"{key}.{record_type} is required and optional: name it once"
            seen.add(record_type)
    declared = table.get("declared", {})
    if not isinstance(declared, dict):
        yield "declared is not a table: write [code.declared.name] and its keys below"
        return
    if len(declared) > _MOST:
        yield f"declared has {len(declared)} inputs: an order takes {_MOST}"
    for name, stated in declared.items():
        for problem in _input_problems(name, stated):
            yield f"declared.{name} {problem}"


def _input_problems(name: str, stated: object) -> Iterator[str]:
    if not _CODE.fullmatch(name):
        yield "is no name: write it in small letters, digits and _"
    if not isinstance(stated, dict):
        yield "is not a table"
        return
    yield from _unknown(stated, _DECLARED)
    yield from _texts(stated, ("zh", "en", "unit"))
    if not _is(bool, stated.get("required", False)):
        yield "required is not true or false"
    if ("range" in stated) == ("categories" in stated):
        yield "has to have one of range = [least, most] and categories = [...]"
    bounds = stated.get("range", [0, 1])
    if not _all(bounds, _is_number) or len(bounds) != 2 or not bounds[0] < bounds[1]:
        yield "range is not two numbers, the smaller one first"
    categories = stated.get("categories", ["-"])
    if not _all(categories, _is_text) or len(set(categories)) != len(categories):
        yield "categories is not a list of different texts"
    elif any(len(each) > _MOST for each in categories):
        yield f"categories has one of more than {_MOST} letters: shorten it"


def _unknown(table: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    for key in table.keys() - known:
        yield f"{key} is no key: there are {', '.join(sorted(known))}"


def _texts(table: Mapping[str, Any], keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        if not _is_text(table.get(key)):
            yield f"{key} is missing: it is a text"


def _all(value: object, good: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(good, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: object) -> bool:
    # An integer of TOML may be beyond every float: it is compared, not converted.
    return isinstance(value, int | float) and not _is(bool, value) and abs(value) <= _LARGEST


def _is(kind: type, value: object) -> bool:
    return type(value) is kind
