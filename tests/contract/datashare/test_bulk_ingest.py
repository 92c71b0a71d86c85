"""What makes ingest fast changes nothing of what is stored."""

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles

from services.datashare.bulk import copy_packed, copy_rows, probe, relation
from services.datashare.participants.domain import Participant
from services.datashare.records import packing
from services.datashare.records.app import NewRecord
from services.datashare.records.domain import Incoming
from services.datashare.records.store import record
from services.datashare.summaries.store import KEY, series
from services.kit.db import Database, from_microseconds
from tests.fakes.datashare_records import Datashare, invoice, provider, retraction, table

RECORDED = 1_718_424_000_123_456
TAX: Participant = provider("tax")


def row(record_id: str, **fields: Any) -> Incoming:
    values: dict[str, Any] = {
        "row": 0,
        "uscc": "",
        "subject_id": "",
        "record_type": "vat_invoice",
        "provider_record_id": record_id,
        "version": 1,
        "retracted": False,
        "occurred_from": 19_000,
        "occurred_to": 19_000,
        "month": 202201,
        "obtained_at": 1_700_000_000_000_001,
        "schema_version": 1,
        "content_hash": b"h" * 32,
        "payload": b"p",
        "fact": None,
        **fields,
    }
    return Incoming(**values)


ROWS = [
    (NewRecord("sub_1", row("a"), RECORDED, None), b"plain", False),
    (NewRecord("sub_1", row("发票-1", version=7, retracted=True), 1, 21_000), b"", False),
    (NewRecord("sub_2", row("b", obtained_at=-1, occurred_from=-25_567), -5, -1), b"\0\xff", True),
    (NewRecord("sub_2", row("c" * 128, record_type="bank_flow"), RECORDED, 0), b"x" * 9_000, True),
    (NewRecord("sub_2", row("d", content_hash=b""), 946_684_800_000_000, None), b"y", False),
]


def values(new: NewRecord, payload: bytes, sealed: bool) -> dict[str, Any]:
    incoming = new.incoming
    return {
        "subject_id": new.subject_id,
        "record_type": incoming.record_type,
        "provider_id": "prt_1",
        "provider_record_id": incoming.provider_record_id,
        "version": incoming.version,
        "month": incoming.month,
        "occurred_from": incoming.occurred_from,
        "occurred_to": incoming.occurred_to,
        "obtained_at": from_microseconds(incoming.obtained_at),
        "recorded_at": from_microseconds(RECORDED),
        "known_at": from_microseconds(new.known_at),
        "retracted": incoming.retracted,
        "schema_version": incoming.schema_version,
        "content_hash": incoming.content_hash,
        "payload": payload,
        "sealed": sealed,
        "hidden_on": new.hidden_on,
    }


async def _stored(database: Database) -> list[Any]:
    async with database.read() as conn:
        return list(await conn.execute(sa.select(record).order_by(*record.primary_key.columns)))


def test_every_column_is_packed() -> None:
    assert sorted(packing.COLUMNS) == sorted(record.columns.keys())


async def test_packed_rows_are_stored_as_the_driver_stores_them(postgres: Database) -> None:
    async with postgres.begin() as conn:
        names = [column.name for column in record.columns]
        rows = [tuple(values(*each)[name] for name in names) for each in ROWS]
        await copy_rows(conn, record, rows)
    by_the_driver = await _stored(postgres)
    async with postgres.begin() as conn:
        await conn.execute(sa.delete(record))
        await copy_packed(conn, record, packing.COLUMNS, packing.packed("prt_1", ROWS, RECORDED))
    assert await _stored(postgres) == by_the_driver
    assert len(by_the_driver) == len(ROWS)


class Explain(sa.Executable, sa.ClauseElement):
    inherit_cache = False

    def __init__(self, query: sa.Select[Any]) -> None:
        self.query = query


@compiles(Explain)
def _explain(element: Explain, compiler: Any, **options: Any) -> str:
    return f"EXPLAIN {compiler.process(element.query, **options)}"


@pytest.mark.parametrize("of", [record, series], ids=["record", "series"])
@pytest.mark.parametrize("lock", [False, True], ids=["read", "lock"])
async def test_what_is_asked_for_is_looked_up(postgres: Database, of: sa.Table, lock: bool) -> None:
    async with postgres.begin() as conn:
        asked = relation(conn, "asked", KEY, [(f"s{n}", "vat_invoice", "p") for n in range(1_000)])
        same = (of.c[name] == asked.c[name] for name in KEY)
        query = probe(conn, [of.c[name] for name in KEY], asked, *same, lock=lock)
        plan = [line for (line,) in await conn.execute(Explain(query))]
    # Whatever the planner thinks of tables that nothing has counted yet, partition by partition.
    assert not any("Seq Scan" in line or "Hash" in line for line in plan), "\n".join(plan)
    assert sum("Index" in line and "Scan" in line for line in plan) == 16


@pytest.fixture
async def datashare(database: Database) -> Datashare:
    made = Datashare(database)
    await made.register(TAX)
    return made


async def test_a_record_that_was_there_already_undoes_nothing_of_its_batch(
    datashare: Datashare,
) -> None:
    """The first attempt at the second batch fails: its rows are first versions, one is not."""
    by = TAX.participant_id
    await datashare.submit(by, invoice("a"), invoice("b"))
    ack = await datashare.submit(by, invoice("c"), invoice("a"), invoice("b", 5_00), invoice("d"))
    assert list(ack.accepted) == [0, 3]
    assert list(ack.duplicates) == [1]
    assert [(each.row, each.reason) for each in ack.rejections] == [(2, "RECORD_CONFLICT")]
    # Who repeated something is looked at with care until a batch repeats nothing.
    again = await datashare.submit(by, invoice("d"), invoice("e"))
    assert (list(again.accepted), list(again.duplicates)) == ([1], [0])
    for ids in (("f",), ("g",)):
        assert list((await datashare.submit(by, *map(invoice, ids))).accepted) == [0]
    (found,) = await datashare.read("vat_invoice")
    assert table(found)[202401]["output_valid"] == 7
    assert table(found)[202401]["output_net"] == 700_00


async def test_versions_of_a_new_record_may_come_in_one_batch(datashare: Datashare) -> None:
    first, second = invoice("a", 100_00), invoice("a", 300_00, version=2)
    rows = (first, first, second, retraction(first, 3), invoice("a", 500_00, version=4))
    ack = await datashare.submit(TAX.participant_id, *rows, invoice("b", 7_00))
    assert list(ack.accepted) == [0, 2, 3, 4, 5]
    assert list(ack.duplicates) == [1]
    (found,) = await datashare.read("vat_invoice")
    assert table(found)[202401]["output_net"] == 507_00
    assert found.record_counts == [2]


async def test_a_correction_finds_the_version_that_is_stored(datashare: Datashare) -> None:
    by = TAX.participant_id
    await datashare.submit(by, invoice("a", 100_00))
    rows = (invoice("z", 1_00), invoice("a", 300_00, version=2), invoice("a", 100_00))
    ack = await datashare.submit(by, *rows)
    assert (list(ack.accepted), list(ack.duplicates)) == ([0, 1], [2])
    (found,) = await datashare.read("vat_invoice")
    assert table(found)[202401]["output_net"] == 301_00
