"""Whatever a record of any type holds, it is taken in and says the same ever after, or refused."""

import re
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puhui.common.v1 import errors_pb2
from puhui.datashare.v1 import records_pb2
from services.datashare.china import month_of_day
from services.datashare.records.domain import Incoming, Rejection
from services.datashare.records.intake import Intake
from services.datashare.records.payloads import hidden_fields, payload_types, readers
from services.datashare.records.readers.kind import FAR, Reader
from services.datashare.records.tokens import CounterpartyTokens
from services.datashare.summaries.domain import Fact, Table, fold, layouts_of
from tests.fakes.arbitrary import CATALOGUE, TYPES, copy_of, likely, wild
from tests.fakes.datashare_records import NOW

INTAKE = Intake(CATALOGUE, CounterpartyTokens(b"counterparty-key"))
READERS: dict[str, Reader] = dict(readers(CATALOGUE))
LAYOUTS = layouts_of(CATALOGUE)
REASONS = errors_pb2.ErrorReason.DESCRIPTOR.values_by_name
QUICK = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)


def taken_in(*records: records_pb2.Record) -> tuple[list[Incoming], list[Rejection]]:
    kind = min(CATALOGUE.types[records[0].record_type].provider_kinds)
    return INTAKE.read([copy_of(record) for record in records], 0, kind, NOW)


def leads_to_a_field(path: str, descriptor: Descriptor) -> bool:
    """Whether a path, as in "a.b[2].c", names a field or a oneof."""
    name, _, rest = path.partition(".")
    name = re.sub(r"\[\d+\]$", "", name)
    field: Any = descriptor.fields_by_name.get(name)
    if field is None:
        return not rest and name in {*descriptor.oneofs_by_name, ""}
    return not rest or leads_to_a_field(rest, field.message_type)


@pytest.mark.parametrize("record_type", TYPES)
@settings(max_examples=25, suppress_health_check=QUICK)
@given(data=st.data())
def test_anything_is_taken_in_or_refused_for_a_reason(
    record_type: str, data: st.DataObject
) -> None:
    record = data.draw(wild(record_type))
    accepted, rejected = taken_in(record)
    assert len(accepted) + len(rejected) == 1
    for row in rejected:
        assert f"ERROR_REASON_{row.reason}" in REASONS
        assert row.message
        assert leads_to_a_field(row.field, records_pb2.Record.DESCRIPTOR), row
    for taken in accepted:
        assert again(taken) == taken.fact


def again(row: Incoming) -> Fact | None:
    """What the stored bytes of a row say, as the store reads them."""
    if row.retracted:
        return None
    payload = payload_types()[row.record_type]()
    payload.ParseFromString(row.payload)
    assert payload.SerializeToString(deterministic=True) == row.payload
    order = (row.occurred_to, row.obtained_at, row.provider_record_id)
    return READERS[row.record_type](payload, month_of_day(row.occurred_to), order, FAR)


@pytest.mark.parametrize("record_type", TYPES)
@settings(max_examples=10, suppress_health_check=QUICK)
@given(data=st.data())
def test_what_is_taken_in_is_stable_and_folds_in_any_order(
    record_type: str, data: st.DataObject
) -> None:
    sent = [data.draw(likely(record_type, str(number))) for number in range(4)]
    accepted, rejected = taken_in(*sent)
    # What is made by the rules breaks at most those about two fields.
    assert all(row.reason not in ("TYPE_MISMATCH", "CODE_UNKNOWN") for row in rejected), rejected
    assert taken_in(*sent) == (accepted, rejected)
    facts = []
    for row in accepted:
        assert row.fact is not None
        assert again(row) == row.fact
        facts.append(row.fact)
        kept = payload_types()[record_type]()
        kept.ParseFromString(row.payload)
        for party, token in hidden_fields()[record_type]:
            told = getattr(getattr(sent[row.row], record_type), party)
            assert not getattr(kept, party)
            assert bool(getattr(kept, token)) == bool(told)
    layout = LAYOUTS[record_type]
    table = fold(layout, facts)
    assert fold(layout, data.draw(st.permutations(facts))) == table
    assert sum(row[0] for row in table.rows.values()) == len(facts)
    assert table.rows or table == Table()


@pytest.mark.parametrize("record_type", TYPES)
def test_much_of_what_is_likely_is_taken_in(record_type: str) -> None:
    counts = [0, 0]

    @settings(max_examples=20, database=None, derandomize=True)
    @given(record=likely(record_type))
    def count(record: records_pb2.Record) -> None:
        accepted, rejected = taken_in(record)
        counts[0] += len(accepted)
        counts[1] += len(rejected)

    count()
    assert counts[0] * 4 > counts[1], counts
