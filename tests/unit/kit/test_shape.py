"""The compiled rules and protovalidate say the same of every message, valid or not."""

import importlib
import pkgutil
from collections.abc import Iterator
from random import Random
from typing import Any

import protovalidate
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from buf.validate import validate_pb2
from puhui.datashare.v1 import records_pb2
from services.kit.shape import sound

PACKAGES = ("puhui.common.v1", "puhui.datashare.v1", "puhui.scoring.v1", "puhui.gateway.v1")
VALIDATOR = protovalidate.Validator()

_TEXTS = ["", "a", "A", "110000", "1100001", "110000\n", "C39", "91", "字", "字" * 64, "名" * 65]
_TEXTS += ["x" * length for length in (18, 19, 20, 21, 32, 33, 64, 65, 128, 129, 200, 201, 8193)]
_INTEGERS = [0, 1, 2, 3, 12, 13, 100, 36_500, 36_501, 1_000_000, 1_000_001]
_SIGNED = [*_INTEGERS, -1, -2, -1_000_001]
_DOUBLES = [0.0, -0.5, 0.5, 1.0, 1.5, 1e300, float("inf"), float("nan")]
_BYTES = [b"", b"x", b"x" * 16, b"x" * 31, b"x" * 32, b"x" * 33]
_F = FieldDescriptor
_SCALARS: dict[int, list[Any]] = {
    _F.CPPTYPE_STRING: _TEXTS,
    _F.CPPTYPE_INT32: _SIGNED,
    _F.CPPTYPE_INT64: _SIGNED,
    _F.CPPTYPE_UINT32: _INTEGERS,
    _F.CPPTYPE_UINT64: _INTEGERS,
    _F.CPPTYPE_DOUBLE: _DOUBLES,
    _F.CPPTYPE_BOOL: [False, True],
    _F.CPPTYPE_ENUM: [0, 1, 2, 3, 99],
}


def every_type() -> Iterator[Descriptor]:
    for package in PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.name.endswith("_pb2"):
                file = importlib.import_module(f"{package}.{module.name}").DESCRIPTOR
                yield from file.message_types_by_name.values()


TYPES = {each.full_name: each for each in every_type()}
SOUND = {name: sound(descriptor) for name, descriptor in TYPES.items()}


def fill(rng: Random, message: Any, depth: int, share: float) -> None:
    """Sets about that share of the fields, to values on both sides of every limit."""
    for field in message.DESCRIPTOR.fields:
        nested = field.message_type is not None
        if rng.random() > share or (depth == 0 and nested):
            continue
        if nested and field.message_type.GetOptions().map_entry:
            continue
        for _ in range(rng.randrange(4) if field.is_repeated else 1):
            if nested:
                part = getattr(message, field.name)
                if field.is_repeated:
                    part = part.add()
                else:
                    part.SetInParent()
                fill(rng, part, depth - 1, share)
                continue
            values = _BYTES if field.type == _F.TYPE_BYTES else _SCALARS[field.cpp_type]
            # Most values are as wished for, so that a whole message sometimes is.
            value = rng.choice(values if rng.random() < 0.3 else values[1:4])
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


@pytest.mark.parametrize("name", sorted(TYPES))
def test_a_message_is_sound_if_and_only_if_nothing_is_wrong_with_it(name: str) -> None:
    rng = Random(name)
    make = message_factory.GetMessageClass(TYPES[name])
    for _ in range(600 if name.endswith(".Record") else 60):
        message = make()
        fill(rng, message, 3, rng.choice([0.3, 0.9, 1.0]))
        wrong = VALIDATOR.collect_violations(message)
        assert SOUND[name](message) == (not wrong), (message, wrong)


def test_a_final_line_feed_does_not_match_a_pattern() -> None:
    hint = records_pb2.SubjectHint(name="x", district="110000")
    check = SOUND["puhui.datashare.v1.SubjectHint"]
    assert check(hint)
    hint.district = "110000\n"
    assert not check(hint)


def _file(rules: dict[str, validate_pb2.FieldRules], types: dict[str, int]) -> Descriptor:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"shape_{abs(hash(str(rules)))}.proto", package="shape.test", syntax="proto3"
    )
    message = file.message_type.add(name=f"M{abs(hash(str(rules)))}")
    for number, (name, rule) in enumerate(rules.items(), start=1):
        field = message.field.add(name=name, number=number, type=types[name], label=1)
        field.options.Extensions[validate_pb2.field].CopyFrom(rule)
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return pool.FindMessageTypeByName(f"shape.test.{message.name}")


@pytest.mark.parametrize(
    ("rule", "kind", "sure", "unsure"),
    [
        ({"cel": [{"id": "x", "expression": "this > 1"}]}, _F.TYPE_INT32, [], [0, 5]),
        ({"int32": {"gt": 5, "lt": 1}}, _F.TYPE_INT32, [], [0, 3, 9]),
        ({"int32": {"gt": 1, "lt": 5}}, _F.TYPE_INT32, [2, 4], [1, 5]),
        ({"double": {"gte": 0.5, "finite": True}}, _F.TYPE_DOUBLE, [0.5, 9.0], [0.4, float("nan")]),
        ({"double": {"lte": 0.5}}, _F.TYPE_DOUBLE, [0.5, -9.0], [0.6, float("nan")]),
        ({"string": {"pattern": "[0-9]"}}, _F.TYPE_STRING, [], ["1", "a"]),
        ({"string": {"in": ["a", "b"]}}, _F.TYPE_STRING, ["a"], ["", "c"]),
        ({"required": True}, _F.TYPE_STRING, ["a"], [""]),
        (
            {"ignore": validate_pb2.IGNORE_IF_ZERO_VALUE, "string": {"min_len": 2}},
            _F.TYPE_STRING,
            ["", "ab"],
            ["a"],
        ),
    ],
)
def test_a_rule_is_kept_or_left_to_protovalidate(
    rule: dict[str, Any], kind: int, sure: list[Any], unsure: list[Any]
) -> None:
    descriptor = _file({"f": validate_pb2.FieldRules(**rule)}, {"f": kind})
    check = sound(descriptor)
    make = message_factory.GetMessageClass(descriptor)
    assert [value for value in sure + unsure if check(make(f=value))] == sure


def test_a_type_without_rules_is_always_sound() -> None:
    assert sound(descriptor_pb2.DescriptorProto.DESCRIPTOR)(descriptor_pb2.DescriptorProto())
