"""Every record type: what a table says is what its record says, and can be checked."""

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from puhui.common.v1.errors_pb2 import ErrorReason
from puhui.datashare.v1.records_pb2 import Record
from puhui_client import values
from services.cli.checks import Rules
from services.cli.fields import UNITS, FieldError, Reading, Target, find
from services.cli.mapping import Column, ColumnMapping, Converter, record_types
from services.cli.preview import flat
from services.cli.push import own_policies
from services.cli.tables import Cell

RULES = Rules(asyncio.run(own_policies()), datetime(2026, 1, 1, tzinfo=UTC))
TEXTS = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters=";"), max_size=9
)
WORDS = TEXTS.map(str.strip).filter(bool)
DAYS = st.dates(date(1900, 3, 1), date(2100, 1, 1))
AMOUNTS = st.decimals(-(10**9), 10**9, places=2)


def targets(record_type: str) -> list[Target]:
    """The fields of a type's payload that a column may fill."""
    payload = Record.DESCRIPTOR.fields_by_name[record_type].message_type
    assert payload is not None
    found = []
    for field in payload.fields:
        try:
            found.append(find(f"{record_type}.{field.name}", record_type))
        except FieldError:
            assert field.type == FieldDescriptor.TYPE_BYTES or field.is_repeated
    return found


def written(target: Target) -> st.SearchStrategy[tuple[Reading, Cell, Any]]:
    """How a column is written, a cell of it, and the value that it means."""
    if target.kind == "money":
        return st.tuples(st.sampled_from(list(UNITS)), AMOUNTS).map(
            lambda drawn: (
                Reading(unit=drawn[0]),
                f"{drawn[1]:f}",
                values.to_money(drawn[1] * UNITS[drawn[0]]),
            )
        )
    if target.kind == "date":
        return DAYS.map(
            lambda day: (Reading(date="%Y年%m月%d日"), f"{day:%Y年%m月%d日}", values.to_date(day))
        )
    if target.kind == "share":
        return st.integers(0, 10**6).map(
            lambda ppm: (Reading(unit="%"), f"{Decimal(ppm) / 10_000:f}%", ppm)
        )
    if target.kind == "number":
        return st.integers(-(2**31), 2**31 - 1).map(lambda number: (Reading(), str(number), number))
    if target.kind == "flag":
        codes = {"是": "true", "否": "false"}
        return st.sampled_from([("是", True), ("否", False)]).map(
            lambda drawn: (Reading(codes=codes), *drawn)
        )
    if target.kind == "code":
        assert target.descriptor.enum_type is not None
        numbers = [value.number for value in target.descriptor.enum_type.values if value.number]
        names = {
            number: value.name
            for number, value in target.descriptor.enum_type.values_by_number.items()
        }
        return st.sampled_from(numbers).map(lambda number: (Reading(), names[number], number))
    if target.repeated:
        return st.lists(WORDS, min_size=1, max_size=3).map(
            lambda words: (Reading(), "; ".join(words), words)
        )
    return WORDS.map(lambda word: (Reading(), word, word))


@pytest.mark.parametrize("record_type", sorted(record_types()))
@settings(max_examples=10)
@given(data=st.data())
def test_a_row_says_what_its_cells_say(record_type: str, data: st.DataObject) -> None:
    wanted = targets(record_type)
    drawn = [data.draw(written(target)) for target in wanted]
    filled = [data.draw(st.booleans()) for _ in wanted]
    columns = tuple(
        Column(target.path, target, reading)
        for target, (reading, _, _) in zip(wanted, drawn, strict=True)
    )
    converter = Converter(ColumnMapping(record_type, columns), [column.name for column in columns])
    cells = [cell if there else "" for (_, cell, _), there in zip(drawn, filled, strict=True)]
    record, problems, bits = converter.convert(cells)
    assert problems == ()
    assert bits == sum(1 << index for index, there in enumerate(filled) if there)

    expected = Record(record_type=record_type)
    payload = getattr(expected, record_type)
    for target, (_, _, value), there in zip(wanted, drawn, filled, strict=True):
        name = target.descriptor.name
        if not there:
            continue
        if target.repeated:
            getattr(payload, name).extend(value)
        elif target.descriptor.message_type is not None:
            getattr(payload, name).CopyFrom(value)
        else:
            setattr(payload, name, value)
    assert record == expected
    # A table and a check never fail over it, whatever it says.
    assert len(flat(record)) >= 1
    for finding in RULES.findings(record):
        assert f"ERROR_REASON_{finding.reason}" in ErrorReason.keys()  # noqa: SIM118 - an EnumTypeWrapper is no mapping
        assert finding.problem
